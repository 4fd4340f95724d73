//! Ops that only move elements; shared by the forward pass and the relevance that undoes them.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice as Range, concatenate};
use relc_ir::op::{Concat, Pad, Slice, Transpose};

use crate::element::Element;

/// The same elements in another shape.
pub(crate) fn reshape<T: Element>(x: ArrayD<T>, shape: &[usize]) -> Option<ArrayD<T>> {
    x.into_shape_with_order(IxDyn(shape)).ok()
}

/// The sum over the repetitions that made `x` from `shape`.
pub(crate) fn unexpand<T: Element>(mut x: ArrayD<T>, shape: &[usize]) -> Option<ArrayD<T>> {
    while x.ndim() > shape.len() {
        x = x.sum_axis(Axis(0));
    }
    for (axis, &size) in shape.iter().enumerate() {
        if size == 1 && x.shape()[axis] > 1 {
            x = x.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    (x.shape() == shape).then(|| x.as_standard_layout().into_owned())
}

/// Axes permuted.
pub(crate) fn transpose<T: Element>(op: &Transpose, x: &ArrayD<T>) -> ArrayD<T> {
    x.view().permuted_axes(IxDyn(&op.perm)).as_standard_layout().into_owned()
}

/// `x` inside a frame of `op.value`.
pub(crate) fn pad<T: Element>(op: &Pad, x: &ArrayD<T>, mut out: ArrayD<T>) -> ArrayD<T> {
    out.fill(T::narrow(op.value));
    set_inner(op, x, &mut out);
    out
}

/// Puts `x` inside the frame that is in `out`.
pub(crate) fn set_inner<T: Element>(op: &Pad, x: &ArrayD<T>, out: &mut ArrayD<T>) {
    out.slice_each_axis_mut(|axis| inner(op, axis.axis.index(), x.shape())).assign(x);
}

/// What lies inside the frame; `shape` is the inner shape.
pub(crate) fn unpad<T: Element>(op: &Pad, x: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
    x.slice_each_axis(|axis| inner(op, axis.axis.index(), shape)).as_standard_layout().into_owned()
}

fn inner(op: &Pad, axis: usize, shape: &[usize]) -> Range {
    let begin = op.pads[axis];
    Range::from(begin..begin + shape[axis])
}

/// The part that a slice takes; `size` is its output shape.
pub(crate) fn slice<T: Element>(op: &Slice, x: &ArrayD<T>, size: &[usize]) -> ArrayD<T> {
    x.slice_each_axis(|axis| part(op, axis.axis.index(), size)).as_standard_layout().into_owned()
}

/// `x` where the slice took it from, in `out`, which is zero elsewhere.
pub(crate) fn unslice<T: Element>(op: &Slice, x: &ArrayD<T>, mut out: ArrayD<T>) -> ArrayD<T> {
    out.slice_each_axis_mut(|axis| part(op, axis.axis.index(), x.shape())).assign(x);
    out
}

fn part(op: &Slice, axis: usize, size: &[usize]) -> Range {
    let (start, step) = (op.starts[axis] as isize, op.steps[axis]);
    let last = start + size[axis].saturating_sub(1) as isize * step;
    // ndarray begins at the end of a range for a negative step.
    Range::new(start.min(last), Some(start.max(last) + 1), step)
}

/// Operands side by side.
pub(crate) fn concat<T: Element>(op: Concat, operands: &[&ArrayD<T>]) -> Option<ArrayD<T>> {
    let views: Vec<ArrayViewD<'_, T>> = operands.iter().map(|x| x.view()).collect();
    let joined = concatenate(Axis(op.axis), &views).ok()?;
    Some(joined.as_standard_layout().into_owned())
}

/// The operands that were put side by side, by their sizes along the axis.
pub(crate) fn split<T: Element>(op: Concat, sizes: &[usize], x: &ArrayD<T>) -> Vec<ArrayD<T>> {
    let mut begin = 0;
    let part = |&size: &usize| {
        let range = Range::from(begin..begin + size);
        begin += size;
        x.slice_axis(Axis(op.axis), range).as_standard_layout().into_owned()
    };
    sizes.iter().map(part).collect()
}
