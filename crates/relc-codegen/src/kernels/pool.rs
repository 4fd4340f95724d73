//! Max pools: the maximum, and the relevance to its winner.

use relc_program::layout::Blocked;

use super::layout::Addressed;
use super::window::{Axis, Segment};
use super::zero::zero_interior;
use crate::kir::{Body, Compare, Idx, Kernel, KernelBuilder, Var};

/// Taps that are repeated in the code instead of looped over.
const UNROLLED_TAPS: i64 = 16;

/// Pieces of windows that kernels of pools have code for; see [`pool_fits`].
const MAX_PIECES: usize = 64;

/// Whether there are kernels of a pool with these windows: each combination of segments has code of its own.
pub fn pool_fits(axes: &[Axis; 2]) -> bool {
    let [rows, columns] = axes.each_ref().map(|axis| axis.segments().len());
    rows.saturating_mul(columns) <= MAX_PIECES
}

/// Whether [`max_pool_winner`] tells the taps of a window apart: by numbers that f32 holds.
pub fn winner_fits(axes: &[Axis; 2]) -> bool {
    pool_fits(axes) && u64::from(axes[0].kernel) * u64::from(axes[1].kernel) <= 1 << 24
}

/// The windows of one block of channels: both segments, and where the window's first valid tap is in the input.
pub(super) struct Site<'a> {
    axes: &'a [Axis; 2],
    segments: [&'a Segment; 2],
    /// The window's coordinates.
    window: [Var; 2],
    block: Var,
    /// Four channels within the block.
    v: Var,
}

impl Site<'_> {
    /// The valid taps of the window.
    pub fn valid(&self) -> i64 {
        self.segments[0].valid() * self.segments[1].valid()
    }

    /// The valid taps along each axis.
    pub fn valid_taps(&self) -> [i64; 2] {
        self.segments.map(Segment::valid)
    }

    /// All taps inside the padded input.
    pub fn padded(&self) -> i64 {
        self.segments[0].padded * self.segments[1].padded
    }

    /// The window's own pixel in the output.
    pub fn output(&self, layout: &Blocked) -> Idx {
        layout.at(self.block, self.window[0], self.window[1]) + self.v
    }

    /// The input under the valid tap of these numbers, counted from the first valid one.
    pub fn input(&self, layout: &Blocked, tap: [Idx; 2]) -> Idx {
        let [y, x] = [0, 1].map(|k| {
            let axis = &self.axes[k];
            let first = axis.position(0, self.segments[k].taps.start);
            self.window[k] * i64::from(axis.stride) + &tap[k] * i64::from(axis.dilation) + first
        });
        layout.at(self.block, y, x) + self.v
    }

    /// The input under the first valid tap.
    pub fn first(&self, layout: &Blocked) -> Idx {
        self.input(layout, [Idx::from(0), Idx::from(0)])
    }

    /// Runs `body` for every valid tap, row by row.
    pub fn for_taps(&self, b: &mut Body, body: impl FnOnce(&mut Body, [Idx; 2])) {
        let [rows, columns] = self.valid_taps();
        if rows * columns <= UNROLLED_TAPS {
            b.unrolled("ky", 0, rows, 1, |b, ky| {
                b.unrolled("kx", 0, columns, 1, |b, kx| body(b, [ky.into(), kx.into()]));
            });
        } else {
            b.for_range("ky", 0, rows, 1, |b, ky| {
                b.for_range("kx", 0, columns, 1, |b, kx| body(b, [ky.into(), kx.into()]));
            });
        }
    }
}

/// Runs `body` for every four channels of every window of a block.
pub(super) fn for_windows(
    b: &mut Body,
    axes: &[Axis; 2],
    vector: i64,
    block: Var,
    mut body: impl FnMut(&mut Body, &Site<'_>),
) {
    let [rows, columns] = [axes[0].segments(), axes[1].segments()];
    for row in &rows {
        for column in &columns {
            b.for_range("y", row.windows.start, row.windows.end, 1, |b, y| {
                b.for_range("x", column.windows.start, column.windows.end, 1, |b, x| {
                    b.unrolled("v", 0, vector, 4, |b, v| {
                        let segments = [row, column];
                        body(b, &Site { axes, segments, window: [y, x], block, v });
                    });
                });
            });
        }
    }
}

/// `y = max over valid taps of x`; padding never wins. Every window has a valid tap. One task per block of channels.
pub fn max_pool(name: &str, x: Blocked, y: Blocked, axes: [Axis; 2]) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", x.len()), k.output("y", y.len()));
    k.tasks([("b", x.block_count())], |b, [block]| {
        for_windows(b, &axes, x.pixel(), block, |b, site| {
            if site.valid() == 0 {
                return;
            }
            let first = b.load4(input, site.first(&x));
            let best = b.var(first);
            site.for_taps(b, |b, tap| {
                let value = b.load4(input, site.input(&x, tap));
                let larger = b.max(best, value);
                b.set(best, larger);
            });
            b.store(best, output, site.output(&y));
        });
    })
}

/// `r_in`: each window's relevance to the pixel that won it, the first of the largest in row-major order.
///
/// Buffers: `x`, the pool's input; `r`, of the layout of its output; `r_in`, of the layout of its input. One task per
/// block of channels.
pub fn max_pool_winner(name: &str, x: Blocked, r: Blocked, r_in: Blocked, axes: [Axis; 2]) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (act, rel) = (k.input("x", x.len()), k.input("r", r.len()));
    let out = k.output("r_in", r_in.len());
    k.tasks([("b", x.block_count())], |b, [block]| {
        zero_interior(b, out, &r_in, block);
        for_windows(b, &axes, x.pixel(), block, |b, site| {
            if site.valid() == 0 {
                return;
            }
            let first = b.load4(act, site.first(&x));
            let [zero, one] = [b.const4(0.0), b.const4(1.0)];
            // The number of the tap at hand and of the best one, exact up to 2^24 taps.
            let (best, winner, number) = (b.var(first), b.var(zero), b.var(zero));
            site.for_taps(b, |b, tap| {
                let value = b.load4(act, site.input(&x, tap));
                let wins = b.compare(Compare::Gt, value, best);
                let (new_best, new_winner) = (b.select(wins, value, best), b.select(wins, number, winner));
                b.set(best, new_best);
                b.set(winner, new_winner);
                let next = b.add(number, one);
                b.set(number, next);
            });
            let relevance = b.load4(rel, site.output(&r));
            b.set(number, zero);
            site.for_taps(b, |b, tap| {
                let wins = b.compare(Compare::Eq, winner, number);
                let share = b.select(wins, relevance, zero);
                let before = b.load4(out, site.input(&r_in, tap.clone()));
                let sum = b.add(before, share);
                b.store(sum, out, site.input(&r_in, tap));
                let next = b.add(number, one);
                b.set(number, next);
            });
        });
    })
}
