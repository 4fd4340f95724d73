//! The flat fallback: relevance that no denominator can divide is spread evenly over the valid inputs of its receptive
//! field. It is rare, so it is plain code, run only for samples that need it; what is not rare is that a few elements of
//! a large tensor need it, so that the others are passed over quickly.

mod depthwise;

use rayon::prelude::*;
use relc_ir::op::{Window, WindowAxis};
use relc_program::books::Stats;
use relc_program::layout::Blocked;

use crate::isa::Isa;
use crate::simd::{Loop, featured};

/// The receptive fields of a linear layer, and how its tensors lie.
#[derive(Clone, Debug)]
pub struct Flat {
    /// The instruction set.
    pub isa: Isa,
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
    /// Sums of what was added to the elements of the output, if they were to be taken. Where the sums of these were taken before, both together
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
    /// Adds to `output` what `relevance` has where `quotient` is 0, and takes the sums of that if `tallied`; on the current
    /// rayon pool if `parallel`, with the same result to the bit.
    pub fn run(
        &self,
        [relevance, quotient]: [&[f32]; 2],
        output: &mut [f32],
        tallied: bool,
        parallel: bool,
    ) -> Spreading {
        if !tallied && self.is_depthwise() {
            return self.run_depthwise(relevance, quotient, output, parallel);
        }
        let found = |block: usize| self.undivided(relevance, quotient, block);
        let undivided: Vec<Vec<Undivided>> = if parallel {
            (0..self.relevance.blocks()).into_par_iter().map(found).collect()
        } else {
            (0..self.relevance.blocks()).map(found).collect()
        };
        let shares = self.shares(undivided);
        if shares.is_empty() {
            return Spreading::NONE;
        }
        let groups: Vec<&[(usize, f64)]> =
            shares.chunk_by(|(a, _), (b, _)| self.group(*a) == self.group(*b)).collect();
        let stride = self.output.block_stride();
        let plane = |shares: &&[(usize, f64)]| self.plane(shares);
        let (planes, added): (Vec<Plane>, Vec<Stats>) = if parallel {
            let planes: Vec<Plane> = groups.par_iter().map(plane).collect();
            let blocks = output.par_chunks_mut(stride).enumerate();
            let added = blocks.map(|(block, out)| self.add(&planes, block, out)).collect();
            (planes, added)
        } else {
            let planes: Vec<Plane> = groups.iter().map(plane).collect();
            let blocks = output.chunks_mut(stride).enumerate();
            let added = blocks.map(|(block, out)| self.add(&planes, block, out)).collect();
            (planes, added)
        };
        let stats = added.into_iter().fold(Stats::NOTHING, Stats::with);
        let sum = |of: fn(&Plane) -> f64| planes.iter().map(of).sum();
        Spreading { spread: sum(|plane| plane.spread), lost: sum(|plane| plane.lost), stats }
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
            let place = (slice * height + y) * width;
            featured(self.isa, FindUndivided { r, s, v, first: [first, place], found: &mut found });
        }
        found
    }

    /// Of each group and output position at which there is something, `[groups,D,H,W]` in this order, what its channels
    /// have: summed in the order of the channels.
    fn shares(&self, undivided: Vec<Vec<Undivided>>) -> Vec<(usize, f64)> {
        let [channels, depth, height, width] = self.relevance.image();
        let (per_group, positions) = (channels / self.groups, depth * height * width);
        let count: usize = undivided.iter().map(Vec::len).sum();
        let found = undivided.into_iter().flatten().map(|Undivided { channel, place, value }| {
            (channel / per_group * positions + place, f64::from(value))
        });
        let all = self.groups.saturating_mul(positions);
        // Of many, each goes to its place at once.
        if all <= count {
            let mut sums = vec![0.0; all];
            for (position, value) in found {
                if let Some(sum) = sums.get_mut(position) {
                    *sum += value;
                }
            }
            return sums.into_iter().enumerate().filter(|(_, sum)| *sum != 0.0).collect();
        }
        let mut shares: Vec<(usize, f64)> = found.collect();
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

    /// The group of a share's position.
    fn group(&self, position: usize) -> usize {
        let [_, depth, height, width] = self.relevance.image();
        position / (depth * height * width)
    }

    /// What each input of a group gets; there is at least one share, and all are of this group.
    fn plane(&self, shares: &[(usize, f64)]) -> Plane {
        let [_, slices, height, width] = self.relevance.image();
        let [channels, depth, rows, columns] = self.output.image();
        let inputs = channels / self.groups;
        let [along_z, along_y, along_x] = self.window.over_volume();
        let group = shares.first().map_or(0, |(position, _)| self.group(*position));
        let mut plane = Plane { group, rows: vec![Vec::new(); depth * rows], spread: 0.0, lost: 0.0 };
        for &(index, share) in shares.iter().filter(|(_, share)| *share != 0.0) {
            let (place, x) = (index / width, index % width);
            let (place, y) = (place / height, place % height);
            let z = place % slices;
            let taps = |axis: &WindowAxis, at: usize, size: usize| -> Vec<usize> {
                axis.taps(at, size).map(|(_, position)| position).collect()
            };
            let taps = [taps(&along_z, z, depth), taps(&along_y, y, rows), taps(&along_x, x, columns)];
            let fan_in = taps.iter().map(Vec::len).product::<usize>() * inputs;
            if fan_in == 0 {
                plane.lost += share;
                continue;
            }
            plane.spread += share;
            let [slices, lines, pixels] = &taps;
            for (slice, line) in slices.iter().flat_map(|slice| lines.iter().map(move |line| (slice, line))) {
                let row = &mut plane.rows[slice * rows + line];
                row.resize(columns, 0.0);
                pixels.iter().for_each(|column| row[*column] += share / fan_in as f64);
            }
        }
        plane
    }

    /// Adds what is spread to a block of the output, and says what that was.
    fn add(&self, planes: &[Plane], block: usize, output: &mut [f32]) -> Stats {
        let [channels, _, rows, _] = self.output.image();
        let (v, inputs) = (self.output.block(), channels / self.groups);
        let (slice, first) = (block / self.output.slice_blocks(), block % self.output.slice_blocks() * v);
        let start = self.output.offset(0, 0, 0);
        let mut stats = Stats::NOTHING;
        for lane in 0..self.output.channels_of(block) {
            let group = (first + lane) / inputs;
            let Ok(plane) = planes.binary_search_by_key(&group, |plane| plane.group) else { continue };
            let lines = planes[plane].rows[slice * rows..][..rows].iter().enumerate();
            for (y, shares) in lines.filter(|(_, shares)| !shares.is_empty()) {
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

/// What the inputs of a group get, each of its channels the same.
struct Plane {
    group: usize,
    /// `f64[D*H][W]`; a row of which nothing is known is empty.
    rows: Vec<Vec<f64>>,
    spread: f64,
    lost: f64,
}

/// Finds the elements of a row `f32[W][V]` that no denominator divides.
struct FindUndivided<'r> {
    r: &'r [f32],
    s: &'r [f32],
    v: usize,
    /// The channel and the place of its first element.
    first: [usize; 2],
    found: &'r mut Vec<Undivided>,
}

impl Loop for FindUndivided<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let FindUndivided { r, s, v, first: [channel, place], found } = self;
        let is_undivided = |(r, s): (&f32, &f32)| (*r != 0.0) & (*s == 0.0);
        for (x, (r, s)) in r.chunks_exact(v).zip(s.chunks_exact(v)).enumerate() {
            // In most pixels there is none. No branch, and as many bits as an element has: so it becomes vectors.
            let any = r.iter().zip(s).fold(0u32, |any, pair| any | u32::from(is_undivided(pair)));
            if any == 0 {
                continue;
            }
            let lanes = r.iter().zip(s).enumerate().filter(|(_, (r, s))| is_undivided((r, s)));
            found.extend(lanes.map(|(lane, (value, _))| Undivided {
                channel: channel + lane,
                place: place + x,
                value: *value,
            }));
        }
    }
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
        for (groups, v) in [(1, 8), (2, 8), (12, 8), (12, 16), (12, 4)] {
            let layout = |[h, w]: [usize; 2], halo| Blocked::new(12, v, h, w, halo).unwrap();
            let (relevance, quotient) = (layout([3, 4], Halo::NONE), layout([3, 4], Halo::uniform(1)));
            let output = layout([5, 7], Halo::uniform(1));
            let flat = Flat { isa: Isa::best(), window, groups, relevance, quotient, output };
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
            let (r, s) = (packed(&relevance, &r), packed(&quotient, &s));
            for tallied in [false, true] {
                let runs = [false, true].map(|parallel| {
                    let mut out = packed(&output, &[1.0; 12 * 35]);
                    let spreading = flat.run([&r, &s], &mut out, tallied, parallel);
                    (out, spreading)
                });
                assert_eq!(runs[0], runs[1], "{groups} groups: threads change the result");
                let (out, spreading) = &runs[0];
                let mut got = vec![0.0; expected.len()];
                output.unpack(out, &mut got).unwrap();
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((f64::from(*got) - expected).abs() < 1e-4, "{groups} groups: {got}, {expected}");
                }
                assert!((spreading.spread - spread).abs() < 1e-9, "{groups} groups: {spreading:?}");
                assert!(!tallied || (spreading.stats.sum - spread).abs() < 1e-3, "{groups} groups");
                assert_eq!(*out, packed(&output, &got), "{groups} groups: something else was written");
            }
        }
    }
}
