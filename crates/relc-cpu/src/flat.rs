//! The flat fallback: relevance that no denominator can divide is spread evenly over the valid inputs of its receptive
//! field. It is rare, so it is plain code, run only for samples that need it.

use relc_ir::op::Window;
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
        let (height, width) = (self.relevance.height(), self.relevance.width());
        let size = [self.output.height(), self.output.width()];
        let inputs = self.output.channels() / self.groups;
        let mut flat = vec![0.0f64; self.groups * size[0] * size[1]];
        for group in 0..self.groups {
            for y in 0..height {
                for x in 0..width {
                    let share = shares[(group * height + y) * width + x];
                    if share == 0.0 {
                        continue;
                    }
                    let taps = |axis: usize, index: usize| -> Vec<usize> {
                        let axis = self.window.axes.get(axis).map(|window| window.taps(index, size[axis]));
                        axis.into_iter().flatten().map(|(_, position)| position).collect()
                    };
                    let (rows, columns) = (taps(0, y), taps(1, x));
                    let fan_in = rows.len() * columns.len() * inputs;
                    if fan_in == 0 {
                        result.lost += share;
                        continue;
                    }
                    result.spread += share;
                    for row in &rows {
                        for column in &columns {
                            flat[(group * size[0] + row) * size[1] + column] += share / fan_in as f64;
                        }
                    }
                }
            }
        }
        let v = self.output.block();
        for channel in 0..self.output.channels() {
            for y in 0..size[0] {
                for x in 0..size[1] {
                    let share = flat[(channel / inputs * size[0] + y) * size[1] + x];
                    if share != 0.0 {
                        let share = share as f32;
                        output[self.output.offset(channel / v, y, x) + channel % v] += share;
                        result.stats = result.stats.with(Stats::of_value(share));
                    }
                }
            }
        }
        result
    }

    /// For each group and output position, the sum of R over the group's channels where s is 0.
    fn shares(&self, relevance: &[f32], quotient: &[f32]) -> Vec<f64> {
        let (height, width) = (self.relevance.height(), self.relevance.width());
        let (vr, vs) = (self.relevance.block(), self.quotient.block());
        let per_group = self.relevance.channels() / self.groups;
        let mut shares = vec![0.0f64; self.groups * height * width];
        for channel in 0..self.relevance.channels() {
            for y in 0..height {
                let (r, s) =
                    (self.relevance.offset(channel / vr, y, 0), self.quotient.offset(channel / vs, y, 0));
                let row = (channel / per_group * height + y) * width;
                for x in 0..width {
                    let value = relevance[r + x * vr + channel % vr];
                    if value != 0.0 && quotient[s + x * vs + channel % vs] == 0.0 {
                        shares[row + x] += f64::from(value);
                    }
                }
            }
        }
        shares
    }
}
