//! Arithmetic with broadcasting, normalisation, softmax and means.

use ndarray::{ArrayD, Axis, Zip};
use relc_ir::op::{Arithmetic, BatchNormalization, MeanVarianceNormalization, ReduceMean, Softmax};

use crate::element::Element;

/// An elementwise function of several operands, broadcast to `out`'s shape; `None` if they don't broadcast.
pub(super) fn arithmetic<T: Element>(
    op: Arithmetic,
    operands: &[&ArrayD<T>],
    mut out: ArrayD<T>,
) -> Option<ArrayD<T>> {
    let (first, rest) = operands.split_first()?;
    let shape = out.raw_dim();
    out.assign(&first.broadcast(shape.clone())?);
    for operand in rest {
        let operand = operand.broadcast(shape.clone())?;
        let zip = Zip::from(&mut out).and(&operand);
        match op {
            Arithmetic::Add => zip.for_each(|a, b| *a += *b),
            Arithmetic::Sub => zip.for_each(|a, b| *a = *a - *b),
            Arithmetic::Mul => zip.for_each(|a, b| *a = *a * *b),
            Arithmetic::Div => zip.for_each(|a, b| *a = *a / *b),
            Arithmetic::Pow => zip.for_each(|a, b| *a = power(*a, *b)),
            Arithmetic::PRelu => zip.for_each(|a, b| *a = if *a < T::zero() { *a * *b } else { *a }),
            Arithmetic::Max => zip.for_each(|a, b| *a = a.max(*b)),
            Arithmetic::Min => zip.for_each(|a, b| *a = a.min(*b)),
        }
    }
    Some(out)
}

/// `a` to the power of `b`; a whole power of a negative number is exact in sign.
fn power<T: Element>(a: T, b: T) -> T {
    match b.to_i32().filter(|n| T::from(*n) == Some(b)) {
        Some(n) => a.powi(n),
        None => a.powf(b),
    }
}

/// `(x - mean) / sqrt(var + epsilon)` with the statistics of `x` over the op's axes, in f64.
pub(super) fn mean_variance_normalization<T: Element>(
    op: &MeanVarianceNormalization,
    x: &ArrayD<T>,
) -> Option<ArrayD<T>> {
    standardise(op, x).map(|(y, _)| y.mapv(T::narrow))
}

/// The normalised `x`, and `1 / sqrt(var + epsilon)`, whose sizes along the op's axes are 1.
pub(crate) fn standardise<T: Element>(
    op: &MeanVarianceNormalization,
    x: &ArrayD<T>,
) -> Option<(ArrayD<f64>, ArrayD<f64>)> {
    let wide = x.mapv(Element::widen);
    let mean = mean_over(op, wide.clone());
    let centred = &wide - &mean.broadcast(wide.raw_dim())?;
    let variance = mean_over(op, centred.mapv(|v| v * v));
    let factor = variance.mapv(|v| (v + op.epsilon).sqrt().recip());
    let out = &centred * &factor.broadcast(wide.raw_dim())?;
    Some((out, factor))
}

/// The mean over the op's axes, which stay with size 1.
pub(crate) fn mean_over(op: &MeanVarianceNormalization, values: ArrayD<f64>) -> ArrayD<f64> {
    op.axes.iter().fold(values, |sum, &axis| {
        let count = sum.shape()[axis] as f64;
        (sum.sum_axis(Axis(axis)) / count).insert_axis(Axis(axis))
    })
}

/// `(x - mean) * (scale / sqrt(var + epsilon)) + bias` per channel, the factor in f64.
pub(super) fn batch_normalization<T: Element>(
    op: &BatchNormalization,
    x: &ArrayD<T>,
    parameters: [&ArrayD<T>; 4],
) -> ArrayD<T> {
    let mut out = x.clone();
    let [scale, bias, mean, var] = parameters;
    let parameters = scale.iter().zip(bias).zip(mean).zip(var);
    for (mut channel, (((&scale, &bias), &mean), &var)) in out.axis_iter_mut(Axis(1)).zip(parameters) {
        let factor = T::narrow(scale.widen() / (var.widen() + op.epsilon).sqrt());
        channel.mapv_inplace(|x| (x - mean) * factor + bias);
    }
    out
}

/// `Softmax` or `LogSoftmax`, in f64, shifted by the maximum.
pub(crate) fn softmax<T: Element>(op: &Softmax, x: &ArrayD<T>) -> ArrayD<T> {
    let mut out = x.clone();
    for mut lane in out.lanes_mut(Axis(op.axis)) {
        let max = lane.iter().fold(f64::NEG_INFINITY, |max, v| max.max(v.widen()));
        let sum: f64 = lane.iter().map(|v| (v.widen() - max).exp()).sum();
        let log = sum.ln();
        lane.mapv_inplace(|v| {
            let shifted = v.widen() - max;
            T::narrow(if op.log { shifted - log } else { shifted.exp() / sum })
        });
    }
    out
}

/// The mean over axes, summed in f64, in the shape of `out`.
pub(super) fn reduce_mean<T: Element>(op: &ReduceMean, x: &ArrayD<T>, out: ArrayD<T>) -> Option<ArrayD<T>> {
    let mut sum = x.mapv(Element::widen);
    let mut count = 1.0;
    for &axis in op.axes.iter().rev() {
        count *= sum.shape()[axis] as f64;
        sum = sum.sum_axis(Axis(axis));
    }
    let mean = sum.mapv(|sum| T::narrow(sum / count));
    mean.as_standard_layout().into_owned().into_shape_with_order(out.raw_dim()).ok()
}
