//! Sliding windows, cut into segments in which nothing changes.

use std::ops::Range;

/// One axis of a sliding window over an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Input pixels.
    pub size: u32,
    /// Windows, that is output pixels.
    pub windows: u32,
    /// Taps; at least 1.
    pub kernel: u32,
    /// Distance between windows; at least 1.
    pub stride: u32,
    /// Padding in front.
    pub pad: u32,
    /// Padding behind.
    pub pad_end: u32,
    /// Distance between taps; at least 1.
    pub dilation: u32,
}

/// Neighbouring windows with the same taps inside the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The windows.
    pub windows: Range<i64>,
    /// The taps inside the input; empty where windows cover padding only.
    pub taps: Range<i64>,
    /// The taps inside the input with its padding: what an average that counts padding divides by.
    pub padded: i64,
}

impl Segment {
    /// The number of taps inside the input.
    pub fn valid(&self) -> i64 {
        self.taps.end - self.taps.start
    }
}

impl Axis {
    /// One pixel under a window of one tap.
    pub const ONE: Axis = Axis { size: 1, windows: 1, kernel: 1, stride: 1, pad: 0, pad_end: 0, dilation: 1 };

    /// The input pixel under tap `tap` of window `window`; outside the input if negative or at least `size`.
    pub fn position(&self, window: i64, tap: i64) -> i64 {
        window * i64::from(self.stride) + tap * i64::from(self.dilation) - i64::from(self.pad)
    }

    /// The range of taps whose position is in `low..high`.
    fn taps(&self, window: i64, low: i64, high: i64) -> Range<i64> {
        let (start, dilation) = (self.position(window, 0), i64::from(self.dilation).max(1));
        // The first tap at `low` or behind it, and the first at `high` or behind it.
        let tap = |at: i64| (at - start + dilation - 1).div_euclid(dilation).clamp(0, i64::from(self.kernel));
        let (first, end) = (tap(low), tap(high));
        if first < end { first..end } else { 0..0 }
    }

    /// All windows in order, as few segments as possible.
    pub fn segments(&self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let (size, pad, pad_end) = (i64::from(self.size), i64::from(self.pad), i64::from(self.pad_end));
        for window in 0..i64::from(self.windows) {
            let taps = self.taps(window, 0, size);
            let padded = self.taps(window, -pad, size + pad_end);
            let padded = padded.end - padded.start;
            match segments.last_mut() {
                Some(last) if last.taps == taps && last.padded == padded => last.windows.end = window + 1,
                _ => segments.push(Segment { windows: window..window + 1, taps, padded }),
            }
        }
        segments
    }
}
