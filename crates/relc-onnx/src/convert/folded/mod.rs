//! Operators on tensors whose batch is not the first axis, or a factor of one.
//!
//! Attention folds its heads into the batch (`[heads * N, ..]`) or puts tokens before it (`[L,N,C]`), networks of videos
//! fold the frames (`[T * N, C, H, W]`), ensembles stack what their members say (`[2,N,K]`). The graph has the batch first
//! and the factors as axes of their own; what an operator does to the model's axes is done to those of the graph.

mod layers;
mod view;

pub(crate) use view::{Folded, View};

use relc_ir::op::{Concat, Expand, Pad, ReduceMean, Reshape, Slice, Softmax, Transpose};
use relc_ir::{Dim, Op, ValueId};

use super::shaping::axes_of;
use super::{product, reduce, slicing};
use crate::call::{Call, Value};
use crate::constant::{Const, MAX_RANK, axis};
use crate::error::Fault;
use crate::opset::OpSpec;
use crate::sym::Sym;
use crate::tensor::Constant;

/// Operators that change each element by itself.
const ELEMENTWISE: [&str; 25] = [
    "Abs",
    "Cast",
    "Celu",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
];

/// Input `i`, if it has a batch.
fn read(call: &Call, i: usize) -> Result<Option<Folded>, Fault> {
    Ok(match call.value(i)? {
        Value::Folded(folded) => Some(folded),
        Value::Graph(value) => View::plain(&call.ty(value)).map(|view| Folded { value, view }),
        _ => None,
    })
}

/// Whether an operand has its batch elsewhere than first.
pub(crate) fn is_folded(call: &Call) -> bool {
    (0..call.arity()).any(|i| call.has(i) && matches!(call.value(i), Ok(Value::Folded(_))))
}

