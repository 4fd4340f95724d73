//! Numbers and pictures within a page.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ImageFormat, RgbImage};
use ndarray::{ArrayD, ArrayViewD, Axis, Ix2};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::PageError;

/// The largest step of a [`Grid`].
const STEPS: f32 = i16::MAX as f32;

/// A map `f32[H,W]` in two bytes a value: `value = step * scale / 32767`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The largest magnitude.
    pub scale: f32,
    /// Each value's step, row by row: `i16`, little-endian, in base64.
    pub steps: String,
}

impl Grid {
    /// What a map of one, two or three axes looks like: a signal is a row, the slices of a volume stand side by side, and
    /// more axes than that are one row.
    pub fn new(map: ArrayViewD<'_, f32>) -> Grid {
        let flat = match map.ndim() {
            2 => map.into_dimensionality::<Ix2>().map(|map| map.to_owned()),
            3 => {
                let slices: Vec<_> = map.axis_iter(Axis(0)).collect();
                let beside = ndarray::concatenate(Axis(1), &slices).unwrap_or_default();
                beside.into_dimensionality::<Ix2>()
            }
            _ => {
                let values: Vec<f32> = map.iter().copied().collect();
                let columns = values.len();
                ArrayD::from_shape_vec(vec![1, columns], values)
                    .unwrap_or_default()
                    .into_dimensionality::<Ix2>()
            }
        };
        let flat = flat.unwrap_or_default();
        let scale = flat.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
        let step = |v: &f32| if scale > 0.0 { (v / scale * STEPS).round() as i16 } else { 0 };
        let bytes: Vec<u8> = flat.iter().map(step).flat_map(i16::to_le_bytes).collect();
        let (height, width) = flat.dim();
        Grid { height, width, scale, steps: BASE64_STANDARD.encode(bytes) }
    }
}

/// A picture within a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// Pixels, which become a PNG.
    Pixels(RgbImage),
    /// An SVG document.
    Svg(String),
}

impl Picture {
    /// It as the `src` of an `img`.
    pub(crate) fn url(&self) -> Result<String, PageError> {
        match self {
            Picture::Pixels(pixels) => picture(pixels),
            Picture::Svg(text) => Ok(format!("data:image/svg+xml;base64,{}", BASE64_STANDARD.encode(text))),
        }
    }
}

/// Pixels as the `src` of an `img`: a PNG.
pub(crate) fn picture(pixels: &RgbImage) -> Result<String, PageError> {
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes.get_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, arr2};

    /// The values that a page reads.
    fn read(grid: &Grid) -> Vec<f32> {
        let bytes = BASE64_STANDARD.decode(&grid.steps).unwrap();
        let steps = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        steps.map(|step| f32::from(step) * grid.scale / STEPS).collect()
    }

    #[test]
    fn a_map_is_read_back_to_a_step() {
        let map = arr2(&[[1.0f32, -2.0, 0.5], [0.0, 2.0, 1e-9]]);
        let grid = Grid::new(map.view().into_dyn());
        assert_eq!((grid.height, grid.width, grid.scale), (2, 3, 2.0));
        for (got, expected) in read(&grid).into_iter().zip(map.iter()) {
            assert!((got - expected).abs() <= 2.0 / STEPS, "{got} {expected}");
        }
    }

    #[test]
    fn slices_stand_side_by_side_and_a_signal_is_a_row() {
        let volume = Array::from_shape_fn((2, 2, 2), |(d, h, w)| (4 * d + 2 * h + w) as f32 + 1.0);
        let grid = Grid::new(volume.view().into_dyn());
        assert_eq!((grid.height, grid.width), (2, 4));
        let values: Vec<f32> = read(&grid).into_iter().map(f32::round).collect();
        assert_eq!(values, [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
        let signal = Array::from_vec(vec![0.0f32; 5]);
        let grid = Grid::new(signal.view().into_dyn());
        assert_eq!((grid.height, grid.width, grid.scale), (1, 5, 0.0));
    }
}
