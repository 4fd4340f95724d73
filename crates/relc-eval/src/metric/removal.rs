//! Metrics that compare the relevance of removed pixels with what their removal does to the score.

use fastrand::Rng;

use super::{Score, pearson, rng};
use crate::error::EvalError;
use crate::picture::{Geometry, Picture};

/// The sizes of sensitivity-n's subsets, as fractions of the pixels: one in 64, in 32, ..., in 2.
const FRACTIONS: [usize; 6] = [64, 32, 16, 8, 4, 2];

/// Sensitivity-n (Ancona et al., ICLR 2018): for random sets of `n` pixels, Pearson's correlation between the sum of
/// their relevance and what the score loses when they are removed; the mean over several `n`. It is taken over the
/// sets of one picture, so that it is defined for one.
///
/// `None` if no correlation is defined, as for a constant map.
///
/// # Errors
/// Those of `score`.
pub fn sensitivity_n(
    picture: &Picture,
    map: &[f32],
    subsets: usize,
    clean: f64,
    seed: u64,
    score: &Score<'_>,
) -> Result<Option<f64>, EvalError> {
    let pixels = picture.geometry.pixels();
    let of = |i: usize| {
        let size = (pixels / FRACTIONS[i / subsets]).max(1);
        subset(pixels, size, &mut rng(seed, "subsets", i))
    };
    let effects = effects(picture, map, FRACTIONS.len() * subsets, clean, score, &of)?;
    let correlations = effects.chunks(subsets.max(1)).filter_map(|of_size| {
        let (sums, drops): (Vec<f64>, Vec<f64>) = of_size.iter().copied().unzip();
        pearson(&sums, &drops)
    });
    let correlations: Vec<f64> = correlations.collect();
    let n = correlations.len();
    Ok((n > 0).then(|| correlations.iter().sum::<f64>() / n as f64))
}

/// Infidelity (Yeh et al., NeurIPS 2019): the mean of `(b sum_S R - (f(x) - f(x without S)))^2` over random squares
/// `S`, with the `b` that makes it least (their "optimal scaling"), so that it does not depend on the map's norm. Their
/// perturbation of a square is one to the base, for attributions that count contributions, as captum has it.
///
/// # Errors
/// Those of `score`.
pub fn infidelity(
    picture: &Picture,
    map: &[f32],
    squares: usize,
    clean: f64,
    seed: u64,
    score: &Score<'_>,
) -> Result<f64, EvalError> {
    let of = |i: usize| square(picture.geometry, &mut rng(seed, "squares", i));
    let effects = effects(picture, map, squares, clean, score, &of)?;
    let along: f64 = effects.iter().map(|(sum, drop)| sum * drop).sum();
    let norm: f64 = effects.iter().map(|(sum, _)| sum * sum).sum();
    let scale = if norm > 0.0 { along / norm } else { 0.0 };
    let squared = effects.iter().map(|(sum, drop)| (scale * sum - drop).powi(2));
    Ok(squared.sum::<f64>() / effects.len().max(1) as f64)
}

/// For each set of pixels, the sum of their relevance and what the score loses when they are removed.
fn effects(
    picture: &Picture,
    map: &[f32],
    count: usize,
    clean: f64,
    score: &Score<'_>,
    set: &(dyn Fn(usize) -> Vec<bool> + Sync),
) -> Result<Vec<(f64, f64)>, EvalError> {
    let scores = score(count, &|i, values| {
        let removed = set(i);
        picture.without(values, |pixel| removed[pixel]);
    })?;
    let sum = |i: usize| {
        let removed = set(i);
        map.iter().zip(removed).filter(|(_, r)| *r).map(|(v, _)| f64::from(*v)).sum()
    };
    Ok(scores.into_iter().enumerate().map(|(i, score)| (sum(i), clean - score)).collect())
}

/// `size` of the pixels.
fn subset(pixels: usize, size: usize, rng: &mut Rng) -> Vec<bool> {
    let mut set = vec![false; pixels];
    rng.choose_multiple(0..pixels, size).into_iter().for_each(|p| set[p] = true);
    set
}

/// The pixels of a square whose side is between a sixteenth and a quarter of the width; of a signal those of a stretch, of
/// a volume those of a cube.
fn square(geometry: Geometry, rng: &mut Rng) -> Vec<bool> {
    let w = geometry.width;
    let side = rng.usize((w / 16).max(1)..=(w / 4).max(1)).min(geometry.shortest());
    let mut stretch = |size: usize| {
        let side = side.min(size);
        let first = if size > side { rng.usize(0..=size - side) } else { 0 };
        first..first + side
    };
    let [behind, down, across] = geometry.sizes();
    let (behind, down, across) = (stretch(behind), stretch(down), stretch(across));
    let inside = |p: usize| {
        let [z, y, x] = geometry.place(p);
        behind.contains(&z) && down.contains(&y) && across.contains(&x)
    };
    (0..geometry.pixels()).map(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Base;

    const GEOMETRY: Geometry = Geometry { depth: 1, height: 8, width: 8, channels: 1, interleaved: false };

    fn weight(pixel: usize) -> f64 {
        ((pixel * 29) % 64) as f64 / 64.0 - 0.4
    }

    /// A linear model, whose relevance is known.
    fn linear(count: usize, fill: &super::super::Fill<'_>) -> Result<Vec<f64>, EvalError> {
        let one = |i| {
            let mut values = vec![0.0; 64];
            fill(i, &mut values);
            values.iter().enumerate().map(|(p, v)| weight(p) * f64::from(*v)).sum::<f64>()
        };
        Ok((0..count).map(one).collect())
    }

    fn both(map: &[f32]) -> (Option<f64>, f64) {
        let picture = Picture::new(GEOMETRY, vec![1.0; 64], Base::Black, &[0.0; 64]);
        let clean: f64 = (0..64).map(weight).sum();
        let n = sensitivity_n(&picture, map, 20, clean, 3, &linear).unwrap();
        (n, infidelity(&picture, map, 20, clean, 3, &linear).unwrap())
    }

    #[test]
    fn the_contributions_of_a_linear_model_are_perfect_at_any_scale() {
        let exact: Vec<f32> = (0..64).map(|p| weight(p) as f32).collect();
        let large: Vec<f32> = exact.iter().map(|v| v * 1e6).collect();
        for map in [&exact, &large] {
            let (n, infidelity) = both(map);
            assert!(n.unwrap() > 1.0 - 1e-6 && infidelity < 1e-9, "{n:?} {infidelity}");
        }
        let wrong: Vec<f32> = (0..64).map(|p| ((p * 37) % 64) as f32).collect();
        let (n, infidelity) = both(&wrong);
        assert!(n.unwrap() < 0.5 && infidelity > 1e-3, "{n:?} {infidelity}");
    }

    #[test]
    fn a_constant_map_has_no_correlation_with_anything() {
        let (n, infidelity) = both(&[0.0; 64]);
        assert_eq!(n, None);
        assert!(infidelity > 0.0);
    }

    #[test]
    fn sets_have_their_size() {
        let size = |set: Vec<bool>| set.into_iter().filter(|s| *s).count();
        for i in 0..30 {
            let mut rng = rng(1, "t", i);
            assert_eq!(size(subset(64, 5, &mut rng)), 5);
            assert!([1, 4].contains(&size(square(GEOMETRY, &mut rng))));
        }
    }
}
