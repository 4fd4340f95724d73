//! `Slice`, `Split`, `Pad`, `Gather`: parts of tensors and tensors of parts.

use relc_ir::op::{Concat, Pad, Reshape, Slice};
use relc_ir::{Dim, Op, TensorType, ValueId};

use super::shaping::dims;
use crate::call::{Call, Value};
use crate::constant::{Const, Range, axis};
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// What `Slice` is asked for, along some axes.
struct Bounds {
    starts: Vec<Sym>,
    ends: Vec<Sym>,
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
}

/// Before opset 10 the bounds are attributes, then inputs.
fn bounds(call: &Call) -> Result<Bounds, Fault> {
    let syms = |values: &[i64]| values.iter().copied().map(Sym::from).collect::<Vec<_>>();
    if call.opset < 10 {
        call.expect_inputs(1..=1)?;
        let required = |name: &str| {
            let missing = || Fault::invalid(format!("the attribute \"{name}\" is missing"));
            call.attributes.ints(name)?.map(syms).ok_or_else(missing)
        };
        let axes = call.attributes.ints("axes")?.map(<[i64]>::to_vec);
        return Ok(Bounds { starts: required("starts")?, ends: required("ends")?, axes, steps: None });
    }
    call.expect_inputs(3..=5)?;
    let list = |i| if call.has(i) { Ok(Some(call.ints(i)?.known()?)) } else { Ok::<_, Fault>(None) };
    Ok(Bounds {
        starts: call.ints(1)?.data().to_vec(),
        ends: call.ints(2)?.data().to_vec(),
        axes: list(3)?,
        steps: list(4)?,
    })
}

impl Bounds {
    /// The range along every axis of a tensor; `None` where it is the whole batch.
    fn ranges(&self, x: &[Dim]) -> Result<Vec<Option<Range>>, Fault> {
        let count = self.starts.len();
        let axes = self.axes.clone().unwrap_or_else(|| (0..count as i64).collect());
        let steps = self.steps.clone().unwrap_or_else(|| vec![1; count]);
        if self.ends.len() != count || axes.len() != count || steps.len() != count {
            return Err(Fault::invalid(format!(
                "got {count} starts, {} ends, {} axes and {} steps, expected as many of each",
                self.ends.len(),
                axes.len(),
                steps.len()
            )));
        }
        let whole = |d: &Dim| d.fixed().map(|size| Range { start: 0, step: 1, size });
        let mut ranges: Vec<Option<Range>> = x.iter().map(whole).collect();
        let mut seen = vec![false; x.len()];
        for (((start, end), stated), step) in self.starts.iter().zip(&self.ends).zip(&axes).zip(&steps) {
            let axis = axis(*stated, x.len())?;
            if std::mem::replace(&mut seen[axis], true) {
                return Err(Fault::invalid(format!("got axes={axes:?}, expected each axis once")));
            }
            match x[axis] {
                Dim::Fixed(size) => ranges[axis] = Some(along_axis(size, *start, *end, *step)?),
                Dim::Batch if takes_whole_batch(*start, *end, *step) => {}
                Dim::Batch => {
                    return Err(Fault::unsupported(format!(
                        "got {start} to {end}, step {step}, along the batch N, expected all of it"
                    )));
                }
            }
        }
        Ok(ranges)
    }
}

/// The range that a `Slice` takes along every axis of a tensor; `None` where it is the whole batch.
pub(super) fn ranges(call: &Call, x: &[Dim]) -> Result<Vec<Option<Range>>, Fault> {
    bounds(call)?.ranges(x)
}

fn along_axis(size: usize, start: Sym, end: Sym, step: i64) -> Result<Range, Fault> {
    match (start.known(), end.known()) {
        (Some(start), Some(end)) => Ok(Range::of_slice(size, start, end, step)?),
        _ => Err(Fault::unsupported(format!("got {start} to {end} of {size} elements, expected numbers"))),
    }
}

/// From 0 to N or to a number that stands for the end (exporters write the largest integer of some width).
fn takes_whole_batch(start: Sym, end: Sym, step: i64) -> bool {
    start == Sym::from(0)
        && step == 1
        && (end == Sym::BATCH || end.known().is_some_and(|e| e >= i64::from(i32::MAX)))
}

fn slice_constant<T: Copy>(call: &mut Call, constant: &Const<T>, bounds: &Bounds) -> Result<Const<T>, Fault> {
    // A constant has no batch: every axis has a range.
    let ranges: Vec<Range> = bounds.ranges(&dims(constant))?.into_iter().flatten().collect();
    constant.slice(&ranges, &mut call.builder.budget)
}

