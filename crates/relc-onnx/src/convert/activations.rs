//! Elementwise functions of one operand, on tensors and, where weights are computed with them, on constants.

use relc_ir::Op;
use relc_ir::op::Activation;

use crate::call::{Call, Value};
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// The function on a tensor; `fold` computes it on a constant.
fn unary(call: &mut Call, op: Activation, fold: fn(f64) -> f64) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    match call.value(0)? {
        Value::Constant(Constant::Floats(c)) => {
            Ok(c.map(&mut call.builder.budget, |v| Ok(fold(f64::from(v)) as f32))?.into())
        }
        _ => {
            let x = call.data(0)?;
            call.emit(Op::Activation(op), &[x])
        }
    }
}

/// The function on a tensor only.
fn activation(call: &mut Call, op: Activation) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    call.emit(Op::Activation(op), &[x])
}

/// A real attribute, or ONNX's default, which is an f32.
fn float(call: &Call, name: &str, default: f32) -> Result<f64, Fault> {
    Ok(call.attributes.float(name)?.unwrap_or(f64::from(default)))
}

pub(crate) fn relu(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Relu, |v| v.max(0.0))
}

pub(crate) fn sigmoid(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Sigmoid, |v| 1.0 / (1.0 + (-v).exp()))
}

pub(crate) fn tanh(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Tanh, f64::tanh)
}

pub(crate) fn exp(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Exp, f64::exp)
}

pub(crate) fn log(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Log, f64::ln)
}

pub(crate) fn sqrt(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Sqrt, f64::sqrt)
}

pub(crate) fn reciprocal(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Reciprocal, f64::recip)
}

pub(crate) fn abs(call: &mut Call) -> Result<Value, Fault> {
    unary(call, Activation::Abs, f64::abs)
}

/// Also of integers: pads that are computed are negated so.
pub(crate) fn neg(call: &mut Call) -> Result<Value, Fault> {
    if let Value::Constant(Constant::Ints(c)) = call.value(0)? {
        return Ok(c.map(&mut call.builder.budget, |v| Sym::from(0).sub(v))?.into());
    }
    unary(call, Activation::Neg, |v| -v)
}

/// Rounding exists in shape arithmetic and of weights only.
fn rounded(call: &mut Call, round: fn(f64) -> f64) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.floats(0)?;
    Ok(x.map(&mut call.builder.budget, |v| Ok(round(f64::from(v)) as f32))?.into())
}

pub(crate) fn floor(call: &mut Call) -> Result<Value, Fault> {
    rounded(call, f64::floor)
}

pub(crate) fn ceil(call: &mut Call) -> Result<Value, Fault> {
    rounded(call, f64::ceil)
}

pub(crate) fn leaky_relu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 0.01)?;
    activation(call, Activation::LeakyRelu { alpha })
}

pub(crate) fn thresholded_relu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 1.0)?;
    activation(call, Activation::ThresholdedRelu { alpha })
}

pub(crate) fn elu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 1.0)?;
    activation(call, Activation::Elu { alpha })
}

pub(crate) fn celu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 1.0)?;
    if alpha == 0.0 {
        return Err(Fault::invalid("got alpha=0, expected another: the input is divided by it"));
    }
    activation(call, Activation::Celu { alpha })
}

pub(crate) fn selu(call: &mut Call) -> Result<Value, Fault> {
    let (alpha, gamma) = (float(call, "alpha", 1.673_263_2)?, float(call, "gamma", 1.050_701)?);
    activation(call, Activation::Selu { alpha, gamma })
}

pub(crate) fn hard_sigmoid(call: &mut Call) -> Result<Value, Fault> {
    let (alpha, beta) = (float(call, "alpha", 0.2)?, float(call, "beta", 0.5)?);
    activation(call, Activation::HardSigmoid { alpha, beta })
}

pub(crate) fn hard_swish(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::HardSwish)
}

pub(crate) fn swish(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 1.0)?;
    activation(call, Activation::Swish { alpha })
}

/// ONNX Runtime's `QuickGelu` is a swish of another slope.
pub(crate) fn quick_gelu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = float(call, "alpha", 1.702)?;
    activation(call, Activation::Swish { alpha })
}

pub(crate) fn gelu(call: &mut Call) -> Result<Value, Fault> {
    let tanh = match call.attributes.string("approximate")?.unwrap_or("none") {
        "none" => false,
        "tanh" => true,
        got => return Err(Fault::invalid(format!("got approximate={got}, expected none or tanh"))),
    };
    activation(call, Activation::Gelu { tanh })
}

pub(crate) fn mish(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Mish)
}

pub(crate) fn softplus(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Softplus)
}

pub(crate) fn softsign(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Softsign)
}

pub(crate) fn erf(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Erf)
}

/// Before opset 11 the bounds are attributes, then inputs; absent ones don't bound.
pub(crate) fn clip(call: &mut Call) -> Result<Value, Fault> {
    let (min, max) = if call.opset < 11 {
        call.expect_inputs(1..=1)?;
        (call.attributes.real("min")?, call.attributes.real("max")?)
    } else {
        call.expect_inputs(1..=3)?;
        (bound(call, 1)?, bound(call, 2)?)
    };
    let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    // Also refuses bounds that are no numbers.
    if min.partial_cmp(&max).is_none_or(|o| o.is_gt()) {
        return Err(Fault::unsupported(format!("got min={min} and max={max}, expected min <= max")));
    }
    if let Value::Constant(Constant::Floats(c)) = call.value(0)? {
        let clip = |v: f32| Ok(f64::from(v).clamp(min, max) as f32);
        return Ok(c.map(&mut call.builder.budget, clip)?.into());
    }
    let x = call.data(0)?;
    call.emit(Op::Activation(Activation::Clip { min, max }), &[x])
}

fn bound(call: &Call, i: usize) -> Result<Option<f64>, Fault> {
    if !call.has(i) {
        return Ok(None);
    }
    Ok(Some(f64::from(call.floats(i)?.single()?)))
}

/// An activation that a fused operator applies to its result: `activation`, with `parameters`.
pub(crate) fn named(name: &str, parameters: &[f32]) -> Result<Activation, Fault> {
    let parameter = |i: usize, default: f32| f64::from(parameters.get(i).copied().unwrap_or(default));
    Ok(match name {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "LeakyRelu" => Activation::LeakyRelu { alpha: parameter(0, 0.01) },
        "Clip" => Activation::Clip { min: parameter(0, f32::MIN), max: parameter(1, f32::MAX) },
        "HardSigmoid" => Activation::HardSigmoid { alpha: parameter(0, 0.2), beta: parameter(1, 0.5) },
        "HardSwish" => Activation::HardSwish,
        got => return Err(Fault::unsupported(format!("got activation={got}, expected one that relc knows"))),
    })
}
