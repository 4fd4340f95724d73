//! Sums of a tensor, in a fixed order, for the ledger.

use rayon::prelude::*;

use crate::isa::Isa;
use crate::simd::{Simd, Work, dispatch};
use relc_program::books::Stats;
use relc_program::layout::Blocked;

/// The greatest vector.
const MOST: usize = 16;
/// Vectors that are added in f32 before their sum is added in f64: the two roundings are far below those of the
/// elements themselves.
const GROUP: usize = 4;

/// Of a tensor's interior, block of channels by block; on the current rayon pool if `parallel`, with the same
/// result to the bit. Elements of `data` beyond its length count as none.
pub fn of(isa: Isa, layout: &Blocked, data: &[f32], parallel: bool) -> Stats {
    let block = |b: usize| of_block(isa, layout, data, b);
    let blocks: Vec<Stats> = if parallel {
        (0..layout.blocks()).into_par_iter().map(block).collect()
    } else {
        (0..layout.blocks()).map(block).collect()
    };
    blocks.into_iter().fold(Stats::NOTHING, Stats::with)
}

/// The sum of a tensor's elements, each times its channel's weight, in f64; as [`of`].
pub fn weighted(isa: Isa, layout: &Blocked, data: &[f32], weights: &[f32], parallel: bool) -> f64 {
    let v = layout.block();
    let block = |b: usize| -> f64 {
        let weights = weights.get(b % layout.slice_blocks() * v..).unwrap_or(&[]);
        let mut sums = [0.0f64; MOST];
        for y in 0..layout.height() {
            let start = layout.offset(b, y, 0);
            let row = data.get(start..start + layout.width() * v).unwrap_or(&[]);
            let lanes = if v == isa.width() { dispatch(isa, LaneSums(row)) } else { plain_lanes(row, v) };
            sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += lane);
        }
        let channels = layout.channels_of(b);
        sums.iter().zip(weights).take(channels).map(|(sum, weight)| sum * f64::from(*weight)).sum()
    };
    let blocks: Vec<f64> = if parallel {
        (0..layout.blocks()).into_par_iter().map(block).collect()
    } else {
        (0..layout.blocks()).map(block).collect()
    };
    blocks.into_iter().sum()
}

/// The mean of the squares of a tensor's elements, in f64; as [`of`].
pub fn mean_square(layout: &Blocked, data: &[f32], parallel: bool) -> f64 {
    let v = layout.block();
    let block = |b: usize| -> f64 {
        let channels = layout.channels_of(b);
        let rows = (0..layout.height()).map(|y| {
            let start = layout.offset(b, y, 0);
            data.get(start..start + layout.width() * v).unwrap_or(&[])
        });
        let pixels = rows.flat_map(|row| row.chunks_exact(v)).flat_map(|pixel| &pixel[..channels]);
        pixels.map(|value| f64::from(*value).powi(2)).sum()
    };
    let blocks: Vec<f64> = if parallel {
        (0..layout.blocks()).into_par_iter().map(block).collect()
    } else {
        (0..layout.blocks()).map(block).collect()
    };
    blocks.into_iter().sum::<f64>() / layout.dense_len().max(1) as f64
}

fn of_block(isa: Isa, layout: &Blocked, data: &[f32], block: usize) -> Stats {
    let (v, stride) = (layout.block(), layout.row_stride());
    let start = layout.offset(block, 0, 0);
    let end = start + layout.height().saturating_sub(1) * stride + layout.width() * v;
    let rows = Rows { data: data.get(start..end).unwrap_or(&[]), stride, len: layout.width() * v };
    rows.stats(isa, [layout.channels_of(block), v])
}

/// Of a row `f32[W][V]` whose first `channels` of each V are elements.
pub(crate) fn of_row(isa: Isa, [channels, v]: [usize; 2], row: &[f32]) -> Stats {
    Rows { data: row, stride: row.len().max(1), len: row.len() }.stats(isa, [channels, v])
}

