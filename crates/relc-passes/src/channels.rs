//! Which channel of a layer an element comes from, seen through what only moves elements.
//!
//! Importers and exporters put Reshapes and Transposes between a layer and what belongs to it: a convolution of
//! `f32[N,C,L]` is one of a picture of height 1, between two Reshapes. A pass that asks for the neighbour would see none.

use relc_ir::op::{Reshape, Transpose};
use relc_ir::{Dim, Graph, NodeId, Op, ValueId};

/// A layer, and how one axis of a value behind it counts the layer's channels: an element whose layer's channel is `k`
/// has the index `k / step % count` along that axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channels {
    /// The Conv or Gemm.
    pub layer: NodeId,
    /// The size of the axis.
    pub count: usize,
    step: usize,
}

impl Channels {
    /// The index along the value's axis of what comes from a channel of the layer.
    pub fn of(&self, channel: usize) -> usize {
        channel / self.step % self.count
    }
}

/// The Conv or Gemm that `value` comes from, if nothing but moves lie between, nothing else uses what lies between, and
/// each index along `axis` of the value belongs to channels of the layer.
///
/// # Errors
/// Why there is none, as a sentence.
pub(crate) fn channels(graph: &Graph, value: ValueId, axis: usize) -> Result<Channels, String> {
    let count = graph.ty(value).dims().get(axis).and_then(|d| d.fixed()).filter(|n| *n > 0);
    let Some(count) = count else { return Err(format!("{} has no such channels", graph.ty(value))) };
    let (mut at, mut axis, mut step) = (value, axis, 1);
    loop {
        let node = at.node;
        let is_layer = matches!(graph.node(node).op, Op::Conv(_) | Op::Gemm(_));
        let before = if is_layer { None } else { moved(graph, node, axis, step, count) };
        if !is_layer && before.is_none() {
            return Err(format!("follows {}, not a Conv or Gemm", graph.describe(node)));
        }
        if graph.users(at).len() != 1 || graph.outputs().iter().any(|(_, v)| *v == at) {
            return Err(format!("{} has other users", graph.describe(node)));
        }
        match before {
            Some(before) => (at, axis, step) = before,
            None if axis == 1 => return Ok(Channels { layer: node, count, step }),
            None => {
                return Err(format!("its channels are not those of {}", graph.describe(node)));
            }
        }
    }
}

/// The one axis of `value` along which a constant that is added to it, or multiplied with it, differs; of a scalar, the channels'.
pub(crate) fn axis_of(graph: &Graph, constant: ValueId, value: ValueId) -> Option<usize> {
    let dims = graph.weight(constant)?.ty().fixed_dims()?;
    // The constant's axes count from the last.
    let missing = graph.ty(value).rank().checked_sub(dims.len())?;
    let mut long = (0..dims.len()).filter(|i| dims[*i] != 1);
    match (long.next(), long.next()) {
        (Some(only), None) => Some(only + missing),
        (None, _) => Some(1),
        _ => None,
    }
}

/// What a node that only moves elements moves, and the axis and step along which its operand counts what its output
/// counts along `axis` by `step`.
fn moved(
    graph: &Graph,
    node: NodeId,
    axis: usize,
    step: usize,
    count: usize,
) -> Option<(ValueId, usize, usize)> {
    let x = *graph.operands(node).first()?;
    match &graph.node(node).op {
        Op::Transpose(Transpose { perm }) => Some((x, *perm.get(axis)?, step)),
        // Elements that are dropped, but no whole channels: the end of a transposed convolution.
        Op::Slice(slice) => {
            let whole = graph.ty(x).dims().get(axis) == graph.node(node).types()[0].dims().get(axis)
                && !slice.reverses(axis);
            whole.then_some((x, axis, step))
        }
        Op::Reshape(Reshape { shape }) => {
            let (axis, step) = reshaped(graph.ty(x).dims(), shape, axis, step, count)?;
            Some((x, axis, step))
        }
        _ => None,
    }
}

/// The axis of `from` that counts what `axis` of `to`, of the same elements, counts by `step`; and by which step.
fn reshaped(from: &[Dim], to: &[Dim], axis: usize, step: usize, count: usize) -> Option<(usize, usize)> {
    let behind = |dims: &[Dim], axis: usize| {
        dims.get(axis + 1..)?.iter().try_fold(1usize, |product, d| product.checked_mul(d.fixed()?))
    };
    // Elements from one index to the next, and until the indices begin again.
    let stride = behind(to, axis)?.checked_mul(step)?;
    let period = stride.checked_mul(count)?;
    let fits = |candidate: &usize| {
        let (Some(size), Some(behind)) = (from[*candidate].fixed(), behind(from, *candidate)) else {
            return None;
        };
        let whole = behind > 0 && size > 0 && stride % behind == 0;
        (whole && size.checked_mul(behind)? % period == 0).then(|| (*candidate, stride / behind))
    };
    (0..from.len()).find_map(|candidate| fits(&candidate))
}

#[cfg(test)]
mod tests {
    use super::reshaped;
    use relc_ir::Dim;

    fn dims(sizes: &[usize]) -> Vec<Dim> {
        [vec![Dim::Batch], sizes.iter().copied().map(Dim::Fixed).collect()].concat()
    }

    #[test]
    fn channels_are_followed_through_reshapes() {
        let check = |from: &[usize], to: &[usize], axis, count, expected| {
            assert_eq!(reshaped(&dims(from), &dims(to), axis, 1, count), expected, "{from:?} to {to:?}");
        };
        // A row that was a picture of height 1, and one of width 1.
        check(&[6, 1, 9], &[6, 9], 1, 6, Some((1, 1)));
        check(&[6, 9], &[6, 9, 1], 1, 6, Some((1, 1)));
        // The columns of a Gemm, as a picture: twelve of them share a channel.
        check(&[24], &[2, 3, 4], 1, 2, Some((1, 12)));
        check(&[24], &[2, 3, 4], 2, 3, Some((1, 4)));
        // Groups of two channels; and channels that are not the layer's.
        check(&[6, 9], &[3, 18], 1, 3, Some((1, 2)));
        check(&[6, 9], &[9, 6], 1, 9, None);
        check(&[4, 9], &[6, 6], 1, 6, None);
    }
}
