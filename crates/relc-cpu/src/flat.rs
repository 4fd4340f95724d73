//! The flat fallback: relevance that no denominator can divide is spread evenly over the valid inputs of its receptive
//! field. It is rare, so it is plain code, run only for samples that need it.

use relc_ir::op::{Window, WindowAxis};
use relc_program::layout::Blocked;

use crate::stats::Stats;

/// The receptive fields of a linear layer, and how its tensors lie.
#[derive(Clone, Debug)]
pub struct Flat {
    /// The window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// The layout of R.
    pub relevance: Blocked,
    /// The layout of s.
    pub quotient: Blocked,
    /// The layout of the input's relevance.
    pub output: Blocked,
}

/// What a spread did, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spreading {
    /// Spread evenly.
    pub spread: f64,
    /// Lost, because the window covers no valid input.
    pub lost: f64,
    /// Sums of what was added to the elements of the output. Where the sums of these were taken before, both together
    /// are those of the whole, but that the extremes are those of the parts.
    pub stats: Stats,
}

impl Spreading {
    /// Nothing.
    const NONE: Spreading = Spreading { spread: 0.0, lost: 0.0, stats: Stats::NOTHING };
}

impl Flat {
    /// Adds to `output` what `relevance` has where `quotient` is 0.
    pub fn run(&self, relevance: &[f32], quotient: &[f32], output: &mut [f32]) -> Spreading {
        let shares = self.shares(relevance, quotient);
        if shares.iter().all(|s| *s == 0.0) {
            return Spreading::NONE;
        }
        let mut result = Spreading::NONE;
        let [_, slices, height, width] = self.relevance.image();
        let [channels, depth, rows, columns] = self.output.image();
        let inputs = channels / self.groups;
        let [along_z, along_y, along_x] = self.window.over_volume();
        let mut flat = vec![0.0f64; self.groups * depth * rows * columns];
        for (index, share) in shares.into_iter().enumerate().filter(|(_, share)| *share != 0.0) {
            let (place, x) = (index / width, index % width);
            let (place, y) = (place / height, place % height);
            let (group, z) = (place / slices, place % slices);
            let taps = |axis: &WindowAxis, at: usize, size: usize| -> Vec<usize> {
                axis.taps(at, size).map(|(_, position)| position).collect()
            };
            let taps = [taps(&along_z, z, depth), taps(&along_y, y, rows), taps(&along_x, x, columns)];
            let fan_in = taps.iter().map(Vec::len).product::<usize>() * inputs;
            if fan_in == 0 {
                result.lost += share;
                continue;
            }
            result.spread += share;
            let [slices, lines, pixels] = &taps;
            for (slice, row) in slices.iter().flat_map(|slice| lines.iter().map(move |row| (slice, row))) {
                for column in pixels {
                    flat[((group * depth + slice) * rows + row) * columns + column] += share / fan_in as f64;
                }
            }
        }
        let plane = depth * rows * columns;
        for (channel, pixel) in (0..channels).flat_map(|c| (0..plane).map(move |pixel| (c, pixel))) {
            let share = flat[channel / inputs * plane + pixel];
            if share != 0.0 {
                let share = share as f32;
                output[self.output.offset_of(channel * plane + pixel)] += share;
                result.stats = result.stats.with(Stats::of_value(share));
            }
        }
        result
    }

    /// For each group and output position, the sum of R over the group's channels where s is 0.
    fn shares(&self, relevance: &[f32], quotient: &[f32]) -> Vec<f64> {
        let [channels, depth, height, width] = self.relevance.image();
        let (vr, vs) = (self.relevance.block(), self.quotient.block());
        let per_group = channels / self.groups;
        let mut shares = vec![0.0f64; self.groups * depth * height * width];
        for plane in 0..channels * depth {
            let (channel, slice) = (plane / depth, plane % depth);
            for y in 0..height {
                let (r, s) = (self.relevance.plane_offset(plane, y), self.quotient.plane_offset(plane, y));
                let row = ((channel / per_group * depth + slice) * height + y) * width;
                for x in 0..width {
                    let value = relevance[r + x * vr];
                    if value != 0.0 && quotient[s + x * vs] == 0.0 {
                        shares[row + x] += f64::from(value);
                    }
                }
            }
        }
        shares
    }
}
