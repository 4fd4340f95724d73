//! Batch after batch: explain, write, print.

use std::borrow::Cow;

use indicatif::ProgressBar;
use ndarray::{ArrayD, ArrayViewD, Axis, Slice};
use relc::map::quantize_heat;
use relc::preprocess::Preprocess;
use relc::report::{ModelReport, SampleReport, sample_report};
use relc::{Explainer, Explanations, Method, Reduce, Seed, Targets};

use super::progress::progress_bar;
use super::show::{show, warn};
use super::{SampleFile, VERSION};
use crate::args::{ExplainArgs, ReduceArg};
use crate::failure::Failure;
use crate::inputs::{self, Sample, Source};
use crate::outputs::{Gathered, OutFolder, write_json};

/// What a run works with, and what it has gathered.
pub struct Run<'a> {
    pub args: &'a ExplainArgs,
    pub explainer: &'a Explainer,
    pub model: &'a ModelReport,
    pub seed: Seed,
    pub seed_name: String,
    pub targets: Targets,
    pub labels: Option<Vec<String>>,
    pub preprocess: Preprocess,
    pub out: Option<OutFolder>,
    pub method: Option<Method>,
    pub relevance: Gathered,
    pub maps: Gathered,
    /// For each batch, the nodes' names and their relevance.
    pub taps: Vec<Vec<(String, ArrayD<f32>)>>,
    pub reports: Vec<SampleReport>,
    pub quiet: bool,
}

impl Run<'_> {
    /// Explains every sample.
    pub fn explain_all(&mut self, sources: &[Source]) -> Result<(), Failure> {
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
            bar.suspend(|| warn(&report));
            self.write_folder(sample, i, &result, &report)?;
            if !self.quiet {
                bar.suspend(|| show(&report, self.model, self.args.ledger))?;
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
}

/// The batches of each node, as one array; nodes of one name get numbers.
pub fn gathered(batches: Vec<Vec<(String, ArrayD<f32>)>>) -> Result<Vec<(String, ArrayD<f32>)>, Failure> {
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
