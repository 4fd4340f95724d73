//! `relc tune`: the preset that does best on one half of the pictures, and what it does on the other.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use relc::Preset;
use relc::files::{check_writable, write_atomically};
use relc::unstable::ir::Op;
use relc_eval::metric::{Better, METRICS, Metric};
use relc_eval::tune::{Candidate, describe, preset, search};
use relc_eval::{Control, Dataset, EvalError, Named, Results, Settings, Table};

use super::args::SubjectArgs;
use super::show::{Report, Tuned};
use super::subject::{self, Subject};
use crate::failure::Failure;
use crate::outputs::write_json;
use crate::print;

/// `relc tune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc tune resnet18.onnx imagenet/labels.csv --budget 60 --out mine.toml
  relc tune resnet18.onnx imagenet/labels.csv --metric insertion --json tuned.json
  relc eval resnet18.onnx other/labels.csv --methods mine.toml,two_level --baseline grad_cam
A search that was stopped goes on where it was when the same command is given again.")]
pub struct TuneArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// The column that is made as good as can be: id, insertion, deletion, road, aopc, ...
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    pub metric: String,
    /// How many presets are tried.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    pub budget: u16,
    /// What else stands in the table of the other half, beside the default, conserve, the baseline and the controls.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub methods: Vec<String>,
    /// The method that the others are compared with, picture by picture.
    #[arg(long, value_name = "NAME", default_value = "grad_cam")]
    pub baseline: String,
    /// Where the best preset is written.
    #[arg(long, value_name = "FILE.toml", default_value = "tuned.toml")]
    pub out: PathBuf,
}

/// Runs the command.
pub fn run(args: &TuneArgs) -> Result<(), Failure> {
    let (metric, better) = column(&args.metric)?;
    check_writable(&args.out)?;
    let opened = Subject::open(&args.subject)?;
    if metric.needs_mask() && !opened.dataset.has_masks() {
        return Err(Failure::usage(format!(
            "the metric {metric} needs masks; give --masks, or a CSV that names them"
        )));
    }
    let [half, other] = halves(&opened.dataset)?;
    let settings = opened.settings(vec![metric])?;
    let mut results = subject::results(&args.subject.results)?;
    let has_max_pool = opened.graph().node_ids().any(|n| matches!(opened.graph().node(n).op, Op::MaxPool(_)));
    let fixed: &[&str] = if has_max_pool { &[] } else { &["max_pool"] };
    let bar = subject::bar();
    bar.set_length(u64::from(args.budget));
    let mut tuning =
        Tuning { opened: &opened, half: &half, settings: &settings, results: &mut results, bar: &bar };
    let found = search(usize::from(args.budget), args.subject.seed, fixed, &mut |candidate| {
        tuning.score(candidate, &args.metric, better)
    })?;
    bar.finish_and_clear();
    let text = preset(&found.best);
    let name = args.out.display().to_string();
    let mut methods = vec![Named::preset(&name, Preset::parse(&text, &name)?)];
    let controls = Control::ALL.iter().map(|(name, _)| *name);
    let others = args
        .methods
        .iter()
        .map(String::as_str)
        .chain([Preset::DEFAULT, "conserve", &args.baseline])
        .chain(controls);
    for other in others {
        if methods.iter().all(|m| m.name != other) {
            methods.push(Named::parse(other).map_err(Failure::usage)?);
        }
    }
    let attributions = opened.compile(&methods)?;
    let outcome = opened.run(&attributions, &other, &settings, &mut results)?;
    let names: Vec<String> = methods.into_iter().map(|m| m.name).collect();
    let table = Table::new(&names, &outcome, &settings.metrics, Some(&args.baseline), settings.seed);
    let (score, tried) = (if better == Better::Lower { -found.score } else { found.score }, found.tried);
    let best = describe(&found.best);
    let head = format!(
        "# The best of {tried} presets by {} on half of {} ({score:.4} on {} pictures): {best}.\n# relc tune, seed {}.\n",
        args.metric,
        args.subject.dataset.display(),
        half.items.len(),
        args.subject.seed
    );
    write_atomically(&args.out, |file| file.write_all(format!("{head}{text}").as_bytes()))?;
    let mut report = Report::new(&args.subject, false, &other, &settings, &table, &outcome);
    if let Some(path) = &args.subject.csv {
        write_atomically(path, |file| file.write_all(table.csv().as_bytes()))?;
    }
    if args.subject.json.as_deref() != Some(std::path::Path::new("-")) {
        print::line(format!(
            "the best of {tried} presets: {best} ({} {score:.4} on the half it was chosen by)",
            args.metric
        ))?;
        print::line(format!("written to {name}; on the other half:"))?;
        for line in report.lines(false) {
            print::line(line)?;
        }
    }
    if let Some(path) = &args.subject.json {
        let (metric, pictures) = (args.metric.clone(), half.items.len());
        report.tuned = Some(Tuned { metric, tried, best, score, pictures, preset: name });
        write_json(path, &report)?;
    }
    Ok(())
}

