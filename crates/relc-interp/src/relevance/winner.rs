//! A MaxPool whose winner takes all.

use ndarray::ArrayD;
use rayon::prelude::*;
use relc_ir::op::Window;

use crate::element::Element;
use crate::ops::pool::Planes;

/// Each window's relevance to the pixel that won it: the first of the largest, in row-major order.
pub(super) fn winner<T: Element>(window: &Window, r: &ArrayD<T>, act: &ArrayD<T>) -> ArrayD<T> {
    let planes = Planes::new(window, act.shape(), r.shape());
    let [pixels, windows] = planes.pixels();
    let mut out = ArrayD::zeros(act.raw_dim());
    if let (Some(r), Some(act), Some(out)) = (r.as_slice(), act.as_slice(), out.as_slice_mut()) {
        let jobs = r.par_chunks_exact(windows).zip(act.par_chunks_exact(pixels));
        jobs.zip(out.par_chunks_exact_mut(pixels)).for_each(|((r, act), out)| {
            for (index, r) in r.iter().enumerate() {
                // The verifier refuses windows that cover padding only: every window has a winner.
                if let Some(pixel) = planes.winner(index, act) {
                    out[pixel] += *r;
                }
            }
        });
    }
    out
}
