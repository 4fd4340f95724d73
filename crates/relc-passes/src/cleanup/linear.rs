//! Layers with weights: fully connected ones are `Gemm`, biases belong to their layer, zero padding to its window.

use relc_ir::op::{
    Arithmetic, Conv, Gemm, MAX_SPATIAL, MaxPool, Pad, Reshape, Transpose, Window, WindowAxis,
};
use relc_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId, Weight};

use super::{NAME, bypass, output, substitute};
use crate::channels::{Channels, axis_of, channels};
use crate::error::PassError;
use crate::manager::{forward_order, ir};
use crate::ranges::ranges;

/// `MatMul` of `f32[N,K]` and a weight `f32[K,M]`.
pub(super) fn matmul_to_gemm(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let operands = graph.operands(node);
    let fully_connected = graph.node(node).op == Op::MatMul
        && graph.ty(operands[0]).rank() == 2
        && !graph.is_weight(operands[0])
        && graph.is_weight(operands[1]);
    if !fully_connected {
        return Ok(None);
    }
    graph.replace_op(node, Op::Gemm(Gemm { trans_b: false, folded_bias: false })).map_err(ir(NAME))?;
    Ok(Some("is a Gemm".into()))
}

/// `MatMul` of `f32[N,..,K]` and a weight `f32[K,M]`: a pointwise convolution of the transposed picture.
pub(super) fn matmul_to_conv(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let operands = graph.operands(node);
    if graph.node(node).op != Op::MatMul || graph.is_weight(operands[0]) || !graph.is_weight(operands[1]) {
        return Ok(None);
    }
    let out = graph.node(node).types()[0].clone();
    let dims = graph.ty(operands[0]).dims().to_vec();
    let (&[n, ref between @ .., k], &[.., m]) = (&dims[..], out.dims()) else { return Ok(None) };
    let positions: Option<usize> =
        between.iter().try_fold(1usize, |product, d| product.checked_mul(d.fixed()?));
    let (Some(positions), Some(inputs), Some(outputs)) = (positions, k.fixed(), m.fixed()) else {
        return Ok(None);
    };
    let Some(weight) = graph.weight(operands[1]) else { return Ok(None) };
    let Some(data) = weight.data() else { return Ok(None) };
    let transposed: Vec<f32> =
        (0..inputs * outputs).map(|i| data[i % inputs * outputs + i / inputs]).collect();
    let name = graph.node(node).name.clone();
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    // Up to three axes stay what they are; more are one of all positions.
    let between = match between.len() {
        1..=MAX_SPATIAL => between.to_vec(),
        _ => vec![Dim::Fixed(positions)],
    };
    let rank = between.len();
    let ones = vec![Dim::Fixed(1); rank];
    let ty = TensorType::new([&[outputs.into(), inputs.into()], &ones[..]].concat());
    let fresh = graph.fresh_weight_name(&format!("{}.conv", weight.name()));
    let weight = Weight::new(fresh, ty, transposed).map_err(malformed)?;
    let weight = graph.add_weight(weight).map_err(ir(NAME))?;

    let add = |graph: &mut Graph, op: Op, operands: &[ValueId]| {
        graph.add_node(op, &name, operands).map(output).map_err(ir(NAME))
    };
    let mut x = operands[0];
    let shape = [&[n], &between[..], &[k]].concat();
    if graph.ty(x).dims() != shape {
        x = add(graph, Op::Reshape(Reshape { shape }), &[x])?;
    }
    let to_channels = [vec![0, rank + 1], (1..=rank).collect()].concat();
    let x = add(graph, Op::Transpose(Transpose { perm: to_channels }), &[x])?;
    let window = Window { axes: ones.iter().map(|_| WindowAxis::ONE).collect(), ceil: false };
    let y = add(graph, Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight])?;
    let from_channels = [vec![0], (2..rank + 2).collect(), vec![1]].concat();
    let y = add(graph, Op::Transpose(Transpose { perm: from_channels }), &[y])?;
    substitute(graph, node, Op::Reshape(Reshape { shape: out.dims().to_vec() }), &[y])?;
    Ok(Some("is a pointwise Conv between Transposes".into()))
}

