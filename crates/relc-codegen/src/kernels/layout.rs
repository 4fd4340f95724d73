//! How kernels address the blocked layout of activations and relevance.

use relc_program::layout::Blocked;

use crate::kir::{Body, Idx, Var};

/// The addresses of a [`Blocked`] tensor, whose blocks are whole vectors: a multiple of 4 channels.
pub trait Addressed {
    /// Elements from one pixel to the next: V.
    fn pixel(&self) -> i64;

    /// Blocks of channels, of all slices.
    fn block_count(&self) -> i64;

    /// Rows and columns of a slice, without the halo.
    fn plane(&self) -> [i64; 2];

    /// The first channel of a block at a pixel of the interior.
    fn at(&self, block: impl Into<Idx>, y: impl Into<Idx>, x: impl Into<Idx>) -> Idx;

    /// The task grid of kernels that work row by row: blocks, rows.
    fn rows(&self) -> [(&'static str, i64); 2] {
        [("b", self.block_count()), ("y", self.plane()[0])]
    }
}

/// A size or stride of a layout, which has fewer than 2^32 elements.
pub(super) fn stride(size: usize) -> i64 {
    size as i64
}

impl Addressed for Blocked {
    fn pixel(&self) -> i64 {
        stride(self.block())
    }

    fn block_count(&self) -> i64 {
        stride(self.blocks())
    }

    fn plane(&self) -> [i64; 2] {
        [stride(self.height()), stride(self.width())]
    }

    fn at(&self, block: impl Into<Idx>, y: impl Into<Idx>, x: impl Into<Idx>) -> Idx {
        let (block, y, x): (Idx, Idx, Idx) = (block.into(), y.into(), x.into());
        let origin = stride(self.offset(0, 0, 0));
        block * stride(self.block_stride()) + y * stride(self.row_stride()) + x * self.pixel() + origin
    }
}

/// Four channels of a pixel.
#[derive(Clone, Debug)]
pub struct Position {
    /// The block of channels.
    pub block: Idx,
    /// The row.
    pub y: Idx,
    /// The column.
    pub x: Idx,
    /// The first of the four channels within the block.
    pub v: Idx,
}

impl Position {
    /// Where it is in a tensor.
    pub fn of(&self, layout: &Blocked) -> Idx {
        layout.at(&self.block, &self.y, &self.x) + &self.v
    }
}

/// Elements that one iteration of [`for_vectors`] covers: enough to hide the loop's own instructions.
const UNROLLED: i64 = 16;

/// Runs `body` for every four channels of every pixel of a row.
pub fn for_vectors(
    b: &mut Body,
    layout: &Blocked,
    [block, y]: [Var; 2],
    mut body: impl FnMut(&mut Body, &Position),
) {
    let ([_, width], vector) = (layout.plane(), layout.pixel());
    let step = (UNROLLED / vector).clamp(1, width.max(1));
    let main = width - width % step;
    let mut pixels = |b: &mut Body, start: i64, end: i64, step: i64| {
        b.for_range("x", start, end, step, |b, x| {
            b.unrolled("dx", 0, step, 1, |b, dx| {
                b.unrolled("v", 0, vector, 4, |b, v| {
                    let position = Position { block: block.into(), y: y.into(), x: x + dx, v: v.into() };
                    body(b, &position);
                });
            });
        });
    };
    pixels(b, 0, main, step);
    pixels(b, main, width, 1);
}
