//! Which logical buffers share memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use relc_runtime::layout::Blocked;

use crate::step::{BufferId, Step, Use};

/// The memory of a sample: slots, and which of them each logical buffer has.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    /// The layout of each slot.
    pub layouts: Vec<Blocked>,
    /// The slot of each logical buffer; none if no step uses it.
    pub slot: Vec<Option<usize>>,
}

impl Slots {
    /// Bytes of all slots.
    pub fn bytes(&self) -> usize {
        self.layouts.iter().map(|layout| layout.len() * size_of::<f32>()).sum()
    }
}

/// The first and the last step that use a buffer.
type Range = (usize, usize);

/// The first and the last step that uses each buffer; none for those that no step uses. `given` are those that are
/// there before the first step, `kept` those that are read after the last one.
fn live_ranges(buffers: usize, steps: &[Step], given: &[BufferId], kept: &[BufferId]) -> Vec<Option<Range>> {
    let mut ranges: Vec<Option<Range>> = vec![None; buffers];
    let mut extend = |id: BufferId, at: usize| {
        if let Some(range) = ranges.get_mut(id) {
            let (first, last) = range.get_or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
    };
    given.iter().for_each(|id| extend(*id, 0));
    for (at, step) in steps.iter().enumerate() {
        step.buffers().into_iter().for_each(|(_, id)| extend(id, at));
    }
    kept.iter().for_each(|id| extend(*id, steps.len()));
    ranges
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

/// Gives each logical buffer a slot, so that buffers which live at the same time have different ones.
///
/// Only buffers of one layout share a slot: no kernel writes a halo or a channel beyond the last, so both stay zero
/// forever, whoever has the slot.
pub fn assign(layouts: &[Blocked], steps: &[Step], given: &[BufferId], kept: &[BufferId]) -> Slots {
    let ranges = live_ranges(layouts.len(), steps, given, kept);
    let mut order: Vec<(BufferId, Range)> =
        ranges.iter().enumerate().filter_map(|(id, range)| Some((id, (*range)?))).collect();
    order.sort_by_key(|(id, (first, _))| (*first, *id));
    let mut slots = Slots { layouts: Vec::new(), slot: vec![None; layouts.len()] };
    let mut pools: HashMap<Blocked, Pool> = HashMap::new();
    for (id, (first, last)) in order {
        let layout = layouts[id];
        let pool = pools.entry(layout).or_default();
        let slot = pool.free_before(first).unwrap_or_else(|| {
            slots.layouts.push(layout);
            slots.layouts.len() - 1
        });
        pool.busy.push(Reverse((last, slot)));
        slots.slot[id] = Some(slot);
    }
    slots
}

/// What is wrong with a plan: buffers that live at the same time in one slot, and steps that read what they write.
pub fn check(
    layouts: &[Blocked],
    steps: &[Step],
    given: &[BufferId],
    kept: &[BufferId],
    slots: &Slots,
) -> Vec<String> {
    let mut errors = Vec::new();
    let ranges = live_ranges(layouts.len(), steps, given, kept);
    let mut owners: HashMap<usize, Vec<(BufferId, Range)>> = HashMap::new();
    for (id, range) in ranges.iter().enumerate() {
        let Some(range) = range else { continue };
        match slots.slot.get(id).copied().flatten() {
            Some(slot) if slots.layouts.get(slot) == layouts.get(id) => {
                owners.entry(slot).or_default().push((id, *range))
            }
            other => errors.push(format!("buffer {id}: got slot {other:?}, expected one of its layout")),
        }
    }
    for (slot, mut list) in owners {
        list.sort_by_key(|(_, (first, _))| *first);
        for pair in list.windows(2) {
            if let [(a, (_, last)), (b, (first, _))] = pair
                && first <= last
            {
                errors.push(format!(
                    "slot {slot}: got buffers {a} and {b} alive at step {first}, expected one"
                ));
            }
        }
    }
    for (at, step) in steps.iter().enumerate() {
        let uses = step.buffers();
        let written: Vec<BufferId> =
            uses.iter().filter(|(u, _)| *u == Use::Write).map(|(_, id)| *id).collect();
        let unique: HashSet<&BufferId> = written.iter().collect();
        let reads_written = uses.iter().any(|(u, id)| *u == Use::Read && unique.contains(id));
        if unique.len() < written.len() || reads_written {
            errors.push(format!(
                "step {at}: got a buffer that it writes twice, or reads and writes, expected others"
            ));
        }
    }
    errors.sort();
    errors
}

#[cfg(test)]
mod tests {
    use relc_ir::{Graph, TensorType};
    use relc_runtime::layout::Halo;

    use super::*;
    use crate::step::Action;

    /// Steps that each read a buffer and write one.
    fn steps(moves: &[(BufferId, BufferId)]) -> Vec<Step> {
        let mut graph = Graph::new("plan");
        let node = graph.add_input("x", TensorType::batched(&[1])).expect("the first input").node;
        let action = |&(input, output)| Action::Move { table: [].into(), input, output };
        moves.iter().map(|pair| Step { node, action: action(pair) }).collect()
    }

    fn layouts(sizes: &[usize]) -> Vec<Blocked> {
        sizes.iter().map(|size| Blocked::new(8, 8, *size, *size, Halo::NONE).expect("small")).collect()
    }

    /// Plans, and checks that the plan is sound; the slot of each buffer.
    #[track_caller]
    fn plan(sizes: &[usize], moves: &[(BufferId, BufferId)], kept: &[BufferId]) -> Vec<Option<usize>> {
        let (layouts, steps) = (layouts(sizes), steps(moves));
        let slots = assign(&layouts, &steps, &[0], kept);
        assert_eq!(check(&layouts, &steps, &[0], kept, &slots), Vec::<String>::new());
        slots.slot
    }

    /// What is wrong with a plan that has these slots.
    fn errors(sizes: &[usize], moves: &[(BufferId, BufferId)], slot: &[Option<usize>]) -> Vec<String> {
        let (layouts, steps) = (layouts(sizes), steps(moves));
        let slots = Slots { layouts: layouts.clone(), slot: slot.to_vec() };
        check(&layouts, &steps, &[0], &[], &slots)
    }

    #[test]
    fn buffers_share_a_slot_once_its_owner_is_done() {
        // A chain needs two: what is read, and what is written.
        assert_eq!(plan(&[4; 4], &[(0, 1), (1, 2), (2, 3)], &[]), [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn buffers_that_live_longer_keep_their_slots() {
        // 0 is read again at the end.
        assert_eq!(plan(&[4; 4], &[(0, 1), (1, 2), (0, 3)], &[]), [Some(0), Some(1), Some(2), Some(1)]);
        // 1 is a result.
        assert_eq!(plan(&[4; 4], &[(0, 1), (1, 2), (2, 3)], &[1]), [Some(0), Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn only_buffers_of_one_layout_share() {
        assert_eq!(plan(&[4, 5, 6], &[(0, 1), (1, 2)], &[]), [Some(0), Some(1), Some(2)]);
        let (layouts, steps) = (layouts(&[4, 4, 4, 7]), steps(&[(0, 1), (1, 2), (2, 3)]));
        let slots = assign(&layouts, &steps, &[0], &[]);
        assert_eq!(slots.bytes(), (2 * 16 + 49) * 8 * size_of::<f32>());
    }

    #[test]
    fn a_buffer_that_nothing_uses_has_no_slot() {
        assert_eq!(plan(&[4; 3], &[(0, 2)], &[]), [Some(0), None, Some(1)]);
    }

    #[test]
    fn two_that_live_at_once_in_one_slot_are_reported() {
        let moves = [(0, 1), (1, 2), (0, 3)];
        let found = errors(&[4; 4], &moves, &[Some(0), Some(1), Some(0), Some(2)]);
        assert_eq!(found, ["slot 0: got buffers 0 and 2 alive at step 1, expected one"]);
    }

    #[test]
    fn a_slot_is_not_free_in_the_step_that_reads_it_last() {
        let found = errors(&[4; 3], &[(0, 1), (1, 2)], &[Some(0), Some(1), Some(1)]);
        assert_eq!(found, ["slot 1: got buffers 1 and 2 alive at step 1, expected one"]);
    }

    #[test]
    fn a_step_that_reads_what_it_writes_is_reported() {
        let found = errors(&[4; 2], &[(0, 1), (1, 1)], &[Some(0), Some(1)]);
        assert_eq!(
            found,
            ["step 1: got a buffer that it writes twice, or reads and writes, expected others"]
        );
    }

    #[test]
    fn a_buffer_without_a_slot_of_its_layout_is_reported() {
        let found = errors(&[4, 5], &[(0, 1)], &[Some(0), None]);
        assert_eq!(found, ["buffer 1: got slot None, expected one of its layout"]);
        let found = errors(&[4, 5], &[(0, 1)], &[Some(1), Some(0)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