/// `Add` of a constant per channel behind a `Conv` or `Gemm` without bias, also where moves lie between.
pub(super) fn add_to_bias(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.node(node).op != Op::Arithmetic(Arithmetic::Add) {
        return Ok(None);
    }
    let operands = graph.operands(node);
    let data = graph.data_operands(node);
    let (&[(index, x)], &[_, _]) = (&data[..], &operands[..]) else { return Ok(None) };
    let constant = operands[1 - index];
    let Some(axis) = axis_of(graph, constant, x).filter(|_| graph.ty(x) == &graph.node(node).types()[0])
    else {
        return Ok(None);
    };
    let Ok(channels) = channels(graph, x, axis) else { return Ok(None) };
    let layer = output(channels.layer);
    let layer_operands = graph.operands(layer.node);
    let &[input, weight] = &layer_operands[..] else { return Ok(None) };
    let Some(bias) = as_bias(graph, constant, channels)? else { return Ok(None) };
    let (op, name) = (graph.node(layer.node).op.clone(), graph.node(layer.node).name.clone());
    let with_bias = graph.add_node(op, &name, &[input, weight, bias]).map_err(ir(NAME))?;
    graph.replace_uses(layer, output(with_bias));
    graph.remove(layer.node).map_err(ir(NAME))?;
    let x = graph.operands(node)[index];
    bypass(graph, node, x)?;
    Ok(Some(format!("is the bias of {}", graph.describe(with_bias))))
}

/// A constant as the bias `f32[channels]` of the layer that it is added behind.
fn as_bias(graph: &mut Graph, constant: ValueId, channels: Channels) -> Result<Option<ValueId>, PassError> {
    let layer = graph.ty(output(channels.layer)).dims().get(1).and_then(|d| d.fixed());
    let (Some(weight), Some(outputs)) = (graph.weight(constant), layer) else { return Ok(None) };
    if weight.ty().fixed_dims() == Some(vec![outputs]) && channels.count == outputs {
        return Ok(Some(constant));
    }
    let Some(data) = weight.data() else { return Ok(None) };
    let of = |channel: usize| match &data[..] {
        [scalar] => Some(*scalar),
        several => several.get(channels.of(channel)).copied(),
    };
    let Some(values) = (0..outputs).map(of).collect::<Option<Vec<f32>>>() else { return Ok(None) };
    let name = graph.fresh_weight_name(&format!("{}.bias", weight.name()));
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    let bias = Weight::new(name, TensorType::new([Dim::Fixed(outputs)]), values).map_err(malformed)?;
    graph.add_weight(bias).map_err(ir(NAME)).map(Some)
}

/// The window with a Pad's padding of the spatial axes added; `None` if other axes are padded too.
fn padded(mut window: Window, pad: &Pad) -> Option<Window> {
    let (before, behind) = pad.pads.split_at(pad.pads.len() / 2);
    let ([0, 0, before @ ..], [0, 0, behind @ ..]) = (before, behind) else { return None };
    if before.len() != window.rank() {
        return None;
    }
    for (axis, more) in window.axes.iter_mut().zip(before.iter().zip(behind)) {
        axis.pads = [axis.pads[0].checked_add(*more.0)?, axis.pads[1].checked_add(*more.1)?];
    }
    Some(window)
}

fn pad_before(graph: &Graph, node: NodeId) -> Option<(Pad, ValueId)> {
    let x = *graph.operands(node).first()?;
    let Op::Pad(pad) = &graph.node(x.node).op else { return None };
    Some((pad.clone(), graph.operands(x.node)[0]))
}

/// Zero `Pad` before a `Conv`: the window pads itself.
pub(super) fn pad_into_conv(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::Conv(conv) = graph.node(node).op else { return Ok(None) };
    let Some((pad, source)) = pad_before(graph, node).filter(|(pad, _)| pad.value == 0.0) else {
        return Ok(None);
    };
    let Some(window) = padded(conv.window, &pad) else { return Ok(None) };
    let mut operands = graph.operands(node);
    operands[0] = source;
    substitute(graph, node, Op::Conv(Conv { window, ..conv }), &operands)?;
    Ok(Some("took in the Pad before it".into()))
}

/// The lowest number of a float of 16 bits: what is padded with it or less stands for minus infinity, whatever the
/// exporter's floats were.
const LOWEST: f64 = -65504.0;

/// `Pad` before a `MaxPool` that never takes the padding: the window pads itself.
pub(super) fn pad_into_max_pool(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::MaxPool(MaxPool { window }) = graph.node(node).op else { return Ok(None) };
    let Some((pad, source)) = pad_before(graph, node) else { return Ok(None) };
    let Some(window) = padded(window, &pad) else { return Ok(None) };
    let pool = MaxPool { window };
    // As many windows as before: then they are the same ones, and each sees a value of the operand.
    if pool.infer(&[graph.ty(source)]).as_ref() != Ok(&graph.node(node).types()[0]) {
        return Ok(None);
    }
    // No value of the operand is smaller: of zeros around what a Relu gave, the largest is the same without them.
    let least =
        || ranges(graph, &forward_order(graph, NAME).unwrap_or_default()).get(&source.node).map(|r| r.low);
    if pad.value > LOWEST && least().is_none_or(|least| pad.value > least) {
        return Ok(None);
    }
    substitute(graph, node, Op::MaxPool(pool), &[source])?;
    Ok(Some("took in the Pad before it".into()))
}
