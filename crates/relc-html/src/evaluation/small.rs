//! Pictures and maps as small as a page needs them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};
use ndarray::{Array2, ArrayD, ArrayView3, Axis, Ix3};

use crate::array::{Grid, Picture};
use crate::error::PageError;

/// The longest side of an embedded picture.
const LONGEST: u32 = 160;
/// The quality of embedded JPEGs.
const QUALITY: u8 = 85;

/// A picture as the `src` of an `img`, made smaller where it is large: a PNG, or a JPEG where that takes fewer bytes.
pub fn embedded(picture: &RgbImage) -> Result<String, PageError> {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    let side = |side: u32| (side * LONGEST / longest).max(1);
    let picture = match longest > LONGEST {
        true => imageops::thumbnail(picture, side(width), side(height)),
        false => picture.clone(),
    };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&picture)?;
    let jpeg = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes));
    let png = Picture::Pixels(picture).url()?;
    Ok(if png.len() <= jpeg.len() { png } else { jpeg })
}

/// A map of at most so many values, each the mean of a square. The slices of a volume stand in rows.
pub fn small(map: &ArrayD<f32>, most: usize) -> Grid {
    let axes = map.ndim().saturating_sub(2)..map.ndim();
    let values = |factor: usize| -> usize {
        let side = |(axis, side): (usize, &usize)| match axes.contains(&axis) {
            true => side.div_ceil(factor),
            false => *side,
        };
        map.shape().iter().enumerate().map(side).product()
    };
    let longest = map.shape().iter().copied().max().unwrap_or(1);
    let factor = (1..longest).find(|factor| values(*factor) <= most).unwrap_or(longest.max(1));
    let mut map = map.clone();
    for axis in axes.map(Axis) {
        let means: Vec<ArrayD<f32>> =
            map.axis_chunks_iter(axis, factor).filter_map(|part| part.mean_axis(axis)).collect();
        let means: Vec<_> = means.iter().map(|part| part.view()).collect();
        map = ndarray::stack(axis, &means).unwrap_or_default();
    }
    match map.view().into_dimensionality::<Ix3>() {
        Ok(slices) => Grid::new(in_rows(slices).view().into_dyn()),
        Err(_) => Grid::new(map.view()),
    }
}

/// The slices of a volume row by row, as many in a row as there are rows; what is left over is 0.
fn in_rows(slices: ArrayView3<'_, f32>) -> Array2<f32> {
    let (count, height, width) = slices.dim();
    let across = (1..count).find(|across| across * across >= count).unwrap_or(count.max(1));
    let mut rows = Array2::zeros((count.div_ceil(across) * height, across * width));
    if height > 0 && width > 0 {
        let places = rows.exact_chunks_mut((height, width));
        places.into_iter().zip(slices.outer_iter()).for_each(|(mut place, slice)| place.assign(&slice));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use ndarray::{Array, IxDyn};

    #[test]
    fn large_maps_are_averaged_and_signals_and_volumes_stay_what_they_are() {
        let map = Array::from_shape_fn((224, 224), |(y, x)| (y / 2) as f32 - (x / 2) as f32).into_dyn();
        let grid = small(&map, 112 * 112);
        assert_eq!((grid.height, grid.width, grid.scale), (112, 112, 111.0));
        let grid = small(&map, 224 * 224);
        assert_eq!((grid.height, grid.width), (224, 224));
        let signal = small(&ArrayD::from_elem(IxDyn(&[3000]), 1.0), 1000);
        assert_eq!((signal.height, signal.width, signal.scale), (1, 1000, 1.0));
        // Three slices of 10 x 10 in two rows.
        let volume = small(&ArrayD::from_elem(IxDyn(&[3, 20, 20]), -1.0), 300);
        assert_eq!((volume.height, volume.width, volume.scale), (20, 20, 1.0));
        assert_eq!(small(&ArrayD::zeros(IxDyn(&[0])), 10).width, 0);
    }

    #[test]
    fn photographs_are_small_jpegs_and_drawings_pngs() {
        let drawing = RgbImage::from_pixel(64, 64, Rgb([255, 0, 0]));
        assert!(embedded(&drawing).unwrap().starts_with("data:image/png;base64,"));
        let noise =
            |x: u32, y: u32| Rgb([((x * 7919 + y * 104_729) % 251) as u8, (x % 256) as u8, (y % 256) as u8]);
        let photograph = embedded(&RgbImage::from_fn(448, 300, noise)).unwrap();
        assert!(photograph.starts_with("data:image/jpeg;base64,"));
        assert!(photograph.len() < 60_000, "{}", photograph.len());
    }
}