/// Converts a node of such operands.
pub(crate) fn convert(call: &mut Call, spec: &OpSpec) -> Result<Value, Fault> {
    let refused = |call: &Call| {
        let shape = (0..call.arity()).filter_map(|i| match call.value(i) {
            Ok(Value::Folded(folded)) => Some(folded.view.text()),
            _ => None,
        });
        Fault::unsupported(format!(
            "got a tensor [{}], expected the batch first and alone in its axis for this operator",
            shape.collect::<Vec<_>>().join("] and [")
        ))
    };
    if let ("Add" | "Sub" | "Mul" | "Div" | "Pow", 2) = (spec.op, call.arity()) {
        return binary(call, spec);
    }
    if spec.op == "Concat" {
        return concat(call);
    }
    if spec.op == "MatMul" {
        return layers::matmul(call, spec);
    }
    let Value::Folded(Folded { value, view }) = call.value(0)? else { return Err(refused(call)) };
    match spec.op {
        op if ELEMENTWISE.contains(&op) => {
            call.set_input(0, Value::Graph(value));
            let y = graph_value((spec.convert)(call)?)?;
            Ok(view.of(y))
        }
        "Shape" => {
            call.attributes.ignore(&["start", "end"]);
            Ok(Const::vector(view.syms()).into())
        }
        "Reshape" => {
            let zero_is_zero = call.opset >= 14 && call.attributes.flag("allowzero")?;
            let target = call.ints(1)?.data().to_vec();
            reshape(call, value, &view, &target, zero_is_zero)
        }
        "Flatten" => {
            let stated = call.attributes.int("axis")?.unwrap_or(1);
            let at = if stated == view.rank() as i64 { view.rank() } else { axis(stated, view.rank())? };
            let target = [&view.syms()[..at], &view.syms()[at..]]
                .map(|sizes| sizes.iter().try_fold(Sym::from(1), |product, size| product.mul(*size)));
            let [before, after] = target;
            reshape(call, value, &view, &[before?, after?], true)
        }
        "Squeeze" => {
            let axes = axes_of(call, 13, view.rank())?.ok_or_else(|| refused(call))?;
            let kept = view.syms().into_iter().enumerate().filter(|(i, _)| !axes.contains(i));
            let kept: Vec<Sym> = kept.map(|(_, size)| size).collect();
            reshape(call, value, &view, &kept, true)
        }
        "Unsqueeze" => {
            let given = if call.opset < 13 {
                call.attributes.ints("axes")?.map_or(0, <[i64]>::len)
            } else {
                call.ints(1)?.data().len()
            };
            let rank = view.rank().saturating_add(given);
            let axes = axes_of(call, 13, rank)?.unwrap_or_default();
            let mut old = view.syms().into_iter();
            let size = |i| if axes.contains(&i) { Some(Sym::from(1)) } else { old.next() };
            let target: Vec<Sym> = (0..rank).filter_map(size).collect();
            reshape(call, value, &view, &target, true)
        }
        "Transpose" => {
            let rank = view.rank();
            let perm = match call.attributes.ints("perm")? {
                Some(perm) => perm.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
                None => (0..rank).rev().collect(),
            };
            transpose(call, value, &view, &perm)
        }
        "Expand" => {
            call.expect_inputs(2..=2)?;
            let target = call.ints(1)?.data().to_vec();
            expand(call, value, &view, &target)
        }
        "Softmax" | "LogSoftmax" if call.opset >= 13 => {
            let axis = axis(call.attributes.int("axis")?.unwrap_or(-1), view.rank())?;
            if axis == view.at {
                return Err(refused(call));
            }
            let op = Softmax { axis: view.axes(axis).start, log: spec.op == "LogSoftmax" };
            Ok(view.of(call.node(Op::Softmax(op), &[value])?))
        }
        "LayerNormalization" => {
            let stated = call.attributes.int("axis")?.unwrap_or(-1);
            // Counted from the end, the axes behind the batch are the same in the graph.
            if stated >= 0 || axis(stated, view.rank())? <= view.at {
                return Err(refused(call));
            }
            call.set_input(0, Value::Graph(value));
            let y = graph_value((spec.convert)(call)?)?;
            Ok(view.of(y))
        }
        "ReduceMean" | "ReduceSum" => {
            let since = if spec.op == "ReduceMean" { 18 } else { 13 };
            let keepdims = call.attributes.int("keepdims")?.unwrap_or(1) != 0;
            call.attributes.ignore(&["noop_with_empty_axes"]);
            let axes = axes_of(call, since, view.rank())?.filter(|axes| !axes.contains(&view.at));
            let axes = axes.filter(|axes| !axes.is_empty()).ok_or_else(|| refused(call))?;
            let op = ReduceMean { axes: axes.iter().flat_map(|axis| view.axes(*axis)).collect(), keepdims };
            let y = match spec.op {
                "ReduceMean" => call.node(Op::ReduceMean(op), &[value])?,
                _ => reduce::sum_of(call, value, op)?,
            };
            Ok(reduced(&view, &axes, keepdims).of(y))
        }
        "Slice" => {
            // The axis with the batch is taken whole.
            let dim =
                |(axis, size): (usize, &usize)| if axis == view.at { Dim::Batch } else { Dim::Fixed(*size) };
            let dims: Vec<Dim> = view.dims.iter().enumerate().map(dim).collect();
            let ranges = slicing::ranges(call, &dims)?;
            let mut view = view;
            let mut op = whole(&view);
            for (axis, range) in ranges.into_iter().enumerate() {
                let Some(range) = range else { continue };
                let (at, (start, step)) = (view.axes(axis).start, range.of_elements()?);
                (op.starts[at], op.sizes[at], op.steps[at]) = (start, Dim::Fixed(range.size), step);
                view.dims[axis] = range.size;
            }
            Ok(view.of(call.node(Op::Slice(op), &[value])?))
        }
        "Pad" => {
            let (pads, fill) = slicing::constant_pads(call, view.rank())?;
            let (before, behind) = pads.split_at(view.rank());
            if before[view.at] != 0 || behind[view.at] != 0 {
                return Err(refused(call));
            }
            let mut view = view;
            let rank = view.sizes().len();
            let mut op = Pad { pads: vec![0; 2 * rank], value: fill };
            for axis in (0..view.rank()).filter(|axis| *axis != view.at) {
                let at = view.axes(axis).start;
                (op.pads[at], op.pads[at + rank]) = (before[axis], behind[axis]);
            }
            for (size, more) in view.dims.iter_mut().zip(before.iter().zip(behind)) {
                *size = size.saturating_add(*more.0).saturating_add(*more.1);
            }
            Ok(view.of(call.node(Op::Pad(op), &[value])?))
        }
        "Split" => {
            let axis = axis(call.attributes.int("axis")?.unwrap_or(0), view.rank())?;
            let size = view.dims[axis];
            if axis == view.at {
                return Err(refused(call));
            }
            let mut begin = 0;
            for part in slicing::parts(call, size)? {
                let part = part_of(call, value, &view, axis, [begin, part])?;
                begin += match &part {
                    Value::Folded(folded) => folded.view.dims[axis],
                    _ => 0,
                };
                call.more.push(part);
            }
            Ok(call.more.remove(0))
        }
        "Gather" => {
            let axis = axis(call.attributes.int("axis")?.unwrap_or(0), view.rank())?;
            let index = call.ints(1)?;
            let (size, index) = (view.dims[axis], (index.dims().is_empty(), index.data().to_vec()));
            let (true, [index]) = (index.0 && axis != view.at, &index.1[..]) else {
                return Err(refused(call));
            };
            let index = index.known().map(|i| if i < 0 { i.saturating_add(size as i64) } else { i });
            let index = index.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < size);
            let index = index.ok_or_else(|| {
                Fault::invalid(format!("got an index outside of the {size} of axis {axis}"))
            })?;
            let Value::Folded(one) = part_of(call, value, &view, axis, [index, 1])? else {
                return Err(refused(call));
            };
            let mut target = one.view.syms();
            target.remove(axis);
            reshape(call, one.value, &one.view, &target, true)
        }
        _ => layers::convert(call, spec, value, view)?.ok_or_else(|| refused(call)),
    }
}

