//! The registers of x86-64.

use std::arch::x86_64::*;

use super::Simd;

/// Implements [`Simd`] by intrinsics of one prefix.
macro_rules! simd {
    ($vector:ty, $width:literal, $zero:ident $splat:ident $load:ident $store:ident $fma:ident
     $add:ident $sub:ident $mul:ident $div:ident $max:ident $min:ident, $sum:ident $abs:ident $select:ident) => {
        // SAFETY: the intrinsics access WIDTH elements, unaligned.
        unsafe impl Simd for $vector {
            const WIDTH: usize = $width;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller vouches for the instruction set and WIDTH elements.
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller vouches for the instruction set and WIDTH elements.
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn prepare(at: *const f32) {
                // SAFETY: the caller vouches for the instruction set; a hint may name any address.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
            }

            #[inline(always)]
            unsafe fn fetch(at: *const f32) {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
            }

            #[inline(always)]
            unsafe fn bring(at: *const f32) {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $fma(self, factor, addend) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $sub(self, other) }
            }

            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $mul(self, other) }
            }

            #[inline(always)]
            unsafe fn div(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $div(self, other) }
            }

            #[inline(always)]
            unsafe fn abs(self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $abs(self) }
            }

            #[inline(always)]
            unsafe fn where_greater(self, left: Self, right: Self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $select(self, left, right, other) }
            }

            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $max(self, other) }
            }

            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $min(self, other) }
            }

            #[inline(always)]
            unsafe fn sum(self) -> f32 {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $sum(self) }
            }
        }
    };
}

simd!(__m512, 16, _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps
      _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_div_ps _mm512_max_ps _mm512_min_ps,
      sum16 _mm512_abs_ps where_greater16);
simd!(__m256, 8, _mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps
      _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_div_ps _mm256_max_ps _mm256_min_ps,
      sum8 abs8 where_greater8);

/// # Safety
/// AVX-512F.
#[inline(always)]
unsafe fn where_greater16(yes: __m512, left: __m512, right: __m512, no: __m512) -> __m512 {
    // SAFETY: the caller vouches for AVX-512F.
    unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(left, right), no, yes) }
}

/// # Safety
/// AVX.
#[inline(always)]
unsafe fn where_greater8(yes: __m256, left: __m256, right: __m256, no: __m256) -> __m256 {
    // SAFETY: the caller vouches for AVX.
    unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(left, right)) }
}

/// # Safety
/// AVX.
#[inline(always)]
unsafe fn abs8(vector: __m256) -> __m256 {
    // SAFETY: the caller vouches for AVX.
    unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), vector) }
}

/// The sum of the elements.
///
/// # Safety
/// AVX-512F. By instructions on whole vectors alone: those on halves and quarters reach only the first sixteen registers
/// without AVX-512VL, and what is summed here is kept there all along.
#[inline(always)]
unsafe fn sum16(vector: __m512) -> f32 {
    // SAFETY: the caller vouches for AVX-512F.
    unsafe {
        let eight = _mm512_add_ps(vector, _mm512_shuffle_f32x4::<0b01_00_11_10>(vector, vector));
        let four = _mm512_add_ps(eight, _mm512_shuffle_f32x4::<0b10_11_00_01>(eight, eight));
        let two = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
        _mm512_cvtss_f32(_mm512_add_ps(two, _mm512_permute_ps::<0b10_11_00_01>(two)))
    }
}

/// AVX.
#[inline(always)]
unsafe fn sum8(vector: __m256) -> f32 {
    // SAFETY: the caller vouches for AVX.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}
