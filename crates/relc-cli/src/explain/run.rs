//! Batch after batch: explain, write, print.

use std::borrow::Cow;
use std::path::PathBuf;

use indicatif::ProgressBar;
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::map::quantize_heat;
use relc::preprocess::{Preprocess, hardly_moves};
use relc::report::{
    FailureReport, FolderReport, InputReport, ModelReport, RunReport, SampleReport, sample_report,
};
use relc::{ExplainError, Explainer, Explanations, Method, Reduce, Seed, Targets};

use super::VERSION;
use super::files::Files;
use super::progress::progress_bar;
use super::provenance::Fingerprints;
use super::show::{show, warn};
use crate::args::{ExplainArgs, ReduceArg};
use crate::failure::Failure;
use crate::inputs::{self, Sample, Source};
use crate::outputs::{Place, write_json};
use crate::print;

/// What a run works with, and what it has done.
pub struct Run<'a> {
    pub args: &'a ExplainArgs,
    pub explainer: &'a Explainer,
    pub model: &'a ModelReport,
    pub report: RunReport,
    pub fingerprints: Fingerprints,
    /// Whether it was asked if the pictures move the outputs.
    pub doubted: bool,
    pub seed: Seed,
    pub seed_name: String,
    pub targets: Targets,
    pub labels: Option<Vec<String>>,
    pub preprocess: Preprocess,
    pub method: Option<Method>,
    pub quiet: bool,
    pub files: Files,
    /// How many samples there are.
    pub samples: usize,
    /// What `--json` will say of the inputs, if it is asked for.
    pub reports: Vec<InputReport>,
    pub failures: Vec<FailureReport>,
    /// The last of the failures.
    pub failure: Option<Failure>,
}

