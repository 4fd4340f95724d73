//! `ReduceMean`, `ReduceSum`, `ReduceMax`, ...: over axes of tensors, and of constants.

use relc_ir::op::{Activation, Arithmetic, MaxPool, ReduceMean, Reshape, Transpose, Window};
use relc_ir::{Dim, Op, ValueId};

use super::shaping::axes_of;
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// What is reduced how.
struct Reduction {
    axes: Vec<usize>,
    keepdims: bool,
}

impl From<Reduction> for ReduceMean {
    fn from(Reduction { axes, keepdims }: Reduction) -> ReduceMean {
        ReduceMean { axes, keepdims }
    }
}

/// Reads the axes of a reduction of `rank` axes; `None` if nothing is reduced.
fn reduction(call: &Call, input_since: i64, rank: usize) -> Result<Option<Reduction>, Fault> {
    call.expect_inputs(1..=if call.opset >= input_since { 2 } else { 1 })?;
    let keepdims = call.attributes.int("keepdims")?.unwrap_or(1) != 0;
    let axes = axes_of(call, input_since, rank)?.unwrap_or_default();
    let empty_is_none = call.opset >= input_since && call.attributes.flag("noop_with_empty_axes")?;
    if axes.is_empty() && empty_is_none {
        return Ok(None);
    }
    // No axes: all of them, which includes the batch.
    let axes = if axes.is_empty() { (0..rank).collect() } else { axes };
    Ok(Some(Reduction { axes, keepdims }))
}

fn rank(call: &Call) -> Result<usize, Fault> {
    Ok(match call.value(0)? {
        Value::Graph(x) => call.ty(x).rank(),
        Value::Constant(Constant::Floats(c)) => c.dims().len(),
        Value::Constant(Constant::Ints(c)) => c.dims().len(),
        _ => 0,
    })
}

/// A constant of floats, reduced in f64: `finish` gets the combined value and the number of elements.
fn fold_floats(
    call: &mut Call,
    c: &Const<f32>,
    reduction: &Reduction,
    start: f64,
    combine: fn(f64, f64) -> f64,
    finish: fn(f64, f64) -> f64,
) -> Result<Value, Fault> {
    let budget = &mut call.builder.budget;
    let wide = c.map(budget, |v| Ok(f64::from(v)))?;
    let (reduced, count) =
        wide.reduce(&reduction.axes, reduction.keepdims, start, |a, b| Ok(combine(a, b)), budget)?;
    Ok(reduced.map(budget, |v| Ok(finish(v, count as f64) as f32))?.into())
}

pub(crate) fn mean(call: &mut Call) -> Result<Value, Fault> {
    let rank = rank(call)?;
    let Some(reduction) = reduction(call, 18, rank)? else {
        return super::elementwise::unchanged(call, Activation::Identity);
    };
    if let Value::Constant(Constant::Floats(c)) = call.value(0)? {
        return fold_floats(call, &c, &reduction, 0.0, |a, b| a + b, |sum, n| sum / n);
    }
    let x = call.data(0)?;
    call.emit(Op::ReduceMean(ReduceMean { axes: reduction.axes, keepdims: reduction.keepdims }), &[x])
}

/// The mean times the number of elements.
pub(super) fn sum_of(call: &mut Call, x: ValueId, mean: ReduceMean) -> Result<ValueId, Fault> {
    let ty = call.ty(x);
    let count = mean.axes.iter().try_fold(1usize, |n, a| n.checked_mul(ty.dims().get(*a)?.bind(1)));
    let count = count.ok_or_else(|| Fault::invalid("the number of elements overflows"))?;
    let mean = call.node(Op::ReduceMean(mean), &[x])?;
    let factor = call.new_weight("count", &Const::scalar(count as f32))?;
    call.node(Op::Arithmetic(Arithmetic::Mul), &[mean, factor])
}

pub(crate) fn sum(call: &mut Call) -> Result<Value, Fault> {
    let rank = rank(call)?;
    let Some(reduction) = reduction(call, 13, rank)? else {
        return super::elementwise::unchanged(call, Activation::Identity);
    };
    match call.value(0)? {
        Value::Constant(Constant::Floats(c)) => {
            fold_floats(call, &c, &reduction, 0.0, |a, b| a + b, |sum, _| sum)
        }
        Value::Constant(Constant::Ints(c)) => fold_ints(call, &c, &reduction, 0, Sym::add),
        _ => {
            let x = call.data(0)?;
            sum_of(call, x, reduction.into()).map(Value::Graph)
        }
    }
}

fn fold_ints(
    call: &mut Call,
    c: &Const<Sym>,
    reduction: &Reduction,
    start: i64,
    combine: fn(Sym, Sym) -> Result<Sym, Fault>,
) -> Result<Value, Fault> {
    let budget = &mut call.builder.budget;
    Ok(c.reduce(&reduction.axes, reduction.keepdims, Sym::from(start), combine, budget)?.0.into())
}

