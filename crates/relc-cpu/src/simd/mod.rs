//! Vectors of f32: one trait, one implementation per instruction set, and the one place where work is compiled for each.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::isa::Isa;

/// The vectors of an instruction set.
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Pair;
/// As above.
#[cfg(target_arch = "x86_64")]
pub(crate) use std::arch::x86_64::{__m256, __m512};

/// Work that is compiled once for each instruction set; its `run` is to be inlined.
pub(crate) trait Work {
    /// What it gives.
    type Output;

    /// Does it, with vectors of one kind.
    ///
    /// # Safety
    /// The machine has the instruction set of `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Does work with the vectors of an instruction set; with plain arrays where the machine lacks it.
pub(crate) fn dispatch<W: Work>(isa: Isa, work: W) -> W::Output {
    match isa.vectors() {
        // SAFETY: guarded by what the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.is_available() => unsafe { avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_available() => unsafe { avx2(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon if isa.is_available() => unsafe { work.run::<Pair>() },
        // SAFETY: arrays need no instruction set.
        _ => unsafe { work.run::<[f32; 8]>() },
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<W: Work>(work: W) -> W::Output {
    // SAFETY: the contract of this function.
    unsafe { work.run::<__m512>() }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<W: Work>(work: W) -> W::Output {
    // SAFETY: the contract of this function.
    unsafe { work.run::<__m256>() }
}

/// Asks for memory, to be read soon.
pub(crate) fn bring(data: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in data.chunks(64 / size_of::<f32>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which accesses nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    let _ = data;
}

/// A plain loop; its `run` is to be inlined. The compiler makes vectors of what it may use, and neither fuses nor reorders
/// operations, so that every instruction set gives the same result to the bit.
pub(crate) trait Loop {
    /// What it gives.
    type Output;

    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a loop with the instructions of a set that the machine has.
pub(crate) fn featured<L: Loop>(isa: Isa, it: L) -> L::Output {
    struct Plain<L>(L);

    impl<L: Loop> Work for Plain<L> {
        type Output = L::Output;

        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> L::Output {
            self.0.run()
        }
    }

    dispatch(isa, Plain(it))
}

/// A vector of `WIDTH` f32 elements.
///
/// # Safety
/// Every function requires that the machine has the implementation's instruction set, and pointers
/// that are valid for `WIDTH` elements; no alignment beyond that of f32 is required.
pub(crate) unsafe trait Simd: Copy {
    /// Elements of a vector.
    const WIDTH: usize;

    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Asks for the cache line of `at`, to be written soon; accesses nothing.
    unsafe fn prepare(at: *const f32);
    /// Asks for the cache line of `at` in the second cache, to be read some time later; accesses nothing.
    unsafe fn fetch(at: *const f32);
    /// Asks for the cache line of `at` in the first cache, to be read soon; accesses nothing.
    unsafe fn bring(at: *const f32);
    /// `self * factor + addend`; fused where the instruction set has it.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// In each lane: `self` where `left > right`, else `other`.
    unsafe fn where_greater(self, left: Self, right: Self, other: Self) -> Self;
    /// The greater; `self` where it is not NaN, else unspecified.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; as [`Simd::max`].
    unsafe fn min(self, other: Self) -> Self;
    /// The sum of the elements, in a fixed order.
    unsafe fn sum(self) -> f32;
}

// SAFETY: uses no instruction set and accesses WIDTH elements only.
unsafe impl<const N: usize> Simd for [f32; N] {
    const WIDTH: usize = N;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; N]
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; N]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for WIDTH elements.
        unsafe { from.cast::<[f32; N]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for WIDTH elements.
        unsafe { to.cast::<[f32; N]>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn prepare(_at: *const f32) {}

    #[inline(always)]
    unsafe fn fetch(_at: *const f32) {}

    #[inline(always)]
    unsafe fn bring(_at: *const f32) {}

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a call into libm per element.
        std::array::from_fn(|i| self[i] * factor[i] + addend[i])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        std::array::from_fn(|i| self[i].abs())
    }

    #[inline(always)]
    unsafe fn where_greater(self, left: Self, right: Self, other: Self) -> Self {
        std::array::from_fn(|i| if left[i] > right[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // Halves onto halves, as wide registers are added up; what has no other half is added at the end.
        let (mut sums, mut len) = (self, N);
        while len > 1 {
            let half = len / 2;
            for i in 0..half {
                sums[i] += sums[i + len - half];
            }
            len -= half;
        }
        sums[0]
    }
}