/// Of a tensor, from those of its rows, `[blocks][H]`: what [`of`] gives, to the bit.
pub fn of_rows(layout: &Blocked, rows: &[Stats]) -> Stats {
    let blocks = rows.chunks(layout.height());
    blocks
        .map(|rows| rows.iter().copied().fold(Stats::NOTHING, Stats::with))
        .fold(Stats::NOTHING, Stats::with)
}

/// Rows of a block, each `f32[W][V]`.
#[derive(Clone, Copy)]
struct Rows<'r> {
    data: &'r [f32],
    /// From a row to the next.
    stride: usize,
    len: usize,
}

impl<'r> Rows<'r> {
    /// The sums of the rows, of each of whose V the first `channels` are elements.
    fn stats(self, isa: Isa, [channels, v]: [usize; 2]) -> Stats {
        if channels == v {
            return dispatch(isa, Whole(self));
        }
        // The vector's last lanes are no elements.
        if v == isa.width() {
            return dispatch(isa, Partial { rows: self, channels });
        }
        self.sum(|row| of_values(row.chunks_exact(v.max(1)).flat_map(|pixel| &pixel[..channels])))
    }

    #[inline(always)]
    fn sum(self, of: impl Fn(&'r [f32]) -> Stats) -> Stats {
        let mut sum = Stats::NOTHING;
        // Not `map` and `fold`: what is compiled for an instruction set has to be inlined.
        for row in self.data.chunks(self.stride) {
            sum = sum.with(of(&row[..self.len.min(row.len())]));
        }
        sum
    }
}

fn of_values<'v>(values: impl IntoIterator<Item = &'v f32>) -> Stats {
    values.into_iter().fold(Stats::NOTHING, |stats, value| stats.with(Stats::of_value(*value)))
}

/// Of rows all of whose lanes are elements.
struct Whole<'r>(Rows<'r>);

impl Work for Whole<'_> {
    type Output = Stats;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Stats {
        self.0.sum(|row| {
            let (whole, rest) = row.split_at(row.len() / S::WIDTH * S::WIDTH);
            // SAFETY: the contract of this function.
            unsafe { vectors::<S>(whole, |vector, _| vector) }.with(of_values(rest))
        })
    }
}

/// Of the first channels of each vector of rows.
struct Partial<'r> {
    rows: Rows<'r>,
    channels: usize,
}

impl Work for Partial<'_> {
    type Output = Stats;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Stats {
        let lanes: [f32; MOST] = std::array::from_fn(|lane| lane as f32);
        // SAFETY: the contract of this function; `lanes` has at least WIDTH elements.
        unsafe {
            let (lanes, channels) = (S::load(lanes.as_ptr()), S::splat(self.channels as f32));
            self.rows
                .sum(|row| vectors::<S>(row, |vector, other| vector.where_greater(channels, lanes, other)))
        }
    }
}

/// The sums of the lanes of a row of whole vectors.
struct LaneSums<'r>(&'r [f32]);

impl Work for LaneSums<'_> {
    type Output = [f64; MOST];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f64; MOST] {
        // SAFETY: the contract of this function.
        unsafe { grouped::<S>(self.0, |vector| vector) }
    }
}

/// The sums of the lanes of pixels of `v` channels, at most [`MOST`].
fn plain_lanes(row: &[f32], v: usize) -> [f64; MOST] {
    let mut lanes = [0.0; MOST];
    let pixels = row.chunks_exact(v.max(1));
    pixels.for_each(|pixel| lanes.iter_mut().zip(pixel).for_each(|(lane, value)| *lane += f64::from(*value)));
    lanes
}

