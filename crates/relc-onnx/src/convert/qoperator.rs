//! Operators on integers that contain a plain operator: its operands are dequantised, its result is quantised.

use relc_ir::Op;
use relc_ir::op::Arithmetic;

use super::linear::{convolution, fully_connected, matmul};
use super::quantize::{Along, Target, dequantised};
use super::{activations, elementwise, norm, pool, reduce};
use crate::call::{Call, Value};
use crate::error::Fault;

/// Refuses the layout `[N,H,W,C]`.
fn channels_first(call: &Call) -> Result<(), Fault> {
    if call.attributes.flag("channels_last")? {
        return Err(Fault::unsupported(
            "got channels_last=1, ONNX Runtime's layout for one kind of machine: save the optimised model with the \
             level extended, not all",
        ));
    }
    Ok(())
}

/// An operator of one operand: inputs 0 to 2 are the operand, 3 and 4 the result's scale and zero point.
fn unary(call: &mut Call, plain: fn(&mut Call) -> Result<Value, Fault>) -> Result<Value, Fault> {
    call.expect_inputs(4..=5)?;
    let target = Target::of(call, 3, 4)?;
    let x = dequantised(call, [0, 1, 2], Along::axis(1))?;
    call.set_inputs(vec![Some(x)]);
    let y = plain(call)?;
    target.quantised(call, y)
}

/// An operator of two operands: inputs 0 to 2 and 3 to 5, and 6 and 7 the result's scale and zero point.
fn binary(call: &mut Call, plain: fn(&mut Call) -> Result<Value, Fault>) -> Result<Value, Fault> {
    call.expect_inputs(7..=8)?;
    let target = Target::of(call, 6, 7)?;
    let a = dequantised(call, [0, 1, 2], Along::axis(-1))?;
    let b = dequantised(call, [3, 4, 5], Along::axis(-1))?;
    call.set_inputs(vec![Some(a), Some(b)]);
    let y = plain(call)?;
    target.quantised(call, y)
}

/// Input `i`, a bias whose scale is the product of the operands' scales and `factor`; `None` if it is absent.
fn bias(call: &mut Call, scales: [usize; 2], i: usize, factor: f64) -> Result<Option<Value>, Fault> {
    if !call.has(i) {
        return Ok(None);
    }
    let a = f64::from(call.floats(scales[0])?.single()?) * factor;
    let b = call.floats(scales[1])?;
    let b = if b.data().len() == 1 { b.reshape(Vec::new())? } else { b };
    let bias = call.ints(i)?;
    let budget = &mut call.builder.budget;
    let real = |q: crate::sym::Sym, b: f32| {
        let q = q.known().ok_or_else(|| Fault::invalid("got a bias that depends on the batch"))?;
        Ok((q as f64 * a * f64::from(b)) as f32)
    };
    Ok(Some(bias.zip(&b, budget, real)?.into()))
}

pub(crate) fn conv(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(8..=9)?;
    channels_first(call)?;
    let target = Target::of(call, 6, 7)?;
    let bias = bias(call, [1, 4], 8, 1.0)?;
    let x = dequantised(call, [0, 1, 2], Along::axis(1))?;
    let weight = dequantised(call, [3, 4, 5], Along::axis(0))?;
    call.set_inputs(vec![Some(x), Some(weight), bias]);
    let y = convolution(call)?;
    target.quantised(call, Value::Graph(y))
}

pub(crate) fn matrix_product(call: &mut Call) -> Result<Value, Fault> {
    binary(call, matmul)
}

/// `Gemm`; without a scale of the result, the result is one of floats.
pub(crate) fn gemm(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(6..=9)?;
    let target = if call.has(7) { Some(Target::of(call, 7, 8)?) } else { None };
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let rows = if call.attributes.flag("transB")? { 0 } else { 1 };
    let bias = bias(call, [1, 4], 6, alpha)?;
    let a = dequantised(call, [0, 1, 2], Along::axis(-1))?;
    let b = dequantised(call, [3, 4, 5], Along::axis(rows))?;
    call.set_inputs(vec![Some(a), Some(b), bias]);
    let y = Value::Graph(fully_connected(call)?);
    match target {
        Some(target) => target.quantised(call, y),
        None => Ok(y),
    }
}

