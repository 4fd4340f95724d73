//! Derivatives of elementwise ops and normalisations, and what guided backpropagation and DeconvNet put in their place.

use ndarray::{ArrayD, Axis, Zip};
use relc_ir::op::{Activation, Arithmetic, BatchNormalization, MeanVarianceNormalization, Softmax};
use relc_ir::rule::Surrogate;

use crate::element::Element;
use crate::ops::elementwise::{mean_over, softmax as forward_softmax, standardise};

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
            smooth => T::narrow(slope_in_f64(smooth, x.widen())),
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

/// The derivatives of the functions that the forward pass computes in f64 too, and of those that have no kink to share.
fn slope_in_f64(activation: Activation, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let step = |yes: bool| f64::from(u8::from(yes));
    match activation {
        Activation::HardSigmoid { alpha, beta } => {
            let y = alpha * x + beta;
            alpha * step(y > 0.0 && y < 1.0)
        }
        Activation::HardSwish if x.abs() < 3.0 => (2.0 * x + 3.0) / 6.0,
        Activation::HardSwish => step(x >= 3.0),
        Activation::Swish { alpha } => {
            let s = sigmoid(alpha * x);
            s + alpha * x * s * (1.0 - s)
        }
        Activation::Gelu { tanh: false } => {
            let density = (-x * x / 2.0).exp() / (2.0 * PI).sqrt();
            0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)) + x * density
        }
        Activation::Gelu { tanh: true } => {
            let scale = (2.0 / PI).sqrt();
            let t = (scale * (x + 0.044715 * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * scale * (1.0 + 3.0 * 0.044715 * x * x)
        }
        Activation::Mish => {
            let t = (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh();
            t + x * (1.0 - t * t) * sigmoid(x)
        }
        Activation::Elu { .. } | Activation::Celu { .. } if x > 0.0 => 1.0,
        Activation::Elu { alpha } => alpha * x.exp(),
        Activation::Celu { alpha } => (x / alpha).exp(),
        Activation::Selu { gamma, .. } if x > 0.0 => gamma,
        Activation::Selu { alpha, gamma } => gamma * alpha * x.exp(),
        Activation::ThresholdedRelu { alpha } => step(x > alpha),
        Activation::Softplus => sigmoid(x),
        Activation::Softsign => (1.0 + x.abs()).powi(-2),
        Activation::Tanh => 1.0 - x.tanh().powi(2),
        Activation::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
        Activation::Exp => x.exp(),
        Activation::Log => x.recip(),
        Activation::Sqrt => 0.5 / x.sqrt(),
        Activation::Reciprocal => -(x * x).recip(),
        Activation::Abs => step(x > 0.0) - step(x < 0.0),
        Activation::Neg => -1.0,
        // Taken by the caller, in the value's own precision.
        Activation::Relu
        | Activation::LeakyRelu { .. }
        | Activation::Clip { .. }
        | Activation::Sigmoid
        | Activation::Identity
        | Activation::Dropout => 1.0,
    }
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

/// `(r - mean(r) - y * mean(r * y)) / sqrt(var + epsilon)` with the statistics of `x` and its normalised `y`, in f64.
/// `None` if the operands don't fit.
pub(super) fn mean_variance_normalization<T: Element>(
    op: &MeanVarianceNormalization,
    r: &ArrayD<T>,
    x: &ArrayD<T>,
) -> Option<ArrayD<T>> {
    let (y, factor) = standardise(op, x)?;
    let wide = r.mapv(Element::widen);
    let mean = mean_over(op, wide.clone());
    let slope = mean_over(op, &wide * &y);
    let centred = &wide - &mean.broadcast(y.raw_dim())? - &y * &slope.broadcast(y.raw_dim())?;
    Some((&centred * &factor.broadcast(y.raw_dim())?).mapv(T::narrow))
}

/// `y (r - sum_k y_k r_k)` for the softmax `y` of `x`, or `r - y sum_k r_k` for its logarithm, in f64.
pub(super) fn softmax<T: Element>(op: &Softmax, mut r: ArrayD<T>, x: &ArrayD<T>) -> ArrayD<T> {
    let y: ArrayD<f64> = forward_softmax(&Softmax { log: false, ..*op }, &x.mapv(Element::widen));
    for (mut r, y) in r.lanes_mut(Axis(op.axis)).into_iter().zip(y.lanes(Axis(op.axis))) {
        let sum: f64 = r.iter().zip(y).map(|(r, y)| r.widen() * if op.log { 1.0 } else { *y }).sum();
        r.zip_mut_with(&y, |r, y| {
            let wide = r.widen();
            *r = T::narrow(if op.log { wide - y * sum } else { y * (wide - sum) });
        });
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
        _ => Zip::from(&mut out).and(wide(0)?).and(wide(1)?).for_each(|r, x, y| {
            *r = *r * T::narrow(slope_of_two(arithmetic, wrt, x.widen(), y.widen()));
        }),
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

/// The derivative by operand `wrt` of an op of `x` and `y` that is no sum, product or quotient. Of equal operands of a
/// maximum, the first counts.
fn slope_of_two(arithmetic: Arithmetic, wrt: usize, x: f64, y: f64) -> f64 {
    let step = |yes: bool| f64::from(u8::from(yes));
    match (arithmetic, wrt) {
        (Arithmetic::Pow, 0) => y * x.powf(y - 1.0),
        (Arithmetic::Pow, _) => x.powf(y) * x.ln(),
        (Arithmetic::PRelu, 0) if x < 0.0 => y,
        (Arithmetic::PRelu, 0) => 1.0,
        (Arithmetic::PRelu, _) => x.min(0.0),
        (Arithmetic::Max, 0) => step(x >= y),
        (Arithmetic::Max, _) => step(x < y),
        (Arithmetic::Min, 0) => step(x <= y),
        (Arithmetic::Min, _) => step(x > y),
        _ => 1.0,
    }
}
