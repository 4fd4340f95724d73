//! Between `f32[C,H,W]` and the blocked layout, and zeros.

use super::layout::Blocked;
use crate::kir::{Body, Buf, Idx, Kernel, KernelBuilder, Var};

fn dense_len(layout: &Blocked) -> usize {
    let plane = u64::from(layout.height) * u64::from(layout.width);
    usize::try_from(plane.saturating_mul(u64::from(layout.channels))).unwrap_or(usize::MAX)
}

/// Runs `body` for every pixel of a row with the block, its number of channels, and the column: first the full
/// blocks, then the last one if it is not full.
fn for_pixels(b: &mut Body, layout: &Blocked, mut body: impl FnMut(&mut Body, &Idx, i64, Var)) {
    let (full, rest) = (layout.channels / layout.vector.max(1), layout.channels % layout.vector.max(1));
    let width = i64::from(layout.width);
    b.for_range("b", 0, i64::from(full), 1, |b, block| {
        b.for_range("x", 0, width, 1, |b, x| body(b, &block.into(), layout.pixel(), x));
    });
    if rest > 0 {
        b.for_range("x", 0, width, 1, |b, x| body(b, &i64::from(full).into(), i64::from(rest), x));
    }
}

/// The element of `f32[C,H,W]` at the first channel of a block.
fn dense(layout: &Blocked, block: &Idx, y: Var, x: Var) -> Idx {
    let plane = i64::from(layout.height).saturating_mul(i64::from(layout.width));
    block * layout.pixel() * plane + y * i64::from(layout.width) + x
}

/// The interior of `y` from the dense `x: f32[C,H,W]`, with zeros in the channels beyond C. One task per row.
pub fn pack(name: &str, y: Blocked) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", dense_len(&y)), k.output("y", y.len()));
    let plane = i64::from(y.height).saturating_mul(i64::from(y.width));
    k.tasks([("y", i64::from(y.height))], |b, [row]| {
        for_pixels(b, &y, |b, block, channels, x| {
            let at = y.at(block, row, x);
            b.unrolled("v", 0, channels, 1, |b, v| {
                let value = b.load1(input, dense(&y, block, row, x) + v * plane);
                b.store(value, output, &at + v);
            });
            b.unrolled("pad", channels, y.pixel(), 1, |b, v| {
                let zero = b.const1(0.0);
                b.store(zero, output, &at + v);
            });
        });
    })
}

/// The dense `y: f32[C,H,W]` from the interior of `x`. One task per row.
pub fn unpack(name: &str, x: Blocked) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", x.len()), k.output("y", dense_len(&x)));
    let plane = i64::from(x.height).saturating_mul(i64::from(x.width));
    k.tasks([("y", i64::from(x.height))], |b, [row]| {
        for_pixels(b, &x, |b, block, channels, column| {
            let at = x.at(block, row, column);
            b.unrolled("v", 0, channels, 1, |b, v| {
                let value = b.load1(input, &at + v);
                b.store(value, output, dense(&x, block, row, column) + v * plane);
            });
        });
    })
}

/// Zeros in the halo of `y`. One task per block.
pub fn zero_halo(name: &str, y: Blocked) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let out = k.inout("y", y.len());
    let (row, height) = (y.row(), i64::from(y.height));
    let [left, right] =
        [y.halo.left, y.halo.right].map(|columns| i64::from(columns).saturating_mul(y.pixel()));
    let [top, bottom] = [y.halo.top, y.halo.bottom].map(|rows| i64::from(rows).saturating_mul(row));
    k.tasks([("b", y.blocks())], |b, [block]| {
        let start = block * y.block();
        fill(b, out, &start, top);
        b.for_range("y", 0, height, 1, |b, row_number| {
            let line = &start + row_number * row + top;
            fill(b, out, &line, left);
            fill(b, out, &(line + (row - right)), right);
        });
        fill(b, out, &(start + height.saturating_mul(row) + top), bottom);
    })
}

/// Zeros in the interior of one block.
pub(super) fn zero_interior(b: &mut Body, buffer: Buf, layout: &Blocked, block: Var) {
    let len = i64::from(layout.width).saturating_mul(layout.pixel());
    b.for_range("y", 0, i64::from(layout.height), 1, |b, y| {
        fill(b, buffer, &layout.at(block, y, 0), len);
    });
}

/// Zeros in `len` elements from `start` on.
fn fill(b: &mut Body, buffer: Buf, start: &Idx, len: i64) {
    let main = len - len % 4;
    b.for_range("i", 0, main, 4, |b, i| {
        let zero = b.const4(0.0);
        b.store(zero, buffer, start + i);
    });
    b.for_range("i", main, len, 1, |b, i| {
        let zero = b.const1(0.0);
        b.store(zero, buffer, start + i);
    });
}
