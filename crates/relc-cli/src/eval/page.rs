//! `--report`: the evaluation as a page.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, IxDyn};
use relc_eval::metric::{self, resampled};
use relc_eval::{Attribution, CURVE, Item, Mean, Outcome, Record, Row, Settings};
use relc_html::evaluation::{
    Better, Evaluation, Example, Extremes, MeanCurve, MethodResult, MetricCell, MetricColumn, PictureMean,
    ShownPicture, evaluation_page,
};

use super::args::EvalArgs;
use super::show::Report;
use super::subject::{self, Subject};
use crate::failure::Failure;

/// The pictures at each end of a column.
const ENDS: usize = 4;
/// Maps of pictures at the ends of columns but the first: a column whose maps are beyond it is shown by names and values.
const MOST: usize = 160;

/// The page.
pub fn page(
    opened: &Subject<'_>,
    attributions: &[Attribution],
    settings: &Settings,
    args: &EvalArgs,
    report: &Report<'_>,
    outcome: &Outcome,
) -> Result<String, Failure> {
    let table = report.table;
    let columns: Vec<MetricColumn> = table.columns.iter().map(column).collect();
    let ends: Vec<Vec<[Vec<Ranked>; 2]>> =
        outcome.iter().map(|records| columns.iter().map(|column| ends(records, column)).collect()).collect();
    let items = &opened.dataset.items;
    let sample = usize::from(args.grid_pictures).min(items.len());
    let wanted = wanted(sample, attributions.len(), &ends);
    let places: BTreeMap<usize, usize> =
        wanted.keys().enumerate().map(|(place, picture)| (*picture, place)).collect();
    let extremes = |method: usize| -> Vec<Extremes> {
        let example = |ranked: &Ranked| Example {
            picture: items.get(ranked.picture).map(|item| item.name.clone()).unwrap_or_default(),
            value: ranked.value,
            shown: places.get(&ranked.picture).copied(),
        };
        let list = |list: &[Ranked]| list.iter().map(example).collect();
        let columns = ends[method].iter();
        columns.map(|[best, worst]| Extremes { best: list(best), worst: list(worst) }).collect()
    };
    let method = |(i, (row, records)): (usize, (&Row, &Vec<Record>))| MethodResult {
        name: row.method.clone(),
        seconds: row.seconds,
        pictures: records.len(),
        cells: row.cells.iter().map(cell).collect(),
        insertion: mean_curve(records, "insertion"),
        deletion: mean_curve(records, "deletion"),
        extremes: extremes(i),
    };
    let methods = table.rows.iter().zip(outcome).enumerate().map(method).collect();
    let evaluation = Evaluation {
        model: report.model.clone(),
        dataset: report.dataset.clone(),
        pictures: report.pictures,
        accuracy: report.accuracy,
        protocol: report.protocol.clone(),
        notes: report.notes.clone(),
        command: command(),
        shares: shares(opened, attributions, settings)?,
        columns,
        baseline: table.baseline.clone(),
        methods,
        shown: shown(opened, attributions, settings, outcome, &wanted)?,
        sample,
    };
    Ok(evaluation_page(&evaluation)?)
}

fn column(column: &relc_eval::Column) -> MetricColumn {
    let better = match column.better {
        metric::Better::Higher => Better::Higher,
        metric::Better::Lower => Better::Lower,
        metric::Better::Neither => Better::Neither,
    };
    MetricColumn { name: column.name.to_string(), better }
}

fn cell(cell: &relc_eval::Cell) -> MetricCell {
    let mean = |m: Mean| PictureMean {
        pictures: m.pictures,
        mean: m.mean,
        error: m.standard_error,
        interval: m.interval,
    };
    MetricCell { mean: cell.mean.map(mean), minus_baseline: cell.minus_baseline.map(mean) }
}

