//! Plain loops, compiled once for each instruction set: the compiler makes vectors of what it may use.
//!
//! No operation is fused or reordered, so that every set gives the same result to the bit.

use crate::isa::Isa;

/// A loop; its `run` is to be inlined.
pub(crate) trait Loop {
    /// What it gives.
    type Output;

    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a loop with the instructions of a set that the machine has.
pub(crate) fn featured<L: Loop>(isa: Isa, it: L) -> L::Output {
    match isa {
        // SAFETY: guarded by what the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.is_available() => unsafe { avx512(it) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_available() => unsafe { avx2(it) },
        _ => it.run(),
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<L: Loop>(it: L) -> L::Output {
    it.run()
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<L: Loop>(it: L) -> L::Output {
    it.run()
}
