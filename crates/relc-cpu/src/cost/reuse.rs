//! Where values lie when a step asks for them.

use std::collections::HashMap;
use std::hash::Hash;

use crate::machine::{Level, Machine};

/// The order in which the steps of a program touch memory. What was last touched some bytes ago is in the nearest level that
/// keeps as many.
pub(crate) struct Reuse<K> {
    machine: Machine,
    /// When each was last touched, in bytes that have been touched by then.
    last: HashMap<K, usize>,
    touched: usize,
    /// Bytes of a whole run: how long ago something was touched that this run has not met yet.
    run: usize,
}

impl<K: Eq + Hash> Reuse<K> {
    /// At the start of a run that touches so many bytes.
    pub fn new(machine: Machine, run: usize) -> Reuse<K> {
        Reuse { machine, last: HashMap::new(), touched: 0, run }
    }

    /// Where it lies. It and others of the same step should be asked for before they are touched.
    pub fn level(&self, key: &K, bytes: usize) -> Level {
        let ago = self.last.get(key).map_or(self.run, |last| self.touched.saturating_sub(*last));
        self.machine.level_of(ago.max(bytes))
    }

    /// Where something lies that a run meets once.
    pub fn unmet(&self) -> Level {
        self.machine.level_of(self.run)
    }

    /// Bytes are read that nobody asks for again in this run.
    pub fn pass(&mut self, bytes: usize) {
        self.touched = self.touched.saturating_add(bytes);
    }

    /// Something is read or written.
    pub fn touch(&mut self, key: K, bytes: usize) {
        self.touched = self.touched.saturating_add(bytes);
        self.last.insert(key, self.touched.saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::machine::Class;

    #[test]
    fn what_was_touched_lately_is_near() {
        let mut reuse = Reuse::new(Machine::of(Class::Zen3, Isa::Portable), 1 << 30);
        assert_eq!(reuse.level(&'a', 64), Level::Memory);
        reuse.touch('a', 64);
        assert_eq!(reuse.level(&'a', 64), Level::L1);
        reuse.touch('b', 100 << 10);
        assert_eq!((reuse.level(&'a', 64), reuse.level(&'b', 100 << 10)), (Level::L2, Level::L2));
        reuse.touch('c', 1 << 20);
        assert_eq!((reuse.level(&'a', 64), reuse.level(&'c', 1 << 20)), (Level::L3, Level::L3));
    }
}