/// A column and the metric that it belongs to.
fn column(name: &str) -> Result<(Metric, Better), Failure> {
    let columns = || METRICS.iter().rev().flat_map(|d| d.columns.iter().map(move |c| (d.metric, c)));
    match columns().find(|(_, (column, better))| *column == name && *better != Better::Neither) {
        Some((metric, (_, better))) => Ok((metric, *better)),
        None => {
            let mut names: Vec<&str> =
                columns().filter(|(_, c)| c.1 != Better::Neither).map(|(_, c)| c.0).collect();
            names.sort_unstable();
            names.dedup();
            Err(Failure::usage(format!("got the metric \"{name}\", expected one of {}", names.join(", "))))
        }
    }
}

/// Every other picture, and the rest: of sorted classes, each half has its part.
fn halves(dataset: &Dataset) -> Result<[Dataset; 2], Failure> {
    if dataset.items.len() < 2 {
        return Err(Failure::usage(
            "tuning needs at least two pictures: half of them choose, the others judge",
        ));
    }
    let half = |odd: usize| {
        let items = dataset.items.iter().skip(odd).step_by(2).cloned().collect();
        Dataset { path: dataset.path.clone(), items }
    };
    Ok([half(0), half(1)])
}

struct Tuning<'a> {
    opened: &'a Subject<'a>,
    half: &'a Dataset,
    settings: &'a Settings,
    results: &'a mut Results,
    bar: &'a ProgressBar,
}

impl Tuning<'_> {
    /// The mean of the column over the half; the higher, the better.
    fn score(
        &mut self,
        candidate: &Candidate,
        column: &str,
        better: Better,
    ) -> Result<Option<f64>, EvalError> {
        let name = describe(candidate);
        self.bar.set_message(name.clone());
        self.bar.inc(1);
        let unusable = |error: &dyn std::fmt::Display| {
            self.bar.suspend(|| eprintln!("{name}: not tried, since {error}"));
            Ok(None)
        };
        let parsed = match Preset::parse(&preset(candidate), "tuned.toml") {
            Ok(parsed) => parsed,
            Err(error) => return unusable(&error),
        };
        let attribution = match self.opened.compile_one(&Named::preset(&name, parsed)) {
            Ok(attribution) => [attribution],
            Err(error) => return unusable(&error),
        };
        let bench = self.opened.bench(&attribution, &[]);
        let outcome = bench.run(self.half, self.settings, self.results, &mut |_| {})?;
        let table = Table::new(
            std::slice::from_ref(&name),
            &outcome,
            &self.settings.metrics,
            None,
            self.settings.seed,
        );
        let mean = table.get(&name, column).and_then(|cell| cell.mean).map(|m| m.mean);
        Ok(mean.map(|m| if better == Better::Lower { -m } else { m }))
    }
}
