//! `split-tallies`: sums for the ledger become steps of their own.
//!
//! A CPU takes them of finished rows in its cache. A GPU would have to add up what blocks of many samples have in common; it
//! reads the value again instead, where somebody asks for the ledger. What a convolution adds behind such a sum is added by
//! a step of its own.

use relc_ir::remark::Remarks;
use relc_program::op::{Epilogue, StepOp};
use relc_program::passes::ProgramPass;
use relc_program::{Program, ProgramError, Step, ValueId};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct SplitTallies;

impl ProgramPass for SplitTallies {
    fn name(&self) -> &'static str {
        "split-tallies"
    }

    fn description(&self) -> &'static str {
        "take sums for the ledger in steps of their own"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let steps = std::mem::take(&mut program.backward);
        let mut split = 0;
        for step in steps {
            match tallied(&step) {
                Some(tallies) => {
                    split += 1;
                    let parts = self::split(program, step, tallies);
                    program.backward.extend(parts);
                }
                None => program.backward.push(step),
            }
        }
        if split > 0 {
            remarks.applied("", format!("{split} convolutions leave their sums to other steps"));
        }
        Ok(())
    }
}

/// The sums that a convolution takes, if it takes some.
fn tallied(step: &Step) -> Option<Vec<Vec<String>>> {
    let StepOp::Conv(conv) = &step.op else { return None };
    match &conv.epilogue {
        Epilogue::Product { tallies, .. } if tallies.iter().any(|of| !of.is_empty()) => Some(tallies.clone()),
        _ => None,
    }
}

/// The convolution, its sums, and what is added between them. What is added before the first sum stays fused.
fn split(program: &mut Program, mut step: Step, tallies: Vec<Vec<String>>) -> Vec<Step> {
    let StepOp::Conv(conv) = &mut step.op else { return vec![step] };
    let Epilogue::Product { factor, addends, tallies: own } = &mut conv.epilogue else { return vec![step] };
    own.clear();
    let fused = tallies.iter().position(|of| !of.is_empty()).unwrap_or(*addends).min(*addends);
    let first = 1 + usize::from(*factor) + fused;
    *addends = fused;
    let rest = step.reads.split_off(first.min(step.reads.len()));
    let result = step.writes[0];
    let image = program.image(result).unwrap_or([1; 4]);
    let mut of = |last: bool| if last { result } else { program.add_value(image) };
    let mut value = of(rest.is_empty());
    step.writes[0] = value;
    let follows = |op: StepOp, reads: Vec<ValueId>, writes: Vec<ValueId>| Step {
        op,
        reads,
        constants: Vec::new(),
        writes,
        kernel: None,
        origin: step.origin.clone(),
    };
    let tally = |at: usize, value: ValueId| {
        let of = tallies.get(at).filter(|of| !of.is_empty())?;
        Some(follows(StepOp::Tally(of.clone()), vec![value], Vec::new()))
    };
    let mut behind: Vec<Step> = tally(fused, value).into_iter().collect();
    for (number, addend) in rest.iter().enumerate() {
        let sum = of(number + 1 == rest.len());
        behind.push(follows(StepOp::Sum { relu: false }, vec![value, *addend], vec![sum]));
        behind.extend(tally(fused + number + 1, sum));
        value = sum;
    }
    let mut all = vec![step];
    all.append(&mut behind);
    all
}
