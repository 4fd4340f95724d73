//! Operators that only make or combine constants: `Constant`, `Shape`, `Cast`, `Where`, ...

use relc_ir::op::{Activation, Expand};
use relc_ir::{Dim, Op};

use super::dynamic;
use super::elementwise::unchanged;
use super::folded::{self, View};
use super::shaping::{dims, of_any_sample};
use crate::call::{Call, Value};
use crate::constant::{Const, MAX_RANK};
use crate::error::Fault;
use crate::proto::tensor_proto::DataType;
use crate::sym::Sym;
use crate::tensor::{Constant, data_type, is_float, type_name};

pub(crate) fn constant(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(0..=0)?;
    let attributes = &call.attributes;
    if let Some(name) = ["sparse_value", "value_string", "value_strings"].iter().find(|n| attributes.has(n)) {
        return Err(Fault::unsupported(format!("got the attribute \"{name}\"")));
    }
    if let Some(v) = attributes.float("value_float")? {
        return Ok(Const::scalar(v as f32).into());
    }
    if let Some(v) = attributes.floats("value_floats")? {
        return Ok(Const::vector(v.to_vec()).into());
    }
    if let Some(v) = attributes.int("value_int")? {
        return Ok(Const::scalar(Sym::from(v)).into());
    }
    if let Some(v) = attributes.ints("value_ints")? {
        return Ok(Const::vector(v.iter().copied().map(Sym::from).collect()).into());
    }
    match attributes.tensor("value")? {
        Some(tensor) => Ok(Value::Constant(call.constant(tensor)?)),
        None => Err(Fault::invalid("got no value, expected one of the attributes value and value_*")),
    }
}

/// The dimensions that a shape vector gives.
fn shape_of(shape: &Const<Sym>) -> Result<Vec<Dim>, Fault> {
    let text = || shape.data().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if shape.dims().len() != 1 || shape.data().len() > MAX_RANK {
        return Err(Fault::invalid(format!(
            "got a shape of shape {:?}, expected a vector of at most {MAX_RANK} elements",
            shape.dims()
        )));
    }
    let dims: Option<Vec<Dim>> = shape.data().iter().map(|s| s.dim()).collect();
    dims.ok_or_else(|| Fault::unsupported(format!("got the shape [{}], expected sizes", text())))
}

pub(crate) fn constant_of_shape(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let shape = of_any_sample(shape_of(&call.ints(0)?)?)?;
    let value = match call.attributes.tensor("value")? {
        Some(tensor) => call.constant(tensor)?,
        None => Constant::Floats(Const::scalar(0.0)),
    };
    let budget = &mut call.builder.budget;
    Ok(match value {
        Constant::Floats(c) => Const::scalar(c.single()?).expand(shape, budget)?.into(),
        Constant::Ints(c) => Const::scalar(c.single()?).expand(shape, budget)?.into(),
    })
}

/// The shape of input 0.
fn input_dims(call: &Call) -> Result<Vec<Dim>, Fault> {
    Ok(match call.value(0)? {
        Value::Graph(x) => call.ty(x).dims().to_vec(),
        Value::Constant(Constant::Floats(c)) => dims(&c),
        Value::Constant(Constant::Ints(c)) => dims(&c),
        _ => return Err(call.no_floats(0, "a tensor")),
    })
}

pub(crate) fn shape(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let dims = input_dims(call)?;
    let rank = dims.len() as i64;
    let bound = |name: &str, default: i64| {
        let stated = if call.opset >= 15 { call.attributes.int(name)? } else { None };
        let v = stated.unwrap_or(default);
        Ok::<_, Fault>(if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank) as usize)
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    let taken = dims.get(start..end).unwrap_or_default();
    Ok(Const::vector(taken.iter().copied().map(Sym::from).collect()).into())
}

pub(crate) fn size(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let product = input_dims(call)?.into_iter().try_fold(Sym::from(1), |n, d| n.mul(d.into()))?;
    Ok(Const::scalar(product).into())
}

pub(crate) fn cast(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    // How floats of eight bits round, which relc refuses anyway.
    call.attributes.ignore(&["saturate", "round_mode"]);
    let to = call.attributes.int("to")?.ok_or_else(|| Fault::invalid("the attribute \"to\" is missing"))?;
    let to =
        i32::try_from(to).map_err(|_| Fault::invalid(format!("got to={to}, expected an element type")))?;
    cast_to(call, to)
}

