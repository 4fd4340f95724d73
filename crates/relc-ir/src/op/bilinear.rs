//! How the pixels along one axis share what they have among the pixels of another grid.

/// For each of `to` pixels, from which of `from` pixels it takes which share: in proportion to the weights by which a
/// bilinear interpolation (half-pixel centres, clamped at the edge) would read them, each pixel's shares adding up to 1. A
/// pixel that a coarser grid does not read gives all to the nearest one there.
pub fn bilinear_shares(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let (from, to) = (from.max(1), to.max(1));
    let mut taken: Vec<Vec<(usize, f64)>> = (0..to)
        .map(|q| {
            let at = (q as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let at = at.clamp(0.0, (from - 1) as f64);
            let (low, part) = (at.floor() as usize, at.fract());
            let high = (low + 1).min(from - 1);
            if part > 0.0 { vec![(low, 1.0 - part), (high, part)] } else { vec![(low, 1.0)] }
        })
        .collect();
    let mut sums = vec![0.0; from];
    taken.iter().flatten().for_each(|(p, weight)| sums[*p] += weight);
    for (p, sum) in sums.iter_mut().enumerate().filter(|(_, sum)| **sum == 0.0) {
        let nearest = ((p as f64 + 0.5) * to as f64 / from as f64) as usize;
        taken[nearest.min(to - 1)].push((p, 1.0));
        *sum = 1.0;
    }
    taken.iter_mut().flatten().for_each(|(p, weight)| *weight /= sums[*p]);
    taken
}

/// Two grids' spatial sizes, axis against axis: as they are, or else with the axes of size 1 left out of the second, the
/// first or both, so that a row is a picture of height 1. `None` where that does not make their axes as many.
pub fn matched_axes(from: &[usize], to: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let slim = |sizes: &[usize]| sizes.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
    let ways = [
        (from.to_vec(), to.to_vec()),
        (from.to_vec(), slim(to)),
        (slim(from), to.to_vec()),
        (slim(from), slim(to)),
    ];
    ways.into_iter().find(|(from, to)| from.len() == to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_picture_of_height_one() {
        let (none, row): (Vec<usize>, Vec<usize>) = (vec![], vec![3]);
        assert_eq!(matched_axes(&[2, 1], &[8, 7]), Some((vec![2, 1], vec![8, 7])));
        assert_eq!(matched_axes(&[2, 1], &[1, 8, 7]), Some((vec![2, 1], vec![8, 7])));
        assert_eq!(matched_axes(&[1, 2, 3], &[8, 7]), Some((vec![2, 3], vec![8, 7])));
        assert_eq!(matched_axes(&[1, 3], &[1, 1, 7]), Some((row, vec![7])));
        assert_eq!(matched_axes(&[1, 1], &[1]), Some((none.clone(), none)));
        assert_eq!(matched_axes(&[2, 2], &[9]), None);
    }

    #[test]
    fn every_pixel_gives_all_it_has() {
        for (from, to) in (1..9).flat_map(|from| (1..20).map(move |to| (from, to))) {
            let mut sums = vec![0.0; from];
            bilinear_shares(from, to).iter().flatten().for_each(|(p, weight)| sums[*p] += weight);
            sums.iter().for_each(|sum| assert!((sum - 1.0f64).abs() < 1e-12, "{from} -> {to}: {sums:?}"));
        }
    }

    #[test]
    fn twice_as_many_pixels_take_by_quarters() {
        // Bilinear upsampling of (a, b) to four pixels: a, (3a + b)/4, (a + 3b)/4, b; each column adds up to 2.
        let of_the_first = bilinear_shares(2, 4);
        let of_the_first: Vec<f64> = of_the_first
            .iter()
            .map(|taken| taken.iter().filter(|(p, _)| *p == 0).map(|(_, weight)| weight).sum())
            .collect();
        assert_eq!(of_the_first, [0.5, 0.375, 0.125, 0.0]);
    }
}
