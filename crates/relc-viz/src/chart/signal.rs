//! The channels of a signal, each a line coloured by its relevance.

use ndarray::{ArrayView1, ArrayView2};
use plotters::prelude::{DrawingBackend, EmptyElement, PathElement};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};

use super::{Area, Chart, Drawing, Drawn, SIDES, TEXT, WIDTH, color_bar, number, render, shade, shown, text};
use crate::VizError;
use crate::render::{Scale, Style, limits};

/// The most channels that are drawn: those with the most relevance.
const MAX_CHANNELS: usize = 64;
/// The most positions of a line; of more, the smallest and the largest of each few.
const MAX_POINTS: usize = 8192;
/// Colours a line has at most, on each side of zero.
const LEVELS: f32 = 32.0;
/// Numbers along the axis of positions.
const TICKS: usize = 6;
/// A line where it has no relevance.
const FAINT: RGBColor = RGBColor(190, 190, 190);

/// A signal and its relevance.
#[derive(Clone, Copy, Debug)]
pub struct SignalChart<'a> {
    /// The signal, `f32[C,L]`.
    pub values: ArrayView2<'a, f32>,
    /// Its relevance, `f32[C,L]`.
    pub relevance: ArrayView2<'a, f32>,
    /// The channels' names; one that is missing is its number.
    pub names: &'a [String],
}

impl<'a> SignalChart<'a> {
    /// Draws the channels below each other. All have the same colours for the same relevance, by the style's colour map
    /// and percentile, and each its own scale of values.
    ///
    /// # Errors
    /// If both arrays have not one shape, one is empty, or a value is not finite.
    pub fn draw(&self, style: &'a Style) -> Result<Drawing, VizError> {
        let (channels, length) = self.values.dim();
        if self.relevance.dim() != (channels, length) || channels == 0 || length == 0 {
            return Err(VizError::Size { width: length, height: channels });
        }
        for array in [&self.values, &self.relevance] {
            if let Some(((row, column), value)) = array.indexed_iter().find(|(_, v)| !v.is_finite()) {
                return Err(VizError::NonFinite { value: *value, row, column });
            }
        }
        let mut shown: Vec<usize> = (0..channels).collect();
        if channels > MAX_CHANNELS {
            let sums: Vec<f64> = self
                .relevance
                .rows()
                .into_iter()
                .map(|row| row.iter().map(|v| f64::from(v.abs())).sum())
                .collect();
            shown.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]));
            shown.truncate(MAX_CHANNELS);
            shown.sort_unstable();
        }
        let scale = limits(self.relevance.iter().copied(), style);
        render(&Lines { signal: *self, shown, scale, style })
    }
}

/// A chart that is being drawn.
struct Lines<'a> {
    signal: SignalChart<'a>,
    /// The channels that are drawn.
    shown: Vec<usize>,
    scale: Scale,
    style: &'a Style,
}

impl Lines<'_> {
    /// Pixels of a channel's height.
    fn row(&self) -> u32 {
        (720 / self.shown.len() as u32).clamp(36, 160)
    }
}

impl Chart for Lines<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (self.row() * self.shown.len() as u32 + 5 * TEXT).max(9 * TEXT))
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        let (length, row) = (self.signal.values.ncols(), self.row() as i32);
        let [left, right] = [SIDES[0] as i32, (WIDTH - SIDES[1]) as i32];
        let x = |position: usize| {
            left + ((right - left) as f64 * position as f64 / (length - 1).max(1) as f64).round() as i32
        };
        let (table, signed) = (self.style.colormap.table(), self.style.colormap.is_signed());
        let top = TEXT as i32;
        for (place, channel) in self.shown.iter().copied().enumerate() {
            let middle = top + row * place as i32 + row / 2;
            let name = self.signal.names.get(channel).map_or_else(|| channel.to_string(), |name| shown(name));
            area.draw(&text(name, (left - 12, middle), HPos::Right, VPos::Center))?;
            let values = self.signal.values.row(channel);
            let (least, most) =
                values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
            let y = |value: f32| {
                let part =
                    if most > least { f64::from(value - least) / f64::from(most - least) } else { 0.5 };
                middle + row * 2 / 5 - (f64::from(row * 4 / 5) * part).round() as i32
            };
            let points = points(values, self.signal.relevance.row(channel));
            let place = |p: &Point| (x(p.position), y(p.value));
            area.draw(&PathElement::new(
                points.iter().map(place).collect::<Vec<_>>(),
                FAINT.stroke_width(1),
            ))?;
            for (level, piece) in pieces(&points, self.scale.high, signed) {
                let color = shade(&table, signed, level).stroke_width(2);
                area.draw(&PathElement::new(piece.iter().map(place).collect::<Vec<_>>(), color))?;
            }
        }
        let bottom = top + row * self.shown.len() as i32 + TEXT as i32 / 2;
        area.draw(&PathElement::new([(left, bottom), (right, bottom)], FAINT.stroke_width(1)))?;
        for tick in 0..TICKS.min(length) {
            let position = (length - 1) * tick / (TICKS.min(length) - 1).max(1);
            let mark = EmptyElement::at((x(position), bottom))
                + PathElement::new([(0, 0), (0, 4)], FAINT.stroke_width(1));
            area.draw(&mark)?;
            area.draw(&text(position.to_string(), (x(position), bottom + 6), HPos::Center, VPos::Top))?;
        }
        let all = self.signal.values.nrows();
        let note = match self.shown.len() {
            some if some < all => format!("the {some} of {all} channels with the most relevance"),
            _ => format!("relevance of each position; the colours end at {}", number(self.scale.high)),
        };
        area.draw(&text(note, (left, bottom + 2 * TEXT as i32), HPos::Left, VPos::Top))?;
        color_bar(area, self.style, &self.scale)
    }
}

