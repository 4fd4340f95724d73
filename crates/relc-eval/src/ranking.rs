//! The order in which pixels are taken, and what is done where pixels are equal.

use fastrand::Rng;

/// What happens to pixels of equal relevance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// They are ordered at random; what depends on it is averaged over as many orders.
    Strict {
        /// How many orders.
        orders: usize,
    },
    /// They enter together, all that are as large as the last one that is due: the authors' protocol, in which a
    /// constant map shows the whole picture in the first step.
    Together,
}

/// The pixels of a map, from the most relevant to the least.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// The pixels; equal ones by their index.
    order: Vec<usize>,
    /// For each rank, where the pixels that are equal to it end.
    end: Vec<usize>,
}

impl Ranking {
    /// Ranks a map, whose values are finite. The two zeros are equal.
    pub fn of(map: &[f32]) -> Ranking {
        let mut order: Vec<usize> = (0..map.len()).collect();
        let value = |pixel: usize| map[pixel] + 0.0;
        order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
        let mut end = vec![map.len(); map.len()];
        for rank in (1..map.len()).rev() {
            end[rank - 1] = if value(order[rank - 1]) == value(order[rank]) { end[rank] } else { rank };
        }
        Ranking { order, end }
    }

    /// Where the pixels that are equal to the last of the first `count` end.
    pub fn with_equals(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.end[last])
    }

    /// Whether it does not depend on the order of equal pixels which are the first `count`.
    pub fn is_settled(&self, count: usize) -> bool {
        self.with_equals(count) == count
    }

    /// Whether any two pixels are equal.
    pub fn has_ties(&self) -> bool {
        self.end.iter().enumerate().any(|(rank, end)| *end != rank + 1)
    }

    /// The rank of each pixel, with equal ones in a random order.
    pub fn ranks(&self, rng: &mut Rng) -> Vec<usize> {
        let mut order = self.order.clone();
        let mut start = 0;
        while start < order.len() {
            let end = self.end[start];
            rng.shuffle(&mut order[start..end]);
            start = end;
        }
        let mut ranks = vec![0; order.len()];
        order.iter().enumerate().for_each(|(rank, pixel)| ranks[*pixel] = rank);
        ranks
    }

    /// The pixels that share the highest value.
    pub fn highest(&self) -> &[usize] {
        &self.order[..self.with_equals(1)]
    }

    /// Of the first `count` pixels, how many satisfy `is_in`; of those that tie for the last places, their share.
    pub fn expected_hits(&self, count: usize, is_in: impl Fn(usize) -> bool) -> f64 {
        let hits = |pixels: &[usize]| pixels.iter().filter(|p| is_in(**p)).count() as f64;
        let end = self.with_equals(count);
        let start = self.end.iter().take(count).rposition(|e| *e < end).map_or(0, |rank| rank + 1);
        let tied = &self.order[start..end];
        hits(&self.order[..start]) + hits(tied) * (count - start) as f64 / tied.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pixels_change_places_and_no_others() {
        let map = [0.0, 3.0, -0.0, 1.0, 0.0, -2.0];
        let ranking = Ranking::of(&map);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..60 {
            let ranks = ranking.ranks(&mut Rng::with_seed(seed));
            assert_eq!((ranks[1], ranks[3], ranks[5]), (0, 1, 5));
            seen.insert([ranks[0], ranks[2], ranks[4]]);
        }
        assert_eq!(seen.len(), 6, "every order of three equal pixels occurs");
        let settled: Vec<bool> = (0..=6).map(|n| ranking.is_settled(n)).collect();
        assert_eq!(settled, [true, true, true, false, false, true, true]);
        assert_eq!(ranking.with_equals(3), 5);
        assert!(ranking.has_ties() && !Ranking::of(&[1.0, 0.0]).has_ties());
    }

    #[test]
    fn hits_among_the_first_are_expected_over_orders() {
        let ranking = Ranking::of(&[5.0, 1.0, 1.0, 1.0, 0.0]);
        let in_it = |p: usize| p == 0 || p == 2;
        assert_eq!(ranking.expected_hits(1, in_it), 1.0);
        assert!((ranking.expected_hits(2, in_it) - (1.0 + 1.0 / 3.0)).abs() < 1e-12);
        assert_eq!(ranking.expected_hits(4, in_it), 2.0);
        assert_eq!(ranking.highest(), [0]);
        assert_eq!(Ranking::of(&[2.0, 2.0]).expected_hits(1, |p| p == 1), 0.5);
        assert_eq!(ranking.expected_hits(0, in_it), 0.0);
    }
}
