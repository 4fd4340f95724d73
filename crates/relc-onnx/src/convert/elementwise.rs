//! Activations and arithmetic, on tensors, on constants and on shapes.

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::{Op, ValueId};

use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

fn activation(call: &mut Call, activation: Activation) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    call.emit(Op::Activation(activation), &[x])
}

pub(crate) fn relu(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Relu)
}

pub(crate) fn sigmoid(call: &mut Call) -> Result<Value, Fault> {
    activation(call, Activation::Sigmoid)
}

pub(crate) fn leaky_relu(call: &mut Call) -> Result<Value, Fault> {
    let alpha = call.attributes.float("alpha")?.unwrap_or(f64::from(0.01f32));
    activation(call, Activation::LeakyRelu { alpha })
}

/// Before opset 11 the bounds are attributes, then inputs; absent ones don't bound.
pub(crate) fn clip(call: &mut Call) -> Result<Value, Fault> {
    let (min, max) = if call.opset < 11 {
        call.expect_inputs(1..=1)?;
        (call.attributes.float("min")?, call.attributes.float("max")?)
    } else {
        call.expect_inputs(1..=3)?;
        (bound(call, 1)?, bound(call, 2)?)
    };
    let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    // Also refuses bounds that are no numbers.
    if min.partial_cmp(&max).is_none_or(|o| o.is_gt()) {
        return Err(Fault::unsupported(format!("got min={min} and max={max}, expected min <= max")));
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

pub(crate) fn identity(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    unchanged(call, Activation::Identity)
}

/// Input 0 as it is; constants pass without a node.
pub(super) fn unchanged(call: &mut Call, as_op: Activation) -> Result<Value, Fault> {
    match call.value(0)? {
        Value::Graph(x) => call.emit(Op::Activation(as_op), &[x]),
        value => Ok(value),
    }
}

pub(crate) fn dropout(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=if call.opset >= 12 { 3 } else { 1 })?;
    call.attributes.ignore(if call.opset >= 12 { &["seed"] } else { &["ratio"] });
    if call.has(2) && call.ints(2)?.single()? != Sym::from(0) {
        return Err(Fault::unsupported("got training_mode=true: export the model in evaluation mode"));
    }
    unchanged(call, Activation::Dropout)
}

/// An operator on two operands, in all its forms.
struct Binary {
    op: Arithmetic,
    floats: fn(f32, f32) -> f32,
    ints: fn(Sym, Sym) -> Result<Sym, Fault>,
}

fn binary(call: &mut Call, binary: &Binary) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    // Floats are finite once they are weights; a division by zero is found there.
    match (call.value(0)?, call.value(1)?) {
        (Value::Constant(Constant::Ints(a)), Value::Constant(Constant::Ints(b))) => {
            Ok(a.zip(&b, &mut call.builder.budget, binary.ints)?.into())
        }
        (Value::Constant(Constant::Floats(a)), Value::Constant(Constant::Floats(b))) => {
            let f = binary.floats;
            Ok(a.zip(&b, &mut call.builder.budget, |x, y| Ok(f(x, y)))?.into())
        }
        _ => {
            let operands = [call.operand(0)?, call.operand(1)?];
            call.emit(Op::Arithmetic(binary.op), &operands)
        }
    }
}

const ADD: Binary = Binary { op: Arithmetic::Add, floats: |x, y| x + y, ints: Sym::add };

pub(crate) fn add(call: &mut Call) -> Result<Value, Fault> {
    binary(call, &ADD)
}

pub(crate) fn sub(call: &mut Call) -> Result<Value, Fault> {
    binary(call, &Binary { op: Arithmetic::Sub, floats: |x, y| x - y, ints: Sym::sub })
}

pub(crate) fn mul(call: &mut Call) -> Result<Value, Fault> {
    binary(call, &Binary { op: Arithmetic::Mul, floats: |x, y| x * y, ints: Sym::mul })
}

pub(crate) fn div(call: &mut Call) -> Result<Value, Fault> {
    binary(call, &Binary { op: Arithmetic::Div, floats: |x, y| x / y, ints: Sym::div })
}

/// An `Add` of any number of operands.
pub(crate) fn sum(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=usize::MAX)?;
    match call.arity() {
        1 => return unchanged(call, Activation::Identity),
        2 => return binary(call, &ADD),
        _ => {}
    }
    let values: Vec<Value> = (0..call.arity()).map(|i| call.value(i)).collect::<Result<_, _>>()?;
    if values.iter().all(|v| matches!(v, Value::Constant(_))) {
        let mut total: Const<f32> = call.floats(0)?;
        for i in 1..call.arity() {
            let next = call.floats(i)?;
            total = total.zip(&next, &mut call.builder.budget, |x, y| Ok(x + y))?;
        }
        return Ok(total.into());
    }
    let operands: Vec<ValueId> = (0..call.arity()).map(|i| call.operand(i)).collect::<Result<_, _>>()?;
    call.emit(Op::Arithmetic(Arithmetic::Add), &operands)
}
