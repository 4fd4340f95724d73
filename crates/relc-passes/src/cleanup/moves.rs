//! Ops that only move elements, or nothing at all.

use relc_ir::op::{Activation, Concat, Reshape, Transpose};
use relc_ir::{Dim, Graph, NodeId, Op};

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
        Op::Reshape(_) | Op::Slice(_) | Op::Pad(_) if same_type => "leaves the shape as it is",
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
