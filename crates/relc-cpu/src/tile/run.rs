//! Calling a kernel on slices, checked.

use super::{Extents, Part, Shape, TileArgs, find};

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// No kernel of this shape.
    #[error("{symbol}: no such kernel")]
    NoKernel {
        /// The name it would have.
        symbol: String,
    },
    /// The machine can't run it.
    #[error("{symbol}: this machine lacks {}", .isa)]
    Unavailable {
        /// The kernel.
        symbol: String,
        /// Its instruction set.
        isa: crate::isa::Isa,
    },
    /// A slice that the kernel would leave.
    #[error("{symbol}: {what} has {got} elements, the call touches {expected}")]
    TooShort {
        /// The kernel.
        symbol: String,
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What the call needs.
        expected: u64,
    },
}

/// A call of one kernel on slices.
#[derive(Clone, Copy, Debug)]
pub struct TileCall<'a> {
    /// The kernel's constants.
    pub shape: Shape,
    /// The part of the weights that it uses.
    pub part: Part,
    /// Offsets into `input`.
    pub taps: &'a [u32],
    /// Input channels of a tap.
    pub lanes: u32,
    /// From the first pixel's input on.
    pub input: &'a [f32],
    /// From the first pixel's input to the next one's.
    pub in_pixel_stride: u32,
    /// Packed weights.
    pub weights: &'a [f32],
    /// From the first pixel's output to the next one's.
    pub out_pixel_stride: u32,
    /// From the first row's input to the next one's.
    pub in_row_stride: u32,
    /// From the first row's output to the next one's.
    pub out_row_stride: u32,
    /// From the first block's output to the next one's.
    pub out_block_stride: u32,
    /// Whether the sum is added to the output.
    pub accumulate: bool,
}

impl TileCall<'_> {
    /// The arguments for the kernel, but for the output's address.
    fn args(&self) -> TileArgs {
        TileArgs {
            input: self.input.as_ptr(),
            weights: self.weights.as_ptr(),
            out: std::ptr::null_mut(),
            taps: self.taps.as_ptr(),
            next: self.weights.as_ptr(),
            tap_count: u32::try_from(self.taps.len()).unwrap_or(u32::MAX),
            lanes: self.lanes,
            in_pixel_stride: self.in_pixel_stride,
            out_pixel_stride: self.out_pixel_stride,
            in_row_stride: self.in_row_stride,
            out_row_stride: self.out_row_stride,
            out_block_stride: self.out_block_stride,
            accumulate: self.accumulate.into(),
        }
    }

    /// Runs the kernel.
    ///
    /// # Errors
    /// If there is no such kernel, the machine can't run it, or it would leave a slice.
    pub fn run(&self, out: &mut [f32]) -> Result<(), TileError> {
        let symbol = || self.shape.symbol(self.part);
        let kernel = find(self.shape).ok_or_else(|| TileError::NoKernel { symbol: symbol() })?;
        let isa = self.shape.isa;
        if !isa.is_available() {
            return Err(TileError::Unavailable { symbol: symbol(), isa });
        }
        let args = TileArgs { out: out.as_mut_ptr(), ..self.args() };
        let extents: Extents = self.shape.extents(&args, self.taps.iter().copied().max().unwrap_or(0));
        let slices = [
            ("input", self.input.len(), extents.input),
            ("weights", self.weights.len(), extents.weights),
            ("out", out.len(), extents.out),
            ("taps", self.taps.len(), extents.taps),
        ];
        for (what, got, expected) in slices {
            if (got as u64) < expected {
                return Err(TileError::TooShort { symbol: symbol(), what, got, expected });
            }
        }
        let function = kernel.function(self.part);
        // SAFETY: the machine has the instruction set, each slice covers its extent, and `out` is borrowed
        // uniquely.
        unsafe { function(&args) };
        Ok(())
    }

    /// Computes the same by [`super::reference`].
    ///
    /// # Panics
    /// As that.
    pub fn run_reference(&self, out: &mut [f32]) {
        super::reference(self.shape, self.part, &self.args(), self.taps, self.input, self.weights, out);
    }
}
