//! `relc explain`.

mod files;
mod page;
mod progress;
mod provenance;
mod request;
mod rows;
mod run;
mod show;
mod write;

use std::path::Path;

use relc::preprocess::{Preprocess, PreprocessError};
use relc::report::{PreprocessReport, WholeReport, model_report, rule_report};
use relc::unstable::ir::spelling::did_you_mean;
use relc::unstable::passes::{Remark, RemarkKind};
use relc::{Explainer, Method};
use relc_viz::{ColorMap, Style};

use crate::args::ExplainArgs;
use crate::compile::{DEFAULT_PREPROCESS, import_options, method, on_engine, picture_compiler};
use crate::failure::Failure;
use crate::outputs::{OutFolder, write_json};
use crate::{inputs, labels, print, tables};
use files::Files;
use page::Pages;
use progress::progress_bar;
use request::{check_seed_rows, doubts, seed, targets};
use run::Run;
use write::Writer;

/// How many folders of earlier runs are named.
const OLDER: usize = 5;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let method = method(&args.method)?;
    let colormap: ColorMap = args.colormap.parse().map_err(|e| {
        let names = ColorMap::ALL.map(|(name, _)| name);
        Failure::usage(format!("{e}{}", did_you_mean(&args.colormap, names)))
    })?;
    let preprocess_name = args.preprocess.as_deref().unwrap_or(DEFAULT_PREPROCESS);
    let preprocess = Preprocess::load(preprocess_name).map_err(|e| match e {
        PreprocessError::Unknown { .. } => Failure::usage(e),
        _ => e.into(),
    })?;
    let labels = args.labels.as_deref().map(labels::read).transpose()?;
    let targets = targets(args, labels.as_deref())?;
    for doubt in doubts(args, labels.as_deref()) {
        print::note(format!("warning: {doubt}"));
    }
    let compiler = match &method {
        Some(_) => Method::compiler()?,
        None => picture_compiler(&args.compile, &args.model, &preprocess)?,
    };
    let compiler = on_engine(compiler, &args.engine)?.import(import_options(&args.import)?);
    let paths = inputs::expand(&args.inputs)?;
    let sizes = inputs::first_sizes(&paths, &preprocess);
    let compiler = sizes.into_iter().fold(compiler, relc::Compiler::sample);
    let explainer = compiler.compile(&args.model)?;
    let explainer = if args.no_ledger { explainer.without_ledger() } else { explainer };
    let explainer = if args.no_sensitivity { explainer.without_sensitivity() } else { explainer };
    let (seed, seed_name) = seed(args, &explainer)?;
    let sources = inputs::open(&paths, &explainer)?;
    let pictures = sources.iter().any(inputs::Source::is_picture);
    // Arrays of a model of pictures are prepared pictures.
    let of_pictures = explainer.picture_input().is_some() || pictures;
    let method = method.map(|method| {
        if of_pictures {
            method.with_black(preprocess.black(explainer.frame_channels().unwrap_or(3)))
        } else {
            method
        }
    });
    let samples = sources.iter().map(|s| s.samples).sum();
    check_seed_rows(&seed, samples)?;
    let files = Files::create(args, samples, Style::new(colormap))?;
    let page = Pages::create(args, (samples, &targets), Style::new(colormap), &explainer)?;

    let model = model_report(&explainer, method.as_ref());
    let rules = args.explain_rules.then(|| rule_report(&explainer));
    let quiet = args.json.as_deref() == Some(Path::new("-"));
    let warnings = warnings(&explainer, labels.as_deref());
    for warning in &warnings {
        print::note(format!("warning: {warning}")); // so that JSON on standard output stays JSON alone
    }
    let prepared = pictures
        .then(|| PreprocessReport::new(&explainer, &preprocess, preprocess_name, args.preprocess.is_none()));
    let prepared = prepared.flatten().or_else(|| PreprocessReport::of_arrays(&preprocess, preprocess_name));
    if prepared.is_none() && args.preprocess.is_some() {
        print::note(format!(
            "warning: --preprocess {preprocess_name} does nothing: no input is a picture, and to normalise arrays its file \
             needs arrays = true"
        ));
    }
    if let Some(prepared) = &prepared {
        show::warn_of_preprocess(prepared);
        if !quiet {
            show::show_preprocess(prepared)?;
        }
    }
    if let Some(rules) = rules.as_ref().filter(|_| !quiet) {
        print::block(tables::rules(rules))?;
    }
    let report = provenance::run_report(args, &explainer, prepared, warnings)?;
    let bar = progress_bar(samples, method.is_some());
    let writer = Writer {
        args,
        explainer: &explainer,
        model: &model,
        seed_name,
        labels: labels.as_deref(),
        quiet,
        samples,
        bar: bar.clone(),
        report,
        files,
        page,
        reports: Vec::new(),
        failures: Vec::new(),
        failure: None,
    };
    let (explainer, preprocess) = (&explainer, &preprocess);
    let run = Run { args, explainer, seed, targets, preprocess, method, bar, doubted: false };
    let Writer { report, reports, failures, failure, files, page, .. } = run.explain_all(&sources, writer)?;
    if let Some(out) = &files.out {
        note_older(out);
    }
    files.finish()?;
    let (results, rules) = (&reports[..], rules.as_deref());
    let model_path = args.model.display().to_string();
    let (relc, compiled, run) = (VERSION, &model, &report);
    let whole = WholeReport { relc, model: model_path, compiled, run, rules, results, failures: &failures };
    if let Some(path) = &args.json {
        write_json(path, &whole)?;
    }
    if let (Some(path), Some(page)) = (&args.report, page) {
        page.finish(path, &whole)?;
    }
    match failure {
        None => Ok(()),
        Some(failure) if samples == 1 => Err(failure),
        Some(_) => Err(format!("{} of {samples} inputs could not be explained", failures.len()).into()),
    }
}

/// Says which folders in `--out` are not this run's.
fn note_older(out: &OutFolder) {
    let older = out.older();
    if !older.is_empty() {
        let (count, root) = (older.len(), out.root().display());
        let names: Vec<&str> = older.iter().take(OLDER).map(String::as_str).collect();
        let more = if count > OLDER { ", ..." } else { "" };
        print::note(format!(
            "note: {root} also holds {count} folder(s) of earlier runs: {}{more}",
            names.join(", ")
        ));
    }
}

/// What the user should know of the model and its labels.
fn warnings(explainer: &Explainer, labels: Option<&[String]>) -> Vec<String> {
    let outputs = explainer.outputs();
    let labels = labels.filter(|l| l.len() != outputs);
    let lines = labels.map(|l| format!("the labels are {} lines, the model has {outputs} outputs", l.len()));
    let remarks = explainer.compiled().passes.iter().flat_map(|p| &p.remarks);
    let remarks = remarks.filter(|r| r.kind == RemarkKind::Warning).map(Remark::text);
    lines.into_iter().chain(remarks).collect()
}
