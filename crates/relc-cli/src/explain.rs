//! `relc explain`.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ndarray::{ArrayD, ArrayViewD, Axis, Slice};
use relc::artifact::{check_writable, read_npy_f32, write_npz_f32};
use relc::map::quantize_heat;
use relc::preprocess::{Preprocess, PreprocessError};
use relc::report::{ModelReport, RuleReport, SampleReport, model_report, rule_report, sample_report};
use relc::{Explainer, Explanations, Method, Reduce, Seed, Targets};
use relc_viz::{ColorMap, Style};
use serde::Serialize;

use crate::args::{ExplainArgs, ReduceArg};
use crate::compile::{engine, import_options, method, picture_compiler};
use crate::failure::Failure;
use crate::inputs::{self, Sample, Source};
use crate::outputs::{Gathered, OutFolder, write_json};
use crate::{print, tables};

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    relc: &'static str,
    model: String,
    compiled: &'a ModelReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'a [RuleReport]>,
    results: &'a [SampleReport],
}

/// What `report.json` holds.
#[derive(Serialize)]
struct SampleFile<'a> {
    relc: &'static str,
    model: String,
    compiled: &'a ModelReport,
    #[serde(flatten)]
    result: &'a SampleReport,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let method = method(&args.method)?;
    let engine = engine(&args.engine)?;
    let colormap: ColorMap = args.colormap.parse().map_err(Failure::usage)?;
    let preprocess = Preprocess::load(&args.preprocess).map_err(|e| match e {
        PreprocessError::Unknown { .. } => Failure::usage(e),
        _ => e.into(),
    })?;
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    let targets = targets(args, labels.as_deref())?;
    let compiler = match &method {
        Some(_) => Method::compiler()?,
        None => picture_compiler(&args.compile, &preprocess)?,
    };
    let compiler = compiler.engine(engine).import(import_options(&args.import)?);
    let explainer = compiler.compile(&args.model)?;
    let explainer = if args.no_ledger { explainer.without_ledger() } else { explainer };
    let (seed, seed_name) = seed(args, &explainer)?;
    let sources = inputs::open(&args.inputs, &explainer)?;
    check_seed_rows(&seed, sources.iter().map(|s| s.samples).sum())?;
    let taps = args.tap.as_ref().map(|_| args.tap_npz.clone());
    let files = [&args.relevance_npy, &args.map_npy, &args.json, &taps];
    for path in files.into_iter().flatten().filter(|p| p.as_path() != Path::new("-")) {
        check_writable(path)?; // rather now than after an hour's work
    }

    let model = model_report(&explainer);
    let rules = args.explain_rules.then(|| rule_report(&explainer));
    let quiet = args.json.as_deref() == Some(Path::new("-"));
    print_warnings(&explainer, labels.as_deref());
    if let Some(rules) = rules.as_ref().filter(|_| !quiet) {
        print::line(tables::rules(rules))?;
    }
    let mut run = Run {
        args,
        explainer: &explainer,
        model: &model,
        seed,
        seed_name,
        targets,
        labels,
        preprocess,
        out: args.out.as_deref().map(|dir| OutFolder::create(dir, Style::new(colormap))).transpose()?,
        method,
        relevance: Gathered::default(),
        maps: Gathered::default(),
        taps: Vec::new(),
        reports: Vec::new(),
        quiet,
    };
    run.explain_all(&sources)?;
    if let Some(path) = &args.relevance_npy {
        run.relevance.write(path)?;
    }
    if let Some(path) = &args.map_npy {
        run.maps.write(path)?;
    }
    if let Some(path) = &taps {
        write_npz_f32(path, &gathered(run.taps)?)?;
    }
    if let Some(path) = &args.json {
        let results = &run.reports;
        let model_path = args.model.display().to_string();
        let rules = rules.as_deref();
        write_json(path, &Report { relc: VERSION, model: model_path, compiled: &model, rules, results })?;
    }
    Ok(())
}

