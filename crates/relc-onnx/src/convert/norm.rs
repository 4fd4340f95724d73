//! `BatchNormalization`, `Softmax`, `LogSoftmax`.

use relc_ir::op::{BatchNormalization, Softmax};
use relc_ir::{Dim, Op};

use crate::call::{Call, Value};
use crate::constant::axis;
use crate::error::Fault;

pub(crate) fn batch_normalization(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(5..=5)?;
    call.attributes.ignore(&["momentum"]);
    if call.opset >= 14 && call.attributes.flag("training_mode")? {
        return Err(Fault::unsupported("got training_mode=1: export the model in evaluation mode"));
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

pub(crate) fn softmax(call: &mut Call) -> Result<Value, Fault> {
    along_axis(call, false)
}

pub(crate) fn log_softmax(call: &mut Call) -> Result<Value, Fault> {
    along_axis(call, true)
}

/// Before opset 13, all axes from `axis` on are one: the same as one axis if the others there have size 1.
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
                return Err(Fault::unsupported(format!(
                    "got axis={stated} on {ty}, which before opset 13 takes the axes {long:?} as one"
                )));
            }
        }
    }
    call.emit(Op::Softmax(Softmax { axis, log }), &[x])
}
