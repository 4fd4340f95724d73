//! The attributes that convolutions and pools share: kernel, strides, pads, dilations, `auto_pad`.

use relc_ir::op::{Reshape, Window};
use relc_ir::{Dim, Op, TensorType, ValueId};

use crate::call::{Call, Value};
use crate::error::Fault;
use crate::tensor::Constant;

/// The largest kernel, stride, pad or dilation.
const MAX_WINDOW: i64 = 1 << 16;

/// The largest height and width that windows slide over: shape inference looks at every window.
const MAX_SIDE: usize = 1 << 20;

/// The window of a node over the input `x`.
///
/// `kernel` is the weight's for a convolution, which may state it again; a pool has to state it.
pub(super) fn window(call: &mut Call, x: &TensorType, kernel: Option<[usize; 2]>) -> Result<Window, Fault> {
    let size = input_size(x)?;
    let stated: Option<[usize; 2]> = pair(call, "kernel_shape", 1)?;
    let kernel = match (stated, kernel) {
        (Some(stated), Some(kernel)) if stated != kernel => {
            return Err(Fault::invalid(format!(
                "got kernel_shape={stated:?}, expected {kernel:?}, the weight's height and width"
            )));
        }
        (Some(kernel), _) | (None, Some(kernel)) => kernel,
        (None, None) => return Err(Fault::invalid("the attribute \"kernel_shape\" is missing")),
    };
    let strides = pair(call, "strides", 1)?.unwrap_or([1; 2]);
    let dilations = pair(call, "dilations", 1)?.unwrap_or([1; 2]);
    if kernel.contains(&0) {
        return Err(Fault::invalid("got a kernel of size 0, expected at least 1"));
    }
    let pads = pads(call)?;
    let ceil = call.attributes.flag("ceil_mode")?;
    let window = Window { strides, dilations, pads: pads.unwrap_or_default(), ceil, kernel };
    let upper = match call.attributes.string("auto_pad")?.unwrap_or("NOTSET") {
        "" | "NOTSET" => return Ok(window),
        // A stated auto_pad takes the place of pads and of the rounding.
        "VALID" => {
            let valid = Window { pads: [0; 4], ceil: false, ..window };
            say_rounding(call, &valid, ceil, size);
            return Ok(valid);
        }
        "SAME_UPPER" => true,
        "SAME_LOWER" => false,
        got => {
            return Err(Fault::invalid(format!(
                "got auto_pad={got}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER"
            )));
        }
    };
    let mut pads = [0; 4];
    for axis in 0..2 {
        let (begin, end) = same_pads(size[axis], strides[axis], window.extent(axis), upper);
        pads[axis] = begin;
        pads[axis + 2] = end;
    }
    Ok(Window { pads, ceil: false, ..window })
}

/// Says where the specification, which relc follows, and ONNX Runtime give different sizes.
fn say_rounding(call: &mut Call, valid: &Window, ceil: bool, size: [usize; 2]) {
    let sizes = |window: &Window| [0, 1].map(|axis| window.output_size(axis, size[axis]).ok());
    let (own, rounded) = (sizes(valid), sizes(&Window { ceil, ..*valid }));
    if let ([Some(h), Some(w)], [Some(oh), Some(ow)]) = (own, rounded)
        && own != rounded
    {
        call.note(format!(
            "node \"{}\": auto_pad=VALID with ceil_mode=1 gives {h}x{w} by ONNX's specification, which relc follows, and \
             {oh}x{ow} in ONNX Runtime; export the model with explicit pads",
            call.name
        ));
    }
}

/// Input 0 as a picture `f32[N,C,H,W]`; of `f32[N,C,L]`, one of height 1 and whether it is such a row.
pub(super) fn as_picture(call: &mut Call) -> Result<(ValueId, bool), Fault> {
    let x = call.data(0)?;
    let &[n, c, l] = call.ty(x).dims() else { return Ok((x, false)) };
    let x = call.node(Op::Reshape(Reshape { shape: vec![n, c, Dim::Fixed(1), l] }), &[x])?;
    Ok((x, true))
}

/// A result in the shape of the input that [`as_picture`] took.
pub(super) fn from_picture(call: &mut Call, y: ValueId, row: bool) -> Result<Value, Fault> {
    match *call.ty(y).dims() {
        [n, c, _, l] if row => call.emit(Op::Reshape(Reshape { shape: vec![n, c, l] }), &[y]),
        _ => Ok(Value::Graph(y)),
    }
}

/// The pads before and behind an axis that make `ceil(size / stride)` windows.
fn same_pads(size: usize, stride: usize, extent: usize, upper: bool) -> (usize, usize) {
    let windows = size.div_ceil(stride);
    let covered = windows.saturating_sub(1).saturating_mul(stride).saturating_add(extent);
    let total = covered.saturating_sub(size);
    let (small, large) = (total / 2, total.div_ceil(2));
    if upper { (small, large) } else { (large, small) }
}

