//! The attributes that convolutions and pools share: kernel, strides, pads, dilations, `auto_pad`.

use relc_ir::TensorType;
use relc_ir::op::Window;

use crate::call::Call;
use crate::error::Fault;

/// The largest kernel, stride, pad or dilation.
const MAX_WINDOW: i64 = 1 << 16;

/// The largest spatial axis that windows slide over: shape inference looks at every window.
const MAX_SIDE: usize = 1 << 20;

/// The window of a node over the input `x`.
///
/// `kernel` is the weight's for a convolution, which may state it again; a pool has to state it.
pub(super) fn window(call: &mut Call, x: &TensorType, kernel: Option<&[usize]>) -> Result<Window, Fault> {
    let size = spatial(x)?;
    let rank = size.len();
    let kernel = match (sizes(call, "kernel_shape", 1, rank)?, kernel) {
        (Some(stated), Some(kernel)) if stated != kernel => {
            return Err(Fault::invalid(format!(
                "got kernel_shape={stated:?}, expected {kernel:?}, the weight's spatial sizes"
            )));
        }
        (Some(kernel), _) => kernel,
        (None, Some(kernel)) => kernel.to_vec(),
        (None, None) => return Err(Fault::invalid("the attribute \"kernel_shape\" is missing")),
    };
    if kernel.contains(&0) {
        return Err(Fault::invalid("got a kernel of size 0, expected at least 1"));
    }
    let ones = || vec![1; rank];
    let strides = sizes(call, "strides", 1, rank)?.unwrap_or_else(ones);
    let dilations = sizes(call, "dilations", 1, rank)?.unwrap_or_else(ones);
    let pads = pads(call, rank)?;
    let ceil = call.attributes.flag("ceil_mode")?;
    let window = Window::from_lists(&kernel, &strides, &pads, &dilations).map_err(Fault::invalid)?;
    let window = Window { ceil, ..window };
    let upper = match call.attributes.string("auto_pad")?.unwrap_or("NOTSET") {
        "" | "NOTSET" => return Ok(window),
        // A stated auto_pad takes the place of pads and of the rounding.
        "VALID" => {
            let valid = padded(&Window { ceil: false, ..window }, |_| [0; 2]);
            say_rounding(call, &valid, ceil, &size);
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
    Ok(padded(&Window { ceil: false, ..window }, |axis| {
        let window = window.axes[axis];
        same_pads(size[axis], window.stride, window.extent(), upper)
    }))
}

/// The window with other pads along each axis.
fn padded(window: &Window, pads: impl Fn(usize) -> [usize; 2]) -> Window {
    let mut window = *window;
    window.axes.iter_mut().enumerate().for_each(|(index, axis)| axis.pads = pads(index));
    window
}

/// Says where the specification, which relc follows, and ONNX Runtime give different sizes.
fn say_rounding(call: &mut Call, valid: &Window, ceil: bool, size: &[usize]) {
    let (own, rounded) = (valid.output_size(size), Window { ceil, ..*valid }.output_size(size));
    let times = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    if let (Ok(own), Ok(rounded)) = (own, rounded)
        && own != rounded
    {
        call.note(format!(
            "node \"{}\": auto_pad=VALID with ceil_mode=1 gives {} by ONNX's specification, which relc follows, and {} in \
             ONNX Runtime; export the model with explicit pads",
            call.name,
            times(&own),
            times(&rounded)
        ));
    }
}

/// The pads before and behind an axis that make `ceil(size / stride)` windows.
fn same_pads(size: usize, stride: usize, extent: usize, upper: bool) -> [usize; 2] {
    let windows = size.div_ceil(stride);
    let covered = windows.saturating_sub(1).saturating_mul(stride).saturating_add(extent);
    let total = covered.saturating_sub(size);
    let (small, large) = (total / 2, total.div_ceil(2));
    if upper { [small, large] } else { [large, small] }
}

/// The spatial sizes of an input: `f32[N,C,L]`, `f32[N,C,H,W]` or `f32[N,C,D,H,W]`.
pub(super) fn spatial(x: &TensorType) -> Result<Vec<usize>, Fault> {
    let known = x.spatial().filter(|_| x.dims()[1].fixed().is_some());
    let size = known.ok_or_else(|| {
        Fault::unsupported(format!(
            "got an input {x}, expected f32[N,C,L], f32[N,C,H,W] or f32[N,C,D,H,W] of sizes that are known"
        ))
    })?;
    if size.iter().any(|side| *side > MAX_SIDE) {
        return Err(Fault::unsupported(format!(
            "got an input {x}, expected spatial axes of at most {MAX_SIDE}"
        )));
    }
    Ok(size)
}

/// The pads of `rank` axes: before each, then behind each.
pub(super) fn pads(call: &Call, rank: usize) -> Result<Vec<usize>, Fault> {
    Ok(sizes(call, "pads", 0, 2 * rank)?.unwrap_or_else(|| vec![0; 2 * rank]))
}

/// A list attribute of exactly `count` sizes of at least `least`.
pub(super) fn sizes(
    call: &Call,
    name: &str,
    least: usize,
    count: usize,
) -> Result<Option<Vec<usize>>, Fault> {
    let Some(values) = call.attributes.ints(name)? else { return Ok(None) };
    let size = |v: &i64| usize::try_from(*v).ok().filter(|size| *size >= least && *v <= MAX_WINDOW);
    let sizes: Option<Vec<usize>> = values.iter().map(size).collect();
    sizes.filter(|sizes| sizes.len() == count).map(Some).ok_or_else(|| {
        let reason = format!("got {name}={values:?}, expected {count} numbers from {least} to {MAX_WINDOW}");
        // Negative pads crop, which is ONNX; other windows are not.
        if least == 0 && values.len() == count { Fault::unsupported(reason) } else { Fault::invalid(reason) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_pads_follow_onnx() {
        assert_eq!(same_pads(224, 2, 7, true), [2, 3]);
        assert_eq!(same_pads(224, 2, 7, false), [3, 2]);
        assert_eq!(same_pads(5, 1, 3, true), [1, 1]);
        assert_eq!(same_pads(4, 2, 1, true), [0, 0]);
        assert_eq!(same_pads(5, 2, 2, true), [0, 1]);
    }
}
