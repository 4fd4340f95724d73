//! The registers of aarch64: two of them side by side, so that a block has as many channels as on plain arrays.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Simd;

/// Eight elements in two registers of four.
#[derive(Clone, Copy)]
pub(crate) struct Pair(float32x4_t, float32x4_t);

/// Asks for the cache line of an address; accesses nothing.
macro_rules! hint {
    ($what:literal, $at:expr) => {
        // SAFETY: a hint may name any address, and changes neither memory nor flags.
        unsafe {
            asm!(concat!("prfm ", $what, ", [{at}]"), at = in(reg) $at, options(nomem, nostack, preserves_flags))
        }
    };
}

// SAFETY: the intrinsics access four elements each, unaligned: WIDTH together. Every aarch64 has NEON where it has floats.
unsafe impl Simd for Pair {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Self::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for NEON.
        let half = unsafe { vdupq_n_f32(value) };
        Pair(half, half)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for NEON and WIDTH elements.
        unsafe { Pair(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for NEON and WIDTH elements.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
    }

    #[inline(always)]
    unsafe fn prepare(at: *const f32) {
        hint!("pstl1keep", at);
    }

    #[inline(always)]
    unsafe fn fetch(at: *const f32) {
        hint!("pldl2keep", at);
    }

    #[inline(always)]
    unsafe fn bring(at: *const f32) {
        hint!("pldl1keep", at);
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vaddq_f32(self.0, other.0), vaddq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vsubq_f32(self.0, other.0), vsubq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vmulq_f32(self.0, other.0), vmulq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vdivq_f32(self.0, other.0), vdivq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }

    #[inline(always)]
    unsafe fn where_greater(self, left: Self, right: Self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe {
            Pair(
                vbslq_f32(vcgtq_f32(left.0, right.0), self.0, other.0),
                vbslq_f32(vcgtq_f32(left.1, right.1), self.1, other.1),
            )
        }
    }

    // Of a number and NaN the number, as plain arrays have it.
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vmaxnmq_f32(self.0, other.0), vmaxnmq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { Pair(vminnmq_f32(self.0, other.0), vminnmq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller vouches for NEON.
        unsafe {
            let four = vaddq_f32(self.0, self.1);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}