/// Of whole vectors, of whose lanes `known` puts another value for those that are no elements. Magnitudes are summed only
/// where there is a negative element.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn vectors<S: Simd>(row: &[f32], known: impl Fn(S, S) -> S) -> Stats {
    // SAFETY: the contract of this function; vectors lie in the row.
    unsafe {
        let [none, least, most] = [0.0, f32::INFINITY, f32::NEG_INFINITY].map(|value| S::splat(value));
        let (mut min, mut max) = (least, most);
        let sum = grouped::<S>(row, |vector| {
            (min, max) = (min.min(known(vector, least)), max.max(known(vector, most)));
            known(vector, none)
        });
        let (mut low, mut high) = ([f32::INFINITY; MOST], [f32::NEG_INFINITY; MOST]);
        min.store(low.as_mut_ptr());
        max.store(high.as_mut_ptr());
        let min = low.into_iter().fold(f32::INFINITY, f32::min);
        let max = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let sum = sum.iter().sum();
        let magnitude = match min >= 0.0 {
            true => sum,
            false => grouped::<S>(row, |vector| known(vector, none).abs()).iter().sum(),
        };
        Stats { sum, magnitude, min, max }
    }
}

/// The sums of the lanes of `f` over whole vectors.
///
/// # Safety
/// As of [`vectors`].
#[inline(always)]
unsafe fn grouped<S: Simd>(row: &[f32], mut f: impl FnMut(S) -> S) -> [f64; MOST] {
    let mut total = [0.0f64; MOST];
    for group in row.chunks(GROUP * S::WIDTH) {
        let mut lanes = [0.0f32; MOST];
        // SAFETY: the contract of this function; each chunk has WIDTH elements, and `lanes` at least as many.
        unsafe {
            let mut sum = S::zero();
            for vector in group.chunks_exact(S::WIDTH) {
                sum = sum.add(f(S::load(vector.as_ptr())));
            }
            sum.store(lanes.as_mut_ptr());
        }
        total.iter_mut().zip(&lanes[..S::WIDTH]).for_each(|(total, lane)| *total += f64::from(*lane));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    #[test]
    fn sums_are_those_of_the_interior() {
        for isa in Isa::available() {
            for (channels, block) in [(32, isa.width()), (20, isa.width()), (3, 3), (4, 1)] {
                for sign in [1.0, -1.0] {
                    let layout = Blocked::new(channels, block, 5, 7, Halo::uniform(1)).unwrap();
                    let value =
                        |i: usize| if i.is_multiple_of(3) { sign * i as f32 } else { i as f32 * 0.37 };
                    let dense: Vec<f32> = (0..layout.dense_len()).map(value).collect();
                    let mut data = vec![1e9; layout.len()];
                    let mut interior = vec![0.0; layout.len()];
                    layout.pack(&vec![1.0; dense.len()], &mut interior).unwrap();
                    let mut packed = vec![0.0; layout.len()];
                    layout.pack(&dense, &mut packed).unwrap();
                    for (to, (one, from)) in data.iter_mut().zip(interior.iter().zip(&packed)) {
                        *to = if *one == 1.0 { *from } else { *to };
                    }
                    let got = of(isa, &layout, &data, false);
                    let sum: f64 = dense.iter().map(|v| f64::from(*v)).sum();
                    let magnitude: f64 = dense.iter().map(|v| f64::from(v.abs())).sum();
                    assert!((got.sum - sum).abs() <= 1e-7 * magnitude, "{isa} {got:?}, {sum}");
                    assert!((got.magnitude - magnitude).abs() <= 1e-7 * magnitude, "{isa} {got:?}");
                    assert_eq!(got.min, dense.iter().copied().fold(f32::INFINITY, f32::min));
                    assert_eq!(got.max, dense.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                    assert_eq!(of(isa, &layout, &data, true), got);
                    let weights: Vec<f32> = (0..channels).map(|c| c as f32 - 3.0).collect();
                    let expected_weighted =
                        dense.iter().zip(0..).map(|(v, i)| f64::from(*v) * f64::from(weights[i / 35]));
                    let difference =
                        weighted(isa, &layout, &data, &weights, false) - expected_weighted.sum::<f64>();
                    assert!(difference.abs() <= 1e-6 * magnitude * channels as f64, "{isa}: {difference:e}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        let layout = Blocked::new(16, 8, 3, 5, Halo::NONE).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut data = vec![1.0; layout.len()];
            data[77] = bad;
            assert!(!of(Isa::Portable, &layout, &data, false).is_finite(), "{bad}");
        }
    }
}
