//! What keeps a map from being an explanation.

use std::fmt;

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_ir::ledger::Ledger;
use relc_rules::SeedKind;

use crate::explainer::Explanation;
use crate::request::Seed;

/// From which change on, as a fraction of its maximum, a map is said to be decided by rounding.
pub const SENSITIVE: f64 = 0.01;

/// What a reader of one sample's map has to know.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The seed is 0, so the map is.
    ZeroSeed,
    /// The seed `contrast` or the map that it gives is 0: there is no other output, or none that differs.
    NothingToContrast,
    /// The map is 0 everywhere, though the seed is not.
    ZeroMap,
    /// Rounding decides the map.
    Rounding {
        /// By how much of its maximum the map changes where the input changes in its last digits.
        change: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::ZeroSeed => f.write_str(
                "the map is zero everywhere because the seed is: the target's value is 0; the seed onehot does not \
                 depend on it",
            ),
            Warning::NothingToContrast => f.write_str(
                "there is nothing to contrast: no other output speaks for or against the target, so the map is zero \
                 but for rounding; the seed logit or onehot explains the target alone",
            ),
            Warning::ZeroMap => f.write_str(
                "the map is zero everywhere: no relevance of the target reaches the input, which explains nothing",
            ),
            Warning::Rounding { change } if change.is_finite() => write!(
                f,
                "rounding decides the map, which is no explanation: a change of the input in its last digits changes \
                 it by {:.3} % of its maximum; a split that shares by magnitudes is stable (--split ratio, or the \
                 preset conserve)",
                change * 100.0
            ),
            Warning::Rounding { .. } => f.write_str(
                "rounding decides the map, which is no explanation: where the input changes in its last digits, the \
                 relevance is beyond the numbers of f32; a split that shares by magnitudes is stable (--split ratio, \
                 or the preset conserve)",
            ),
        }
    }
}

/// What a contrast leaves of the seed's magnitude, at most, where the outputs cancel to rounding.
const CANCELLED: f64 = 1e-6;

/// For each sample, the sum of the magnitudes of its relevance.
pub(crate) fn magnitudes(relevance: &ArrayD<f32>) -> Vec<f64> {
    let of_sample = |sample: ArrayViewD<'_, f32>| sample.iter().map(|v| f64::from(v.abs())).sum();
    relevance.axis_iter(Axis(0)).map(of_sample).collect()
}

/// The warnings of each sample of an explanation by `seed`. `bounded`: relevance has the magnitude of the seed, unless its parts
/// cancel.
pub(crate) fn warnings(explanation: &Explanation, seed: &Seed, bounded: bool) -> Vec<Vec<Warning>> {
    let Explanation { relevance, ledger, sensitivity, .. } = explanation;
    warnings_of(&magnitudes(relevance), ledger, sensitivity.as_deref(), seed, bounded)
}

/// As [`warnings`], by the magnitudes of the relevance.
pub(crate) fn warnings_of(
    magnitudes: &[f64],
    ledger: &Ledger,
    sensitivity: Option<&[f64]>,
    seed: &Seed,
    bounded: bool,
) -> Vec<Vec<Warning>> {
    let contrasts = *seed == Seed::Named(SeedKind::Contrast);
    let of_sample = |(sample, magnitude): (usize, f64)| {
        let mut warnings = Vec::new();
        let seeded = ledger.totals.get(sample).map_or(1.0, |t| t.seed_magnitude);
        let cancelled = contrasts && bounded && magnitude <= CANCELLED * seeded;
        if magnitude == 0.0 || cancelled {
            warnings.push(match (contrasts, seeded > 0.0) {
                (true, _) => Warning::NothingToContrast,
                (false, false) => Warning::ZeroSeed,
                (false, true) => Warning::ZeroMap,
            });
        }
        let change = sensitivity.and_then(|all| all.get(sample).copied());
        if let Some(change) = change.filter(|change| *change > SENSITIVE) {
            warnings.push(Warning::Rounding { change });
        }
        warnings
    };
    magnitudes.iter().copied().enumerate().map(of_sample).collect()
}
