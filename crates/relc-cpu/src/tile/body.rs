//! The hot loops, generic over the vector.
//!
//! Sums run over taps and lanes in order, so that an element does not depend on the tile that computed it.

use super::{LINE, TileArgs};
use crate::simd::Simd;

/// All of a weight vector, as a const parameter.
pub(super) const RAW: u8 = 0;
/// `max(w, 0)`.
pub(super) const POSITIVE: u8 = 1;
/// `min(w, 0)`.
pub(super) const NEGATIVE: u8 = 2;

/// The part of a weight vector that a kernel uses.
///
/// # Safety
/// As of [`Simd`].
#[inline(always)]
unsafe fn part<S: Simd, const PART: u8>(weights: S) -> S {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        match PART {
            POSITIVE => weights.max(S::zero()),
            NEGATIVE => weights.min(S::zero()),
            _ => weights,
        }
    }
}

/// The address of an output vector (or, for dot kernels, element).
///
/// # Safety
/// It lies in the extent of `out`.
#[inline(always)]
unsafe fn out(args: &TileArgs, px: usize, ob: usize) -> *mut f32 {
    // SAFETY: the caller vouches for the extent.
    unsafe { args.out.add(px * args.out_pixel_stride as usize + ob * args.out_block_stride as usize) }
}

/// `out[row][px][ob] (+)= sum over taps, lanes of input[tap + row * row_stride + px * stride + lane] *
/// weights[tap][lane][ob]`, where weights and out are vectors.
///
/// # Safety
/// The machine has the instruction set of `S`, and the pointers are valid for the extents of a
/// [`super::Kind::Tile`] of this shape; nothing else writes to them meanwhile.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const ROWS: usize, const PX: usize, const OB: usize, const PART: u8>(
    args: *const TileArgs,
) {
    // SAFETY: the contract of this function.
    unsafe {
        // A copy, which no store of the kernel's can change.
        let args = *args;
        // Pixels side by side are the rule: their distances are then in the instructions, and are not added up.
        if args.in_pixel_stride as usize == S::WIDTH {
            strided_tile::<S, ROWS, PX, OB, PART>(&args, S::WIDTH);
        } else {
            strided_tile::<S, ROWS, PX, OB, PART>(&args, args.in_pixel_stride as usize);
        }
    }
}

/// [`tile`] with a distance between pixels.
///
/// # Safety
/// As of that, and the distance is that of the arguments.
#[inline(always)]
unsafe fn strided_tile<S: Simd, const ROWS: usize, const PX: usize, const OB: usize, const PART: u8>(
    args: &TileArgs,
    stride: usize,
) {
    // SAFETY: every access lies in the extents that the caller vouches for; hints access nothing.
    unsafe {
        let row_stride = args.in_row_stride as usize;
        let out = |row: usize, px: usize, ob: usize| {
            out(args, px, ob).add(if ROWS == 1 { 0 } else { row * args.out_row_stride as usize })
        };
        let mut sums = [[[S::zero(); OB]; PX]; ROWS];
        if args.accumulate != 0 {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (px, sums) in sums.iter_mut().enumerate() {
                    for (ob, sum) in sums.iter_mut().enumerate() {
                        *sum = S::load(out(row, px, ob));
                    }
                }
            }
        }
        // The output is rarely in a near cache; by the time it is written, it is.
        for row in 0..ROWS {
            for px in 0..PX {
                for ob in 0..OB {
                    S::prepare(out(row, px, ob));
                }
            }
        }
        let (mut weights, mut next) = (args.weights, args.next);
        let last = (args.tap_count as usize).saturating_sub(1);
        for tap in 0..args.tap_count as usize {
            let mut input = args.input.add(*args.taps.add(tap) as usize);
            // The pixels of the next tap, one for each lane of this.
            let mut soon = args.input.wrapping_add(*args.taps.add((tap + 1).min(last)) as usize);
            for lane in 0..args.lanes as usize {
                let mut vectors = [S::zero(); OB];
                for (ob, vector) in vectors.iter_mut().enumerate() {
                    *vector = part::<S, PART>(S::load(weights.add(ob * S::WIDTH)));
                }
                S::fetch(next);
                next = next.wrapping_add(LINE);
                S::bring(soon);
                soon = soon.wrapping_add(if ROWS > 1 && lane + 1 == PX {
                    row_stride.wrapping_sub((PX - 1) * stride)
                } else {
                    stride
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let input = input.add(if ROWS == 1 { 0 } else { row * row_stride });
                    for (px, sums) in sums.iter_mut().enumerate() {
                        let value = S::splat(*input.add(px * stride));
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = value.mul_add(vector, *sum);
                        }
                    }
                }
                weights = weights.add(OB * S::WIDTH);
                input = input.add(1);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (px, sums) in sums.iter().enumerate() {
                for (ob, sum) in sums.iter().enumerate() {
                    sum.store(out(row, px, ob));
                }
            }
        }
    }
}

