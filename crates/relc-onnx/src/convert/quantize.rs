//! Quantised models: weights are dequantised, and between `QuantizeLinear` and `DequantizeLinear` a tensor stays a
//! float, clipped to what the integers can hold but not rounded. Constants are rounded too.

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::{Dim, Op, ValueId};

use super::dynamic;
use crate::call::{Call, Value};
use crate::constant::{Const, axis};
use crate::error::Fault;
use crate::quantised::{Integers, Scale, Step};
use crate::sym::Sym;
use crate::tensor::{Constant, type_limits};

/// What the user should know of a quantised model.
const NOTE: &str = "the model is quantised: its weights are dequantised, and activations are clipped to the range of \
                    their integers but not rounded";

/// Tells the user that the model is quantised.
pub(super) fn note(call: &mut Call) {
    call.note(NOTE.into());
}

pub(crate) fn dequantize(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    call.attributes.ignore(&["output_dtype"]);
    let along = Along::of(call)?;
    dequantised(call, [0, 1, 2], along)
}

pub(crate) fn quantize(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    call.attributes.ignore(&["saturate", "precision"]);
    let along = Along::of(call)?;
    let limits = limits(call, 2)?;
    match call.value(0)? {
        Value::Constant(Constant::Floats(x)) => quantised_constant(call, &x, along, limits),
        _ => {
            let x = call.data(0)?;
            Target::of(call, 1, 2)?.quantised(call, Value::Graph(x))
        }
    }
}

/// Which elements of a tensor share a scale, if not all do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    /// Those with the same index along this axis.
    pub axis: i64,
    /// Of those, this many in a row; 0 for all.
    pub block: usize,
}

impl Along {
    pub fn axis(axis: i64) -> Self {
        Along { axis, block: 0 }
    }

    fn of(call: &Call) -> Result<Self, Fault> {
        let block = call.attributes.int("block_size")?.unwrap_or(0);
        let block = usize::try_from(block)
            .map_err(|_| Fault::invalid(format!("got block_size={block}, expected no negative number")))?;
        Ok(Along { axis: call.attributes.int("axis")?.unwrap_or(1), block })
    }

    /// The axis of a tensor of that rank; a vector's only one, whatever is stated.
    fn of_rank(self, rank: usize) -> Result<usize, Fault> {
        if rank <= 1 { Ok(0) } else { axis(self.axis, rank) }
    }

    /// A parameter in a shape that broadcasts to `dims`.
    fn spread(self, parameter: &Const<f32>, dims: &[Dim], call: &mut Call) -> Result<Const<f32>, Fault> {
        if parameter.data().len() == 1 {
            return parameter.reshape(Vec::new());
        }
        let refuse = || {
            let ty = relc_ir::TensorType::new(dims.iter().copied());
            Fault::unsupported(format!(
                "got a scale or zero point of shape {:?} for a tensor {ty}, expected one value, or one along the axis {}{}",
                parameter.dims(),
                self.axis,
                if self.block > 0 { format!(" for {} elements in a row", self.block) } else { String::new() }
            ))
        };
        let axis = self.of_rank(dims.len())?;
        let size = dims.get(axis).and_then(|d| d.fixed()).ok_or_else(refuse)?;
        if self.block > 0 {
            let whole = |(i, (d, p)): (usize, (&Dim, &usize))| i == axis || *d == Dim::Fixed(*p);
            let fits = parameter.dims().len() == dims.len()
                && parameter.dims()[axis] == size.div_ceil(self.block)
                && dims.iter().zip(parameter.dims()).enumerate().all(whole);
            let blocks: Vec<usize> = (0..if fits { size } else { 0 }).map(|i| i / self.block).collect();
            return match fits {
                true => parameter.gather(axis, &blocks, &[size], &mut call.builder.budget),
                false => Err(refuse()),
            };
        }
        if parameter.data().len() != size {
            return Err(refuse());
        }
        let mut shape = vec![1; dims.len()];
        shape[axis] = size;
        parameter.reshape(shape)
    }
}

/// How the integers of an input count, by two other inputs.
enum Parameters {
    Fixed { scale: Const<f32>, zero: Const<f32> },
    Dynamic(Scale),
}

impl Parameters {
    /// By the inputs `scale` and `zero`; without a zero point, it is 0.
    fn of(call: &mut Call, scale: usize, zero: usize) -> Result<Self, Fault> {
        let dynamic = match (call.value(scale)?, call.has(zero)) {
            (Value::Scale(scale), true) => Some(scale),
            _ => None,
        };
        match dynamic {
            Some(scale) if matches!(call.value(zero)?, Value::ZeroPoint(of) if of == scale.of) => {
                Ok(Parameters::Dynamic(scale))
            }
            _ => Ok(Parameters::Fixed { scale: call.floats(scale)?, zero: zero_point(call, zero)? }),
        }
    }
}

