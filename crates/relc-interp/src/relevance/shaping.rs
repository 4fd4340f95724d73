//! Changes of shape, undone.

use ndarray::{ArrayD, IxDyn};
use relc_ir::op::{Pad, Relevance};
use relc_ir::rule::Frame;

use relc_ir::ledger::Losses;

use super::Propagated;
use crate::element::Element;
use crate::ops::shaping;

/// The relevance before an op that only moved elements; `shape` is that of the first output.
pub(super) fn undo<T: Element>(
    op: &Relevance,
    r: ArrayD<T>,
    shape: &[usize],
    batch: usize,
) -> Option<Propagated<T>> {
    Some(match op {
        Relevance::Reshape(_) => shaping::reshape(r, shape)?.into(),
        Relevance::Expand { .. } => shaping::unexpand(r, shape)?.into(),
        Relevance::Transpose(transpose) => shaping::transpose(transpose, &r).into(),
        Relevance::Slice { slice, .. } => shaping::unslice(slice, &r, ArrayD::zeros(IxDyn(shape))).into(),
        Relevance::Pad { pad, frame, .. } => unpad(pad, *frame, &r, shape, batch)?,
        Relevance::Concat { concat, sizes } => {
            Propagated { outputs: shaping::split(*concat, sizes, &r), losses: Vec::new() }
        }
        _ => return None,
    })
}

/// What lies inside the frame passes; what lies on it is lost, or the constants', or spread evenly over the sample.
fn unpad<T: Element>(
    pad: &Pad,
    policy: Frame,
    r: &ArrayD<T>,
    shape: &[usize],
    batch: usize,
) -> Option<Propagated<T>> {
    let mut out = shaping::unpad(pad, r, shape);
    let (framed, inner) = (r.len() / batch, out.len() / batch);
    // The frame alone, so that its sum is not a remainder.
    let mut frame = r.clone();
    let zeros = ArrayD::zeros(out.raw_dim());
    shaping::set_inner(pad, &zeros, &mut frame);
    let rows = frame.as_slice()?.chunks_exact(framed).zip(out.as_slice_mut()?.chunks_exact_mut(inner));
    let losses = rows
        .map(|(frame, out)| {
            let dropped: f64 = frame.iter().map(|r| r.widen()).sum();
            match policy {
                Frame::Lost => return Losses { padding: dropped, ..Losses::default() },
                Frame::Constants => return Losses { bias: dropped, ..Losses::default() },
                Frame::Spread => {}
            }
            let share = T::narrow(dropped / inner as f64);
            out.iter_mut().for_each(|r| *r += share);
            Losses { flat_fallback: dropped, ..Losses::default() }
        })
        .collect();
    Some(Propagated { outputs: vec![out], losses })
}
