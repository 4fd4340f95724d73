//! The flat fallback: relevance that no denominator can divide is spread evenly over the valid inputs of its receptive
//! field. It is rare, so it is plain code, run only for samples that need it; what is not rare is that a few elements of
//! a large tensor need it, so that the others are passed over quickly.

use rayon::prelude::*;
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
    /// The layout of s, of the same blocks.
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

/// Relevance that no denominator divides: where it arrived, and how much it is.
struct Undivided {
    channel: usize,
    /// Row-major in `[D,H,W]`.
    place: usize,
    value: f32,
}

impl Flat {
    /// Adds to `output` what `relevance` has where `quotient` is 0; on the current rayon pool if `parallel`, with the
    /// same result to the bit.
    pub fn run(&self, relevance: &[f32], quotient: &[f32], output: &mut [f32], parallel: bool) -> Spreading {
        let found = |block: usize| self.undivided(relevance, quotient, block);
        let undivided: Vec<Vec<Undivided>> = if parallel {
            (0..self.relevance.blocks()).into_par_iter().map(found).collect()
        } else {
            (0..self.relevance.blocks()).map(found).collect()
        };
        let shares = self.shares(undivided.into_iter().flatten());
        if shares.is_empty() {
            return Spreading::NONE;
        }
        let (planes, spreading) = self.planes(&shares);
        let add = |(block, out): (usize, &mut [f32])| self.add(&planes, block, out);
        let stride = self.output.block_stride();
        let added: Vec<Stats> = if parallel {
            output.par_chunks_mut(stride).enumerate().map(add).collect()
        } else {
            output.chunks_mut(stride).enumerate().map(add).collect()
        };
        Spreading { stats: added.into_iter().fold(Stats::NOTHING, Stats::with), ..spreading }
    }

    /// What a block of R has where s is 0.
    fn undivided(&self, relevance: &[f32], quotient: &[f32], block: usize) -> Vec<Undivided> {
        let [_, _, height, width] = self.relevance.image();
        let (v, blocks) = (self.relevance.block(), self.relevance.slice_blocks());
        let (slice, first) = (block / blocks, block % blocks * v);
        let mut found = Vec::new();
        for y in 0..height {
            let [r, s] = [(&self.relevance, relevance), (&self.quotient, quotient)].map(|(layout, data)| {
                let start = layout.offset(block, y, 0);
                data.get(start..start + width * v).unwrap_or(&[])
            });
            // In most rows there is none; this loop has no branch.
            let any = r.iter().zip(s).fold(false, |any, (r, s)| any | ((*r != 0.0) & (*s == 0.0)));
            if !any {
                continue;
            }
            let row = (slice * height + y) * width;
            for (x, (r, s)) in r.chunks_exact(v).zip(s.chunks_exact(v)).enumerate() {
                for (lane, (value, _)) in
                    r.iter().zip(s).enumerate().filter(|(_, (r, s))| **r != 0.0 && **s == 0.0)
                {
                    found.push(Undivided { channel: first + lane, place: row + x, value: *value });
                }
            }
        }
        found
    }

    /// Of each group and output position at which there is something, `[groups,D,H,W]` in this order, what its channels
    /// have.
    fn shares(&self, undivided: impl Iterator<Item = Undivided>) -> Vec<(usize, f64)> {
        let [channels, depth, height, width] = self.relevance.image();
        let (per_group, positions) = (channels / self.groups, depth * height * width);
        let mut shares: Vec<(usize, f64)> = undivided
            .map(|Undivided { channel, place, value }| {
                (channel / per_group * positions + place, f64::from(value))
            })
            .collect();
        // Stable: the channels of a position stay in their order.
        shares.sort_by_key(|(position, _)| *position);
        shares.dedup_by(|(position, value), (before, sum)| {
            let same = position == before;
            if same {
                *sum += *value;
            }
            same
        });
        shares
    }

    /// What each input of a group gets.
    fn planes(&self, shares: &[(usize, f64)]) -> (Planes, Spreading) {
        let mut result = Spreading::NONE;
        let [_, slices, height, width] = self.relevance.image();
        let [channels, depth, rows, columns] = self.output.image();
        let inputs = channels / self.groups;
        let [along_z, along_y, along_x] = self.window.over_volume();
        let mut planes = Planes {
            shares: vec![0.0; self.groups * depth * rows * columns],
            touched: vec![false; self.groups * depth * rows],
        };
        for &(index, share) in shares.iter().filter(|(_, share)| *share != 0.0) {
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
            for (slice, line) in slices.iter().flat_map(|slice| lines.iter().map(move |line| (slice, line))) {
                let row = (group * depth + slice) * rows + line;
                planes.touched[row] = true;
                for column in pixels {
                    planes.shares[row * columns + column] += share / fan_in as f64;
                }
            }
        }
        (planes, result)
    }