/// A tensor of the graph that a converter gave.
fn graph_value(value: Value) -> Result<ValueId, Fault> {
    match value {
        Value::Graph(value) => Ok(value),
        _ => Err(Fault::unsupported(
            "got no tensor of floats, expected one where the batch is not the first axis",
        )),
    }
}

/// A tensor in another shape.
pub(crate) fn reshape(
    call: &mut Call,
    value: ValueId,
    view: &View,
    target: &[Sym],
    zero_is_zero: bool,
) -> Result<Value, Fault> {
    let view = view.reshaped(target, zero_is_zero)?;
    let value = in_shape(call, value, view.sizes())?;
    Ok(view.of(value))
}

/// A value of the graph in another shape, which keeps the order of a sample's elements.
pub(super) fn in_shape(call: &mut Call, value: ValueId, shape: Vec<Dim>) -> Result<ValueId, Fault> {
    if call.ty(value).dims() == shape {
        return Ok(value);
    }
    call.node(Op::Reshape(Reshape { shape }), &[value])
}

/// A tensor with its axes in another order.
pub(crate) fn transpose(
    call: &mut Call,
    value: ValueId,
    view: &View,
    perm: &[usize],
) -> Result<Value, Fault> {
    let turned: Vec<usize> =
        std::iter::once(0).chain(perm.iter().flat_map(|axis| view.axes(*axis))).collect();
    let at = perm.iter().position(|axis| *axis == view.at).unwrap_or(0);
    let dims = perm.iter().filter_map(|axis| view.dims.get(*axis).copied()).collect();
    let view = View { dims, at, ..*view };
    if turned.iter().copied().eq(0..turned.len()) {
        return Ok(view.of(value));
    }
    let value = call.node(Op::Transpose(Transpose { perm: turned }), &[value])?;
    Ok(view.of(value))
}

/// A tensor repeated along axes of size 1, and along new leading ones; a 1 of the target takes the tensor's size.
pub(crate) fn expand(call: &mut Call, value: ValueId, view: &View, target: &[Sym]) -> Result<Value, Fault> {
    let rank = view.rank().max(target.len());
    if rank > MAX_RANK {
        return Err(Fault::unsupported(format!("got {rank} dimensions, expected at most {MAX_RANK}")));
    }
    let one = view.widened(rank);
    let mut whole = one.clone();
    for ((axis, own), wanted) in one.syms().into_iter().enumerate().rev().zip(target.iter().rev()) {
        let size = wanted.known().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let all = call.builder.fixed_batch.and_then(|batch| one.dims[axis].checked_mul(batch));
        match size {
            _ if *wanted == own => {}
            Some(_) if axis == one.at && size == all => {}
            Some(1) => {}
            Some(size) if own == Sym::from(1) => whole.dims[axis] = size,
            _ => {
                return Err(Fault::unsupported(format!(
                    "got [{}] and {wanted} for axis {axis}, expected its size, or any along an axis of size 1",
                    one.text()
                )));
            }
        }
    }
    let mut value = in_shape(call, value, one.sizes())?;
    if whole != one {
        value = call.node(Op::Expand(Expand { shape: whole.sizes() }), &[value])?;
    }
    Ok(whole.of(value))
}

/// What is left of a view when some of its axes are reduced.
fn reduced(view: &View, axes: &[usize], keepdims: bool) -> View {
    let mut left = view.clone();
    if keepdims {
        axes.iter().for_each(|axis| left.dims[*axis] = 1);
        return left;
    }
    let kept = view.dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    left.dims = kept.map(|(_, size)| *size).collect();
    left.at -= axes.iter().filter(|axis| **axis < view.at).count();
    left
}

/// The slice of all of a tensor.
fn whole(view: &View) -> Slice {
    let sizes = view.sizes();
    Slice { starts: vec![0; sizes.len()], steps: vec![1; sizes.len()], sizes }
}

/// `size` elements from `begin` on along an axis.
fn part_of(
    call: &mut Call,
    value: ValueId,
    view: &View,
    axis: usize,
    [begin, size]: [usize; 2],
) -> Result<Value, Fault> {
    let (mut op, at) = (whole(view), view.axes(axis).start);
    (op.starts[at], op.sizes[at]) = (begin, Dim::Fixed(size));
    let mut view = view.clone();
    view.dims[axis] = size;
    let value = call.node(Op::Slice(op), &[value])?;
    Ok(Value::Folded(Folded { value, view }))
}

