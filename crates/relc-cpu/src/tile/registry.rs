//! The compiled kernels and their names.

use super::body::{NEGATIVE, POSITIVE, RAW, depthwise, dot, tile};
use super::{Kind, Part, Shape, TileArgs, TileFn};
use crate::isa::Isa;

/// One shape's kernels.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Its constants.
    pub shape: Shape,
    functions: [TileFn; 3],
}

impl Kernel {
    /// The kernel of a part of the weights. Calling it is `unsafe`: see [`TileFn`].
    pub fn function(&self, part: Part) -> TileFn {
        let [raw, positive, negative] = self.functions;
        match part {
            Part::Raw => raw,
            Part::Positive => positive,
            Part::Negative => negative,
        }
    }
}

/// The kernels of an instruction set as statics: for each kind and each number of rows and blocks, those of 1, 2, ..
/// pixels.
///
/// The most pixels are those whose sums, weights and one broadcast fit the registers.
macro_rules! kernels {
    ($isa:ident, $vector:ty, $($feature:literal)?, tile { $($rows:literal x $ob:literal: [$($px:literal)*])* }
     depthwise [$($dpx:literal)*] dot { $($oc:literal: [$($opx:literal)*])* }) => {
        use super::*;

        // SAFETY (of this and the next two): the caller of a [`TileFn`] vouches for what the bodies require.
        $(#[target_feature(enable = $feature)])?
        unsafe extern "C" fn tile_fn<const ROWS: usize, const PX: usize, const OB: usize, const PART: u8>(
            args: *const TileArgs,
        ) {
            // SAFETY: the contract of `TileFn`.
            unsafe { tile::<$vector, ROWS, PX, OB, PART>(args) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe extern "C" fn depthwise_fn<const PX: usize, const PART: u8>(args: *const TileArgs) {
            // SAFETY: the contract of `TileFn`.
            unsafe { depthwise::<$vector, PX, PART>(args) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe extern "C" fn dot_fn<const PX: usize, const OC: usize, const PART: u8>(args: *const TileArgs) {
            // SAFETY: the contract of `TileFn`.
            unsafe { dot::<$vector, PX, OC, PART>(args) }
        }

        const fn kernel(kind: Kind, [rows, pixels, blocks]: [usize; 3], functions: [TileFn; 3]) -> Kernel {
            Kernel { shape: Shape { kind, isa: Isa::$isa, rows, pixels, blocks }, functions }
        }

        pub(super) static KERNELS: &[Kernel] = &[
            $($(kernel(Kind::Tile, [$rows, $px, $ob], [
                tile_fn::<$rows, $px, $ob, RAW>,
                tile_fn::<$rows, $px, $ob, POSITIVE>,
                tile_fn::<$rows, $px, $ob, NEGATIVE>,
            ]),)*)*
            $(kernel(Kind::Depthwise, [1, $dpx, 1], [
                depthwise_fn::<$dpx, RAW>,
                depthwise_fn::<$dpx, POSITIVE>,
                depthwise_fn::<$dpx, NEGATIVE>,
            ]),)*
            $($(kernel(Kind::Dot, [1, $opx, $oc], [
                dot_fn::<$opx, $oc, RAW>,
                dot_fn::<$opx, $oc, POSITIVE>,
                dot_fn::<$opx, $oc, NEGATIVE>,
            ]),)*)*
        ];
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    kernels! { Avx512, crate::simd::__m512, "avx512f",
        tile {
            1 x 1: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
            1 x 2: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
            1 x 3: [1 2 3 4 5 6 7 8 9]
            1 x 4: [1 2 3 4 5 6]
            2 x 1: [1 2 3 4 5 6 7]
            2 x 2: [1 2 3 4 5 6 7]
            2 x 3: [1 2 3 4]
            2 x 4: [1 2 3]
        }
        depthwise [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
        dot { 1: [1 2 3 4 5 6 7 8] 2: [1 2 3 4 5 6 7 8] 3: [1 2 3 4 5 6 7 8] 4: [1 2 3 4 5 6] }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    kernels! { Avx2, crate::simd::__m256, "avx2,fma",
        tile {
            1 x 1: [1 2 3 4 5 6 7 8 9 10]
            1 x 2: [1 2 3 4 5 6]
            1 x 3: [1 2 3]
            1 x 4: [1 2]
            2 x 1: [1 2 3 4 5]
            2 x 2: [1 2 3]
        }
        depthwise [1 2 3 4 5 6 7 8 9 10]
        dot { 1: [1 2 3 4 5 6 7 8] 2: [1 2 3 4 5] 3: [1 2 3 4] 4: [1 2] }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    kernels! { Neon, crate::simd::Pair, ,
        tile {
            1 x 1: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
            1 x 2: [1 2 3 4 5 6]
            1 x 3: [1 2 3 4]
            1 x 4: [1 2]
            2 x 1: [1 2 3 4 5 6 7]
            2 x 2: [1 2 3]
            2 x 3: [1 2]
        }
        depthwise [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
        dot { 1: [1 2 3 4 5 6 7 8] 2: [1 2 3 4 5 6] 3: [1 2 3 4] 4: [1 2] }
    }
}

mod portable {
    kernels! { Portable, [f32; 8], ,
        tile { 1 x 1: [1 2 3 4] 1 x 2: [1 2] 2 x 1: [1 2] }
        depthwise [1 2 3 4]
        dot { 1: [1 2 3] 2: [1 2] 3: [1 2] 4: [1] }
    }
}

/// The kernels of an instruction set; empty for one of another architecture.
///
/// Kernels may only be called on a machine that [has it](Isa::is_available).
pub fn kernels(isa: Isa) -> &'static [Kernel] {
    match isa.vectors() {
        Isa::Portable => portable::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::KERNELS,
        _ => &[],
    }
}

/// The kernel of a shape.
pub fn find(shape: Shape) -> Option<&'static Kernel> {
    let shape = Shape { isa: shape.isa.vectors(), ..shape };
    kernels(shape.isa).iter().find(|kernel| kernel.shape == shape)
}

/// The most pixels of a kernel of one row and `blocks` blocks: every number from 1 on to it has one. 0 if there is none.
pub fn max_pixels(isa: Isa, kind: Kind, blocks: usize) -> usize {
    most_pixels(isa, kind, [1, blocks])
}

/// The most pixels of a row of a kernel of so many rows and blocks, as [`max_pixels`].
pub fn most_pixels(isa: Isa, kind: Kind, [rows, blocks]: [usize; 2]) -> usize {
    let shapes = kernels(isa).iter().map(|kernel| kernel.shape);
    shapes
        .filter(|shape| shape.kind == kind && shape.rows == rows && shape.blocks == blocks)
        .map(|shape| shape.pixels)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_pixel_counts_have_no_gaps() {
        for isa in Isa::ALL {
            let symbols =
                kernels(isa).iter().flat_map(|kernel| Part::ALL.map(|part| kernel.shape.symbol(part)));
            let names: HashSet<String> = symbols.collect();
            assert_eq!(names.len(), kernels(isa).len() * 3);
            for Kernel { shape, .. } in kernels(isa) {
                let all = 1..=most_pixels(isa, shape.kind, [shape.rows, shape.blocks]);
                assert!(all.map(|pixels| Shape { pixels, ..*shape }).all(|shape| find(shape).is_some()));
            }
        }
        let shape = Shape { kind: Kind::Tile, isa: Isa::Portable, rows: 1, pixels: 2, blocks: 2 };
        assert!(
            find(shape).is_some_and(|kernel| kernel.shape.symbol(Part::Negative) == "tile.portable.2x2.neg")
        );
    }
}
