//! Maps and pictures to pictures.

use image::imageops;
use image::{Rgb, RgbImage};
use ndarray::{Array2, ArrayView2};

use crate::stretch::stretch;
use crate::{ColorMap, VizError};

/// How maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// The colours.
    pub colormap: ColorMap,
    /// The magnitude that gets the last colour is this percentile of all magnitudes (100: the largest); larger ones
    /// are drawn as if they were that large. For unsigned colour maps the magnitude of a value below zero is 0.
    pub clip: f64,
    /// Small pictures are enlarged by a whole factor until their shorter side has at least this many pixels, as far
    /// as the longer one stays within the 16384 pixels that a picture can have.
    pub min_side: u32,
}

/// The most pixels each way.
pub(crate) const MAX_SIDE: usize = 16384;

impl Style {
    /// A style that clips at the 99.5th percentile, so that single pixels don't darken the rest, and enlarges to 256
    /// pixels.
    pub fn new(colormap: ColorMap) -> Self {
        Style { colormap, clip: 99.5, min_side: 256 }
    }

    /// By how much a picture of this size is enlarged.
    pub(crate) fn factor(&self, width: u32, height: u32) -> u32 {
        let most = MAX_SIDE as u32 / width.max(height).max(1);
        self.min_side.div_ceil(width.min(height).max(1)).min(most).max(1)
    }
}

fn check_size(width: usize, height: usize) -> Result<(u32, u32), VizError> {
    let fits = |n: usize| (1..=MAX_SIDE).contains(&n);
    if !fits(width) || !fits(height) {
        return Err(VizError::Size { width, height });
    }
    Ok((width as u32, height as u32))
}

/// What the colours of a map stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value that has the first colour: `-high`, or 0 for unsigned colour maps.
    pub low: f32,
    /// The value that has the last colour; 0 for a map of zeros.
    pub high: f32,
    /// How many values lie beyond, and are drawn as if they were that large.
    pub clipped: usize,
}

/// What the colours stand for when a map is drawn in a style.
///
/// # Errors
/// As [`heat_map`].
pub fn scale(map: ArrayView2<'_, f32>, style: &Style) -> Result<Scale, VizError> {
    let (rows, columns) = map.dim();
    check_size(columns, rows)?;
    if let Some(((row, column), value)) = map.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(VizError::NonFinite { value: *value, row, column });
    }
    Ok(limits(map.iter().copied(), style))
}

/// What the colours stand for when finite values are drawn in a style.
pub fn limits(values: impl Iterator<Item = f32>, style: &Style) -> Scale {
    let signed = style.colormap.is_signed();
    let mut magnitudes: Vec<f32> = values.map(|v| if signed { v.abs() } else { v.max(0.0) }).collect();
    let largest = magnitudes.iter().copied().max_by(f32::total_cmp).unwrap_or(0.0);
    let rank =
        (magnitudes.len().saturating_sub(1) as f64 * (style.clip / 100.0).clamp(0.0, 1.0)).round() as usize;
    // Where nearly all of a map is zero, the percentile is too: then the largest magnitude is the scale.
    let percentile = match rank < magnitudes.len() {
        true => *magnitudes.select_nth_unstable_by(rank, f32::total_cmp).1,
        false => 0.0,
    };
    let high = if percentile > 0.0 { percentile } else { largest };
    let clipped = magnitudes.iter().filter(|m| **m > high).count();
    Scale { low: if signed { 0.0 - high } else { 0.0 }, high, clipped }
}

/// The map divided by its clipped largest magnitude: values in `[-1, 1]`, or `[0, 1]` for unsigned colour maps; all 0
/// for a map of zeros.
fn normalise(map: ArrayView2<'_, f32>, style: &Style) -> Result<Array2<f32>, VizError> {
    Ok(scaled(map, scale(map, style)?.high, style))
}

/// The map divided by `high`, as [`normalise`].
pub(crate) fn scaled(map: ArrayView2<'_, f32>, high: f32, style: &Style) -> Array2<f32> {
    let lowest = if style.colormap.is_signed() { -1.0 } else { 0.0 };
    map.mapv(|v| if high > 0.0 { (v / high).clamp(lowest, 1.0) } else { 0.0 })
}

/// The colour of a value in `[-1, 1]`; 0 and opposite values are exact about the middle of a signed table.
pub(crate) fn color(table: &[Rgb<u8>], signed: bool, value: f32) -> Rgb<u8> {
    let last = table.len().saturating_sub(1);
    let middle = if signed { last / 2 } else { 0 };
    let distance = nearest(value.abs().min(1.0) * (last - middle) as f32) as usize;
    let index = if value < 0.0 { middle.saturating_sub(distance) } else { middle + distance };
    table.get(index).copied().unwrap_or(Rgb([0; 3]))
}