/// The mean of the curves that are there, whatever their lengths, with the mean of their areas.
fn mean_curve(records: &[Record], name: &str) -> Option<MeanCurve> {
    let curves: Vec<(Vec<f64>, f64)> = records
        .iter()
        .filter_map(|record| {
            let scores: Vec<f64> = record.curves.get(name)?.iter().copied().map(f64::from).collect();
            let area = record.values.get(name).copied().flatten()?;
            (!scores.is_empty()).then(|| (resampled(&scores, CURVE), area))
        })
        .collect();
    let count = curves.len() as f64;
    let area = curves.iter().map(|(_, area)| area).sum::<f64>() / count;
    let point = |i: usize| curves.iter().map(|(scores, _)| scores[i]).sum::<f64>() / count;
    (!curves.is_empty()).then(|| MeanCurve {
        scores: (0..CURVE).map(point).collect(),
        area,
        pictures: curves.len(),
    })
}

/// A picture of the data set with a method's value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ranked {
    picture: usize,
    value: f64,
}

/// The pictures with the best values and those with the worst, none in both. The records are in the data set's order.
fn ends(records: &[Record], column: &MetricColumn) -> [Vec<Ranked>; 2] {
    let of = |(picture, record): (usize, &Record)| {
        let value = record.values.get(&column.name).copied().flatten()?;
        Some(Ranked { picture, value })
    };
    let mut ranked: Vec<Ranked> = records.iter().enumerate().filter_map(of).collect();
    ranked.sort_by(|a, b| match column.better {
        Better::Lower => a.value.total_cmp(&b.value),
        Better::Higher | Better::Neither => b.value.total_cmp(&a.value),
    });
    let best = ranked.iter().take(ENDS.min(ranked.len().div_ceil(2))).copied().collect();
    let worst = ranked.iter().rev().take(ENDS.min(ranked.len() / 2)).copied().collect();
    [best, worst]
}

/// The pictures that are shown, each with the methods whose maps are: the first ones with all, then those at the ends of
/// the first column, then those of other columns while there is room.
fn wanted(sample: usize, methods: usize, ends: &[Vec<[Vec<Ranked>; 2]>]) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut wanted: BTreeMap<usize, BTreeSet<usize>> =
        (0..sample).map(|picture| (picture, (0..methods).collect())).collect();
    let columns = ends.first().map_or(0, Vec::len);
    let mut room = MOST;
    for column in 0..columns {
        let pairs = ends.iter().enumerate().flat_map(|(method, ends)| {
            ends.get(column).into_iter().flatten().flatten().map(move |ranked| (ranked.picture, method))
        });
        let more: Vec<(usize, usize)> = pairs
            .filter(|(picture, method)| !wanted.get(picture).is_some_and(|methods| methods.contains(method)))
            .collect();
        if column == 0 || more.len() <= room {
            room = room.saturating_sub(more.len());
            more.into_iter().for_each(|(picture, method)| {
                wanted.entry(picture).or_default().insert(method);
            });
        }
    }
    wanted
}

