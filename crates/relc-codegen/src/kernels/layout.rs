//! The blocked layout of activations and relevance.

use crate::kir::{Body, Idx, Var};

/// Zero pixels around a plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Halo {
    /// Rows above.
    pub top: u32,
    /// Rows below.
    pub bottom: u32,
    /// Columns on the left.
    pub left: u32,
    /// Columns on the right.
    pub right: u32,
}

impl Halo {
    /// The same on all sides.
    pub fn uniform(size: u32) -> Self {
        Halo { top: size, bottom: size, left: size, right: size }
    }
}

/// One sample of a tensor as f32 `[ceil(C/V)][top + H + bottom][left + W + right][V]`; channels beyond C and the halo
/// are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocked {
    /// C, at least 1.
    pub channels: u32,
    /// H, at least 1.
    pub height: u32,
    /// W, at least 1.
    pub width: u32,
    /// V, at least 1; a multiple of 4.
    pub vector: u32,
    /// The frame.
    pub halo: Halo,
}

impl Blocked {
    /// Blocks of channels.
    pub fn blocks(&self) -> i64 {
        i64::from(self.channels.div_ceil(self.vector.max(1)))
    }

    /// Elements from one row to the next.
    pub fn row(&self) -> i64 {
        let width = i64::from(self.halo.left) + i64::from(self.width) + i64::from(self.halo.right);
        width.saturating_mul(self.pixel())
    }

    /// Elements from one block to the next.
    pub fn block(&self) -> i64 {
        let height = i64::from(self.halo.top) + i64::from(self.height) + i64::from(self.halo.bottom);
        height.saturating_mul(self.row())
    }

    /// Elements from one pixel to the next: V.
    pub fn pixel(&self) -> i64 {
        i64::from(self.vector)
    }

    /// Elements of a sample; saturates.
    pub fn len(&self) -> usize {
        usize::try_from(self.block().saturating_mul(self.blocks())).unwrap_or(usize::MAX)
    }

    /// Whether a sample has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element of channel 0 of the pixel at row 0, column 0 of block 0.
    pub fn origin(&self) -> i64 {
        let above = i64::from(self.halo.top).saturating_mul(self.row());
        above.saturating_add(i64::from(self.halo.left).saturating_mul(self.pixel()))
    }

    /// The first channel of a block at a pixel of the interior.
    pub fn at(&self, block: impl Into<Idx>, y: impl Into<Idx>, x: impl Into<Idx>) -> Idx {
        let (block, y, x): (Idx, Idx, Idx) = (block.into(), y.into(), x.into());
        block * self.block() + y * self.row() + x * self.pixel() + self.origin()
    }

    /// The task grid of kernels that work row by row: blocks, rows.
    pub fn rows(&self) -> [(&'static str, i64); 2] {
        [("b", self.blocks()), ("y", i64::from(self.height))]
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
    let (width, vector) = (i64::from(layout.width), layout.pixel().max(1));
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