/// `out[px] (+)= sum over taps of input[tap + px * stride] * weights[tap]`, all of them vectors: each channel
/// has its own weights.
///
/// # Safety
/// As of [`tile`], for [`super::Kind::Depthwise`].
#[inline(always)]
pub(super) unsafe fn depthwise<S: Simd, const PX: usize, const PART: u8>(args: *const TileArgs) {
    // SAFETY: the contract of this function.
    unsafe {
        // A copy, which no store of the kernel's can change.
        let args = *args;
        if args.in_pixel_stride as usize == S::WIDTH {
            strided_depthwise::<S, PX, PART>(&args, S::WIDTH);
        } else {
            strided_depthwise::<S, PX, PART>(&args, args.in_pixel_stride as usize);
        }
    }
}

/// [`depthwise`] with a distance between pixels.
///
/// # Safety
/// As of that, and the distance is that of the arguments.
#[inline(always)]
unsafe fn strided_depthwise<S: Simd, const PX: usize, const PART: u8>(args: &TileArgs, stride: usize) {
    // SAFETY: every access lies in the extents that the caller vouches for; hints access nothing.
    unsafe {
        let mut sums = [S::zero(); PX];
        if args.accumulate != 0 {
            for (px, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(out(args, px, 0));
            }
        }
        // The output, and the row below those that are read here, are rarely in a near cache.
        for px in 0..PX {
            S::prepare(out(args, px, 0));
        }
        if let Some(last) = (args.tap_count as usize).checked_sub(1) {
            let below = *args.taps.add(last) as usize + args.in_row_stride as usize;
            for px in 0..PX {
                S::bring(args.input.wrapping_add(below + px * stride));
            }
        }
        for tap in 0..args.tap_count as usize {
            let input = args.input.add(*args.taps.add(tap) as usize);
            let vector = part::<S, PART>(S::load(args.weights.add(tap * S::WIDTH)));
            for (px, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(input.add(px * stride)).mul_add(vector, *sum);
            }
        }
        for (px, sum) in sums.iter().enumerate() {
            sum.store(out(args, px, 0));
        }
    }
}

/// `out[px][oc] (+)= sum over taps of the products of the vectors input[tap + px * stride] and
/// weights[tap][oc]`, where out are single elements: for a few output channels of many input channels.
///
/// # Safety
/// As of [`tile`], for [`super::Kind::Dot`].
#[inline(always)]
pub(super) unsafe fn dot<S: Simd, const PX: usize, const OC: usize, const PART: u8>(args: *const TileArgs) {
    // SAFETY: every access lies in the extents that the caller vouches for.
    unsafe {
        // A copy, which no store of the kernel's can change.
        let args = &{ *args };
        let stride = args.in_pixel_stride as usize;
        let mut sums = [[S::zero(); OC]; PX];
        let mut weights = args.weights;
        for tap in 0..args.tap_count as usize {
            let input = args.input.add(*args.taps.add(tap) as usize);
            let mut vectors = [S::zero(); OC];
            for (oc, vector) in vectors.iter_mut().enumerate() {
                *vector = part::<S, PART>(S::load(weights.add(oc * S::WIDTH)));
            }
            for (px, sums) in sums.iter_mut().enumerate() {
                let values = S::load(input.add(px * stride));
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    *sum = values.mul_add(vector, *sum);
                }
            }
            weights = weights.add(OC * S::WIDTH);
        }
        for (px, sums) in sums.iter().enumerate() {
            for (oc, sum) in sums.iter().enumerate() {
                let target = out(args, px, oc);
                let before = if args.accumulate != 0 { *target } else { 0.0 };
                *target = before + sum.sum();
            }
        }
    }
}
