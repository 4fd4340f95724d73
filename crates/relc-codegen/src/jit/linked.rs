//! Kernels that were compiled ahead of time and are part of the program.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_128;

use super::{Entry, Target};
use crate::kir::Kernel;

/// A kernel in an object file, as [`object`](super::object()) writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LinkedKernel {
    /// The low and the high half of the hash of all that decides its code.
    key: [u64; 2],
    entry: Entry,
}

/// What an object file exports, as [`object`](super::object()) writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LinkedModel {
    /// [`LinkedModel::LAYOUT`].
    pub layout: u64,
    /// Its kernels.
    pub kernels: *const LinkedKernel,
    /// How many.
    pub count: u64,
    /// The bytes that it was written with.
    pub data: *const u8,
    /// How many.
    pub bytes: u64,
}

impl LinkedModel {
    /// Which fields there are: another number is of another version of relc.
    pub const LAYOUT: u64 = 1;
}

/// What is known of all object files.
static KNOWN: RwLock<Option<HashMap<u128, Entry>>> = RwLock::new(None);

/// What decides the code of a kernel. That two kernels have one hash is out of the question: nobody chooses kernels who
/// might not as well choose their code.
pub(super) fn key(kernel: &Kernel, description: &str) -> u128 {
    xxh3_128(format!("{description}{kernel}").as_bytes())
}

/// The two halves of a key as they stand in object files.
pub(super) fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

/// Makes kernels known, so that [`compile`](super::compile) need not compile them.
///
/// # Safety
/// They are what [`object`](super::object()) wrote, in a file that is linked into this program for as long as it runs.
pub unsafe fn link(kernels: &[LinkedKernel]) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    for LinkedKernel { key: [low, high], entry } in kernels {
        known.insert(u128::from(*low) | u128::from(*high) << 64, *entry);
    }
}

/// The code of each kernel, of those that are known.
pub(super) fn linked(kernels: &[Kernel], target: &Target) -> Vec<Option<Entry>> {
    match &*KNOWN.read().unwrap_or_else(PoisonError::into_inner) {
        Some(known) => {
            let description = target.description();
            kernels.iter().map(|kernel| known.get(&key(kernel, &description)).copied()).collect()
        }
        None => vec![None; kernels.len()],
    }
}
