//! Small sums, computed again.
//!
//! Winograd's transforms subtract, so that an output's error is a fraction of the largest sums of its *tile*. What is
//! divided by an output needs an error that is a fraction of *its own*. Where all products have one sign, an output that is
//! small beside what its tile could sum to is found by comparing it with a bound, and summed again plainly: zeros come
//! out as exact zeros, and what stays is exact to about [`ERROR`].

use std::ops::Range;
use std::sync::Arc;

use relc_ir::Values;

use super::{Form, WinogradPlan};
use crate::conv::{ConvError, ConvPlan, PackedWeights};
use crate::simd::Simd;
use crate::tile::Part;
use relc_program::layout::check;

/// The relative error that outputs which are not computed again may have, about.
pub const ERROR: f64 = 1e-4;

/// The most elements of a vector.
const MOST: usize = 16;

impl Form {
    /// Outputs below this fraction of `(sum of the tile's inputs) * (mean weight)` are computed again: the error of an
    /// output, as a fraction of that, is at most 6e-7 and 1.5e-6 on the pictures of the tests; over [`ERROR`].
    fn guard(self) -> f32 {
        match self {
            Form::Two => 6e-3,
            Form::Four => 1.5e-2,
        }
    }
}

/// How small outputs of a [`WinogradPlan`] are computed again. Only for sums whose products have one sign.
#[derive(Clone, Debug)]
pub struct Repair {
    plan: Arc<ConvPlan>,
    weights: Arc<PackedWeights>,
    part: Part,
    /// The guard's fraction times the mean magnitude of each output channel's weights, in whole vectors; 0 beyond the
    /// last channel.
    bounds: Values,
}

impl Repair {
    /// For a Winograd plan and the direct plan of the same convolution and layouts, with `weights` `f32[M,C,kD,3,3]`, packed
    /// by the direct plan, of which `part` is used.
    ///
    /// # Errors
    /// If `weights` has another length.
    pub fn new(
        winograd: &WinogradPlan,
        plan: Arc<ConvPlan>,
        packed: Arc<PackedWeights>,
        weights: &[f32],
        part: Part,
    ) -> Result<Repair, ConvError> {
        let expected =
            winograd.spec.weights_len().ok_or(ConvError::TooLarge { spec: Box::new(winograd.spec) })?;
        check("weights", weights.len(), expected)?;
        let (reduced, produced) = (winograd.input.channels(), winograd.output.channels());
        let mean = |channel: usize| {
            let kernels = (0..reduced).flat_map(|from| winograd.kernel_of(from, channel, weights));
            let sum: f64 = kernels.map(|weight| f64::from(part.of(*weight)).abs()).sum();
            (sum / (9 * winograd.spec.kernel[0] * reduced) as f64) as f32 * winograd.form.guard()
        };
        let mut bounds: Vec<f32> = (0..produced).map(mean).collect();
        bounds.resize(winograd.output.slice_blocks() * winograd.isa.width(), 0.0);
        Ok(Repair { plan, weights: packed, part, bounds: bounds.into() })
    }

    /// As [`new`](Self::new), with the bounds that it found at another time.
    ///
    /// # Errors
    /// If there are more or fewer than it finds.
    pub fn adopt(
        winograd: &WinogradPlan,
        plan: Arc<ConvPlan>,
        packed: Arc<PackedWeights>,
        part: Part,
        bounds: Values,
    ) -> Result<Repair, ConvError> {
        check("bounds", bounds.len(), winograd.output.slice_blocks() * winograd.isa.width())?;
        Ok(Repair { plan, weights: packed, part, bounds })
    }

    /// The bounds, shared.
    pub(crate) fn bounds(&self) -> &Values {
        &self.bounds
    }

    /// Computes the small outputs of a row of a block again. `tiles` are the sums of the inputs of the row's tiles.
    ///
    /// # Safety
    /// The machine has the instruction set of `S`, which is the plan's.
    #[inline(always)]
    pub(super) unsafe fn row<S: Simd>(&self, input: &[f32], at: RowOf<'_>, out: &mut [f32]) {
        let bounds = &self.bounds[at.of_slice * S::WIDTH..(at.of_slice + 1) * S::WIDTH];
        for (tile, sum) in at.tiles.iter().enumerate() {
            for x in tile * at.outputs..((tile + 1) * at.outputs).min(out.len() / S::WIDTH) {
                let vector = &mut out[x * S::WIDTH..(x + 1) * S::WIDTH];
                // SAFETY: both slices have WIDTH elements; the rest is the contract of this function.
                let small = unsafe {
                    let bound = S::load(bounds.as_ptr()).mul(S::splat(*sum));
                    let one = S::splat(1.0);
                    one.where_greater(bound, S::load(vector.as_ptr()).abs(), S::zero()).sum() > 0.0
                };
                if small {
                    self.plan.pixel(&self.weights, self.part, input, [at.block, at.y, x], vector);
                }
            }
        }
    }
}

/// A row of a block of the output.
#[derive(Clone, Copy)]
pub(super) struct RowOf<'a> {
    /// Among those of all slices.
    pub block: usize,
    /// Among those of its slice.
    pub of_slice: usize,
    pub y: usize,
    /// Pixels of a tile.
    pub outputs: usize,
    /// For each tile, the sum of its inputs.
    pub tiles: &'a [f32],
}

impl WinogradPlan {
    /// The sums of the magnitudes of the inputs of each tile of a row of tiles of a slice.
    ///
    /// # Safety
    /// The machine has the instruction set of `S`, which is the plan's; `input` is in the plan's input layout.
    #[inline(always)]
    pub(super) unsafe fn tile_sums<S: Simd>(
        &self,
        input: &[f32],
        [slice, tile_row]: [usize; 2],
        sums: &mut [f32],
    ) {
        let [height, width] = [self.input.height(), self.input.width()];
        let inside = |tile: usize, axis: usize, size: usize| -> Range<usize> {
            let start = (tile * self.form.outputs()) as i64 + self.shift[axis];
            let end = start + self.form.inputs() as i64;
            start.clamp(0, size as i64) as usize..end.clamp(0, size as i64) as usize
        };
        let rows = inside(tile_row, 0, height);
        let mut pixels = vec![0.0f32; width];
        let mut lanes = [0.0f32; MOST];
        for (x, pixel) in pixels.iter_mut().enumerate() {
            // SAFETY: the vectors of interior pixels lie in the input; `lanes` has at least WIDTH elements.
            unsafe {
                let mut sum = S::zero();
                for block in slice * self.input.slice_blocks()..(slice + 1) * self.input.slice_blocks() {
                    for y in rows.clone() {
                        let at = self.input.offset(block, y, x);
                        sum = sum.add(S::load(input.as_ptr().add(at)).abs());
                    }
                }
                sum.store(lanes.as_mut_ptr());
            }
            *pixel = lanes.iter().sum();
        }
        for (tile, sum) in sums.iter_mut().enumerate() {
            *sum = pixels[inside(tile, 1, width)].iter().sum();
        }
    }
}
