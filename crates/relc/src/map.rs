//! Maps: the relevance of pixels, `f32[N,H,W]`.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayViewD, Axis};

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

/// Enlarges (or shrinks) a map to `[height, width]` by bilinear interpolation, pixel centres on pixel centres (as
/// PyTorch's `interpolate` with `align_corners=False`).
pub fn resize_bilinear(map: ArrayView2<'_, f32>, [height, width]: [usize; 2]) -> Array2<f32> {
    let (h, w) = map.dim();
    if h == 0 || w == 0 {
        return Array2::zeros((height, width));
    }
    let at = |i: usize, from: usize, to: usize| {
        let x = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (x as usize).min(from - 1);
        (low, (low + 1).min(from - 1), x - low as f64)
    };
    Array2::from_shape_fn((height, width), |(y, x)| {
        let (top, bottom, v) = at(y, h, height);
        let (left, right, u) = at(x, w, width);
        let line = |row: usize| f64::from(map[(row, left)]) * (1.0 - u) + f64::from(map[(row, right)]) * u;
        (line(top) * (1.0 - v) + line(bottom) * v) as f32
    })
}

/// The cosine between two maps (or any two arrays of as many values); 0 if one of them is all zero.
pub fn cosine<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.into_iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { ab / (aa.sqrt() * bb.sqrt()) }
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
    fn maps_are_resized_as_by_pytorch() {
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 1.], [2., 3.]]]]), (4, 4), mode="bilinear")
        let large = resize_bilinear(array![[0.0, 1.0], [2.0, 3.0]].view(), [4, 4]);
        assert_eq!(large.row(0).to_vec(), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(large.row(1).to_vec(), [0.5, 0.75, 1.25, 1.5]);
        assert_eq!(large.row(3).to_vec(), [2.0, 2.25, 2.75, 3.0]);
        assert_eq!(resize_bilinear(array![[5.0]].view(), [1, 3]).row(0).to_vec(), [5.0; 3]);
    }

    #[test]
    fn cosines_of_equal_and_of_opposite_maps() {
        let (a, b) = ([1.0f32, 2.0, -3.0], [-2.0f32, -4.0, 6.0]);
        assert!((cosine(&a, &a) - 1.0).abs() < 1e-15);
        assert!((cosine(&a, &b) + 1.0).abs() < 1e-15);
        assert_eq!(cosine(&a, &[0.0; 3]), 0.0);
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