/// Height and width of an input `f32[N,C,H,W]`.
fn input_size(x: &TensorType) -> Result<[usize; 2], Fault> {
    match *x.dims() {
        [_, Dim::Fixed(_), Dim::Fixed(h), Dim::Fixed(w)] if h.max(w) > MAX_SIDE => Err(Fault::unsupported(
            format!("got an input {x}, expected a height and width of at most {MAX_SIDE}"),
        )),
        [_, Dim::Fixed(_), Dim::Fixed(h), Dim::Fixed(w)] => Ok([h, w]),
        _ => Err(Fault::unsupported(format!("got an input {x}, expected f32[N,C,H,W]"))),
    }
}

/// Whether input 0 is `f32[N,C,L]`.
fn is_row(call: &Call) -> bool {
    rank(call) == 3
}

/// The rank of input 0; 0 if it is no tensor of floats.
fn rank(call: &Call) -> usize {
    match call.value(0) {
        Ok(Value::Graph(x)) => call.ty(x).rank(),
        Ok(Value::Constant(Constant::Floats(c))) => c.dims().len(),
        _ => 0,
    }
}

/// The axes of a volume `f32[N,C,D,H,W]` that a window moves along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// Its depth.
    Depth,
    /// Its height and width.
    Plane,
}

/// The axes that a window over a volume moves along; none if input 0 is no volume.
pub(super) fn volume(call: &mut Call) -> Result<Option<Volume>, Fault> {
    let x = call.data(0)?;
    if call.ty(x).rank() != 5 {
        return Ok(None);
    }
    let alone = |name: &str, still: i64, axis: usize| {
        let list = call.attributes.ints(name)?.unwrap_or_default();
        Ok::<_, Fault>([axis, axis + 3].iter().all(|i| list.get(*i).is_none_or(|v| *v == still)))
    };
    let rests = |axis| {
        Ok::<_, Fault>(
            alone("kernel_shape", 1, axis)? && alone("strides", 1, axis)? && alone("pads", 0, axis)?,
        )
    };
    match [rests(0)?, rests(1)?, rests(2)?] {
        [_, true, true] => Ok(Some(Volume::Depth)),
        [true, ..] => Ok(Some(Volume::Plane)),
        _ => {
            Err(Fault::unsupported("got a window over depth, height and width, expected one or two of them"))
        }
    }
}

/// An attribute of two sizes of at least `least`; one size belongs to a row, whose height has `least`.
pub(super) fn pair(call: &Call, name: &str, least: usize) -> Result<Option<[usize; 2]>, Fault> {
    match call.attributes.ints(name)?.map(<[i64]>::len) {
        Some(1) if is_row(call) => Ok(sizes::<1>(call, name, least)?.map(|[horizontal]| [least, horizontal])),
        Some(3) if rank(call) == 5 => Ok(sizes::<3>(call, name, least)?.map(|[d, h, w]| {
            // A window over the depth rests on the other axes, and one over these on the depth.
            if (h, w) == (least, least) { [d, least] } else { [h, w] }
        })),
        _ => sizes(call, name, least),
    }
}

/// The pads, of a picture or of a row.
pub(super) fn pads(call: &Call) -> Result<Option<[usize; 4]>, Fault> {
    match call.attributes.ints("pads")?.map(<[i64]>::len) {
        Some(2) if is_row(call) => Ok(sizes::<2>(call, "pads", 0)?.map(|[begin, end]| [0, begin, 0, end])),
        Some(6) if rank(call) == 5 => {
            Ok(sizes::<6>(call, "pads", 0)?.map(|[d, h, w, d_end, h_end, w_end]| {
                if [h, w, h_end, w_end] == [0; 4] { [d, 0, d_end, 0] } else { [h, w, h_end, w_end] }
            }))
        }
        _ => sizes(call, "pads", 0),
    }
}

/// A list attribute of exactly `K` sizes of at least `least`.
fn sizes<const K: usize>(call: &Call, name: &str, least: usize) -> Result<Option<[usize; K]>, Fault> {
    let Some(values) = call.attributes.ints(name)? else { return Ok(None) };
    let size = |v: &i64| usize::try_from(*v).ok().filter(|size| *size >= least && *v <= MAX_WINDOW);
    let sizes: Option<Vec<usize>> = values.iter().map(size).collect();
    let sizes = sizes.and_then(|s| <[usize; K]>::try_from(s).ok());
    sizes.map(Some).ok_or_else(|| {
        let reason = format!("got {name}={values:?}, expected {K} numbers from {least} to {MAX_WINDOW}");
        // Negative pads crop, which is ONNX; other windows are not.
        if least == 0 && values.len() == K { Fault::unsupported(reason) } else { Fault::invalid(reason) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_pads_follow_onnx() {
        assert_eq!(same_pads(224, 2, 7, true), (2, 3));
        assert_eq!(same_pads(224, 2, 7, false), (3, 2));
        assert_eq!(same_pads(5, 1, 3, true), (1, 1));
        assert_eq!(same_pads(4, 2, 1, true), (0, 0));
        assert_eq!(same_pads(5, 2, 2, true), (0, 1));
    }
}
