//! What becomes of explanations, in the order of the inputs: reports, files, and what is printed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use indicatif::ProgressBar;
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;
use relc::map::quantize_heat;
use relc::report::{
    FailureReport, FolderReport, InputReport, ModelReport, RunReport, SampleReport, sample_report,
};
use relc::{Explainer, Explanations};

use super::VERSION;
use super::files::Files;
use super::page::{Flows, Pages};
use super::show::{show, warn};
use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::inputs::Sample;
use crate::outputs::{OutFolder, Place, write_json};
use crate::print;

/// What is to be written, or said.
pub enum Outcome<'a> {
    /// Why the preprocessing may be another model's.
    Doubted(String),
    /// An input that could not be explained.
    Failed(String, Failure),
    /// A batch and its explanations.
    Explained(Vec<Sample>, Box<Explained<'a>>),
}

/// The explanations of a batch.
pub struct Explained<'a> {
    /// For the batch's shape.
    pub explainer: Cow<'a, Explainer>,
    pub result: Explanations,
    /// Whether the second target is there for the comparison alone.
    pub rival: bool,
    /// The relevance of nodes, with their names.
    pub taps: Vec<(String, ArrayD<f32>)>,
    /// The way of the relevance, for a page.
    pub flows: Flows,
}

/// Writes the outcomes of a run, and what it has written.
pub struct Writer<'a> {
    pub args: &'a ExplainArgs,
    pub explainer: &'a Explainer,
    pub model: &'a ModelReport,
    pub seed_name: String,
    pub labels: Option<&'a [String]>,
    pub quiet: bool,
    /// How many samples there are.
    pub samples: usize,
    pub bar: ProgressBar,
    pub report: RunReport,
    pub files: Files,
    pub page: Option<Pages>,
    /// What `--json` will say of the inputs, if it is asked for.
    pub reports: Vec<InputReport>,
    pub failures: Vec<FailureReport>,
    /// The last of the failures.
    pub failure: Option<Failure>,
}

