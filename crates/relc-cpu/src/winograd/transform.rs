//! The transforms of F(MxM, 3x3): from N x N inputs, N = M + 2, to N x N products and back to M x M outputs.
//!
//! Matrices of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), for the points
//! 0, 1, -1 (and 2, -2 for M = 4) and infinity.

use super::repair::RowOf;
use super::{Repair, WinogradPlan};
use crate::isa::Isa;
use crate::simd::Simd;

/// Most of N.
const MOST: usize = 6;

/// `B^T d`.
///
/// # Safety
/// As of [`Simd`].
#[inline(always)]
unsafe fn input<S: Simd, const N: usize>(d: [S; N]) -> [S; N] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let mut t = d;
        if N == 4 {
            t[0] = d[0].sub(d[2]);
            t[1] = d[1].add(d[2]);
            t[2] = d[2].sub(d[1]);
            t[3] = d[1].sub(d[3]);
        } else {
            let (two, four, five) = (S::splat(2.0), S::splat(-4.0), S::splat(-5.0));
            let (even, odd) = (d[2].mul_add(four, d[4]), d[1].mul_add(four, d[3]));
            let (outer, inner) = (d[4].sub(d[2]), d[3].sub(d[1]));
            t[0] = d[2].mul_add(five, d[0].mul_add(S::splat(4.0), d[4]));
            t[1] = even.add(odd);
            t[2] = even.sub(odd);
            t[3] = inner.mul_add(two, outer);
            t[4] = inner.mul_add(S::splat(-2.0), outer);
            t[5] = d[3].mul_add(five, d[1].mul_add(S::splat(4.0), d[5]));
        }
        t
    }
}

/// `A^T m`; the first M of the result.
///
/// # Safety
/// As of [`Simd`].
#[inline(always)]
unsafe fn output<S: Simd, const N: usize>(m: [S; N]) -> [S; 4] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        if N == 4 {
            [m[0].add(sum), difference.sub(m[3]), sum, sum]
        } else {
            let (outer, inner) = (m[3].add(m[4]), m[3].sub(m[4]));
            [
                m[0].add(sum).add(outer),
                inner.mul_add(S::splat(2.0), difference),
                outer.mul_add(S::splat(4.0), sum),
                inner.mul_add(S::splat(8.0), difference).add(m[5]),
            ]
        }
    }
}

/// As many values as the widest vector has lanes, one for each output channel of a block.
pub(super) type Lanes = [f64; LANES];

/// See [`Lanes`].
pub(super) const LANES: usize = 16;

/// `G g` of one row of a kernel, for N = 4 or 6; in f64, since it is done once.
fn kernel_row(n: usize, [a, b, c]: [f64; 3]) -> [f64; MOST] {
    if n == 4 {
        return [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c, 0.0, 0.0];
    }
    let (even, odd) = (a / 24.0 + c / 6.0, b / 12.0);
    [a / 4.0, -(a + b + c) / 6.0, -(a - b + c) / 6.0, even + odd, even - odd, c]
}

/// [`kernel_row`] of each lane.
fn kernel_rows(n: usize, row: [&Lanes; 3]) -> [Lanes; MOST] {
    let mut rows = [[0.0; LANES]; MOST];
    for lane in 0..LANES {
        let values = kernel_row(n, row.map(|lanes| lanes[lane]));
        rows.iter_mut().zip(values).for_each(|(row, value)| row[lane] = value);
    }
    rows
}

/// `G g G^T`, row by row, of kernels 3 x 3; the first n of each row and column.
pub(super) fn kernels(n: usize, g: [[Lanes; 3]; 3]) -> [[Lanes; MOST]; MOST] {
    // Columns first: `columns[x][i]` is row i of `G g` at column x.
    let columns = [0, 1, 2].map(|x| kernel_rows(n, [&g[0][x], &g[1][x], &g[2][x]]));
    std::array::from_fn(|i| kernel_rows(n, [&columns[0][i], &columns[1][i], &columns[2][i]]))
}

/// A row of input tiles of one block, and where their transforms go.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputRow {
    /// The corner of the first tile.
    pub input: *const f32,
    /// From a row of the input to the next.
    pub row_stride: usize,
    /// Tiles.
    pub tiles: usize,
    /// Rows, and columns from the corner on, that exist; others count as zero.
    pub rows: usize,
    pub columns: usize,
    /// The first tile's vector of the first of the N * N positions.
    pub out: *mut f32,
    /// From a position to the next.
    pub position_stride: usize,
}

/// A row of tiles of products of one block, and where their outputs go.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputRow {
    /// The first tile's vector of the first position.
    pub products: *const f32,
    /// From a position to the next.
    pub position_stride: usize,
    /// Tiles.
    pub tiles: usize,
    /// The first tile's corner.
    pub out: *mut f32,
    /// From a row of the output to the next.
    pub row_stride: usize,
    /// Rows, and columns from the corner on, that exist.
    pub rows: usize,
    pub columns: usize,
}

