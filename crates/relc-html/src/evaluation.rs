//! The page of an evaluation: how good the maps of some methods are, over a data set.

mod small;

use askama::Template;
use image::RgbImage;
use ndarray::ArrayD;
use relc_viz::fixed;
use schemars::JsonSchema;
use serde::Serialize;

use crate::array::Grid;
use crate::chart::{self, Mark, Shape, chart};
use crate::colours::Colours;
use crate::error::PageError;
use crate::page::{Page, module, quoted};
use small::{embedded, small};

/// The most and the fewest values of an embedded map.
const MAP: [usize; 2] = [32 * 32, 112 * 112];
/// The values of all maps together, about: 4 MB in base64.
const MAPS: usize = 1_500_000;

/// An evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The model's file.
    pub model: String,
    /// The data set.
    pub dataset: String,
    /// Its pictures.
    pub pictures: usize,
    /// The share of them that the model classifies right, where labels are known.
    pub accuracy: Option<f64>,
    /// How the metrics were measured, in a sentence.
    pub protocol: String,
    /// What readers must know.
    pub notes: Vec<String>,
    /// The command line.
    pub command: Vec<String>,
    /// The share of pixels at each point of the curves.
    pub shares: Vec<f64>,
    /// The metrics' columns.
    pub columns: Vec<MetricColumn>,
    /// The method that others are compared with.
    pub baseline: Option<String>,
    /// The methods.
    pub methods: Vec<MethodResult>,
    /// The pictures that the page shows.
    pub shown: Vec<ShownPicture>,
    /// As many of them, the first ones, stand in the table of maps.
    pub sample: usize,
}

/// Which end of a column is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
    /// Neither: it describes.
    Neither,
}

/// A column of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct MetricColumn {
    /// Its name.
    pub name: String,
    /// Which end is good.
    pub better: Better,
}

/// What a method got.
#[derive(Clone, Debug)]
pub struct MethodResult {
    /// Its name.
    pub name: String,
    /// The mean time of an explanation.
    pub seconds: f64,
    /// The pictures it ran on.
    pub pictures: usize,
    /// A cell for each column.
    pub cells: Vec<MetricCell>,
    /// The mean curve of insertion.
    pub insertion: Option<MeanCurve>,
    /// The mean curve of deletion.
    pub deletion: Option<MeanCurve>,
    /// For each column, the pictures at its ends.
    pub extremes: Vec<Extremes>,
}

/// A mean over pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureMean {
    /// The pictures that have a value.
    pub pictures: usize,
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
}

/// What a method got in a column.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricCell {
    /// The mean.
    pub mean: Option<PictureMean>,
    /// The mean of the differences to the baseline, picture by picture.
    pub minus_baseline: Option<PictureMean>,
}

/// A mean of curves.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanCurve {
    /// Scores, each at the share of pixels that [`Evaluation::shares`] has for its place.
    pub scores: Vec<f64>,
    /// The mean of the areas under the curves.
    pub area: f64,
    /// The pictures whose curves are there.
    pub pictures: usize,
}

/// The pictures at both ends of a column. Where neither end is good, the largest values stand for the best.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Extremes {
    /// From the best on.
    pub best: Vec<Example>,
    /// From the worst on.
    pub worst: Vec<Example>,
}

/// A picture with a method's value.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Example {
    /// The picture's name.
    pub picture: String,
    /// The value.
    pub value: f64,
    /// Its place among the pictures that the page shows, if it is one of them.
    pub shown: Option<usize>,
}

/// A picture that the page shows.
#[derive(Clone, Debug)]
pub struct ShownPicture {
    /// Its name.
    pub name: String,
    /// What is known of it, in a few words.
    pub about: String,
    /// The picture; none of a signal or volume.
    pub picture: Option<RgbImage>,
    /// For each method, the map, `f32[H,W]`, `f32[L]` or `f32[D,H,W]`, where it was made.
    pub maps: Vec<Option<ArrayD<f32>>>,
}

impl ShownPicture {
    /// Whether a method's map is there.
    fn has(&self, method: &usize) -> bool {
        matches!(self.maps.get(*method), Some(Some(_)))
    }
}

/// What the page's script reads.
#[derive(Serialize, JsonSchema)]
struct Data<'a> {
    columns: &'a [MetricColumn],
    methods: Vec<&'a str>,
    /// By method and column.
    extremes: Vec<&'a [Extremes]>,
    shown: Vec<Shown<'a>>,
    colours: Colours,
}

#[derive(Serialize, JsonSchema)]
struct Shown<'a> {
    name: &'a str,
    /// The `src` of an `img`.
    picture: Option<String>,
    /// By method.
    maps: Vec<Option<Grid>>,
}

