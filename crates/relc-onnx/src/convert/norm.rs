//! `BatchNormalization`, the normalisations by a tensor's own statistics, `Softmax`, `LogSoftmax`.

use relc_ir::op::{Arithmetic, BatchNormalization, MeanVarianceNormalization, Reshape, Softmax};
use relc_ir::{Dim, Op, ValueId};

use crate::call::{Call, Value};
use crate::constant::{Const, axis};
use crate::error::Fault;
use crate::tensor::Constant;

pub(crate) fn batch_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(5..=5)?;
    call.attributes.ignore(&["momentum"]);
    if let Value::Constant(Constant::Floats(x)) = call.value(0)? {
        return normalised_constant(call, &x);
    }
    if call.opset >= 14 && call.attributes.flag("training_mode")? {
        return Err(Fault::unsupported("got training_mode=1: export the model in evaluation mode"));
    }
    if call.opset < 14 && call.named_outputs() > 1 {
        return Err(Fault::unsupported(format!(
            "got {} outputs, which before opset 14 mean training (the batch's own statistics), expected 1: export the \
             model in evaluation mode",
            call.named_outputs()
        )));
    }
    if call.opset < 9 && call.attributes.int("spatial")?.is_some_and(|s| s != 1) {
        return Err(Fault::unsupported("got spatial=0: one mean per pixel, expected one per channel"));
    }
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32));
    let x = call.data(0)?;
    let variance = call.floats(4)?;
    if variance.data().iter().any(|v| f64::from(*v) + epsilon <= 0.0) {
        return Err(Fault::invalid("got a variance whose sum with epsilon is not positive"));
    }
    let mut operands = vec![x];
    for i in 1..5 {
        operands.push(call.weight(i)?);
    }
    call.emit(Op::BatchNormalization(BatchNormalization { epsilon }), &operands)
}

/// A constant, normalised over all axes but the second: weight standardisation is exported so.
fn normalised_constant(call: &mut Call, x: &Const<f32>) -> Result<Value, Fault> {
    let training = call.opset < 14 && call.named_outputs() > 1 || call.attributes.flag("training_mode")?;
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32));
    let rank = x.dims().len();
    if rank < 2 {
        return Err(Fault::invalid(format!("got a constant of shape {:?}, expected [N,C,..]", x.dims())));
    }
    // The parameters along the channels.
    let along = |c: &Const<f32>| {
        let mut dims = vec![1; rank];
        dims[1] = c.data().len();
        c.reshape(dims)
    };
    let (scale, bias) = (along(&call.floats(1)?)?, along(&call.floats(2)?)?);
    let (mean, variance) = if training {
        let axes: Vec<usize> = (0..rank).filter(|i| *i != 1).collect();
        let budget = &mut call.builder.budget;
        let wide = x.map(budget, |v| Ok(f64::from(v)))?;
        let (sum, count) = wide.reduce(&axes, true, 0.0, |a, b| Ok(a + b), budget)?;
        let mean = sum.map(budget, |v| Ok(v / count as f64))?;
        let squares = wide.zip(&mean, budget, |v, m| Ok((v - m) * (v - m)))?;
        let (sum, count) = squares.reduce(&axes, true, 0.0, |a, b| Ok(a + b), budget)?;
        (mean, sum.map(budget, |v| Ok(v / count as f64))?)
    } else {
        let (mean, variance) = (along(&call.floats(3)?)?, along(&call.floats(4)?)?);
        let budget = &mut call.builder.budget;
        (mean.map(budget, |v| Ok(f64::from(v)))?, variance.map(budget, |v| Ok(f64::from(v)))?)
    };
    let budget = &mut call.builder.budget;
    let factor = scale.zip(&variance, budget, |s, v| Ok(f64::from(s) / (v + epsilon).sqrt()))?;
    let centred = x.zip(&mean, budget, |v, m| Ok(f64::from(v) - m))?;
    let scaled = centred.zip(&factor, budget, |v, f| Ok(v * f))?;
    Ok(scaled.zip(&bias, budget, |v, b| Ok((v + f64::from(b)) as f32))?.into())
}

/// `x * scale + bias`, both with one value along `axis` of `x`, of rank `rank`.
fn affine(
    call: &mut Call,
    x: ValueId,
    axis: usize,
    rank: usize,
    scale: &Const<f32>,
    bias: Option<&Const<f32>>,
) -> Result<Value, Fault> {
    let along = |c: &Const<f32>| {
        let mut dims = vec![1; rank - axis];
        dims[0] = c.data().len();
        c.reshape(dims)
    };
    let scale = call.new_weight("scale", &along(scale)?)?;
    let scaled = call.node(Op::Arithmetic(Arithmetic::Mul), &[x, scale])?;
    let Some(bias) = bias else { return Ok(Value::Graph(scaled)) };
    let bias = call.new_weight("bias", &along(bias)?)?;
    call.emit(Op::Arithmetic(Arithmetic::Add), &[scaled, bias])
}