/// What to explain: `--compare`'s two targets, or `--target`'s.
fn targets(args: &ExplainArgs, labels: Option<&[String]>) -> Result<Targets, Failure> {
    let Some(pair) = &args.compare else {
        return Targets::parse(args.target.as_deref().unwrap_or("argmax"), labels).map_err(Failure::usage);
    };
    let mut outputs = Vec::new();
    for text in pair {
        match Targets::parse(text, labels).map_err(Failure::usage)? {
            Targets::Outputs(one) if one.len() == 1 => outputs.extend(one),
            _ => {
                return Err(Failure::usage(format!(
                    "--compare: got \"{text}\", expected an output's index or label"
                )));
            }
        }
    }
    Ok(Targets::Outputs(outputs))
}

/// The batches of each node, as one array; nodes of one name get numbers.
fn gathered(batches: Vec<Vec<(String, ArrayD<f32>)>>) -> Result<Vec<(String, ArrayD<f32>)>, Failure> {
    let mut whole: Vec<(String, ArrayD<f32>)> = Vec::new();
    for i in 0..batches.first().map_or(0, Vec::len) {
        let parts: Vec<_> = batches.iter().filter_map(|b| b.get(i)).map(|(_, a)| a.view()).collect();
        let array = ndarray::concatenate(Axis(0), &parts)?;
        let name = batches[0][i].0.clone();
        let same = whole.iter().filter(|(n, _)| *n == name || n.starts_with(&format!("{name}-"))).count();
        whole.push((if same > 0 { format!("{name}-{}", same + 1) } else { name }, array));
    }
    Ok(whole)
}

fn read_labels(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("can't read the labels {}: {e}", path.display()))?;
    Ok(text.lines().map(|l| l.trim().to_string()).collect())
}

fn seed(args: &ExplainArgs, explainer: &Explainer) -> Result<(Seed, String), Failure> {
    if let Some(method) = &args.method.method {
        return Ok((Seed::Named(relc::SeedKind::OneHot), method.clone()));
    }
    let Some(text) = &args.seed else {
        let kind = explainer.preset().seed;
        return Ok((Seed::Named(kind), kind.to_string()));
    };
    if Path::new(text).extension().is_some_and(|e| e == "npy") {
        if args.target.is_some() {
            return Err(Failure::usage(format!(
                "--target does nothing with the seed {text}, which says what each output gets; leave one of them out"
            )));
        }
        return Ok((Seed::Tensor(read_npy_f32(Path::new(text))?), text.clone()));
    }
    let kind: relc::SeedKind = text.parse().map_err(Failure::usage)?;
    Ok((Seed::Named(kind), kind.to_string()))
}

/// A seed with a row per sample must have one for each of all inputs, however they are batched.
fn check_seed_rows(seed: &Seed, samples: usize) -> Result<(), Failure> {
    match seed {
        Seed::Tensor(tensor) if tensor.ndim() == 2 && tensor.shape().first() != Some(&samples) => {
            Err(Failure::from(format!(
                "the seed has the shape {:?}, expected a row for each of the {samples} samples, or one axis for all",
                tensor.shape()
            )))
        }
        _ => Ok(()),
    }
}

/// On standard error, so that JSON on standard output stays JSON alone.
fn print_warnings(explainer: &Explainer, labels: Option<&[String]>) {
    let outputs = explainer.outputs();
    if let Some(labels) = labels.filter(|l| l.len() != outputs) {
        eprintln!("warning: the labels are {} lines, the model has {outputs} outputs", labels.len());
    }
    for remark in explainer.compiled().passes.iter().flat_map(|p| &p.remarks) {
        if remark.kind == relc::passes::RemarkKind::Warning {
            eprintln!("{remark}");
        }
    }
}

