//! `MaxPool`, `AveragePool`: over pictures, over rows (one axis) as pictures of height 1, and over one or two axes of
//! volumes.

use relc_ir::op::{AveragePool, MaxPool, Reshape, Window};
use relc_ir::{Dim, Op};

use super::window::{Volume, as_picture, from_picture, volume, window};
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
    if let Some(volume) = volume(call)? {
        return pooled_volume(call, volume, op);
    }
    let (x, row) = as_picture(call)?;
    let window = window(call, &call.ty(x), None)?;
    let y = call.node(op(window), &[x])?;
    from_picture(call, y, row)
}

/// Of a volume `f32[N,C,D,H,W]`, the axes without a window are one with the columns, or with the channels.
fn pooled_volume(call: &mut Call, volume: Volume, op: impl FnOnce(Window) -> Op) -> Result<Value, Fault> {
    let x = call.data(0)?;
    let ty = call.ty(x);
    let &[n, Dim::Fixed(c), Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(w)] = ty.dims() else {
        return Err(Fault::unsupported(format!("got an input {ty}, expected f32[N,C,D,H,W]")));
    };
    let overflow = || Fault::invalid("the number of elements overflows");
    let (columns, channels) =
        (h.checked_mul(w).ok_or_else(overflow)?, c.checked_mul(d).ok_or_else(overflow)?);
    let picture = match volume {
        Volume::Depth => [c, d, columns],
        Volume::Plane => [channels, h, w],
    };
    let shape =
        |rest: &[usize]| [&[n][..], &rest.iter().copied().map(Dim::Fixed).collect::<Vec<_>>()].concat();
    let x = call.node(Op::Reshape(Reshape { shape: shape(&picture) }), &[x])?;
    let window = window(call, &call.ty(x), None)?;
    let y = call.node(op(window), &[x])?;
    let back = match (volume, call.ty(y).dims()) {
        (Volume::Depth, &[_, _, depth, _]) => vec![n, Dim::Fixed(c), depth, Dim::Fixed(h), Dim::Fixed(w)],
        (_, &[.., height, width]) => vec![n, Dim::Fixed(c), Dim::Fixed(d), height, width],
        _ => return Err(Fault::invalid("the pool gave no picture")),
    };
    call.emit(Op::Reshape(Reshape { shape: back }), &[y])
}
