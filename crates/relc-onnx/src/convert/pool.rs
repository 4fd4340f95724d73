//! `MaxPool`, `AveragePool`: over pictures, and over rows (one axis) as pictures of height 1.

use relc_ir::Op;
use relc_ir::op::{AveragePool, MaxPool};

use super::window::{as_picture, from_picture, window};
use crate::call::{Call, Value};
use crate::error::Fault;

pub(crate) fn max_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let (x, row) = as_picture(call)?;
    // The order in which the second output, which is refused, counts.
    call.attributes.ignore(&["storage_order"]);
    let window = window(call, &call.ty(x), None)?;
    let y = call.node(Op::MaxPool(MaxPool { window }), &[x])?;
    from_picture(call, y, row)
}

pub(crate) fn average_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let (x, row) = as_picture(call)?;
    let count_include_pad = call.attributes.flag("count_include_pad")?;
    let window = window(call, &call.ty(x), None)?;
    let y = call.node(Op::AveragePool(AveragePool { window, count_include_pad }), &[x])?;
    from_picture(call, y, row)
}
