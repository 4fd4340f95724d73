//! The colour bar under a picture: what the first, middle and last colour stand for.

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage, imageops};

use crate::render::{MAX_SIDE, color};
use crate::{ColorMap, VizError};

/// Pixels of a letter each way, before it is enlarged.
const LETTER: u32 = 8;
/// Pixels around the bar and its text.
const MARGIN: u32 = 4;
/// Pixels of the bar's height.
const BAR: u32 = 10;
/// The width that the picture is brought to at least, by white: two numbers stand side by side in it.
const MIN_WIDTH: u32 = 176;

/// A picture with a colour bar under it. `low` and `high` are written at the bar's ends, and `0` under its middle if
/// that is what the middle stands for; characters beyond ASCII are left out.
///
/// # Errors
/// If the picture with the bar would have more pixels each way than a picture can have.
pub fn with_color_bar(
    picture: &RgbImage,
    colormap: ColorMap,
    low: &str,
    high: &str,
) -> Result<RgbImage, VizError> {
    let (above, width) = (picture.height(), picture.width().max(MIN_WIDTH));
    let factor = (picture.width() / 384).max(1);
    let strip = (3 * MARGIN + BAR + LETTER) * factor;
    let height = above.saturating_add(strip);
    if width as usize > MAX_SIDE || height as usize > MAX_SIDE {
        return Err(VizError::Size { width: width as usize, height: height as usize });
    }
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    imageops::replace(&mut sheet, picture, i64::from((width - picture.width()) / 2), 0);

    let table = colormap.table();
    let signed = colormap.is_signed();
    let (left, right) = (MARGIN * factor, width - MARGIN * factor);
    let top = above + MARGIN * factor;
    for x in left..right {
        let along = (x - left) as f32 / (right - left - 1).max(1) as f32;
        let value = if signed { 2.0 * along - 1.0 } else { along };
        let shade = color(&table, signed, value);
        for y in top..top + BAR * factor {
            sheet.put_pixel(x, y, shade);
        }
    }
    let line = top + (BAR + MARGIN) * factor;
    let wide = |text: &str| text.chars().count() as u32 * LETTER * factor;
    write(&mut sheet, low, left, line, factor);
    write(&mut sheet, high, right.saturating_sub(wide(high)), line, factor);
    let middle = (width / 2).saturating_sub(wide("0") / 2);
    if signed && left + wide(low) < middle && middle + 2 * wide("0") < right.saturating_sub(wide(high)) {
        write(&mut sheet, "0", middle, line, factor);
    }
    Ok(sheet)
}

/// Writes in black, each pixel of a letter a square of `factor` pixels; what lies outside the picture is left out.
pub(crate) fn write(picture: &mut RgbImage, text: &str, left: u32, top: u32, factor: u32) {
    for (i, letter) in text.chars().enumerate() {
        let rows = BASIC_FONTS.get(letter).unwrap_or([0; 8]);
        for y in 0..LETTER * factor {
            for x in 0..LETTER * factor {
                let lit = rows[(y / factor) as usize] >> (x / factor) & 1 == 1;
                let at = (left + i as u32 * LETTER * factor + x, top + y);
                if let Some(pixel) = picture.get_pixel_mut_checked(at.0, at.1).filter(|_| lit) {
                    *pixel = Rgb([0; 3]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_stays_and_the_bar_runs_through_the_colours() {
        let picture = RgbImage::from_pixel(256, 100, Rgb([9, 8, 7]));
        let sheet = with_color_bar(&picture, ColorMap::Bwr, "-0.5", "0.5").unwrap();
        assert_eq!((sheet.width(), sheet.height()), (256, 130));
        assert!(sheet.rows().take(100).flatten().all(|p| *p == Rgb([9, 8, 7])));
        let bar: Vec<Rgb<u8>> = (MARGIN..256 - MARGIN).map(|x| *sheet.get_pixel(x, 108)).collect();
        assert_eq!((bar.first(), bar.last()), (Some(&Rgb([0, 0, 255])), Some(&Rgb([255, 0, 0]))));
        // Both ends and the middle are labelled.
        let black = |from: u32, to: u32| {
            (from..to)
                .flat_map(|x| (118..126).map(move |y| (x, y)))
                .filter(|(x, y)| sheet.get_pixel(*x, *y).0 == [0; 3])
                .count()
        };
        assert!(black(0, 40) > 20 && black(216, 256) > 20 && black(120, 136) > 10);
        assert_eq!(black(44, 116), 0);
    }

    #[test]
    fn narrow_and_unsigned_pictures_have_one_too_and_huge_ones_are_refused() {
        let sheet = with_color_bar(&RgbImage::new(20, 256), ColorMap::Inferno, "0", "1.23e-10").unwrap();
        assert_eq!((sheet.width(), sheet.height()), (MIN_WIDTH, 286));
        let large = with_color_bar(&RgbImage::new(1024, 1024), ColorMap::Seismic, "-1", "1").unwrap();
        assert_eq!(large.height(), 1024 + 60);
        assert!(with_color_bar(&RgbImage::new(1, 16384), ColorMap::Bwr, "", "").is_err());
    }
}
