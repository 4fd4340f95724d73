//! One axis of a sliding window over an input, in closed form.

use std::ops::Range;

use relc_ir::op::{MAX_SPATIAL, Window};

/// One axis of a sliding window: which taps of which window lie inside the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Input pixels; at least 1.
    pub size: usize,
    /// Windows, that is output pixels.
    pub windows: usize,
    /// Taps.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    pad: usize,
    dilation: usize,
}

impl Span {
    /// One pixel under one window of one tap.
    const ONE: Span = Span { size: 1, windows: 1, kernel: 1, stride: 1, pad: 0, dilation: 1 };

    /// The axes (depth, vertical, horizontal) of a window over an input of `input` pixels with `output` windows; what has
    /// fewer axes is one row, or one slice.
    pub fn of(window: &Window, input: &[usize], output: &[usize]) -> [Span; MAX_SPATIAL] {
        let mut spans = [Span::ONE; MAX_SPATIAL];
        let first = MAX_SPATIAL - window.axes.len();
        for (span, (axis, (size, windows))) in
            spans[first..].iter_mut().zip(window.axes.iter().zip(input.iter().zip(output)))
        {
            *span = Span {
                size: *size,
                windows: *windows,
                kernel: axis.kernel,
                stride: axis.stride,
                pad: axis.pads[0],
                dilation: axis.dilation,
            };
        }
        spans
    }

    /// The windows whose tap `tap` lies inside the input.
    pub fn windows_of(&self, tap: usize) -> Range<usize> {
        let offset = tap * self.dilation;
        let begin = self.pad.saturating_sub(offset).div_ceil(self.stride);
        let end = match (self.size - 1 + self.pad).checked_sub(offset) {
            Some(room) => (room / self.stride + 1).min(self.windows),
            None => 0,
        };
        begin.min(end)..end
    }

    /// The taps of window `window` that lie inside the input.
    pub fn taps_of(&self, window: usize) -> Range<usize> {
        let start = window * self.stride;
        let begin = self.pad.saturating_sub(start).div_ceil(self.dilation);
        let end = match (self.size - 1 + self.pad).checked_sub(start) {
            Some(room) => (room / self.dilation + 1).min(self.kernel),
            None => 0,
        };
        begin.min(end)..end
    }

    /// The input pixel under a tap that lies inside the input.
    pub fn position(&self, window: usize, tap: usize) -> usize {
        window * self.stride + tap * self.dilation - self.pad
    }

    /// Whether window `i` is exactly input pixel `i`.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pad == 0 && self.windows == self.size
    }
}

/// For each window (row-major), the number of taps inside the input.
pub(crate) fn valid_taps(spans: &[Span; MAX_SPATIAL]) -> Vec<usize> {
    let [z, y, x] = spans.map(|span| (0..span.windows).map(|i| span.taps_of(i).len()).collect::<Vec<_>>());
    let rows = z.iter().flat_map(|slices| y.iter().map(move |rows| slices * rows));
    rows.flat_map(|rows| x.iter().map(move |columns| rows * columns)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use relc_ir::op::WindowAxis;

    proptest! {
        /// The closed form against the IR's enumeration.
        #[test]
        fn closed_form_is_the_enumeration(
            size in 1usize..9, kernel in 1usize..5, stride in 1usize..4, dilation in 1usize..4,
            pads in [0usize..6, 0..6], ceil: bool,
        ) {
            let axis = WindowAxis { kernel, stride, dilation, pads };
            let Ok(windows) = axis.output_size(size, ceil) else { return Ok(()) };
            let window = Window { axes: [axis].into_iter().collect(), ceil };
            let [.., span] = Span::of(&window, &[size], &[windows]);
            let mut by_tap = vec![Vec::new(); kernel];
            for i in 0..windows {
                let taps: Vec<_> = axis.taps(i, size).collect();
                for &(tap, position) in &taps {
                    prop_assert_eq!(span.position(i, tap), position);
                    by_tap[tap].push(i);
                }
                prop_assert_eq!(span.taps_of(i).collect::<Vec<_>>(), taps.iter().map(|t| t.0).collect::<Vec<_>>());
            }
            for (tap, expected) in by_tap.into_iter().enumerate() {
                prop_assert_eq!(span.windows_of(tap).collect::<Vec<_>>(), expected);
            }
        }
    }
}