#[derive(Template)]
#[template(path = "evaluation.html")]
struct Body<'a> {
    page: &'a Evaluation,
    heads: Vec<Head<'a>>,
    rows: Vec<Row<'a>>,
    charts: Vec<(&'static str, String)>,
    curves: Vec<CurveRow<'a>>,
    sample: &'a [ShownPicture],
    has_pictures: bool,
    command: String,
}

impl Body<'_> {
    /// The classes of a method's line: its colour, and a dash that its neighbours don't have.
    fn line(&self, method: &usize) -> String {
        line(*method)
    }

    /// Whether records miss the curves that others have, or that a column is the area of.
    fn lacks_curves(&self) -> bool {
        let areas = self.page.columns.iter().any(|c| c.name == "insertion" || c.name == "deletion");
        areas && self.curves.iter().any(|row| row.pictures < row.of)
    }
}

struct Head<'a> {
    name: &'a str,
    better: &'static str,
}

struct Row<'a> {
    name: &'a str,
    pictures: usize,
    seconds: f64,
    cells: Vec<(Cell, Option<Difference>)>,
}

#[derive(Default)]
struct Cell {
    value: String,
    text: String,
    interval: String,
    bar: Option<Bar>,
    /// Of how many pictures, where they are fewer than the method ran on.
    of: Option<usize>,
}

struct Difference {
    cell: Cell,
    verdict: &'static str,
}

/// An interval, its mean and zero, in percent of the width.
struct Bar {
    left: f64,
    width: f64,
    mean: f64,
    zero: Option<f64>,
}

struct CurveRow<'a> {
    method: usize,
    name: &'a str,
    insertion: Option<f64>,
    deletion: Option<f64>,
    pictures: usize,
    of: usize,
}

/// Writes the page.
///
/// # Errors
/// If a picture can't be encoded or a chart not be drawn.
pub fn evaluation_page(page: &Evaluation) -> Result<String, PageError> {
    let maps: usize = page.shown.iter().map(|shown| shown.maps.iter().flatten().count()).sum();
    let most = (MAPS / maps.max(1)).clamp(MAP[0], MAP[1]);
    let embed = |shown: &ShownPicture| -> Result<_, PageError> {
        let picture = shown.picture.as_ref().map(embedded).transpose()?;
        let maps = shown.maps.iter().map(|map| map.as_ref().map(|map| small(map, most))).collect();
        Ok((picture, maps))
    };
    let embedded: Vec<(Option<String>, Vec<Option<Grid>>)> =
        page.shown.iter().map(embed).collect::<Result<_, _>>()?;
    let shown = page.shown.iter().zip(embedded);
    let shown = shown.map(|(shown, (picture, maps))| Shown { name: &shown.name, picture, maps });
    let data = Data {
        columns: &page.columns,
        methods: page.methods.iter().map(|method| method.name.as_str()).collect(),
        extremes: page.methods.iter().map(|method| method.extremes.as_slice()).collect(),
        shown: shown.collect(),
        colours: Colours::signed(),
    };
    let sample = page.shown.get(..page.sample).unwrap_or(&page.shown);
    let (heads, rows) = table(page);
    let has_pictures = sample.iter().any(|shown| shown.picture.is_some());
    let body = Body {
        page,
        heads,
        rows,
        charts: charts(page)?,
        curves: areas(page),
        sample,
        has_pictures,
        command: quoted(&page.command),
    };
    let of = format!("{} on {}", page.model, page.dataset);
    Page {
        title: "How good the maps are",
        of: &of,
        body: body.render()?,
        data: &data,
        entry: module!("evaluation"),
        modules: &[module!("data"), module!("tables"), module!("maps")],
    }
    .render()
}

/// The classes of a method's line.
fn line(method: usize) -> String {
    format!("line s{} d{}", method % 8, (method + method / 8) % 4)
}

/// The mean curves, a chart for each metric that has any.
fn charts(page: &Evaluation) -> Result<Vec<(&'static str, String)>, PageError> {
    type Of = fn(&MethodResult) -> Option<&MeanCurve>;
    let kinds: [(&str, &str, Of); 2] = [
        ("Insertion", "share of pixels inserted", |method| method.insertion.as_ref()),
        ("Deletion", "share of pixels removed", |method| method.deletion.as_ref()),
    ];
    let mut charts = Vec::new();
    for (title, label, of) in kinds {
        let mark = |(series, method): (usize, &MethodResult)| {
            let curve = of(method)?;
            let points = page.shares.iter().zip(&curve.scores).map(|(share, score)| [*share, *score]);
            let title = format!("{}: area {}", method.name, fixed(curve.area));
            Some(Mark { shape: Shape::Line(points.collect()), class: line(series), series, title })
        };
        let marks: Vec<Mark> = page.methods.iter().enumerate().filter_map(mark).collect();
        if !marks.is_empty() {
            let axis = |label| chart::Axis { label, ends: [0.0, 1.0], logarithmic: false };
            let says = format!(
                "{title}: the mean probability by the {label}, a line for each method; the areas are in the table below"
            );
            charts.push((title, chart(&says, axis(label), axis("probability"), &marks)?));
        }
    }
    Ok(charts)
}

