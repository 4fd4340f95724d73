//! Who reads and who writes each value.

use std::collections::BTreeMap;

use crate::program::{Program, Step, ValueId};

/// The steps that use each value, by their place in a list of steps.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    readers: BTreeMap<ValueId, Vec<usize>>,
    writers: BTreeMap<ValueId, Vec<usize>>,
}

/// The first and the last step that use each value. The input is there before the first step, the seed before the first
/// backward one; what is kept is read after the last one.
pub fn lifetimes(program: &Program) -> BTreeMap<ValueId, (usize, usize)> {
    let mut lifetimes: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    let mut extend = |id: ValueId, at: usize| {
        let (first, last) = lifetimes.entry(id).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    };
    extend(program.ends.input, 0);
    extend(program.ends.seed, program.forward.len());
    for (at, step) in program.steps().enumerate() {
        step.values().for_each(|id| extend(id, at));
    }
    let end = program.forward.len() + program.backward.len();
    program.kept().into_iter().for_each(|id| extend(id, end));
    lifetimes
}

impl Uses {
    /// Of a list of steps.
    pub fn of<'s>(steps: impl IntoIterator<Item = &'s Step>) -> Uses {
        let mut uses = Uses::default();
        for (at, step) in steps.into_iter().enumerate() {
            let note = |map: &mut BTreeMap<ValueId, Vec<usize>>, id: ValueId| {
                let list = map.entry(id).or_default();
                if list.last() != Some(&at) {
                    list.push(at);
                }
            };
            step.reads.iter().for_each(|id| note(&mut uses.readers, *id));
            step.writes.iter().for_each(|id| note(&mut uses.writers, *id));
        }
        uses
    }

    /// Of all steps of a program, the forward ones first.
    pub fn of_program(program: &Program) -> Uses {
        Uses::of(program.steps())
    }

    /// The steps that read a value, ascending.
    pub fn readers(&self, value: ValueId) -> &[usize] {
        self.readers.get(&value).map_or(&[], Vec::as_slice)
    }

    /// The steps that write a value, ascending.
    pub fn writers(&self, value: ValueId) -> &[usize] {
        self.writers.get(&value).map_or(&[], Vec::as_slice)
    }

    /// The only step that reads a value.
    pub fn only_reader(&self, value: ValueId) -> Option<usize> {
        match self.readers(value) {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// The only step that writes a value.
    pub fn only_writer(&self, value: ValueId) -> Option<usize> {
        match self.writers(value) {
            [one] => Some(*one),
            _ => None,
        }
    }
}
