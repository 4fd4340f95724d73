//! `choose-convolutions`: how each convolution is computed on a CPU.
//!
//! Winograd's algorithm computes 3x3 convolutions of stride 1 with fewer multiplications, where there are channels enough
//! to pay for its transforms, and where its sums are exact enough for what becomes of them. Everything else is summed
//! plainly.

use relc_ir::remark::Remarks;
use relc_program::conv::Direction;
use relc_program::layout::{Blocked, Halo};
use relc_program::op::{Algorithm, ConvOp, Exactness};
use relc_program::passes::ProgramPass;
use relc_program::{Program, ProgramError, StepOp, ValueId};

use crate::isa::Isa;
use crate::winograd::{Form, WinogradPlan};

/// Channels from which on Winograd's algorithm saves more than its transforms cost.
const WINOGRAD_CHANNELS: usize = 32;

/// Pixels of an output from which on it is worth a third copy of the weights, for its repair.
const REPAIRED_PIXELS: usize = 64;

const NAME: &str = "choose-convolutions";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ChooseConvolutions {
    /// The instruction set that is compiled for.
    pub isa: Isa,
}

impl ProgramPass for ChooseConvolutions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "choose how each convolution is computed"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        // One memory serves all: a step at a time works in it.
        let scratch = program.add_value([1; 4]);
        let mut longest = 0;
        let layouts: std::collections::BTreeMap<ValueId, Option<Blocked>> =
            program.values.iter().map(|(id, value)| (*id, value.layout)).collect();
        for step in program.steps_mut() {
            let StepOp::Conv(conv) = &mut step.op else { continue };
            let failed =
                |reason: String| ProgramError::Step { pass: NAME, step: step.origin.describe(), reason };
            let layout = |id: Option<&ValueId>| id.and_then(|id| layouts.get(id).copied().flatten());
            let (Some(from), Some(to)) = (layout(step.reads.first()), layout(step.writes.first())) else {
                return Err(failed("its values have no layouts; run choose-layouts before".into()));
            };
            conv.algorithm = Some(Algorithm::Direct);
            let form = match form(conv, &from, &to) {
                Ok(form) => form,
                Err(reason) => {
                    if WinogradPlan::supports(&conv.spec) {
                        remarks.missed(step.origin.describe(), reason);
                    }
                    continue;
                }
            };
            let plan = WinogradPlan::new(&conv.spec, conv.direction, self.isa, form, &from, &to);
            let Some(plan) = plan.map_err(|e| failed(e.to_string()))? else { continue };
            let (algorithm, size) = match form {
                Form::Two => (Algorithm::Winograd2, 2),
                Form::Four => (Algorithm::Winograd4, 4),
            };
            conv.algorithm = Some(algorithm);
            longest = longest.max(plan.scratch_len());
            remarks.applied(step.origin.describe(), format!("by Winograd's F({size}x{size}, 3x3)"));
            step.writes.push(scratch);
        }
        // Where nobody works in it, it is taken away with what else nothing uses.
        if let Some(value) = program.values.get_mut(&scratch).filter(|_| longest > 0) {
            let layout = Blocked::new(1, 1, 1, longest, Halo::NONE)
                .map_err(|source| ProgramError::Layout { step: NAME.into(), source })?;
            *value =
                relc_program::Value { layout: Some(layout), ..relc_program::Value::new([1, 1, 1, longest]) };
        }
        Ok(())
    }
}

/// The form of Winograd's algorithm that is faster and exact enough, or why none is.
fn form(conv: &ConvOp, from: &Blocked, to: &Blocked) -> Result<Form, String> {
    if !WinogradPlan::supports(&conv.spec) {
        return Err("its kernel is not 3x3 of stride 1 in each slice, in one group".into());
    }
    let channels = from.channels().min(to.channels());
    if channels < WINOGRAD_CHANNELS {
        return Err(format!("{channels} channels are too few for Winograd's algorithm to pay"));
    }
    if from.block().min(to.block()) < 4 {
        return Err("Winograd's algorithm wants whole vectors".into());
    }
    let best = Form::for_image([to.height(), to.width()]);
    match conv.exactness {
        Exactness::Plain => Ok(best),
        // It has direct weights besides: for few pixels, a third copy is not worth its memory.
        Exactness::Divisor if conv.signs.agree() && to.height() * to.width() < REPAIRED_PIXELS => {
            Err("it has few pixels, for which a third copy of its weights is too much".into())
        }
        Exactness::Divisor if conv.signs.agree() => Ok(best),
        // Where terms cancel, the sum's own rounding is as large as that of the smaller form.
        Exactness::Divisor => Ok(Form::Two),
        Exactness::Exact if conv.direction == Direction::Transposed => {
            Err("its terms have no common size, and Winograd's sums depend on their neighbours'".into())
        }
        Exactness::Exact => Err("its zeros have to be zeros".into()),
    }
}