struct Run<'a> {
    args: &'a ExplainArgs,
    explainer: &'a Explainer,
    model: &'a ModelReport,
    seed: Seed,
    seed_name: String,
    targets: Targets,
    labels: Option<Vec<String>>,
    preprocess: Preprocess,
    out: Option<OutFolder>,
    method: Option<Method>,
    relevance: Gathered,
    maps: Gathered,
    /// For each batch, the nodes' names and their relevance.
    taps: Vec<Vec<(String, ArrayD<f32>)>>,
    reports: Vec<SampleReport>,
    quiet: bool,
}

impl Run<'_> {
    fn explain_all(&mut self, sources: &[Source]) -> Result<(), Failure> {
        let total: usize = sources.iter().map(|s| s.samples).sum();
        let bar = progress_bar(total, self.method.is_some());
        let all = sources.iter().flat_map(|s| (0..s.samples).map(move |i| (s, i)));
        let mut batch: Vec<Sample> = Vec::new();
        // A model with a fixed batch of one is run sample by sample.
        let fixed = self.explainer.input()?.1.dims().first().and_then(|d| d.fixed());
        let size = fixed.unwrap_or(usize::from(self.args.batch)).max(1);
        for (done, (source, index)) in all.enumerate() {
            batch.push(source.sample(index, self.explainer, &self.preprocess)?);
            if batch.len() == size || done + 1 == total {
                self.explain_batch(&batch, &bar)?;
                bar.inc(batch.len() as u64);
                batch.clear();
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn explain_batch(&mut self, batch: &[Sample], bar: &ProgressBar) -> Result<(), Failure> {
        let input = inputs::stack(batch)?;
        let seed = self.batch_seed(batch.len()).into_owned();
        let rival = self.compares_with_the_second();
        let targets = if rival { &Targets::TopK(2) } else { &self.targets };
        let mut result = match &self.method {
            None => self.explainer.explain(input.view(), &seed, targets)?,
            Some(method) => {
                let runs = usize::from(self.args.batch);
                let show = &mut |done: usize, total: usize| {
                    bar.set_message(format!("{}: {done} of {total} runs", method.name()));
                };
                method.explain(self.explainer, input.view(), &self.targets, runs, show)?
            }
        };
        let labels = self.labels.as_deref();
        let report = |(i, sample): (usize, &Sample)| {
            sample_report(self.explainer, &result, i, &sample.name, &self.seed_name, labels)
        };
        let mut reports: Vec<SampleReport> = batch.iter().enumerate().map(report).collect();
        if rival {
            // The second is there for the comparison alone.
            result.explanations.truncate(1);
            reports.iter_mut().for_each(|report| report.explanations.truncate(1));
        }
        self.tap(&result, input.view(), &seed)?;
        if let Some(levels) = self.args.heat_quantization {
            for map in result.explanations.iter_mut().filter_map(|e| e.map.as_mut()) {
                quantize_heat(map, usize::from(levels));
            }
        }
        for (i, explanation) in result.explanations.iter().enumerate() {
            if self.args.relevance_npy.is_some() {
                self.relevance.push(i, explanation.relevance.clone());
            }
            match (&self.args.map_npy, &explanation.map) {
                (Some(_), Some(map)) => self.maps.push(i, map.clone().into_dyn()),
                (Some(_), None) => {
                    return Err("--map-npy: the model's input is no picture, so there is no map".into());
                }
                (None, _) => {}
            }
        }
        for ((i, sample), report) in batch.iter().enumerate().zip(reports) {
            self.write_folder(sample, i, &result, &report)?;
            if !self.quiet {
                bar.suspend(|| self.show(&report))?;
            }
            self.reports.push(report);
        }
        Ok(())
    }

    /// Whether the largest output is explained, and its map is compared with that of the second largest.
    fn compares_with_the_second(&self) -> bool {
        let one = self.targets == Targets::Argmax && matches!(self.seed, Seed::Named(_));
        one && self.method.is_none() && !self.args.no_class_sensitivity && self.explainer.outputs() > 1
    }

    /// Keeps the relevance of the nodes that `--tap` names.
    fn tap(&mut self, result: &Explanations, input: ArrayViewD<'_, f32>, seed: &Seed) -> Result<(), Failure> {
        let (Some(glob), Some(first)) = (&self.args.tap, result.explanations.first()) else { return Ok(()) };
        let reduce = match self.args.reduce {
            ReduceArg::Channel => Reduce::Channel,
            ReduceArg::Spatial => Reduce::Spatial,
            ReduceArg::None => Reduce::None,
        };
        let taps = self.explainer.tap(input, seed, &first.targets, glob)?;
        self.taps.push(taps.into_iter().map(|t| (t.name, reduce.apply(&t.relevance))).collect());
        Ok(())
    }

    /// The seed of the next `samples` samples: their rows, where each sample has its own.
    fn batch_seed(&self, samples: usize) -> Cow<'_, Seed> {
        match &self.seed {
            Seed::Tensor(tensor) if tensor.ndim() == 2 => {
                let done = self.reports.len();
                let rows = tensor.slice_axis(Axis(0), Slice::from(done..done + samples));
                Cow::Owned(Seed::Tensor(rows.to_owned()))
            }
            seed => Cow::Borrowed(seed),
        }
    }

    fn write_folder(
        &mut self,
        sample: &Sample,
        index: usize,
        result: &Explanations,
        report: &SampleReport,
    ) -> Result<(), Failure> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let folder = out.folder(&sample.stem)?;
        for explanation in &result.explanations {
            let target = explanation.targets.get(index).copied().unwrap_or(0);
            let suffix = if result.explanations.len() > 1 { format!(".{target}") } else { String::new() };
            if let Some(maps) = &explanation.map {
                out.map(&folder, &suffix, maps.index_axis(Axis(0), index), sample.picture.as_ref())?;
            }
        }
        let model = self.args.model.display().to_string();
        let file = SampleFile { relc: VERSION, model, compiled: self.model, result: report };
        write_json(&folder.join("report.json"), &file)
    }

    fn show(&self, report: &SampleReport) -> Result<(), Failure> {
        print::line(&report.input)?;
        print::line(tables::predictions(&report.predictions))?;
        if let Some(s) = &report.class_sensitivity {
            let [a, b] = &s.targets;
            let (a, b) = (tables::output_name(a), tables::output_name(b));
            print::line(format!("cosine between the maps of {a} and {b}: {:.4}", s.cosine))?;
            s.hint.map_or(Ok(()), print::line)?;
        }
        for e in report.explanations.iter().filter(|_| self.method.is_none()) {
            print::line(format!(
                "target {}: seed {} = {:.6}, relevance of the input {:.6}, conservation error {:.1e}",
                tables::output_name(&e.target),
                e.seed,
                e.sums.seed,
                e.sums.relevance,
                e.sums.conservation_error
            ))?;
            let shares: Vec<f64> = e.joins.iter().filter_map(|j| j.skip_share).collect();
            if !shares.is_empty() {
                let min = shares.iter().copied().fold(f64::INFINITY, f64::min);
                let max = shares.iter().copied().fold(0.0, f64::max);
                let (n, min, max) = (shares.len(), min * 100.0, max * 100.0);
                print::line(format!(
                    "{n} joins: between {min:.1} % and {max:.1} % of the relevance took the skip"
                ))?;
            }
            if let Some(table) = tables::leakiest(e, 5) {
                print::line(table)?;
            }
            if self.args.ledger {
                print::line(tables::ledger(e))?;
            }
        }
        Ok(())
    }
}

/// A bar for several inputs, or for a method of many runs.
fn progress_bar(total: usize, long: bool) -> ProgressBar {
    if total < 2 && !long {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    let template = "{bar:32} {pos}/{len} inputs, {per_sec}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