pub(crate) fn slice(call: &mut Call) -> Result<Value, Fault> {
    let bounds = bounds(call)?;
    match call.value(0)? {
        Value::Constant(Constant::Ints(c)) => return Ok(slice_constant(call, &c, &bounds)?.into()),
        Value::Constant(Constant::Floats(c)) => return Ok(slice_constant(call, &c, &bounds)?.into()),
        _ => {}
    }
    let x = call.data(0)?;
    let ty = call.ty(x);
    let mut op = Slice { starts: Vec::new(), sizes: Vec::new(), steps: Vec::new() };
    for (i, range) in bounds.ranges(ty.dims())?.into_iter().enumerate() {
        let Some(range) = range else {
            op.starts.push(0);
            op.sizes.push(Dim::Batch);
            op.steps.push(1);
            continue;
        };
        if range.size == 0 {
            return Err(Fault::invalid(format!("got nothing along axis {i} of {ty}, expected a part of it")));
        }
        let (start, step) = range.of_elements()?;
        op.starts.push(start);
        op.sizes.push(Dim::Fixed(range.size));
        op.steps.push(step);
    }
    call.emit(Op::Slice(op), &[x])
}

/// The parts of input 0 along an axis, one for each output.
pub(crate) fn split(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=if call.opset >= 13 { 2 } else { 1 })?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let axis = axis(call.attributes.int("axis")?.unwrap_or(0), ty.rank())?;
    let Dim::Fixed(size) = ty.dims()[axis] else {
        return Err(Fault::unsupported(format!(
            "got the axis {axis} of {ty}, expected another than the batch"
        )));
    };
    let mut begin = 0;
    for part in parts(call, size)? {
        let value = part_of(call, x, axis, begin, part)?;
        call.more.push(Value::Graph(value));
        begin += part;
    }
    Ok(call.more.remove(0))
}

