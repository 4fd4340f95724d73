//! Quantisation by what the data says, and layers of integers: `DynamicQuantizeLinear`, `ConvInteger`,
//! `MatMulInteger`, and the `Cast` and `Mul` behind them.
//!
//! The scale that the data decides is multiplied back behind the layer. Without the rounding it cancels, whatever it
//! is: what is left is the layer of floats with its dequantised weight.

use std::rc::Rc;

use relc_ir::Op;

use super::linear::read_convolution;
use super::quantize::{note, plus, times, zero_point};
use crate::call::{Call, Value};
use crate::constant::{Const, axis};
use crate::error::Fault;
use crate::quantised::{Accumulator, Integers, Layer, Scale, Step};
use crate::sym::Sym;
use crate::tensor::{Constant, is_float, type_limits, type_name};

/// The integers, their scale and their zero point.
pub(crate) fn dynamic_quantize(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    note(call);
    if let Value::Constant(Constant::Floats(x)) = call.value(0)? {
        return quantised_constant(call, &x);
    }
    let value = call.data(0)?;
    let of = call.builder.dynamic_scales;
    call.builder.dynamic_scales += 1;
    call.more = vec![Value::Scale(Scale { of, factor: Const::scalar(1.0) }), Value::ZeroPoint(of)];
    Ok(Value::Integers(Integers { value, step: Step::Dynamic(of), limits: (0.0, 255.0) }))
}

/// A weight that the graph computes, quantised as ONNX says: from 0 or the least value to 0 or the largest.
fn quantised_constant(call: &mut Call, x: &Const<f32>) -> Result<Value, Fault> {
    if x.data().iter().any(|v| !v.is_finite()) {
        return Err(Fault::invalid("got a constant that is not finite to quantise, expected numbers"));
    }
    let low = x.data().iter().fold(0.0, |low: f32, v| low.min(*v));
    let high = x.data().iter().fold(0.0, |high: f32, v| high.max(*v));
    let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
    let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
    let integer = |v: f32| Ok(Sym::from(((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) as i64));
    let integers = x.map(&mut call.builder.budget, integer)?;
    call.more = vec![Const::scalar(scale).into(), Const::scalar(Sym::from(zero as i64)).into()];
    Ok(integers.into())
}

/// Input 0, integers with the zero point of input 2, as floats, and their scale.
fn integers(call: &mut Call) -> Result<(Value, Step), Fault> {
    note(call);
    let Value::Integers(x) = call.value(0)? else {
        return Err(Fault::unsupported(
            "input 0 is no tensor of integers that depends on the model's input, expected one",
        ));
    };
    if let Step::Dynamic(of) = x.step {
        let own = call.has(2) && matches!(call.value(2)?, Value::ZeroPoint(zero) if zero == of);
        return match own {
            true => Ok((Value::Graph(x.value), x.step)),
            false => Err(Fault::unsupported("got another zero point than that of input 0, expected its own")),
        };
    }
    let stated = zero_point(call, 2)?.single()?;
    let Step::Fixed { scale, zero } = x.step else { return Err(Fault::unsupported("got no scale")) };
    let value = plus(call, x.value, &Const::scalar((zero - stated) * scale))?;
    Ok((Value::Graph(value), Step::Fixed { scale, zero: stated }))
}

/// Input 1, a constant of integers, less its zero point, input 3, which may be one along `along`.
fn weight(call: &mut Call, along: i64) -> Result<Const<f32>, Fault> {
    let weight = call.ints(1)?;
    let mut zero = zero_point(call, 3)?;
    if zero.data().len() > 1 {
        let mut shape = vec![1; weight.dims().len()];
        shape[axis(along, weight.dims().len())?] = zero.data().len();
        zero = zero.reshape(shape)?;
    } else {
        zero = zero.reshape(Vec::new())?;
    }
    weight.zip(&zero, &mut call.builder.budget, |w, z| Ok(super::quantize::to_float(w)? - z))
}

pub(crate) fn conv_integer(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=4)?;
    let (x, step) = integers(call)?;
    let weight = weight(call, 0)?;
    call.set_inputs(vec![Some(x), Some(weight.into())]);
    let layer = read_convolution(call)?;
    let sums = Accumulator { layer: Layer::Conv(layer.op), x: layer.x, weight: layer.weight, step };
    Ok(Value::Accumulator(Rc::new(sums)))
}

pub(crate) fn matmul_integer(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=4)?;
    let (x, step) = integers(call)?;
    let weight = weight(call, -1)?;
    call.set_inputs(vec![Some(x)]);
    let sums = Accumulator { layer: Layer::MatMul, x: call.data(0)?, weight, step };
    Ok(Value::Accumulator(Rc::new(sums)))
}

impl Accumulator {
    /// A factor of the sums in the shape of a factor of the weight, if it has one value per output channel.
    fn folded(&self, call: &Call, factor: &Const<f32>) -> Option<Const<f32>> {
        let (rank, axis, shape) = match self.layer {
            Layer::Conv(_) => {
                let mut shape = vec![1; self.weight.dims().len()];
                *shape.first_mut()? = *self.weight.dims().first()?;
                (shape.len(), 1, shape)
            }
            Layer::MatMul => {
                let rank = call.ty(self.x).rank();
                (rank, rank.checked_sub(1)?, vec![*self.weight.dims().last()?])
            }
        };
        if factor.data().len() == 1 {
            return factor.reshape(Vec::new()).ok();
        }
        let missing = rank.checked_sub(factor.dims().len())?;
        let long = factor.dims().iter().position(|d| *d != 1)?;
        if missing + long == axis { factor.reshape(shape).ok() } else { None }
    }

