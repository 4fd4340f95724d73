//! How much a map changes when its input hardly does.

use super::{Explain, rng};
use crate::error::EvalError;

/// Max-sensitivity (Yeh et al., NeurIPS 2019), relative to the map: the largest `||R(x + d) - R(x)|| / ||R(x)||` over
/// random `d`, each value of it uniform in a range of `radius` times that of the picture's values either way. `None`
/// for a map of zeros.
///
/// # Errors
/// Those of `explain`.
pub fn max_sensitivity(
    values: &[f32],
    map: &[f32],
    neighbours: usize,
    radius: f64,
    seed: u64,
    explain: &Explain<'_>,
) -> Result<Option<f64>, EvalError> {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let reach = radius * (f64::from(max) - f64::from(min));
    let norm = map.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return Ok(None);
    }
    let mut largest = 0.0f64;
    for i in 0..neighbours {
        let mut rng = rng(seed, "neighbours", i);
        let near: Vec<f32> =
            values.iter().map(|v| (f64::from(*v) + reach * (2.0 * rng.f64() - 1.0)) as f32).collect();
        let other = explain(&near)?;
        let change = map.iter().zip(&other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        largest = largest.max(change.sum::<f64>().sqrt() / norm);
    }
    Ok(Some(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_change_within_the_radius_counts() {
        let values = [0.0, 1.0, 0.5, 0.25];
        let echo = |x: &[f32]| Ok(x.to_vec());
        let near = max_sensitivity(&values, &values, 50, 0.1, 0, &echo).unwrap().unwrap();
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!(near > 0.05 / f64::from(norm) && near <= 0.2 / f64::from(norm), "{near}");
        let same = |_: &[f32]| Ok(values.to_vec());
        assert_eq!(max_sensitivity(&values, &values, 5, 0.1, 0, &same).unwrap(), Some(0.0));
        assert_eq!(max_sensitivity(&values, &[0.0; 4], 5, 0.1, 0, &echo).unwrap(), None);
    }
}
