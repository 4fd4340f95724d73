//! Maps in another size.
//!
//! `image`'s own resampling takes f32 samples to lie in `[0, 1]` and would cut off negative relevance.

use ndarray::{Array2, ArrayView2};

/// What one output sample takes of the input: `weights[i]` of sample `start + i`. The weights are not negative and
/// add up to 1.
struct Tap {
    start: usize,
    weights: Vec<f32>,
}

/// The taps of a triangle filter: linear interpolation when it enlarges, and as wide as an output sample when it
/// shrinks, so that no input sample is passed over. With `from == to` each sample is kept as it is.
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let ratio = from as f64 / to as f64;
    let support = ratio.max(1.0);
    let tap = |out: usize| {
        let centre = (out as f64 + 0.5) * ratio - 0.5;
        let start = (centre - support).floor().max(0.0) as usize;
        let end = ((centre + support).ceil() as usize + 1).min(from);
        let weight = |i: usize| (1.0 - (i as f64 - centre).abs() / support).max(0.0);
        let sum: f64 = (start..end).map(weight).sum();
        Tap { start, weights: (start..end).map(|i| (weight(i) / sum) as f32).collect() }
    };
    (0..to).map(tap).collect()
}

/// A map `f32[H,W]` resampled to f32[`height`,`width`], of which no side is 0. Values stay between the map's smallest
/// and largest one, up to rounding, and where the map is 0 all around, the result is exactly 0.
pub(crate) fn stretch(map: ArrayView2<'_, f32>, height: usize, width: usize) -> Array2<f32> {
    let (rows, columns) = map.dim();
    let mut tall = Array2::<f32>::zeros((height, columns));
    for (mut row, tap) in tall.rows_mut().into_iter().zip(taps(rows, height)) {
        for (from, weight) in map.rows().into_iter().skip(tap.start).zip(tap.weights) {
            row.scaled_add(weight, &from);
        }
    }
    let mut wide = Array2::<f32>::zeros((height, width));
    let taps = taps(columns, width);
    for (from, mut row) in tall.rows().into_iter().zip(wide.rows_mut()) {
        let from = from.to_slice().unwrap_or(&[]);
        for (value, tap) in row.iter_mut().zip(&taps) {
            let from = from.get(tap.start..).unwrap_or(&[]).iter().zip(&tap.weights);
            *value = from.fold(0.0, |sum, (from, weight)| sum + weight * from);
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_same_size_changes_nothing() {
        let map = array![[1.0, -0.3, 0.1], [0.7, 0.0, -1.0]];
        assert_eq!(stretch(map.view(), 2, 3), map);
    }

    #[test]
    fn enlarging_interpolates_signed_values() {
        let wide = stretch(array![[-1.0, 1.0]].view(), 1, 4);
        assert_eq!(wide, array![[-1.0, -0.5, 0.5, 1.0]]);
    }

    #[test]
    fn shrinking_takes_every_sample_into_account() {
        let mut map = Array2::zeros((1, 64));
        for at in 0..64 {
            map.fill(0.0);
            map[(0, at)] = 1.0;
            let small = stretch(map.view(), 1, 4);
            assert!(small.sum() > 0.0, "sample {at}");
        }
        map.fill(-0.5);
        assert!(stretch(map.view(), 1, 4).iter().all(|v| (v + 0.5).abs() < 1e-6));
    }
}
