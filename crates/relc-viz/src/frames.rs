//! Videos: the relevance of each frame over the frame, all in one scale of colours.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use ndarray::{ArrayView3, Axis};

use crate::VizError;
use crate::bar::write;
use crate::render::{MAX_SIDE, Scale, Style, contact_sheet, draw_overlay, limits, scaled};

/// The longer side of a frame on a sheet, at most.
const TILE: u32 = 320;
/// The most frames on a sheet.
const TILES: usize = 64;
/// Pixels around a frame.
const GAP: u32 = 6;
/// Pixels of the line above a frame, which has its number.
const LINE: u32 = 12;

/// A video and its map, to be drawn frame by frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameOverlays<'a> {
    map: ArrayView3<'a, f32>,
    pictures: &'a [RgbImage],
    style: Style,
    scale: Scale,
}

impl<'a> FrameOverlays<'a> {
    /// For a map `f32[T,H,W]` and as many pictures.
    ///
    /// # Errors
    /// If there is no frame or another number of pictures, a value is not finite, or the size is out of range.
    pub fn new(
        map: ArrayView3<'a, f32>,
        pictures: &'a [RgbImage],
        style: Style,
    ) -> Result<FrameOverlays<'a>, VizError> {
        let (frames, height, width) = map.dim();
        let fits = |side: usize| (1..=MAX_SIDE).contains(&side);
        let drawable = |picture: &RgbImage| fits(picture.width() as usize) && fits(picture.height() as usize);
        if frames == 0
            || frames != pictures.len()
            || !fits(height)
            || !fits(width)
            || !pictures.iter().all(drawable)
        {
            return Err(VizError::Size { width, height });
        }
        if let Some(((frame, row, column), value)) = map.indexed_iter().find(|(_, v)| !v.is_finite()) {
            return Err(VizError::NonFinite { value: *value, row: frame * height + row, column });
        }
        Ok(FrameOverlays { map, pictures, style, scale: limits(map.iter().copied(), &style) })
    }

    /// What the colours of every frame stand for.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The overlays, one frame after the other.
    pub fn overlays(&self) -> impl ExactSizeIterator<Item = RgbImage> + use<'a> {
        let (map, style, high) = (self.map, self.style, self.scale.high);
        self.pictures.iter().enumerate().map(move |(i, picture)| {
            let values = scaled(map.index_axis(Axis(0), i), high, &style);
            draw_overlay(picture, &values, &style, style.factor(picture.width(), picture.height()))
        })
    }

    /// The overlays in rows, each under its number in `numbers`; of more than 64 frames, as many of them, evenly.
    ///
    /// # Errors
    /// If the sheet would be too large.
    pub fn sheet(&self, numbers: &[usize]) -> Result<RgbImage, VizError> {
        let step = self.pictures.len().div_ceil(TILES);
        let shown = self.overlays().enumerate().filter(|(i, _)| i % step == 0);
        let tiles: Vec<RgbImage> =
            shown.map(|(i, overlay)| tile(&overlay, numbers.get(i).copied().unwrap_or(i))).collect();
        let columns = (tiles.len() as f64).sqrt().ceil() as usize;
        let rows: Vec<Vec<RgbImage>> = tiles.chunks(columns.max(1)).map(<[RgbImage]>::to_vec).collect();
        contact_sheet(&rows, GAP)
    }
}

/// A frame under its number, no larger than a tile.
fn tile(overlay: &RgbImage, number: usize) -> RgbImage {
    let (width, height) = overlay.dimensions();
    let shrunk = |side: u32| (u64::from(side) * u64::from(TILE) / u64::from(width.max(height))).max(1) as u32;
    let small = match width.max(height) > TILE {
        true => imageops::resize(overlay, shrunk(width), shrunk(height), FilterType::Triangle),
        false => overlay.clone(),
    };
    let mut tile = RgbImage::from_pixel(small.width(), small.height() + LINE, Rgb([255; 3]));
    write(&mut tile, &number.to_string(), 0, 2, 1);
    imageops::replace(&mut tile, &small, 0, i64::from(LINE));
    tile
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColorMap;
    use ndarray::Array3;

    fn style() -> Style {
        Style { min_side: 1, clip: 100.0, ..Style::new(ColorMap::Bwr) }
    }

    #[test]
    fn all_frames_have_one_scale() {
        let mut map = Array3::zeros((3, 2, 2));
        map[(0, 0, 0)] = 1.0;
        map[(2, 0, 0)] = 0.25;
        let pictures = vec![RgbImage::new(2, 2); 3];
        let frames = FrameOverlays::new(map.view(), &pictures, style()).unwrap();
        assert_eq!((frames.scale().low, frames.scale().high), (-1.0, 1.0));
        let red: Vec<u8> = frames.overlays().map(|overlay| overlay.get_pixel(0, 0).0[0]).collect();
        assert!(red[0] > red[2] && red[2] > red[1], "{red:?}");
    }

    #[test]
    fn a_sheet_has_a_tile_with_a_number_for_each_frame() {
        let map = Array3::zeros((5, 20, 30));
        let pictures = vec![RgbImage::new(30, 20); 5];
        let frames = FrameOverlays::new(map.view(), &pictures, style()).unwrap();
        let sheet = frames.sheet(&[0, 2, 4, 6, 8]).unwrap();
        assert_eq!(sheet.dimensions(), (3 * 36 + 6, 2 * 38 + 6));
        let black = |left: u32, top: u32| {
            let line = (left..left + 8).flat_map(|x| (top..top + LINE).map(move |y| (x, y)));
            line.filter(|(x, y)| sheet.get_pixel(*x, *y).0 == [0; 3]).count()
        };
        assert!(
            black(6, 6) > 10 && black(42, 44) > 10 && black(78, 44) == 0,
            "the numbers, and none without a frame"
        );
        let many = vec![RgbImage::new(3, 3); 200];
        let map = Array3::zeros((200, 3, 3));
        let sheet = FrameOverlays::new(map.view(), &many, style()).unwrap().sheet(&[]).unwrap();
        assert_eq!(sheet.dimensions(), (8 * 9 + 6, 7 * 21 + 6), "every fourth of them");
    }

    #[test]
    fn what_is_no_video_is_an_error() {
        let map = Array3::zeros((2, 3, 3));
        assert!(FrameOverlays::new(map.view(), &[RgbImage::new(3, 3)], style()).is_err());
        assert!(FrameOverlays::new(Array3::zeros((0, 3, 3)).view(), &[], style()).is_err());
        let nan = Array3::from_elem((1, 3, 3), f32::NAN);
        assert!(FrameOverlays::new(nan.view(), &[RgbImage::new(3, 3)], style()).is_err());
    }
}
