//! Max pools over one to three axes: the maximum, and the relevance to its winner.

use std::ops::Range;

use relc_program::layout::Blocked;

use super::layout::{Addressed, stride};
use super::window::{Axis, Segment};
use super::zero::zero_interior;
use crate::kir::{Body, Compare, Idx, Kernel, KernelBuilder, Var};

/// Taps that are repeated in the code instead of looped over.
const UNROLLED_TAPS: i64 = 16;

/// Pieces of windows that kernels of pools have code for; see [`pool_fits`].
const MAX_PIECES: usize = 64;

/// Whether there are kernels of a pool with these windows: each combination of segments has code of its own.
pub fn pool_fits(axes: &[Axis; 3]) -> bool {
    axes.iter().fold(1usize, |pieces, axis| pieces.saturating_mul(axis.segments().len())) <= MAX_PIECES
}

/// Whether [`max_pool_winner`] tells the taps of a window apart: by numbers that f32 holds.
pub fn winner_fits(axes: &[Axis; 3]) -> bool {
    let taps = axes.iter().fold(1u64, |taps, axis| taps.saturating_mul(u64::from(axis.kernel)));
    pool_fits(axes) && taps <= 1 << 24
}

/// The windows of one block of channels: their segments, and where the window's first valid tap is in the input.
pub(super) struct Site<'a> {
    axes: &'a [Axis; 3],
    segments: [&'a Segment; 3],
    /// The window's coordinates.
    window: [Idx; 3],
    block: Var,
    /// Four channels within the block.
    v: Var,
}

impl Site<'_> {
    /// The valid taps of the window.
    pub fn valid(&self) -> i64 {
        self.valid_taps().iter().product()
    }

    /// The valid taps along each axis.
    pub fn valid_taps(&self) -> [i64; 3] {
        self.segments.map(Segment::valid)
    }

    /// All taps inside the padded input.
    pub fn padded(&self) -> i64 {
        self.segments.iter().map(|segment| segment.padded).product()
    }

    fn at(&self, layout: &Blocked, [z, y, x]: &[Idx; 3]) -> Idx {
        layout.at(z * stride(layout.slice_blocks()) + self.block, y, x) + self.v
    }

    /// The window's own pixel in the output.
    pub fn output(&self, layout: &Blocked) -> Idx {
        self.at(layout, &self.window)
    }

    /// The input under the valid tap of these numbers, counted from the first valid one.
    pub fn input(&self, layout: &Blocked, tap: [Idx; 3]) -> Idx {
        let position = [0, 1, 2].map(|k| {
            let axis = &self.axes[k];
            let first = axis.position(0, self.segments[k].taps.start);
            &self.window[k] * i64::from(axis.stride) + &tap[k] * i64::from(axis.dilation) + first
        });
        self.at(layout, &position)
    }

    /// The input under the first valid tap.
    pub fn first(&self, layout: &Blocked) -> Idx {
        self.input(layout, [0, 0, 0].map(Idx::from))
    }

    /// Runs `body` for every valid tap, slice by slice and row by row.
    pub fn for_taps(&self, b: &mut Body, body: impl FnOnce(&mut Body, [Idx; 3])) {
        let [slices, rows, columns] = self.valid_taps();
        let plane = |b: &mut Body, kz: Idx| {
            if rows * columns <= UNROLLED_TAPS {
                b.unrolled("ky", 0, rows, 1, |b, ky| {
                    b.unrolled("kx", 0, columns, 1, |b, kx| body(b, [kz, ky.into(), kx.into()]));
                });
            } else {
                b.for_range("ky", 0, rows, 1, |b, ky| {
                    b.for_range("kx", 0, columns, 1, |b, kx| body(b, [kz, ky.into(), kx.into()]));
                });
            }
        };
        over(b, "kz", 0..slices, plane);
    }
}

/// A loop, but for a range of one, which needs none.
fn over(b: &mut Body, name: &str, range: Range<i64>, body: impl FnOnce(&mut Body, Idx)) {
    if range.start + 1 == range.end {
        return body(b, range.start.into());
    }
    b.for_range(name, range.start, range.end, 1, |b, i| body(b, i.into()));
}

/// Runs `body` for every four channels of every window of a block.
pub(super) fn for_windows(
    b: &mut Body,
    axes: &[Axis; 3],
    vector: i64,
    block: Var,
    mut body: impl FnMut(&mut Body, &Site<'_>),
) {
    let [slices, rows, columns] = axes.each_ref().map(Axis::segments);
    for slice in &slices {
        over(b, "z", slice.windows.clone(), |b, z| {
            for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
                b.for_range("y", row.windows.start, row.windows.end, 1, |b, y| {
                    b.for_range("x", column.windows.start, column.windows.end, 1, |b, x| {
                        b.unrolled("v", 0, vector, 4, |b, v| {
                            let segments = [slice, row, column];
                            let window = [z.clone(), y.into(), x.into()];
                            body(b, &Site { axes, segments, window, block, v });
                        });
                    });
                });
            }
        });
    }
}

/// `y = max over valid taps of x`; padding never wins. Every window has a valid tap. One task per block of channels.
pub fn max_pool(name: &str, x: Blocked, y: Blocked, axes: [Axis; 3]) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", x.len()), k.output("y", y.len()));
    k.tasks([("b", stride(x.slice_blocks()))], |b, [block]| {
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
pub fn max_pool_winner(name: &str, x: Blocked, r: Blocked, r_in: Blocked, axes: [Axis; 3]) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (act, rel) = (k.input("x", x.len()), k.input("r", r.len()));
    let out = k.output("r_in", r_in.len());
    k.tasks([("b", stride(x.slice_blocks()))], |b, [block]| {
        over(b, "z", 0..stride(r_in.depth()), |b, z| {
            zero_interior(b, out, &r_in, z * stride(r_in.slice_blocks()) + block);
        });
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