/// Transforms a row of input tiles.
///
/// # Safety
/// The instruction set of `S`; `rows` rows of `columns` vectors can be read, N * N vectors of each
/// tile written.
#[inline(always)]
unsafe fn input_row<S: Simd, const N: usize>(row: &InputRow) {
    // SAFETY: only existing rows and columns are read; the caller vouches for them and for the outputs.
    unsafe {
        for tile in 0..row.tiles {
            let first = tile * (N - 2);
            let corner = row.input.add(first * S::WIDTH);
            let columns = row.columns.saturating_sub(first);
            // `half[i][x]`: row i of `B^T d` at column x.
            let mut half = [[S::zero(); N]; N];
            for x in 0..N.min(columns) {
                let mut column = [S::zero(); N];
                for (y, value) in column.iter_mut().enumerate().take(row.rows) {
                    *value = S::load(corner.add(y * row.row_stride + x * S::WIDTH));
                }
                let values = input::<S, N>(column);
                half.iter_mut().zip(values).for_each(|(half, value)| half[x] = value);
            }
            for (i, half) in half.into_iter().enumerate() {
                let values = input::<S, N>(half);
                for (j, value) in values.into_iter().enumerate() {
                    value.store(row.out.add((i * N + j) * row.position_stride + tile * S::WIDTH));
                }
            }
        }
    }
}

/// Transforms a row of tiles of products.
///
/// # Safety
/// The instruction set of `S`; N * N vectors of each tile can be read, `rows` rows of `columns`
/// vectors written.
#[inline(always)]
unsafe fn output_row<S: Simd, const N: usize>(row: &OutputRow) {
    // SAFETY: only existing rows and columns are written; the caller vouches for them and for the products.
    unsafe {
        for tile in 0..row.tiles {
            let first = tile * (N - 2);
            let corner = row.out.add(first * S::WIDTH);
            let columns = row.columns.saturating_sub(first);
            let mut half = [[S::zero(); N]; 4];
            for j in 0..N {
                let products = std::array::from_fn(|i| {
                    S::load(row.products.add((i * N + j) * row.position_stride + tile * S::WIDTH))
                });
                let values = output::<S, N>(products);
                half.iter_mut().zip(values).for_each(|(half, value)| half[j] = value);
            }
            for (y, half) in half.into_iter().enumerate().take((N - 2).min(row.rows)) {
                let values = output::<S, N>(half);
                for (x, value) in values.into_iter().enumerate().take((N - 2).min(columns)) {
                    value.store(corner.add(y * row.row_stride + x * S::WIDTH));
                }
            }
        }
    }
}

/// The transforms of an instruction set and M.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transforms {
    pub input: unsafe fn(&InputRow),
    pub output: unsafe fn(&OutputRow),
    pub sums: unsafe fn(&WinogradPlan, &[f32], [usize; 2], &mut [f32]),
    pub repair: unsafe fn(&Repair, &[f32], RowOf<'_>, &mut [f32]),
}

/// Names the transforms compiled for an instruction set.
macro_rules! transforms {
    ($name:ident, $vector:ty, $($feature:literal)?) => {
        mod $name {
            use super::{InputRow, OutputRow, Repair, RowOf, Transforms, WinogradPlan};

            /// # Safety
            /// As of [`super::input_row`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn input<const N: usize>(row: &InputRow) {
                // SAFETY: the contract of this function.
                unsafe { super::input_row::<$vector, N>(row) }
            }

            /// # Safety
            /// As of [`super::output_row`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn output<const N: usize>(row: &OutputRow) {
                // SAFETY: the contract of this function.
                unsafe { super::output_row::<$vector, N>(row) }
            }

            /// # Safety
            /// As of [`WinogradPlan::tile_sums`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn sums(plan: &WinogradPlan, input: &[f32], at: [usize; 2], sums: &mut [f32]) {
                // SAFETY: the contract of this function.
                unsafe { plan.tile_sums::<$vector>(input, at, sums) }
            }

            /// # Safety
            /// As of [`Repair::row`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn repair(repair: &Repair, input: &[f32], at: RowOf<'_>, out: &mut [f32]) {
                // SAFETY: the contract of this function.
                unsafe { repair.row::<$vector>(input, at, out) }
            }

            pub(super) const TWO: Transforms =
                Transforms { input: input::<4>, output: output::<4>, sums, repair };
            pub(super) const FOUR: Transforms =
                Transforms { input: input::<6>, output: output::<6>, sums, repair };
        }
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(avx512, crate::simd::__m512, "avx512f");
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::__m256, "avx2,fma");
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Pair,);
transforms!(portable, [f32; 8],);

impl Transforms {
    /// Those of an instruction set that the machine has, for M = 2 or 4.
    pub fn new(isa: Isa, m: usize) -> Transforms {
        let [two, four] = match isa.vectors() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => [avx512::TWO, avx512::FOUR],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => [avx2::TWO, avx2::FOUR],
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => [neon::TWO, neon::FOUR],
            _ => [portable::TWO, portable::FOUR],
        };
        if m == 2 { two } else { four }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One dimension at a time: the transforms of values in lane 0 give the convolution.
    fn check<const N: usize>() {
        let d: [f32; N] = std::array::from_fn(|i| (i * i) as f32 - 3.5 * i as f32 + 1.0);
        let g = [0.5, -2.0, 3.0];
        let vector = |value: f32| [value; 8];
        // SAFETY: the portable vector needs no instruction set.
        let t = unsafe { input::<[f32; 8], N>(d.map(vector)) };
        let g_row = kernel_row(N, g);
        let products = std::array::from_fn(|i| vector(t[i][0] * g_row[i] as f32));
        // SAFETY: as above.
        let y = unsafe { output::<[f32; 8], N>(products) };
        for (i, y) in y.iter().enumerate().take(N - 2) {
            let expected: f64 = (0..3).map(|k| f64::from(d[i + k]) * g[k]).sum();
            assert!((f64::from(y[0]) - expected).abs() < 1e-4, "{i}: {} {expected}", y[0]);
        }
    }

    #[test]
    fn transforms_compute_a_convolution() {
        check::<4>();
        check::<6>();
    }
}
