//! Means over the whole picture are `GlobalAveragePool`.

use relc_ir::op::{AveragePool, ReduceMean, Reshape, Transpose};
use relc_ir::{Dim, Graph, NodeId, Op};

use super::{NAME, output, substitute};
use crate::error::PassError;
use crate::manager::ir;

fn spatial(graph: &Graph, node: NodeId) -> Option<[usize; 2]> {
    let x = *graph.operands(node).first()?;
    match graph.ty(x).dims() {
        [_, _, Dim::Fixed(h), Dim::Fixed(w)] => Some([*h, *w]),
        _ => None,
    }
}

/// Two `ReduceMean`s in a row are one over the axes of both.
pub(super) fn merge_means(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::ReduceMean(second) = graph.node(node).op.clone() else { return Ok(None) };
    let x = graph.operands(node)[0];
    let Op::ReduceMean(first) = graph.node(x.node).op.clone() else { return Ok(None) };
    let source = graph.operands(x.node)[0];
    // The axes of the first's input that are left for the second to count.
    let left: Vec<usize> =
        (0..graph.ty(source).rank()).filter(|axis| first.keepdims || !first.axes.contains(axis)).collect();
    let mut axes: Vec<usize> = second.axes.iter().filter_map(|&axis| left.get(axis).copied()).collect();
    axes.extend(&first.axes);
    axes.sort_unstable();
    axes.dedup();
    let shape = graph.node(node).types()[0].dims().to_vec();
    let name = graph.node(node).name.clone();
    let mean = Op::ReduceMean(ReduceMean { axes, keepdims: true });
    let mean = graph.add_node(mean, &name, &[source]).map_err(ir(NAME))?;
    substitute(graph, node, Op::Reshape(Reshape { shape }), &[output(mean)])?;
    Ok(Some("merged with the ReduceMean before it".into()))
}

/// `ReduceMean` of `f32[N,C,H,W]` over height and width, wherever the layout has them: channels that stand last are
/// moved before them first.
pub(super) fn mean_to_global_pool(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::ReduceMean(ReduceMean { axes, .. }) = graph.node(node).op.clone() else { return Ok(None) };
    let channels = match axes[..] {
        [2, 3] => 1,
        [1, 2] => 3,
        _ => return Ok(None),
    };
    if spatial(graph, node).is_none() {
        return Ok(None);
    }
    let shape = graph.node(node).types()[0].dims().to_vec();
    let name = graph.node(node).name.clone();
    let mut x = graph.operands(node)[0];
    if channels != 1 {
        let perm = vec![0, channels, axes[0], axes[1]];
        let transpose = Op::Transpose(Transpose { perm });
        x = output(graph.add_node(transpose, &name, &[x]).map_err(ir(NAME))?);
    }
    let pool = graph.add_node(Op::GlobalAveragePool, &name, &[x]).map_err(ir(NAME))?;
    substitute(graph, node, Op::Reshape(Reshape { shape }), &[output(pool)])?;
    Ok(Some("is a GlobalAveragePool".into()))
}

/// `AveragePool` whose one window is the whole picture.
pub(super) fn full_window_to_global_pool(
    graph: &mut Graph,
    node: NodeId,
) -> Result<Option<String>, PassError> {
    let Op::AveragePool(AveragePool { window, .. }) = graph.node(node).op else { return Ok(None) };
    let Some(size) = spatial(graph, node) else { return Ok(None) };
    let one = graph.node(node).types()[0].dims()[2..] == [Dim::Fixed(1), Dim::Fixed(1)];
    if !one || window.kernel != size || window.pads != [0; 4] || window.dilations != [1; 2] {
        return Ok(None);
    }
    graph.replace_op(node, Op::GlobalAveragePool).map_err(ir(NAME))?;
    Ok(Some("is a GlobalAveragePool".into()))
}

/// `GlobalAveragePool` of a picture of one pixel does nothing.
pub(super) fn global_pool_to_reshape(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.node(node).op != Op::GlobalAveragePool || spatial(graph, node) != Some([1, 1]) {
        return Ok(None);
    }
    let x = graph.operands(node)[0];
    super::bypass(graph, node, x)?;
    Ok(Some("dropped: the picture has one pixel".into()))
}
