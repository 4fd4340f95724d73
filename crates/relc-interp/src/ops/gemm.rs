//! Fully connected layers and matrix products, row by row.
//!
//! Sums are taken in f64 in both element types: these layers are small, and the classifier's denominator carries
//! the whole relevance of a sample.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayView2, Ix2};
use rayon::prelude::*;

use crate::element::Element;
use crate::layer::Layer;

/// Rows in a piece of work.
const BLOCK: usize = 64;
/// Partial sums of a dot product.
const LANES: usize = 8;

/// A weight `f32[K,M]`, or `f32[M,K]` if `trans_b`, as rows of `K`, one per output.
pub(crate) fn rows_of<T: Element>(weight: &ArrayD<T>, trans_b: bool) -> Cow<'_, [T]> {
    if let (true, Some(rows)) = (trans_b, weight.as_slice()) {
        return Cow::Borrowed(rows);
    }
    let Ok(matrix) = weight.view().into_dimensionality::<Ix2>() else { return Cow::Borrowed(&[]) };
    let rows: ArrayView2<'_, T> = if trans_b { matrix } else { matrix.reversed_axes() };
    Cow::Owned(rows.iter().copied().collect())
}

/// A fully connected layer of `f32[K]` to `f32[M]`.
pub(crate) struct GemmLayer<'a, T: Clone> {
    inputs: [usize; 1],
    /// Forms of the weight, each `f32[M,K]`.
    weights: Vec<Cow<'a, [T]>>,
}

impl<'a, T: Element> GemmLayer<'a, T> {
    /// A layer of `inputs` inputs (at least 1).
    pub fn new(inputs: usize, weights: Vec<Cow<'a, [T]>>) -> Self {
        GemmLayer { inputs: [inputs], weights }
    }
}

/// `sum_i a_i b_i` in f64, by lanes in a fixed order.
fn dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a.widen() * b.widen()).sum();
    for (a, b) in a.zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a.widen() * b.widen();
        }
    }
    lanes.iter().sum::<f64>() + tail
}

impl<T: Element> Layer<T> for GemmLayer<'_, T> {
    fn apply(&self, form: usize, x: &[T], out: &mut [T]) {
        let k = x.len();
        let rows = self.weights[form].par_chunks_exact(k).with_min_len(BLOCK);
        out.par_iter_mut().with_min_len(BLOCK).zip(rows).for_each(|(out, row)| {
            *out = T::narrow(out.widen() + dot(row, x));
        });
    }

    fn transpose(&self, form: usize, s: &[T], out: &mut [T]) {
        let k = out.len();
        let mut sum = vec![0.0; k];
        // Most seeds are zero but for one class.
        for (row, s) in self.weights[form].chunks_exact(k).zip(s).filter(|(_, s)| !s.is_zero()) {
            let s = s.widen();
            sum.iter_mut().zip(row).for_each(|(sum, w)| *sum += w.widen() * s);
        }
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out = T::narrow(out.widen() + sum));
    }

    fn fan_in(&self) -> &[usize] {
        &self.inputs
    }

    fn spread(&self, share: &[T], out: &mut [T]) {
        let total: f64 = share.iter().map(|s| s.widen()).sum();
        out.iter_mut().for_each(|out| *out = T::narrow(out.widen() + total));
    }
}
