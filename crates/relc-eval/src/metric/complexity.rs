//! How concentrated a map is. Neither end is good by itself: a single pixel is as sparse as can be.

/// The Gini index of the magnitudes (Chalasani et al., ICML 2020): 0 if all are equal, near 1 if a few hold all;
/// `None` for a map of zeros.
///
/// `sum_i (2 i - n - 1) |r_i| / (n sum |r|)`, magnitudes ascending, `i` from 1.
pub fn sparseness(map: &[f32]) -> Option<f64> {
    let mut magnitudes: Vec<f64> = map.iter().map(|v| f64::from(v.abs())).collect();
    magnitudes.sort_by(f64::total_cmp);
    let n = magnitudes.len() as f64;
    let sum: f64 = magnitudes.iter().sum();
    let weighted = magnitudes.iter().enumerate().map(|(i, m)| (2.0 * (i + 1) as f64 - n - 1.0) * m);
    (sum > 0.0).then(|| weighted.sum::<f64>() / (n * sum))
}

/// The entropy of the magnitudes as shares of their sum, in nats (Bhatt et al., IJCAI 2020); `None` for a map of zeros.
pub fn complexity(map: &[f32]) -> Option<f64> {
    let sum: f64 = map.iter().map(|v| f64::from(v.abs())).sum();
    let shares = map.iter().map(|v| f64::from(v.abs()) / sum).filter(|p| *p > 0.0);
    (sum > 0.0).then(|| shares.map(|p| -p * p.ln()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_and_a_single_one_are_the_ends() {
        assert!(sparseness(&[2.0, -2.0, 2.0, 2.0]).unwrap().abs() < 1e-12);
        assert!((complexity(&[2.0, -2.0, 2.0, 2.0]).unwrap() - 4.0f64.ln()).abs() < 1e-12);
        let mut one = vec![0.0; 100];
        one[17] = -3.0;
        assert!((sparseness(&one).unwrap() - 0.99).abs() < 1e-12);
        assert_eq!(complexity(&one), Some(0.0));
        assert_eq!((sparseness(&[0.0; 3]), complexity(&[0.0; 3])), (None, None));
    }
}