    /// Adds what is spread to a block of the output, and says what that was.
    fn add(&self, planes: &Planes, block: usize, output: &mut [f32]) -> Stats {
        let [channels, depth, rows, columns] = self.output.image();
        let (v, inputs) = (self.output.block(), channels / self.groups);
        let (slice, first) = (block / self.output.slice_blocks(), block % self.output.slice_blocks() * v);
        let start = self.output.offset(0, 0, 0);
        let mut stats = Stats::NOTHING;
        for lane in 0..self.output.channels_of(block) {
            let plane = ((first + lane) / inputs * depth + slice) * rows;
            for y in (0..rows).filter(|y| planes.touched[plane + y]) {
                let shares = &planes.shares[(plane + y) * columns..][..columns];
                let row = output.get_mut(start + y * self.output.row_stride() + lane..).unwrap_or(&mut []);
                for (target, share) in
                    row.iter_mut().step_by(v).zip(shares).filter(|(_, share)| **share != 0.0)
                {
                    let share = *share as f32;
                    *target += share;
                    stats = stats.with(Stats::of_value(share));
                }
            }
        }
        stats
    }
}

/// What the inputs of each group get, each of its channels the same: `f64[groups,D,H,W]`.
struct Planes {
    shares: Vec<f64>,
    /// Which rows have anything, `[groups,D,H]`.
    touched: Vec<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    /// As plain loops over the dense tensors spread it, whatever the threads.
    #[test]
    fn what_is_not_divided_is_spread_over_its_receptive_field() {
        let mut window = Window::new([3, 3], [2, 2]);
        window.axes.iter_mut().for_each(|axis| axis.pads = [1, 1]);
        for groups in [1, 2, 12] {
            let relevance = Blocked::new(12, 8, 3, 4, Halo::NONE).unwrap();
            let quotient = Blocked::new(12, 8, 3, 4, Halo::uniform(1)).unwrap();
            let output = Blocked::new(12, 8, 5, 7, Halo::uniform(1)).unwrap();
            let flat = Flat { window, groups, relevance, quotient, output };
            let r: Vec<f32> = (0..144).map(|i| if i % 5 == 0 { 0.0 } else { i as f32 - 70.0 }).collect();
            let s: Vec<f32> = (0..144).map(|i| if i % 7 == 0 || i > 130 { 0.0 } else { 1.0 }).collect();
            let mut expected = vec![1.0f64; 12 * 35];
            let (mut spread, inputs) = (0.0, 12 / groups);
            for at in (0..144).filter(|at| r[*at] != 0.0 && s[*at] == 0.0) {
                let (channel, y, x) = (at / 12, at % 12 / 4, at % 4);
                let near = |centre: usize, size: usize| (2 * centre).max(1) - 1..(2 * centre + 2).min(size);
                let places: Vec<(usize, usize)> =
                    near(y, 5).flat_map(|y| near(x, 7).map(move |x| (y, x))).collect();
                let share = f64::from(r[at]) / (places.len() * inputs) as f64;
                for input in channel / inputs * inputs..(channel / inputs + 1) * inputs {
                    places.iter().for_each(|(y, x)| expected[input * 35 + y * 7 + x] += share);
                }
                spread += f64::from(r[at]);
            }
            let packed = |layout: &Blocked, dense: &[f32]| {
                let mut data = vec![0.0; layout.len()];
                layout.pack(dense, &mut data).unwrap();
                data
            };
            let runs = [false, true].map(|parallel| {
                let mut out = packed(&output, &[1.0; 12 * 35]);
                let spreading = flat.run(&packed(&relevance, &r), &packed(&quotient, &s), &mut out, parallel);
                (out, spreading)
            });
            assert_eq!(runs[0], runs[1], "{groups} groups: threads change the result");
            let (out, spreading) = &runs[0];
            let mut got = vec![0.0; expected.len()];
            output.unpack(out, &mut got).unwrap();
            for (got, expected) in got.iter().zip(&expected) {
                assert!((f64::from(*got) - expected).abs() < 1e-4, "{groups} groups: {got}, {expected}");
            }
            assert!((spreading.spread - spread).abs() < 1e-9 && (spreading.stats.sum - spread).abs() < 1e-3);
            assert_eq!(*out, packed(&output, &got), "{groups} groups: something else was written");
        }
    }
}
