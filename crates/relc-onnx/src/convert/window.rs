//! The attributes that convolutions and pools share: kernel, strides, pads, dilations, `auto_pad`.

use relc_ir::op::Window;
use relc_ir::{Dim, TensorType};

use crate::call::Call;
use crate::error::Fault;

/// The largest kernel, stride, pad or dilation.
const MAX_WINDOW: i64 = 1 << 16;

/// The largest height and width that windows slide over: shape inference looks at every window.
const MAX_SIDE: usize = 1 << 20;

/// The window of a node over the input `x`.
///
/// `kernel` is the weight's for a convolution, which may state it again; a pool has to state it.
pub(super) fn window(call: &Call, x: &TensorType, kernel: Option<[usize; 2]>) -> Result<Window, Fault> {
    let size = input_size(x)?;
    let stated: Option<[usize; 2]> = sizes(call, "kernel_shape")?;
    let kernel = match (stated, kernel) {
        (Some(stated), Some(kernel)) if stated != kernel => {
            return Err(Fault::invalid(format!(
                "got kernel_shape={stated:?}, expected {kernel:?}, the weight's height and width"
            )));
        }
        (Some(kernel), _) | (None, Some(kernel)) => kernel,
        (None, None) => return Err(Fault::invalid("the attribute \"kernel_shape\" is missing")),
    };
    let strides = sizes(call, "strides")?.unwrap_or([1; 2]);
    let dilations = sizes(call, "dilations")?.unwrap_or([1; 2]);
    if [kernel, strides, dilations].as_flattened().contains(&0) {
        return Err(Fault::invalid("got a kernel, stride or dilation of 0, expected at least 1"));
    }
    let pads: Option<[usize; 4]> = sizes(call, "pads")?;
    let ceil = call.attributes.flag("ceil_mode")?;
    let window = Window { strides, dilations, pads: pads.unwrap_or_default(), ceil, kernel };
    let upper = match call.attributes.string("auto_pad")?.unwrap_or("NOTSET") {
        "" | "NOTSET" => return Ok(window),
        // A stated auto_pad takes the place of pads and of the rounding.
        "VALID" => return Ok(Window { pads: [0; 4], ceil: false, ..window }),
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

/// A list attribute of exactly `K` sizes.
fn sizes<const K: usize>(call: &Call, name: &str) -> Result<Option<[usize; K]>, Fault> {
    let Some(values) = call.attributes.ints(name)? else { return Ok(None) };
    let size = |v: &i64| usize::try_from(*v).ok().filter(|_| *v <= MAX_WINDOW);
    let sizes: Option<Vec<usize>> = values.iter().map(size).collect();
    let sizes = sizes.and_then(|s| <[usize; K]>::try_from(s).ok());
    sizes.map(Some).ok_or_else(|| {
        Fault::unsupported(format!("got {name}={values:?}, expected {K} numbers from 0 to {MAX_WINDOW}"))
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
