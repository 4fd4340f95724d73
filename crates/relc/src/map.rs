//! Maps: the relevance of pixels, `f32[N,..]` with the input's spatial axes.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};
use relc_ir::op::MAX_SPATIAL;

/// The default number of heat levels.
pub const HEAT_LEVELS: usize = 8;

/// Sums relevance of one to three spatial axes, `f32[N,C,..]` (or, say, `f32[N,H,W,C]` with `channel_axis = 3`), over its
/// channels, in f64: `f32[N,..]`.
///
/// `None` if the relevance has no such form.
pub fn sum_over_channels(relevance: ArrayViewD<'_, f32>, channel_axis: usize) -> Option<ArrayD<f32>> {
    if !(3..=2 + MAX_SPATIAL).contains(&relevance.ndim()) || !(1..relevance.ndim()).contains(&channel_axis) {
        return None;
    }
    let mut channels = relevance.axis_iter(Axis(channel_axis));
    let mut sum: ArrayD<f64> = channels.next()?.mapv(f64::from);
    for channel in channels {
        sum.zip_mut_with(&channel, |s, v| *s += f64::from(*v));
    }
    Some(sum.mapv(|v| v as f32))
}

/// Enlarges (or shrinks) a map of any number of axes to `size` by (bi-, tri-)linear interpolation, pixel centres on pixel
/// centres (as PyTorch's `interpolate` with `align_corners=False`), in f64.
///
/// `None` if `size` is of other axes, or the map has none.
pub fn resize_linear(map: ArrayViewD<'_, f32>, size: &[usize]) -> Option<ArrayD<f32>> {
    if map.ndim() != size.len() || map.is_empty() {
        return None;
    }
    let mut map = map.mapv(f64::from);
    // The last axis first.
    for (axis, to) in size.iter().copied().enumerate().rev() {
        let from = map.len_of(Axis(axis));
        let mut shape = map.shape().to_vec();
        shape[axis] = to;
        let mut larger = ArrayD::zeros(IxDyn(&shape));
        for (i, mut line) in larger.axis_iter_mut(Axis(axis)).enumerate() {
            let x = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let low = (x as usize).min(from - 1);
            let (high, part) = ((low + 1).min(from - 1), x - low as f64);
            line.assign(&map.index_axis(Axis(axis), low));
            line.zip_mut_with(&map.index_axis(Axis(axis), high), |a: &mut f64, b: &f64| {
                *a = *a * (1.0 - part) + *b * part;
            });
        }
        map = larger;
    }
    Some(map.mapv(|v| v as f32))
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
pub fn quantize_heat(maps: &mut ArrayD<f32>, levels: usize) {
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
        assert_eq!(a[[0, 1, 2]], 12.0 + 112.0);
        let signal = array![[[1.0, 2.0], [10.0, 20.0]]].into_dyn();
        assert_eq!(sum_over_channels(signal.view(), 1).unwrap(), array![[11.0, 22.0]].into_dyn());
        assert_eq!(sum_over_channels(array![[1.0]].into_dyn().view(), 1), None);
    }

    #[test]
    fn maps_are_resized_as_by_pytorch() {
        let resized = |map: ArrayD<f32>, size: &[usize]| resize_linear(map.view(), size).unwrap();
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 1.], [2., 3.]]]]), (4, 4), mode="bilinear")
        let large = resized(array![[0.0, 1.0], [2.0, 3.0]].into_dyn(), &[4, 4]);
        assert_eq!(large.index_axis(Axis(0), 0), array![0.0, 0.25, 0.75, 1.0].into_dyn());
        assert_eq!(large.index_axis(Axis(0), 1), array![0.5, 0.75, 1.25, 1.5].into_dyn());
        assert_eq!(large.index_axis(Axis(0), 3), array![2.0, 2.25, 2.75, 3.0].into_dyn());
        assert_eq!(resized(array![[5.0]].into_dyn(), &[1, 3]), array![[5.0, 5.0, 5.0]].into_dyn());
        // interpolate(torch.arange(8.).reshape(1, 1, 2, 2, 2), (2, 2, 4), mode="trilinear")
        let volume = ArrayD::from_shape_fn(IxDyn(&[2, 2, 2]), |i| (4 * i[0] + 2 * i[1] + i[2]) as f32);
        let large = resized(volume, &[2, 2, 4]);
        assert_eq!(large.iter().skip(4).take(4).copied().collect::<Vec<f32>>(), [2.0, 2.25, 2.75, 3.0]);
        assert_eq!(resized(array![0.0, 2.0].into_dyn(), &[1]), array![1.0].into_dyn());
        assert_eq!(resize_linear(array![0.0, 2.0].into_dyn().view(), &[1, 1]), None);
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
        let mut maps = array![[[0.0, 0.9, 1.0, 6.99, 7.0]]].into_dyn();
        quantize_heat(&mut maps, 8);
        assert_eq!(maps, array![[[0.0, 0.0, 1.0, 6.0, 7.0]]].into_dyn());
        let mut constant = array![[[3.0, 3.0]]].into_dyn();
        quantize_heat(&mut constant, 8);
        assert_eq!(constant, array![[[3.0, 3.0]]].into_dyn());
    }
}
