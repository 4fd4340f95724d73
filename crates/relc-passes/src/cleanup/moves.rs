//! Ops that only move elements, or nothing at all.

use relc_ir::op::{Activation, Concat, Pad, Reshape, Transpose};
use relc_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId, Weight};

use super::{NAME, bypass, substitute};
use crate::error::PassError;
use crate::manager::ir;

/// Drops Identity, Dropout, and moves that leave everything where it is.
pub(super) fn drop_no_op(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let operands = graph.operands(node);
    let Some(&x) = operands.first() else { return Ok(None) };
    let same_type = graph.ty(x) == &graph.node(node).types()[0];
    let reason = match &graph.node(node).op {
        Op::Activation(Activation::Identity) => "does nothing",
        Op::Activation(Activation::Dropout) => "acts in training only",
        Op::Transpose(t) if t.perm.iter().enumerate().all(|(i, p)| i == *p) => "leaves the axes as they are",
        Op::Slice(slice) if same_type && slice.steps.iter().all(|step| *step == 1) => "takes everything",
        Op::Reshape(_) | Op::Expand(_) | Op::Pad(_) if same_type => "leaves the shape as it is",
        Op::Concat(Concat { .. }) if operands.len() == 1 => "has one operand",
        _ => return Ok(None),
    };
    bypass(graph, node, x)?;
    Ok(Some(format!("dropped: it {reason}")))
}

/// Two Transposes in a row are one.
pub(super) fn merge_transposes(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::Transpose(second) = graph.node(node).op.clone() else { return Ok(None) };
    let Some(&x) = graph.operands(node).first() else { return Ok(None) };
    let Op::Transpose(first) = graph.node(x.node).op.clone() else { return Ok(None) };
    let perm = second.perm.iter().map(|&axis| first.perm[axis]).collect();
    let source = graph.operands(x.node)[0];
    substitute(graph, node, Op::Transpose(Transpose { perm }), &[source])?;
    Ok(Some("merged with the Transpose before it".into()))
}

/// A Transpose that only moves axes of size 1 is a Reshape.
pub(super) fn transpose_to_reshape(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::Transpose(Transpose { perm }) = graph.node(node).op.clone() else { return Ok(None) };
    let x = graph.operands(node)[0];
    let dims = graph.ty(x).dims();
    let moved: Vec<usize> = perm.into_iter().filter(|&axis| dims[axis] != Dim::Fixed(1)).collect();
    if !moved.is_sorted() {
        return Ok(None);
    }
    let shape = graph.node(node).types()[0].dims().to_vec();
    graph.replace_op(node, Op::Reshape(Reshape { shape })).map_err(ir(NAME))?;
    Ok(Some("is a Reshape: only axes of size 1 move".into()))
}

/// Two Reshapes in a row are one.
pub(super) fn merge_reshapes(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let op @ Op::Reshape(_) = graph.node(node).op.clone() else { return Ok(None) };
    let x = graph.operands(node)[0];
    if !matches!(graph.node(x.node).op, Op::Reshape(_)) {
        return Ok(None);
    }
    let source = graph.operands(x.node)[0];
    substitute(graph, node, op, &[source])?;
    Ok(Some("merged with the Reshape before it".into()))
}

/// An elementwise op on transposed values: the Transpose moves behind it, so that those of a graph in `f32[N,H,W,C]`
/// meet and cancel.
pub(super) fn sink_transpose(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let op = graph.node(node).op.clone();
    let perms = |v: &ValueId| match &graph.node(v.node).op {
        Op::Transpose(Transpose { perm }) => Some(perm.clone()),
        _ => None,
    };
    let data: Vec<ValueId> = graph.data_operands(node).into_iter().map(|(_, v)| v).collect();
    let Some(perm) = data.first().and_then(perms) else { return Ok(None) };
    let rank = perm.len();
    let alike = data.iter().all(|v| perms(v).as_ref() == Some(&perm));
    let sole = |v: &ValueId| graph.users(*v).len() == 1 && graph.outputs().iter().all(|(_, o)| o != v);
    // Another user keeps the Transpose where it is; the sum of two such values would gain nothing.
    let gains = data.iter().filter(|v| sole(v)).count() * 2 >= data.len();
    let fits = |op: &Op| match op {
        Op::Activation(_) | Op::Arithmetic(_) => true,
        Op::Concat(_) => data.len() == graph.operands(node).len(),
        _ => false,
    };
    if !alike || !gains || !fits(&op) || graph.node(node).types()[0].rank() != rank {
        return Ok(None);
    }
    let op = match op {
        Op::Concat(Concat { axis }) => Op::Concat(Concat { axis: perm[axis] }),
        op => op,
    };
    let mut operands = Vec::new();
    for value in graph.operands(node) {
        operands.push(if graph.is_weight(value) {
            match untransposed(graph, value, &perm)? {
                Some(value) => value,
                None => return Ok(None),
            }
        } else {
            graph.operands(value.node)[0]
        });
    }
    let name = graph.node(node).name.clone();
    let inner = graph.add_node(op, &name, &operands).map_err(ir(NAME))?;
    substitute(graph, node, Op::Transpose(Transpose { perm }), &[super::output(inner)])?;
    Ok(Some("goes before the Transpose of its operands".into()))
}

