//! `choose-tiles`: how a GPU computes each convolution.
//!
//! Channels that are many are products of matrices, in the greatest tiles of which there are enough for the multiprocessors
//! at batch 1; a batch has more. Where a sum has few channels, each output is a thread's own. It depends on the device's
//! number of multiprocessors and the precision that was asked for alone, so that neither batch nor load changes what is
//! computed.
//!
//! Tensor cores multiply what may be rounded: not where zeros have to be zeros, nor, where something is divided by sums, what
//! cancels in them.

use relc_ir::remark::Remarks;
use relc_program::op::{Algorithm, ConvOp, Exactness, Precision, Tile, WeightSource};
use relc_program::passes::ProgramPass;
use relc_program::{Program, ProgramError, StepOp};

use crate::emit::of_group;

/// Channels of a group, on both sides, from which on tiles are filled.
const CHANNELS: usize = 16;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ChooseTiles {
    /// The multiprocessors of the device.
    pub multiprocessors: usize,
    /// What factors are rounded to where they may be.
    pub precision: Precision,
}

impl ChooseTiles {
    /// What the factors of a convolution are rounded to.
    fn precision_of(&self, conv: &ConvOp) -> Precision {
        match conv.exactness {
            Exactness::Plain => self.precision,
            Exactness::Divisor if conv.signs.agree() => self.precision,
            // What cancels leaves the last bits of the terms.
            Exactness::Divisor | Exactness::Exact => Precision::F32,
        }
    }
}

impl ProgramPass for ChooseTiles {
    fn name(&self) -> &'static str {
        "choose-tiles"
    }

    fn description(&self) -> &'static str {
        "choose how a GPU computes each convolution"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let images: Vec<[usize; 4]> = program
            .steps()
            .map(|step| step.writes.first().and_then(|id| program.image(*id)).unwrap_or([1; 4]))
            .collect();
        for (step, [_, depth, height, width]) in program.steps_mut().zip(images) {
            let StepOp::Conv(conv) = &mut step.op else { continue };
            let spec = &conv.spec;
            let [reduced, produced] = of_group(spec, conv.direction);
            let terms = reduced.saturating_mul(spec.positions().unwrap_or(usize::MAX));
            let dense = !matches!(conv.weights.source, WeightSource::Tap(_));
            let pixels = depth * height * width;
            let tiles = |tile: Tile| {
                let side = tile.side() as usize;
                produced.div_ceil(side) * pixels.div_ceil(side) * spec.groups
            };
            let (algorithm, reason) = if !dense || produced < CHANNELS || terms < CHANNELS {
                (Algorithm::Gather, format!("{produced} channels of {terms} terms fill no tile"))
            } else {
                let fits =
                    |tile: Tile| produced >= tile.side() as usize && tiles(tile) >= self.multiprocessors;
                let tile = match () {
                    () if fits(Tile::Tile128) => Tile::Tile128,
                    () if fits(Tile::Tile64) => Tile::Tile64,
                    () => Tile::Tile32,
                };
                let (side, precision) = (tile.side(), self.precision_of(conv));
                let kept = if precision == self.precision { "" } else { ", in fp32: rounding would show" };
                (Algorithm::Gemm(tile, precision), format!("{} tiles of {side} x {side}{kept}", tiles(tile)))
            };
            conv.algorithm = Some(algorithm);
            match algorithm {
                Algorithm::Gather => remarks.missed(step.origin.describe(), reason),
                _ => remarks.applied(step.origin.describe(), reason),
            }
        }
        Ok(())
    }
}
