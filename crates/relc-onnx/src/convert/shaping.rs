//! `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`, `Transpose`: the same elements in another shape.

use relc_ir::op::{Reshape, Transpose};
use relc_ir::{Dim, Op, TensorType};

use super::folded::{self, View};
use crate::call::{Call, Value};
use crate::constant::{Const, MAX_RANK, axis, elements};
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// Input 0 in the shape that `shape` makes of its own.
fn reshaped(call: &mut Call, shape: impl Fn(&[Dim]) -> Result<Vec<Dim>, Fault>) -> Result<Value, Fault> {
    match call.value(0)? {
        Value::Graph(x) => {
            let ty = call.ty(x);
            let shape = shape(ty.dims())?;
            if let (Some(view), true) = (View::plain(&ty), shape.iter().skip(1).any(|d| *d == Dim::Batch)) {
                let target: Vec<Sym> = shape.into_iter().map(Sym::from).collect();
                return folded::reshape(call, x, &view, &target, true);
            }
            call.emit(Op::Reshape(Reshape { shape }), &[x])
        }
        Value::Constant(Constant::Floats(c)) => Ok(c.reshape(of_any_sample(shape(&dims(&c))?)?)?.into()),
        Value::Constant(Constant::Ints(c)) => Ok(c.reshape(of_any_sample(shape(&dims(&c))?)?)?.into()),
        _ => Err(call.no_floats(0, "floats")),
    }
}

pub(super) fn dims<T: Copy>(constant: &Const<T>) -> Vec<Dim> {
    constant.dims().iter().copied().map(Dim::Fixed).collect()
}

/// The shape of a constant. One that has the batch first is the same for every sample: 1 stands for the batch, along
/// which it broadcasts.
pub(super) fn of_any_sample(dims: Vec<Dim>) -> Result<Vec<usize>, Fault> {
    let size = |(i, dim): (usize, &Dim)| if i == 0 { Some(dim.bind(1)) } else { dim.fixed() };
    let sizes: Option<Vec<usize>> = dims.iter().enumerate().map(size).collect();
    sizes.ok_or_else(|| {
        Fault::unsupported(format!(
            "got a constant of shape {}, expected the batch N only as the first dimension",
            TensorType::new(dims)
        ))
    })
}

pub(crate) fn reshape(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let zero_is_zero = call.opset >= 14 && call.attributes.flag("allowzero")?;
    let target = call.ints(1)?;
    let [count] = *target.dims() else {
        return Err(Fault::invalid(format!("got a shape of shape {:?}, expected a vector", target.dims())));
    };
    if count > MAX_RANK {
        return Err(Fault::unsupported(format!(
            "got a shape of {count} dimensions, expected at most {MAX_RANK}"
        )));
    }
    let batch = call.builder.fixed_batch;
    if let Value::Graph(x) = call.value(0)?
        && let ty = call.ty(x)
        && let Some(view) = View::plain(&ty)
        && resolve(ty.dims(), target.data(), zero_is_zero).is_err()
        && target.data().iter().enumerate().any(|(i, size)| size.n != 0 || (i, *size) == (0, Sym::from(-1)))
        && view.reshaped(target.data(), zero_is_zero).is_ok()
    {
        // The batch becomes a factor of an axis. (A first size that is fixed was meant for one sample.)
        return folded::reshape(call, x, &view, target.data(), zero_is_zero);
    }
    reshaped(call, |x| {
        let open = opened(x, target.data(), batch).map(|open| resolve(x, &open, zero_is_zero));
        match open {
            Some(Ok(shape)) => Ok(shape),
            _ => resolve(x, target.data(), zero_is_zero),
        }
    })
}

/// A target that has the number of samples of a fixed batch first, with the open batch in its place.
fn opened(x: &[Dim], target: &[Sym], fixed_batch: Option<usize>) -> Option<Vec<Sym>> {
    let samples = i64::try_from(fixed_batch?).ok()?;
    let (first, rest) = target.split_first()?;
    let fits = x.first() == Some(&Dim::Batch) && first.known() == Some(samples);
    fits.then(|| [&[Sym::BATCH], rest].concat())
}

