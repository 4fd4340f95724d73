//! What steps cost a device: their operations and bytes, and the least time that they could take.

use relc_program::conv::Direction;
use relc_program::op::{Algorithm, Precision};
use relc_program::{Program, Step, StepOp};

use crate::device::Peaks;
use crate::error::CudaError;

/// What a step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Operations of its convolution, a multiply-add being two.
    pub flops: f64,
    /// Bytes of its operands, each read or written once.
    pub bytes: f64,
    /// What its products are of.
    pub precision: Precision,
}

impl Cost {
    /// What a step of a program costs for so many samples.
    ///
    /// # Errors
    /// If sizes overflow.
    pub fn of(program: &Program, step: &Step, samples: usize) -> Result<Cost, CudaError> {
        let (mut flops, mut precision) = (0.0, Precision::F32);
        if let StepOp::Conv(conv) = &step.op {
            let of_input = match conv.direction {
                Direction::Forward => step.reads.first(),
                Direction::Transposed => step.writes.first(),
            };
            let image = of_input.and_then(|id| program.image(*id));
            let [_, depth, height, width] = image.unwrap_or([1; 4]);
            let own = conv.spec.flops([depth, height, width]);
            flops = own.map_err(|error| CudaError::Plan(error.to_string()))?;
            if let Some(Algorithm::Gemm(_, own)) = conv.algorithm {
                precision = own;
            }
        }
        let len = |id| program.image(id).unwrap_or([1; 4]).iter().map(|n| *n as f64).product::<f64>();
        let values: f64 = step.values().map(len).sum();
        let constants: usize =
            step.constants.iter().filter_map(|name| program.constants.get(name)?.len()).sum();
        let samples = samples as f64;
        Ok(Cost { flops: flops * samples, bytes: 4.0 * (values * samples + constants as f64), precision })
    }

    /// The least time in seconds, by operations or by bytes, whichever is more, and whether it is by bytes.
    pub fn bound(&self, peaks: &Peaks) -> (f64, bool) {
        let rate = match self.precision {
            Precision::F32 => peaks.fp32,
            Precision::Tf32 => peaks.tf32,
            Precision::Tf32x3 => peaks.tf32 / 3.0,
        };
        let (computing, moving) = (self.flops / rate, self.bytes / peaks.bandwidth);
        (computing.max(moving), moving > computing)
    }
}
