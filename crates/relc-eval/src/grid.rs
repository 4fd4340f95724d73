//! Pictures and methods on one sheet, as papers show them.

use font8x8::UnicodeFonts;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use ndarray::{Array2, ArrayView2};
use relc_viz::{ColorMap, Style, heat_map};

use crate::error::EvalError;

/// The side of a cell in pixels, about.
const CELL: u32 = 160;
/// Space between cells.
const MARGIN: u32 = 6;
/// The side of a letter.
const LETTER: u32 = 8;
/// The height of a line of text.
const LINE: u32 = 14;
/// The colour bar's width.
const BAR: u32 = 14;
/// The most pixels each way.
const MAX_SIDE: u32 = 16384;

/// A row of the sheet: a picture with its name, and the map of each method.
#[derive(Debug)]
pub struct GridRow {
    /// Written above the picture.
    pub label: String,
    /// The picture.
    pub picture: RgbImage,
    /// The maps, row by row, each of the picture's size.
    pub maps: Vec<Vec<f32>>,
}

/// Draws pictures by methods: the names above, the maps in `style`, each on its own scale, and a bar of the colours at
/// the right, from the lowest value of a scale to its highest.
///
/// # Errors
/// If there is nothing to draw, the sheet would be too large, or a map is not finite or of another size.
pub fn grid(rows: &[GridRow], methods: &[String], colormap: ColorMap) -> Result<RgbImage, EvalError> {
    let usage = |message: &str| EvalError::Usage(format!("the grid: {message}"));
    let first = rows.first().ok_or_else(|| usage("there is no picture"))?;
    let (w, h) = first.picture.dimensions();
    let scale = (CELL / w.max(h).max(1)).max(1);
    let (cell_w, cell_h) = (w * scale, h * scale);
    let columns = methods.len() as u32 + 1;
    let width = MARGIN + columns * (cell_w + MARGIN) + BAR + 5 * LETTER + MARGIN;
    let height = LINE + MARGIN + rows.len() as u32 * (cell_h + LINE + MARGIN);
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(usage("it has too many pictures or methods; expected at most 16384 pixels each way"));
    }
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let left = |column: u32| MARGIN + column * (cell_w + MARGIN);
    for (i, name) in std::iter::once("picture").chain(methods.iter().map(String::as_str)).enumerate() {
        write(&mut sheet, name, left(i as u32), 4, cell_w);
    }
    let style = Style { min_side: 1, ..Style::new(colormap) };
    for (y, row) in rows.iter().enumerate() {
        let top = LINE + MARGIN + y as u32 * (cell_h + LINE + MARGIN);
        write(&mut sheet, &row.label, left(0), top + 2, width - left(0));
        let mut place = |picture: &RgbImage, column: usize| {
            let large = imageops::resize(picture, cell_w, cell_h, FilterType::Nearest);
            imageops::replace(&mut sheet, &large, i64::from(left(column as u32)), i64::from(top + LINE));
        };
        place(&row.picture, 0);
        for (m, map) in row.maps.iter().enumerate() {
            let view = ArrayView2::from_shape((h as usize, w as usize), map)
                .map_err(|_| usage("a map has another size than its picture"))?;
            place(&heat_map(view, &style)?, m + 1);
        }
    }
    draw_bar(&mut sheet, left(columns), LINE + MARGIN + LINE, cell_h, &style)?;
    Ok(sheet)
}

/// The colours of a scale from its highest value down, and what they stand for.
fn draw_bar(sheet: &mut RgbImage, left: u32, top: u32, height: u32, style: &Style) -> Result<(), EvalError> {
    let lowest = if style.colormap.is_signed() { -1.0 } else { 0.0 };
    let last = (height.max(2) - 1) as f32;
    let ramp =
        Array2::from_shape_fn((height.max(2) as usize, 1), |(y, _)| 1.0 - y as f32 / last * (1.0 - lowest));
    let colours = heat_map(ramp.view(), &Style { clip: 100.0, ..*style })?;
    let bar = imageops::resize(&colours, BAR, height, FilterType::Nearest);
    imageops::replace(sheet, &bar, i64::from(left), i64::from(top));
    let text = left + BAR + 4;
    write(sheet, "max", text, top, 4 * LETTER);
    if lowest < 0.0 {
        write(sheet, "0", text, top + (height / 2).saturating_sub(LETTER / 2), 4 * LETTER);
    }
    let bottom = if lowest < 0.0 { "-max" } else { "0" };
    write(sheet, bottom, text, top + height.saturating_sub(LETTER), 4 * LETTER);
    Ok(())
}

/// Writes a line of text in black; what does not fit in the width is cut off with a `~`.
fn write(sheet: &mut RgbImage, text: &str, left: u32, top: u32, width: u32) {
    let most = (width / LETTER) as usize;
    let mut letters: Vec<char> = text.chars().collect();
    if letters.len() > most {
        letters.truncate(most.saturating_sub(1));
        letters.push('~');
    }
    for (i, letter) in letters.into_iter().enumerate() {
        let glyph = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter));
        let glyph = glyph.or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default();
        for (y, line) in glyph.iter().enumerate() {
            for x in (0..LETTER).filter(|x| line >> x & 1 == 1) {
                let (x, y) = (left + i as u32 * LETTER + x, top + y as u32);
                if x < sheet.width() && y < sheet.height() {
                    sheet.put_pixel(x, y, Rgb([0; 3]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(side: u32) -> GridRow {
        let picture = RgbImage::from_pixel(side, side, Rgb([9, 99, 199]));
        let map = (0..side * side).map(|p| p as f32 - 3.0).collect();
        GridRow { label: "a/b.png".into(), picture, maps: vec![map] }
    }

    #[test]
    fn a_sheet_shows_pictures_maps_names_and_colours() {
        let sheet = grid(&[row(4), row(4)], &["conserve".into()], ColorMap::Bwr).unwrap();
        let (cell, top) = (160, LINE + MARGIN + LINE);
        assert_eq!(sheet.width(), MARGIN + 2 * (cell + MARGIN) + BAR + 5 * LETTER + MARGIN);
        assert_eq!(sheet.get_pixel(MARGIN + 80, top + 80), &Rgb([9, 99, 199]));
        assert_eq!(sheet.get_pixel(MARGIN + 80, top + cell + LINE + MARGIN + 80), &Rgb([9, 99, 199]));
        let bar = MARGIN + 2 * (cell + MARGIN) + 3;
        assert_eq!(sheet.get_pixel(bar, top), &Rgb([255, 0, 0]));
        assert_eq!(sheet.get_pixel(bar, top + cell - 1), &Rgb([0, 0, 255]));
        let black = |x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
            x.flat_map(|x| y.clone().map(move |y| (x, y)))
                .filter(|(x, y)| sheet.get_pixel(*x, *y).0 == [0; 3])
                .count()
        };
        assert!(black(MARGIN + cell + MARGIN..bar, 0..LINE) > 60, "the method's name is written");
        assert!(black(MARGIN..MARGIN + cell, LINE..top) > 40, "and the picture's");
    }

    #[test]
    fn what_is_too_large_or_does_not_fit_is_an_error() {
        assert!(grid(&[], &[], ColorMap::Bwr).is_err());
        let many: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        assert!(grid(&[row(4)], &many, ColorMap::Bwr).unwrap_err().to_string().contains("16384"));
        let small = GridRow { maps: vec![vec![1.0; 3]], ..row(4) };
        assert!(
            grid(&[small], &["m".into()], ColorMap::Bwr).unwrap_err().to_string().contains("another size")
        );
    }
}
