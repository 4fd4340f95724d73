//! Remove and debias (Rong et al., ICML 2022): removed pixels are imputed from their neighbours, so that the shape of
//! what was removed tells less than a hole does.

use fastrand::Rng;

use super::{Score, normal, rng};
use crate::error::EvalError;
use crate::picture::Picture;
use crate::ranking::Ranking;

/// How ROAD removes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Road {
    /// Tenths of the pixels that are removed: 1 to 9.
    pub tenths: [usize; 9],
    /// The standard deviation of the noise on imputed values, in the model's input.
    pub noise: f64,
}

impl Default for Road {
    /// The authors'.
    fn default() -> Self {
        Road { tenths: [1, 2, 3, 4, 5, 6, 7, 8, 9], noise: 0.01 }
    }
}

/// The mean score with the most relevant pixels removed first (MoRF: the lower the better) and with the least relevant
/// (LeRF: the higher), over the shares that are removed. Equal pixels go in a random order.
///
/// # Errors
/// Those of `score`.
pub fn road(
    picture: &Picture,
    ranking: &Ranking,
    options: &Road,
    seed: u64,
    score: &Score<'_>,
) -> Result<[f64; 2], EvalError> {
    let pixels = picture.geometry.pixels();
    let ranks = ranking.ranks(&mut rng(seed, "ties", 0));
    let n = options.tenths.len();
    let scores = score(2 * n, &|i, values| {
        let count = pixels * options.tenths[i % n] / 10;
        let gone = |rank: usize| if i < n { rank < count } else { rank >= pixels - count };
        let removed: Vec<bool> = ranks.iter().map(|r| gone(*r)).collect();
        // The same noise whichever end goes first.
        impute(picture, &removed, options.noise, &mut rng(seed, "noise", i % n), values);
    })?;
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let (morf, lerf) = scores.split_at(n.min(scores.len()));
    Ok([mean(morf), mean(lerf)])
}

/// The weight of a neighbour that is one step away along one axis.
const BESIDE: f64 = 1.0 / 6.0;
/// The weight of one that is a step away along two.
const CORNER: f64 = 1.0 / 12.0;
/// The weights of a pixel's neighbours: behind, down, across, weight. First those in its own picture, which are the
/// authors'; then those of the slices before and behind it, by the same rule.
const NEIGHBOURS: [([isize; 3], f64); 18] = [
    ([0, 0, 1], BESIDE),
    ([0, 0, -1], BESIDE),
    ([0, 1, 0], BESIDE),
    ([0, -1, 0], BESIDE),
    ([0, 1, 1], CORNER),
    ([0, 1, -1], CORNER),
    ([0, -1, 1], CORNER),
    ([0, -1, -1], CORNER),
    ([1, 0, 0], BESIDE),
    ([-1, 0, 0], BESIDE),
    ([1, 0, 1], CORNER),
    ([1, 0, -1], CORNER),
    ([1, 1, 0], CORNER),
    ([1, -1, 0], CORNER),
    ([-1, 0, 1], CORNER),
    ([-1, 0, -1], CORNER),
    ([-1, 1, 0], CORNER),
    ([-1, -1, 0], CORNER),
];
/// Where conjugate gradients stop: the residual's norm as a fraction of the right side's.
const TOLERANCE: f64 = 1e-9;

/// Noisy linear imputation: every removed value becomes the weighted mean of its neighbours, removed or not (1/6 for
/// those beside it, 1/12 for those at its corners, divided by their sum), plus noise. If nothing is left to impute from, it is the base.
pub fn impute(picture: &Picture, removed: &[bool], noise: f64, rng: &mut Rng, into: &mut [f32]) {
    into.copy_from_slice(&picture.values);
    let geometry = picture.geometry;
    let unknown: Vec<usize> = (0..geometry.pixels()).filter(|p| removed[*p]).collect();
    if unknown.len() == geometry.pixels() {
        into.copy_from_slice(&picture.base);
        return;
    }
    let mut row_of = vec![usize::MAX; geometry.pixels()];
    unknown.iter().enumerate().for_each(|(row, pixel)| row_of[*pixel] = row);
    let [depth, height, width] = geometry.sizes();
    let neighbours = |pixel: usize| {
        let [z, y, x] = geometry.place(pixel);
        NEIGHBOURS.iter().filter_map(move |([dz, dy, dx], weight)| {
            let beside =
                |at: usize, step: isize, size: usize| at.checked_add_signed(step).filter(|at| *at < size);
            let (z, y, x) = (beside(z, *dz, depth)?, beside(y, *dy, height)?, beside(x, *dx, width)?);
            Some(((z * height + y) * width + x, *weight))
        })
    };
    // The system of a removed pixel p: (sum of weights) x_p - (removed neighbours) = (kept neighbours).
    let mut diagonal = Vec::with_capacity(unknown.len());
    let mut links: Vec<Vec<(usize, f64)>> = Vec::with_capacity(unknown.len());
    for &pixel in &unknown {
        diagonal.push(neighbours(pixel).map(|(_, w)| w).sum::<f64>());
        links.push(neighbours(pixel).filter(|(n, _)| removed[*n]).map(|(n, w)| (row_of[n], w)).collect());
    }
    let apply = |x: &[f64]| -> Vec<f64> {
        let row = |i: usize| diagonal[i] * x[i] - links[i].iter().map(|(j, w)| w * x[*j]).sum::<f64>();
        (0..x.len()).map(row).collect()
    };
    for channel in 0..geometry.channels {
        let value = |pixel: usize| f64::from(picture.values[geometry.index(pixel, channel)]);
        let kept =
            |pixel: &usize| neighbours(*pixel).filter(|(n, _)| !removed[*n]).map(|(n, w)| w * value(n)).sum();
        let right: Vec<f64> = unknown.iter().map(kept).collect();
        for (&pixel, x) in unknown.iter().zip(solve(&right, apply)) {
            into[geometry.index(pixel, channel)] = (x + noise * normal(rng)) as f32;
        }
    }
}

