//! Maps: the relevance of pixels, `f32[N,H,W]`.

use ndarray::{Array3, ArrayD, ArrayViewD, Axis};

/// The default number of heat levels.
pub const HEAT_LEVELS: usize = 8;

/// Sums relevance `f32[N,C,H,W]` (or `f32[N,H,W,C]` with `channel_axis = 3`) over its channels, in f64.
///
/// `None` if the relevance has no such form.
pub fn sum_over_channels(relevance: ArrayViewD<'_, f32>, channel_axis: usize) -> Option<Array3<f32>> {
    if relevance.ndim() != 4 || !(1..4).contains(&channel_axis) {
        return None;
    }
    let mut sum: ArrayD<f64> = relevance.index_axis(Axis(channel_axis), 0).mapv(f64::from);
    for channel in relevance.axis_iter(Axis(channel_axis)).skip(1) {
        sum.zip_mut_with(&channel, |s, v| *s += f64::from(*v));
    }
    sum.mapv(|v| v as f32).into_dimensionality().ok()
}

/// Quantizes each map to `levels` heat levels, as the authors' code does: `edges = linspace(min, max, levels)`, and
/// every value becomes the largest edge that is not above it (Otsuki et al., ECCV 2024, "heat quantization").
pub fn quantize_heat(maps: &mut Array3<f32>, levels: usize) {
    for mut map in maps.axis_iter_mut(Axis(0)) {
        let min = map.fold(f32::INFINITY, |m, v| m.min(*v));
        let max = map.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        let span = f64::from(max) - f64::from(min);
        if levels < 2 || span <= 0.0 {
            continue;
        }
        let step = span / (levels - 1) as f64;
        let edge = |level: usize| {
            if level + 1 == levels { max } else { (f64::from(min) + step * level as f64) as f32 }
        };
        map.mapv_inplace(|v| {
            let guess = ((f64::from(v) - f64::from(min)) / step) as usize;
            // The quotient may round across an edge: the edges themselves decide.
            let level = (guess.saturating_sub(1)..=guess + 1).filter(|&l| l < levels && edge(l) <= v).max();
            edge(level.unwrap_or(0))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, array};

    #[test]
    fn channels_are_summed_in_either_layout() {
        let nchw = Array4::from_shape_fn((1, 2, 2, 3), |(_, c, h, w)| (100 * c + 10 * h + w) as f32);
        let nhwc = nchw.clone().permuted_axes([0, 2, 3, 1]);
        let a = sum_over_channels(nchw.view().into_dyn(), 1).unwrap();
        let b = sum_over_channels(nhwc.view().into_dyn(), 3).unwrap();
        assert_eq!(a, b);
        assert_eq!(a[(0, 1, 2)], 12.0 + 112.0);
    }

    #[test]
    fn heat_is_floored_to_the_edges() {
        let mut maps = array![[[0.0, 0.9, 1.0, 6.99, 7.0]]];
        quantize_heat(&mut maps, 8);
        assert_eq!(maps, array![[[0.0, 0.0, 1.0, 6.0, 7.0]]]);
        let mut constant = array![[[3.0, 3.0]]];
        quantize_heat(&mut constant, 8);
        assert_eq!(constant, array![[[3.0, 3.0]]]);
    }
}
