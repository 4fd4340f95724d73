//! How a row of pixels is cut into tiles.

use crate::isa::Isa;
use crate::tile::{Kind, max_pixels, most_pixels};

/// A tile's pixels in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub first: usize,
    pub pixels: usize,
}

/// Cuts a row into as few tiles as registers allow, of pixel counts that differ by at most one.
pub(crate) fn balanced(columns: usize, most: usize) -> Vec<Segment> {
    let tiles = columns.div_ceil(most.max(1));
    let mut first = 0;
    (0..tiles)
        .map(|tile| {
            let pixels = columns / tiles + usize::from(tile < columns % tiles);
            let segment = Segment { first, pixels };
            first += pixels;
            segment
        })
        .collect()
}

/// Cycles for a lane of a row of so many, on a core that starts two multiply-adds and two loads in a cycle and finishes a
/// multiply-add after four: 14x2 is bound by the first, 2x1 by the last. Only the order of choices matters.
fn row_cycles(isa: Isa, [rows, columns]: [usize; 2], blocks: usize) -> f64 {
    let tile = |rows: usize, pixels: usize| {
        let sums = (rows * pixels * blocks) as f64 / 2.0;
        // Weights come from L2, a line in two cycles.
        let loads = (rows * pixels) as f64 * 0.55 + blocks as f64 * 2.0;
        sums.max(loads).max(4.0) + 0.5
    };
    if fills_pairs(isa, Kind::Tile, [rows, columns], blocks) {
        return tile(2, columns) / 2.0;
    }
    let segments = balanced(columns, max_pixels(isa, Kind::Tile, blocks));
    segments.iter().map(|segment| tile(1, segment.pixels)).sum()
}

/// Whether a kernel takes two of so many rows whole: half as many reads of the weights.
pub(super) fn fills_pairs(isa: Isa, kind: Kind, [rows, columns]: [usize; 2], blocks: usize) -> bool {
    rows > 1 && (1..=most_pixels(isa, kind, [2, blocks])).contains(&columns)
}

/// Cycles for a lane of a row and `total` blocks, in tiles of `blocks` and one of the rest.
fn total_cycles(isa: Isa, size: [usize; 2], total: usize, blocks: usize) -> f64 {
    let rest = match total % blocks {
        0 => 0.0,
        rest => row_cycles(isa, size, rest),
    };
    (total / blocks) as f64 * row_cycles(isa, size, blocks) + rest
}

/// The number of blocks of a tile, of the choices, that takes the fewest cycles for so many rows and columns and
/// `total` blocks.
pub(super) fn best_blocks(isa: Isa, size: [usize; 2], total: usize, choices: &[usize]) -> usize {
    let cycles = |&blocks: &usize| total_cycles(isa, size, total, blocks);
    choices.iter().copied().min_by(|a, b| cycles(a).total_cmp(&cycles(b))).unwrap_or(1)
}

/// The number of rows of an image without borders that are best taken as one.
pub(super) fn best_widening(isa: Isa, height: usize, width: usize, total: usize, choices: &[usize]) -> usize {
    let cycles = |&factor: &usize| {
        let size = [height / factor, width * factor];
        total_cycles(isa, size, total, best_blocks(isa, size, total, choices)) / size[1] as f64
    };
    // Long rows are cut into tiles without loss; and a row is the least that a task computes.
    let factors = (1..=height)
        .filter(|&factor| height.is_multiple_of(factor) && (factor == 1 || width * factor <= 256));
    factors.min_by(|a, b| cycles(a).total_cmp(&cycles(b))).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_evenly_and_completely() {
        for columns in 1..200 {
            for most in 1..15 {
                let segments = balanced(columns, most);
                let mut next = 0;
                for segment in &segments {
                    assert_eq!(segment.first, next);
                    assert!((1..=most).contains(&segment.pixels));
                    next += segment.pixels;
                }
                assert_eq!((next, segments.len()), (columns, columns.div_ceil(most)));
            }
        }
    }

    /// Kernels of x86 are there on x86 alone.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn choices_for_the_widths_of_resnets() {
        let choices = [1, 2, 3, 4];
        for columns in [56, 28, 14] {
            assert_eq!(best_blocks(Isa::Avx512, [columns; 2], 16, &choices), 2);
        }
        // Two rows of seven by two blocks rather than one by three.
        assert_eq!(best_blocks(Isa::Avx512, [7, 7], 32, &choices), 2);
        assert_eq!(best_blocks(Isa::Avx512, [14, 14], 1, &[1]), 1);
        assert_eq!(best_blocks(Isa::Avx512, [1, 1], 64, &choices), 4);
        assert_eq!(best_widening(Isa::Avx512, 56, 56, 16, &choices), 1);
        // Pairs of rows serve as well as one row of 49, where there are registers for them.
        assert_eq!(best_widening(Isa::Avx512, 7, 7, 32, &choices), 1);
        assert_eq!(best_widening(Isa::Avx2, 7, 7, 32, &choices), 7);
    }
}
