//! The sliding window that convolutions and pools share.

use tinyvec::ArrayVec;

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// The most spatial axes: those of a volume `f32[N,C,D,H,W]`.
pub const MAX_SPATIAL: usize = 3;

/// The largest kernel, stride, dilation or pad: far above any real one, and small enough that nothing computed from
/// them overflows.
const MAX_WINDOW: usize = 1 << 16;

/// One axis of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowAxis {
    /// Taps.
    pub kernel: usize,
    /// Steps from a window to the next.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Padding before and behind.
    pub pads: [usize; 2],
}

impl Default for WindowAxis {
    fn default() -> WindowAxis {
        WindowAxis::ONE
    }
}

impl WindowAxis {
    /// One tap that visits every pixel.
    pub const ONE: WindowAxis = WindowAxis { kernel: 1, stride: 1, dilation: 1, pads: [0; 2] };

    /// From the first to behind the last tap, in pixels.
    pub fn extent(&self) -> usize {
        (self.kernel.saturating_sub(1)).saturating_mul(self.dilation).saturating_add(1)
    }

    /// Whether window `i` is pixel `i` and nothing else.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pads == [0; 2]
    }

    /// The number of windows over `size` input pixels; with `ceil` it is rounded up.
    ///
    /// # Errors
    /// If a number is out of range or no window fits.
    pub fn output_size(&self, size: usize, ceil: bool) -> Result<usize, String> {
        let ([begin, end], stride) = (self.pads, self.stride);
        let numbers = [stride, self.kernel, self.dilation];
        if numbers.iter().any(|n| !(1..=MAX_WINDOW).contains(n)) || begin.max(end) > MAX_WINDOW {
            return Err(format!(
                "got kernel {}, stride {stride}, dilation {}, pads {:?} along an axis, expected sizes from 1 and pads \
                 from 0 to {MAX_WINDOW}",
                self.kernel, self.dilation, self.pads
            ));
        }
        let padded = size.checked_add(begin).and_then(|v| v.checked_add(end));
        let extent = self.extent();
        let span = padded.and_then(|p| p.checked_sub(extent)).ok_or_else(|| {
            format!(
                "got a window of {extent} pixels over {size} (padded by {begin} and {end}), expected one that fits"
            )
        })?;
        let mut count = span / stride + 1;
        if ceil && span % stride != 0 {
            let start = count.checked_mul(stride).ok_or("the output size overflows")?;
            if start < size.saturating_add(begin) {
                count += 1;
            }
        }
        Ok(count)
    }

    /// The number of windows of a pool; one over all of the input may be larger than others can.
    ///
    /// # Errors
    /// As [`output_size`](Self::output_size).
    pub fn pooled_size(&self, size: usize, ceil: bool) -> Result<usize, String> {
        if self.kernel == size && self.pads == [0; 2] { Ok(1) } else { self.output_size(size, ceil) }
    }

    /// The input pixels that window `index` covers, as (tap, position) pairs.
    pub fn taps(&self, index: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let ([begin, _], step) = (self.pads, self.dilation);
        let start = index * self.stride;
        (0..self.kernel).filter_map(move |tap| {
            let position = (start + tap * step).checked_sub(begin)?;
            (position < size).then_some((tap, position))
        })
    }

    /// Whether each of so many windows over `size` pixels covers at least one of them.
    fn always_covers(&self, windows: usize, size: usize) -> bool {
        let ([begin, _], step, stride) = (self.pads, self.dilation, self.stride.max(1));
        // A window whose first tap lies inside covers it; one that starts behind the input never does.
        let starts_behind = windows > 0 && (windows - 1).saturating_mul(stride) >= size.saturating_add(begin);
        let before = begin.div_ceil(stride).min(windows);
        let enters = |window: usize| {
            let gap = begin - window * stride;
            let tap = gap.div_ceil(step.max(1));
            tap < self.kernel && tap * step - gap < size
        };
        !starts_behind && (0..before).all(enters)
    }
}

/// A sliding window over one to [`MAX_SPATIAL`] spatial axes, as ONNX's `Conv`, `MaxPool` and `AveragePool` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The axes, outermost first: of a signal its length; of a picture height and width; of a volume depth, height and
    /// width.
    pub axes: ArrayVec<[WindowAxis; MAX_SPATIAL]>,
    /// Whether the output size is rounded up (`ceil_mode`); a window that would start in the end padding is
    /// dropped, as in PyTorch and ONNX.
    pub ceil: bool,
}

impl Window {
    /// A window of the given kernel and strides, without padding or dilation.
    pub fn new<const R: usize>(kernel: [usize; R], strides: [usize; R]) -> Self {
        const { assert!(R > 0 && R <= MAX_SPATIAL) };
        let axes = kernel.into_iter().zip(strides);
        let axes = axes.map(|(kernel, stride)| WindowAxis { kernel, stride, ..WindowAxis::ONE }).collect();
        Window { axes, ceil: false }
    }