/// The shape that `Reshape` gives to a tensor of shape `x`: 0 copies a dimension, -1 takes what is left.
fn resolve(x: &[Dim], target: &[Sym], zero_is_zero: bool) -> Result<Vec<Dim>, Fault> {
    let text = || target.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut out = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, sym) in target.iter().enumerate() {
        out.push(match sym.known() {
            Some(0) if !zero_is_zero => *x.get(i).ok_or_else(|| {
                Fault::invalid(format!(
                    "got the shape [{}], whose 0 copies a dimension that is not there",
                    text()
                ))
            })?,
            Some(-1) if open.is_some() => {
                return Err(Fault::invalid(format!("got the shape [{}], expected at most one -1", text())));
            }
            Some(-1) => {
                open = Some(i);
                Dim::Fixed(1)
            }
            _ => sym.dim().ok_or_else(|| {
                Fault::unsupported(format!("got the shape [{}], expected sizes or the batch N alone", text()))
            })?,
        });
    }
    if let Some(i) = open {
        out[i] = rest(x, &out).ok_or_else(|| {
            let (from, to) = (TensorType::new(x.to_vec()), text());
            Fault::unsupported(format!(
                "got {from} and the shape [{to}], whose -1 mixes the batch or does not divide"
            ))
        })?;
    }
    let batch = |dims: &[Dim]| dims.contains(&Dim::Batch);
    if batch(x) && !batch(&out) {
        // Of one sample it is what it was, and of several there is no other meaning: so torch writes into zeros.
        if x.iter().map(|d| Dim::Fixed(d.bind(1))).eq(out.iter().copied()) {
            return Ok(x.to_vec());
        }
        return Err(Fault::unsupported(format!(
            "got {} and the shape [{}], which fixes the batch: export the model with a fixed batch, or with -1 or 0 there",
            TensorType::new(x.to_vec()),
            text()
        )));
    }
    if batch(x) == batch(&out)
        && TensorType::new(x.to_vec()).elements() != TensorType::new(out.clone()).elements()
    {
        return Err(Fault::invalid(format!(
            "got {} and the shape [{}], expected the same number of elements",
            TensorType::new(x.to_vec()),
            text()
        )));
    }
    Ok(out)
}

/// What a dimension has to be beside the `others` to keep the number of elements of `x`: the batch, if it is in
/// `x` only, or a number.
fn rest(x: &[Dim], others: &[Dim]) -> Option<Dim> {
    let (from, to) = (TensorType::new(x.to_vec()).elements()?, TensorType::new(others.to_vec()).elements()?);
    let batches = |dims: &[Dim]| dims.iter().filter(|d| **d == Dim::Batch).count();
    let size = from.checked_div(to).filter(|_| from.checked_rem(to) == Some(0))?;
    match (batches(x), batches(others)) {
        (a, b) if a == b => Some(Dim::Fixed(size)),
        (1, 0) if size == 1 => Some(Dim::Batch),
        _ => None,
    }
}

pub(crate) fn flatten(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let stated = call.attributes.int("axis")?.unwrap_or(1);
    reshaped(call, |x| {
        // The axis may also lie behind the last.
        let axis = if stated == x.len() as i64 { x.len() } else { axis(stated, x.len())? };
        let (before, after) = x.split_at(axis);
        let product = |dims: &[Dim]| {
            let fixed: Vec<usize> = dims.iter().map(|d| d.bind(1)).collect();
            let size = elements(&fixed)?;
            match (dims.contains(&Dim::Batch), size) {
                (false, size) => Ok(Dim::Fixed(size)),
                (true, 1) => Ok(Dim::Batch),
                (true, _) => Err(Fault::unsupported(format!(
                    "got axis={stated} on {}, which mixes the batch with other axes",
                    TensorType::new(x.to_vec())
                ))),
            }
        };
        Ok(vec![product(before)?, product(after)?])
    })
}

/// Axes in the range of `rank`, ascending: an attribute, or input 1 from opset `input_since` on.
pub(super) fn axes_of(call: &Call, input_since: i64, rank: usize) -> Result<Option<Vec<usize>>, Fault> {
    let stated = if call.opset < input_since {
        call.attributes.ints("axes")?.map(<[i64]>::to_vec)
    } else if call.has(1) {
        Some(call.ints(1)?.known()?)
    } else {
        None
    };
    let Some(stated) = stated else { return Ok(None) };
    let mut axes = stated.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return Err(Fault::invalid(format!("got axes={stated:?}, expected each axis once")));
    }
    Ok(Some(axes))
}

