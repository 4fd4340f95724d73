//! Elements less their mean, by their standard deviation: what Instance-, Group- and LayerNormalization share.

use rayon::prelude::*;
use relc_program::layout::Blocked;

use crate::isa::Isa;
use crate::simd::{Loop, featured};

/// The greatest vector.
const MOST: usize = 16;
/// Pixels whose squares are added in f32 before their sum is added in f64.
const GROUP: usize = 4;

/// Where elements come from and go to, two tensors of one image, and which of them have their statistics in common.
#[derive(Clone, Copy, Debug)]
pub struct Standardise<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// Runs of whole channels, a divisor of their number.
    pub runs: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// The layout of what is read.
    pub from: &'a Blocked,
    /// The layout of what is written, of the same blocks.
    pub to: &'a Blocked,
    /// Whether blocks are shared among threads.
    pub parallel: bool,
}

/// Of the elements of each lane of a block.
#[derive(Clone, Copy)]
struct Lanes([f64; MOST]);

/// What is taken from the elements of each lane of a block, in two parts of which the second is far smaller, and what they
/// are multiplied by.
struct Change {
    mean: [f32; MOST],
    rest: [f32; MOST],
    factor: [f32; MOST],
}

impl Standardise<'_> {
    /// Whether runs are of whole channels, and tensors lie in blocks that this can treat.
    pub fn fits(runs: usize, from: &Blocked, to: &Blocked) -> bool {
        runs > 0
            && from.channels().is_multiple_of(runs)
            && from.same_image(to)
            && [8, MOST].contains(&from.block())
    }

    /// Writes each element of `input`, standardised; halos and the channels beyond the last stay zero. The statistics are
    /// taken in f64, in the same order whatever the threads.
    pub fn run(&self, input: &[f32], output: &mut [f32]) {
        let count = (self.from.dense_len() / self.runs.max(1)) as f64;
        let zero = [0.0; MOST];
        let sums = self.each_block(|block| self.lanes(input, block, &zero, false));
        let means: Vec<f64> = self.of_runs(&sums).into_iter().map(|sum| sum / count).collect();
        let squares = self.each_block(|block| {
            let mean = self.per_lane(block, |run| means[run] as f32);
            self.lanes(input, block, &mean, true)
        });
        let variances = self.of_runs(&squares);
        let factors: Vec<f64> = (variances.iter().zip(&means))
            .map(|(squares, mean)| {
                // About the mean itself, not its nearest f32.
                let off = mean - f64::from(*mean as f32);
                (squares / count - off * off + self.epsilon).sqrt().recip()
            })
            .collect();
        let write = |(block, out): (usize, &mut [f32])| {
            let change = Change {
                mean: self.per_lane(block, |run| means[run] as f32),
                rest: self.per_lane(block, |run| (means[run] - f64::from(means[run] as f32)) as f32),
                factor: self.per_lane(block, |run| factors[run] as f32),
            };
            self.write(input, block, &change, out);
        };
        let stride = self.to.block_stride();
        if self.parallel {
            output.par_chunks_mut(stride).enumerate().for_each(write);
        } else {
            output.chunks_mut(stride).enumerate().for_each(write);
        }
    }

    fn each_block(&self, lanes: impl Fn(usize) -> Lanes + Sync + Send) -> Vec<Lanes> {
        if self.parallel {
            (0..self.from.blocks()).into_par_iter().map(lanes).collect()
        } else {
            (0..self.from.blocks()).map(lanes).collect()
        }
    }

    /// The run of a lane of a block; none beyond the last channel.
    fn run_of(&self, block: usize, lane: usize) -> Option<usize> {
        let channel = block % self.from.slice_blocks() * self.from.block() + lane;
        let per_run = self.from.channels() / self.runs;
        (lane < self.from.block() && channel < self.from.channels()).then(|| channel / per_run)
    }

    fn of_runs(&self, blocks: &[Lanes]) -> Vec<f64> {
        let mut sums = vec![0.0; self.runs];
        for (block, lanes) in blocks.iter().enumerate() {
            for (lane, value) in lanes.0.iter().enumerate() {
                if let Some(run) = self.run_of(block, lane) {
                    sums[run] += value;
                }
            }
        }
        sums
    }

    /// What each lane's run has; 0 beyond the last channel.
    fn per_lane(&self, block: usize, value: impl Fn(usize) -> f32) -> [f32; MOST] {
        std::array::from_fn(|lane| self.run_of(block, lane).map_or(0.0, &value))
    }

    /// The sums of a block's lanes, or of the squares of what they have beyond `mean`.
    fn lanes(&self, input: &[f32], block: usize, mean: &[f32; MOST], squared: bool) -> Lanes {
        let mut total = [0.0; MOST];
        let width = self.from.width() * self.from.block();
        for y in 0..self.from.height() {
            let start = self.from.offset(block, y, 0);
            let row = input.get(start..start + width).unwrap_or(&[]);
            let lanes = match self.from.block() {
                8 => featured(self.isa, RowSums::<8> { row, mean, squared }),
                _ => featured(self.isa, RowSums::<MOST> { row, mean, squared }),
            };
            total.iter_mut().zip(lanes).for_each(|(total, lane)| *total += lane);
        }
        Lanes(total)
    }

    fn write(&self, input: &[f32], block: usize, change: &Change, output: &mut [f32]) {
        let width = self.from.width() * self.from.block();
        let start = self.to.offset(0, 0, 0);
        for y in 0..self.from.height() {
            let (from, to) = (self.from.offset(block, y, 0), start + y * self.to.row_stride());
            let (Some(from), Some(to)) = (input.get(from..from + width), output.get_mut(to..to + width))
            else {
                return; // the plan gives both tensors their layouts' lengths
            };
            match self.from.block() {
                8 => featured(self.isa, RowChange::<8> { from, to, change }),
                _ => featured(self.isa, RowChange::<MOST> { from, to, change }),
            }
        }
    }
}

