//! `alias-moves`: a step that changes nothing goes, and whoever reads its output reads its input.
//!
//! Reshapes between values of one image, relevance that passes unchanged, and identities. The sums that the ledger takes of
//! both are one.

use std::collections::{BTreeMap, BTreeSet};

use relc_ir::op::Activation;
use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::op::{Move, StepOp, Strided};
use crate::program::{Program, Step, ValueId};
use crate::uses::Uses;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct AliasMoves;

impl ProgramPass for AliasMoves {
    fn name(&self) -> &'static str {
        "alias-moves"
    }

    fn description(&self) -> &'static str {
        "let values that equal another one be that"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let uses = Uses::of_program(program);
        let mut aliases: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (at, step) in program.steps().enumerate() {
            let (&[from], &[to]) = (&step.reads[..], &step.writes[..]) else { continue };
            if !keeps_elements(program, step) {
                continue;
            }
            // What is written once more would show in both.
            let settled =
                uses.only_writer(to) == Some(at) && uses.writers(from).iter().all(|writer| *writer < at);
            if !settled {
                remarks.missed(
                    step.origin.describe(),
                    "is written in several steps, and stays a value of its own",
                );
                continue;
            }
            let root = aliases.get(&from).copied().unwrap_or(from);
            aliases.insert(to, root);
            gone.insert(at);
            remarks.applied(step.origin.describe(), format!("{to} is {root}"));
        }
        remove(program, &gone);
        let root = |id: &mut ValueId| *id = aliases.get(id).copied().unwrap_or(*id);
        program.steps_mut().for_each(|step| step.reads.iter_mut().chain(&mut step.writes).for_each(root));
        let ends = &mut program.ends;
        [&mut ends.output, &mut ends.relevance].into_iter().chain(program.taps.values_mut()).for_each(root);
        merge_tallies(program);
        Ok(())
    }
}

/// Takes steps away, by their places.
fn remove(program: &mut Program, gone: &BTreeSet<usize>) {
    let mut at = 0..;
    for steps in program.halves_mut() {
        steps.retain(|_| !at.next().is_some_and(|at| gone.contains(&at)));
    }
}

/// Whether the output has the elements of the input, in their places.
fn keeps_elements(program: &Program, step: &Step) -> bool {
    let (Some(from), Some(to)) = (program.image(step.reads[0]), program.image(step.writes[0])) else {
        return false;
    };
    match &step.op {
        StepOp::Activation(Activation::Identity | Activation::Dropout) => true,
        StepOp::Move(Move { dims, to: target, from: source, .. }) => {
            let dense = Strided::dense(dims);
            let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            from == to && *target == dense && *source == dense && count == Some(from.iter().product())
        }
        _ => false,
    }
}

/// Of the sums of one value, taken without a write between them, the first does for all.
fn merge_tallies(program: &mut Program) {
    let mut first: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut more: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    for (at, step) in program.backward.iter().enumerate() {
        for id in &step.writes {
            first.remove(id);
        }
        if let (StepOp::Tally(labels), &[value]) = (&step.op, &step.reads[..]) {
            match first.get(&value) {
                Some(before) => {
                    more.entry(*before).or_default().extend(labels.iter().cloned());
                    gone.insert(at);
                }
                None => {
                    first.insert(value, at);
                }
            }
        }
    }
    for (at, labels) in more {
        if let Some(Step { op: StepOp::Tally(of), .. }) = program.backward.get_mut(at) {
            of.extend(labels);
        }
    }
    let mut at = 0..;
    program.backward.retain(|_| !at.next().is_some_and(|at| gone.contains(&at)));
}
