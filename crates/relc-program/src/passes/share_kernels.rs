//! `share-kernels`: steps that do the same on the same layouts run one kernel, which is compiled once.
//!
//! What a step does is its op and the layouts of its operands; which constants and flags it takes, and whose ledger it
//! writes, is no matter.

use std::collections::BTreeMap;

use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::op::{Epilogue, StepOp, Vanishing};
use crate::program::{Program, Step, ValueId};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ShareKernels;

impl ProgramPass for ShareKernels {
    fn name(&self) -> &'static str {
        "share-kernels"
    }

    fn description(&self) -> &'static str {
        "number the kernels that steps of one shape share"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let keys: Vec<Option<String>> = program.steps().map(|step| kernel_key(program, step)).collect();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut shared = 0;
        for (step, key) in program.steps_mut().zip(keys) {
            let Some(key) = key else { continue };
            let next = numbers.len();
            let number = *numbers.entry(key).or_insert(next);
            shared += usize::from(number != next);
            step.kernel = Some(number);
        }
        if !numbers.is_empty() {
            remarks.applied("", format!("{} kernels serve {} steps", numbers.len(), numbers.len() + shared));
        }
        Ok(())
    }
}

/// What the kernel of a step depends on; none for steps that run none.
pub(crate) fn kernel_key(program: &Program, step: &Step) -> Option<String> {
    let mut op = step.op.clone();
    match &mut op {
        StepOp::Interpret | StepOp::Raise { .. } | StepOp::Tally(_) | StepOp::Absorbed { .. } => return None,
        StepOp::Conv(conv) => match &mut conv.epilogue {
            Epilogue::Quotient { flag: Some(flag), .. } => *flag = 0,
            Epilogue::Product { tallies, .. } => tallies.clear(),
            _ => {}
        },
        StepOp::Quotients(quotients) => {
            if let Vanishing::Flat { flag, .. } = &mut quotients.vanishing {
                *flag = 0;
            }
        }
        StepOp::Flat(flat) => {
            flat.flag = 0;
            flat.tally.clear();
            flat.whole.clear();
        }
        _ => {}
    }
    let scratch = step.scratch();
    let layout = |id: &ValueId| match program.values.get(id) {
        Some(value) => format!("{:?} {:?}", value.image, value.layout),
        None => String::new(),
    };
    let layouts: Vec<String> =
        step.reads.iter().chain(&step.writes).filter(|id| Some(**id) != scratch).map(layout).collect();
    Some(format!("{op:?} {}", layouts.join(", ")))
}
