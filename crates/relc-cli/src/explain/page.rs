//! The page that `--report` writes.

use std::path::Path;

use ndarray::{ArrayD, Axis};
use relc::files::{check_writable, write_atomically};
use relc::report::{InputReport, RuleReport, SampleReport, WholeReport, rule_report};
use relc::{Explainer, Explanations, Flow, Targets};
use relc_html::{ExplainedInput, ShownInput, explanation_page};
use relc_viz::Style;

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::inputs::Sample;
use crate::outputs::drawing;
use crate::print;

/// The most inputs of a page: each takes about a megabyte.
const MOST: usize = 12;
/// The most explanations: each has a map of every node.
const MOST_EXPLANATIONS: usize = 36;

/// The ways of a batch's relevance: for each explanation, those of the samples; or why there are none.
pub type Flows = Result<Vec<Vec<Flow>>, String>;

/// A page that fills while a run lasts.
pub struct Pages {
    style: Style,
    rules: Vec<RuleReport>,
    reports: Vec<InputReport>,
    shown: Vec<ShownInput>,
}

impl Pages {
    /// Begins the page, if one is asked for, for so many samples; one that can't be written fails now rather than after the
    /// work.
    pub fn create(
        args: &ExplainArgs,
        (samples, targets): (usize, &Targets),
        style: Style,
        explainer: &Explainer,
    ) -> Result<Option<Pages>, Failure> {
        let Some(path) = &args.report else { return Ok(None) };
        if samples > MOST {
            return Err(Failure::usage(format!(
                "--report: a page shows {MOST} inputs at most, got {samples}; write a page for some of them, or a folder for \
                 each with --out"
            )));
        }
        let each = match targets {
            Targets::TopK(k) => *k,
            Targets::Outputs(outputs) => outputs.len(),
            _ => 1,
        };
        if samples.saturating_mul(each) > MOST_EXPLANATIONS {
            return Err(Failure::usage(format!(
                "--report: a page shows {MOST_EXPLANATIONS} explanations at most, got {samples} input(s) with {each} targets \
                 each; explain fewer"
            )));
        }
        check_writable(path)?;
        let rules = if args.method.method.is_some() { Vec::new() } else { rule_report(explainer) };
        Ok(Some(Pages { style, rules, reports: Vec::new(), shown: Vec::new() }))
    }

    /// Adds sample `index` of a batch, with all targets that were explained.
    pub fn add(
        &mut self,
        explainer: &Explainer,
        (sample, index): (&Sample, usize),
        result: &Explanations,
        report: &SampleReport,
        flows: &Flows,
    ) -> Result<(), Failure> {
        let channels = explainer.spatial_input().map(|(axis, _)| axis - 1);
        let of_sample = |array: &ArrayD<f32>| array.index_axis(Axis(0), index).to_owned();
        let drawings = result.explanations.iter().map(|explanation| match sample.picture() {
            Some(_) => Ok(None),
            None => {
                let (relevance, map) =
                    (of_sample(&explanation.relevance), explanation.map.as_ref().map(of_sample));
                drawing(sample, channels, &relevance, map.as_ref(), &self.style)
            }
        });
        let flows = flows
            .as_ref()
            .map_err(String::clone)
            .map(|flows| flows.iter().filter_map(|of_batch| of_batch.get(index).cloned()).collect());
        let shown = ShownInput::new(&ExplainedInput {
            explainer,
            report,
            explanations: &result.explanations,
            sample: index,
            picture: sample.picture(),
            drawings: drawings.collect::<Result<_, Failure>>()?,
            flows,
        });
        self.shown.push(shown.map_err(|e| e.to_string())?);
        self.reports.push(InputReport { report: report.clone(), folder: None });
        Ok(())
    }

    /// Writes the page. `report` is that of the run, without its results.
    pub fn finish(self, path: &Path, report: &WholeReport<'_>) -> Result<(), Failure> {
        let report = WholeReport { results: &self.reports, ..report.clone() };
        let page = explanation_page(&report, &self.rules, self.shown).map_err(|e| e.to_string())?;
        write_atomically(path, |file| file.write_all(page.as_bytes()))?;
        print::note(format!("{}: open it in a browser", path.display()));
        Ok(())
    }
}
