//! Metrics against the values that Quantus computes (`tools/quantus_values.py`).

use relc_eval::metric::{
    Curve, Curves, Ends, Fill, Flipping, complexity, cosine, curve, impute, pearson, pixel_flipping,
    pointing_game, relevance_mass, relevance_rank, rng, sparseness, spearman,
};
use relc_eval::{Base, EvalError, Geometry, Picture, Ranking, Ties};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    maps: Vec<Found>,
    spearman: f64,
    pearson: f64,
    cosine: f64,
}

#[derive(Deserialize)]
struct Found {
    sparseness: f64,
    complexity: f64,
    pointing_game: f64,
    relevance_mass: f64,
    relevance_rank: f64,
    region_perturbation: Vec<f64>,
    pixel_flipping: Vec<f64>,
    imputed: Vec<f64>,
}

const GEOMETRY: Geometry = Geometry { depth: 1, height: 8, width: 8, channels: 1, interleaved: false };

fn reference() -> Reference {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/quantus.json"));
    serde_json::from_str(&text.unwrap()).unwrap()
}

fn maps() -> [Vec<f32>; 2] {
    let first = |p: u32| ((p * 37 + 5) % 64 + 1) as f32 / 64.0;
    let second = |p: u32| (((p * 11 + 2) % 64 + 1) as f32).powi(3) / 64f32.powi(3);
    [(0..64).map(first).collect(), (0..64).map(second).collect()]
}

fn picture() -> Picture {
    let values = (0..64).map(|p: u32| ((p * 23) % 64) as f32 / 64.0).collect();
    Picture::new(GEOMETRY, values, Base::Black, &[0.0; 64])
}

/// The probability of output 1 of `softmax(W x)`.
fn score(count: usize, fill: &Fill<'_>) -> Result<Vec<f64>, EvalError> {
    let one = |i| {
        let mut x = vec![0.0; 64];
        fill(i, &mut x);
        let weight = |k: usize, p: usize| (((p * 29 + k * 17) % 64) as f64 - 31.5) / 64.0;
        let logit = |k| x.iter().enumerate().map(|(p, v)| weight(k, p) * f64::from(*v)).sum::<f64>();
        let e = [0, 1, 2].map(|k| f64::exp(logit(k)));
        e[1] / e.iter().sum::<f64>()
    };
    Ok((0..count).map(one).collect())
}

#[track_caller]
fn check(what: &str, got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{what}: got {got}, Quantus has {expected}");
}

#[test]
fn complexity_and_localisation() {
    let mask: Vec<bool> = (0..64).map(|p| (2..6).contains(&(p / 8)) && p % 8 >= 3).collect();
    for (map, found) in maps().iter().zip(reference().maps) {
        let ranking = Ranking::of(map);
        // Quantus adds 1e-7 to every value, so that a map of zeros has a value too.
        check("sparseness", sparseness(map).unwrap(), found.sparseness, 1e-6);
        check("complexity", complexity(map).unwrap(), found.complexity, 1e-8);
        check("pointing_game", pointing_game(map, &ranking, &mask).unwrap(), found.pointing_game, 0.0);
        check("relevance_mass", relevance_mass(map, &ranking, &mask).unwrap(), found.relevance_mass, 1e-8);
        check("relevance_rank", relevance_rank(map, &ranking, &mask).unwrap(), found.relevance_rank, 1e-12);
    }
}

#[test]
fn pixels_and_patches_that_are_flipped() {
    let picture = picture();
    let clean = score(1, &|_, x| x.copy_from_slice(&picture.values)).unwrap()[0];
    for (i, (map, found)) in maps().iter().zip(reference().maps).enumerate() {
        let curves = Curves { step: 3, ends: Ends::Rise, ties: Ties::Strict { orders: 1 } };
        let flipped = curve(&picture, &Ranking::of(map), Curve::Deletion, curves, 0, &score).unwrap();
        assert_eq!(flipped.len(), 1 + found.pixel_flipping.len());
        for (got, expected) in flipped[1..].iter().zip(&found.pixel_flipping) {
            check("pixel_flipping", *got, *expected, 1e-7);
        }
        let flipping = Flipping { patch: 2, most: 10 };
        let [_, aopc] = pixel_flipping(&picture, map, flipping, clean, 0, &score).unwrap();
        if i == 0 {
            continue; // patches of equal relevance, which Quantus orders by place and relc at random
        }
        // Samek et al. average over the whole picture too, which Quantus leaves out.
        check("aopc", aopc, found.region_perturbation.iter().sum::<f64>() / 11.0, 1e-7);
    }
}

#[test]
fn imputation_without_noise() {
    let picture = picture();
    for (map, found) in maps().iter().zip(reference().maps) {
        let ranks = Ranking::of(map).ranks(&mut rng(0, "", 0));
        let removed: Vec<bool> = ranks.iter().map(|r| *r < 40).collect();
        let mut imputed = vec![0.0; 64];
        impute(&picture, &removed, 0.0, &mut rng(0, "", 0), &mut imputed);
        for (got, expected) in imputed.iter().zip(&found.imputed) {
            check("imputed", f64::from(*got), *expected, 1e-6);
        }
    }
}

#[test]
fn similarity() {
    let ([a, b], reference) = (maps(), reference());
    let wide = |m: &[f32]| m.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    check("spearman", spearman(&a, &b).unwrap(), reference.spearman, 1e-12);
    check("pearson", pearson(&wide(&a), &wide(&b)).unwrap(), reference.pearson, 1e-7);
    check("cosine", cosine(&a, &b).unwrap(), reference.cosine, 1e-7);
}