    fn scaled(&self, call: &mut Call, factor: &Const<f32>) -> Result<Const<f32>, Fault> {
        self.weight.zip(factor, &mut call.builder.budget, |w, f| Ok(w * f))
    }
}

/// The sums times a scale: of the integers of the input, times a factor.
fn scaled(call: &mut Call, sums: &Accumulator, factor: &Const<f32>) -> Result<Value, Fault> {
    let folded = sums.folded(call, factor);
    let weight = match &folded {
        Some(factor) => sums.scaled(call, factor)?,
        None => sums.weight.clone(),
    };
    let weight = call.new_weight("weight", &weight)?;
    let y = match &sums.layer {
        Layer::Conv(op) => call.emit(Op::Conv(*op), &[sums.x, weight])?,
        Layer::MatMul => call.emit(Op::MatMul, &[sums.x, weight])?,
    };
    match (y, folded) {
        (Value::Graph(y), None) => times(call, y, factor).map(Value::Graph),
        (y, _) => Ok(y),
    }
}

/// The sums of integers of a constant scale, times the constant `factor`.
pub(super) fn finished(call: &mut Call, sums: &Accumulator, factor: &Const<f32>) -> Result<Value, Fault> {
    let Step::Fixed { scale, .. } = sums.step else {
        return Err(Fault::unsupported("got sums whose scale depends on the data with a constant scale"));
    };
    let factor = factor.map(&mut call.builder.budget, |f| Ok((f64::from(f) / f64::from(scale)) as f32))?;
    scaled(call, sums, &factor)
}

/// The product of the two inputs, if it is one of scales or of a layer of integers with its scale.
pub(super) fn product(call: &mut Call) -> Result<Option<Value>, Fault> {
    let (a, b) = (call.value(0)?, call.value(1)?);
    // The scale, or the constant, second.
    let (a, b) = match (&a, &b) {
        (Value::Constant(_), Value::Scale(_) | Value::Accumulator(_))
        | (Value::Scale(_), Value::Accumulator(_)) => (b, a),
        _ => (a, b),
    };
    Ok(match (a, b) {
        (Value::Scale(scale), Value::Constant(Constant::Floats(c))) => {
            let factor = scale.factor.zip(&c, &mut call.builder.budget, |x, y| Ok(x * y))?;
            Some(Value::Scale(Scale { of: scale.of, factor }))
        }
        (Value::Accumulator(sums), Value::Scale(scale)) if sums.step == Step::Dynamic(scale.of) => {
            Some(scaled(call, &sums, &scale.factor)?)
        }
        (Value::Accumulator(sums), Value::Constant(Constant::Floats(c))) => match sums.step {
            Step::Fixed { .. } => Some(finished(call, &sums, &c)?),
            // The data's own scale follows.
            Step::Dynamic(_) => match sums.folded(call, &c) {
                Some(factor) => {
                    let weight = sums.scaled(call, &factor)?;
                    let sums = Accumulator { weight, ..(*sums).clone() };
                    Some(Value::Accumulator(Rc::new(sums)))
                }
                None => None,
            },
        },
        _ => None,
    })
}

/// Input 0 cast to the element type `to`, if it is of integers that depend on the model's input.
pub(super) fn cast(call: &mut Call, to: i32) -> Result<Option<Value>, Fault> {
    let holds = |limits: (f64, f64)| {
        let wider = type_limits(to).is_some_and(|(low, high)| low <= limits.0 && high >= limits.1);
        is_float(to) || wider
    };
    let refuse = |limits: (f64, f64)| {
        Fault::unsupported(format!(
            "got a cast of integers from {} to {} to {}, expected a type that holds them",
            limits.0,
            limits.1,
            type_name(to)
        ))
    };
    match call.value(0)? {
        Value::Integers(x) if !holds(x.limits) => Err(refuse(x.limits)),
        Value::Integers(x) if is_float(to) => {
            let Step::Fixed { scale, zero } = x.step else {
                return Err(Fault::unsupported(
                    "got a cast of integers whose scale depends on the data, expected DequantizeLinear or a layer of integers",
                ));
            };
            let scaled = times(call, x.value, &Const::scalar(1.0 / scale))?;
            plus(call, scaled, &Const::scalar(zero)).map(|y| Some(Value::Graph(y)))
        }
        Value::Integers(x) => {
            let limits = type_limits(to).unwrap_or(x.limits);
            Ok(Some(Value::Integers(Integers { limits, ..x })))
        }
        sums @ Value::Accumulator(_) => {
            // The sums of a layer have 32 bits.
            let limits = (f64::from(i32::MIN), f64::from(i32::MAX));
            if holds(limits) { Ok(Some(sums)) } else { Err(refuse(limits)) }
        }
        scale @ Value::Scale(_) if is_float(to) => Ok(Some(scale)),
        _ => Ok(None),
    }
}
