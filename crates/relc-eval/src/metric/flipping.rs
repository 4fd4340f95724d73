//! Pixel flipping by patch: the score while the most relevant patches are removed one after the other.

use super::{Score, area, rng};
use crate::error::EvalError;
use crate::picture::{Geometry, Picture};
use crate::ranking::Ranking;

/// How patches are cut and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flipping {
    /// The side of a patch in pixels, along every axis; those at the far edges may be smaller.
    pub patch: usize,
    /// The most patches that are removed.
    pub most: usize,
}

/// The side of a patch: 16 pixels at a width of 224, in proportion at other widths; at least 1.
pub fn patch_side(width: usize) -> usize {
    ((16.0 * width as f64 / 224.0).round() as usize).max(1)
}

/// The patch of each pixel, and how many there are.
fn patches(geometry: Geometry, side: usize) -> (Vec<usize>, usize) {
    let [behind, down, across] = geometry.sizes().map(|size| size.div_ceil(side));
    let of = |pixel: usize| {
        let [z, y, x] = geometry.place(pixel).map(|at| at / side);
        (z * down + y) * across + x
    };
    ((0..geometry.pixels()).map(of).collect(), behind * down * across)
}

/// The area under the curve of scores over `[0,1]` (Bach et al., 2015: the lower the better), and the area over the
/// perturbation curve, `AOPC = 1/(L+1) sum_{k=0..L} (f_0 - f_k)` (Samek et al., 2017, equation 12).
///
/// Patches go by the sum of their relevance, equal ones at random.
///
/// # Errors
/// Those of `score`.
pub fn pixel_flipping(
    picture: &Picture,
    map: &[f32],
    flipping: Flipping,
    clean: f64,
    seed: u64,
    score: &Score<'_>,
) -> Result<[f64; 2], EvalError> {
    let (patch_of, count) = patches(picture.geometry, flipping.patch.max(1));
    let mut sums = vec![0.0f64; count];
    patch_of.iter().zip(map).for_each(|(patch, value)| sums[*patch] += f64::from(*value));
    let sums: Vec<f32> = sums.iter().map(|s| *s as f32).collect();
    let ranks = Ranking::of(&sums).ranks(&mut rng(seed, "patches", 0));
    let removed = score(count.min(flipping.most), &|k, values| {
        picture.without(values, |pixel| ranks[patch_of[pixel]] <= k);
    })?;
    let curve: Vec<f64> = std::iter::once(clean).chain(removed).collect();
    let aopc = curve.iter().map(|f| clean - f).sum::<f64>() / curve.len() as f64;
    Ok([area(&curve), aopc])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Base;

    #[test]
    fn patches_go_by_the_sum_of_their_relevance() {
        let geometry = Geometry { depth: 1, height: 3, width: 5, channels: 1, interleaved: false };
        assert_eq!(patches(geometry, 2), (vec![0, 0, 1, 1, 2, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5], 6));
        let cube = Geometry { depth: 2, height: 2, width: 3, ..geometry };
        assert_eq!(patches(cube, 2), (vec![0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1], 2));
        assert_eq!(patches(cube, 1).1, 12);
        assert_eq!([patch_side(224), patch_side(32), patch_side(8)], [16, 2, 1]);
        let picture = Picture::new(geometry, vec![1.0; 15], Base::Black, &[0.0; 15]);
        let mut map = [0.0; 15];
        (map[4], map[2], map[13]) = (3.0, 2.0, 1.0);
        let left = |count: usize, fill: &super::super::Fill<'_>| {
            let one = |i| {
                let mut values = vec![9.0; 15];
                fill(i, &mut values);
                values.iter().map(|v| f64::from(*v)).sum::<f64>() / 15.0
            };
            Ok((0..count).map(one).collect())
        };
        let flipping = Flipping { patch: 2, most: 3 };
        let [auc, aopc] = pixel_flipping(&picture, &map, flipping, 1.0, 0, &left).unwrap();
        let curve = [15.0, 13.0, 9.0, 7.0].map(|n| n / 15.0);
        assert!((auc - area(&curve)).abs() < 1e-12);
        assert!((aopc - (4.0 - curve.iter().sum::<f64>()) / 4.0).abs() < 1e-12);
    }
}