/// Solves a symmetric positive definite system by conjugate gradients.
fn solve(right: &[f64], apply: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut x = vec![0.0; right.len()];
    let mut residual = right.to_vec();
    let mut direction = residual.clone();
    let mut norm = dot(&residual, &residual);
    let enough = norm * TOLERANCE * TOLERANCE;
    for _ in 0..right.len() {
        if norm <= enough {
            break;
        }
        let applied = apply(&direction);
        let step = norm / dot(&direction, &applied);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        residual.iter_mut().zip(&applied).for_each(|(r, a)| *r -= step * a);
        let next = dot(&residual, &residual);
        let keep = next / norm;
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + keep * *d);
        norm = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Base, Geometry};

    const GEOMETRY: Geometry = Geometry { depth: 1, height: 9, width: 11, channels: 2, interleaved: true };

    fn picture(value: impl Fn(usize, usize, usize) -> f32) -> Picture {
        let mut values = vec![0.0; GEOMETRY.values()];
        for p in 0..GEOMETRY.pixels() {
            (0..2).for_each(|c| values[GEOMETRY.index(p, c)] = value(p / 11, p % 11, c));
        }
        Picture::new(GEOMETRY, values, Base::Black, &vec![-1.0; GEOMETRY.values()])
    }

    #[test]
    fn imputed_values_are_the_weighted_means_of_their_neighbours() {
        let picture = picture(|y, x, c| ((7 * y * y + 3 * x + 5 * c) % 13) as f32);
        let removed: Vec<bool> = (0..99).map(|p| (p * 7) % 5 < 3 || p < 11).collect();
        let mut out = vec![0.0; picture.values.len()];
        impute(&picture, &removed, 0.0, &mut Rng::with_seed(0), &mut out);
        for (p, removed) in removed.iter().enumerate() {
            for c in 0..2 {
                let got = f64::from(out[GEOMETRY.index(p, c)]);
                let (mut sum, mut weights) = (0.0, 0.0);
                for ([_, dy, dx], w) in NEIGHBOURS.into_iter().filter(|([dz, ..], _)| *dz == 0) {
                    let (y, x) = (p as isize / 11 + dy, p as isize % 11 + dx);
                    if (0..9).contains(&y) && (0..11).contains(&x) {
                        sum += w * f64::from(out[GEOMETRY.index((y * 11 + x) as usize, c)]);
                        weights += w;
                    }
                }
                let expected =
                    if *removed { sum / weights } else { f64::from(picture.values[GEOMETRY.index(p, c)]) };
                assert!((got - expected).abs() < 1e-5, "pixel {p}: {got}, {expected}");
            }
        }
    }

    #[test]
    fn gaps_in_signals_and_volumes_are_bridged_along_their_axes() {
        let line = Geometry { depth: 1, height: 1, width: 5, channels: 1, interleaved: false };
        let signal = Picture::new(line, vec![1.0, 9.0, 9.0, 9.0, 5.0], Base::Black, &[0.0; 5]);
        let mut out = vec![0.0; 5];
        impute(&signal, &[false, true, true, true, false], 0.0, &mut Rng::with_seed(0), &mut out);
        assert!(out.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{out:?}");
        // A voxel in the middle of a linear volume is the mean of its neighbours along all three axes.
        let cube = Geometry { depth: 3, height: 3, width: 3, ..line };
        let values: Vec<f32> = (0..27).map(|p| if p == 13 { 99.0 } else { p as f32 }).collect();
        let volume = Picture::new(cube, values, Base::Black, &[0.0; 27]);
        let removed: Vec<bool> = (0..27).map(|p| p == 13).collect();
        let mut out = vec![0.0; 27];
        impute(&volume, &removed, 0.0, &mut Rng::with_seed(0), &mut out);
        assert!((out[13] - 13.0).abs() < 1e-5, "{out:?}");
    }

    #[test]
    fn nothing_left_is_the_base_and_noise_has_its_size() {
        let flat = picture(|_, _, _| 3.0);
        let mut out = vec![0.0; flat.values.len()];
        impute(&flat, &[true; 99], 0.01, &mut Rng::with_seed(0), &mut out);
        assert_eq!(out, flat.base);
        let removed: Vec<bool> = (0..99).map(|p| p > 0).collect();
        impute(&flat, &removed, 0.01, &mut Rng::with_seed(0), &mut out);
        let squares = out.iter().map(|v| (f64::from(*v) - 3.0).powi(2)).sum::<f64>();
        let deviation = (squares / 196.0).sqrt();
        assert!((0.008..0.012).contains(&deviation), "{deviation}");
    }

    #[test]
    fn the_most_relevant_pixels_go_first_and_the_least_relevant_first() {
        // The score is the mean of what is left unchanged: the upper part is bright, and imputed dark.
        let picture = picture(|y, _, _| if y < 2 { 1.0 } else { 0.0 });
        let map: Vec<f32> = (0..99).map(|p| -(p as f32)).collect();
        let mean = |count: usize, fill: &super::super::Fill<'_>| {
            let one = |i| {
                let mut values = vec![0.0; 198];
                fill(i, &mut values);
                values.iter().map(|v| f64::from(*v)).sum::<f64>() / 44.0
            };
            Ok((0..count).map(one).collect())
        };
        let [morf, lerf] = road(&picture, &Ranking::of(&map), &Road::default(), 1, &mean).unwrap();
        assert!(morf < 0.3 && lerf > 0.9, "{morf} {lerf}");
    }
}
