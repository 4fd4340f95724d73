//! `schedule`: the order of steps.
//!
//! Sums for the ledger are taken behind the step that wrote their value, while it is in the cache; every other step stays
//! where the graph's order put it.

use std::collections::BTreeMap;

use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::program::{Program, Step, ValueId};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Schedule;

impl ProgramPass for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn description(&self) -> &'static str {
        "take the ledger's sums while their values are in the cache"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let steps = std::mem::take(&mut program.backward);
        let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            last.extend(step.writes.iter().map(|id| (*id, at)));
        }
        // A step of the ledger goes behind the last step that writes what it reads, if that comes before it.
        let place = |at: usize, step: &Step| {
            let written = step.reads.iter().filter_map(|id| last.get(id)).max().copied();
            written.filter(|written| step.op.is_bookkeeping() && *written < at)
        };
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            let to = place(at, step);
            if let Some(to) = to
                && steps[to + 1..at].iter().any(|between| !between.op.is_bookkeeping())
            {
                remarks.applied(
                    step.origin.describe(),
                    format!("sums {} as soon as it is there", step.reads[0]),
                );
            }
            order.push((to.unwrap_or(at), at));
        }
        order.sort_by_key(|(to, at)| (*to, *at));
        let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
        program.backward = order.into_iter().filter_map(|(_, at)| steps[at].take()).collect();
        Ok(())
    }
}