/// The mean and variance of every sample and channel.
pub(crate) fn instance_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=3)?;
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32));
    let x = call.data(0)?;
    let rank = call.ty(x).rank();
    if rank < 3 {
        return Err(Fault::unsupported(format!("got an input {}, expected f32[N,C,..]", call.ty(x))));
    }
    let (scale, bias) = (call.floats(1)?, call.floats(2)?);
    let op = MeanVarianceNormalization { axes: (2..rank).collect(), epsilon };
    let y = call.node(Op::MeanVarianceNormalization(op), &[x])?;
    affine(call, y, 1, rank, &scale, Some(&bias))
}

/// The mean and variance of every sample and group of channels. Scale and bias are per group before opset 21, then per
/// channel.
pub(crate) fn group_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=3)?;
    call.attributes.ignore(&["stash_type"]);
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32));
    let groups = call.attributes.int("num_groups")?;
    let groups = groups.ok_or_else(|| Fault::invalid("the attribute \"num_groups\" is missing"))?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let groups = usize::try_from(groups).ok().filter(|g| *g > 0);
    let (Some(groups), &[n, Dim::Fixed(channels), ref rest @ ..]) = (groups, ty.dims()) else {
        return Err(Fault::unsupported(format!("got an input {ty}, expected f32[N,C,..] and groups")));
    };
    let positions = rest.iter().try_fold(channels, |product, d| product.checked_mul(d.fixed()?));
    let Some(size) = positions.filter(|_| channels % groups == 0).map(|p| p / groups) else {
        return Err(Fault::invalid(format!(
            "got {groups} groups of {ty}, expected a divisor of the channels"
        )));
    };
    let (mut scale, mut bias) = (call.floats(1)?, call.floats(2)?);
    if call.opset < 21 {
        let per_channel = |c: &Const<f32>, call: &mut Call| {
            let budget = &mut call.builder.budget;
            let column = c.reshape(vec![groups, 1])?.expand(vec![groups, channels / groups], budget)?;
            column.reshape(vec![channels])
        };
        scale = per_channel(&scale, call)?;
        bias = per_channel(&bias, call)?;
    }
    let grouped = Reshape { shape: vec![n, Dim::Fixed(groups), Dim::Fixed(size)] };
    let y = call.node(Op::Reshape(grouped), &[x])?;
    let op = MeanVarianceNormalization { axes: vec![2], epsilon };
    let y = call.node(Op::MeanVarianceNormalization(op), &[y])?;
    let y = call.node(Op::Reshape(Reshape { shape: ty.dims().to_vec() }), &[y])?;
    affine(call, y, 1, ty.rank(), &scale, Some(&bias))
}

/// The mean and variance of the axes from `axis` on.
pub(crate) fn layer_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    call.attributes.ignore(&["stash_type"]);
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32));
    let x = call.data(0)?;
    let rank = call.ty(x).rank();
    let from = axis(call.attributes.int("axis")?.unwrap_or(-1), rank)?;
    let op = MeanVarianceNormalization { axes: (from..rank).collect(), epsilon };
    let y = call.node(Op::MeanVarianceNormalization(op), &[x])?;
    let scale = call.weight(1)?;
    let y = call.node(Op::Arithmetic(Arithmetic::Mul), &[y, scale])?;
    if !call.has(2) {
        return Ok(Value::Graph(y));
    }
    let bias = call.weight(2)?;
    call.emit(Op::Arithmetic(Arithmetic::Add), &[y, bias])
}

/// ONNX adds 1e-9 to the standard deviation, which no f32 variance of a trained network tells from none.
pub(crate) fn mean_variance_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    let rank = call.ty(x).rank();
    let axes = call.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let mut axes = axes.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.contains(&0) {
        return Err(Fault::unsupported(format!("got axes={axes:?}, expected no mean over the batch")));
    }
    call.emit(Op::MeanVarianceNormalization(MeanVarianceNormalization { axes, epsilon: 1e-18 }), &[x])
}

pub(crate) fn softmax(call: &mut Call) -> Result<Value, Fault> {
    along_axis(call, false)
}

pub(crate) fn log_softmax(call: &mut Call) -> Result<Value, Fault> {
    along_axis(call, true)
}

/// Before opset 13, all axes from `axis` on are one.
fn along_axis(call: &mut Call, log: bool) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let coerced = call.opset < 13;
    let stated = call.attributes.int("axis")?.unwrap_or(if coerced { 1 } else { -1 });
    let mut axis = axis(stated, ty.rank())?;
    if coerced {
        let long: Vec<usize> = (axis..ty.rank()).filter(|i| ty.dims()[*i] != Dim::Fixed(1)).collect();
        match long[..] {
            [] => {}
            [only] => axis = only,
            _ => {
                let whole = ty.dims()[axis..].iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?));
                let Some(whole) = whole else {
                    return Err(Fault::unsupported(format!(
                        "got axis={stated} on {ty}, which before opset 13 takes the axes {long:?} as one; expected sizes \
                         that are known"
                    )));
                };
                let flat = [&ty.dims()[..axis], &[Dim::Fixed(whole)]].concat();
                let x = call.node(Op::Reshape(Reshape { shape: flat }), &[x])?;
                let y = call.node(Op::Softmax(Softmax { axis, log }), &[x])?;
                return call.emit(Op::Reshape(Reshape { shape: ty.dims().to_vec() }), &[y]);
            }
        }
    }
    call.emit(Op::Softmax(Softmax { axis, log }), &[x])
}
