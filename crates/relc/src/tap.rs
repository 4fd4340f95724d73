//! Intermediate relevance: what arrives at the nodes inside the network.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_interp::Interpreter;
use relc_ir::spelling::did_you_mean_glob;
use relc_ir::{NodeId, ValueId};
use relc_program::{BackendError, Module};
use relc_rules::NameGlob;

use crate::error::ExplainError;
use crate::explainer::{Chosen, Explainer, matrix, rounds, seeds};
use crate::request::{RequestError, Seed};

/// The output of a node inside the network, and its relevance.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The node's ONNX name.
    pub name: String,
    /// The node.
    pub node: NodeId,
    /// Its output, `f32[N,..]`.
    pub activation: ArrayD<f32>,
    /// The relevance of its output, of the same shape.
    pub relevance: ArrayD<f32>,
}

/// What of a tap is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Everything: `f32[N,C,H,W]`.
    None,
    /// The sum over the pixels of each channel: `f32[N,C]`.
    Channel,
    /// The sum over the channels of each pixel: `f32[N,H,W]`.
    Spatial,
}

impl Reduce {
    /// The relevance so reduced; values of rank 2 have no pixels and stay.
    pub fn apply(self, relevance: &ArrayD<f32>) -> ArrayD<f32> {
        let wide = relevance.mapv(f64::from);
        let reduced = match self {
            Reduce::None => return relevance.clone(),
            _ if relevance.ndim() < 3 => return relevance.clone(),
            Reduce::Spatial => wide.sum_axis(Axis(1)),
            Reduce::Channel => (2..relevance.ndim()).rev().fold(wide, |sum, axis| sum.sum_axis(Axis(axis))),
        };
        reduced.mapv(|v| v as f32)
    }
}

impl Explainer {
    /// The relevance of the outputs of all nodes whose ONNX name matches a glob, for one target per sample.
    ///
    /// A program that gives these values is compiled when they are first asked for.
    ///
    /// # Errors
    /// If the glob is malformed or matches no node that relevance reaches (the nearest name is suggested); as
    /// [`Explainer::explain`].
    pub fn tap(
        &self,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: &[usize],
        glob: &str,
    ) -> Result<Vec<Tap>, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(input.shape())? {
            return other.tap(input, seed, targets, glob);
        }
        let matcher = NameGlob::new(glob).map_err(ExplainError::MalformedGlob)?;
        let graph = self.graph();
        let order = graph.forward_order().unwrap_or_default();
        let reached = graph.last_of_each_name(&order).into_iter();
        let reached: Vec<NodeId> = reached.filter(|n| graph.arriving(*n).is_some()).collect();
        let matched = reached.iter().copied().filter(|n| matcher.is_match(&graph.node(*n).name));
        let matched: Vec<NodeId> = matched.collect();
        if matched.is_empty() {
            let names = reached.iter().map(|n| graph.node(*n).name.as_str());
            let hint = did_you_mean_glob(glob, names);
            let message = format!("matches no node that relevance reaches{hint}");
            return Err(ExplainError::Glob { glob: glob.into(), message });
        }
        self.tap_nodes(input, seed, targets, &matched)
    }

    /// As [`tap`](Self::tap), for these nodes; those that no relevance reaches are left out.
    pub(crate) fn tap_nodes(
        &self,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: &[usize],
        nodes: &[NodeId],
    ) -> Result<Vec<Tap>, ExplainError> {
        let samples = self.check_shape(input.shape())?;
        if targets.len() != samples && matches!(seed, Seed::Named(_)) {
            return Err(RequestError::TargetCount { got: targets.len(), samples }.into());
        }
        let graph = self.graph();
        let reached: Vec<(NodeId, ValueId)> =
            nodes.iter().filter_map(|node| Some((*node, graph.arriving(*node)?))).collect();
        let values: Vec<ValueId> =
            reached.iter().flat_map(|(node, arriving)| [own(*node), *arriving]).collect();
        match self.run_taps(&*self.tapped(&values)?, &input, seed, targets, &reached) {
            Err(ExplainError::Run(error)) if error.is_non_finite() => {
                // The interpreter looks at every value, and names the node.
                self.run_taps(&*Interpreter::F32.module(graph, true), &input, seed, targets, &reached)
            }
            result => result,
        }
    }

    /// Runs a module that gives the outputs of these nodes and what arrives at them.
    fn run_taps(
        &self,
        module: &dyn Module,
        input: &ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: &[usize],
        reached: &[(NodeId, ValueId)],
    ) -> Result<Vec<Tap>, ExplainError> {
        let (graph, samples) = (self.graph(), input.shape().first().copied().unwrap_or(0));
        let input = input.as_standard_layout();
        let data = input.as_slice().unwrap_or(&[]);
        let mut parts: Vec<[Vec<f32>; 2]> = vec![Default::default(); reached.len()];
        let mut first = 0;
        for (count, data) in rounds(module, samples, data) {
            let mut session = module.session(count);
            let logits = matrix(count, session.forward(data)?)?;
            let seeds = seeds(seed, Chosen::Given(targets), &logits, graph.head, (first, samples))?;
            session.backward(seeds.first().map_or(&[], Vec::as_slice), false)?;
            for ((node, arriving), [activation, relevance]) in reached.iter().zip(&mut parts) {
                activation.extend(session.tap(own(*node))?);
                relevance.extend(session.tap(*arriving)?);
            }
            first += count;
        }
        let array = |node: NodeId, value: ValueId, data: Vec<f32>| {
            let finite = data.iter().all(|v| v.is_finite());
            let array = ArrayD::from_shape_vec(graph.ty(value).bind(samples), data).ok().filter(|_| finite);
            array.ok_or_else(|| ExplainError::BeyondF32 { node: graph.describe(node) })
        };
        let taps = reached.iter().copied().zip(parts).map(|((node, arriving), [activation, relevance])| {
            Ok(Tap {
                name: graph.node(node).name.clone(),
                node,
                activation: array(node, own(node), activation)?,
                relevance: array(node, arriving, relevance)?,
            })
        });
        taps.collect()
    }
}

/// A node's first output.
fn own(node: NodeId) -> ValueId {
    ValueId { node, port: 0 }
}

/// Compiled programs that give values inside the network, for those that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Tapped(Mutex<Vec<Kept>>);

/// What a program gives, and the program.
type Kept = (Vec<ValueId>, Arc<dyn Module>);

/// How many are kept; the one that was used longest ago goes first.
const KEPT: usize = 4;

impl Tapped {
    /// The one that gives these values, made if there is none.
    pub fn module(
        &self,
        values: &[ValueId],
        make: impl FnOnce() -> Result<Box<dyn Module>, BackendError>,
    ) -> Result<Arc<dyn Module>, ExplainError> {
        // Nothing is compiled under the lock: a thread that waits for others would wait for itself.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = known();
        let found = kept.iter().position(|(known, _)| known == values).map(|at| kept.remove(at).1);
        let (module, mut kept) = match found {
            Some(module) => (module, kept),
            None => {
                drop(kept);
                (make()?.into(), known())
            }
        };
        kept.push((values.to_vec(), module.clone()));
        if kept.len() > KEPT {
            kept.remove(0);
        }
        Ok(module)
    }
}
