//! Insertion and deletion: the score while pixels come in or go, in the order of their relevance.
//!
//! Image `k` keeps (insertion) or loses (deletion) the first `c_k` pixels. The authors (Otsuki et al., ECCV 2024) take
//! images `k = 1..=ceil(P / step)` and every pixel that is at least as relevant as the one of rank
//! `min(step * k, P - 1)` (ranks from 0), so that `c_k = min(step * k + 1, P)`. RISE (Petsiuk et al., BMVC 2018) takes
//! `k = 0..=ceil(P / step)` and `c_k = min(step * k, P)`. In both the area is that of trapezes over `[0,1]`.
//!
//! Strict ranking puts equal pixels in a random order and averages the curve over several; images that all orders
//! agree on are scored once.

use relc::unstable::ir::names;

use super::{Score, rng};
use crate::error::EvalError;
use crate::picture::Picture;
use crate::ranking::{Ranking, Ties};

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// The first pixels are kept, the others removed.
    Insertion,
    /// The first pixels are removed.
    Deletion,
}

/// Which images count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Not the one before the first step.
    Authors,
    /// Both ends, as in RISE.
    Rise,
}

names!(Ends, "ends", ["authors" => Authors, "rise" => Rise]);

/// How curves are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curves {
    /// Pixels of a step, at least 1.
    pub step: usize,
    /// Which images count.
    pub ends: Ends,
    /// What happens to equal pixels.
    pub ties: Ties,
}

/// The authors' step of 500 pixels at 224 x 224, in proportion to the number of pixels; at least 1.
pub fn default_step(pixels: usize) -> usize {
    ((500.0 * pixels as f64 / f64::from(224 * 224)).round_ties_even() as usize).max(1)
}

/// How many pixels each image keeps or loses.
pub fn counts(pixels: usize, step: usize, ends: Ends) -> Vec<usize> {
    let step = step.max(1);
    let steps = pixels.div_ceil(step);
    match ends {
        Ends::Authors => (1..=steps).map(|k| (step * k).saturating_add(1).min(pixels)).collect(),
        Ends::Rise => (0..=steps).map(|k| (step * k).min(pixels)).collect(),
    }
}

/// The area under a curve over `[0,1]`: `(sum - first/2 - last/2) / (n - 1)`; a single value is its own area.
pub fn area(scores: &[f64]) -> f64 {
    match scores {
        [] => 0.0,
        [one] => *one,
        [first, .., last] => {
            (scores.iter().sum::<f64>() - first / 2.0 - last / 2.0) / (scores.len() - 1) as f64
        }
    }
}

/// A curve at as many points as are asked for, evenly spaced from its first image to its last, as [`area`] spaces its
/// images; between images it is a straight line. A curve of that length stays as it is.
pub fn resampled(scores: &[f64], points: usize) -> Vec<f64> {
    let [.., last] = scores else { return Vec::new() };
    let value = |point: usize| {
        let at = point as f64 * (scores.len() - 1) as f64 / points.saturating_sub(1).max(1) as f64;
        let before = scores.get(at as usize).unwrap_or(last);
        let after = scores.get(at as usize + 1).unwrap_or(last);
        before + at.fract() * (after - before)
    };
    (0..points).map(value).collect()
}