/// Input 0 as the element type `to`.
fn cast_to(call: &mut Call, to: i32) -> Result<Value, Fault> {
    if let Some(integers) = dynamic::cast(call, to)? {
        return Ok(integers);
    }
    let refused = |what: &str| Fault::unsupported(format!("got a cast of {what} to {}", type_name(to)));
    let limits = match data_type(to) {
        _ if is_float(to) => None,
        Some(DataType::Bool) => Some((0, 1)),
        Some(DataType::Int64) => Some((i64::MIN, i64::MAX)),
        Some(DataType::Int32) => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        Some(DataType::Int16) => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        Some(DataType::Uint16) => Some((0, i64::from(u16::MAX))),
        Some(DataType::Int8) => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
        Some(DataType::Uint8) => Some((0, i64::from(u8::MAX))),
        _ => return Err(refused("a value")),
    };
    call.state_type(to);
    let to_bool = data_type(to) == Some(DataType::Bool);
    match (call.value(0)?, limits) {
        (Value::Graph(_), None) => unchanged(call, Activation::Identity),
        (Value::Graph(_), Some(_)) => Err(refused("a tensor that depends on the model's input")),
        (value @ Value::Constant(Constant::Floats(_)), None) => Ok(value),
        (Value::Constant(Constant::Ints(c)), None) => {
            let float = |s: Sym| s.known().map(|v| v as f32).ok_or_else(|| batch_to_float(s));
            Ok(c.map(&mut call.builder.budget, float)?.into())
        }
        (Value::Constant(Constant::Floats(c)), Some(limits)) => {
            let int = |v: f32| if to_bool { Ok(truth(v != 0.0)) } else { truncate(v, limits) };
            Ok(c.map(&mut call.builder.budget, int)?.into())
        }
        (Value::Constant(Constant::Ints(c)), Some(limits)) => {
            let int = |s: Sym| match s.known() {
                _ if to_bool => Ok(truth(!s.equals(Sym::from(0))?)),
                Some(v) if v < limits.0 || v > limits.1 => Err(out_of(limits, v)),
                _ => Ok(s),
            };
            Ok(c.map(&mut call.builder.budget, int)?.into())
        }
        _ => Err(call.no_floats(0, "a tensor")),
    }
}

/// A cast to the type of input 1: floats or integers.
pub(crate) fn cast_like(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    call.attributes.ignore(&["saturate", "round_mode"]);
    let to = match (call.value(0)?, call.value(1)?) {
        (_, Value::Graph(_) | Value::Constant(Constant::Floats(_))) => DataType::Float,
        // Integers of whatever width hold what they hold.
        (Value::Constant(_), Value::Constant(Constant::Ints(_))) => DataType::Int64,
        _ => return Err(Fault::unsupported("got a cast to integers")),
    };
    cast_to(call, to as i32)
}

fn truth(yes: bool) -> Sym {
    Sym::from(i64::from(yes))
}

fn batch_to_float(s: Sym) -> Fault {
    Fault::unsupported(format!("got {s}, which depends on the batch, expected a number to cast to a float"))
}

fn out_of(limits: (i64, i64), v: impl std::fmt::Display) -> Fault {
    Fault::invalid(format!("got {v}, expected an integer from {} to {}", limits.0, limits.1))
}

fn truncate(v: f32, limits: (i64, i64)) -> Result<Sym, Fault> {
    let whole = v.trunc();
    // 2^63 is a float and i64::MAX is none: it rounds up to 2^63, which does not fit.
    let fits = whole >= limits.0 as f32 && whole <= limits.1 as f32 && whole < 2f32.powi(63);
    if fits { Ok(Sym::from(whole as i64)) } else { Err(out_of(limits, v)) }
}

pub(crate) fn range(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=3)?;
    let ends = [call.ints(0)?.single()?, call.ints(1)?.single()?, call.ints(2)?.single()?];
    if ends == [Sym::from(0), Sym::BATCH, Sym::from(1)] {
        return Ok(Const::vector(vec![Sym::SAMPLE]).into());
    }
    let known =
        |end: Sym| end.known().ok_or_else(|| Fault::unsupported(format!("got {end}, expected a number")));
    let (start, limit, delta) = (known(ends[0])?, known(ends[1])?, known(ends[2])?);
    if delta == 0 {
        return Err(Fault::invalid("got a delta of 0, expected another"));
    }
    let span = i128::from(limit) - i128::from(start);
    let forwards = (span > 0) == (delta > 0) && span != 0;
    let count = if forwards { span.unsigned_abs().div_ceil(u128::from(delta.unsigned_abs())) } else { 0 };
    call.builder.budget.charge::<Sym>(usize::try_from(count).unwrap_or(usize::MAX))?;
    let element = |i: i64| i.checked_mul(delta).and_then(|v| v.checked_add(start)).map(Sym::from);
    let values: Option<Vec<Sym>> = (0..count as i64).map(element).collect();
    Ok(Const::vector(values.ok_or_else(|| Fault::invalid("an element of the range overflows"))?).into())
}

/// Folds two integer inputs element by element.
fn fold_ints(
    call: &mut Call,
    i: usize,
    f: impl Fn(Sym, Sym) -> Result<Sym, Fault>,
) -> Result<Const<Sym>, Fault> {
    let (a, b) = (call.ints(0)?, call.ints(i)?);
    a.zip(&b, &mut call.builder.budget, f)
}

pub(crate) fn equal(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    Ok(fold_ints(call, 1, |a, b| Ok(truth(a.equals(b)?)))?.into())
}