/// The sizes of the parts that a `Split` makes of `size` elements, one for each output.
pub(super) fn parts(call: &Call, size: usize) -> Result<Vec<usize>, Fault> {
    let parts = match call.attributes.int("num_outputs")? {
        Some(n) => usize::try_from(n).unwrap_or(0),
        None => call.outputs(),
    };
    let stated = match call.opset >= 13 {
        true if call.has(1) => Some(call.ints(1)?.known()?),
        true => None,
        false => call.attributes.ints("split")?.map(<[i64]>::to_vec),
    };
    let sizes: Vec<usize> = match stated {
        Some(sizes) => sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect(),
        // Of unequal parts, the last is the smaller one.
        None => {
            let part = size.div_ceil(parts.max(1));
            (0..parts).map(|i| part.min(size.saturating_sub(i * part))).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |sum, s| sum.checked_add(*s));
    if sum != Some(size) || sizes.contains(&0) || sizes.len() != call.outputs() {
        return Err(Fault::invalid(format!(
            "got the parts {sizes:?} of {size} elements for {} outputs, expected one for each, none empty",
            call.outputs()
        )));
    }
    Ok(sizes)
}

/// `size` elements from `begin` on along an axis.
pub(super) fn part_of(
    call: &mut Call,
    x: ValueId,
    axis: usize,
    begin: usize,
    size: usize,
) -> Result<ValueId, Fault> {
    let mut sizes = call.ty(x).dims().to_vec();
    let rank = sizes.len();
    let mut starts = vec![0; rank];
    if let (Some(slot), Some(start)) = (sizes.get_mut(axis), starts.get_mut(axis)) {
        (*slot, *start) = (Dim::Fixed(size), begin);
    }
    call.node(Op::Slice(Slice { starts, sizes, steps: vec![1; rank] }), &[x])
}

/// The most pixels that a padding other than constant adds on one side: each is a slice of its own.
const MAX_MIRRORED: usize = 64;

/// The pads of a `Pad` and the value of a constant one. Before opset 11 they are attributes, then inputs.
fn stated_pads(call: &Call) -> Result<(Vec<i64>, f64), Fault> {
    let (pads, value) = if call.opset < 11 {
        call.expect_inputs(1..=1)?;
        let pads = call.attributes.ints("pads")?;
        let pads = pads.ok_or_else(|| Fault::invalid("the attribute \"pads\" is missing"))?;
        (pads.to_vec(), call.attributes.real("value")?.unwrap_or(0.0))
    } else {
        call.expect_inputs(2..=if call.opset >= 18 { 4 } else { 3 })?;
        let value = if call.has(2) { f64::from(call.floats(2)?.single()?) } else { 0.0 };
        (call.ints(1)?.known()?, value)
    };
    // Minus infinity is what a MaxPool does not see; the clean-up refuses what is left of it.
    if value.is_nan() || value == f64::INFINITY {
        return Err(Fault::unsupported(format!(
            "got a value of {value}, expected a number or minus infinity"
        )));
    }
    Ok((pads, value))
}

/// The axes that pads are of, of a tensor of `rank` axes.
fn padded_axes(call: &Call, rank: usize) -> Result<Vec<i64>, Fault> {
    if call.has(3) { call.ints(3)?.known() } else { Ok((0..rank as i64).collect()) }
}

/// What a `Pad` with a constant adds before, then behind each of `rank` axes, and that constant.
pub(super) fn constant_pads(call: &Call, rank: usize) -> Result<(Vec<usize>, f64), Fault> {
    let mode = call.attributes.string("mode")?.unwrap_or("constant");
    let (pads, value) = stated_pads(call)?;
    let sizes = TensorType::new(vec![Dim::Fixed(1); rank]);
    let pads = spread(&pads, &padded_axes(call, rank)?, &sizes)?;
    let added: Option<Vec<usize>> = pads.iter().map(|p| usize::try_from(*p).ok()).collect();
    match (mode, added) {
        ("" | "constant", Some(added)) => Ok((added, value)),
        _ => Err(Fault::unsupported(format!(
            "got mode={mode} and pads={pads:?}, expected a constant and none negative where the batch is not the first axis"
        ))),
    }
}

pub(crate) fn pad(call: &mut Call) -> Result<Value, Fault> {
    let mode = call.attributes.string("mode")?.unwrap_or("constant");
    let (pads, value) = stated_pads(call)?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let axes = padded_axes(call, ty.rank())?;
    let pads = spread(&pads, &axes, &ty)?;
    let cropped = crop(call, x, &pads)?;
    let pads: Vec<usize> = pads.iter().map(|p| usize::try_from(*p).unwrap_or(0)).collect();
    match mode {
        "" | "constant" => call.emit(Op::Pad(Pad { pads, value }), &[cropped]),
        // The pixel that is `distance` before the first (or behind the last) is this far inside the edge.
        "reflect" => mirrored(call, cropped, &pads, |distance, size| (distance < size).then_some(distance)),
        "edge" => mirrored(call, cropped, &pads, |_, _| Some(0)),
        "wrap" => mirrored(call, cropped, &pads, |distance, size| size.checked_sub(distance)),
        got => Err(Fault::invalid(format!("got mode={got}, expected constant, reflect, edge or wrap"))),
    }
}

/// What negative pads leave.
fn crop(call: &mut Call, mut x: ValueId, pads: &[i64]) -> Result<ValueId, Fault> {
    let rank = pads.len() / 2;
    for axis in 0..rank {
        let cut = |p: i64| usize::try_from(p.saturating_neg()).unwrap_or(0);
        let (begin, end) = (cut(pads[axis]), cut(pads[axis + rank]));
        let ty = call.ty(x);
        let Some(size) = ty.dims()[axis].fixed().filter(|_| begin > 0 || end > 0) else { continue };
        let left = size.checked_sub(begin).and_then(|s| s.checked_sub(end)).filter(|s| *s > 0);
        let left = left.ok_or_else(|| {
            Fault::invalid(format!("got pads that take all of axis {axis} of {ty}, expected a part of it"))
        })?;
        x = part_of(call, x, axis, begin, left)?;
    }
    Ok(x)
}

/// Pads with pixels of the tensor itself, as slices side by side; `inside` gives the pixel for a distance from the
/// edge.
fn mirrored(
    call: &mut Call,
    mut x: ValueId,
    pads: &[usize],
    inside: fn(usize, usize) -> Option<usize>,
) -> Result<Value, Fault> {
    let rank = pads.len() / 2;
    for axis in 0..rank {
        let (begin, end) = (pads[axis], pads[axis + rank]);
        if (begin, end) == (0, 0) {
            continue;
        }
        let ty = call.ty(x);
        let size = ty.dims()[axis].bind(1);
        let refused = || {
            Fault::unsupported(format!(
                "got pads of {begin} and {end} on axis {axis} of {ty}, expected fewer than its size, at most {MAX_MIRRORED}"
            ))
        };
        if begin.max(end) > MAX_MIRRORED {
            return Err(refused());
        }
        let mut parts = Vec::new();
        for distance in (1..=begin).rev() {
            let at = inside(distance, size).ok_or_else(refused)?;
            parts.push(part_of(call, x, axis, at, 1)?);
        }
        parts.push(x);
        for distance in 1..=end {
            let at = inside(distance, size).and_then(|at| (size - 1).checked_sub(at)).ok_or_else(refused)?;
            parts.push(part_of(call, x, axis, at, 1)?);
        }
        x = call.node(Op::Concat(Concat { axis }), &parts)?;
    }
    Ok(Value::Graph(x))
}

/// Pads of some axes as pads of all: all begins, then all ends.
fn spread(pads: &[i64], axes: &[i64], ty: &TensorType) -> Result<Vec<i64>, Fault> {
    let rank = ty.rank();
    if pads.len() != axes.len().saturating_mul(2) {
        return Err(Fault::invalid(format!("got {} pads on {ty}, expected {}", pads.len(), axes.len() * 2)));
    }
    let (begins, ends) = pads.split_at(axes.len());
    let mut all = vec![0; 2 * rank];
    let mut seen = vec![false; rank];
    for ((stated, begin), end) in axes.iter().zip(begins).zip(ends) {
        let axis = axis(*stated, rank)?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(Fault::invalid(format!("got axes={axes:?}, expected each axis once")));
        }
        if ty.dims()[axis] == Dim::Batch && (*begin, *end) != (0, 0) {
            return Err(Fault::unsupported(format!(
                "got pads={pads:?} on {ty}, expected none along the batch"
            )));
        }
        (all[axis], all[axis + rank]) = (*begin, *end);
    }
    Ok(all)
}