/// Input `i` as floats; 0 if it is absent.
pub(super) fn zero_point(call: &mut Call, i: usize) -> Result<Const<f32>, Fault> {
    if !call.has(i) {
        return Ok(Const::scalar(0.0));
    }
    let zero = call.ints(i)?;
    zero.map(&mut call.builder.budget, to_float)
}

pub(super) fn to_float(v: Sym) -> Result<f32, Fault> {
    v.known()
        .map(|v| v as f32)
        .ok_or_else(|| Fault::invalid("got a quantised value that depends on the batch"))
}

/// The floats that the integers of input `at[0]` stand for, by the scale `at[1]` and the zero point `at[2]`.
pub(super) fn dequantised(call: &mut Call, at: [usize; 3], along: Along) -> Result<Value, Fault> {
    note(call);
    match (call.value(at[0])?, Parameters::of(call, at[1], at[2])?) {
        (Value::Constant(Constant::Ints(x)), Parameters::Fixed { scale, zero }) => {
            let dims: Vec<Dim> = x.dims().iter().copied().map(Dim::Fixed).collect();
            let (scale, zero) = (along.spread(&scale, &dims, call)?, along.spread(&zero, &dims, call)?);
            let budget = &mut call.builder.budget;
            let shifted = x.zip(&zero, budget, |x, z| Ok(to_float(x)? - z))?;
            Ok(shifted.zip(&scale, budget, |x, s| Ok(x * s))?.into())
        }
        (Value::Integers(x), Parameters::Fixed { scale, zero }) => {
            recounted(call, &x, &scale, &zero, along).map(Value::Graph)
        }
        (Value::Integers(x), Parameters::Dynamic(scale)) if x.step == Step::Dynamic(scale.of) => {
            times(call, x.value, &scale.factor).map(Value::Graph)
        }
        (Value::Accumulator(sums), Parameters::Fixed { scale, zero })
            if zero.data().iter().all(|z| *z == 0.0) =>
        {
            dynamic::finished(call, &sums, &scale)
        }
        _ => Err(Fault::unsupported(format!(
            "input {} is no tensor of integers of this scale, expected what QuantizeLinear gives, integers or a constant",
            at[0]
        ))),
    }
}

/// The floats that integers stand for by another scale and zero point than their own: nothing, if those are the same.
fn recounted(
    call: &mut Call,
    x: &Integers,
    scale: &Const<f32>,
    zero: &Const<f32>,
    along: Along,
) -> Result<ValueId, Fault> {
    let Step::Fixed { scale: own, zero: start } = x.step else {
        return Err(Fault::unsupported(
            "got integers whose scale depends on the data with a constant scale, expected their own",
        ));
    };
    if along.block > 0 {
        return Err(Fault::unsupported("got a block_size for a tensor that depends on the model's input"));
    }
    let dims = call.ty(x.value).dims().to_vec();
    let (scale, zero) = (along.spread(scale, &dims, call)?, along.spread(zero, &dims, call)?);
    let budget = &mut call.builder.budget;
    let factor = scale.map(budget, |s| Ok((f64::from(s) / f64::from(own)) as f32))?;
    let shift =
        zero.zip(&scale, budget, |z, s| Ok(((f64::from(start) - f64::from(z)) * f64::from(s)) as f32))?;
    let scaled = times(call, x.value, &factor)?;
    plus(call, scaled, &shift)
}

/// `x` times a constant.
pub(super) fn times(call: &mut Call, x: ValueId, factor: &Const<f32>) -> Result<ValueId, Fault> {
    if factor.data().iter().all(|f| *f == 1.0) {
        return Ok(x);
    }
    let factor = call.new_weight("scale", factor)?;
    call.node(Op::Arithmetic(Arithmetic::Mul), &[x, factor])
}

/// `x` plus a constant.
pub(super) fn plus(call: &mut Call, x: ValueId, shift: &Const<f32>) -> Result<ValueId, Fault> {
    if shift.data().iter().all(|s| *s == 0.0) {
        return Ok(x);
    }
    let shift = call.new_weight("shift", shift)?;
    call.node(Op::Arithmetic(Arithmetic::Add), &[x, shift])
}

/// A constant's integers, rounded to even as ONNX does, from inputs 1 and 2.
fn quantised_constant(
    call: &mut Call,
    x: &Const<f32>,
    along: Along,
    (low, high): (f64, f64),
) -> Result<Value, Fault> {
    note(call);
    let (scale, zero) = (call.floats(1)?, zero_point(call, 2)?);
    if let Some(scale) = scale.data().iter().find(|s| !(**s > 0.0 && s.is_finite())) {
        return Err(Fault::invalid(format!("got a scale of {scale}, expected a positive one")));
    }
    let dims: Vec<Dim> = x.dims().iter().copied().map(Dim::Fixed).collect();
    let (scale, zero) = (along.spread(&scale, &dims, call)?, along.spread(&zero, &dims, call)?);
    let steps = x.zip(&scale, &mut call.builder.budget, |x, s| match (x / s).round_ties_even() {
        steps if steps.is_nan() => Err(Fault::invalid("got a constant of NaN to quantise, expected numbers")),
        steps => Ok(steps),
    })?;
    let integer = |q: f32, z: f32| Ok(Sym::from((f64::from(q) + f64::from(z)).clamp(low, high) as i64));
    Ok(steps.zip(&zero, &mut call.builder.budget, integer)?.into())
}

