//! Which slices of the input each slice of the output is summed from.

use std::ops::Range;

use relc_program::conv::Axis;

/// A kernel position along the axis from slice to slice, and the slice that it meets, from the first one that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceTap {
    pub k: usize,
    pub slice: usize,
}

/// A slice of the output: the first slice of the input that it meets, and the number of its taps among
/// [`Slices::variants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputSlice {
    pub first: usize,
    pub variant: usize,
}

/// The slices of a convolution. Those that lie in the padding are left out, so that slices at an end have fewer taps: they
/// are variants of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slices {
    /// Of the output, in order.
    pub outputs: Vec<OutputSlice>,
    /// Different taps, in ascending order of k; the longest come first.
    pub variants: Vec<Vec<SliceTap>>,
}

impl Slices {
    /// Of the first axis of a convolution.
    pub fn new(axis: &Axis) -> Slices {
        let mut met: Vec<(usize, usize, Vec<SliceTap>)> = Vec::new();
        for phase in &axis.phases {
            for index in 0..phase.count {
                let at = |offset: i64| usize::try_from((index * axis.in_step) as i64 + offset).ok();
                let taps = phase.taps.iter().filter_map(|tap| Some((tap.k, at(tap.offset)?)));
                let mut taps: Vec<(usize, usize)> = taps.filter(|(_, slice)| *slice < axis.input).collect();
                taps.sort_unstable();
                let first = taps.iter().map(|(_, slice)| *slice).min().unwrap_or(0);
                let taps = taps.into_iter().map(|(k, slice)| SliceTap { k, slice: slice - first }).collect();
                met.push((phase.origin + index * axis.out_step, first, taps));
            }
        }
        met.sort_by_key(|(output, ..)| *output);
        let mut variants: Vec<Vec<SliceTap>> = Vec::new();
        for (.., taps) in &met {
            if !variants.contains(taps) {
                variants.push(taps.clone());
            }
        }
        variants.sort_by_key(|taps| std::cmp::Reverse(taps.len()));
        let number = |taps: &Vec<SliceTap>| variants.iter().position(|other| other == taps).unwrap_or(0);
        let outputs =
            met.iter().map(|(_, first, taps)| OutputSlice { first: *first, variant: number(taps) }).collect();
        Slices { outputs, variants }
    }

    /// The first variant that has the kernel positions of this one side by side, itself at the latest, and where: what it
    /// packs serves both.
    pub fn packed_with(&self, variant: usize) -> (usize, usize) {
        let ks = |variant: usize| -> Vec<usize> { self.variants[variant].iter().map(|tap| tap.k).collect() };
        let own = ks(variant);
        let place = |other: usize| {
            let all = ks(other);
            (0..=all.len().checked_sub(own.len())?).find(|at| all[*at..*at + own.len()] == own)
        };
        (0..variant).find_map(|other| Some((other, place(other)?))).unwrap_or((variant, 0))
    }

    /// Ranges of a variant's taps whose kernel positions follow one another.
    pub fn runs(&self, variant: usize) -> Vec<Range<usize>> {
        let taps = &self.variants[variant];
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (at, tap) in taps.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if taps[run.end - 1].k + 1 == tap.k => run.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::conv::{ConvSpec, Direction};

    fn slices(kernel: usize, stride: usize, pad: usize, depth: usize, direction: Direction) -> Slices {
        let spec = ConvSpec {
            kernel: [kernel, 1, 1],
            stride: [stride, 1, 1],
            pads: [pad, 0, 0, pad, 0, 0],
            ..ConvSpec::gemm(1, 1)
        };
        let [axis, ..] = spec.axes(direction, [depth, 1, 1]).unwrap();
        Slices::new(&axis)
    }

    /// `k:slice` of each output's taps.
    fn text(slices: &Slices) -> String {
        let tap = |first: usize, tap: &SliceTap| format!("{}:{}", tap.k, first + tap.slice);
        let output = |output: &OutputSlice| -> String {
            let taps = slices.variants[output.variant].iter();
            taps.map(|t| tap(output.first, t)).collect::<Vec<_>>().join(" ")
        };
        slices.outputs.iter().map(output).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn slices_in_the_padding_are_left_out() {
        let both = slices(3, 1, 1, 4, Direction::Forward);
        assert_eq!(text(&both), "1:0 2:1 | 0:0 1:1 2:2 | 0:1 1:2 2:3 | 0:2 1:3");
        assert_eq!((both.packed_with(0), both.packed_with(1), both.packed_with(2)), ((0, 0), (0, 1), (0, 0)));
        assert_eq!(text(&slices(3, 1, 1, 1, Direction::Forward)), "1:0");
        assert_eq!(text(&slices(3, 2, 1, 4, Direction::Forward)), "1:0 2:1 | 0:1 1:2 2:3");
    }

    #[test]
    fn transposed_slices_meet_the_outputs_that_read_them() {
        assert_eq!(text(&slices(3, 1, 1, 3, Direction::Transposed)), "0:1 1:0 | 0:2 1:1 2:0 | 1:2 2:1");
        let strided = slices(3, 2, 1, 4, Direction::Transposed);
        assert_eq!(text(&strided), "1:0 | 0:1 2:0 | 1:1 | 2:1");
        // 0 and 2 are no neighbours, and 1 lies beside neither.
        assert_eq!(strided.runs(0), [0..1, 1..2]);
        assert_eq!((strided.packed_with(1), strided.packed_with(2)), ((1, 0), (0, 1)));
        // No output reads the second slice.
        assert_eq!(text(&slices(1, 2, 0, 3, Direction::Transposed)), "0:0 |  | 0:1");
    }
}
