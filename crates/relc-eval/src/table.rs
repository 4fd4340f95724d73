//! From records to a table: means, standard errors, bootstrap intervals, differences to a baseline.

use serde::Serialize;

use crate::metric::{Better, Metric, rng};
use crate::results::Record;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A mean over pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The pictures that have a value.
    pub pictures: usize,
    /// Their mean.
    pub mean: f64,
    /// The standard error of the mean; 0 for one picture.
    pub standard_error: f64,
    /// The percentile bootstrap's 95 % interval of the mean (Efron, 1979).
    pub interval: [f64; 2],
}

impl Mean {
    /// The mean of some values; `None` of none. The bootstrap's random numbers depend on `seed`.
    pub fn of(values: &[f64], seed: u64) -> Option<Mean> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let standard_error = if n > 1 { (squares / (n - 1) as f64 / n as f64).sqrt() } else { 0.0 };
        let mut rng = rng(seed, "bootstrap", n);
        let resample = |_| (0..n).map(|_| values[rng.usize(0..n)]).sum::<f64>() / n as f64;
        let mut means: Vec<f64> = (0..RESAMPLES).map(resample).collect();
        means.sort_by(f64::total_cmp);
        let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
        Some(Mean { pictures: n, mean, standard_error, interval: [at(0.025), at(0.975)] })
    }
}

/// What one method got in one column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The mean; `None` if no picture has a value.
    #[serde(flatten)]
    pub mean: Option<Mean>,
    /// The mean of the differences to the baseline, over the pictures that both have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minus_baseline: Option<Mean>,
}

/// A method's row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The method.
    pub method: String,
    /// Its cells, in the order of the table's columns.
    pub cells: Vec<Cell>,
    /// The mean time of an explanation, in seconds. It differs from run to run, so it is printed apart.
    #[serde(skip)]
    pub seconds: f64,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Column {
    /// The metric it belongs to.
    #[serde(skip)]
    pub metric: Metric,
    /// Its name.
    pub name: &'static str,
    /// Which end is good.
    pub better: Better,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The method that others are compared with.
    pub baseline: Option<String>,
    /// The methods.
    pub rows: Vec<Row>,
}

impl Table {
    /// The table of a run: for each method, its records. `baseline` is a method's name.
    pub fn new(
        methods: &[String],
        outcome: &[Vec<Record>],
        metrics: &[Metric],
        baseline: Option<&str>,
        seed: u64,
    ) -> Table {
        let mut columns: Vec<Column> = Vec::new();
        for metric in metrics {
            for (name, better) in metric.description().columns {
                if columns.iter().all(|c| c.name != *name) {
                    columns.push(Column { metric: *metric, name, better: *better });
                }
            }
        }
        let base = baseline.and_then(|b| methods.iter().position(|m| m == b)).and_then(|i| outcome.get(i));
        let row = |(method, records): (&String, &Vec<Record>)| {
            let compared = base.filter(|_| Some(method.as_str()) != baseline);
            let cell = |column: &Column| cell(records, compared.map(Vec::as_slice), column.name, seed);
            let seconds = records.iter().map(|r| r.seconds).sum::<f64>() / records.len().max(1) as f64;
            Row { method: method.clone(), cells: columns.iter().map(cell).collect(), seconds }
        };
        let rows = methods.iter().zip(outcome).map(row).collect();
        Table { baseline: baseline.map(str::to_string), rows, columns }
    }

    /// The cell of a method in a column.
    pub fn get(&self, method: &str, column: &str) -> Option<&Cell> {
        let row = self.rows.iter().find(|r| r.method == method)?;
        row.cells.get(self.columns.iter().position(|c| c.name == column)?)
    }