struct RowSums<'r, const V: usize> {
    row: &'r [f32],
    mean: &'r [f32; MOST],
    squared: bool,
}

impl<const V: usize> Loop for RowSums<'_, V> {
    type Output = [f64; MOST];

    #[inline(always)]
    fn run(self) -> [f64; MOST] {
        let mut total = [0.0f64; MOST];
        if !self.squared {
            // The mean may be far larger than what lies about it: its last digits count.
            for pixel in self.row.chunks_exact(V) {
                total.iter_mut().zip(pixel).for_each(|(total, value)| *total += f64::from(*value));
            }
            return total;
        }
        let mut mean = [0.0; V];
        mean.copy_from_slice(&self.mean[..V]);
        for group in self.row.chunks(GROUP * V) {
            let mut sums = [0.0f32; V];
            for pixel in group.chunks_exact(V) {
                for ((sum, value), mean) in sums.iter_mut().zip(pixel).zip(&mean) {
                    let off = value - mean;
                    *sum += off * off;
                }
            }
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
        }
        total
    }
}

struct RowChange<'r, const V: usize> {
    from: &'r [f32],
    to: &'r mut [f32],
    change: &'r Change,
}

impl<const V: usize> Loop for RowChange<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Change { mean, rest, factor } = self.change;
        for (to, from) in self.to.chunks_exact_mut(V).zip(self.from.chunks_exact(V)) {
            let lanes = to.iter_mut().zip(from).zip(mean.iter().zip(rest).zip(factor));
            lanes.for_each(|((to, from), ((mean, rest), factor))| *to = ((from - mean) - rest) * factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    /// Means far from zero, runs of several channels and of parts of a block, several slices: as in f64.
    #[test]
    fn elements_are_standardised_as_in_f64() {
        for (isa, runs) in Isa::available().into_iter().flat_map(|isa| [1, 2, 20].map(|runs| (isa, runs))) {
            let from = Blocked::of([20, 2, 3, 5], isa.width(), Halo::uniform(1)).unwrap();
            let to = Blocked::of([20, 2, 3, 5], isa.width(), Halo::NONE).unwrap();
            let value = |i: usize| ((i * 37 % 101) as f32).sin() + (i / 30) as f32 * 10.0;
            let dense: Vec<f32> = (0..from.dense_len()).map(value).collect();
            let mut input = vec![0.0; from.len()];
            from.pack(&dense, &mut input).unwrap();
            let outputs = [false, true].map(|parallel| {
                let it = Standardise { isa, runs, epsilon: 1e-5, from: &from, to: &to, parallel };
                let mut output = vec![0.0; to.len()];
                it.run(&input, &mut output);
                output
            });
            assert_eq!(outputs[0], outputs[1], "{isa}, {runs} runs: threads change the result");
            let mut got = vec![0.0; dense.len()];
            to.unpack(&outputs[0], &mut got).unwrap();
            let len = dense.len() / runs;
            for (got, dense) in got.chunks(len).zip(dense.chunks(len)) {
                let count = len as f64;
                let mean = dense.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
                let squares = dense.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
                let deviation = (squares / count + 1e-5).sqrt();
                for (got, value) in got.iter().zip(dense) {
                    let expected = (f64::from(*value) - mean) / deviation;
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error <= 1e-6 * expected.abs() + 1e-7, "{isa}, {runs} runs: {got}, {expected}");
                }
            }
            let mut again = vec![0.0; to.len()];
            to.pack(&got, &mut again).unwrap();
            assert_eq!(outputs[0], again, "{isa}, {runs} runs: something else was written");
        }
    }
}
