//! One axis of a sliding window over an input, in closed form.

use std::ops::Range;

use relc_ir::op::Window;

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
    /// Both axes (vertical, horizontal) of a window over an input of `input` pixels with `output` windows.
    pub fn both(window: &Window, input: [usize; 2], output: [usize; 2]) -> [Span; 2] {
        [0, 1].map(|axis| Span {
            size: input[axis],
            windows: output[axis],
            kernel: window.kernel[axis],
            stride: window.strides[axis],
            pad: window.pads[axis],
            dilation: window.dilations[axis],
        })
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
pub(crate) fn valid_taps(spans: &[Span; 2]) -> Vec<usize> {
    let [y, x] = spans.map(|span| (0..span.windows).map(|i| span.taps_of(i).len()).collect::<Vec<_>>());
    y.iter().flat_map(|rows| x.iter().map(move |columns| rows * columns)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The closed form against the IR's enumeration.
        #[test]
        fn closed_form_is_the_enumeration(
            size in 1usize..9, kernel in 1usize..5, stride in 1usize..4, dilation in 1usize..4,
            pads in [0usize..6, 0..6], ceil: bool,
        ) {
            let window = Window {
                kernel: [kernel; 2], strides: [stride; 2], pads: [pads[0], 0, pads[1], 0],
                dilations: [dilation; 2], ceil,
            };
            let Ok(windows) = window.output_size(0, size) else { return Ok(()) };
            let [span, _] = Span::both(&window, [size; 2], [windows; 2]);
            let mut by_tap = vec![Vec::new(); kernel];
            for i in 0..windows {
                let taps: Vec<_> = window.taps(0, i, size).collect();
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
