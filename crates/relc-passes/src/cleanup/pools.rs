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

/// `ReduceMean`: over axes 2 and 3 of `f32[N,C,H,W]` as it is; else the axes come last first.
pub(super) fn mean_to_global_pool(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let Op::ReduceMean(ReduceMean { axes, .. }) = graph.node(node).op.clone() else { return Ok(None) };
    let shape = graph.node(node).types()[0].dims().to_vec();
    let name = graph.node(node).name.clone();
    let mut x = graph.operands(node)[0];
    let dims = graph.ty(x).dims().to_vec();
    if axes.contains(&0) {
        return Ok(None);
    }
    if axes != [2, 3] || spatial(graph, node).is_none() {
        let kept: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).collect();
        let perm = [&kept[..], &axes].concat();
        let size = |axes: &[usize]| {
            axes.iter().try_fold(1usize, |product, &axis| product.checked_mul(dims[axis].fixed()?))
        };
        let (Some(rest), Some(reduced)) = (size(&kept[1..]), size(&axes)) else { return Ok(None) };
        let picture = vec![dims[0], Dim::Fixed(rest), Dim::Fixed(reduced), Dim::Fixed(1)];
        x = output(graph.add_node(Op::Transpose(Transpose { perm }), &name, &[x]).map_err(ir(NAME))?);
        let picture = Op::Reshape(Reshape { shape: picture });
        x = output(graph.add_node(picture, &name, &[x]).map_err(ir(NAME))?);
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
