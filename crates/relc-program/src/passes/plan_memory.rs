//! `plan-memory`: which values share memory.
//!
//! Only values of one layout share a slot: nobody writes a halo or a channel beyond the last, so both stay zero for ever,
//! whoever has the slot. A slot is free again behind the last step that uses its value.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::layout::{Blocked, Image};
use crate::program::{Program, ValueId};
use crate::uses::lifetimes;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct PlanMemory;

impl ProgramPass for PlanMemory {
    fn name(&self) -> &'static str {
        "plan-memory"
    }

    fn description(&self) -> &'static str {
        "let values that live at different times share memory"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let mut order: Vec<(ValueId, (usize, usize))> = lifetimes(program).into_iter().collect();
        order.sort_by_key(|(id, (first, _))| (*first, *id));
        let mut pools: BTreeMap<Key, Pool> = BTreeMap::new();
        let mut slots = 0;
        let values = order.len();
        for (id, (first, last)) in order {
            let Some(value) = program.values.get_mut(&id) else { continue };
            let Some(layout) = value.layout else { continue };
            let pool = pools.entry(key(&layout)).or_default();
            let slot = pool.free_before(first).unwrap_or_else(|| {
                slots += 1;
                slots - 1
            });
            pool.busy.push(Reverse((last, slot)));
            value.slot = Some(slot);
        }
        remarks.applied("", format!("{values} values in {slots} slots, {} bytes a sample", program.bytes()));
        Ok(())
    }
}

/// A layout, as something that can be ordered.
type Key = (Image, usize, [usize; 4]);

fn key(layout: &Blocked) -> Key {
    let halo = layout.halo();
    (layout.image(), layout.block(), [halo.top, halo.left, halo.bottom, halo.right])
}

/// The slots of a layout.
#[derive(Default)]
struct Pool {
    /// The last step that uses a slot, and the slot; the one that is free first on top.
    busy: BinaryHeap<Reverse<(usize, usize)>>,
    free: BTreeSet<usize>,
}

impl Pool {
    /// Takes the first slot that no step from `step` on uses. Steps are asked for in ascending order.
    fn free_before(&mut self, step: usize) -> Option<usize> {
        while let Some(Reverse((last, slot))) = self.busy.peek().copied()
            && last < step
        {
            self.busy.pop();
            self.free.insert(slot);
        }
        self.free.pop_first()
    }
}
