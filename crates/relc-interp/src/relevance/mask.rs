//! A mask at a cut: only some channels pass.

use ndarray::{ArrayD, Axis};

use relc_ir::ledger::Losses;

use super::Propagated;
use crate::element::Element;

/// `r` where the index of its second axis is one of `channels`, else 0, booked as clipped.
pub(super) fn mask<T: Element>(channels: &[usize], mut r: ArrayD<T>) -> Propagated<T> {
    let mut losses = Vec::new();
    for mut sample in r.axis_iter_mut(Axis(0)) {
        let mut clipped = 0.0;
        for (c, mut channel) in sample.axis_iter_mut(Axis(0)).enumerate() {
            if !channels.contains(&c) {
                clipped += channel.iter().map(|r| r.widen()).sum::<f64>();
                channel.fill(T::zero());
            }
        }
        losses.push(Losses { clipped, ..Losses::default() });
    }
    Propagated { outputs: vec![r], losses }
}
