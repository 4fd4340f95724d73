//! `factor-ones`: what is spread evenly over a layer's inputs is summed over its outputs' channels first.
//!
//! ```text
//! c = conv.transposed s, form="1"      =>      t = conv s, kernel=[1,1], tap=1
//!                                              c = conv.transposed t, tap=1
//! ```
//! where t has one channel. All weights of the layer are 1, so that every input under an output gets the same of all of its
//! channels: as many multiplications as the layer has outputs and inputs under a window, in place of their product.

use relc_ir::remark::Remarks;
use relc_ir::rule::WeightPart;

use super::ProgramPass;
use crate::conv::{ConvSpec, Direction};
use crate::error::ProgramError;
use crate::op::{ConvOp, Epilogue, StepOp, WeightSource, Weights};
use crate::program::{Program, Step};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FactorOnes;

impl ProgramPass for FactorOnes {
    fn name(&self) -> &'static str {
        "factor-ones"
    }

    fn description(&self) -> &'static str {
        "sum over channels before what is spread evenly is spread"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let steps = std::mem::take(&mut program.backward);
        let mut factored = Vec::with_capacity(steps.len());
        for step in steps {
            let conv = match &step.op {
                StepOp::Conv(conv) if is_even(conv) => (**conv).clone(),
                _ => {
                    factored.push(step);
                    continue;
                }
            };
            let origin = step.origin.describe();
            if conv.spec.groups != 1 || conv.spec.channels_out < 2 {
                remarks.missed(origin, "each group is few channels");
                factored.push(step);
                continue;
            }
            remarks.applied(origin, format!("sums over {} channels first", conv.spec.channels_out));
            factored.extend(factor(program, step, conv));
        }
        program.backward = factored;
        Ok(())
    }
}

/// Whether it is a transposed convolution by ones that has nothing to do with its sums yet.
fn is_even(conv: &ConvOp) -> bool {
    let ones = conv.weights.form == WeightPart::Ones && !matches!(conv.weights.source, WeightSource::Tap(_));
    ones && conv.direction == Direction::Transposed && conv.epilogue == Epilogue::None
}

/// The sum over channels, and the convolution of one channel.
fn factor(program: &mut Program, step: Step, conv: ConvOp) -> [Step; 2] {
    let [_, depth, height, width] = program.image(step.reads[0]).unwrap_or([1; 4]);
    let sum = program.add_value([1, depth, height, width]);
    let weights = Weights { source: WeightSource::Tap(1.0), form: WeightPart::Raw, gamma: 0.0 };
    let over_channels = ConvSpec::gemm(conv.spec.channels_out, 1);
    let summed = ConvOp { spec: over_channels, direction: Direction::Forward, weights, ..conv.clone() };
    let spread = ConvOp { spec: ConvSpec { channels_out: 1, ..conv.spec }, weights, ..conv };
    let first = Step {
        op: StepOp::Conv(Box::new(summed)),
        reads: step.reads.clone(),
        constants: Vec::new(),
        writes: vec![sum],
        kernel: None,
        origin: step.origin.clone(),
    };
    [first, Step { op: StepOp::Conv(Box::new(spread)), reads: vec![sum], constants: Vec::new(), ..step }]
}
