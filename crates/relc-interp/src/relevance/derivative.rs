//! Derivatives of elementwise ops, and what guided backpropagation and DeconvNet put in their place.

use ndarray::{ArrayD, Axis, Zip};
use relc_ir::op::{Activation, Arithmetic, BatchNormalization};
use relc_ir::rule::Surrogate;

use crate::element::Element;

/// `r` through an activation of input `x`. At a kink the derivative is the smaller of the two sides', as in PyTorch's
/// ReLU, LeakyReLU and ReLU6: 0 for a Relu at 0.
pub(super) fn activation<T: Element>(
    activation: Activation,
    kind: Surrogate,
    mut r: ArrayD<T>,
    x: &ArrayD<T>,
) -> ArrayD<T> {
    let slope = |x: T| -> T {
        match activation {
            Activation::Relu if x > T::zero() => T::one(),
            Activation::Relu => T::zero(),
            Activation::LeakyRelu { .. } if x > T::zero() => T::one(),
            Activation::LeakyRelu { alpha } => T::narrow(alpha),
            Activation::Clip { min, max } if x.widen() > min && x.widen() < max => T::one(),
            Activation::Clip { .. } => T::zero(),
            Activation::Sigmoid => {
                let y = (T::one() + (-x).exp()).recip();
                y * (T::one() - y)
            }
            Activation::Identity | Activation::Dropout => T::one(),
        }
    };
    let positive = |r: T| if r > T::zero() { r } else { T::zero() };
    match kind {
        Surrogate::Gradient => r.zip_mut_with(x, |r, x| *r = *r * slope(*x)),
        Surrogate::Guided => r.zip_mut_with(x, |r, x| *r = positive(*r) * slope(*x)),
        Surrogate::Deconv => r.mapv_inplace(positive),
    }
    r
}

/// `r * scale / sqrt(var + epsilon)` per channel, the factor in f64.
pub(super) fn batch_normalization<T: Element>(
    op: BatchNormalization,
    mut r: ArrayD<T>,
    scale: &ArrayD<T>,
    var: &ArrayD<T>,
) -> ArrayD<T> {
    for (mut channel, (scale, var)) in r.axis_iter_mut(Axis(1)).zip(scale.iter().zip(var)) {
        let factor = T::narrow(scale.widen() / (var.widen() + op.epsilon).sqrt());
        channel.mapv_inplace(|r| r * factor);
    }
    r
}

/// The derivative by operand `wrt` of an op of `operands`, summed over the axes along which the operand was
/// broadcast. `None` if the operands don't fit.
pub(super) fn arithmetic<T: Element>(
    arithmetic: Arithmetic,
    wrt: usize,
    r: &ArrayD<T>,
    operands: &[&ArrayD<T>],
) -> Option<ArrayD<T>> {
    let mut out = r.clone();
    let wide = |i: usize| operands.get(i)?.broadcast(r.raw_dim());
    match (arithmetic, wrt) {
        (Arithmetic::Add, _) | (Arithmetic::Sub, 0) => {}
        (Arithmetic::Sub, _) => out.mapv_inplace(|r| -r),
        (Arithmetic::Mul, _) => Zip::from(&mut out).and(wide(1 - wrt.min(1))?).for_each(|r, y| *r = *r * *y),
        (Arithmetic::Div, 0) => Zip::from(&mut out).and(wide(1)?).for_each(|r, y| *r = *r / *y),
        (Arithmetic::Div, _) => {
            Zip::from(&mut out).and(wide(0)?).and(wide(1)?).for_each(|r, x, y| *r = -*r * *x / (*y * *y));
        }
    }
    let shape = operands.get(wrt)?.shape();
    while out.ndim() > shape.len() {
        out = out.sum_axis(Axis(0));
    }
    for (axis, &size) in shape.iter().enumerate() {
        if size == 1 && out.shape()[axis] != 1 {
            out = out.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    Some(out.as_standard_layout().into_owned())
}
