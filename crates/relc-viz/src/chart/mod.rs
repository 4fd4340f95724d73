//! Charts, as SVG and as pictures: the channels of a signal, the columns of a table.

mod bars;
mod signal;

pub use bars::BarChart;
pub use signal::SignalChart;

use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, BitMapBackend, DrawingArea, DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea, IntoFont,
    RGBAColor, Rectangle, SVGBackend, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, register_font};

use crate::VizError;
use crate::render::{Scale, Style, color};

/// The font of all text. It comes with the program: machines without fonts draw the same.
const FONT: &str = "sans-serif";
/// Pixels of a letter's height.
const TEXT: u32 = 15;
/// The width of a chart.
const WIDTH: u32 = 1200;
/// Columns of names at the left, and of the colour bar at the right.
const SIDES: [u32; 2] = [150, 90];
/// Steps of the colour bar.
const STEPS: i32 = 64;
/// The most letters of a name.
const MAX_NAME: usize = 24;

/// A chart in both of its forms.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// As SVG, a whole document.
    pub svg: String,
    /// As a picture.
    pub picture: RgbImage,
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;
type Area<B> = DrawingArea<B, Shift>;

/// Something that is drawn the same way on every backend.
trait Chart {
    /// Pixels across and down.
    fn size(&self) -> (u32, u32);

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B>;
}

/// Gives plotters the font `sans-serif` that comes with the program, of which machines without fonts have none.
///
/// # Errors
/// If it can't be read.
pub fn register_fonts() -> Result<(), VizError> {
    static FONTS: OnceLock<bool> = OnceLock::new();
    match FONTS.get_or_init(|| register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok()) {
        true => Ok(()),
        false => Err(VizError::Drawing { message: "the font can't be read".into() }),
    }
}

fn render(chart: &impl Chart) -> Result<Drawing, VizError> {
    register_fonts()?;
    let (width, height) = chart.size();
    let mut svg = String::new();
    let mut pixels = vec![0; width as usize * height as usize * 3];
    paint(chart, SVGBackend::with_string(&mut svg, (width, height)))?;
    paint(chart, BitMapBackend::with_buffer(&mut pixels, (width, height)))?;
    let picture = RgbImage::from_raw(width, height, pixels);
    let picture = picture.ok_or(VizError::Size { width: width as usize, height: height as usize })?;
    Ok(Drawing { svg, picture })
}

fn paint<B: DrawingBackend>(chart: &impl Chart, backend: B) -> Result<(), VizError> {
    let area = backend.into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| chart.draw(&area)).and_then(|()| area.present());
    drawn.map_err(|e| VizError::Drawing { message: e.to_string() })
}

/// Text whose anchor is at a place.
fn text(text: impl Into<String>, at: (i32, i32), h: HPos, v: VPos) -> Text<'static, (i32, i32), String> {
    let style = TextStyle::from((FONT, TEXT).into_font()).color(&BLACK).pos(Pos::new(h, v));
    Text::new(text.into(), at, style)
}

/// A name as charts show it: without control characters, which SVG can't hold, and not too long.
fn shown(name: &str) -> String {
    let mut letters = name.chars().filter(|c| !c.is_control());
    let mut short: String = letters.by_ref().take(MAX_NAME).collect();
    if letters.next().is_some() {
        short.push('…');
    }
    short
}

/// The colour of a value of magnitude 1 at most; the fainter the smaller, so that what lies under it shows.
fn shade(table: &[Rgb<u8>], signed: bool, value: f32) -> RGBAColor {
    let Rgb([r, g, b]) = color(table, signed, value);
    RGBAColor(r, g, b, f64::from(value.abs().sqrt()))
}

/// The colour bar at the right, with what its ends stand for.
fn color_bar<B: DrawingBackend>(area: &Area<B>, style: &Style, scale: &Scale) -> Drawn<B> {
    let (width, height) = area.dim_in_pixel();
    let (table, signed) = (style.colormap.table(), style.colormap.is_signed());
    let (left, top) = ((width - SIDES[1] + 16) as i32, 2 * TEXT as i32);
    let bottom = (height as i32 - 3 * TEXT as i32).max(top + STEPS).min(top + 400);
    for step in 0..STEPS {
        let along = 1.0 - (step as f32 + 0.5) / STEPS as f32;
        let Rgb([r, g, b]) = color(&table, signed, if signed { 2.0 * along - 1.0 } else { along });
        let at = |step: i32| top + (bottom - top) * step / STEPS;
        let cell = [(left, at(step)), (left + 16, at(step + 1))];
        area.draw(&Rectangle::new(cell, RGBAColor(r, g, b, 1.0).filled()))?;
    }
    area.draw(&text(number(scale.high), (left, top - 3), HPos::Left, VPos::Bottom))?;
    area.draw(&text(number(scale.low), (left, bottom + 3), HPos::Left, VPos::Top))
}

/// A number of three digits.
fn number(value: f32) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.01..1000.0 => {
            let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [(0.0, "0"), (1.0, "1.00"), (-12.345, "-12.3"), (0.0123, "0.0123"), (1e-5, "1.00e-5")];
        cases.into_iter().for_each(|(value, expected)| assert_eq!(number(value), expected));
    }

    #[test]
    fn names_are_short_and_hold_no_control_characters() {
        assert_eq!(shown("lead\u{1} V1\n"), "lead V1");
        assert_eq!(shown(&"x".repeat(40)), format!("{}…", "x".repeat(MAX_NAME)));
    }
}
