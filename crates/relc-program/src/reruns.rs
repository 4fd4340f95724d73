//! What does not depend on the seed: the denominators, and what they are made of.

use std::collections::BTreeSet;

use crate::op::{Epilogue, StepOp};
use crate::program::{Program, Step, ValueId};

/// What a backward step has to do again for another seed, where the forward steps are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rerun {
    /// All of it.
    Whole,
    /// A convolution's epilogue: its sums are denominators, which don't depend on the seed.
    Epilogue,
    /// Nothing, but others read again what it wrote.
    Outputs,
    /// Nothing, and nobody reads again what it wrote.
    Nothing,
}

impl Program {
    /// For each backward step what it has to do again for another seed.
    pub fn reruns(&self) -> Vec<Rerun> {
        let steps = &self.backward;
        let seeded = self.seeded();
        let depends = |ids: &[ValueId]| ids.iter().any(|id| seeded.contains(id));
        let mut reruns: Vec<Rerun> = steps
            .iter()
            .map(|step| match &step.op {
                StepOp::Raise { .. } => Rerun::Whole,
                StepOp::Conv(conv) if is_quotient(&conv.epilogue) && !depends(main_input(step)) => {
                    Rerun::Epilogue
                }
                _ if depends(&step.reads) || depends(outputs(step)) => Rerun::Whole,
                _ => Rerun::Nothing,
            })
            .collect();
        let read_again: BTreeSet<ValueId> = steps
            .iter()
            .zip(&reruns)
            .flat_map(|(step, rerun)| match rerun {
                Rerun::Whole => &step.reads[..],
                Rerun::Epilogue => step.reads.get(1..).unwrap_or(&[]),
                Rerun::Outputs | Rerun::Nothing => &[],
            })
            .copied()
            .collect();
        for (step, rerun) in steps.iter().zip(&mut reruns) {
            let read = outputs(step).iter().any(|id| read_again.contains(id) || self.is_end(*id));
            if *rerun == Rerun::Nothing && read {
                *rerun = Rerun::Outputs;
            }
        }
        reruns
    }

    /// The values of the backward steps that depend on the seed. A value that some steps write in parts does as a whole.
    fn seeded(&self) -> BTreeSet<ValueId> {
        let mut seeded = BTreeSet::from([self.ends.seed]);
        loop {
            let before = seeded.len();
            for step in &self.backward {
                if step.reads.iter().any(|id| seeded.contains(id)) {
                    seeded.extend(outputs(step));
                }
            }
            if seeded.len() == before {
                return seeded;
            }
        }
    }
}

fn is_quotient(epilogue: &Epilogue) -> bool {
    matches!(epilogue, Epilogue::Quotient { .. })
}

/// What a convolution sums.
fn main_input(step: &Step) -> &[ValueId] {
    step.reads.get(..1).unwrap_or(&[])
}

/// What a step writes, without the memory that it works in.
fn outputs(step: &Step) -> &[ValueId] {
    match (step.scratch(), step.writes.split_last()) {
        (Some(_), Some((_, outputs))) => outputs,
        _ => &step.writes,
    }
}
