//! Elementwise functions of one operand.

use relc_ir::op::Activation;

use crate::element::Element;

/// An activation of one number; those that need more than a comparison or a product are computed in f64.
pub fn activation<T: Element>(op: &Activation, x: T) -> T {
    match *op {
        Activation::Relu => x.max(T::zero()),
        Activation::LeakyRelu { alpha } if x < T::zero() => T::narrow(alpha) * x,
        Activation::LeakyRelu { .. } | Activation::Identity | Activation::Dropout => x,
        Activation::Clip { min, max } => x.max(T::narrow(min)).min(T::narrow(max)),
        Activation::Sigmoid => (T::one() + (-x).exp()).recip(),
        Activation::Neg => -x,
        Activation::Abs => x.abs(),
        Activation::Reciprocal => x.recip(),
        Activation::Sqrt => x.sqrt(),
        Activation::Exp => x.exp(),
        Activation::Log => x.ln(),
        Activation::Tanh => x.tanh(),
        ref wide => T::narrow(in_f64(wide, x.widen())),
    }
}

fn in_f64(op: &Activation, x: f64) -> f64 {
    let elu = |alpha: f64, x: f64| if x > 0.0 { x } else { alpha * x.exp_m1() };
    match *op {
        Activation::HardSigmoid { alpha, beta } => hard_sigmoid(alpha, beta, x),
        Activation::HardSwish => x * hard_sigmoid(1.0 / 6.0, 0.5, x),
        Activation::Swish { alpha } => x / (1.0 + (-alpha * x).exp()),
        Activation::Gelu { tanh: false } => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::Gelu { tanh: true } => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (scale * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::Mish => x * softplus(x).tanh(),
        Activation::Elu { alpha } => elu(alpha, x),
        Activation::Celu { alpha } if x <= 0.0 => alpha * (x / alpha).exp_m1(),
        Activation::Celu { .. } => x,
        Activation::Selu { alpha, gamma } => gamma * elu(alpha, x),
        Activation::ThresholdedRelu { alpha } => {
            if x > alpha {
                x
            } else {
                0.0
            }
        }
        Activation::Softplus => softplus(x),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Erf => libm::erf(x),
        // Taken by the caller, in the value's own precision.
        Activation::Relu
        | Activation::LeakyRelu { .. }
        | Activation::Identity
        | Activation::Dropout
        | Activation::Clip { .. }
        | Activation::Sigmoid
        | Activation::Neg
        | Activation::Abs
        | Activation::Reciprocal
        | Activation::Sqrt
        | Activation::Exp
        | Activation::Log
        | Activation::Tanh => x,
    }
}

fn hard_sigmoid(alpha: f64, beta: f64, x: f64) -> f64 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
