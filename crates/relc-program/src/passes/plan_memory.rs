//! `plan-memory`: which values share memory.
//!
//! A slot is free again behind the last step that uses its value. Nobody writes a halo or a channel beyond the last, so both stay
//! zero for ever, whoever has the slot: a value that has some shares with values of its layout only. All others share whatever
//! their sizes: each takes the smallest free slot that has room, else the largest, which grows. What comes back to the caller
//! has a slot of its own, which has its size.

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
        let mut sizes: Vec<usize> = Vec::new();
        let values = order.len();
        let returned = program.ends.relevance;
        for (id, (first, last)) in order {
            let Some(value) = program.values.get_mut(&id) else { continue };
            let Some(layout) = value.layout else { continue };
            let pool = pools.entry(key(&layout).or((id == returned).then_some(Kept::Returned))).or_default();
            let slot = pool.free_before(first, layout.len(), &sizes).unwrap_or(sizes.len());
            if slot == sizes.len() {
                sizes.push(0);
            }
            sizes[slot] = sizes[slot].max(layout.len());
            pool.busy.push(Reverse((last, slot)));
            value.slot = Some(slot);
        }
        let slots = sizes.len();
        remarks.applied("", format!("{values} values in {slots} slots, {} bytes a sample", program.bytes()));
        Ok(())
    }
}

/// What values share slots by: all that keep nothing in theirs with each other.
type Key = Option<Kept>;

/// What a value keeps in its slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// The zeros of a layout, as something that can be ordered.
    Zeros(Image, usize, [usize; 4]),
    /// What comes back to the caller.
    Returned,
}

fn key(layout: &Blocked) -> Key {
    let halo = layout.halo();
    let zeros = Kept::Zeros(layout.image(), layout.block(), [halo.top, halo.left, halo.bottom, halo.right]);
    layout.keeps_zeros().then_some(zeros)
}

/// Slots that some values share.
#[derive(Default)]
struct Pool {
    /// The last step that uses a slot, and the slot; the one that is free first on top.
    busy: BinaryHeap<Reverse<(usize, usize)>>,
    free: BTreeSet<usize>,
}

impl Pool {
    /// Takes a slot that no step from `step` on uses: the smallest that has room for so many elements, else the largest. Steps
    /// are asked for in ascending order.
    fn free_before(&mut self, step: usize, elements: usize, sizes: &[usize]) -> Option<usize> {
        while let Some(Reverse((last, slot))) = self.busy.peek().copied()
            && last < step
        {
            self.busy.pop();
            self.free.insert(slot);
        }
        let size = |slot: &usize| sizes.get(*slot).copied().unwrap_or(0);
        let roomy = self.free.iter().filter(|slot| size(slot) >= elements).min_by_key(|slot| size(slot));
        // Of slots of one size, the first.
        let largest = || self.free.iter().max_by_key(|slot| (size(slot), Reverse(**slot)));
        let slot = *roomy.or_else(largest)?;
        self.free.remove(&slot);
        Some(slot)
    }
}
