//! Whether rounding decides a map.
//!
//! Where relevance can grow without bound (a signed split of branches that cancel, an epsilon rule), the digits that
//! arithmetic rounds away can decide a map. So the same explanation is made of the input changed in its last digits,
//! and the two maps are compared.

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_ir::rule::Contract;

use crate::explainer::{Chosen, Explainer, Explanation, Explanations};
use crate::request::Seed;

/// By which fraction of itself an input value changes at most: some eight units in the last place of f32, which is what
/// another decoder of the same picture, or another order of sums, comes to.
const CHANGE: f64 = 1e-6;

/// Every sample is changed alike, so that results don't depend on how samples are batched.
const SEED: u64 = 1;

impl Explainer {
    /// Whether explanations measure how far rounding decides them: where a rule's contract is `unbounded`, unless
    /// [`without_sensitivity`](Self::without_sensitivity) was asked for.
    pub fn measures_sensitivity(&self) -> bool {
        self.sensitivity && self.leaks().iter().any(|(_, contract)| *contract == Contract::Unbounded)
    }

    /// Measures the sensitivity of explanations of `input`.
    pub(crate) fn measure(&self, input: &ArrayViewD<'_, f32>, seed: &Seed, result: &mut Explanations) {
        let changed = changed(input);
        let again = self.run_chosen(changed.view(), seed, Chosen::Same(&result.explanations));
        let samples = input.shape().first().copied().unwrap_or(0);
        let changes: Vec<Vec<f64>> = match &again {
            Ok(again) => {
                result.explanations.iter().zip(&again.explanations).map(|(a, b)| change(a, b)).collect()
            }
            // The input has an explanation, its neighbour has none.
            Err(_) => vec![vec![f64::INFINITY; samples]; result.explanations.len()],
        };
        for (explanation, changes) in result.explanations.iter_mut().zip(changes) {
            explanation.sensitivity = Some(changes);
        }
    }
}

/// The input with another last digit or so in each value.
fn changed(input: &ArrayViewD<'_, f32>) -> ArrayD<f32> {
    let mut changed = input.to_owned();
    for mut sample in changed.axis_iter_mut(Axis(0)) {
        let mut rng = fastrand::Rng::with_seed(SEED);
        sample.mapv_inplace(|v| (f64::from(v) * (1.0 + CHANGE * (2.0 * rng.f64() - 1.0))) as f32);
    }
    changed
}

/// For each sample, the largest change of the map (without one, of the relevance), as a fraction of its maximum.
fn change(a: &Explanation, b: &Explanation) -> Vec<f64> {
    let maps = |e: &Explanation| match &e.map {
        Some(map) => map.clone(),
        None => e.relevance.clone(),
    };
    let (a, b) = (maps(a), maps(b));
    let of_sample = |(a, b): (ArrayViewD<'_, f32>, ArrayViewD<'_, f32>)| {
        let wide = |v: &f32| f64::from(*v);
        let largest = a.iter().map(|v| wide(v).abs()).fold(0.0, f64::max);
        let off = a.iter().zip(&b).map(|(a, b)| (wide(a) - wide(b)).abs()).fold(0.0, f64::max);
        if off == 0.0 { 0.0 } else { off / largest }
    };
    a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(0))).map(of_sample).collect()
}
