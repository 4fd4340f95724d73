//! `relc explain`.

mod progress;
mod request;
mod run;
mod show;

use std::path::Path;

use relc::artifact::{check_writable, write_npz_f32};
use relc::preprocess::{Preprocess, PreprocessError};
use relc::report::{ModelReport, RuleReport, SampleReport, model_report, rule_report};
use relc::{Explainer, Method};
use relc_viz::{ColorMap, Style};
use serde::Serialize;

use crate::args::ExplainArgs;
use crate::compile::{engine, import_options, method, picture_compiler};
use crate::failure::Failure;
use crate::outputs::{Gathered, OutFolder, write_json};
use crate::{inputs, labels, print, tables};
use request::{check_seed_rows, seed, targets};
use run::{Run, gathered};

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
    let labels = args.labels.as_deref().map(labels::read).transpose()?;
    let targets = targets(args, labels.as_deref())?;
    let compiler = match &method {
        Some(_) => Method::compiler()?,
        None => picture_compiler(&args.compile, &preprocess)?,
    };
    let compiler = compiler.engine(engine).import(import_options(&args.import)?);
    let explainer = compiler.compile(&args.model)?;
    let explainer = if args.no_ledger { explainer.without_ledger() } else { explainer };
    let explainer = if args.no_sensitivity { explainer.without_sensitivity() } else { explainer };
    let (seed, seed_name) = seed(args, &explainer)?;
    let sources = inputs::open(&args.inputs, &explainer)?;
    check_seed_rows(&seed, sources.iter().map(|s| s.samples).sum())?;
    let taps = args.tap.as_ref().map(|_| args.tap_npz.clone());
    let files = [&args.relevance_npy, &args.map_npy, &args.json, &taps];
    for path in files.into_iter().flatten().filter(|p| p.as_path() != Path::new("-")) {
        check_writable(path)?; // rather now than after an hour's work
    }

    let model = model_report(&explainer, method.as_ref());
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
