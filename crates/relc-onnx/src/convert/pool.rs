//! `MaxPool`, `AveragePool`.

use relc_ir::Op;
use relc_ir::op::{AveragePool, MaxPool, Window};

use super::window::window;
use crate::call::{Call, Value};
use crate::error::Fault;

pub(crate) fn max_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    // The order in which the second output, which is refused, counts.
    call.attributes.ignore(&["storage_order"]);
    pooled(call, |window| Op::MaxPool(MaxPool { window }))
}

pub(crate) fn average_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let count_include_pad = call.attributes.flag("count_include_pad")?;
    pooled(call, |window| Op::AveragePool(AveragePool { window, count_include_pad }))
}

fn pooled(call: &mut Call, op: impl FnOnce(Window) -> Op) -> Result<Value, Fault> {
    let x = call.data(0)?;
    let window = window(call, &call.ty(x), None)?;
    call.emit(op(window), &[x])
}
