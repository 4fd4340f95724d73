//! Metrics against a mask of what a map should show. All take equal pixels by expectation, so that a constant map gets
//! the share of the picture that the mask covers.

use crate::ranking::Ranking;

/// Whether the most relevant pixel lies on the mask (Zhang et al., 2018), without tolerance: 1 or 0, or the share of
/// those that tie for it. `None` if the mask is empty.
pub fn pointing_game(_: &[f32], ranking: &Ranking, mask: &[bool]) -> Option<f64> {
    mask.contains(&true).then(|| {
        let highest = ranking.highest();
        highest.iter().filter(|p| mask[**p]).count() as f64 / highest.len().max(1) as f64
    })
}

/// The share of the positive relevance that lies on the mask (Arras et al., 2022); `None` if the mask is empty or
/// nothing is positive.
pub fn relevance_mass(map: &[f32], _: &Ranking, mask: &[bool]) -> Option<f64> {
    let positive = |v: &f32| f64::from(v.max(0.0));
    let sum: f64 = map.iter().map(positive).sum();
    let inside: f64 = map.iter().zip(mask).filter(|(_, m)| **m).map(|(v, _)| positive(v)).sum();
    (mask.contains(&true) && sum > 0.0).then(|| inside / sum)
}

/// Of the `K` most relevant pixels, the share that lies on the mask, `K` the mask's size (Arras et al., 2022); `None`
/// if the mask is empty.
pub fn relevance_rank(_: &[f32], ranking: &Ranking, mask: &[bool]) -> Option<f64> {
    let size = mask.iter().filter(|m| **m).count();
    (size > 0).then(|| ranking.expected_hits(size, |p| mask[p]) / size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(map: &[f32], mask: &[bool]) -> [Option<f64>; 3] {
        let ranking = Ranking::of(map);
        [pointing_game, relevance_mass, relevance_rank].map(|f| f(map, &ranking, mask))
    }

    #[test]
    fn relevance_on_the_mask_counts() {
        let mask = [true, true, false, false, false];
        assert_eq!(all(&[5.0, 1.0, 2.0, -7.0, 0.0], &mask), [Some(1.0), Some(0.75), Some(0.5)]);
        assert_eq!(all(&[1.0; 5], &mask), [Some(0.4); 3]);
        assert_eq!(all(&[-1.0; 5], &mask), [Some(0.4), None, Some(0.4)]);
        assert_eq!(all(&[1.0; 5], &[false; 5]), [None; 3]);
    }
}