    /// The table as CSV, a line for each method and column.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let head = ["method", "metric", "pictures", "mean", "standard_error", "low", "high"];
        let difference = ["minus_baseline", "difference_error", "difference_low", "difference_high"];
        // Writing to memory does not fail.
        let _ = writer.write_record(head.iter().chain(&difference));
        for row in &self.rows {
            for (column, cell) in self.columns.iter().zip(&row.cells) {
                let numbers = |mean: &Option<Mean>| match mean {
                    Some(m) => {
                        [m.mean, m.standard_error, m.interval[0], m.interval[1]].map(|v| v.to_string())
                    }
                    None => Default::default(),
                };
                let pictures = cell.mean.map_or(0, |m| m.pictures).to_string();
                let mut fields = vec![row.method.clone(), column.name.to_string(), pictures];
                fields.extend(numbers(&cell.mean));
                fields.extend(numbers(&cell.minus_baseline));
                let _ = writer.write_record(&fields);
            }
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

fn cell(records: &[Record], base: Option<&[Record]>, column: &str, seed: u64) -> Cell {
    let value = |record: &Record| record.values.get(column).copied().flatten();
    let values: Vec<f64> = records.iter().filter_map(value).collect();
    let minus_baseline = base.and_then(|base| {
        let of_picture: std::collections::HashMap<&str, f64> =
            base.iter().filter_map(|r| Some((r.picture.as_str(), value(r)?))).collect();
        let difference = |r: &Record| Some(value(r)? - of_picture.get(r.picture.as_str())?);
        Mean::of(&records.iter().filter_map(difference).collect::<Vec<f64>>(), seed)
    });
    Cell { mean: Mean::of(&values, seed), minus_baseline }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[Option<f64>]) -> Vec<Record> {
        let record = |(i, value): (usize, &Option<f64>)| Record {
            key: i.to_string(),
            picture: format!("{i}.png"),
            method: "m".into(),
            class: 0,
            predicted: 0,
            seconds: 2.0,
            values: [("id".to_string(), *value)].into(),
            curves: Default::default(),
        };
        values.iter().enumerate().map(record).collect()
    }

    #[test]
    fn means_and_their_errors() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0], 0).unwrap();
        assert_eq!((mean.pictures, mean.mean), (4, 2.5));
        assert!((mean.standard_error - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        let [low, high] = mean.interval;
        assert!((1.0..1.8).contains(&low) && (3.2..4.0).contains(&high), "{low} {high}");
        assert_eq!(mean, Mean::of(&[1.0, 2.0, 3.0, 4.0], 0).unwrap());
        assert_eq!(Mean::of(&[7.0], 0).unwrap().interval, [7.0, 7.0]);
        assert_eq!(Mean::of(&[], 0), None);
    }

    #[test]
    fn the_interval_of_a_large_sample_is_about_two_errors_each_way() {
        let values: Vec<f64> = (0..400).map(|i| f64::from((i * 7919) % 400)).collect();
        let mean = Mean::of(&values, 3).unwrap();
        for (end, sign) in mean.interval.into_iter().zip([-1.0, 1.0]) {
            let errors = sign * (end - mean.mean) / mean.standard_error;
            assert!((1.8..2.15).contains(&errors), "{errors}");
        }
    }

    #[test]
    fn differences_pair_pictures_and_skip_what_has_no_value() {
        let outcome =
            [records(&[Some(1.0), Some(5.0), None, Some(3.0)]), records(&[Some(0.5), Some(4.0), Some(9.0)])];
        let methods = ["a".to_string(), "b".to_string()];
        let table = Table::new(&methods, &outcome, &[Metric::Id], Some("b"), 0);
        let cell = table.get("a", "id").unwrap();
        assert_eq!((cell.mean.unwrap().pictures, cell.mean.unwrap().mean), (3, 3.0));
        let difference = cell.minus_baseline.unwrap();
        assert_eq!((difference.pictures, difference.mean), (2, 0.75));
        assert_eq!(table.get("b", "id").unwrap().minus_baseline, None);
        assert_eq!(table.get("a", "insertion").unwrap().mean, None);
        let csv = table.csv();
        assert!(csv.contains("\na,id,3,3,"), "{csv}");
        assert_eq!(csv.lines().count(), 1 + 2 * 3);
    }
}
