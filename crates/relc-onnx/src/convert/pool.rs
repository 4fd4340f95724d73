//! `MaxPool`, `AveragePool`, `GlobalAveragePool`, `ReduceMean`.

use relc_ir::Op;
use relc_ir::op::{Activation, AveragePool, MaxPool, ReduceMean};

use super::shaping::axes_of;
use super::window::window;
use crate::call::{Call, Value};
use crate::error::Fault;

pub(crate) fn max_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    // The order in which the second output, which is refused, counts.
    call.attributes.ignore(&["storage_order"]);
    let window = window(call, &call.ty(x), None)?;
    call.emit(Op::MaxPool(MaxPool { window }), &[x])
}

pub(crate) fn average_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    let count_include_pad = call.attributes.flag("count_include_pad")?;
    let window = window(call, &call.ty(x), None)?;
    call.emit(Op::AveragePool(AveragePool { window, count_include_pad }), &[x])
}

pub(crate) fn global_average_pool(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    call.emit(Op::GlobalAveragePool, &[x])
}

pub(crate) fn reduce_mean(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=if call.opset >= 18 { 2 } else { 1 })?;
    let x = call.data(0)?;
    let rank = call.ty(x).rank();
    let keepdims = call.attributes.int("keepdims")?.unwrap_or(1) != 0;
    let axes = axes_of(call, 18, rank)?.unwrap_or_default();
    let empty_is_none = call.opset >= 18 && call.attributes.flag("noop_with_empty_axes")?;
    if axes.is_empty() && empty_is_none {
        return call.emit(Op::Activation(Activation::Identity), &[x]);
    }
    // No axes: all of them, which includes the batch.
    let axes = if axes.is_empty() { (0..rank).collect() } else { axes };
    call.emit(Op::ReduceMean(ReduceMean { axes, keepdims }), &[x])
}