/// The least and the largest integer of the type of the zero point, input `zero`, or of the one that is stated.
fn limits(call: &Call, zero: usize) -> Result<(f64, f64), Fault> {
    let stated = call.attributes.int("output_dtype")?.unwrap_or(0);
    if call.has(zero) {
        return call.integer_limits(zero).ok_or_else(|| {
            Fault::unsupported(format!(
                "got a zero point (input {zero}) whose element type is not stated, expected an initialiser or Constant"
            ))
        });
    }
    if stated == 0 {
        return Ok((0.0, 255.0));
    }
    let limits = i32::try_from(stated).ok().and_then(type_limits);
    limits
        .ok_or_else(|| Fault::unsupported(format!("got output_dtype={stated}, expected a type of integers")))
}

/// The integers that a tensor of floats is quantised to.
pub(super) struct Target {
    scale: f32,
    zero: f32,
    limits: (f64, f64),
}

impl Target {
    /// By the inputs `scale` and `zero`, one value each.
    pub fn of(call: &mut Call, scale: usize, zero: usize) -> Result<Self, Fault> {
        note(call);
        let limits = limits(call, zero)?;
        let (scale, zero) = (call.floats(scale)?, zero_point(call, zero)?);
        let [scale] = **scale.data() else {
            return Err(Fault::unsupported("got a scale per axis for an activation, expected one"));
        };
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Fault::invalid(format!("got a scale of {scale}, expected a positive one")));
        }
        Ok(Target { scale, zero: zero.single()?, limits })
    }

    /// A tensor, clipped to what the integers can hold.
    pub fn quantised(&self, call: &mut Call, x: Value) -> Result<Value, Fault> {
        let Value::Graph(x) = x else {
            return Err(Fault::unsupported(
                "got constants only, expected a tensor that depends on the model's input",
            ));
        };
        let step = Step::Fixed { scale: self.scale, zero: self.zero };
        // The probabilities at the end of a classifier: behind a clip, the passes would not find the end.
        if matches!(call.builder.graph.node(x.node).op, Op::Softmax(_)) {
            return Ok(Value::Integers(Integers { value: x, step, limits: self.limits }));
        }
        let (low, high) = self.limits;
        let real = |q: f64| (q - f64::from(self.zero)) * f64::from(self.scale);
        let clip = Activation::Clip { min: real(low), max: real(high) };
        let value = call.node(Op::Activation(clip), &[x])?;
        Ok(Value::Integers(Integers { value, step, limits: self.limits }))
    }
}

/// The operators that move, repeat or drop elements, or look at the shape alone: integers pass as what they stand for.
/// (Interpolation is one of these: its weights sum to 1.)
const MOVES: &[&str] = &[
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Upsample",
];

/// If `op` moves elements, gives it floats in the place of integers. Returns how its results count.
pub(crate) fn unwrap_moved(call: &mut Call, op: &str) -> Result<Option<Integers>, Fault> {
    let mut moved: Option<Integers> = None;
    if MOVES.binary_search(&op).is_err() {
        return Ok(None);
    }
    for i in 0..call.arity() {
        let Ok(Value::Integers(x)) = call.value(i) else { continue };
        call.set_input(i, Value::Graph(x.value));
        if moved.get_or_insert_with(|| x.clone()).step != x.step {
            return Err(Fault::unsupported("got integers of several scales, expected one scale"));
        }
    }
    if let Some(x) = &moved {
        if op == "Pad" {
            unwrap_padding(call, x.step)?;
        }
        if matches!(op, "Resize" | "Upsample")
            && call.attributes.string("mode")?.unwrap_or("nearest") != "nearest"
        {
            call.note("integers that are interpolated are not rounded".into());
        }
    }
    Ok(moved)
}

/// What an integer that `Pad` puts around integers stands for.
fn unwrap_padding(call: &mut Call, step: Step) -> Result<(), Fault> {
    if call.opset < 11 {
        return Err(Fault::unsupported("got integers to pad before opset 11, expected floats"));
    }
    let given = if call.has(2) { call.value(2)? } else { Const::scalar(Sym::from(0)).into() };
    let real = match (given, step) {
        (Value::ZeroPoint(of), Step::Dynamic(this)) if of == this => 0.0,
        (Value::Constant(Constant::Ints(q)), Step::Fixed { scale, zero }) => {
            (to_float(q.single()?)? - zero) * scale
        }
        (_, Step::Dynamic(_)) => {
            return Err(Fault::unsupported("got integers to pad with another value than their zero point"));
        }
        (_, Step::Fixed { .. }) => {
            return Err(Fault::unsupported(
                "got integers to pad with no integer, expected a constant of one",
            ));
        }
    };
    call.set_input(2, Const::scalar(real).into());
    Ok(())
}
