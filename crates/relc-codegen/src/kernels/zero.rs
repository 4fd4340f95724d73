//! Zeros.

use relc_program::layout::Blocked;

use super::layout::Addressed;
use crate::kir::{Body, Buf, Idx};

/// Zeros in the interior of one block.
pub(super) fn zero_interior(b: &mut Body, buffer: Buf, layout: &Blocked, block: Idx) {
    let len = layout.plane()[1].saturating_mul(layout.pixel());
    b.for_range("y", 0, layout.plane()[0], 1, |b, y| {
        fill(b, buffer, &layout.at(&block, y, 0), len);
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