/// Tensors side by side along an axis.
fn concat(call: &mut Call) -> Result<Value, Fault> {
    let mut parts = Vec::with_capacity(call.arity());
    for i in 0..call.arity() {
        let part = read(call, i)?;
        parts.push(part.ok_or_else(|| {
            Fault::unsupported(
                "got a constant beside a tensor whose batch is not the first axis, expected tensors",
            )
        })?);
    }
    let Some(first) = parts.first() else { return Err(Fault::invalid("got no inputs, expected some")) };
    let mut view = first.view.clone();
    let axis =
        call.attributes.int("axis")?.ok_or_else(|| Fault::invalid("the attribute \"axis\" is missing"))?;
    let axis = self::axis(axis, view.rank())?;
    let alike = |other: &View| {
        let mut other = other.clone();
        if let (Some(size), Some(own)) = (other.dims.get_mut(axis), view.dims.get(axis)) {
            *size = *own;
        }
        other == view
    };
    if axis == view.at || !parts.iter().all(|part| alike(&part.view)) {
        let shapes = parts.iter().map(|part| part.view.text()).collect::<Vec<_>>().join("] and [");
        return Err(Fault::unsupported(format!(
            "got [{shapes}] along axis {axis}, expected tensors alike but for an axis that is not the batch's"
        )));
    }
    let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.view.dims[axis]));
    let values: Vec<ValueId> = parts.iter().map(|part| part.value).collect();
    let op = Concat { axis: view.axes(axis).start };
    view.dims[axis] = total.ok_or_else(|| Fault::invalid("the number of elements overflows"))?;
    let value = call.node(Op::Concat(op), &values)?;
    Ok(view.of(value))
}

/// Two operands as they broadcast: tensors with their batches in one place, constants in the graph's axes.
fn aligned(call: &mut Call) -> Result<(Vec<Value>, View), Fault> {
    let mut operands = Vec::with_capacity(2);
    for i in 0..2 {
        operands.push(match (read(call, i)?, call.value(i)?) {
            (Some(folded), _) => (Some(folded), None),
            (None, Value::Constant(Constant::Floats(c))) => (None, Some(c)),
            _ => return Err(call.no_floats(i, "floats")),
        });
    }
    let rank_of = |(folded, constant): &(Option<Folded>, Option<Const<f32>>)| match (folded, constant) {
        (Some(folded), _) => folded.view.rank(),
        (_, constant) => constant.as_ref().map_or(0, |c| c.dims().len()),
    };
    let rank = operands.iter().map(rank_of).max().unwrap_or(0);
    let views: Vec<View> =
        operands.iter().filter_map(|(f, _)| Some(f.as_ref()?.view.widened(rank))).collect();
    let Some(place) = views.first().cloned() else { return Err(call.no_floats(0, "floats")) };
    let refused = |what: String| {
        Fault::unsupported(format!("got [{}] beside {what}, expected the batch in one place", place.text()))
    };
    if let Some(other) =
        views.iter().find(|v| (v.at, v.before, v.after) != (place.at, place.before, place.after))
    {
        return Err(refused(format!("[{}]", other.text())));
    }
    let mut given = Vec::with_capacity(2);
    for (folded, constant) in operands {
        match (folded, constant) {
            (Some(folded), _) => {
                let sizes = folded.view.widened(rank).sizes();
                given.push(Value::Graph(in_shape(call, folded.value, sizes)?));
            }
            (None, Some(c)) => {
                let dims = [vec![1; rank - c.dims().len()], c.dims().to_vec()].concat();
                if dims.get(place.at) != Some(&1) {
                    return Err(refused(format!("a constant of shape {dims:?}")));
                }
                // Its axes where the graph has them; along the batch and its factors it is the same.
                let as_view = View { dims, ..place.clone() };
                let batch = as_view.axes(as_view.at);
                let sizes =
                    as_view.sizes().into_iter().enumerate().map(|(axis, size)| {
                        if axis == 0 || batch.contains(&axis) { 1 } else { size.bind(1) }
                    });
                given.push(c.reshape(sizes.collect())?.into());
            }
            _ => {}
        }
    }
    Ok((given, place))
}

/// Arithmetic of two operands.
fn binary(call: &mut Call, spec: &OpSpec) -> Result<Value, Fault> {
    let (given, place) = aligned(call)?;
    call.set_inputs(given.into_iter().map(Some).collect());
    let value = graph_value((spec.convert)(call)?)?;
    let ty = call.ty(value);
    let size = |axis: usize| {
        if axis == place.at {
            return place.before * place.after;
        }
        ty.dims().get(place.axes(axis).start).map_or(1, |d| d.bind(1))
    };
    let view = View { dims: (0..place.rank()).map(size).collect(), ..place };
    Ok(view.of(value))
}
