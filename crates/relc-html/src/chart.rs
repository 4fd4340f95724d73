//! Charts: axes by `plotters`, and over them marks that a page's styles and scripts can reach.

use askama::Template;
use plotters::chart::ChartBuilder;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{IntoDrawingArea, IntoFont, IntoLogRange, SVGBackend};
use plotters::style::BLACK;
use plotters::style::Color;

use crate::error::PageError;

/// Pixels across and down.
const SIZE: (u32, u32) = (760, 400);
/// Pixels of a letter's height.
const TEXT: u32 = 14;
/// Pixels from a dot's middle to its edge.
const RADIUS: f64 = 5.0;

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis<'a> {
    /// What it shows, and in which unit.
    pub label: &'a str,
    /// Its ends.
    pub ends: [f64; 2],
    /// Whether equal ratios are equally far apart.
    pub logarithmic: bool,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line(Vec<[f64; 2]>),
    /// A dot.
    Dot([f64; 2]),
    /// A rectangle between two corners.
    Rectangle([f64; 2], [f64; 2]),
}

/// A mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What is drawn.
    pub shape: Shape,
    /// Its CSS classes, which give it its colour.
    pub class: String,
    /// Which of some things it belongs to: the element's `data-series`.
    pub series: usize,
    /// What the pointer shows.
    pub title: String,
}

#[derive(Template)]
#[template(path = "chart.html")]
struct Drawn<'a> {
    label: &'a str,
    size: (u32, u32),
    axes: &'a str,
    marks: Vec<(&'a Mark, String)>,
}

/// Draws marks over axes: an `svg` element, with what it shows as its label.
pub fn chart(label: &str, x: Axis<'_>, y: Axis<'_>, marks: &[Mark]) -> Result<String, PageError> {
    relc_viz::register_fonts()?;
    let range = |axis: Axis<'_>| axis.ends[0]..axis.ends[1];
    let (axes, marks) = match (x.logarithmic, y.logarithmic) {
        (false, false) => over(range(x), range(y), [x, y], marks),
        (true, false) => over(range(x).log_scale(), range(y), [x, y], marks),
        (false, true) => over(range(x), range(y).log_scale(), [x, y], marks),
        (true, true) => over(range(x).log_scale(), range(y).log_scale(), [x, y], marks),
    }?;
    // What is in plotters' own element, without that element.
    let inner = axes.split_once('>').map_or("", |(_, rest)| rest);
    let inner = inner.rsplit_once("</svg>").map_or(inner, |(inner, _)| inner);
    Ok(Drawn { label, size: SIZE, axes: inner, marks }.render()?)
}

/// The axes as SVG, and each mark with its path over them.
type Over<'m> = (String, Vec<(&'m Mark, String)>);

fn over<'m, X, Y>(x: X, y: Y, [of_x, of_y]: [Axis<'_>; 2], marks: &'m [Mark]) -> Result<Over<'m>, PageError>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let wrong = |what: &dyn std::fmt::Display| PageError::Chart(what.to_string());
    let mut svg = String::new();
    let paths;
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(TEXT)
            .set_all_label_area_size(0)
            .x_label_area_size(3 * TEXT)
            .y_label_area_size(5 * TEXT)
            .build_cartesian_2d(x, y)
            .map_err(|e| wrong(&e))?;
        let font = || ("sans-serif", TEXT).into_font();
        let shown = |logarithmic: bool| move |value: &f64| number(*value, logarithmic);
        chart
            .configure_mesh()
            .x_desc(of_x.label)
            .y_desc(of_y.label)
            .axis_desc_style(font())
            .label_style(font())
            .x_label_formatter(&shown(of_x.logarithmic))
            .y_label_formatter(&shown(of_y.logarithmic))
            .max_light_lines(0)
            .bold_line_style(BLACK.mix(0.15))
            .draw()
            .map_err(|e| wrong(&e))?;
        let at = |point: &[f64; 2]| chart.backend_coord(&(point[0], point[1]));
        paths = marks.iter().map(|mark| (mark, path(&mark.shape, at))).collect();
        area.present().map_err(|e| wrong(&e))?;
    }
    Ok((svg, paths))
}

/// The path of a shape whose points are drawn at pixels.
fn path(shape: &Shape, at: impl Fn(&[f64; 2]) -> (i32, i32)) -> String {
    match shape {
        Shape::Line(points) => {
            let mut path = String::new();
            for (i, point) in points.iter().enumerate() {
                let (x, y) = at(point);
                path += &format!("{}{x} {y}", if i == 0 { "M" } else { "L" });
            }
            path
        }
        Shape::Dot(point) => {
            let ((x, y), r) = (at(point), RADIUS);
            format!("M{} {y}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0", f64::from(x) - r, d = 2.0 * r)
        }
        Shape::Rectangle(low, high) => {
            let ((left, bottom), (right, top)) = (at(low), at(high));
            format!("M{left} {bottom}V{top}H{right}V{bottom}Z")
        }
    }
}

/// A number beside an axis.
fn number(value: f64, logarithmic: bool) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 1e-3 => format!("{value:e}"),
        large if large >= 1e6 || (logarithmic && large >= 1e4) => format!("{value:e}"),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(ends: [f64; 2], logarithmic: bool) -> Axis<'static> {
        Axis { label: "share of pixels", ends, logarithmic }
    }

    fn mark(shape: Shape) -> Mark {
        Mark { shape, class: "line".into(), series: 3, title: "<of> \"one\"".into() }
    }

    #[test]
    fn marks_lie_where_the_axes_say() {
        let line = mark(Shape::Line(vec![[0.0, 0.0], [1.0, 1.0]]));
        let svg = chart("a line", axis([0.0, 1.0], false), axis([0.0, 1.0], false), &[line]).unwrap();
        assert!(svg.contains("role=\"img\"") && svg.contains("aria-label=\"a line\""), "{svg}");
        assert!(svg.contains("share of pixels") && svg.contains("data-series=\"3\""), "{svg}");
        assert!(svg.contains("&#60;of&#62; &#34;one&#34;"), "{svg}");
        let path = svg.split(" d=\"M").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<f64> = path.split(['L', ' ']).map(|n| n.parse().unwrap()).collect();
        // From the left and the bottom to the right and the top.
        assert!(points[0] < points[2] && points[1] > points[3], "{points:?}");
        assert!((points[2] - (760.0 - f64::from(TEXT))).abs() <= 2.0, "{points:?}");
    }

    #[test]
    fn equal_ratios_are_equally_far_apart() {
        let dots = [1.0, 10.0, 100.0].map(|x| mark(Shape::Dot([x, 10.0])));
        let svg = chart("dots", axis([1.0, 100.0], true), axis([1.0, 100.0], true), &dots).unwrap();
        let left: Vec<f64> = svg
            .split(" d=\"M")
            .skip(1)
            .map(|path| path.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!((left[1] - left[0] - (left[2] - left[1])).abs() <= 1.0, "{left:?}");
    }
}
