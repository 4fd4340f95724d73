//! Means over the whole picture are `GlobalAveragePool`.

use relc_ir::op::{AveragePool, ReduceMean, Reshape, Transpose};
use relc_ir::{Dim, Graph, NodeId, Op};

use super::{NAME, output, substitute};
use crate::error::PassError;
use crate::manager::ir;

fn spatial(graph: &Graph, node: NodeId) -> Option<Vec<usize>> {
    graph.ty(*graph.operands(node).first()?).spatial()
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

/// `ReduceMean`: over the spatial axes of `f32[N,C,..]` as it is; else the axes come last first.
pub(super) fn mean_to_global_pool(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::ReduceMean(ReduceMean { axes, .. }) = graph.node(node).op.clone() else { return Ok(None) };
    let shape = graph.node(node).types()[0].dims().to_vec();
    let name = graph.node(node).name.clone();
    let mut x = graph.operands(node)[0];
    let dims = graph.ty(x).dims().to_vec();
    // Of two in a row, the second takes in the first.
    let user_is_mean = |(user, _): &(NodeId, usize)| matches!(graph.node(*user).op, Op::ReduceMean(_));
    if axes.contains(&0) || graph.users(output(node)).iter().any(user_is_mean) {
        return Ok(None);
    }
    if spatial(graph, node).is_none_or(|size| !axes.iter().copied().eq(2..2 + size.len())) {
        let kept: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).collect();
        let perm = [&kept[..], &axes].concat();
        let size = |axes: &[usize]| {
            axes.iter().try_fold(1usize, |product, &axis| product.checked_mul(dims[axis].fixed()?))
        };
        let (Some(rest), Some(reduced)) = (size(&kept[1..]), size(&axes)) else { return Ok(None) };
        x = output(graph.add_node(Op::Transpose(Transpose { perm }), &name, &[x]).map_err(ir(NAME))?);
        if (kept.len(), axes.len()) != (2, 2) {
            let shape = vec![dims[0], Dim::Fixed(rest), Dim::Fixed(reduced), Dim::Fixed(1)];
            let picture = Op::Reshape(Reshape { shape });
            x = output(graph.add_node(picture, &name, &[x]).map_err(ir(NAME))?);
        }
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
    let one = graph.node(node).types()[0].dims().iter().skip(2).all(|d| *d == Dim::Fixed(1));
    let whole = window.axes.iter().map(|axis| axis.dilation).all(|dilation| dilation == 1);
    if !one || !whole || window.kernel() != size || window.is_padded() {
        return Ok(None);
    }
    graph.replace_op(node, Op::GlobalAveragePool).map_err(ir(NAME))?;
    Ok(Some("is a GlobalAveragePool".into()))
}

/// `GlobalAveragePool` of a picture of one pixel does nothing.
pub(super) fn global_pool_to_reshape(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let one_pixel = spatial(graph, node).is_some_and(|size| size.iter().all(|side| *side == 1));
    if graph.node(node).op != Op::GlobalAveragePool || !one_pixel {
        return Ok(None);
    }
    let x = graph.operands(node)[0];
    super::bypass(graph, node, x)?;
    Ok(Some("dropped: the picture has one pixel".into()))
}