/// Only of constants: the product of a shape's sizes, mostly.
pub(crate) fn product(call: &mut Call) -> Result<Value, Fault> {
    let rank = rank(call)?;
    let Some(reduction) = reduction(call, 18, rank)? else {
        return super::elementwise::unchanged(call, Activation::Identity);
    };
    match call.value(0)? {
        Value::Constant(Constant::Ints(c)) => fold_ints(call, &c, &reduction, 1, Sym::mul),
        _ => {
            let c = call.floats(0)?;
            fold_floats(call, &c, &reduction, 1.0, |a, b| a * b, |product, _| product)
        }
    }
}

/// The squares' sum, and with `root` its square root.
fn squares(call: &mut Call, root: bool) -> Result<Value, Fault> {
    let rank = rank(call)?;
    let Some(reduction) = reduction(call, 18, rank)? else {
        return Err(Fault::unsupported("got no axes and noop_with_empty_axes=1, expected axes"));
    };
    if let Value::Constant(Constant::Floats(c)) = call.value(0)? {
        let finish: fn(f64, f64) -> f64 = if root { |sum, _| sum.sqrt() } else { |sum, _| sum };
        return fold_floats(call, &c, &reduction, 0.0, |a, b| a + b * b, finish);
    }
    let x = call.data(0)?;
    let square = call.node(Op::Arithmetic(Arithmetic::Mul), &[x, x])?;
    let sum = sum_of(call, square, reduction.into())?;
    if root { call.emit(Op::Activation(Activation::Sqrt), &[sum]) } else { Ok(Value::Graph(sum)) }
}

pub(crate) fn l2(call: &mut Call) -> Result<Value, Fault> {
    squares(call, true)
}

pub(crate) fn sum_square(call: &mut Call) -> Result<Value, Fault> {
    squares(call, false)
}

pub(crate) fn max(call: &mut Call) -> Result<Value, Fault> {
    let rank = rank(call)?;
    let Some(reduction) = reduction(call, 18, rank)? else {
        return super::elementwise::unchanged(call, Activation::Identity);
    };
    if let Value::Constant(Constant::Floats(c)) = call.value(0)? {
        return fold_floats(call, &c, &reduction, f64::NEG_INFINITY, f64::max, |max, _| max);
    }
    let x = call.data(0)?;
    max_of(call, x, &reduction)
}

/// The maximum over axes, as a `MaxPool` whose window is the whole picture, the axes made last.
fn max_of(call: &mut Call, x: ValueId, reduction: &Reduction) -> Result<Value, Fault> {
    let dims = call.ty(x).dims().to_vec();
    let refused = || Fault::unsupported("got axes with the batch among them, expected others");
    if reduction.axes.contains(&0) {
        return Err(refused());
    }
    let kept: Vec<usize> = (0..dims.len()).filter(|i| !reduction.axes.contains(i)).collect();
    let size = |axes: &[usize]| axes.iter().try_fold(1usize, |n, a| n.checked_mul(dims.get(*a)?.fixed()?));
    let (Some(rest), Some(reduced)) = (size(&kept[1..]), size(&reduction.axes)) else {
        return Err(refused());
    };
    let perm = [&kept[..], &reduction.axes].concat();
    let x = call.node(Op::Transpose(Transpose { perm }), &[x])?;
    // Two axes as they are, so that a window stays within the bounds of a kernel.
    let [h, w] = match reduction.axes[..] {
        [a, b] => [dims[a].bind(1), dims[b].bind(1)],
        _ => [reduced, 1],
    };
    let picture = Reshape { shape: vec![dims[0], Dim::Fixed(rest), Dim::Fixed(h), Dim::Fixed(w)] };
    let x = call.node(Op::Reshape(picture), &[x])?;
    let x = call.node(Op::MaxPool(MaxPool { window: Window::new([h, w], [1, 1]) }), &[x])?;
    let keep = |(i, d): (usize, &Dim)| match (reduction.axes.contains(&i), reduction.keepdims) {
        (false, _) => Some(*d),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    };
    let shape = dims.iter().enumerate().filter_map(keep).collect();
    call.emit(Op::Reshape(Reshape { shape }), &[x])
}

pub(crate) fn global_max_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    let rank = call.ty(x).rank();
    if rank < 3 {
        return Err(Fault::unsupported(format!("got an input {}, expected f32[N,C,..]", call.ty(x))));
    }
    max_of(call, x, &Reduction { axes: (2..rank).collect(), keepdims: true })
}

pub(crate) fn global_average_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    match call.ty(x).rank() {
        3..=5 => call.emit(Op::GlobalAveragePool, &[x]),
        rank if rank >= 3 => {
            let op = ReduceMean { axes: (2..rank).collect(), keepdims: true };
            call.emit(Op::ReduceMean(op), &[x])
        }
        _ => Err(Fault::unsupported(format!("got an input {}, expected f32[N,C,..]", call.ty(x)))),
    }
}
