//! `choose-tiles`: how a GPU computes each convolution.
//!
//! Channels that are many are products of matrices, in the greatest tiles of which there are enough for the multiprocessors
//! at batch 1; a batch has more. Where a sum has few channels, each output is a thread's own. It depends on the device's
//! number of multiprocessors alone, so that neither batch nor load changes what is computed.

use relc_ir::remark::Remarks;
use relc_program::op::{Algorithm, WeightSource};
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
            let tiles = |tile: usize| produced.div_ceil(tile) * pixels.div_ceil(tile) * spec.groups;
            let (algorithm, reason) = if !dense || produced < CHANNELS || terms < CHANNELS {
                (Algorithm::Gather, format!("{produced} channels of {terms} terms fill no tile"))
            } else {
                let fits = |tile: usize| produced >= tile && tiles(tile) >= self.multiprocessors;
                let (algorithm, tile) = match () {
                    () if fits(128) => (Algorithm::Gemm128, 128),
                    () if fits(64) => (Algorithm::Gemm64, 64),
                    () => (Algorithm::Gemm32, 32),
                };
                (algorithm, format!("{} tiles of {tile} x {tile}", tiles(tile)))
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