/// The areas under the curves.
fn areas<'a>(page: &'a Evaluation) -> Vec<CurveRow<'a>> {
    type Of = fn(&MethodResult) -> &Option<MeanCurve>;
    let kinds: [Of; 2] = [|method| &method.insertion, |method| &method.deletion];
    let kinds = kinds.into_iter().filter(|of| page.methods.iter().any(|method| of(method).is_some()));
    let kinds: Vec<Of> = kinds.collect();
    let row = |(i, method): (usize, &'a MethodResult)| {
        let pictures = kinds.iter().map(|of| of(method).as_ref().map_or(0, |curve| curve.pictures));
        CurveRow {
            method: i,
            name: &method.name,
            insertion: method.insertion.as_ref().map(|curve| curve.area),
            deletion: method.deletion.as_ref().map(|curve| curve.area),
            pictures: pictures.min().unwrap_or(0),
            of: method.pictures,
        }
    };
    page.methods.iter().enumerate().map(row).collect()
}

/// The heads and rows of the table of methods.
fn table(page: &Evaluation) -> (Vec<Head<'_>>, Vec<Row<'_>>) {
    let better = |better| match better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
        Better::Neither => "neither end is better",
    };
    let heads: Vec<Head<'_>> =
        page.columns.iter().map(|c| Head { name: &c.name, better: better(c.better) }).collect();
    let of = |column: usize| page.methods.iter().filter_map(move |method| method.cells.get(column));
    let scales: Vec<[[f64; 2]; 2]> = (0..page.columns.len())
        .map(|c| {
            [ends(of(c).filter_map(|cell| cell.mean)), ends(of(c).filter_map(|cell| cell.minus_baseline))]
        })
        .collect();
    let row = |method: &'_ MethodResult| -> Vec<(Cell, Option<Difference>)> {
        let cells = page.columns.iter().zip(&scales).zip(&method.cells);
        cells
            .map(|((column, [of_means, of_differences]), cell)| {
                let mean = cell.mean.map(|mean| shown(mean, *of_means, fixed, method.pictures));
                let minus = cell.minus_baseline.map(|difference| Difference {
                    cell: shown(difference, *of_differences, signed, method.pictures),
                    verdict: verdict(difference, column.better),
                });
                (mean.unwrap_or_default(), minus)
            })
            .collect()
    };
    let rows = page.methods.iter().map(|method| Row {
        name: &method.name,
        pictures: method.pictures,
        seconds: method.seconds,
        cells: row(method),
    });
    (heads, rows.collect())
}

/// The least and the largest end of some intervals.
fn ends(means: impl Iterator<Item = PictureMean>) -> [f64; 2] {
    means.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], mean| {
        [low.min(mean.interval[0]), high.max(mean.interval[1])]
    })
}

/// A mean as it is shown; `pictures` is how many it may be of.
fn shown(mean: PictureMean, [low, high]: [f64; 2], text: fn(f64) -> String, pictures: usize) -> Cell {
    let place = |value: f64| if high > low { 100.0 * (value - low) / (high - low) } else { 50.0 };
    let [left, right] = mean.interval.map(place);
    if mean.pictures < 2 {
        // One picture has neither an error nor an interval.
        let of = (mean.pictures != pictures).then_some(mean.pictures);
        return Cell { value: mean.mean.to_string(), text: text(mean.mean), of, ..Cell::default() };
    }
    Cell {
        value: mean.mean.to_string(),
        text: format!("{} ±{}", text(mean.mean), fixed(mean.error)),
        interval: format!("{} to {}", text(mean.interval[0]), text(mean.interval[1])),
        bar: Some(Bar {
            left,
            width: right - left,
            mean: place(mean.mean),
            zero: (low..=high).contains(&0.0).then(|| place(0.0)),
        }),
        of: (mean.pictures != pictures).then_some(mean.pictures),
    }
}