/// A position of a line.
#[derive(Clone, Copy)]
struct Point {
    position: usize,
    value: f32,
    relevance: f32,
}

/// The points of a channel; of a long one the smallest and the largest value of each few positions, with the largest
/// relevance there.
fn points(values: ArrayView1<'_, f32>, relevance: ArrayView1<'_, f32>) -> Vec<Point> {
    let all: Vec<Point> = values
        .iter()
        .zip(relevance)
        .enumerate()
        .map(|(position, (value, relevance))| Point { position, value: *value, relevance: *relevance })
        .collect();
    if all.len() <= MAX_POINTS {
        return all;
    }
    let few = all.len().div_ceil(MAX_POINTS / 2);
    let ends = |part: &[Point]| {
        let by = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
        let largest = part.iter().map(|p| p.relevance).max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let mut ends: Vec<Point> =
            [part.iter().min_by(by), part.iter().max_by(by)].into_iter().flatten().copied().collect();
        ends.iter_mut().for_each(|p| p.relevance = largest.unwrap_or(p.relevance));
        ends.sort_by_key(|p| p.position);
        ends
    };
    all.chunks(few).flat_map(ends).collect()
}

/// The parts of a line that have one colour, with the value in `[-1, 1]` of it; those without any are left out.
fn pieces(points: &[Point], high: f32, signed: bool) -> Vec<(f32, &[Point])> {
    let lowest = if signed { -1.0 } else { 0.0 };
    let level = |pair: &[Point]| {
        let mean = pair.iter().map(|p| p.relevance).sum::<f32>() / pair.len().max(1) as f32;
        if high > 0.0 { ((mean / high).clamp(lowest, 1.0) * LEVELS).round() / LEVELS } else { 0.0 }
    };
    let mut pieces: Vec<(f32, usize, usize)> = Vec::new();
    for (start, pair) in points.windows(2).enumerate() {
        let level = level(pair);
        match pieces.last_mut() {
            Some((last, _, end)) if *last == level => *end = start + 2,
            _ => pieces.push((level, start, start + 2)),
        }
    }
    pieces
        .into_iter()
        .filter(|p| p.0 != 0.0)
        .map(|(level, start, end)| (level, &points[start..end]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColorMap;
    use ndarray::{Array2, array};

    fn chart(values: &Array2<f32>, relevance: &Array2<f32>, names: &[String]) -> Result<Drawing, VizError> {
        let style = Style { clip: 100.0, ..Style::new(ColorMap::Bwr) };
        SignalChart { values: values.view(), relevance: relevance.view(), names }.draw(&style)
    }

    /// Whether a pixel is rather red than blue, and one rather blue, beside the colour bar, which has both.
    fn colours(picture: &image::RgbImage) -> [bool; 2] {
        let inner =
            || picture.enumerate_pixels().filter(|(x, _, _)| *x < WIDTH - SIDES[1]).map(|(_, _, p)| p.0);
        [
            inner().any(|[red, _, blue]| red > blue.saturating_add(100)),
            inner().any(|[red, _, blue]| blue > red.saturating_add(100)),
        ]
    }

    #[test]
    fn lines_have_the_colours_of_their_relevance() {
        let values = array![[0.0, 1.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0]];
        let none = Array2::zeros((2, 4));
        assert_eq!(colours(&chart(&values, &none, &[]).unwrap().picture), [false, false]);
        let some = array![[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]];
        assert_eq!(colours(&chart(&values, &some, &[]).unwrap().picture), [true, false]);
        assert_eq!(colours(&chart(&values, &-&some, &[]).unwrap().picture), [false, true]);
    }

    #[test]
    fn names_are_text_whatever_they_hold() {
        let values = array![[0.0, 1.0], [1.0, 0.0]];
        let names = ["<script>alert(1)</script>\u{0}".to_string(), "a & \"b\"".to_string()];
        let svg = chart(&values, &values, &names).unwrap().svg;
        assert!(!svg.contains("<script") && !svg.contains('\u{0}'), "{svg}");
        assert!(svg.contains("&lt;script&gt;") && svg.contains("a &amp; "), "{svg}");
    }

    #[test]
    fn long_and_wide_signals_are_drawn_in_part() {
        let long =
            Array2::from_shape_fn((1, 100_000), |(_, i)| if i == 70_001 { 9.0 } else { (i % 7) as f32 });
        let points = points(long.row(0), long.row(0));
        assert!(points.len() <= MAX_POINTS && points.iter().any(|p| p.value == 9.0), "the peak stays");
        let wide = Array2::from_shape_fn((100, 3), |(c, _)| c as f32);
        let svg = chart(&wide, &wide, &[]).unwrap().svg;
        assert!(
            svg.contains("the 64 of 100 channels") && svg.contains(">\n99\n<") && !svg.contains(">\n7\n<")
        );
    }

    #[test]
    fn what_is_no_signal_is_an_error() {
        let one = Array2::zeros((1, 3));
        assert!(matches!(chart(&one, &Array2::zeros((2, 3)), &[]), Err(VizError::Size { .. })));
        assert!(matches!(
            chart(&Array2::zeros((0, 3)), &Array2::zeros((0, 3)), &[]),
            Err(VizError::Size { .. })
        ));
        let nan = array![[0.0, f32::NAN, 0.0]];
        assert!(matches!(chart(&one, &nan, &[]), Err(VizError::NonFinite { row: 0, column: 1, .. })));
        assert!(chart(&array![[3.0]], &array![[0.0]], &[]).is_ok());
    }
}