pub(crate) fn add(call: &mut Call) -> Result<Value, Fault> {
    binary(call, elementwise::add)
}

pub(crate) fn mul(call: &mut Call) -> Result<Value, Fault> {
    binary(call, elementwise::mul)
}

pub(crate) fn sigmoid(call: &mut Call) -> Result<Value, Fault> {
    unary(call, activations::sigmoid)
}

pub(crate) fn leaky_relu(call: &mut Call) -> Result<Value, Fault> {
    unary(call, activations::leaky_relu)
}

pub(crate) fn global_average_pool(call: &mut Call) -> Result<Value, Fault> {
    channels_first(call)?;
    unary(call, reduce::global_average_pool)
}

pub(crate) fn average_pool(call: &mut Call) -> Result<Value, Fault> {
    channels_first(call)?;
    unary(call, pool::average_pool)
}

/// The attribute `opset` says which form of `Softmax` it is.
pub(crate) fn softmax(call: &mut Call) -> Result<Value, Fault> {
    let stated = call.attributes.int("opset")?;
    call.opset = stated.ok_or_else(|| Fault::invalid("the attribute \"opset\" is missing"))?;
    unary(call, norm::softmax)
}

/// Its axes are an attribute, as those of `ReduceMean` are before opset 18.
pub(crate) fn mean(call: &mut Call) -> Result<Value, Fault> {
    call.opset = call.opset.min(13);
    unary(call, reduce::mean)
}

/// Inputs 0 and 1 are the result's scale and zero point, then come three for each operand.
pub(crate) fn concat(call: &mut Call) -> Result<Value, Fault> {
    let count = call.arity().saturating_sub(2) / 3;
    if count == 0 || call.arity() != 2 + 3 * count {
        return Err(Fault::invalid(format!(
            "got {} inputs, expected a scale, a zero point and three for each operand",
            call.arity()
        )));
    }
    let target = Target::of(call, 0, 1)?;
    let operand =
        |i: usize, call: &mut Call| dequantised(call, [3 * i + 2, 3 * i + 3, 3 * i + 4], Along::axis(1));
    let operands = (0..count).map(|i| operand(i, call).map(Some)).collect::<Result<_, Fault>>()?;
    call.set_inputs(operands);
    let y = super::concat::concat(call)?;
    target.quantised(call, y)
}

/// `MatMul` of `a` and the integers `b`, and a bias.
pub(super) fn matmul_to_float(call: &mut Call, a: Value, b: Value, bias: usize) -> Result<Value, Fault> {
    let bias = if call.has(bias) { Some(call.floats(bias)?) } else { None };
    call.set_inputs(vec![Some(a), Some(b)]);
    let y = matmul(call)?;
    match (y, bias) {
        (Value::Graph(y), Some(bias)) => {
            let bias = call.new_weight("bias", &bias)?;
            call.emit(Op::Arithmetic(Arithmetic::Add), &[y, bias])
        }
        (y, _) => Ok(y),
    }
}

/// `MatMulInteger`, its scales and a bias.
pub(crate) fn matmul_integer_to_float(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(4..=7)?;
    let a = dequantised(call, [0, 2, 4], Along::axis(-1))?;
    let b = dequantised(call, [1, 3, 5], Along::axis(-1))?;
    matmul_to_float(call, a, b, 6)
}

/// `DynamicQuantizeLinear` and `MatMulIntegerToFloat`.
pub(crate) fn dynamic_matmul(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=5)?;
    let a = Value::Graph(call.data(0)?);
    let b = dequantised(call, [1, 2, 3], Along::axis(-1))?;
    matmul_to_float(call, a, b, 4)
}
