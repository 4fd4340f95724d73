//! What is printed of a run and of its samples.

use std::path::Path;

use relc::report::{
    AttributionReport, ExplanationReport, FramesReport, ModelReport, PreprocessReport, SampleReport,
    SensitivityReport, SumsReport,
};
use relc_viz::{percent, significant};

use crate::failure::Failure;
use crate::{print, tables};

/// How many nodes the table of losses shows.
const LOSSES: usize = 5;
/// How many numbers of frames are shown.
const FRAMES: usize = 16;

/// Prints how pictures become inputs.
pub fn show_preprocess(preprocess: &PreprocessReport) -> Result<(), Failure> {
    let default = if preprocess.is_default { " (the default)" } else { "" };
    Ok(print::line(format!("preprocessing {}{default}: {}", preprocess.name, preprocess.description))?)
}

/// What speaks against the preprocessing, on standard error.
pub fn warn_of_preprocess(preprocess: &PreprocessReport) {
    if preprocess.warnings.is_empty() {
        return;
    }
    let reasons = preprocess.warnings.join("; ");
    if preprocess.is_default {
        print::note(format!(
            "warning: pictures are prepared as for ImageNet because --preprocess does not say otherwise, but {reasons}; \
             say what the model was trained with: --preprocess FILE.toml, cifar10 or none, or imagenet if that is right"
        ));
    } else {
        print::note(format!(
            "warning: the preprocessing {} may be another model's: {reasons}",
            preprocess.name
        ));
    }
}

/// What keeps the maps of an input from being explanations, on standard error like every warning.
pub fn warn(report: &SampleReport) {
    for e in &report.explanations {
        for warning in &e.warnings {
            let target = tables::output_name(&e.target);
            print::note(format!("warning: {}, target {target}: {warning}", report.input));
        }
    }
}

/// Prints what a sample's explanations say.
pub fn show(
    report: &SampleReport,
    folder: Option<&Path>,
    model: &ModelReport,
    ledger: bool,
) -> Result<(), Failure> {
    let folder = folder.map(|f| format!(" -> {}", f.display())).unwrap_or_default();
    print::line(format!("{}{folder}", report.input))?;
    if let Some(FramesReport { held, chosen }) = &report.frames {
        print::line(frames(*held, chosen))?;
    }
    print::block(tables::predictions(&report.predictions))?;
    if let Some(s) = &report.class_sensitivity {
        show_cosine(s)?;
    }
    for e in &report.explanations {
        if let Some(attribution) = &e.attribution {
            print::line(attributed(e, attribution))?;
        }
        let Some(sums) = &e.sums else { continue };
        print::line(conserved(e, sums, model.claim.conserving))?;
        e.note.map_or(Ok(()), print::line)?;
        if let Some(change) = e.sensitivity {
            let change = significant(change, 2);
            print::line(format!(
                "sensitivity: a change of the input in its last digits changes the map by {change} of its maximum"
            ))?;
        }
        let shares: Vec<f64> = e.joins.iter().filter_map(|j| j.skip_share).collect();
        if !shares.is_empty() {
            let min = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let max = shares.iter().copied().fold(0.0, f64::max);
            let (n, min, max) = (shares.len(), percent(min), percent(max));
            print::line(format!("{n} joins: between {min} and {max} of the relevance took the skip"))?;
        }
        if let Some(table) = tables::leakiest(e, LOSSES) {
            print::block(table)?;
        }
        if ledger {
            print::block(tables::ledger(e))?;
            for line in tables::unfolded(&model.unfolded) {
                print::line(line)?;
            }
        }
    }
    Ok(())
}

/// Which frames of a video the network saw.
fn frames(held: usize, chosen: &[usize]) -> String {
    if held == chosen.len() {
        return format!("all {held} frames");
    }
    let numbers: Vec<String> = chosen.iter().take(FRAMES).map(usize::to_string).collect();
    let more = if chosen.len() > FRAMES { ", ..." } else { "" };
    format!("{} of {held} frames, evenly chosen: {}{more}", chosen.len(), numbers.join(", "))
}

fn show_cosine(sensitivity: &SensitivityReport) -> Result<(), Failure> {
    let [a, b] = &sensitivity.targets;
    let (a, b) = (tables::output_name(a), tables::output_name(b));
    let cosine = significant(sensitivity.cosine, 4);
    print::line(format!("cosine between the maps of {a} and {b}: {cosine}"))?;
    Ok(sensitivity.hint.map_or(Ok(()), print::line)?)
}

/// From how many times the seed on relevance is said to have grown on its way.
const GROWN: f64 = 100.0;

/// What an explanation put in and got out; and, of a program that conserves, how far relevance grew between them if that
/// is far.
fn conserved(e: &ExplanationReport, sums: &SumsReport, conserving: bool) -> String {
    let times = sums.flow.unwrap_or_default() / sums.seed_magnitude.max(f64::MIN_POSITIVE);
    let grown = if conserving && times >= GROWN {
        format!(" (relevance grew to {} times the seed and cancelled on its way)", significant(times, 2))
    } else {
        String::new()
    };
    format!(
        "target {}: seed {} = {}, relevance of the input {}, conservation error {}{grown}",
        tables::output_name(&e.target),
        e.seed,
        significant(sums.seed, 6),
        significant(sums.relevance, 6),
        significant(sums.conservation_error, 2)
    )
}

/// What a method's map adds up to.
fn attributed(e: &ExplanationReport, attribution: &AttributionReport) -> String {
    let start = format!(
        "target {}: {}, the map adds up to {}",
        tables::output_name(&e.target),
        e.seed,
        significant(attribution.sum, 6)
    );
    match (attribution.baseline_logit, attribution.completeness_error) {
        (Some(baseline), Some(error)) => format!(
            "{start}, the logit {} is {} more than the baseline's {}, completeness error {}",
            significant(e.target.logit, 6),
            significant(e.target.logit - baseline, 6),
            significant(baseline, 6),
            significant(error, 2)
        ),
        _ => format!("{start}; this method does not promise that it adds up to the logit"),
    }
}
