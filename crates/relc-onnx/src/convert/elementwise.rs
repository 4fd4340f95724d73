//! Arithmetic on tensors, on constants and on shapes; what changes nothing.

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::{Op, ValueId};

use super::dynamic;
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

pub(crate) fn identity(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    call.keep_limits();
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

/// An operator of two operands whose constants may be of different kinds: `Pow` takes integers as exponents.
pub(crate) fn pow(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let floats = |call: &mut Call, i: usize| match call.value(i)? {
        Value::Constant(Constant::Ints(c)) => {
            c.map(&mut call.builder.budget, |v| v.known().map(|v| v as f32).ok_or_else(|| batch_power(v)))
        }
        _ => call.floats(i),
    };
    match (call.value(0)?, call.value(1)?) {
        (Value::Constant(_), Value::Constant(_)) => {
            let (a, b) = (floats(call, 0)?, floats(call, 1)?);
            let power = |x: f32, y: f32| Ok(f64::from(x).powf(f64::from(y)) as f32);
            Ok(a.zip(&b, &mut call.builder.budget, power)?.into())
        }
        (Value::Graph(x), Value::Constant(_)) => {
            let exponent = floats(call, 1)?;
            let exponent = call.new_weight("exponent", &exponent)?;
            call.emit(Op::Arithmetic(Arithmetic::Pow), &[x, exponent])
        }
        _ => {
            let operands = [call.operand(0)?, call.operand(1)?];
            call.emit(Op::Arithmetic(Arithmetic::Pow), &operands)
        }
    }
}

fn batch_power(v: Sym) -> Fault {
    Fault::unsupported(format!("got the power of {v}, expected a number"))
}

/// Input 1 is the slope of negative values.
pub(crate) fn prelu(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let operands = [call.data(0)?, call.operand(1)?];
    call.emit(Op::Arithmetic(Arithmetic::PRelu), &operands)
}

/// The largest or smallest of any number of operands.
fn extremum(call: &mut Call, op: Arithmetic) -> Result<Value, Fault> {
    call.expect_inputs(1..=usize::MAX)?;
    let largest = op == Arithmetic::Max;
    let values: Vec<Value> = (0..call.arity()).map(|i| call.value(i)).collect::<Result<_, _>>()?;
    if values.iter().all(|v| matches!(v, Value::Constant(Constant::Ints(_)))) {
        let mut best = call.ints(0)?;
        for i in 1..call.arity() {
            let next = call.ints(i)?;
            let pick = |a: Sym, b: Sym| Ok(if a.is_at_least(b)? == largest { a } else { b });
            best = best.zip(&next, &mut call.builder.budget, pick)?;
        }
        return Ok(best.into());
    }
    if values.iter().all(|v| matches!(v, Value::Constant(_))) {
        let mut best = call.floats(0)?;
        for i in 1..call.arity() {
            let next = call.floats(i)?;
            let pick = |a: f32, b: f32| Ok(if largest { a.max(b) } else { a.min(b) });
            best = best.zip(&next, &mut call.builder.budget, pick)?;
        }
        return Ok(best.into());
    }
    let mut best = call.operand(0)?;
    for i in 1..call.arity() {
        let next = call.operand(i)?;
        best = call.node(Op::Arithmetic(op), &[best, next])?;
    }
    Ok(Value::Graph(best))
}

pub(crate) fn max(call: &mut Call) -> Result<Value, Fault> {
    extremum(call, Arithmetic::Max)
}

pub(crate) fn min(call: &mut Call) -> Result<Value, Fault> {
    extremum(call, Arithmetic::Min)
}

/// The mean of any number of operands.
pub(crate) fn mean(call: &mut Call) -> Result<Value, Fault> {
    let total = sum(call)?;
    let count = call.arity() as f32;
    match total {
        Value::Graph(total) if call.arity() > 1 => {
            let count = call.new_weight("count", &Const::scalar(count))?;
            call.emit(Op::Arithmetic(Arithmetic::Div), &[total, count])
        }
        Value::Constant(Constant::Floats(c)) => {
            Ok(c.map(&mut call.builder.budget, |v| Ok(v / count))?.into())
        }
        total => Ok(total),
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
    call.expect_inputs(2..=2)?;
    if let Some(product) = dynamic::product(call)? {
        return Ok(product);
    }
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
