//! Measured steps as a roofline plot: how fast each is, over how much it computes for a byte.

use crate::chart::{Axis, Mark, Shape, chart};
use crate::error::PageError;
use crate::words::number;
use relc_viz::percent;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The machine and the instruction set, in words.
    pub machine: String,
    /// Threads.
    pub threads: usize,
    /// Runs, of which the least time of each step counts.
    pub runs: usize,
    /// The most GFLOP/s of multiply-adds.
    pub peak: f64,
    /// The levels of memory, from the nearest on, and what they give in GB/s.
    pub levels: Vec<(&'static str, f64)>,
    /// The steps, in their order.
    pub steps: Vec<ProfileStep>,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileStep {
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// The node that it is for.
    pub node: String,
    /// The node's op.
    pub op: String,
    /// What it does.
    pub step: String,
    /// Microseconds.
    pub us: f64,
    /// Floating-point operations, of the plain sums.
    pub flops: f64,
    /// What comes from beyond the first cache, by the model of the machine.
    pub bytes: f64,
    /// The least time that the machine allows, in microseconds, and what sets it.
    pub bound_us: f64,
    /// What sets it.
    pub bound_by: &'static str,
    /// The share of the whole time.
    pub of_time: f64,
}

impl ProfileStep {
    fn rate(&self) -> f64 {
        self.flops / self.us / 1e3
    }

    /// Where it is drawn, if it computes, and something of it comes from beyond the first cache.
    fn point(&self) -> Option<[f64; 2]> {
        let point = [self.flops / self.bytes, self.rate()];
        point.iter().all(|v| v.is_finite() && *v > 0.0).then_some(point)
    }
}

/// What is shown of a profile.
pub struct Roofline {
    /// The plot; none if no step can be drawn.
    pub svg: Option<String>,
    /// What it shows.
    pub words: String,
    /// Its limits, with the class of each one's line.
    pub limits: Vec<(String, String)>,
    /// The steps.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of the table of steps.
pub struct Cell {
    /// What it says.
    pub text: String,
    /// By what it sorts, if that is a number.
    pub value: Option<String>,
}

/// The heads of the table's columns, and whether they are numbers.
pub const COLUMNS: [(&str, bool); 12] = [
    ("pass", false),
    ("node", false),
    ("op", false),
    ("step", false),
    ("µs", true),
    ("of time", true),
    ("MFLOP", true),
    ("GFLOP/s", true),
    ("MB", true),
    ("FLOP per byte", true),
    ("bound µs", true),
    ("bound by", false),
];

fn row(step: &ProfileStep) -> Vec<Cell> {
    let text = |text: &str| Cell { text: text.into(), value: None };
    let sorted = |value: f64, shown: String| Cell { text: shown, value: Some(value.to_string()) };
    // What does not compute has no rate.
    let computed = |value: f64| match step.flops > 0.0 && value.is_finite() {
        true => sorted(value, number(value)),
        false => Cell { text: String::new(), value: Some(String::new()) },
    };
    vec![
        text(step.pass),
        text(&step.node),
        text(&step.op),
        text(&step.step),
        sorted(step.us, number(step.us)),
        sorted(step.of_time, percent(step.of_time)),
        computed(step.flops / 1e6),
        computed(step.rate()),
        sorted(step.bytes, number(step.bytes / 1e6)),
        computed(step.flops / step.bytes),
        sorted(step.bound_us, number(step.bound_us)),
        text(step.bound_by),
    ]
}

/// Draws a profile.
pub fn roofline(profile: &Profile) -> Result<Roofline, PageError> {
    let drawn: Vec<(&ProfileStep, [f64; 2])> =
        profile.steps.iter().filter_map(|step| Some((step, step.point()?))).collect();
    let share: f64 = drawn.iter().map(|(step, _)| step.of_time).sum();
    let words = format!(
        "{} of {} steps are drawn, {} of the time; the others compute nothing that is counted, or all of theirs is in the \
         first cache.",
        drawn.len(),
        profile.steps.len(),
        percent(share)
    );
    let mut limits = vec![(format!("arithmetic: {} GFLOP/s", number(profile.peak)), "limit".to_string())];
    for (i, (level, rate)) in profile.levels.iter().enumerate() {
        limits.push((format!("{level}: {} GB/s", number(*rate)), format!("limit d{}", i + 1)));
    }
    let rows = profile.steps.iter().map(row).collect();
    if drawn.is_empty() {
        return Ok(Roofline { svg: None, words, limits, rows });
    }
    let ridges = profile.levels.iter().map(|(_, rate)| profile.peak / rate);
    let x = ends(drawn.iter().map(|(_, point)| point[0]).chain(ridges));
    let y = ends(drawn.iter().map(|(_, point)| point[1]).chain([profile.peak]));
    let mut marks = Vec::new();
    let limit = |shape, (title, class): &(String, String)| Mark {
        shape,
        class: class.clone(),
        series: 0,
        title: title.clone(),
    };
    let [left, right] = x;
    marks.push(limit(Shape::Line(vec![[left, profile.peak], [right, profile.peak]]), &limits[0]));
    for ((_, rate), said) in profile.levels.iter().zip(&limits[1..]) {
        // From where it enters the chart to where arithmetic limits as much.
        let from = left.max(y[0] / rate);
        let to = profile.peak / rate;
        if rate.is_finite() && *rate > 0.0 && from < to {
            marks.push(limit(Shape::Line(vec![[from, from * rate], [to, profile.peak]]), said));
        }
    }
    for (step, point) in &drawn {
        let class = if step.pass == "forward" { "dot s0" } else { "dot hollow s1" };
        let title = format!(
            "{} \"{}\" ({}): {}, {} µs, {} of the time",
            step.pass,
            step.node,
            step.op,
            step.step,
            number(step.us),
            percent(step.of_time)
        );
        marks.push(Mark { shape: Shape::Dot(*point), class: class.into(), series: 0, title });
    }
    let label = format!("Roofline: GFLOP/s over FLOP per byte. {words}");
    let x = Axis { label: "FLOP per byte from beyond the first cache", ends: x, logarithmic: true };
    let y = Axis { label: "GFLOP/s", ends: y, logarithmic: true };
    let svg = Some(chart(&label, x, y, &marks)?);
    Ok(Roofline { svg, words, limits, rows })
}

/// The ends of an axis: a power of ten below all numbers, and somewhat above all of them.
fn ends(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
    for value in values.filter(|v| v.is_finite() && *v > 0.0) {
        ends = [ends[0].min(value), ends[1].max(value)];
    }
    let low = 10f64.powf(ends[0].log10().floor());
    // A range that is no range can't be drawn.
    [low, (ends[1] * 1.5).max(low * 10.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(flops: f64, bytes: f64) -> ProfileStep {
        ProfileStep {
            pass: "forward",
            node: "<b>\"conv\"".into(),
            op: "conv".into(),
            step: "conv".into(),
            us: 10.0,
            flops,
            bytes,
            bound_us: 5.0,
            bound_by: "arithmetic",
            of_time: 0.25,
        }
    }

    fn profile(steps: Vec<ProfileStep>) -> Profile {
        let levels = vec![("L2", 100.0), ("memory", 10.0)];
        Profile { machine: "zen4".into(), threads: 1, runs: 3, peak: 50.0, levels, steps }
    }

    #[test]
    fn steps_lie_below_their_limits() {
        let drawn = roofline(&profile(vec![step(1e5, 1e5), step(0.0, 1e5), step(1e5, 0.0)])).unwrap();
        let svg = drawn.svg.unwrap();
        assert_eq!(svg.matches("class=\"dot s0\"").count(), 1);
        assert_eq!(svg.matches("class=\"limit").count(), 3);
        assert!(svg.contains("&#60;b&#62;") && !svg.contains("<b>"), "{svg}");
        assert!(drawn.words.starts_with("1 of 3 steps are drawn, 25.0 % of the time"), "{}", drawn.words);
        let row: Vec<&str> = drawn.rows[0].iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!(row[4..11], ["10.00", "25.0 %", "0.1000", "10.00", "0.1000", "1.000", "5.000"]);
        assert_eq!(drawn.rows[1][7].text, "");
    }

    #[test]
    fn a_profile_without_sums_has_a_table_alone() {
        let drawn = roofline(&profile(vec![step(0.0, 0.0)])).unwrap();
        assert!(drawn.svg.is_none());
        assert_eq!(drawn.rows.len(), 1);
    }

    #[test]
    fn axes_have_room_for_all_numbers() {
        assert_eq!(ends([3.0, 250.0, f64::INFINITY, 0.0].into_iter()), [1.0, 375.0]);
        assert_eq!(ends([10.0].into_iter()), [10.0, 100.0]);
    }
}
