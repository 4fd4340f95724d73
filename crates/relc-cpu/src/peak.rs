//! What the machine could do: multiply-adds that depend on nothing but registers, and reading alone.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::buffer::AlignedBuffer;
use crate::isa::Isa;
use crate::simd::{Simd, Work, dispatch};

/// Sums that are independent of each other: enough to hide a multiply-add's latency, few enough for 16 registers.
const SUMS: usize = 12;
/// Multiply-adds of each sum in a run: some tenths of a millisecond.
const STEPS: usize = 1 << 17;

/// Loads that are independent of each other.
const READS: usize = 8;
/// Bytes that a run reads at least: some milliseconds.
const READ_BYTES: usize = 64 << 20;

/// Floating-point operations per second that all threads of the current rayon pool reach together on multiply-adds of
/// an instruction set that the machine has; the best of some runs.
pub fn flops_per_second(isa: Isa) -> f64 {
    let threads = rayon::current_num_threads();
    let work = (2 * SUMS * STEPS * isa.width() * threads) as f64;
    let run = || {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            std::hint::black_box(dispatch(isa, MultiplyAdd));
        });
        start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
    };
    (0..20).map(|_| work / run()).fold(0.0, f64::max)
}

/// Bytes per second that one thread reads from a buffer of so many bytes again and again, by loads of an instruction set
/// that the machine has; the best of some runs.
pub fn bytes_per_second(isa: Isa, bytes: usize) -> f64 {
    let group = READS * isa.width();
    let mut data = AlignedBuffer::zeroed((bytes / size_of::<f32>()).next_multiple_of(group).max(group));
    // Memory that nobody has written may all be one page.
    data.fill(1.0);
    let rounds = (READ_BYTES / size_of_val(&data[..])).max(1);
    let run = || {
        let start = Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(dispatch(isa, Read(std::hint::black_box(&data))));
        }
        start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
    };
    let work = (rounds * size_of_val(&data[..])) as f64;
    (0..20).map(|_| work / run()).fold(0.0, f64::max)
}

/// The sum of all elements.
struct Read<'d>(&'d [f32]);

impl Work for Read<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: the contract of this function; each vector lies in its group.
        unsafe {
            let mut sums = [S::zero(); READS];
            for group in self.0.chunks_exact(READS * S::WIDTH) {
                for (sum, vector) in sums.iter_mut().zip(group.chunks_exact(S::WIDTH)) {
                    *sum = sum.add(S::load(vector.as_ptr()));
                }
            }
            sums.iter().fold(0.0, |total, sum| total + sum.sum())
        }
    }
}

/// Multiply-adds on registers alone.
struct MultiplyAdd;

impl Work for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_reaches_something() {
        for isa in Isa::available() {
            let flops = flops_per_second(isa);
            assert!(flops > 1e8, "{isa}: {flops:e}");
            let bytes = bytes_per_second(isa, 16 << 10);
            assert!(bytes > 1e8, "{isa}: {bytes:e}");
        }
    }
}
