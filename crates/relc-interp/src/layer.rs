//! What the linear layers (convolution, fully connected, average pool) have in common: one sample's worth of a
//! matrix product, its transpose, and the receptive fields.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};
use relc_ir::rule::WeightPart;

use crate::element::Element;

/// A linear layer without its bias, on one sample (one entry of the first axis), with one or more forms of its
/// weight.
///
/// Outputs are numbered `j = channel * positions + position`.
pub(crate) trait Layer<T>: Sync {
    /// `out_j += sum_i w_ij x_i` with form `form` of the weight.
    fn apply(&self, form: usize, x: &[T], out: &mut [T]);

    /// `out_i += sum_j w_ij s_j` with form `form` of the weight.
    fn transpose(&self, form: usize, s: &[T], out: &mut [T]);

    /// For each output position, how many inputs its receptive field has inside the input, over all channels that
    /// reach it.
    fn fan_in(&self) -> &[usize];

    /// `out_i += sum_j share_j` over the outputs whose receptive field holds `i`.
    fn spread(&self, share: &[T], out: &mut [T]);
}

/// A form of a weight.
pub(crate) fn weight_part<T: Element>(weight: &[T], part: WeightPart, gamma: f64) -> Cow<'_, [T]> {
    match part {
        WeightPart::Raw => Cow::Borrowed(weight),
        part => Cow::Owned(weight.iter().map(|w| T::narrow(part.of(w.widen(), gamma))).collect()),
    }
}

/// A slice as a row-major matrix.
///
/// # Panics
/// If the slice has another length: callers cut it by the same geometry.
pub(crate) fn matrix<T>(rows: usize, columns: usize, data: &[T]) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows, columns), data).expect("the slice was cut by this geometry")
}

/// A slice as a row-major matrix that can be written to.
///
/// # Panics
/// As [`matrix`].
pub(crate) fn matrix_mut<T>(rows: usize, columns: usize, data: &mut [T]) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, columns), data).expect("the slice was cut by this geometry")
}

/// Some rows of a matrix.
pub(crate) fn rows<T>(mut matrix: ArrayView2<'_, T>, range: Range<usize>) -> ArrayView2<'_, T> {
    matrix.slice_axis_inplace(Axis(0), Slice::from(range));
    matrix
}

/// Some columns of a matrix.
pub(crate) fn columns<T>(mut matrix: ArrayView2<'_, T>, range: Range<usize>) -> ArrayView2<'_, T> {
    matrix.slice_axis_inplace(Axis(1), Slice::from(range));
    matrix
}
