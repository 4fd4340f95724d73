//! Intermediate relevance: what arrives at the nodes inside the network.

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_interp::{Element, Options};
use relc_ir::spelling::did_you_mean_glob;
use relc_ir::{NodeId, ValueId};
use relc_rules::NameGlob;

use crate::compiler::Engine;
use crate::error::ExplainError;
use crate::explainer::Explainer;
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
    /// The interpreter runs it, whatever the engine: in f64 if that is the engine, else in f32.
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
        match self.engine() {
            Engine::InterpF64 => self.run_taps(input.mapv(f64::from), seed, targets, nodes),
            _ => self.run_taps(input.to_owned(), seed, targets, nodes),
        }
    }

    fn run_taps<T: Element>(
        &self,
        input: ArrayD<T>,
        seed: &Seed,
        targets: &[usize],
        nodes: &[NodeId],
    ) -> Result<Vec<Tap>, ExplainError> {
        let graph = self.graph();
        let samples = input.shape().first().copied().unwrap_or(0);
        let forward = relc_interp::forward_all(graph, &[input])?;
        let wrong = |outputs| RequestError::SeedShape { got: vec![samples], samples, outputs };
        let output = graph.outputs().first().map(|(_, v)| *v).ok_or_else(|| wrong(0))?;
        let logits = forward.value(output).ok_or_else(|| wrong(0))?;
        let wide: Vec<f64> = logits.iter().map(|v| v.widen()).collect();
        let outputs = wide.len() / samples.max(1);
        let wide = ndarray::Array2::from_shape_vec((samples, outputs), wide).map_err(|_| wrong(outputs))?;
        let seed = seed.tensor(&wide, graph.head, targets)?.mapv(T::narrow);
        let seed = seed.into_shape_with_order(logits.raw_dim()).map_err(|_| wrong(outputs))?;
        let backward = relc_interp::backward(graph, &forward, &seed, &Options { keep_all: true })?;
        let narrow = |node: NodeId, a: &ArrayD<T>| {
            let narrow = a.mapv(|v| v.widen() as f32);
            let fits = narrow.iter().all(|v| v.is_finite());
            fits.then_some(narrow).ok_or_else(|| ExplainError::BeyondF32 { node: graph.describe(node) })
        };
        let taps = nodes.iter().filter_map(|&node| {
            let activation = forward.value(ValueId { node, port: 0 })?;
            let relevance = backward.value(graph.arriving(node)?)?;
            Some((node, activation, relevance))
        });
        taps.map(|(node, activation, relevance)| {
            Ok(Tap {
                name: graph.node(node).name.clone(),
                node,
                activation: narrow(node, activation)?,
                relevance: narrow(node, relevance)?,
            })
        })
        .collect()
    }
}