/// The pictures with their maps, which are computed again.
fn shown(
    opened: &Subject<'_>,
    attributions: &[Attribution],
    settings: &Settings,
    outcome: &Outcome,
    wanted: &BTreeMap<usize, BTreeSet<usize>>,
) -> Result<Vec<ShownPicture>, Failure> {
    let bench = opened.bench(attributions, &[]);
    let shape = opened.map_shape();
    let bar = subject::bar();
    bar.set_length(wanted.len() as u64);
    let mut shown = Vec::new();
    for (picture, methods) in wanted {
        let Some(item) = opened.dataset.items.get(*picture) else { continue };
        bar.set_message(format!("maps for the page: {}", item.name));
        let methods: Vec<usize> = methods.iter().copied().collect();
        let (seen, made) = bench.maps_of(item, settings, &methods)?;
        let mut maps = vec![None; attributions.len()];
        for (method, map) in methods.into_iter().zip(made) {
            maps[method] = Some(ArrayD::from_shape_vec(IxDyn(&shape), map)?);
        }
        let record = outcome.iter().find_map(|records| records.get(*picture));
        let about = record.map(|record| about(record, item, opened.labels.as_deref())).unwrap_or_default();
        let picture = opened.is_of_pictures().then_some(seen);
        shown.push(ShownPicture { name: item.name.clone(), about, picture, maps });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(shown)
}

/// The class that was explained, and what else the picture is or was taken for.
fn about(record: &Record, item: &Item, labels: Option<&[String]>) -> String {
    let name = |class: usize| {
        let label = labels.and_then(|labels| labels.get(class));
        label.cloned().unwrap_or_else(|| format!("output {class}"))
    };
    let mut about = format!("explained: {}", name(record.class));
    if record.predicted != record.class {
        about += &format!("; predicted: {}", name(record.predicted));
    }
    if let Some(label) = item.label.filter(|label| *label != record.class) {
        about += &format!("; label: {}", name(label));
    }
    about
}

/// The share of the pixels at each point of a curve that is kept.
fn shares(
    opened: &Subject<'_>,
    attributions: &[Attribution],
    settings: &Settings,
) -> Result<Vec<f64>, Failure> {
    let pixels = opened.bench(attributions, &[]).geometry()?.pixels();
    let curves = &settings.protocol.curves;
    let counts = metric::counts(pixels, curves.step, curves.ends);
    let shares: Vec<f64> = counts.into_iter().map(|count| count as f64 / pixels.max(1) as f64).collect();
    Ok(resampled(&shares, CURVE))
}

/// The command line.
fn command() -> Vec<String> {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    ["relc".to_string()].into_iter().chain(arguments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Option<f64>, curve: &[f64]) -> Record {
        let mut record = Record {
            key: String::new(),
            picture: String::new(),
            method: String::new(),
            class: 0,
            predicted: 0,
            seconds: 0.0,
            values: [("insertion".to_string(), value)].into(),
            curves: Default::default(),
        };
        if !curve.is_empty() {
            record.keep_curve("insertion", curve);
        }
        record
    }

    #[test]
    fn curves_of_different_lengths_have_a_mean() {
        let long: Vec<f64> = (0..101).map(|k| f64::from(k) / 100.0).collect();
        let records = [record(Some(0.5), &long), record(Some(0.25), &[0.0, 0.5]), record(Some(1.0), &[])];
        let mean = mean_curve(&records, "insertion").unwrap();
        assert_eq!((mean.pictures, mean.area, mean.scores.len()), (2, 0.375, CURVE));
        for (i, score) in mean.scores.iter().enumerate() {
            assert!((score - 0.75 * i as f64 / 50.0).abs() < 1e-6, "{i}: {score}");
        }
        assert_eq!(mean_curve(&records[2..], "insertion"), None);
    }

    #[test]
    fn ends_are_apart_and_skip_pictures_without_a_value() {
        let values = [Some(0.3), None, Some(0.1), Some(0.2)];
        let records = values.map(|value| record(value, &[]));
        let ends = |better| {
            let column = MetricColumn { name: "insertion".into(), better };
            ends(&records, &column).map(|list| list.iter().map(|ranked| ranked.picture).collect::<Vec<_>>())
        };
        assert_eq!(ends(Better::Higher), [vec![0, 3], vec![2]]);
        assert_eq!(ends(Better::Lower), [vec![2, 3], vec![0]]);
    }

    #[test]
    fn maps_are_bounded_and_those_of_the_first_column_are_there() {
        let at = |picture| Ranked { picture, value: 0.0 };
        let column =
            |first: usize| [(first..first + 4).map(at).collect(), (first + 4..first + 8).map(at).collect()];
        let ends = vec![vec![column(0), column(100), column(200)]; 15];
        let wanted = wanted(2, 15, &ends);
        assert!(wanted.contains_key(&7) && !wanted.contains_key(&100), "{wanted:?}");
        assert_eq!(wanted.values().map(BTreeSet::len).sum::<usize>(), 15 * 8);
        let few = super::wanted(2, 2, &ends[..2]);
        assert_eq!(few.len(), 24);
    }
}
