//! Volumes, as three slices through the place of their relevance.

use image::{Rgb, RgbImage};
use ndarray::{ArrayView2, ArrayView3, Axis};

use crate::VizError;
use crate::render::{MAX_SIDE, Style, draw_heat, draw_overlay, limits, scaled};

/// Pixels around a slice.
const GAP: u32 = 8;

/// The slices of a volume's relevance, side by side: across its depth, its height and its width, all through
/// [`centre()`], in one scale of colours.
///
/// `map` is `f32[D,H,W]`; with `values`, `f32[D,H,W]` as well, the slices lie over those of the volume in grey.
///
/// # Errors
/// As [`crate::heat_map`], and if both have not one shape.
pub fn slices(
    map: ArrayView3<'_, f32>,
    values: Option<ArrayView3<'_, f32>>,
    style: &Style,
) -> Result<RgbImage, VizError> {
    let (depth, height, width) = map.dim();
    // Three slices side by side stay a picture.
    let most = MAX_SIDE / 4;
    let fits = |size: usize| (1..=most).contains(&size);
    if !fits(depth) || !fits(height) || !fits(width) || values.is_some_and(|v| v.dim() != map.dim()) {
        return Err(VizError::Size { width, height });
    }
    if let Some(((d, h, w), value)) = map.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(VizError::NonFinite { value: *value, row: d * height + h, column: w });
    }
    let high = limits(map.iter().copied(), style).high;
    // One factor for all, so that a voxel is as large in each.
    let factor = style.factor(width.max(height) as u32, height.max(depth) as u32);
    let range = values.map(range).unwrap_or_default();
    let panel = |axis: usize, at: usize| {
        let scaled = scaled(map.index_axis(Axis(axis), at), high, style);
        match values {
            Some(values) => {
                let picture = grey(values.index_axis(Axis(axis), at), range);
                draw_overlay(&picture, &scaled, style, factor)
            }
            None => draw_heat(&scaled, style, factor),
        }
    };
    let panels: Vec<RgbImage> =
        centre(map).into_iter().enumerate().map(|(axis, at)| panel(axis, at)).collect();
    let wide = panels.iter().map(|p| p.width() + GAP).sum::<u32>() + GAP;
    let high = panels.iter().map(RgbImage::height).max().unwrap_or(0) + 2 * GAP;
    let mut sheet = RgbImage::from_pixel(wide, high, Rgb([255; 3]));
    let mut left = GAP;
    for panel in &panels {
        image::imageops::replace(&mut sheet, panel, i64::from(left), i64::from(GAP));
        left += panel.width() + GAP;
    }
    Ok(sheet)
}

/// The place `[d,h,w]` about which the magnitude of a map lies: its mean place, weighted by it.
pub fn centre(map: ArrayView3<'_, f32>) -> [usize; 3] {
    let (mut total, mut sums) = (0.0, [0.0; 3]);
    for ((d, h, w), value) in map.indexed_iter() {
        let weight = f64::from(value.abs());
        total += weight;
        sums.iter_mut().zip([d, h, w]).for_each(|(sum, at)| *sum += weight * at as f64);
    }
    let (depth, height, width) = map.dim();
    let size = [depth, height, width];
    std::array::from_fn(|axis| {
        let middle = size[axis].saturating_sub(1) / 2;
        let at = if total > 0.0 { (sums[axis] / total).round() as usize } else { middle };
        at.min(size[axis].saturating_sub(1))
    })
}

/// The smallest and the largest finite value of a volume.
fn range(volume: ArrayView3<'_, f32>) -> [f32; 2] {
    let finite = volume.iter().copied().filter(|v| v.is_finite());
    finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[least, most], v| [least.min(v), most.max(v)])
}

/// A slice in grey: black is the smallest value of its volume, white the largest.
fn grey(slice: ArrayView2<'_, f32>, [least, most]: [f32; 2]) -> RgbImage {
    let span = if most > least { most - least } else { 1.0 };
    RgbImage::from_fn(slice.ncols() as u32, slice.nrows() as u32, |x, y| {
        let value = slice[(y as usize, x as usize)];
        Rgb([(((value - least) / span).clamp(0.0, 1.0) * 255.0).round() as u8; 3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColorMap;
    use ndarray::Array3;

    #[test]
    fn slices_go_through_the_relevance() {
        let mut map = Array3::zeros((4, 5, 6));
        map[(3, 1, 4)] = 2.0;
        map[(1, 1, 4)] = -2.0;
        assert_eq!(centre(map.view()), [2, 1, 4]);
        assert_eq!(centre(Array3::zeros((4, 5, 7)).view()), [1, 2, 3]);
        let style = Style { min_side: 1, ..Style::new(ColorMap::Bwr) };
        let picture = slices(map.view(), None, &style).unwrap();
        // The slices over width 6 and height 4 hold both voxels; that of depth 2 none.
        let red = picture.pixels().filter(|p| p.0 == [255, 0, 0]).count();
        let blue = picture.pixels().filter(|p| p.0 == [0, 0, 255]).count();
        assert_eq!((red, blue), (2, 2));
    }

    #[test]
    fn all_slices_have_one_scale() {
        let mut map = Array3::zeros((3, 3, 3));
        map[(1, 1, 1)] = 1.0;
        map[(1, 1, 2)] = 0.5;
        map[(2, 1, 1)] = 0.5;
        let style = Style { min_side: 1, clip: 100.0, ..Style::new(ColorMap::Bwr) };
        let picture = slices(map.view(), None, &style).unwrap();
        let half = picture.pixels().filter(|p| p.0[0] == 255 && (100..200).contains(&p.0[1])).count();
        assert_eq!(half, 4, "two slices have one voxel of half the relevance each, one has both");
    }

    #[test]
    fn volumes_lie_under_their_slices() {
        let map = Array3::zeros((3, 4, 5));
        let values = Array3::from_shape_fn((3, 4, 5), |(d, h, w)| (d + h + w) as f32);
        let picture = slices(map.view(), Some(values.view()), &Style::new(ColorMap::Seismic)).unwrap();
        assert!(picture.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
        assert!(
            slices(map.view(), Some(Array3::zeros((3, 4, 4)).view()), &Style::new(ColorMap::Bwr)).is_err()
        );
        assert!(slices(Array3::zeros((0, 4, 4)).view(), None, &Style::new(ColorMap::Bwr)).is_err());
    }
}