    /// The window with so much padding on every side.
    pub fn padded(mut self, pad: usize) -> Self {
        self.axes.iter_mut().for_each(|axis| axis.pads = [pad; 2]);
        self
    }

    /// A window that covers all of an input of these sizes.
    pub fn whole(size: &[usize]) -> Self {
        let axis = |kernel: &usize| WindowAxis { kernel: *kernel, ..WindowAxis::ONE };
        Window { axes: size.iter().take(MAX_SPATIAL).map(axis).collect(), ceil: false }
    }

    /// The window over slices, rows and columns: of the axes that it lacks, one tap that visits every pixel.
    pub fn over_volume(&self) -> [WindowAxis; MAX_SPATIAL] {
        let missing = MAX_SPATIAL - self.rank().min(MAX_SPATIAL);
        std::array::from_fn(|axis| {
            let own = axis.checked_sub(missing).and_then(|axis| self.axes.get(axis));
            own.copied().unwrap_or(WindowAxis::ONE)
        })
    }

    /// A window from ONNX's lists: `pads` has those before the axes, then those behind.
    ///
    /// # Errors
    /// If the lists don't belong together, or are of no axis or more than [`MAX_SPATIAL`].
    pub fn from_lists(
        kernel: &[usize],
        strides: &[usize],
        pads: &[usize],
        dilations: &[usize],
    ) -> Result<Self, String> {
        let rank = kernel.len();
        if !(1..=MAX_SPATIAL).contains(&rank) {
            return Err(format!("got kernel={kernel:?}, expected 1 to {MAX_SPATIAL} sizes"));
        }
        if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
            return Err(format!(
                "got kernel={kernel:?}, strides={strides:?}, pads={pads:?}, dilations={dilations:?}, expected {rank} \
                 sizes each and {} pads",
                2 * rank
            ));
        }
        let axes = (0..rank).map(|axis| WindowAxis {
            kernel: kernel[axis],
            stride: strides[axis],
            dilation: dilations[axis],
            pads: [pads[axis], pads[axis + rank]],
        });
        Ok(Window { axes: axes.collect(), ceil: false })
    }

    /// The number of spatial axes.
    pub fn rank(&self) -> usize {
        self.axes.len()
    }

    /// Taps along each axis.
    pub fn kernel(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.kernel).collect()
    }

    /// Steps along each axis.
    pub fn strides(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.stride).collect()
    }

    /// Distances between taps along each axis.
    pub fn dilations(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.dilation).collect()
    }

    /// Padding in ONNX's order: before each axis, then behind each.
    pub fn pads(&self) -> Vec<usize> {
        [0, 1].into_iter().flat_map(|side| self.axes.iter().map(move |axis| axis.pads[side])).collect()
    }

    /// Whether there is padding.
    pub fn is_padded(&self) -> bool {
        self.axes.iter().any(|axis| axis.pads != [0; 2])
    }

    /// Whether window `i` is pixel `i` and nothing else.
    pub fn is_pointwise(&self) -> bool {
        self.axes.iter().all(WindowAxis::is_pointwise)
    }

    /// The number of taps.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    /// The number of windows along each axis over an input of `size`.
    ///
    /// # Errors
    /// If the input has other axes, a number is out of range or no window fits.
    pub fn output_size(&self, size: &[usize]) -> Result<Vec<usize>, String> {
        if size.len() != self.rank() {
            return Err(format!("got {} spatial axes, expected {}, the window's", size.len(), self.rank()));
        }
        self.axes.iter().zip(size).map(|(axis, size)| axis.output_size(*size, self.ceil)).collect()
    }

    /// The window whose output size is the same without rounding up, over an input of `size`: the padding at the end is
    /// as large as the last window needs. `None` if no window fits.
    pub fn without_ceil(&self, size: &[usize]) -> Option<Window> {
        let windows = self.output_size(size).ok()?;
        let mut window = Window { ceil: false, ..*self };
        for (axis, (windows, size)) in window.axes.iter_mut().zip(windows.into_iter().zip(size)) {
            if self.ceil {
                let last = (windows - 1).checked_mul(axis.stride)?;
                let end = last.checked_add(axis.extent())?.saturating_sub(size.checked_add(axis.pads[0])?);
                axis.pads[1] = end.max(axis.pads[1]);
            }
        }
        Some(window)
    }

    /// The spatial dimensions of the output for an input `f32[N,C,..]`.
    ///
    /// # Errors
    /// If the input has other spatial axes or symbolic ones, or no window fits.
    pub fn output_dims(&self, input: &TensorType) -> Result<Vec<Dim>, String> {
        let size = input.spatial().filter(|size| size.len() == self.rank()).ok_or_else(|| {
            let expected = ["f32[N,C,L]", "f32[N,C,H,W]", "f32[N,C,D,H,W]"];
            let expected = expected.get(self.rank().wrapping_sub(1)).unwrap_or(&"spatial axes");
            format!("got an input {input}, expected {expected} of fixed sizes")
        })?;
        Ok(self.output_size(&size)?.into_iter().map(Dim::Fixed).collect())
    }

    /// Whether every window over an input of `size` covers at least one valid pixel.
    pub fn always_covers_input(&self, size: &[usize]) -> bool {
        let windows = self.output_size(size).unwrap_or_default();
        let mut axes = self.axes.iter().zip(windows.iter().zip(size));
        windows.len() == self.rank()
            && axes.all(|(axis, (windows, size))| axis.always_covers(*windows, *size))
    }

    pub(super) fn attrs(&self) -> Attrs {
        vec![
            ("kernel", Attr::sizes(&self.kernel())),
            ("strides", Attr::sizes(&self.strides())),
            ("pads", Attr::sizes(&self.pads())),
            ("dilations", Attr::sizes(&self.dilations())),
        ]
    }

    /// Takes the attributes.
    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        let [kernel, strides, pads, dilations] =
            ["kernel", "strides", "pads", "dilations"].map(|name| attrs.sizes(name));
        Window::from_lists(&kernel?, &strides?, &pads?, &dilations?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(kernel: usize, stride: usize, pads: [usize; 2]) -> WindowAxis {
        WindowAxis { kernel, stride, pads, ..WindowAxis::ONE }
    }

    #[test]
    fn output_sizes_follow_onnx() {
        let padded = axis(3, 2, [1, 1]);
        assert_eq!(padded.output_size(64, false), Ok(32));
        assert_eq!(padded.output_size(65, false), Ok(33));
        assert_eq!(axis(3, 2, [0; 2]).output_size(6, true), Ok(3));
        // The window that would start in the padding is dropped.
        assert_eq!(axis(2, 2, [0, 1]).output_size(4, true), Ok(2));
        assert!(axis(3, 1, [0; 2]).output_size(2, false).unwrap_err().contains("expected one that fits"));
        assert!(axis(3, 0, [0; 2]).output_size(2, false).unwrap_err().contains("stride"));
    }

    #[test]
    fn lists_belong_together() {
        let window = Window::from_lists(&[1, 3, 5], &[1, 2, 2], &[0, 1, 2, 0, 1, 3], &[1; 3]).unwrap();
        assert_eq!(window.pads(), [0, 1, 2, 0, 1, 3]);
        assert_eq!(window.axes[2], axis(5, 2, [2, 3]));
        assert_eq!(window.output_size(&[4, 7, 8]), Ok(vec![4, 4, 5]));
        assert!(window.output_size(&[4, 7]).unwrap_err().contains("got 2 spatial axes, expected 3"));
        let of = |kernel: &[usize], pads: &[usize]| Window::from_lists(kernel, &[1; 2], pads, &[1; 2]);
        assert!(of(&[3; 2], &[0; 3]).unwrap_err().contains("expected 2 sizes each and 4 pads"));
        assert!(of(&[3; 4], &[0; 8]).unwrap_err().contains("expected 1 to 3 sizes"));
        assert!(of(&[], &[]).is_err());
    }

    #[test]
    fn padding_stands_for_rounding_up() {
        for (kernel, stride) in (1..4).flat_map(|k| (1..4).map(move |s| (k, s))) {
            for (size, end) in (3..9).flat_map(|size| (0..kernel).map(move |end| (size, end))) {
                let axes = [axis(kernel, stride, [0, end]), WindowAxis::ONE].into_iter().collect();
                let ceil = Window { axes, ceil: true };
                let plain = ceil.without_ceil(&[size, 3]).unwrap();
                assert!(!plain.ceil);
                assert_eq!(
                    plain.output_size(&[size, 3]),
                    ceil.output_size(&[size, 3]),
                    "{ceil:?} over {size}"
                );
            }
        }
    }

    #[test]
    fn taps_skip_the_padding() {
        let w = WindowAxis { dilation: 2, ..axis(3, 2, [1, 1]) };
        assert_eq!(w.taps(0, 5).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        let square = Window { axes: [w, w].into_iter().collect(), ceil: false };
        assert!(square.always_covers_input(&[5, 5]));
        // The closed form against a look at every window.
        for kernel in 1..4 {
            for (stride, dilation, pad) in
                (1..4).flat_map(|s| (1..4).flat_map(move |d| (0..4).map(move |p| (s, d, p))))
            {
                let w = WindowAxis { kernel, stride, dilation, pads: [pad, 3] };
                for size in 1..8 {
                    let Ok(windows) = w.output_size(size, false) else { continue };
                    let every = (0..windows).all(|i| w.taps(i, size).next().is_some());
                    assert_eq!(w.always_covers(windows, size), every, "{w:?} over {size}");
                }
            }
        }
        let hollow =
            Window { axes: [axis(1, 1, [2, 0]), WindowAxis::ONE].into_iter().collect(), ceil: false };
        assert!(!hollow.always_covers_input(&[4, 4]));
    }
}