impl Run<'_> {
    /// Explains every sample. One that fails is left out, unless `--strict` says that the run ends there.
    pub fn explain_all(&mut self, sources: &[Source]) -> Result<(), Failure> {
        let total = self.samples;
        let bar = progress_bar(total, self.method.is_some());
        let all = sources.iter().flat_map(|s| (0..s.samples).map(move |i| (s, i)));
        let mut batch: Vec<Sample> = Vec::new();
        // A model with a fixed batch of one is run sample by sample.
        let fixed = self.explainer.input()?.1.dims().first().and_then(|d| d.fixed());
        let size = fixed.unwrap_or(usize::from(self.args.batch)).max(1);
        for (place, (source, index)) in all.enumerate() {
            match source.sample(index, place, self.explainer, &self.preprocess) {
                Ok(sample) => {
                    // Samples of several sizes are no batch.
                    if batch.first().is_some_and(|first| first.values.shape() != sample.values.shape()) {
                        self.explain_or_leave_out(&batch, &bar)?;
                        bar.inc(batch.len() as u64);
                        batch.clear();
                    }
                    batch.push(sample);
                }
                Err(failure) => {
                    self.fail(source.name(index), failure, &bar)?;
                    bar.inc(1);
                }
            }
            if batch.len() == size || (place + 1 == total && !batch.is_empty()) {
                self.explain_or_leave_out(&batch, &bar)?;
                bar.inc(batch.len() as u64);
                batch.clear();
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Explains a batch; if one of its samples fails, the others are explained alone, which gives the same.
    fn explain_or_leave_out(&mut self, batch: &[Sample], bar: &ProgressBar) -> Result<(), Failure> {
        match (self.explain_batch(batch, bar), batch) {
            (Err(failure), [sample]) if failure.is_of_input() => self.fail(sample.name.clone(), failure, bar),
            (Err(failure), several) if failure.is_of_input() => {
                several.chunks(1).try_for_each(|one| self.explain_or_leave_out(one, bar))
            }
            (result, _) => result,
        }
    }

    /// Books an input that could not be explained.
    fn fail(&mut self, input: String, failure: Failure, bar: &ProgressBar) -> Result<(), Failure> {
        if self.args.strict {
            return Err(failure);
        }
        let text = failure.text();
        let error = if text.contains(&input) { text } else { format!("{input}: {text}") };
        if self.samples > 1 {
            bar.suspend(|| print::notes(format!("error: {error}")));
        }
        self.failures.push(FailureReport { input, error });
        self.failure = Some(failure);
        Ok(())
    }

    fn explain_batch(&mut self, batch: &[Sample], bar: &ProgressBar) -> Result<(), Failure> {
        let input = inputs::stack(batch)?;
        let explainer = self.explainer.for_shape(input.shape())?;
        let explainer = explainer.as_ref();
        let seed = self.batch_seed(batch).into_owned();
        let rival = self.compares_with_the_second();
        let targets = if rival { &Targets::TopK(2) } else { &self.targets };
        let result = match &self.method {
            None => explainer.explain(input.view(), &seed, targets),
            Some(method) => {
                let runs = usize::from(self.args.batch);
                let show = &mut |done: usize, total: usize| {
                    bar.set_message(format!("{}: {done} of {total} runs", method.name()));
                };
                method.explain(explainer, input.view(), &self.targets, runs, show)
            }
        };
        let mut result = result.map_err(of_input)?;
        let labels = self.labels.as_deref();
        let report = |(i, sample): (usize, &Sample)| {
            sample_report(explainer, &result, i, &sample.name, &self.seed_name, labels)
        };
        let mut reports: Vec<SampleReport> = batch.iter().enumerate().map(report).collect();
        for (report, sample) in reports.iter_mut().zip(batch) {
            let frames = sample.frames();
            let files = frames.map_or(&[][..], |frames| &frames.files);
            report.file = Some(self.fingerprints.of(&sample.path, files)?);
            report.frames = frames.map(|frames| frames.report.clone());
        }
        if !self.doubted && batch.iter().all(|sample| sample.picture().is_some()) {
            bar.suspend(|| self.doubt(&result));
        }
        if rival {
            // The second is there for the comparison alone.
            result.explanations.truncate(1);
            reports.iter_mut().for_each(|report| report.explanations.truncate(1));
        }
        let taps = self.taps(explainer, &result, input.view(), &seed)?;
        if let Some(levels) = self.args.heat_quantization {
            for map in result.explanations.iter_mut().filter_map(|e| e.map.as_mut()) {
                quantize_heat(map, usize::from(levels));
            }
        }
        for ((i, sample), mut report) in batch.iter().enumerate().zip(reports) {
            bar.suspend(|| warn(&report));
            self.files.put(sample.place, i, &result, &taps)?;
            let folder = self.write_folder(sample, i, &result, &mut report)?;
            if !self.quiet {
                bar.suspend(|| show(&report, folder.as_deref(), self.model, self.args.ledger))?;
            }
            if self.args.json.is_some() {
                let folder = folder.map(|f| f.display().to_string());
                self.reports.push(InputReport { report, folder });
            }
        }
        Ok(())
    }

    /// Says so if pictures move the outputs no more than an empty input does.
    fn doubt(&mut self, result: &Explanations) {
        self.doubted = true;
        let Some(preprocess) = &mut self.report.preprocess else { return };
        if let Some(doubt) = hardly_moves(self.explainer, result) {
            print::note(format!(
                "warning: the preprocessing {} may be another model's: {doubt}",
                preprocess.name
            ));
            preprocess.warnings.push(doubt);
        }
    }

    /// Whether the largest output is explained, and its map is compared with that of the second largest.
    fn compares_with_the_second(&self) -> bool {
        let one = self.targets == Targets::Argmax && matches!(self.seed, Seed::Named(_));
        one && self.method.is_none() && !self.args.no_class_sensitivity && self.explainer.outputs() > 1
    }

    /// The relevance of the nodes that `--tap` names, with their names.
    fn taps(
        &self,
        explainer: &Explainer,
        result: &Explanations,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
    ) -> Result<Vec<(String, ArrayD<f32>)>, Failure> {
        let (Some(glob), Some(first)) = (&self.args.tap, result.explanations.first()) else {
            return Ok(Vec::new());
        };
        let reduce = match self.args.reduce {
            ReduceArg::Channel => Reduce::Channel,
            ReduceArg::Spatial => Reduce::Spatial,
            ReduceArg::None => Reduce::None,
        };
        let taps = explainer.tap(input, seed, &first.targets, glob).map_err(of_input)?;
        Ok(taps.into_iter().map(|t| (t.name, reduce.apply(&t.relevance))).collect())
    }

    /// The seed of a batch: its samples' rows, where each sample has its own.
    fn batch_seed(&self, batch: &[Sample]) -> Cow<'_, Seed> {
        match &self.seed {
            Seed::Tensor(tensor) if tensor.ndim() == 2 => {
                let places: Vec<usize> = batch.iter().map(|sample| sample.place).collect();
                Cow::Owned(Seed::Tensor(tensor.select(Axis(0), &places)))
            }
            seed => Cow::Borrowed(seed),
        }
    }

    /// Writes the folder of a sample, if folders are asked for; says which it is.
    fn write_folder(
        &mut self,
        sample: &Sample,
        index: usize,
        result: &Explanations,
        report: &mut SampleReport,
    ) -> Result<Option<PathBuf>, Failure> {
        let Some(out) = &mut self.files.out else { return Ok(None) };
        let folder = out.folder(&sample.stem)?;
        if let Some(picture) = sample.picture() {
            out.input(&folder, picture)?;
        }
        let channels = self.explainer.spatial_input().map(|(axis, _)| axis - 1);
        for (explanation, report) in result.explanations.iter().zip(&mut report.explanations) {
            let target = explanation.targets.get(index).copied().unwrap_or(0);
            let suffix = if result.explanations.len() > 1 { format!(".{target}") } else { String::new() };
            let of_sample = |array: &ArrayD<f32>| array.index_axis(Axis(0), index).to_owned();
            report.picture = match explanation.picture(index) {
                Some(map) => Some(out.map(&folder, &suffix, map, sample.picture())?),
                None => {
                    let relevance = of_sample(&explanation.relevance);
                    let map = explanation.map.as_ref().map(of_sample);
                    let place = Place { folder: &folder, suffix: &suffix };
                    out.array(&place, sample, channels, &relevance, map.as_ref())?
                }
            };
        }
        let model = self.args.model.display().to_string();
        let (compiled, run) = (self.model, &self.report);
        let file = FolderReport { relc: VERSION, model, compiled, run, result: report };
        write_json(&folder.join("report.json"), &file)?;
        Ok(Some(folder))
    }
}

/// Whether it is a sample that fails, or the run.
fn of_input(error: ExplainError) -> Failure {
    use relc::unstable::engine::EngineError::{NonFinite, NonFiniteForward};
    match error {
        ExplainError::Execute(_) | ExplainError::Engine(NonFinite { .. } | NonFiniteForward) => {
            Failure::input(error)
        }
        _ => error.into(),
    }
}