/// Whether the comparison of two integers holds, or, of floats, of two floats.
fn compare(
    call: &mut Call,
    ints: fn(Sym, Sym) -> Result<bool, Fault>,
    floats: fn(f32, f32) -> bool,
) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    if let (Value::Constant(Constant::Floats(a)), Value::Constant(Constant::Floats(b))) =
        (call.value(0)?, call.value(1)?)
    {
        return Ok(a.zip(&b, &mut call.builder.budget, |a, b| Ok(truth(floats(a, b))))?.into());
    }
    let (a, b) = (call.ints(0)?, call.ints(1)?);
    Ok(a.zip(&b, &mut call.builder.budget, |a, b| Ok(truth(ints(a, b)?)))?.into())
}

pub(crate) fn greater(call: &mut Call) -> Result<Value, Fault> {
    compare(call, |a, b| Ok(!b.is_at_least(a)?), |a, b| a > b)
}

pub(crate) fn greater_or_equal(call: &mut Call) -> Result<Value, Fault> {
    compare(call, |a, b| Ok(a.equals(b)? || a.is_at_least(b)?), |a, b| a >= b)
}

pub(crate) fn less(call: &mut Call) -> Result<Value, Fault> {
    compare(call, |a, b| Ok(!a.equals(b)? && b.is_at_least(a)?), |a, b| a < b)
}

pub(crate) fn less_or_equal(call: &mut Call) -> Result<Value, Fault> {
    compare(call, |a, b| Ok(a.equals(b)? || b.is_at_least(a)?), |a, b| a <= b)
}

pub(crate) fn not(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.ints(0)?;
    Ok(x.map(&mut call.builder.budget, |v| Ok(truth(v.equals(Sym::from(0))?)))?.into())
}

pub(crate) fn and(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let zero = Sym::from(0);
    Ok(fold_ints(call, 1, |a, b| Ok(truth(!a.equals(zero)? && !b.equals(zero)?)))?.into())
}

pub(crate) fn or(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let zero = Sym::from(0);
    Ok(fold_ints(call, 1, |a, b| Ok(truth(!a.equals(zero)? || !b.equals(zero)?)))?.into())
}

/// The remainder, with the sign of the divisor, of numbers.
pub(crate) fn modulo(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let truncated = call.attributes.flag("fmod")?;
    let remainder = move |a: Sym, b: Sym| {
        let unknown = || Fault::unsupported(format!("got ({a}) modulo ({b}), expected numbers"));
        let (x, y) = (a.known().ok_or_else(unknown)?, b.known().ok_or_else(unknown)?);
        let r = x.checked_rem(y).ok_or_else(|| Fault::invalid(format!("got {x} modulo {y}")))?;
        let shifts = !truncated && r != 0 && (r < 0) != (y < 0);
        Ok(Sym::from(if shifts { r + y } else { r }))
    };
    let (a, b) = (call.ints(0)?, call.ints(1)?);
    Ok(a.zip(&b, &mut call.builder.budget, remainder)?.into())
}

pub(crate) fn expand(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let target = shape_of(&call.ints(1)?)?;
    match call.value(0)? {
        Value::Constant(Constant::Ints(c)) => Ok(expand_constant(call, &c, target)?.into()),
        Value::Constant(Constant::Floats(c)) => Ok(expand_constant(call, &c, target)?.into()),
        _ => {
            let x = call.data(0)?;
            let ty = call.ty(x);
            if let Some(view) = View::plain(&ty).filter(|view| view.rank() < target.len()) {
                let target = call.ints(1)?.data().to_vec();
                return folded::expand(call, x, &view, &target);
            }
            let mut target = target;
            if let (Some(batch), true) =
                (call.builder.fixed_batch, ty.is_batched() && ty.rank() == target.len())
                && let Some(first) = target.first_mut().filter(|d| **d == Dim::Fixed(batch))
            {
                *first = Dim::Batch;
            }
            let shape = both_ways(ty.dims(), &target);
            call.emit(Op::Expand(Expand { shape }), &[x])
        }
    }
}

/// The broadcast of two shapes where a 1 (or a missing axis) of either takes the other's size.
fn both_ways(x: &[Dim], target: &[Dim]) -> Vec<Dim> {
    let rank = x.len().max(target.len());
    let at = |dims: &[Dim], i: usize| {
        (i + dims.len()).checked_sub(rank).and_then(|i| dims.get(i)).copied().unwrap_or(Dim::Fixed(1))
    };
    let dim = |i| if at(target, i) == Dim::Fixed(1) { at(x, i) } else { at(target, i) };
    (0..rank).map(dim).collect()
}

fn expand_constant<T: Copy>(
    call: &mut Call,
    constant: &Const<T>,
    target: Vec<Dim>,
) -> Result<Const<T>, Fault> {
    let dims = of_any_sample(both_ways(&dims(constant), &target))?;
    constant.expand(dims, &mut call.builder.budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_truncate_into_the_type() {
        let limits = (i64::MIN, i64::MAX);
        assert_eq!(truncate(-2.7, limits), Ok(Sym::from(-2)));
        assert_eq!(truncate(-9.223_372e18, limits).map(|s| s.c), Ok(i64::MIN));
        assert!(truncate(9.3e18, limits).is_err());
        assert!(truncate(f32::NAN, limits).is_err());
        assert!(truncate(300.0, (0, 255)).unwrap_err().reason.contains("0 to 255"));
    }
}
