//! Blocked tensors of one sample: `f32[D][ceil(C/V)][top + H + bottom][left + W + right][V]`.

/// Channels, slices, rows and columns of a value of one sample, `[C,D,H,W]`: one slice of a picture, one slice of one row of
/// a signal, one pixel of a vector.
pub type Image = [usize; 4];

/// Rows and columns around each slice of the image, per side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Halo {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Halo {
    /// No halo.
    pub const NONE: Halo = Halo { top: 0, left: 0, bottom: 0, right: 0 };

    /// The same number on every side.
    pub fn uniform(width: usize) -> Halo {
        Halo { top: width, left: width, bottom: width, right: width }
    }

    /// The greater of both on each side: what serves the consumers of both.
    pub fn union(self, other: Halo) -> Halo {
        Halo {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }

    /// Whether each side is at least that of `other`.
    pub fn covers(self, other: Halo) -> bool {
        self.union(other) == self
    }
}

/// Why there is no such layout, or data does not fit one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A size of 0.
    #[error("layout {image:?} in blocks of {block}: expected sizes of at least 1")]
    Empty {
        /// C, D, H, W.
        image: Image,
        /// Channels of a block.
        block: usize,
    },
    /// More elements than offsets can say.
    #[error("layout {image:?}: more than {} elements with its halo; use smaller images", Blocked::MAX_LEN)]
    TooLarge {
        /// C, D, H, W.
        image: Image,
    },
    /// A slice of another length.
    #[error("{what}: got {got} elements, expected {expected}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that the layout needs.
        expected: usize,
    },
}

/// The layout of a tensor `f32[C,D,H,W]`: channels in blocks of V, the vectors of a block's pixels side by side, and a
/// halo around each slice. The blocks of a slice are behind those of the slice before, so that what works block by block
/// need not know of slices.
///
/// **Invariant:** channels of the last block beyond C, and the halo, hold zeros wherever a kernel reads them.
/// Kernels write the interior only; whoever owns the buffer zeroes the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocked {
    channels: usize,
    depth: usize,
    block: usize,
    height: usize,
    width: usize,
    halo: Halo,
    len: usize,
}

impl Blocked {
    /// The greatest number of elements: offsets are u32.
    pub const MAX_LEN: usize = u32::MAX as usize;

    /// The layout of an image of one slice, `f32[C,H,W]`, in blocks of `block` channels.
    ///
    /// `block` is the vector width V for all but images of a few channels: those may have `block == channels`
    /// ("narrow"), so that no element is padding.
    ///
    /// # Errors
    /// If a size is 0, or there are more than [`Blocked::MAX_LEN`] elements.
    pub fn new(
        channels: usize,
        block: usize,
        height: usize,
        width: usize,
        halo: Halo,
    ) -> Result<Blocked, LayoutError> {
        Blocked::of([channels, 1, height, width], block, halo)
    }

    /// The layout of an image, in blocks of `block` channels.
    ///
    /// # Errors
    /// As of [`Blocked::new`].
    pub fn of(image: Image, block: usize, halo: Halo) -> Result<Blocked, LayoutError> {
        let [channels, depth, height, width] = image;
        if image.contains(&0) || block == 0 {
            return Err(LayoutError::Empty { image, block });
        }
        let side = |inner: usize, before: usize, after: usize| inner.checked_add(before)?.checked_add(after);
        let len = || {
            let rows = side(height, halo.top, halo.bottom)?;
            let columns = side(width, halo.left, halo.right)?;
            let pixels = rows.checked_mul(columns)?.checked_mul(depth)?;
            channels.div_ceil(block).checked_mul(block)?.checked_mul(pixels)
        };
        match len() {
            Some(len) if len <= Blocked::MAX_LEN => {
                Ok(Blocked { channels, depth, block, height, width, halo, len })
            }
            _ => Err(LayoutError::TooLarge { image }),
        }
    }

    /// C, D, H, W.
    pub fn image(&self) -> Image {
        [self.channels, self.depth, self.height, self.width]
    }