/// The nearest whole number of one that is not negative; halves go up, as they do in `f32::round`, which is a call on
/// many machines.
fn nearest(value: f32) -> u32 {
    let whole = value as u32;
    whole + u32::from(value - whole as f32 >= 0.5)
}

/// Draws a map `f32[H,W]`; each value is a square of whole pixels.
///
/// # Errors
/// If a value is not finite, or the size is out of range.
pub fn heat_map(map: ArrayView2<'_, f32>, style: &Style) -> Result<RgbImage, VizError> {
    let values = normalise(map, style)?;
    let factor = style.factor(values.ncols() as u32, values.nrows() as u32);
    Ok(draw_heat(&values, style, factor))
}

/// Draws values in `[-1, 1]`, each as a square of so many pixels.
pub(crate) fn draw_heat(values: &Array2<f32>, style: &Style, factor: u32) -> RgbImage {
    let table = style.colormap.table();
    let signed = style.colormap.is_signed();
    let small = RgbImage::from_fn(values.ncols() as u32, values.nrows() as u32, |x, y| {
        color(&table, signed, values[(y as usize, x as usize)])
    });
    enlarge(&small, factor)
}

/// Each pixel as a square: `image`'s resampling would weigh and round what is only copied.
fn enlarge(picture: &RgbImage, factor: u32) -> RgbImage {
    let factor = factor.max(1);
    let mut large = RgbImage::new(picture.width() * factor, picture.height() * factor);
    let (row, times) = (large.width() as usize * 3, factor as usize);
    if row > 0 {
        for (from, rows) in picture.rows().zip(large.chunks_exact_mut(row * times)) {
            let (first, rest) = rows.split_at_mut(row);
            for (pixel, square) in from.zip(first.chunks_exact_mut(3 * times)) {
                square.chunks_exact_mut(3).for_each(|to| to.copy_from_slice(&pixel.0));
            }
            rest.chunks_exact_mut(row).for_each(|to| to.copy_from_slice(first));
        }
    }
    large
}

/// Draws a map `f32[H,W]` over its picture in grey: the colours of [`heat_map`], with an opacity of 0.9 times the
/// square root of the scaled magnitude, so that a pixel without relevance shows the picture alone and no pixel hides
/// it. All colour is the map's: a red roof and a blue sky are no relevance. The picture is enlarged as
/// [`Style::min_side`] says; the map is stretched to its size by linear interpolation.
///
/// # Errors
/// As [`heat_map`].
pub fn overlay(picture: &RgbImage, map: ArrayView2<'_, f32>, style: &Style) -> Result<RgbImage, VizError> {
    check_size(picture.width() as usize, picture.height() as usize)?;
    let values = normalise(map, style)?;
    Ok(draw_overlay(picture, &values, style, style.factor(picture.width(), picture.height())))
}

/// Draws values in `[-1, 1]` over a picture that is enlarged by a factor.
pub(crate) fn draw_overlay(picture: &RgbImage, values: &Array2<f32>, style: &Style, factor: u32) -> RgbImage {
    let mut drawn = enlarge(&grey(picture), factor);
    let (width, height) = drawn.dimensions();
    let values = stretch(values.view(), height as usize, width as usize);
    let table = style.colormap.table();
    let signed = style.colormap.is_signed();
    for (pixel, value) in drawn.pixels_mut().zip(&values) {
        // The square root lifts weak relevance above the picture.
        let opacity = value.abs().sqrt() * 0.9;
        let above = color(&table, signed, *value);
        for (p, a) in pixel.0.iter_mut().zip(above.0) {
            *p = nearest(f32::from(*p) * (1.0 - opacity) + f32::from(a) * opacity) as u8;
        }
    }
    drawn
}

/// How much of the range from black to white the grey picture under an overlay takes: the ends are left to the map,
/// whose weak colours would vanish on white and whose strong ones on black.
const GREYS: [f32; 2] = [30.0, 210.0];

/// The picture without its colours and its extremes.
fn grey(picture: &RgbImage) -> RgbImage {
    let luma = imageops::grayscale(picture);
    let [dark, light] = GREYS;
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let value = f32::from(luma.get_pixel(x, y).0[0]) / 255.0;
        Rgb([nearest(dark + (light - dark) * value) as u8; 3])
    })
}

