//! Where everything of a session lies: one piece of memory.
//!
//! Slots of values, memory to work in, flags; and at the end the relevance of the input with the sums behind it, so that
//! both come back in one copy.

use std::collections::BTreeMap;

use relc_program::{Program, ValueId};

use crate::code::{Place, Plan};
use crate::device::Address;
use crate::error::CudaError;

/// Everything starts at a multiple of so many bytes.
const ALIGNMENT: usize = 256;

/// Where everything of so many samples lies, in bytes.
#[derive(Clone, Debug)]
pub struct Memory {
    samples: usize,
    /// The slot of each value.
    slots: BTreeMap<ValueId, usize>,
    /// Where each slot starts.
    starts: BTreeMap<usize, usize>,
    /// The bytes of each value.
    lens: BTreeMap<ValueId, usize>,
    scratch: usize,
    flags: usize,
    flags_bytes: usize,
    sums: usize,
    bytes: usize,
}

impl Memory {
    /// Lays out the slots of a program for so many samples.
    ///
    /// # Errors
    /// If a value has no slot, or sizes overflow.
    pub fn new(program: &Program, plan: &Plan, samples: usize) -> Result<Memory, CudaError> {
        let overflow = || CudaError::Plan(format!("the sizes of {samples} samples overflow"));
        let mut end = 0usize;
        let mut take = |elements: usize, size: usize| {
            let bytes = elements.checked_mul(size)?.checked_mul(samples)?;
            let start = end;
            end = start.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
            Some((start, bytes))
        };
        let (mut slots, mut lens) = (BTreeMap::new(), BTreeMap::new());
        for (id, value) in &program.values {
            slots.insert(*id, value.slot.ok_or_else(|| CudaError::Plan(format!("{id} has no slot")))?);
            let elements = value.layout.and_then(|layout| layout.len().checked_mul(samples));
            lens.insert(*id, elements.and_then(|n| n.checked_mul(size_of::<f32>())).ok_or_else(overflow)?);
        }
        let returned = slots.get(&program.ends.relevance).copied();
        let mut starts = BTreeMap::new();
        let mut last: Option<(usize, usize)> = None;
        for (slot, elements) in program.slots() {
            if Some(slot) == returned {
                last = Some((slot, elements));
                continue;
            }
            starts.insert(slot, take(elements, size_of::<f32>()).ok_or_else(overflow)?.0);
        }
        let (scratch, _) = take(plan.scratch, size_of::<f32>()).ok_or_else(overflow)?;
        let (flags, flags_bytes) = take(plan.flags, size_of::<i32>()).ok_or_else(overflow)?;
        if let Some((slot, elements)) = last {
            starts.insert(slot, take(elements, size_of::<f32>()).ok_or_else(overflow)?.0);
        }
        let (sums, _) = take(plan.sums, size_of::<f64>()).ok_or_else(overflow)?;
        Ok(Memory { samples, slots, starts, lens, scratch, flags, flags_bytes, sums, bytes: end })
    }

    /// All bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where a value starts, and its bytes.
    ///
    /// # Errors
    /// If there is no such value.
    pub fn value(&self, id: ValueId) -> Result<(usize, usize), CudaError> {
        let start = self.slots.get(&id).and_then(|slot| self.starts.get(slot)).copied();
        let place = start.zip(self.lens.get(&id).copied());
        place.ok_or_else(|| CudaError::Plan(format!("{id} has no memory")))
    }

    /// Where the sums start.
    pub fn sums(&self) -> usize {
        self.sums
    }

    /// Where the flags are, and their bytes.
    pub fn flags(&self) -> (usize, usize) {
        (self.flags, self.flags_bytes)
    }

    /// The address of a kernel's argument.
    ///
    /// # Errors
    /// If there is no such value.
    pub fn address(&self, place: &Place) -> Result<Address, CudaError> {
        Ok(match place {
            Place::Value(id) => Address::Memory(self.value(*id)?.0),
            Place::Constant(at) => Address::Constant(at * size_of::<f32>()),
            Place::Sums(before) => Address::Memory(self.sums + before * self.samples * size_of::<f64>()),
            Place::Flag(flag) => Address::Memory(self.flags + flag * self.samples * size_of::<i32>()),
            Place::Scratch => Address::Memory(self.scratch),
        })
    }
}
