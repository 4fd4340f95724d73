//! What the machine could do: multiply-adds that depend on nothing but registers.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::isa::Isa;
use crate::tile::simd::Simd;

/// Sums that are independent of each other: enough to hide a multiply-add's latency, few enough for 16 registers.
const SUMS: usize = 12;
/// Multiply-adds of each sum in a run: some tenths of a millisecond.
const STEPS: usize = 1 << 17;

/// Floating-point operations per second that all threads of the current rayon pool reach together on multiply-adds of
/// an instruction set that the machine has; the best of some runs.
pub fn flops_per_second(isa: Isa) -> f64 {
    let threads = rayon::current_num_threads();
    let work = (2 * SUMS * STEPS * isa.width() * threads) as f64;
    let run = || {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            std::hint::black_box(multiply_add(isa));
        });
        start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
    };
    (0..20).map(|_| work / run()).fold(0.0, f64::max)
}

fn multiply_add(isa: Isa) -> f32 {
    match isa {
        // SAFETY: guarded by what the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.is_available() => unsafe { avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_available() => unsafe { avx2() },
        // SAFETY: plain arrays need no instruction set.
        _ => unsafe { sums::<[f32; 8]>() },
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512() -> f32 {
    // SAFETY: the contract of this function.
    unsafe { sums::<std::arch::x86_64::__m512>() }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2() -> f32 {
    // SAFETY: the contract of this function.
    unsafe { sums::<std::arch::x86_64::__m256>() }
}

/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn sums<S: Simd>() -> f32 {
    // SAFETY: the contract of this function.
    unsafe {
        let factor = S::splat(std::hint::black_box(0.5));
        let mut sums = [S::splat(1.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, factor);
            }
        }
        sums.iter().fold(0.0, |total, sum| total + sum.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_reaches_something() {
        for isa in Isa::available() {
            let flops = flops_per_second(isa);
            assert!(flops > 1e8, "{isa}: {flops:e}");
        }
    }
}
