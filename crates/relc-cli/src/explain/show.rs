//! What is printed of a sample.

use std::path::Path;

use relc::report::{ModelReport, SampleReport};

use crate::failure::Failure;
use crate::{print, tables};

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
    print::block(tables::predictions(&report.predictions))?;
    if let Some(s) = &report.class_sensitivity {
        let [a, b] = &s.targets;
        let (a, b) = (tables::output_name(a), tables::output_name(b));
        print::line(format!("cosine between the maps of {a} and {b}: {:.4}", s.cosine))?;
        s.hint.map_or(Ok(()), print::line)?;
    }
    for e in &report.explanations {
        let Some(sums) = &e.sums else { continue };
        print::line(format!(
            "target {}: seed {} = {:.6}, relevance of the input {:.6}, conservation error {:.1e}",
            tables::output_name(&e.target),
            e.seed,
            sums.seed,
            sums.relevance,
            sums.conservation_error
        ))?;
        if let Some(change) = e.sensitivity {
            print::line(format!(
                "sensitivity: a change of the input in its last digits changes the map by {change:.1e} of its maximum"
            ))?;
        }
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