    /// C.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// D.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// V: channels of a block.
    pub fn block(&self) -> usize {
        self.block
    }

    /// H, without the halo.
    pub fn height(&self) -> usize {
        self.height
    }

    /// W, without the halo.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The halo.
    pub fn halo(&self) -> Halo {
        self.halo
    }

    /// Blocks of a slice: `ceil(C/V)`.
    pub fn slice_blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    /// Blocks of all slices: `D ceil(C/V)`. Block `b` has the channels of block `b % slice_blocks()` of a slice.
    pub fn blocks(&self) -> usize {
        self.depth * self.slice_blocks()
    }

    /// How many channels a block has; fewer than V in the last of a slice.
    pub fn channels_of(&self, block: usize) -> usize {
        self.block.min(self.channels - block % self.slice_blocks() * self.block)
    }

    /// Elements from a pixel to the one below it.
    pub fn row_stride(&self) -> usize {
        (self.halo.left + self.width + self.halo.right) * self.block
    }

    /// Elements from a block to the next.
    pub fn block_stride(&self) -> usize {
        (self.halo.top + self.height + self.halo.bottom) * self.row_stride()
    }

    /// Elements from a slice to the next.
    pub fn slice_stride(&self) -> usize {
        self.slice_blocks() * self.block_stride()
    }

    /// Elements of a sample, with the halo.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The offset of the vector of pixel (y, x) of a block; in the buffer if `block < blocks()`, `y <
    /// height()` and
    /// `x < width()`.
    pub fn offset(&self, block: usize, y: usize, x: usize) -> usize {
        block * self.block_stride()
            + (self.halo.top + y) * self.row_stride()
            + (self.halo.left + x) * self.block
    }

    /// Where an element of the dense `f32[C,D,H,W]` lies.
    pub fn offset_of(&self, index: usize) -> usize {
        let (row, x) = (index / self.width, index % self.width);
        let (plane, y) = (row / self.height, row % self.height);
        self.plane_offset(plane, y) + x * self.block
    }

    /// The offset of a row of a plane, which are counted as in the dense `f32[C,D,H,W]`: `c D + d`.
    pub fn plane_offset(&self, plane: usize, y: usize) -> usize {
        let (channel, slice) = (plane / self.depth, plane % self.depth);
        self.offset(slice * self.slice_blocks() + channel / self.block, y, 0) + channel % self.block
    }

    /// Whether it has elements that nobody writes, which stay zero: a halo, or channels beyond the last.
    pub fn keeps_zeros(&self) -> bool {
        self.halo != Halo::default() || self.len != self.dense_len()
    }

    /// Elements of `f32[C,D,H,W]`.
    pub fn dense_len(&self) -> usize {
        self.channels * self.depth * self.height * self.width
    }

    /// Whether both have the same image and blocks; halos may differ.
    pub fn same_image(&self, other: &Blocked) -> bool {
        self.image() == other.image() && self.block == other.block
    }

    /// The same elements seen as an image of `factor` times the width and a `factor`-th of the height, if
    /// there is no halo and `factor` divides the height.
    pub fn widened(&self, factor: usize) -> Option<Blocked> {
        if self.halo != Halo::NONE || factor == 0 || !self.height.is_multiple_of(factor) {
            return None;
        }
        Some(Blocked { height: self.height / factor, width: self.width * factor, ..*self })
    }

    /// Copies a dense tensor into the layout; halo and padding channels become zero.
    ///
    /// # Errors
    /// If `dense` is not `f32[C,D,H,W]` or `blocked` is not of [`Blocked::len`].
    pub fn pack(&self, dense: &[f32], blocked: &mut [f32]) -> Result<(), LayoutError> {
        check("dense tensor", dense.len(), self.dense_len())?;
        check("blocked tensor", blocked.len(), self.len)?;
        blocked.fill(0.0);
        for (index, plane) in dense.chunks_exact(self.height * self.width).enumerate() {
            for (y, row) in plane.chunks_exact(self.width).enumerate() {
                let targets = blocked[self.plane_offset(index, y)..].iter_mut().step_by(self.block);
                targets.zip(row).for_each(|(target, &value)| *target = value);
            }
        }
        Ok(())
    }