/// A Transpose of a padded value is the padded Transpose: so the Pads of a graph in `f32[N,H,W,C]` meet their layers.
pub(super) fn transpose_before_pad(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::Transpose(Transpose { perm }) = graph.node(node).op.clone() else { return Ok(None) };
    let x = graph.operands(node)[0];
    let pick = |op: &Op| if let Op::Pad(pad) = op { Some(pad.clone()) } else { None };
    let Some(pad) = super::sole_producer(graph, x, pick) else { return Ok(None) };
    let source = graph.operands(x.node)[0];
    let rank = perm.len();
    let begins = perm.iter().map(|&axis| pad.pads[axis]);
    let ends = perm.iter().map(|&axis| pad.pads[axis + rank]);
    let pads = begins.chain(ends).collect();
    let name = graph.node(x.node).name.clone();
    let inner = graph.add_node(Op::Transpose(Transpose { perm }), &name, &[source]).map_err(ir(NAME))?;
    substitute(graph, node, Op::Pad(Pad { pads, value: pad.value }), &[super::output(inner)])?;
    Ok(Some("goes before the Pad of its operand".into()))
}

/// A Reshape that only puts in or takes out axes of size 1 goes before a Pad: so the Pads of rows meet the layers of
/// pictures of height 1.
pub(super) fn reshape_before_pad(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::Reshape(Reshape { shape }) = graph.node(node).op.clone() else { return Ok(None) };
    let x = graph.operands(node)[0];
    let pick = |op: &Op| if let Op::Pad(pad) = op { Some(pad.clone()) } else { None };
    let Some(pad) = super::sole_producer(graph, x, pick) else { return Ok(None) };
    let source = graph.operands(x.node)[0];
    let (before, padded) = (graph.ty(source).dims().to_vec(), graph.ty(x).dims().to_vec());
    let long = |dims: &[Dim]| (0..dims.len()).filter(|i| dims[*i] != Dim::Fixed(1)).collect::<Vec<_>>();
    let (from, to) = (long(&padded), long(&shape));
    if from.len() != to.len() || from.iter().zip(&to).any(|(a, b)| padded[*a] != shape[*b]) {
        return Ok(None);
    }
    let (mut inner, mut pads) = (shape.clone(), vec![0; 2 * shape.len()]);
    for (a, b) in from.into_iter().zip(to) {
        inner[b] = before[a];
        pads[b] = pad.pads[a];
        pads[b + shape.len()] = pad.pads[a + before.len()];
    }
    let name = graph.node(x.node).name.clone();
    let inner = graph.add_node(Op::Reshape(Reshape { shape: inner }), &name, &[source]).map_err(ir(NAME))?;
    substitute(graph, node, Op::Pad(Pad { pads, value: pad.value }), &[super::output(inner)])?;
    Ok(Some("goes before the Pad of its operand".into()))
}

/// A constant that broadcasts with a transposed value, as it broadcasts with the value itself.
fn untransposed(graph: &mut Graph, value: ValueId, perm: &[usize]) -> Result<Option<ValueId>, PassError> {
    let Some(weight) = graph.weight(value) else { return Ok(None) };
    let (Some(data), Some(dims)) = (weight.data(), weight.ty().fixed_dims()) else { return Ok(None) };
    if data.len() == 1 {
        return Ok(Some(value));
    }
    let Some(missing) = perm.len().checked_sub(dims.len()) else { return Ok(None) };
    let dims = [vec![1; missing], dims].concat();
    // Axis i of the constant belongs to axis perm[i] of the value.
    let mut inner = vec![1; perm.len()];
    perm.iter().zip(&dims).for_each(|(&axis, &size)| inner[axis] = size);
    let mut strides = vec![0usize; perm.len()];
    let mut stride = 1;
    for (i, &axis) in perm.iter().enumerate().rev() {
        strides[axis] = stride;
        stride *= dims[i];
    }
    let at = |mut index: usize| {
        let mut offset = 0;
        for (size, stride) in inner.iter().zip(&strides).rev() {
            offset += index % size * stride;
            index /= size;
        }
        offset
    };
    let moved: Vec<f32> = (0..data.len()).map(|i| data[at(i)]).collect();
    let name = graph.fresh_weight_name(&format!("{}.untransposed", weight.name()));
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    let weight = Weight::new(name, TensorType::new(inner), moved).map_err(malformed)?;
    graph.add_weight(weight).map(Some).map_err(ir(NAME))
}
