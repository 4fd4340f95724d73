//! The interpreter as a back end: it runs graphs as they are, and needs no program.

use ndarray::{ArrayD, IxDyn};
use relc_ir::{Graph, ValueId};
use relc_program::passes::ProgramPass;
use relc_program::{Backend, BackendError, Explained, Module, Program, RunError, Session};

use crate::element::Element;
use crate::{Backward, Forward, Options, backward, forward, forward_all};

/// The reference interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpreter {
    /// In f32.
    F32,
    /// In f64.
    F64,
}

impl Interpreter {
    /// The module of a graph; with `tapped`, sessions keep every value.
    pub fn module(self, graph: &Graph, tapped: bool) -> Box<dyn Module> {
        let graph = graph.clone();
        Box::new(Interpreted { graph, interpreter: self, tapped })
    }
}

impl Backend for Interpreter {
    fn name(&self) -> &'static str {
        match self {
            Interpreter::F32 => "interp-f32",
            Interpreter::F64 => "interp-f64",
        }
    }

    fn passes(&self) -> Vec<Box<dyn ProgramPass>> {
        Vec::new()
    }

    fn compile(&self, graph: &Graph, program: Program) -> Result<Box<dyn Module>, BackendError> {
        Ok(self.module(graph, !program.taps.is_empty()))
    }

    fn build(&self, graph: &Graph, taps: &[ValueId]) -> Result<Box<dyn Module>, BackendError> {
        Ok(self.module(graph, !taps.is_empty()))
    }
}

/// A graph that the interpreter runs.
#[derive(Debug)]
struct Interpreted {
    graph: Graph,
    interpreter: Interpreter,
    tapped: bool,
}

impl Module for Interpreted {
    fn samples_at_a_time(&self) -> Option<usize> {
        None
    }

    /// Every forward and relevance value.
    fn bytes(&self, samples: usize) -> usize {
        let size = match self.interpreter {
            Interpreter::F32 => size_of::<f32>(),
            Interpreter::F64 => size_of::<f64>(),
        };
        let values = self.graph.node_ids().flat_map(|n| self.graph.node(n).types().iter());
        let per_sample =
            values.fold(0usize, |sum, ty| sum.saturating_add(ty.elements().unwrap_or(usize::MAX)));
        per_sample.saturating_mul(samples).saturating_mul(size)
    }

    fn session(&self, samples: usize) -> Box<dyn Session + '_> {
        match self.interpreter {
            Interpreter::F32 => Box::new(Run::<f32>::new(self, samples)),
            Interpreter::F64 => Box::new(Run::<f64>::new(self, samples)),
        }
    }
}

/// Some samples.
struct Run<'g, T> {
    graph: &'g Graph,
    samples: usize,
    tapped: bool,
    forward: Option<Forward<T>>,
    backward: Option<Backward<T>>,
}

impl<'g, T> Run<'g, T> {
    fn new(module: &'g Interpreted, samples: usize) -> Self {
        Run { graph: &module.graph, samples, tapped: module.tapped, forward: None, backward: None }
    }
}

/// An array's elements in f32.
fn narrowed<T: Element>(array: &ArrayD<T>) -> Vec<f32> {
    array.iter().map(|v| v.widen() as f32).collect()
}

/// An array of a shape, from numbers that f32 or f64 gave.
fn array<T>(what: &'static str, shape: &[usize], data: Vec<T>) -> Result<ArrayD<T>, RunError> {
    let got = data.len();
    let expected = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), data).map_err(|_| RunError::Length { what, got, expected })
}

impl<T: Element> Session for Run<'_, T> {
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError> {
        let node = self.graph.inputs().first();
        let shape = node.map(|node| self.graph.node(*node).types()[0].bind(self.samples)).unwrap_or_default();
        let input = array("the input", &shape, input.iter().map(|v| T::narrow(f64::from(*v))).collect())?;
        let run =
            if self.tapped { forward_all(self.graph, &[input])? } else { forward(self.graph, &[input])? };
        let output = self.graph.outputs().first().and_then(|(_, v)| run.value(*v));
        let logits = output.into_iter().flatten().map(|v| v.widen()).collect();
        self.forward = Some(run);
        Ok(logits)
    }

    fn backward(&mut self, seed: &[f64], _: bool) -> Result<Explained, BackendError> {
        let forward = self.forward.as_ref().ok_or(RunError::NotRun)?;
        let output = self.graph.outputs().first().map(|(_, v)| self.graph.ty(*v).bind(self.samples));
        let seed = seed.iter().map(|v| T::narrow(*v)).collect();
        let seed = array("the seed", &output.unwrap_or_default(), seed)?;
        let mut run = backward(self.graph, forward, &seed, &Options { keep_all: self.tapped })?;
        let relevance = run.inputs.first().map(|(_, relevance)| narrowed(relevance)).unwrap_or_default();
        let ledger = std::mem::take(&mut run.ledger);
        self.backward = Some(run).filter(|_| self.tapped);
        Ok(Explained { relevance, ledger })
    }

    fn tap(&self, value: ValueId) -> Result<Vec<f32>, BackendError> {
        let kept = match self.graph.node(value.node).op.is_relevance() {
            true => self.backward.as_ref().and_then(|run| run.value(value)),
            false => self.forward.as_ref().and_then(|run| run.value(value)),
        };
        Ok(narrowed(kept.ok_or(RunError::NotRun)?))
    }
}