/// What a difference's interval says.
fn verdict(difference: PictureMean, better: Better) -> &'static str {
    let [low, high] = difference.interval;
    match (better, low > 0.0, high < 0.0) {
        _ if difference.pictures < 2 => "one picture tells nothing",
        (_, false, false) => "not told apart",
        (Better::Higher, true, _) | (Better::Lower, _, true) => "better",
        (Better::Higher, _, true) | (Better::Lower, true, _) => "worse",
        (Better::Neither, true, _) => "higher",
        (Better::Neither, false, true) => "lower",
    }
}

/// The same, with its sign.
fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", fixed(value)) } else { fixed(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use ndarray::IxDyn;
    use serde_json::Value;

    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

    fn mean(mean: f64, half: f64) -> PictureMean {
        PictureMean { pictures: 3, mean, error: half / 2.0, interval: [mean - half, mean + half] }
    }

    fn method(name: &str, curve: Option<MeanCurve>) -> MethodResult {
        let cell = MetricCell { mean: Some(mean(0.5, 0.1)), minus_baseline: Some(mean(-0.2, 0.1)) };
        let example = Example { picture: HOSTILE.into(), value: 0.5, shown: Some(0) };
        let extremes = vec![Extremes { best: vec![example], worst: Vec::new() }];
        let cells = vec![cell];
        MethodResult {
            name: name.into(),
            seconds: 0.01,
            pictures: 3,
            cells,
            insertion: curve,
            deletion: None,
            extremes,
        }
    }

    fn evaluation() -> Evaluation {
        let map = ArrayD::from_shape_fn(IxDyn(&[4, 6]), |at| at[0] as f32 - at[1] as f32);
        let curve = MeanCurve { scores: vec![0.0, 0.25, 1.0], area: 0.375, pictures: 2 };
        Evaluation {
            model: HOSTILE.into(),
            dataset: HOSTILE.into(),
            pictures: 3,
            accuracy: Some(2.0 / 3.0),
            protocol: "as the authors".into(),
            notes: vec![HOSTILE.into()],
            command: vec![HOSTILE.into()],
            shares: vec![0.0, 0.5, 1.0],
            columns: vec![MetricColumn { name: "deletion".into(), better: Better::Lower }],
            baseline: Some(HOSTILE.into()),
            methods: vec![method(HOSTILE, Some(curve)), method("conserve", None)],
            shown: vec![ShownPicture {
                name: HOSTILE.into(),
                about: HOSTILE.into(),
                picture: Some(RgbImage::from_pixel(6, 4, Rgb([9, 99, 199]))),
                maps: vec![Some(map), None],
            }],
            sample: 1,
        }
    }

    #[test]
    fn what_names_hold_is_text() {
        let html = evaluation_page(&evaluation()).unwrap();
        assert!(!html.contains("<img src=x"), "{html}");
        assert!(html.contains("&#60;img src=x onerror=alert(1)&#62;"), "{html}");
    }

    #[test]
    fn the_data_in_the_page_is_what_its_schema_says() {
        let html = evaluation_page(&evaluation()).unwrap();
        let (_, json) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        let data: Value = serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap();
        let schema = serde_json::to_value(schemars::schema_for!(Data<'_>)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&data).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert!(!validator.is_valid(&serde_json::json!({ "columns": [] })));
        assert_eq!(data["shown"][0]["maps"][0]["height"], 4);
        assert_eq!(data["extremes"][1][0]["best"][0]["picture"], HOSTILE);
    }

    #[test]
    fn curves_are_drawn_where_they_are_and_missed_where_they_are_not() {
        let mut page = evaluation();
        let html = evaluation_page(&page).unwrap();
        assert!(html.contains("<h3>Insertion</h3>") && !html.contains("<h3>Deletion</h3>"), "{html}");
        assert!(html.contains("2 of 3") && html.contains("another --results file"), "{html}");
        page.columns[0].name = "road".into();
        page.methods.iter_mut().for_each(|method| method.insertion = None);
        assert!(!evaluation_page(&page).unwrap().contains("id=\"curves\""));
    }

    #[test]
    fn a_difference_is_named_where_its_interval_excludes_zero() {
        let check = |difference, better, says| assert_eq!(verdict(mean(difference, 0.1), better), says);
        check(0.2, Better::Higher, "better");
        check(0.2, Better::Lower, "worse");
        check(-0.2, Better::Higher, "worse");
        check(-0.2, Better::Lower, "better");
        check(-0.2, Better::Neither, "lower");
        check(0.05, Better::Higher, "not told apart");
        let one = PictureMean { pictures: 1, ..mean(0.2, 0.0) };
        assert_eq!(verdict(one, Better::Higher), "one picture tells nothing");
    }
}
