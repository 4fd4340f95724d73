//! Batch after batch: inputs are read ahead, and results are written behind, while the engine runs.

use std::borrow::Cow;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use indicatif::ProgressBar;
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::preprocess::{Preprocess, hardly_moves};
use relc::{ExplainError, Explainer, Explanations, Method, Reduce, Seed, Targets};
use relc_eval::Ahead;

use super::page::Flows;
use super::write::{Explained, Outcome, Writer};
use crate::args::{ExplainArgs, ReduceArg};
use crate::failure::Failure;
use crate::inputs::{self, Sample, Source};

/// What a run works with.
pub struct Run<'a> {
    pub args: &'a ExplainArgs,
    pub explainer: &'a Explainer,
    pub seed: Seed,
    pub targets: Targets,
    pub preprocess: &'a Preprocess,
    pub method: Option<Method>,
    pub bar: ProgressBar,
    /// Whether it was asked if the pictures move the outputs.
    pub doubted: bool,
}

/// What reading gave: a sample, or which input failed.
type Read = Result<Sample, (String, Failure)>;

impl<'a> Run<'a> {
    /// Explains every sample, and gives the writer back that wrote what came of them. One that fails is left out, unless
    /// `--strict` says that the run ends there.
    ///
    /// At most a batch of samples is read ahead of the one that is explained, and one is written behind it.
    pub fn explain_all(mut self, sources: &'a [Source], writer: Writer<'a>) -> Result<Writer<'a>, Failure> {
        // A model with a fixed batch of one is run sample by sample.
        let fixed = self.explainer.input()?.1.dims().first().and_then(|d| d.fixed());
        let size = fixed.unwrap_or(usize::from(self.args.batch)).max(1);
        let (explainer, preprocess) = (self.explainer, self.preprocess);
        let all = sources.iter().flat_map(|s| (0..s.samples).map(move |i| (s, i))).enumerate();
        let read = move |(place, (source, index)): (usize, (&Source, usize))| {
            let sample = source.sample(index, place, explainer, preprocess);
            sample.map_err(|failure| (source.name(index), failure))
        };
        thread::scope(|scope| {
            let (outcomes, written) = sync_channel(0);
            let writing = scope.spawn(|| writer.write_all(written));
            let explained = self.explain_samples(Ahead::new(scope, all, size, read), size, &outcomes);
            drop(outcomes);
            // What is written came first, and so did its failure.
            let writer = writing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            explained.map(|()| writer)
        })
    }

    /// Explains samples in batches of a size.
    fn explain_samples(
        &mut self,
        samples: Ahead<Read>,
        size: usize,
        outcomes: &SyncSender<Outcome<'a>>,
    ) -> Result<(), Failure> {
        let mut batch: Vec<Sample> = Vec::new();
        for sample in samples {
            match sample {
                Ok(sample) => {
                    // Samples of several sizes are no batch.
                    if batch.first().is_some_and(|first| first.values.shape() != sample.values.shape()) {
                        self.explain_or_leave_out(std::mem::take(&mut batch), outcomes)?;
                    }
                    batch.push(sample);
                }
                Err((input, failure)) => {
                    // Outcomes come in the order of the inputs.
                    self.explain_or_leave_out(std::mem::take(&mut batch), outcomes)?;
                    self.fail(input, failure, outcomes)?;
                }
            }
            if batch.len() == size {
                self.explain_or_leave_out(std::mem::take(&mut batch), outcomes)?;
            }
        }
        self.explain_or_leave_out(batch, outcomes)
    }

    /// Explains a batch, if there is something in it; if one of its samples fails, the others are explained alone, which
    /// gives the same.
    fn explain_or_leave_out(
        &mut self,
        batch: Vec<Sample>,
        outcomes: &SyncSender<Outcome<'a>>,
    ) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.explain(&batch, outcomes) {
            Ok(explained) => send(outcomes, Outcome::Explained(batch, Box::new(explained))),
            Err(failure) if !failure.is_of_input() => Err(failure),
            Err(failure) => match batch.as_slice() {
                [sample] => self.fail(sample.name.clone(), failure, outcomes),
                _ => {
                    let mut alone = batch.into_iter().map(|sample| vec![sample]);
                    alone.try_for_each(|one| self.explain_or_leave_out(one, outcomes))
                }
            },
        }
    }

    /// Leaves out an input that could not be explained.
    fn fail(
        &self,
        input: String,
        failure: Failure,
        outcomes: &SyncSender<Outcome<'a>>,
    ) -> Result<(), Failure> {
        if self.args.strict {
            return Err(failure);
        }
        send(outcomes, Outcome::Failed(input, failure))
    }

    fn explain(
        &mut self,
        batch: &[Sample],
        outcomes: &SyncSender<Outcome<'a>>,
    ) -> Result<Explained<'a>, Failure> {
        let input = inputs::stack(batch)?;
        let explainer = self.explainer.for_shape(input.shape())?;
        let seed = self.batch_seed(batch).into_owned();
        let rival = self.compares_with_the_second();
        let targets = if rival { &Targets::TopK(2) } else { &self.targets };
        let result = match &self.method {
            None => explainer.explain(input.view(), &seed, targets),
            Some(method) => {
                let runs = usize::from(self.args.batch);
                let show = &mut |done: usize, total: usize| {
                    self.bar.set_message(format!("{}: {done} of {total} runs", method.name()));
                };
                method.explain(&explainer, input.view(), &self.targets, runs, show)
            }
        };
        let result = result.map_err(of_input)?;
        if !self.doubted && batch.iter().all(|sample| sample.picture().is_some()) {
            self.doubted = true;
            if let Some(doubt) = hardly_moves(self.explainer, &result) {
                send(outcomes, Outcome::Doubted(doubt))?;
            }
        }
        let taps = self.taps(&explainer, &result, input.view(), &seed)?;
        let flows = self.flows(&explainer, &result, input.view(), &seed)?;
        Ok(Explained { explainer, result, rival, taps, flows })
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

    /// The way of the relevance, if a page shows it.
    fn flows(
        &self,
        explainer: &Explainer,
        result: &Explanations,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
    ) -> Result<Flows, Failure> {
        if self.args.report.is_none() {
            return Ok(Ok(Vec::new()));
        }
        if let Some(method) = &self.method {
            return Ok(Err(format!(
                "{} passes no relevance from node to node, so there is nothing to show of the network; presets do (relc \
                 preset list).",
                method.name()
            )));
        }
        let explanations = result.explanations.iter();
        let flows =
            explanations.map(|explanation| explainer.flow(input.view(), seed, explanation).map_err(of_input));
        flows.collect::<Result<_, _>>().map(Ok)
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
}

/// Hands on to the writer. It takes nothing more once it failed, and says why itself.
fn send<'a>(outcomes: &SyncSender<Outcome<'a>>, outcome: Outcome<'a>) -> Result<(), Failure> {
    outcomes.send(outcome).map_err(|_| Failure::from("writing has ended"))
}

/// Whether it is a sample that fails, or the run.
fn of_input(error: ExplainError) -> Failure {
    match error {
        ExplainError::Execute(_) => Failure::input(error),
        ExplainError::Run(ref run) if run.is_non_finite() => Failure::input(error),
        _ => error.into(),
    }
}
