//! `Where`: a choice by a constant condition.

use relc_ir::op::{Activation, Arithmetic, Expand};
use relc_ir::{Op, TensorType, ValueId};

use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

pub(crate) fn where_(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=3)?;
    let condition = call.ints(0)?;
    match (call.value(1)?, call.value(2)?) {
        (Value::Constant(Constant::Ints(a)), Value::Constant(Constant::Ints(b))) => {
            Ok(select(call, &condition, &a, &b)?.into())
        }
        (Value::Constant(Constant::Floats(a)), Value::Constant(Constant::Floats(b))) => {
            Ok(select(call, &condition, &a, &b)?.into())
        }
        (Value::Constant(Constant::Ints(_)), _) | (_, Value::Constant(Constant::Ints(_))) => {
            Err(Fault::unsupported("got integers beside floats, expected operands of one kind"))
        }
        _ => of_tensors(call, &condition),
    }
}

fn select<T: Copy>(
    call: &mut Call,
    condition: &Const<Sym>,
    a: &Const<T>,
    b: &Const<T>,
) -> Result<Const<T>, Fault> {
    let budget = &mut call.builder.budget;
    let pairs = a.zip(b, budget, |x, y| Ok((x, y)))?;
    condition.zip(&pairs, budget, |c, (x, y)| Ok(if c == Sym::from(0) { y } else { x }))
}

/// A choice between tensors: the one that is chosen everywhere, or the sum of both, each with zeros where the other is
/// chosen.
fn of_tensors(call: &mut Call, condition: &Const<Sym>) -> Result<Value, Fault> {
    let out = broadcast(call, condition)?;
    let chosen = |c: &Sym| *c != Sym::from(0);
    let all = |yes: bool| condition.data().iter().all(|c| chosen(c) == yes);
    for (i, yes) in [(1, true), (2, false)] {
        if all(yes) {
            let value = call.operand(i)?;
            let value = widened(call, value, &out)?;
            return call.emit(Op::Activation(Activation::Identity), &[value]);
        }
    }
    let mut parts = Vec::new();
    for (i, yes) in [(1, true), (2, false)] {
        if let Value::Constant(Constant::Floats(c)) = call.value(i)? {
            let c = call.of_one_sample(&c)?.unwrap_or(c);
            let pick = |s: Sym, v: f32| Ok(if chosen(&s) == yes { v } else { 0.0 });
            let part = condition.zip(&c, &mut call.builder.budget, pick)?;
            parts.push(call.new_weight("chosen", &part)?);
            continue;
        }
        let value = call.data(i)?;
        let value = widened(call, value, &out)?;
        let one = |s: Sym| Ok(if chosen(&s) == yes { 1.0 } else { 0.0 });
        let mask = condition.map(&mut call.builder.budget, one)?;
        let mask = call.new_weight("mask", &mask)?;
        parts.push(call.node(Op::Arithmetic(Arithmetic::Mul), &[value, mask])?);
    }
    call.emit(Op::Arithmetic(Arithmetic::Add), &parts)
}

/// The type that the three inputs broadcast to.
fn broadcast(call: &mut Call, condition: &Const<Sym>) -> Result<TensorType, Fault> {
    let (a, b) = (call.operand(1)?, call.operand(2)?);
    let condition = TensorType::new(condition.dims().iter().copied());
    let both = Arithmetic::Add.infer(&[&call.ty(a), &call.ty(b)]).map_err(Fault::invalid)?;
    Arithmetic::Add.infer(&[&condition, &both]).map_err(Fault::invalid)
}

fn widened(call: &mut Call, value: ValueId, out: &TensorType) -> Result<ValueId, Fault> {
    if call.ty(value) == *out || call.builder.graph.is_weight(value) {
        return Ok(value);
    }
    call.node(Op::Expand(Expand { shape: out.dims().to_vec() }), &[value])
}