/// Pictures in rows and columns on white, with a margin around each; every cell is as large as the largest picture.
///
/// # Errors
/// If there is no picture or the sheet would be too large.
pub fn contact_sheet(rows: &[Vec<RgbImage>], margin: u32) -> Result<RgbImage, VizError> {
    let all = || rows.iter().flatten();
    let width = all().map(RgbImage::width).max().unwrap_or(0);
    let height = all().map(RgbImage::height).max().unwrap_or(0);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let side = |cells: usize, cell: u32| {
        cells.saturating_mul(cell as usize + margin as usize).saturating_add(margin as usize)
    };
    if width == 0 || height == 0 {
        return Err(VizError::Size { width: 0, height: 0 });
    }
    let (sheet_width, sheet_height) = check_size(side(columns, width), side(rows.len(), height))?;
    let mut sheet = RgbImage::from_pixel(sheet_width, sheet_height, Rgb([255; 3]));
    for (y, row) in rows.iter().enumerate() {
        for (x, picture) in row.iter().enumerate() {
            // Within the sheet, whose size is checked.
            let (left, top) = (side(x, width), side(y, height));
            imageops::replace(&mut sheet, picture, left as i64, top as i64);
        }
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn plain(colormap: ColorMap) -> Style {
        Style { clip: 100.0, min_side: 1, ..Style::new(colormap) }
    }

    #[test]
    fn zero_has_the_middle_colour_and_signs_are_symmetric() {
        let picture = heat_map(array![[-2.0, 0.0, 2.0, 1.0]].view(), &plain(ColorMap::Bwr)).unwrap();
        assert_eq!(picture.get_pixel(0, 0), &Rgb([0, 0, 255]));
        assert_eq!(picture.get_pixel(2, 0), &Rgb([255, 0, 0]));
        assert_eq!(picture.get_pixel(1, 0), &Rgb([255; 3]));
        let half = picture.get_pixel(3, 0).0;
        assert_eq!(half[0], 255);
        assert!((126..=130).contains(&half[1]));
    }

    #[test]
    fn a_map_of_zeros_is_drawn_and_leaves_the_picture_in_grey() {
        let zeros = Array2::zeros((3, 3));
        let picture = RgbImage::from_fn(3, 3, |x, y| Rgb([x as u8 * 50, y as u8 * 50, 7]));
        for map in [ColorMap::Seismic, ColorMap::Inferno] {
            assert!(heat_map(zeros.view(), &plain(map)).is_ok());
            assert_eq!(overlay(&picture, zeros.view(), &plain(map)).unwrap(), grey(&picture));
        }
    }

    #[test]
    fn under_a_map_no_picture_has_colours_of_its_own() {
        let flag = RgbImage::from_fn(2, 1, |x, _| if x == 0 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let below = overlay(&flag, Array2::zeros((1, 2)).view(), &plain(ColorMap::Seismic)).unwrap();
        assert!(below.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]), "{below:?}");
        let over = overlay(&flag, array![[-1.0, 1.0]].view(), &plain(ColorMap::Bwr)).unwrap();
        let ([red, _, blue], [red2, _, blue2]) = (over.get_pixel(0, 0).0, over.get_pixel(1, 0).0);
        assert!(blue > red + 100 && red2 > blue2 + 100, "{over:?}");
    }

    #[test]
    fn the_scale_says_what_the_ends_of_the_colours_stand_for() {
        let mut map = Array2::from_elem((20, 20), 1.0);
        map[(0, 0)] = -1000.0;
        let style = Style::new(ColorMap::Bwr);
        assert_eq!(scale(map.view(), &style), Ok(Scale { low: -1.0, high: 1.0, clipped: 1 }));
        let unsigned = Style::new(ColorMap::Hot);
        assert_eq!(scale(map.view(), &unsigned), Ok(Scale { low: 0.0, high: 1.0, clipped: 0 }));
        let zeros = Array2::zeros((2, 2));
        assert_eq!(scale(zeros.view(), &style).map(|s| (s.high, s.clipped)), Ok((0.0, 0)));
    }

    #[test]
    fn single_pixels_are_clipped_but_never_to_nothing() {
        let mut map = Array2::from_elem((20, 20), 1.0);
        map[(0, 0)] = 1000.0;
        let style = Style { min_side: 1, ..Style::new(ColorMap::Bwr) };
        assert_eq!(heat_map(map.view(), &style).unwrap().get_pixel(5, 5), &Rgb([255, 0, 0]));
        let mut lonely = Array2::zeros((20, 20));
        lonely[(3, 4)] = 5.0;
        assert_eq!(heat_map(lonely.view(), &style).unwrap().get_pixel(4, 3), &Rgb([255, 0, 0]));
    }

    #[test]
    fn small_pictures_are_enlarged_by_a_whole_factor() {
        let map = array![[1.0, -1.0], [0.0, 0.5]];
        let style = Style { clip: 100.0, min_side: 5, ..Style::new(ColorMap::Bwr) };
        let picture = heat_map(map.view(), &style).unwrap();
        assert_eq!(picture.dimensions(), (6, 6));
        assert_eq!(picture.get_pixel(2, 2), picture.get_pixel(0, 0));
    }

    #[test]
    fn numbers_are_rounded_as_the_standard_library_rounds_them() {
        for value in [0.0, 0.49999997, 0.5, 1.5, 2.4999998, 254.5, 255.0, 8388607.5] {
            assert_eq!(nearest(value), value.round() as u32, "{value}");
        }
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        let style = Style::new(ColorMap::Bwr);
        let nan = heat_map(array![[0.0, f32::NAN]].view(), &style).unwrap_err();
        assert!(nan.to_string().contains("row 0, column 1"), "{nan}");
        assert!(heat_map(Array2::zeros((0, 4)).view(), &style).is_err());
        assert!(contact_sheet(&[], 4).is_err());
    }

    #[test]
    fn a_sheet_has_a_cell_for_each_picture() {
        let red = RgbImage::from_pixel(2, 3, Rgb([255, 0, 0]));
        let sheet = contact_sheet(&[vec![red.clone(), red.clone()], vec![red]], 1).unwrap();
        assert_eq!(sheet.dimensions(), (7, 9));
        assert_eq!(sheet.get_pixel(4, 1), &Rgb([255, 0, 0]));
        assert_eq!(sheet.get_pixel(4, 6), &Rgb([255, 255, 255]));
    }

    #[test]
    fn zero_is_exactly_the_centre_and_opposite_values_mirror_it() {
        let map = array![[-1.0, -0.37, 0.0, 0.37, 1.0]];
        for (name, colormap) in ColorMap::ALL {
            let picture = heat_map(map.view(), &plain(colormap)).unwrap();
            let table = colormap.table();
            let at = |x: u32| table.iter().position(|c| c == picture.get_pixel(x, 0)).unwrap();
            if colormap.is_signed() {
                assert_eq!(picture.get_pixel(2, 0), &table[table.len() / 2], "{name}");
                assert_eq!(at(1) + at(3), table.len() - 1, "{name}");
            } else {
                assert_eq!(picture.get_pixel(2, 0), &table[0], "{name}");
            }
        }
        let white = heat_map(map.view(), &plain(ColorMap::Seismic)).unwrap();
        assert_eq!(white.get_pixel(2, 0), &Rgb([255; 3]));
    }

    #[test]
    fn unsigned_maps_reach_from_zero_to_the_largest_value_whatever_is_below() {
        let picture = heat_map(array![[-9.0, 0.0, 1.0]].view(), &plain(ColorMap::Inferno)).unwrap();
        let table = ColorMap::Inferno.table();
        assert_eq!(picture.get_pixel(0, 0), &table[0]);
        assert_eq!(Some(picture.get_pixel(2, 0)), table.last());
    }

    #[test]
    fn negative_relevance_stays_blue_when_the_map_is_stretched() {
        let grey = RgbImage::from_pixel(4, 4, Rgb([100; 3]));
        let map = array![[-1.0, 1.0], [-1.0, 1.0]];
        let picture = overlay(&grey, map.view(), &plain(ColorMap::Bwr)).unwrap();
        let [red, _, blue] = picture.get_pixel(0, 1).0;
        assert!(blue > 200 && red < 50, "{red} {blue}");
        let [red, _, blue] = picture.get_pixel(3, 1).0;
        assert!(red > 200 && blue < 50, "{red} {blue}");
    }

    #[test]
    fn the_picture_stays_visible_and_opacity_grows_with_magnitude() {
        let grey = RgbImage::from_pixel(5, 1, Rgb([100; 3]));
        let map = array![[0.0, 0.1, 0.3, 0.6, 1.0]];
        let picture = overlay(&grey, map.view(), &plain(ColorMap::Bwr)).unwrap();
        let red: Vec<u8> = picture.pixels().map(|p| p.0[0]).collect();
        assert!(red.windows(2).all(|w| w[0] < w[1]), "{red:?}");
        assert!(red[4] < 255);
    }

    #[test]
    fn enlarging_and_sheets_stop_at_what_a_picture_can_have() {
        let style = Style { min_side: u32::MAX, ..plain(ColorMap::Bwr) };
        let long = heat_map(Array2::zeros((1, 9000)).view(), &style).unwrap();
        assert_eq!(long.dimensions(), (9000, 1));
        let empty = overlay(&RgbImage::new(0, 3), Array2::zeros((3, 3)).view(), &style);
        assert!(matches!(empty, Err(VizError::Size { width: 0, height: 3 })));
        let cell = RgbImage::new(2, 2);
        assert!(matches!(contact_sheet(&[vec![cell]], u32::MAX), Err(VizError::Size { .. })));
    }
}