    /// Copies the interior into a dense tensor.
    ///
    /// # Errors
    /// As of [`Blocked::pack`].
    pub fn unpack(&self, blocked: &[f32], dense: &mut [f32]) -> Result<(), LayoutError> {
        check("dense tensor", dense.len(), self.dense_len())?;
        check("blocked tensor", blocked.len(), self.len)?;
        for (index, plane) in dense.chunks_exact_mut(self.height * self.width).enumerate() {
            for (y, row) in plane.chunks_exact_mut(self.width).enumerate() {
                let sources = blocked[self.plane_offset(index, y)..].iter().step_by(self.block);
                row.iter_mut().zip(sources).for_each(|(target, &value)| *target = value);
            }
        }
        Ok(())
    }
}

/// Compares a length.
///
/// # Errors
/// If it is not what is expected.
pub fn check(what: &'static str, got: usize, expected: usize) -> Result<(), LayoutError> {
    if got == expected { Ok(()) } else { Err(LayoutError::Length { what, got, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_offsets_count_the_halo() {
        let halo = Halo { top: 1, left: 2, bottom: 3, right: 4 };
        let layout = Blocked::new(20, 16, 5, 7, halo).unwrap();
        assert_eq!((layout.blocks(), layout.row_stride(), layout.block_stride()), (2, 13 * 16, 9 * 13 * 16));
        assert_eq!(layout.len(), 2 * 9 * 13 * 16);
        assert_eq!(layout.offset(1, 2, 3), 9 * 13 * 16 + 3 * 13 * 16 + 5 * 16);
    }

    #[test]
    fn slices_lie_one_behind_the_other() {
        let layout = Blocked::of([20, 3, 5, 7], 16, Halo::uniform(1)).unwrap();
        assert_eq!((layout.slice_blocks(), layout.blocks(), layout.slice_stride()), (2, 6, 2 * 7 * 9 * 16));
        // Channel 17 of slice 2 at the first pixel: the second block of its slice.
        let first = layout.offset(2 * 2 + 1, 0, 0) + 1;
        assert_eq!(layout.offset_of((17 * 3 + 2) * 5 * 7), first);
        assert_eq!([3, 4, 5].map(|block| layout.channels_of(block)), [4, 16, 4]);
    }

    #[test]
    fn unpack_inverts_pack_and_the_rest_is_zero() {
        let halo = Halo { top: 1, left: 0, bottom: 2, right: 1 };
        for (channels, depth, block) in [(20, 1, 8), (3, 1, 3), (16, 2, 16), (1, 3, 8), (20, 3, 8)] {
            let layout = Blocked::of([channels, depth, 5, 7], block, halo).unwrap();
            let dense: Vec<f32> = (0..layout.dense_len()).map(|i| i as f32 + 1.0).collect();
            let mut blocked = vec![f32::NAN; layout.len()];
            layout.pack(&dense, &mut blocked).unwrap();
            assert_eq!(blocked.iter().filter(|&&value| value != 0.0).count(), dense.len());
            let mut back = vec![0.0; dense.len()];
            layout.unpack(&blocked, &mut back).unwrap();
            assert_eq!(back, dense);
            assert!(dense.iter().enumerate().all(|(i, value)| blocked[layout.offset_of(i)] == *value));
        }
    }

    #[test]
    fn sizes_are_checked_before_they_overflow() {
        let huge = usize::MAX / 2;
        for (channels, height, halo) in [(huge, 8, 0), (1, huge, 0), (1, 1, huge), (1 << 20, 1 << 12, 0)] {
            let result = Blocked::new(channels, 8, height, 1, Halo::uniform(halo));
            assert!(matches!(result, Err(LayoutError::TooLarge { .. })), "{result:?}");
        }
        assert!(matches!(Blocked::new(0, 8, 1, 1, Halo::NONE), Err(LayoutError::Empty { .. })));
    }
}
