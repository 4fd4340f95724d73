//! The columns of a table, each a bar as long as its relevance.

use plotters::prelude::{DrawingBackend, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::{Area, Chart, Drawing, Drawn, SIDES, TEXT, WIDTH, number, render, shown, text};
use crate::VizError;
use crate::render::{Style, color};

/// The most bars: those of the columns with the most relevance.
const MAX_BARS: usize = 40;
/// Pixels of a bar's height with what is between it and the next.
const ROW: u32 = 24;

/// A row of a table and its relevance.
#[derive(Clone, Copy, Debug)]
pub struct BarChart<'a> {
    /// The columns' values, `f32[K]`.
    pub values: &'a [f32],
    /// Their relevance, `f32[K]`.
    pub relevance: &'a [f32],
    /// The columns' names; one that is missing is its number.
    pub names: &'a [String],
}

impl BarChart<'_> {
    /// Draws the columns with the most relevance first, each with its value, in the colours that the style's colour map
    /// has for the largest relevance of either sign.
    ///
    /// # Errors
    /// If there is no value for each relevance, there is none at all, or one is not finite.
    pub fn draw(&self, style: &Style) -> Result<Drawing, VizError> {
        let count = self.relevance.len();
        if self.values.len() != count || count == 0 {
            return Err(VizError::Size { width: self.values.len(), height: count });
        }
        for array in [self.values, self.relevance] {
            if let Some((column, value)) = array.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return Err(VizError::NonFinite { value: *value, row: 0, column });
            }
        }
        let mut shown: Vec<usize> = (0..count).collect();
        shown.sort_by(|a, b| self.relevance[*b].abs().total_cmp(&self.relevance[*a].abs()));
        shown.truncate(MAX_BARS);
        render(&Bars { chart: self, shown, style })
    }
}

struct Bars<'a> {
    chart: &'a BarChart<'a>,
    /// The columns that are drawn.
    shown: Vec<usize>,
    style: &'a Style,
}

impl Chart for Bars<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, ROW * self.shown.len() as u32 + 5 * TEXT)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        let BarChart { values, relevance, names } = *self.chart;
        let of = |column: usize| relevance.get(column).copied().unwrap_or(0.0);
        let largest = self.shown.iter().map(|column| of(*column).abs()).fold(0.0f32, f32::max);
        // Zero is at the left, unless something is negative.
        let two_sided = self.shown.iter().any(|column| of(*column) < 0.0);
        let [left, right] = [2 * SIDES[0] as i32, (WIDTH - SIDES[1]) as i32];
        let zero = if two_sided { (left + right) / 2 } else { left };
        let x = |value: f32| {
            let part = if largest > 0.0 { f64::from(value) / f64::from(largest) } else { 0.0 };
            zero + (part * f64::from(right - zero)).round() as i32
        };
        let (table, signed) = (self.style.colormap.table(), self.style.colormap.is_signed());
        let top = TEXT as i32;
        for (place, column) in self.shown.iter().copied().enumerate() {
            let middle = top + ROW as i32 * place as i32 + ROW as i32 / 2;
            let name = names.get(column).map_or_else(|| column.to_string(), |name| shown(name));
            let value = number(values.get(column).copied().unwrap_or(0.0));
            area.draw(&text(format!("{name} = {value}"), (left - 12, middle), HPos::Right, VPos::Center))?;
            let r = of(column);
            let image::Rgb([red, green, blue]) = color(&table, signed, r.signum() * 0.75);
            let fill: ShapeStyle = RGBColor(red, green, blue).filled();
            let half = ROW as i32 * 2 / 5;
            let bar = [(zero.min(x(r)), middle - half), (zero.max(x(r)), middle + half)];
            area.draw(&Rectangle::new(bar, fill))?;
            let (end, side) = if r < 0.0 { (x(r) - 6, HPos::Right) } else { (x(r) + 6, HPos::Left) };
            area.draw(&text(number(r), (end, middle), side, VPos::Center))?;
        }
        let bottom = top + ROW as i32 * self.shown.len() as i32;
        let axis = RGBColor(120, 120, 120).stroke_width(1);
        area.draw(&PathElement::new([(zero, top), (zero, bottom)], axis))?;
        let note = match self.shown.len() {
            some if some < relevance.len() => {
                format!("the {some} of {} columns with the most relevance", relevance.len())
            }
            _ => "relevance of each column".to_string(),
        };
        area.draw(&text(note, (left, bottom + TEXT as i32), HPos::Left, VPos::Top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColorMap;

    fn chart(values: &[f32], relevance: &[f32], names: &[String]) -> Result<Drawing, VizError> {
        BarChart { values, relevance, names }.draw(&Style::new(ColorMap::Bwr))
    }

    #[test]
    fn the_most_relevant_columns_come_first() {
        let names = ["age".to_string(), "dose".to_string()];
        let svg = chart(&[61.0, 0.5, 7.0], &[0.1, -2.0, 0.5], &names).unwrap().svg;
        let at = |what: &str| svg.find(what).unwrap_or_else(|| panic!("{what} in {svg}"));
        assert!(at("dose = 0.500") < at("2 = 7.00") && at("2 = 7.00") < at("age = 61.0"));
    }

    #[test]
    fn many_columns_are_drawn_in_part_and_none_is_an_error() {
        let many: Vec<f32> = (0..100).map(|i| i as f32).collect();
        assert!(chart(&many, &many, &[]).unwrap().svg.contains("the 40 of 100 columns"));
        assert!(chart(&[0.0], &[0.0], &[]).is_ok());
        assert!(matches!(chart(&[], &[], &[]), Err(VizError::Size { .. })));
        assert!(matches!(chart(&[1.0], &[f32::INFINITY], &[]), Err(VizError::NonFinite { column: 0, .. })));
    }
}