impl Writer<'_> {
    /// Writes outcomes as they come.
    pub fn write_all(mut self, outcomes: Receiver<Outcome<'_>>) -> Result<Self, Failure> {
        for outcome in outcomes {
            match outcome {
                Outcome::Doubted(doubt) => self.doubt(doubt),
                Outcome::Failed(input, failure) => {
                    self.fail(input, failure)?;
                    self.bar.inc(1);
                }
                Outcome::Explained(batch, explained) => {
                    self.write(&batch, *explained)?;
                    self.bar.inc(batch.len() as u64);
                }
            }
        }
        self.bar.finish_and_clear();
        Ok(self)
    }

    /// Says that pictures move the outputs no more than an empty input does.
    fn doubt(&mut self, doubt: String) {
        let Some(preprocess) = &mut self.report.preprocess else { return };
        let name = &preprocess.name;
        let warning = format!("warning: the preprocessing {name} may be another model's: {doubt}");
        self.bar.suspend(|| print::note(warning));
        preprocess.warnings.push(doubt);
    }

    /// Books an input that could not be explained.
    fn fail(&mut self, input: String, failure: Failure) -> Result<(), Failure> {
        let text = failure.text();
        let error = if text.contains(&input) { text } else { format!("{input}: {text}") };
        if self.samples > 1 {
            self.bar.suspend(|| print::notes(format!("error: {error}")));
        }
        self.files.fail(&input, &error)?;
        self.failures.push(FailureReport { input, error });
        self.failure = Some(failure);
        Ok(())
    }

    /// Writes what a batch gave.
    fn write(&mut self, batch: &[Sample], explained: Explained<'_>) -> Result<(), Failure> {
        let Explained { explainer, mut result, rival, taps, flows } = explained;
        let (seed, labels) = (&self.seed_name, self.labels);
        let report =
            |(i, sample): (usize, &Sample)| sample_report(&explainer, &result, i, &sample.name, seed, labels);
        let mut reports: Vec<SampleReport> = batch.iter().enumerate().map(report).collect();
        for (report, sample) in reports.iter_mut().zip(batch) {
            report.file = Some(sample.file.clone());
            report.frames = sample.frames().map(|frames| frames.report.clone());
        }
        if let Some(levels) = self.args.heat_quantization {
            for map in result.explanations.iter_mut().filter_map(|e| e.map.as_mut()) {
                quantize_heat(map, usize::from(levels));
            }
        }
        if let Some(page) = &mut self.page {
            for ((i, sample), report) in batch.iter().enumerate().zip(&reports) {
                page.add(&explainer, (sample, i), &result, report, &flows)?;
            }
        }
        if rival {
            result.explanations.truncate(1);
            reports.iter_mut().for_each(|report| report.explanations.truncate(1));
        }
        let folders = self.write_folders(batch, &result, &mut reports);
        for ((i, sample), (report, folder)) in batch.iter().enumerate().zip(reports.into_iter().zip(folders))
        {
            self.bar.suspend(|| warn(&report));
            self.files.put(sample.place, i, &result, &report, &taps)?;
            let folder = folder?;
            if !self.quiet {
                self.bar.suspend(|| show(&report, folder.as_deref(), self.model, self.args.ledger))?;
            }
            if self.args.json.is_some() {
                let folder = folder.map(|f| f.display().to_string());
                self.reports.push(InputReport { report, folder });
            }
        }
        Ok(())
    }

    /// Writes the folders of a batch side by side, if folders are asked for; says which they are.
    fn write_folders(
        &mut self,
        batch: &[Sample],
        result: &Explanations,
        reports: &mut [SampleReport],
    ) -> Vec<Result<Option<PathBuf>, Failure>> {
        let Some(out) = &mut self.files.out else { return batch.iter().map(|_| Ok(None)).collect() };
        let folders: Vec<Result<PathBuf, Failure>> =
            batch.iter().map(|sample| out.folder(&sample.stem)).collect();
        let (writer, Some(out)) = (&*self, &self.files.out) else { return Vec::new() };
        let samples = batch.par_iter().zip(reports).zip(folders).enumerate();
        let written = samples.map(|(i, ((sample, report), folder))| {
            let folder = folder?;
            writer.write_folder(out, &folder, (sample, i), result, report)?;
            Ok(Some(folder))
        });
        written.collect()
    }

    /// Writes the folder of a sample.
    fn write_folder(
        &self,
        out: &OutFolder,
        folder: &Path,
        (sample, index): (&Sample, usize),
        result: &Explanations,
        report: &mut SampleReport,
    ) -> Result<(), Failure> {
        if let Some(picture) = sample.picture() {
            out.input(folder, picture)?;
        }
        let channels = self.explainer.spatial_input().map(|(axis, _)| axis - 1);
        for (explanation, report) in result.explanations.iter().zip(&mut report.explanations) {
            let target = explanation.targets.get(index).copied().unwrap_or(0);
            let suffix = if result.explanations.len() > 1 { format!(".{target}") } else { String::new() };
            let of_sample = |array: &ArrayD<f32>| array.index_axis(Axis(0), index).to_owned();
            report.picture = match explanation.picture(index) {
                Some(map) => Some(out.map(folder, &suffix, map, sample.picture())?),
                None => {
                    let relevance = of_sample(&explanation.relevance);
                    let map = explanation.map.as_ref().map(of_sample);
                    let place = Place { folder, suffix: &suffix };
                    out.array(&place, sample, channels, &relevance, map.as_ref())?
                }
            };
        }
        let model = self.args.model.display().to_string();
        let (compiled, run) = (self.model, &self.report);
        let file = FolderReport { relc: VERSION, model, compiled, run, result: report };
        write_json(&folder.join("report.json"), &file)
    }
}
