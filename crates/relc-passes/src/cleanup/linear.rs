//! Layers with weights: fully connected ones are `Gemm`, biases belong to their layer, zero padding to its window.

use std::sync::Arc;

use relc_ir::op::{Arithmetic, Conv, Gemm, MaxPool, Pad, Reshape, Transpose, Window};
use relc_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId, Weight};

use super::{NAME, bypass, output, sole_producer, substitute};
use crate::error::PassError;
use crate::manager::ir;

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
    let ty = TensorType::new([outputs, inputs, 1, 1]);
    let fresh = graph.fresh_weight_name(&format!("{}.conv", weight.name()));
    let weight = Weight::new(fresh, ty, transposed).map_err(malformed)?;
    let weight = graph.add_weight(weight).map_err(ir(NAME))?;

    let add = |graph: &mut Graph, op: Op, operands: &[ValueId]| {
        graph.add_node(op, &name, operands).map(output).map_err(ir(NAME))
    };
    // f32[N,H,W,K] stays a picture; any other shape is a column of positions.
    let (h, w) = match *between {
        [Dim::Fixed(h), Dim::Fixed(w)] => (h, w),
        _ => (positions, 1),
    };
    let picture = Op::Reshape(Reshape { shape: vec![n, Dim::Fixed(h), Dim::Fixed(w), k] });
    let x = add(graph, picture, &[operands[0]])?;
    let x = add(graph, Op::Transpose(Transpose { perm: vec![0, 3, 1, 2] }), &[x])?;
    let window = Window::new([1, 1], [1, 1]);
    let y = add(graph, Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight])?;
    let y = add(graph, Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[y])?;
    substitute(graph, node, Op::Reshape(Reshape { shape: out.dims().to_vec() }), &[y])?;
    Ok(Some("is a pointwise Conv between Transposes".into()))
}

/// `Add` of a constant per channel behind a `Conv` or `Gemm` without bias.
pub(super) fn add_to_bias(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.node(node).op != Op::Arithmetic(Arithmetic::Add) {
        return Ok(None);
    }
    let operands = graph.operands(node);
    let data = graph.data_operands(node);
    let (&[(index, x)], &[_, _]) = (&data[..], &operands[..]) else { return Ok(None) };
    let layer = |op: &Op| matches!(op, Op::Conv(_) | Op::Gemm(_)).then(|| op.clone());
    let Some(op) = sole_producer(graph, x, layer) else { return Ok(None) };
    let layer_operands = graph.operands(x.node);
    let &[input, weight] = &layer_operands[..] else { return Ok(None) };
    let Some(channels) = graph.ty(x).dims().get(1).and_then(|d| d.fixed()) else { return Ok(None) };
    let ty = graph.ty(x).clone();
    let Some(bias) = as_bias(graph, operands[1 - index], &ty, channels)? else { return Ok(None) };
    let name = graph.node(x.node).name.clone();
    let with_bias = graph.add_node(op, &name, &[input, weight, bias]).map_err(ir(NAME))?;
    bypass(graph, node, output(with_bias))?;
    Ok(Some(format!("is the bias of {}", graph.describe(with_bias))))
}

/// A constant that broadcasts along `ty`'s channels only, as `f32[channels]`.
fn as_bias(
    graph: &mut Graph,
    constant: ValueId,
    ty: &TensorType,
    channels: usize,
) -> Result<Option<ValueId>, PassError> {
    let Some(weight) = graph.weight(constant) else { return Ok(None) };
    let dims = weight.ty().fixed_dims().unwrap_or_default();
    if dims == [channels] && ty.rank() == 2 {
        return Ok(Some(constant));
    }
    // The constant's axes count from the last; the channels are axis 1 of the value.
    let behind_channels = ty.rank() - 2;
    let is_bias = dims.len() > behind_channels
        && dims.len() <= ty.rank()
        && dims.iter().rev().enumerate().all(|(i, &d)| d == if i == behind_channels { channels } else { 1 });
    let Some(data) = weight.data().filter(|_| is_bias) else { return Ok(None) };
    let (data, base) = (Arc::clone(data), format!("{}.bias", weight.name()));
    let name = graph.fresh_weight_name(&base);
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    let bias = Weight::new(name, TensorType::new([Dim::Fixed(channels)]), data).map_err(malformed)?;
    graph.add_weight(bias).map_err(ir(NAME)).map(Some)
}

/// The window with a Pad's padding of height and width added; `None` if other axes are padded too.
fn padded(window: Window, pad: &Pad) -> Option<Window> {
    let &[0, 0, top, left, 0, 0, bottom, right] = pad.pads.as_slice() else { return None };
    let mut pads = window.pads;
    for (slot, more) in pads.iter_mut().zip([top, left, bottom, right]) {
        *slot = slot.checked_add(more)?;
    }
    Some(Window { pads, ..window })
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

/// `Pad` with minus infinity before a `MaxPool`: the window pads itself.
pub(super) fn pad_into_max_pool(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::MaxPool(MaxPool { window }) = graph.node(node).op else { return Ok(None) };
    // Exporters write the lowest finite number for minus infinity.
    let lowest = |pad: &Pad| pad.value <= f64::from(f32::MIN);
    let Some((pad, source)) = pad_before(graph, node).filter(|(pad, _)| lowest(pad)) else { return Ok(None) };
    let Some(window) = padded(window, &pad).filter(|w| !w.ceil) else { return Ok(None) };
    let pool = MaxPool { window };
    if pool.infer(&[graph.ty(source)]).is_err() {
        return Ok(None);
    }
    substitute(graph, node, Op::MaxPool(pool), &[source])?;
    Ok(Some("took in the Pad before it".into()))
}
