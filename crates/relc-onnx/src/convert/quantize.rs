//! Quantised models: weights are dequantised, and between `QuantizeLinear` and `DequantizeLinear` a tensor stays a
//! float, clipped to what the integers can hold but not rounded.

use relc_ir::Op;
use relc_ir::op::Activation;

use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

const NOTE: &str = "the model is quantised: its weights are dequantised, and activations are clipped to the range of \
                    their integers but not rounded";

/// A parameter of one value per tensor, or along `axis` of a tensor of shape `dims`.
fn along(parameter: &Const<f32>, axis: usize, dims: &[usize]) -> Result<Const<f32>, Fault> {
    if parameter.data().len() == 1 {
        return parameter.reshape(Vec::new());
    }
    let mut shape = vec![1; dims.len()];
    match shape.get_mut(axis) {
        Some(slot) if dims.get(axis) == Some(&parameter.data().len()) => *slot = parameter.data().len(),
        _ => {
            return Err(Fault::unsupported(format!(
                "got a scale of shape {:?} for a tensor of shape {dims:?}, expected one value, or one along the axis {axis}",
                parameter.dims()
            )));
        }
    }
    parameter.reshape(shape)
}

/// Input 2 as floats; 0 if it is absent.
fn zero_point(call: &mut Call) -> Result<Const<f32>, Fault> {
    if !call.has(2) {
        return Ok(Const::scalar(0.0));
    }
    let zero = call.ints(2)?;
    zero.map(&mut call.builder.budget, to_float)
}

fn to_float(v: Sym) -> Result<f32, Fault> {
    v.known()
        .map(|v| v as f32)
        .ok_or_else(|| Fault::invalid("got a quantised value that depends on the batch"))
}

pub(crate) fn dequantize(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    call.attributes.ignore(&["output_dtype"]);
    if call.attributes.int("block_size")?.unwrap_or(0) != 0 {
        return Err(Fault::unsupported("got a block_size, expected one scale per tensor or axis"));
    }
    let stated = call.attributes.int("axis")?.unwrap_or(1);
    call.note(NOTE.into());
    let x = match call.value(0)? {
        Value::Constant(Constant::Ints(x)) => x,
        // QuantizeLinear left the tensor a float.
        Value::Graph(x) => return Ok(Value::Graph(x)),
        _ => return Err(Fault::unsupported("got no integers to dequantise")),
    };
    let axis =
        if x.dims().is_empty() { 0 } else { crate::constant::axis(stated, x.dims().len()).unwrap_or(0) };
    let scale = along(&call.floats(1)?, axis, x.dims())?;
    let zero = along(&zero_point(call)?, axis, x.dims())?;
    let budget = &mut call.builder.budget;
    let x = x.map(budget, to_float)?;
    let shifted = x.zip(&zero, budget, |x, z| Ok(x - z))?;
    Ok(shifted.zip(&scale, budget, |x, s| Ok(x * s))?.into())
}

pub(crate) fn quantize(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    call.attributes.ignore(&["axis", "saturate", "output_dtype", "precision"]);
    if call.attributes.int("block_size")?.unwrap_or(0) != 0 {
        return Err(Fault::unsupported("got a block_size, expected one scale per tensor"));
    }
    call.note(NOTE.into());
    let x = call.data(0)?;
    let (scale, zero) = (call.floats(1)?, zero_point(call)?);
    let [scale] = **scale.data() else {
        return Err(Fault::unsupported("got a scale per axis for an activation, expected one"));
    };
    let zero = f64::from(zero.single()?);
    let (low, high) = call.integer_limits(2).unwrap_or((0.0, 255.0));
    let scale = f64::from(scale);
    let (min, max) = ((low - zero) * scale, (high - zero) * scale);
    if min.partial_cmp(&max).is_none_or(|o| o.is_gt()) {
        return Err(Fault::invalid(format!("got a scale of {scale}, expected a positive one")));
    }
    call.emit(Op::Activation(Activation::Clip { min, max }), &[x])
}
