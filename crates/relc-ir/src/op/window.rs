//! The sliding window that convolutions and pools share.

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// A two-dimensional sliding window, as ONNX's `Conv`, `MaxPool` and `AveragePool` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width of the kernel, in taps.
    pub kernel: [usize; 2],
    /// Steps between windows, vertical and horizontal.
    pub strides: [usize; 2],
    /// Padding in ONNX's order: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between taps, vertical and horizontal.
    pub dilations: [usize; 2],
    /// Whether the output size is rounded up (`ceil_mode`); a window that would start in the end padding is
    /// dropped, as in PyTorch and ONNX.
    pub ceil: bool,
}

/// The largest kernel, stride, dilation or pad: far above any real one, and small enough that nothing computed from
/// them overflows.
const MAX_WINDOW: usize = 1 << 16;

impl Window {
    /// A window of the given kernel and strides, without padding or dilation.
    pub fn new(kernel: [usize; 2], strides: [usize; 2]) -> Self {
        Window { kernel, strides, pads: [0; 4], dilations: [1; 2], ceil: false }
    }

    /// From the first to behind the last tap, in pixels, along `axis` (0 vertical, 1 horizontal).
    pub fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis].saturating_sub(1)).saturating_mul(self.dilations[axis]).saturating_add(1)
    }

    /// The number of windows along `axis` over `size` input pixels.
    ///
    /// # Errors
    /// If a number is out of range or no window fits.
    pub fn output_size(&self, axis: usize, size: usize) -> Result<usize, String> {
        let (begin, end) = (self.pads[axis], self.pads[axis + 2]);
        let stride = self.strides[axis];
        let numbers = [stride, self.kernel[axis], self.dilations[axis]];
        if numbers.iter().any(|n| !(1..=MAX_WINDOW).contains(n)) || begin.max(end) > MAX_WINDOW {
            return Err(format!(
                "got kernel {:?}, strides {:?}, dilations {:?}, pads {:?}, expected sizes from 1 and pads from 0 to \
                 {MAX_WINDOW}",
                self.kernel, self.strides, self.dilations, self.pads
            ));
        }
        let padded = size.checked_add(begin).and_then(|v| v.checked_add(end));
        let extent = self.extent(axis);
        let span = padded.and_then(|p| p.checked_sub(extent)).ok_or_else(|| {
            format!(
                "got a window of {extent} pixels over {size} (padded by {begin} and {end}), expected one that fits"
            )
        })?;
        let mut count = span / stride + 1;
        if self.ceil && span % stride != 0 {
            let start = count.checked_mul(stride).ok_or("the output size overflows")?;
            if start < size.saturating_add(begin) {
                count += 1;
            }
        }
        Ok(count)
    }

    /// The window whose output size is the same without rounding up, over an input of `size` (height, width): the
    /// padding at the end is as large as the last window needs. `None` if no window fits.
    pub fn without_ceil(&self, size: [usize; 2]) -> Option<Window> {
        let mut window = Window { ceil: false, ..*self };
        for (axis, size) in size.into_iter().enumerate().filter(|_| self.ceil) {
            let last = (self.output_size(axis, size).ok()? - 1).checked_mul(self.strides[axis])?;
            let end = last.checked_add(self.extent(axis))?.saturating_sub(size.checked_add(self.pads[axis])?);
            window.pads[axis + 2] = end.max(self.pads[axis + 2]);
        }
        Some(window)
    }

    /// Height and width of the output for an input `f32[N,C,H,W]`.
    ///
    /// # Errors
    /// If the input has another rank or a symbolic height or width, or no window fits.
    pub fn output_dims(&self, input: &TensorType) -> Result<[Dim; 2], String> {
        let &[_, _, Dim::Fixed(h), Dim::Fixed(w)] = input.dims() else {
            return Err(format!("got an input {input}, expected f32[N,C,H,W] with fixed height and width"));
        };
        Ok([Dim::Fixed(self.output_size(0, h)?), Dim::Fixed(self.output_size(1, w)?)])
    }

    /// The input rows (or columns) that window `index` covers along `axis`, as (tap, position) pairs.
    pub fn taps(
        &self,
        axis: usize,
        index: usize,
        size: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (begin, step) = (self.pads[axis], self.dilations[axis]);
        let start = index * self.strides[axis];
        (0..self.kernel[axis]).filter_map(move |tap| {
            let position = (start + tap * step).checked_sub(begin)?;
            (position < size).then_some((tap, position))
        })
    }

    /// Whether every window over an input of `size` pixels (height, width) covers at least one valid pixel.
    pub fn always_covers_input(&self, size: [usize; 2]) -> bool {
        (0..2).all(|axis| {
            let windows = self.output_size(axis, size[axis]).unwrap_or(0);
            let (begin, step, stride) = (self.pads[axis], self.dilations[axis], self.strides[axis].max(1));
            // A window whose first tap lies inside covers it; one that starts behind the input never does.
            let starts_behind =
                windows > 0 && (windows - 1).saturating_mul(stride) >= size[axis].saturating_add(begin);
            let before = begin.div_ceil(stride).min(windows);
            let enters = |window: usize| {
                let gap = begin - window * stride;
                let tap = gap.div_ceil(step.max(1));
                tap < self.kernel[axis] && tap * step - gap < size[axis]
            };
            !starts_behind && (0..before).all(enters)
        })
    }

    pub(super) fn attrs(&self, with_kernel: bool) -> Attrs {
        let mut attrs = Attrs::new();
        if with_kernel {
            attrs.push(("kernel", Attr::sizes(&self.kernel)));
        }
        attrs.push(("strides", Attr::sizes(&self.strides)));
        attrs.push(("pads", Attr::sizes(&self.pads)));
        attrs.push(("dilations", Attr::sizes(&self.dilations)));
        attrs
    }

    /// Takes the attributes; a convolution's kernel comes from its weight and is passed in.
    pub(super) fn from_attrs(attrs: &mut AttrMap, kernel: Option<[usize; 2]>) -> Result<Self, String> {
        let kernel = match kernel {
            Some(kernel) => kernel,
            None => attrs.sizes_n("kernel")?,
        };
        Ok(Window {
            kernel,
            strides: attrs.sizes_n("strides")?,
            pads: attrs.sizes_n("pads")?,
            dilations: attrs.sizes_n("dilations")?,
            ceil: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_follow_onnx() {
        let w = Window { pads: [1, 1, 1, 1], ..Window::new([3, 3], [2, 2]) };
        assert_eq!(w.output_size(0, 64), Ok(32));
        assert_eq!(w.output_size(0, 65), Ok(33));
        let ceil = Window { ceil: true, ..Window::new([3, 3], [2, 2]) };
        assert_eq!(ceil.output_size(0, 6), Ok(3));
        // The window that would start in the padding is dropped.
        let ceil = Window { ceil: true, pads: [0, 0, 1, 1], ..Window::new([2, 2], [2, 2]) };
        assert_eq!(ceil.output_size(0, 4), Ok(2));
        assert!(
            Window::new([3, 3], [1, 1]).output_size(0, 2).unwrap_err().contains("expected one that fits")
        );
        assert!(Window::new([3, 3], [0, 1]).output_size(0, 2).unwrap_err().contains("stride"));
    }

    #[test]
    fn padding_stands_for_rounding_up() {
        for (kernel, stride) in (1..4).flat_map(|k| (1..4).map(move |s| (k, s))) {
            for (size, end) in (3..9).flat_map(|size| (0..kernel).map(move |end| (size, end))) {
                let pads = [0, 0, end, 0];
                let ceil = Window { ceil: true, pads, ..Window::new([kernel, 1], [stride, 1]) };
                let plain = ceil.without_ceil([size, 3]).unwrap();
                assert!(!plain.ceil);
                assert_eq!(plain.output_size(0, size), ceil.output_size(0, size), "{ceil:?} over {size}");
            }
        }
    }

    #[test]
    fn taps_skip_the_padding() {
        let w = Window { pads: [1, 1, 1, 1], dilations: [2, 2], ..Window::new([3, 3], [2, 2]) };
        assert_eq!(w.taps(0, 0, 5).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        assert!(w.always_covers_input([5, 5]));
        // The closed form against a look at every window.
        for kernel in 1..4 {
            for (stride, dilation, pad) in
                (1..4).flat_map(|s| (1..4).flat_map(move |d| (0..4).map(move |p| (s, d, p))))
            {
                let (strides, dilations) = ([stride, 1], [dilation, 1]);
                let w = Window { kernel: [kernel, 1], strides, dilations, pads: [pad, 0, 3, 0], ceil: false };
                for size in 1..8 {
                    let Ok(windows) = w.output_size(0, size) else { continue };
                    let every = (0..windows).all(|i| w.taps(0, i, size).next().is_some());
                    assert_eq!(w.always_covers_input([size, 1]), every, "{w:?} over {size}");
                }
            }
        }
        let hollow = Window { pads: [2, 0, 0, 0], ..Window::new([1, 1], [1, 1]) };
        assert!(!hollow.always_covers_input([4, 4]));
    }
}