/// The curve of a ranking. Random orders depend on `seed` alone.
///
/// # Errors
/// Those of `score`.
pub fn curve(
    picture: &Picture,
    ranking: &Ranking,
    which: Curve,
    curves: Curves,
    seed: u64,
    score: &Score<'_>,
) -> Result<Vec<f64>, EvalError> {
    let counts = counts(picture.geometry.pixels(), curves.step, curves.ends);
    let orders = match curves.ties {
        Ties::Strict { orders } if ranking.has_ties() => orders.max(1),
        _ => 1,
    };
    let ranks: Vec<Vec<usize>> = (0..orders).map(|o| ranking.ranks(&mut rng(seed, "ties", o))).collect();
    // The images to score, (order, count), and which of them each point of the curve is the mean of.
    let mut images: Vec<(usize, usize)> = Vec::new();
    let mut points = Vec::with_capacity(counts.len());
    for count in counts {
        let (count, orders) = match curves.ties {
            Ties::Together => (ranking.with_equals(count), 1),
            Ties::Strict { .. } if ranking.is_settled(count) => (count, 1),
            Ties::Strict { .. } => (count, orders),
        };
        if orders > 1 || images.last() != Some(&(0, count)) {
            images.extend((0..orders).map(|order| (order, count)));
        }
        points.push(images.len() - orders..images.len());
    }
    let scores = score(images.len(), &|i, values| {
        let (order, count) = images[i];
        picture.without(values, |pixel| (ranks[order][pixel] < count) == (which == Curve::Deletion));
    })?;
    let mean = |range: std::ops::Range<usize>| {
        let n = range.len() as f64;
        scores[range].iter().sum::<f64>() / n
    };
    Ok(points.into_iter().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Base, Geometry};

    const GEOMETRY: Geometry = Geometry { depth: 1, height: 4, width: 5, channels: 1, interleaved: false };

    fn picture() -> Picture {
        Picture::new(GEOMETRY, vec![1.0; 20], Base::Black, &[0.0; 20])
    }

    /// The weighted share of pixels that are there: pixel p weighs p.
    fn weighted(count: usize, fill: &super::super::Fill<'_>) -> Result<Vec<f64>, EvalError> {
        let one = |i| {
            let mut values = vec![0.0; 20];
            fill(i, &mut values);
            values.iter().enumerate().map(|(p, v)| p as f64 * f64::from(*v)).sum::<f64>() / 190.0
        };
        Ok((0..count).map(one).collect())
    }

    fn run(map: &[f32], which: Curve, step: usize, ends: Ends, ties: Ties) -> Vec<f64> {
        let curves = Curves { step, ends, ties };
        curve(&picture(), &Ranking::of(map), which, curves, 7, &weighted).unwrap()
    }

    const STRICT: Ties = Ties::Strict { orders: 3 };

    #[test]
    fn steps_scale_with_the_area() {
        assert_eq!(default_step(224 * 224), 500);
        assert_eq!(default_step(32 * 32), 10);
        assert_eq!(default_step(64 * 64), 41);
        assert_eq!(default_step(3 * 3), 1);
    }

    #[test]
    fn images_are_counted_as_the_authors_or_rise_do() {
        assert_eq!(counts(10, 4, Ends::Authors), [5, 9, 10]);
        assert_eq!(counts(10, 4, Ends::Rise), [0, 4, 8, 10]);
        assert_eq!(counts(1, 4, Ends::Authors), [1]);
        assert_eq!(area(&[0.0, 1.0, 1.0]), 0.75);
        assert_eq!(area(&[0.25]), 0.25);
    }

    #[test]
    fn a_curve_at_other_points_keeps_its_ends_and_about_its_area() {
        let curve: Vec<f64> = (0..102).map(|k| (f64::from(k) / 101.0).sqrt()).collect();
        let fewer = resampled(&curve, 51);
        assert_eq!((fewer.len(), fewer[0], fewer[50]), (51, 0.0, 1.0));
        assert!((area(&fewer) - area(&curve)).abs() < 2e-3);
        assert_eq!(resampled(&curve, 102), curve);
        assert_eq!(resampled(&[0.0, 1.0], 3), [0.0, 0.5, 1.0]);
        assert_eq!(resampled(&[0.25], 3), [0.25; 3]);
        assert!(resampled(&[], 3).is_empty());
    }

    #[test]
    fn the_best_order_inserts_early_and_deletes_early() {
        let best: Vec<f32> = (0..20).map(|p| p as f32).collect();
        let worst: Vec<f32> = best.iter().map(|v| -v).collect();
        let id = |map: &[f32], ends| {
            area(&run(map, Curve::Insertion, 2, ends, STRICT))
                - area(&run(map, Curve::Deletion, 2, ends, STRICT))
        };
        for ends in [Ends::Authors, Ends::Rise] {
            assert!(id(&best, ends) > 0.25 && id(&worst, ends) < -0.1);
        }
        let rise = run(&best, Curve::Insertion, 6, Ends::Rise, STRICT);
        let after_six = (14..20).sum::<usize>() as f64 / 190.0;
        assert_eq!(rise[..2], [0.0, after_six]);
        let deleted = run(&best, Curve::Deletion, 6, Ends::Rise, STRICT);
        assert!(rise.iter().zip(&deleted).all(|(i, d)| (i + d - 1.0).abs() < 1e-12));
    }

    #[test]
    fn without_ties_both_protocols_agree_to_the_bit() {
        let map: Vec<f32> = (0..20).map(|p| ((p * 7) % 20) as f32).collect();
        for which in [Curve::Insertion, Curve::Deletion] {
            let strict = run(&map, which, 3, Ends::Authors, STRICT);
            assert_eq!(strict, run(&map, which, 3, Ends::Authors, Ties::Together));
            assert_eq!(strict.len(), 7);
        }
    }

    #[test]
    fn a_constant_map_wins_where_ties_enter_together_and_nothing_where_they_dont() {
        let id = |ties, ends| {
            // The authors' ends favour insertion by one step, RISE's don't.
            let curves = [Curve::Insertion, Curve::Deletion].map(|c| run(&[1.0; 20], c, 2, ends, ties));
            area(&curves[0]) - area(&curves[1])
        };
        assert_eq!(id(Ties::Together, Ends::Authors), 1.0);
        assert!(id(Ties::Strict { orders: 400 }, Ends::Rise).abs() < 0.02);
    }

    #[test]
    fn images_that_every_order_agrees_on_are_scored_once() {
        let mut map = vec![0.0; 20];
        map[..8].iter_mut().enumerate().for_each(|(p, v)| *v = (9 - p) as f32);
        let asked = std::cell::Cell::new(0);
        let counting = |count: usize, fill: &super::super::Fill<'_>| {
            asked.set(asked.get() + count);
            weighted(count, fill)
        };
        let curves = Curves { step: 2, ends: Ends::Rise, ties: Ties::Strict { orders: 4 } };
        let got = curve(&picture(), &Ranking::of(&map), Curve::Deletion, curves, 7, &counting).unwrap();
        // 0, 2, .. 8 and 20 pixels are settled; 10, 12, .. 18 are not.
        assert_eq!(asked.get(), 6 + 5 * 4);
        assert_eq!(got.len(), 11);
    }

    #[test]
    fn the_average_over_orders_is_the_mean_of_their_curves() {
        let map = [0.0; 20];
        let ranking = Ranking::of(&map);
        let together = run(&map, Curve::Insertion, 3, Ends::Rise, STRICT);
        for (k, count) in counts(20, 3, Ends::Rise).into_iter().enumerate() {
            let of_order = |order: usize| {
                let ranks = ranking.ranks(&mut rng(7, "ties", order));
                (0..20).filter(|p| ranks[*p] < count).sum::<usize>() as f64 / 190.0
            };
            let mean = (0..3).map(of_order).sum::<f64>() / 3.0;
            assert!((together[k] - mean).abs() < 1e-12);
        }
    }
}
