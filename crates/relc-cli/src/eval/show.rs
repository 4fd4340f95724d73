//! The table as people read it, and as JSON.

use relc_eval::metric::{Better, Metric};
use relc_eval::{Class, Dataset, Mean, Outcome, Row, Settings, Table, Ties};
use relc_viz::fixed;
use serde::Serialize;

use super::args::SubjectArgs;
use crate::table::{self, is_utf8};

/// What `--json` writes.
#[derive(Serialize)]
pub struct Report<'a> {
    relc: &'static str,
    /// The model's file.
    pub model: String,
    /// The data set.
    pub dataset: String,
    /// How many pictures it has.
    pub pictures: usize,
    /// The share of pictures whose label is the largest output, where labels are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// How the metrics were measured, in a sentence.
    pub protocol: String,
    /// What readers must know.
    pub notes: Vec<String>,
    /// What the methods got.
    pub table: &'a Table,
    /// Seconds per explanation, where the command asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<Vec<(String, f64)>>,
    /// The search, with `relc tune`; the table is then of the other half of the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
}

/// What a search found.
#[derive(Serialize)]
pub struct Tuned {
    /// The column that was made as good as can be.
    pub metric: String,
    /// How many presets were tried.
    pub tried: usize,
    /// What tells the best from the others.
    pub best: String,
    /// Its mean of the column on the half that it was chosen by.
    pub score: f64,
    /// The pictures of that half.
    pub pictures: usize,
    /// The file that it was written to.
    pub preset: String,
}

impl<'a> Report<'a> {
    /// The report of a run.
    pub fn new(
        args: &SubjectArgs,
        time: bool,
        dataset: &Dataset,
        settings: &Settings,
        table: &'a Table,
        outcome: &Outcome,
    ) -> Self {
        let seconds = || table.rows.iter().map(|r| (r.method.clone(), r.seconds)).collect();
        Report {
            relc: env!("CARGO_PKG_VERSION"),
            model: args.model.display().to_string(),
            dataset: args.dataset.display().to_string(),
            pictures: dataset.items.len(),
            accuracy: accuracy(dataset, outcome),
            protocol: protocol(settings),
            notes: notes(settings, dataset.items.len()),
            table,
            seconds: time.then(seconds),
            tuned: None,
        }
    }

    /// The report as text.
    pub fn lines(&self, time: bool) -> Vec<String> {
        let accuracy = self.accuracy.map(|a| format!(", {:.1} % of them classified right", a * 100.0));
        let head = format!("{}: {} pictures of {}", self.model, self.pictures, self.dataset);
        let mut lines = vec![head + &accuracy.unwrap_or_default(), self.protocol.clone()];
        let mut metrics: Vec<Metric> = self.table.columns.iter().map(|c| c.metric).collect();
        metrics.dedup();
        lines.extend(metrics.into_iter().map(|metric| metric_table(self.table, metric)));
        if time {
            let mut t = table::Table::new(&["method", "seconds per picture"], 1);
            for row in &self.table.rows {
                t.add_row([row.method.clone(), format!("{:.4}", row.seconds)]);
            }
            lines.push(t.to_string());
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines
    }

    /// The time of each method.
    pub fn times(&self) -> String {
        let one = |row: &Row| format!("{} {:.4} s", row.method, row.seconds);
        self.table.rows.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The share of labelled pictures whose label the model predicts.
fn accuracy(dataset: &Dataset, outcome: &Outcome) -> Option<f64> {
    // Every picture is in the longest list: that of a method that is no control.
    let records = outcome.iter().max_by_key(|records| records.len())?;
    let labels = dataset.items.iter().map(|item| item.label).collect::<Option<Vec<_>>>()?;
    let right = records.iter().zip(&labels).filter(|(record, label)| record.predicted == **label).count();
    (records.len() == labels.len()).then(|| right as f64 / labels.len().max(1) as f64)
}

fn protocol(settings: &Settings) -> String {
    let curves = &settings.protocol.curves;
    let ties = match curves.ties {
        Ties::Strict { orders } => format!("ties in random order (mean of {orders})"),
        Ties::Together => "ties together".into(),
    };
    let class = if settings.class == Class::Label { "labelled" } else { "predicted" };
    let heat = settings.heat_levels.map(|l| format!(", maps in {l} heat levels"));
    format!(
        "score: probability of the {class} class; removed pixels: {}; insertion and deletion: steps of {} pixels, {ties}, \
         ends as {}{}; seed {}",
        settings.base,
        curves.step,
        if curves.ends.to_string() == "rise" { "RISE counts them" } else { "the authors count them" },
        heat.unwrap_or_default(),
        settings.seed
    )
}

fn notes(settings: &Settings, pictures: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let curves = [Metric::Id, Metric::Insertion, Metric::Deletion];
    if settings.protocol.curves.ties == Ties::Together && settings.metrics.iter().any(|m| curves.contains(m))
    {
        notes.push(
            "ties together is the protocol of the authors' code: pixels of equal relevance come in at once, so that a \
             constant map shows the whole picture in the first step and wins. Maps with ties, such as heat levels, gain \
             by it. Use --ties strict to compare methods"
                .into(),
        );
    }
    if settings.controls < pictures {
        let n = settings.controls;
        notes.push(format!("random, constant and centre ran on the first {n} of the {pictures} pictures"));
    }
    notes
}

/// The columns of a metric.
fn metric_table(table: &Table, metric: Metric) -> String {
    let columns: Vec<usize> =
        (0..table.columns.len()).filter(|c| table.columns[*c].metric == metric).collect();
    let mut head = vec!["method".to_string(), "pictures".to_string()];
    for c in &columns {
        let column = &table.columns[*c];
        let arrow = match column.better {
            Better::Higher => " (higher is better)",
            Better::Lower => " (lower is better)",
            Better::Neither => "",
        };
        head.extend([format!("{}{arrow}", column.name), "95 % interval".into()]);
        head.extend(table.baseline.as_ref().map(|b| format!("minus {b}")));
    }
    let sign = if is_utf8() { "±" } else { "+-" };
    // One picture has neither an error nor an interval.
    let is_several = |m: &Mean| m.pictures > 1;
    let error = |m: Mean| match is_several(&m) {
        true => format!(" {sign}{}", fixed(m.standard_error)),
        false => String::new(),
    };
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut t = table::Table::new(&head, 1);
    for row in &table.rows {
        let pictures =
            columns.iter().filter_map(|c| row.cells[*c].mean).map(|m| m.pictures).max().unwrap_or(0);
        let mut cells = vec![row.method.clone(), pictures.to_string()];
        for c in &columns {
            let cell = &row.cells[*c];
            let empty = || "-".to_string();
            cells.push(cell.mean.map_or_else(empty, |m| fixed(m.mean) + &error(m)));
            let ends = |m: Mean| format!("{} to {}", fixed(m.interval[0]), fixed(m.interval[1]));
            cells.push(cell.mean.filter(is_several).map_or_else(empty, ends));
            if table.baseline.is_some() {
                let difference = |m: Mean| format!("{:+.4}{}", m.mean, error(m));
                cells.push(cell.minus_baseline.map_or_else(String::new, difference));
            }
        }
        t.add_row(cells);
    }
    t.to_string()
}
