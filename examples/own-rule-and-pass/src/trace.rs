//! A back end: it counts what each step computes and touches, and lets another one run it.

use std::sync::{Arc, Mutex, PoisonError};

use relc::unstable::ir::{Graph, ValueId, Values};
use relc::unstable::program::conv::Direction;
use relc::unstable::program::passes::ProgramPass;
use relc::unstable::program::{Backend, BackendError, Explained, Module, Program, Session, Step, StepOp};

/// What a step did in all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// The step, with its node.
    pub step: String,
    /// Whether it is of the forward pass.
    pub forward: bool,
    /// Samples that it ran on.
    pub samples: u64,
    /// Multiplications and additions of a convolution on one sample; 0 for other steps.
    pub flops: f64,
    /// Bytes of f32 that it reads and writes for one sample, weights included.
    pub bytes: f64,
}

impl Count {
    fn of(program: &Program, step: &Step, forward: bool) -> Count {
        let elements =
            |value| program.image(value).map_or(0.0, |image| image.iter().product::<usize>() as f64);
        let constant = |name: &String| program.constants.get(name).and_then(|constant| constant.len());
        let constants: usize = step.constants.iter().filter_map(constant).sum();
        let flops = match &step.op {
            StepOp::Conv(conv) => {
                // Of the forward convolution, whichever way this one runs.
                let input = match conv.direction {
                    Direction::Forward => step.reads[0],
                    Direction::Transposed => step.writes[0],
                };
                let image = program.image(input).map(|[_, depth, height, width]| [depth, height, width]);
                image.and_then(|image| conv.spec.flops(image).ok()).unwrap_or(0.0)
            }
            _ => 0.0,
        };
        let bytes = 4.0 * (step.values().map(elements).sum::<f64>() + constants as f64);
        Count { step: step.origin.describe(), forward, samples: 0, flops, bytes }
    }
}

/// Counts of all steps of the modules of a back end, in their order.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Vec<Count>>>);

impl Trace {
    /// The counts up to now.
    pub fn counts(&self) -> Vec<Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, forward: bool, samples: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter_mut().filter(|count| count.forward == forward).for_each(|c| c.samples += samples as u64);
    }
}

/// A back end that runs what `inner` runs, and counts.
#[derive(Debug)]
pub struct Traced<B> {
    /// What computes.
    pub inner: B,
    /// Where counts go.
    pub trace: Trace,
}

impl<B: Backend> Backend for Traced<B> {
    fn name(&self) -> &'static str {
        "traced"
    }

    fn passes(&self) -> Vec<Box<dyn ProgramPass>> {
        self.inner.passes()
    }

    fn compile(&self, graph: &Graph, program: Program) -> Result<Box<dyn Module>, BackendError> {
        let of = |steps: &[Step], forward| steps.iter().map(|s| Count::of(&program, s, forward)).collect();
        let [forward, backward]: [Vec<Count>; 2] = [of(&program.forward, true), of(&program.backward, false)];
        let counts = [forward, backward].concat();
        *self.trace.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        let inner = self.inner.compile(graph, program)?;
        Ok(Box::new(TracedModule { inner, trace: self.trace.clone() }))
    }
}

#[derive(Debug)]
struct TracedModule {
    inner: Box<dyn Module>,
    trace: Trace,
}

impl Module for TracedModule {
    fn samples_at_a_time(&self) -> Option<usize> {
        self.inner.samples_at_a_time()
    }

    fn bytes(&self, samples: usize) -> usize {
        self.inner.bytes(samples)
    }

    fn kept_bytes(&self, samples: usize) -> usize {
        self.inner.kept_bytes(samples)
    }

    fn program(&self) -> Option<&Program> {
        self.inner.program()
    }

    fn packed(&self) -> &[Values] {
        self.inner.packed()
    }

    fn session(&self, samples: usize) -> Box<dyn Session + '_> {
        Box::new(TracedSession { inner: self.inner.session(samples), trace: &self.trace, samples })
    }
}

struct TracedSession<'m> {
    inner: Box<dyn Session + 'm>,
    trace: &'m Trace,
    samples: usize,
}

impl Session for TracedSession<'_> {
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError> {
        let logits = self.inner.forward(input)?;
        self.trace.add(true, self.samples);
        Ok(logits)
    }

    fn backward(&mut self, seed: &[f64], books: bool) -> Result<Explained, BackendError> {
        let explained = self.inner.backward(seed, books)?;
        self.trace.add(false, self.samples);
        Ok(explained)
    }

    fn keep_denominators(&mut self) {
        self.inner.keep_denominators();
    }

    fn tap(&self, value: ValueId) -> Result<Vec<f32>, BackendError> {
        self.inner.tap(value)
    }
}
