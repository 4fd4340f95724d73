//! The flat fallback of a layer over pictures whose channels stay apart: a depthwise convolution or a pool. A denominator
//! of its few products is often 0, so the channels of a block are spread together, as vectors, where they belong.

use rayon::prelude::*;
use relc_ir::op::WindowAxis;
use relc_program::books::Stats;

use super::{Flat, Spreading};
use crate::simd::{Loop, featured};

/// The channels of a block: what a vector has.
const WIDE: usize = 16;
/// Likewise, of the narrower vectors.
const NARROW: usize = 8;

/// Positions of the input that each window covers along an axis.
type Covered = Vec<Vec<usize>>;

impl Flat {
    /// Whether [`Flat::run_depthwise`] serves.
    pub(super) fn is_depthwise(&self) -> bool {
        let (channels, v) = (self.output.channels(), self.output.block());
        self.groups == channels
            && self.relevance.channels() == channels
            && [self.output.depth(), self.relevance.depth()] == [1, 1]
            && self.relevance.block() == v
            && [WIDE, NARROW].contains(&v)
    }

    /// As [`Flat::run`], without sums of what was added.
    pub(super) fn run_depthwise(
        &self,
        relevance: &[f32],
        quotient: &[f32],
        output: &mut [f32],
        parallel: bool,
    ) -> Spreading {
        let covered = |axis: &WindowAxis, windows: usize, size: usize| -> Covered {
            (0..windows).map(|at| axis.taps(at, size).map(|(_, position)| position).collect()).collect()
        };
        let [_, along_y, along_x] = self.window.over_volume();
        let covered = [
            covered(&along_y, self.relevance.height(), self.output.height()),
            covered(&along_x, self.relevance.width(), self.output.width()),
        ];
        let spread =
            |(block, out): (usize, &mut [f32])| self.block(relevance, quotient, block, &covered, out);
        let stride = self.output.block_stride();
        let sums: Vec<[f64; 2]> = if parallel {
            output.par_chunks_mut(stride).enumerate().map(spread).collect()
        } else {
            output.chunks_mut(stride).enumerate().map(spread).collect()
        };
        let [spread, lost] = [0, 1].map(|i| sums.iter().map(|sums| sums[i]).sum());
        Spreading { spread, lost, stats: Stats::NOTHING }
    }

    /// Adds to a block of the output what its channels have where s is 0: how much that is, and how much is lost.
    fn block(
        &self,
        relevance: &[f32],
        quotient: &[f32],
        block: usize,
        [along_y, along_x]: &[Covered; 2],
        out: &mut [f32],
    ) -> [f64; 2] {
        let (v, width) = (self.output.block(), self.relevance.width());
        // The interior's first row, and from a row to the next.
        let rows = [self.output.offset(0, 0, 0), self.output.row_stride()];
        let mut sums = [0.0; 2];
        for (y, lines) in along_y.iter().enumerate() {
            let [r, s] = [(&self.relevance, relevance), (&self.quotient, quotient)].map(|(layout, data)| {
                let start = layout.offset(block, y, 0);
                data.get(start..start + width * v).unwrap_or(&[])
            });
            let row = SpreadRow { r, s, lines, along_x, rows, out, sums: &mut sums };
            match v {
                WIDE => featured(self.isa, Lanes::<WIDE>(row)),
                _ => featured(self.isa, Lanes::<NARROW>(row)),
            }
        }
        sums
    }
}

/// A row of R and of s, `f32[W][V]`, and what takes it.
struct SpreadRow<'r> {
    r: &'r [f32],
    s: &'r [f32],
    /// The rows of the output that its windows cover.
    lines: &'r [usize],
    along_x: &'r Covered,
    /// Where the output's first row lies, and from a row to the next.
    rows: [usize; 2],
    out: &'r mut [f32],
    /// How much is spread, and lost.
    sums: &'r mut [f64; 2],
}

/// With vectors of so many elements.
struct Lanes<'r, const V: usize>(SpreadRow<'r>);

impl<const V: usize> Loop for Lanes<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let SpreadRow { r, s, lines, along_x, rows: [first, stride], out, sums } = self.0;
        let [spread, lost] = sums;
        for ((r, s), covered) in r.as_chunks::<V>().0.iter().zip(s.as_chunks::<V>().0).zip(along_x) {
            let mut share = [0.0f32; V];
            let mut any = 0u32;
            for ((share, r), s) in share.iter_mut().zip(r).zip(s) {
                let undivided = (*r != 0.0) & (*s == 0.0);
                any |= u32::from(undivided);
                *share = if undivided { *r } else { 0.0 };
            }
            if any == 0 {
                continue;
            }
            let sum: f64 = share.iter().map(|share| f64::from(*share)).sum();
            let fan_in = lines.len() * covered.len();
            if fan_in == 0 {
                *lost += sum;
                continue;
            }
            *spread += sum;
            share.iter_mut().for_each(|share| *share /= fan_in as f32);
            for line in lines {
                let row = out.get_mut(first + line * stride..).unwrap_or(&mut []).as_chunks_mut::<V>().0;
                for column in covered {
                    let Some(target) = row.get_mut(*column) else { continue };
                    target.iter_mut().zip(&share).for_each(|(target, share)| *target += share);
                }
            }
        }
    }
}
