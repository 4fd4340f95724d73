//! Runs relc on the whole model zoo, and writes `docs/models.md` from what it gave.
//!
//! ```sh
//! python tools/make_zoo.py ZOO
//! cargo run --release -p relc-tests --example zoo -- ZOO docs/models.md
//! ```
//! Without the second argument it only prints. A third argument, a glob, picks models by name. The exit code is 1 if a
//! model is off.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use relc_tests::zoo::{Model, Outcome, map_difference, models};

/// The most that logits may be off, in units of their range.
const PARITY: f64 = 1e-4;
/// The most that a map may be off another exporter's, in units of its maximum.
const SAME_MAP: f64 = 1e-4;
/// The most that conservation may be off.
const CONSERVATION: f64 = 1e-5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        eprintln!("usage: zoo FOLDER [docs/models.md|-] [PART OF A NAME]");
        return ExitCode::from(2);
    };
    let part = arguments.get(2).map_or("", String::as_str);
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut rows = Vec::new();
    let mut all_good = true;
    for model in models(Path::new(folder)).into_iter().filter(|m| m.name.contains(part)) {
        let outcome = model.run();
        let (row, good) = row(&model, &outcome, &outcomes);
        println!("{row}");
        all_good &= good;
        rows.push(row);
        if let Ok(outcome) = outcome {
            outcomes.insert(model.name.clone(), outcome);
        }
    }
    if let Some(path) = arguments.get(1).filter(|p| *p != "-")
        && let Err(error) = std::fs::write(path, document(&rows))
    {
        eprintln!("can't write {path}: {error}");
        return ExitCode::FAILURE;
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A model's row of the table, and whether all is as it should be.
fn row(
    model: &Model,
    outcome: &Result<Outcome, String>,
    others: &BTreeMap<String, Outcome>,
) -> (String, bool) {
    let entry = &model.entry;
    let size = format!("{}x{}", entry.size[0], entry.size[1]);
    let head = format!("| {} | {} | {size} ", entry.architecture, entry.exporter);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let error: Vec<&str> = error.split_whitespace().collect();
            let error: String = error.join(" ").replace('|', "\\|").chars().take(400).collect();
            return (format!("{head}| fails: {error} | | | | |"), false);
        }
    };
    let mark = |good: bool| if good { "" } else { " **!**" };
    let joins = outcome.joins == entry.joins;
    let conserved = outcome.conservation <= CONSERVATION && outcome.claimed;
    let parity = outcome.parity <= PARITY;
    let same = entry.same_as.as_ref().and_then(|name| others.get(name));
    let same = same.map(|other| map_difference(&outcome.map, &other.map));
    let same_good = same.is_none_or(|d| d <= SAME_MAP);
    let mut line = head;
    let _ = write!(line, "| {}{} ", outcome.joins, mark(joins));
    let _ = write!(line, "| {:.0e}{} ", outcome.parity, mark(parity));
    let _ = write!(line, "| {:.0e}{} ", outcome.conservation, mark(conserved));
    let _ = match same {
        Some(d) => write!(line, "| {d:.0e}{} ", mark(same_good)),
        None => write!(line, "| "),
    };
    let _ = write!(line, "| {:.1} + {:.1} |", outcome.compile, outcome.explain);
    (line, joins && conserved && parity && same_good)
}

fn document(rows: &[String]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

const HEAD: &str = "# Models

Generated; don't edit. `tools/make_zoo.py` makes the models, `cargo run --release -p relc-tests --example zoo -- ZOO
docs/models.md` runs relc on each.

Weights are random and calibrated. For each model: the residual joins that relc found; the largest difference of its
logits from ONNX Runtime's, in units of their range (at most 1e-4); `|sum R(input) - sum seed| / sum |seed|` with the
preset `conserve` (at most 1e-5); the largest difference of the map from that of the same network by the first
exporter, in units of its maximum (at most 1e-4); seconds to compile and to explain one picture with the engine
jit. **!** marks what is off.

| architecture | exporter | size | joins | parity | conservation | map | time (s) |
|---|---|---|---|---|---|---|---|
";