fn rank(call: &Call) -> Result<usize, Fault> {
    Ok(match call.value(0)? {
        Value::Graph(x) => call.ty(x).rank(),
        Value::Constant(Constant::Floats(c)) => c.dims().len(),
        Value::Constant(Constant::Ints(c)) => c.dims().len(),
        _ => 0,
    })
}

pub(crate) fn squeeze(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=if call.opset >= 13 { 2 } else { 1 })?;
    let axes = axes_of(call, 13, rank(call)?)?;
    reshaped(call, |x| {
        let mut out = Vec::new();
        for (i, dim) in x.iter().enumerate() {
            // Without axes, the batch stays, whatever its size is.
            let squeezed = axes.as_ref().map_or(*dim == Dim::Fixed(1), |axes| axes.contains(&i));
            if squeezed && *dim != Dim::Fixed(1) {
                let x = TensorType::new(x.to_vec());
                let reason = format!("got axis {i} of {x} to squeeze, expected a size of 1");
                return Err(match dim {
                    Dim::Batch => Fault::unsupported(reason),
                    Dim::Fixed(_) => Fault::invalid(reason),
                });
            }
            if !squeezed {
                out.push(*dim);
            }
        }
        Ok(out)
    })
}

pub(crate) fn unsqueeze(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(if call.opset >= 13 { 2..=2 } else { 1..=1 })?;
    let given = if call.opset < 13 {
        call.attributes.ints("axes")?.map_or(0, <[i64]>::len)
    } else {
        call.ints(1)?.data().len()
    };
    let rank = rank(call)?.saturating_add(given);
    if rank > MAX_RANK {
        return Err(Fault::unsupported(format!("got {rank} dimensions, expected at most {MAX_RANK}")));
    }
    let axes = axes_of(call, 13, rank)?.ok_or_else(|| Fault::invalid("the attribute \"axes\" is missing"))?;
    reshaped(call, |x| {
        let mut old = x.iter().copied();
        let dim = |i| if axes.contains(&i) { Some(Dim::Fixed(1)) } else { old.next() };
        Ok((0..rank).filter_map(dim).collect())
    })
}

pub(crate) fn transpose(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let rank = rank(call)?;
    let perm = match call.attributes.ints("perm")? {
        Some(perm) => perm.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(Fault::invalid(format!("got perm={perm:?}, expected a permutation of {rank} axes")));
    }
    match call.value(0)? {
        Value::Constant(Constant::Floats(c)) => Ok(c.transpose(&perm, &mut call.builder.budget)?.into()),
        Value::Constant(Constant::Ints(c)) => Ok(c.transpose(&perm, &mut call.builder.budget)?.into()),
        _ => {
            let x = call.data(0)?;
            match View::plain(&call.ty(x)).filter(|_| perm.first() != Some(&0)) {
                Some(view) => folded::transpose(call, x, &view, &perm),
                None => call.emit(Op::Transpose(Transpose { perm }), &[x]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a shape for `f32[N,6,4]`; -2 stands for the batch.
    #[track_caller]
    fn check(target: &[i64], expected: Result<&str, &str>) {
        let x = [Dim::Batch, Dim::Fixed(6), Dim::Fixed(4)];
        let syms: Vec<Sym> =
            target.iter().map(|v| if *v == -2 { Sym::BATCH } else { Sym::from(*v) }).collect();
        match (resolve(&x, &syms, false), expected) {
            (Ok(dims), Ok(text)) => assert_eq!(TensorType::new(dims).to_string(), text),
            (Err(fault), Err(part)) => assert!(fault.reason.contains(part), "got {}", fault.reason),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn shapes_resolve_beside_the_batch() {
        check(&[0, -1], Ok("f32[N,24]"));
        check(&[-1, 24], Ok("f32[N,24]"));
        check(&[-2, 3, 8], Ok("f32[N,3,8]"));
        check(&[-2, -1, 2], Ok("f32[N,12,2]"));
        check(&[0, 0, 0], Ok("f32[N,6,4]"));
        check(&[-1, 12], Err("mixes the batch"));
        check(&[-2, -1, 5], Err("does not divide"));
        check(&[1, 24], Err("fixes the batch"));
        check(&[1, 6, 4], Ok("f32[N,6,4]"));
        check(&[-1, -1], Err("at most one -1"));
        check(&[0, 0, 0, 0], Err("not there"));
        check(&[-2, -3], Err("expected sizes"));
        check(&[0, i64::MAX, i64::MAX, -1], Err("does not divide"));
    }
}