pub(crate) fn gather(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let indices = call.ints(1)?;
    match call.value(0)? {
        Value::Constant(Constant::Ints(c)) => Ok(gather_constant(call, &c, &indices)?.into()),
        Value::Constant(Constant::Floats(c)) => Ok(gather_constant(call, &c, &indices)?.into()),
        _ => gather_parts(call, &indices),
    }
}

/// The most elements that are gathered from a tensor: each is a slice of its own.
const MAX_GATHERED: usize = 64;

/// Elements of a tensor along an axis, side by side.
fn gather_parts(call: &mut Call, indices: &Const<Sym>) -> Result<Value, Fault> {
    let x = call.data(0)?;
    let ty = call.ty(x);
    let axis = axis(call.attributes.int("axis")?.unwrap_or(0), ty.rank())?;
    let Dim::Fixed(size) = ty.dims()[axis] else {
        return Err(Fault::unsupported(format!(
            "got the axis {axis} of {ty}, expected another than the batch"
        )));
    };
    let known = indices.known()?;
    if known.is_empty() || known.len() > MAX_GATHERED {
        return Err(Fault::unsupported(format!(
            "got {} indices into a tensor, expected 1 to {MAX_GATHERED}",
            known.len()
        )));
    }
    let mut parts = Vec::new();
    for index in &known {
        let at = crate::constant::axis(*index, size).map_err(|_| index_error(*index, size))?;
        parts.push(part_of(call, x, axis, at, 1)?);
    }
    let joined = match parts[..] {
        [only] => only,
        _ => call.node(Op::Concat(Concat { axis }), &parts)?,
    };
    let (before, after) = (&ty.dims()[..axis], &ty.dims()[axis + 1..]);
    let between: Vec<Dim> = dims(indices);
    call.emit(Op::Reshape(Reshape { shape: [before, &between, after].concat() }), &[joined])
}

fn gather_constant<T: Copy>(
    call: &mut Call,
    constant: &Const<T>,
    indices: &Const<Sym>,
) -> Result<Const<T>, Fault> {
    let axis = axis(call.attributes.int("axis")?.unwrap_or(0), constant.dims().len())?;
    let size = constant.dims()[axis];
    let known = indices.known()?;
    let resolved = known.iter().map(|i| crate::constant::axis(*i, size).map_err(|_| index_error(*i, size)));
    let resolved = resolved.collect::<Result<Vec<_>, _>>()?;
    constant.gather(axis, &resolved, indices.dims(), &mut call.builder.budget)
}

fn index_error(index: i64, size: usize) -> Fault {
    Fault::invalid(format!("got index {index} into an axis of {size} elements"))
}
