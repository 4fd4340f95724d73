//! The flow of relevance through the network: what arrives at each node, and what each edge carries.

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_ir::NodeId;
use relc_ir::rule::SplitPolicy;

use crate::error::ExplainError;
use crate::explainer::{Explainer, Explanation};
use crate::request::Seed;
use crate::tap::{Reduce, Tap};

/// A node of the network that relevance reaches.
#[derive(Clone, Debug)]
pub struct FlowNode {
    /// The node.
    pub node: NodeId,
    /// `sum R` of what arrived at its output.
    pub sum: f64,
    /// `sum |R|` of what arrived at its output.
    pub magnitude: f64,
    /// What arrived at each pixel, summed over the channels: `f32[H,W]`; `f32[K]` for what has no pixels.
    pub map: ArrayD<f32>,
    /// The share that a read-out took, and spread from here over the input.
    pub readout: Option<f64>,
}

/// What goes from a node to one that it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowEdge {
    /// The node that is read, as its place in [`Flow::nodes`].
    pub from: usize,
    /// The node that reads, likewise.
    pub to: usize,
    /// `sum |R|` of what `to` passed to `from`: where nothing else brings relevance to `from`, all that arrived there; at a
    /// join of two branches, the branch's share of what arrived, if the explanation has a ledger. Elsewhere what arrived at
    /// `to`, in equal parts where it reads several: exact where relevance has one sign and `to` conserves it. What a read-out
    /// brings to the input is no edge's.
    pub magnitude: f64,
    /// Whether it is the skip of a residual join.
    pub skip: bool,
}

/// One sample's relevance on its way from the output to the input.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The nodes, in forward order: the input first.
    pub nodes: Vec<FlowNode>,
    /// What they pass to each other.
    pub edges: Vec<FlowEdge>,
}

impl Explainer {
    /// How the relevance of an explanation of this input got from the output to the input: for each sample, every node and
    /// edge that it took.
    ///
    /// A program that gives the relevance of every node is compiled when it is first asked for. It keeps all of them: about
    /// twice the memory of all activations.
    ///
    /// # Errors
    /// As [`Explainer::tap`].
    pub fn flow(
        &self,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
        explanation: &Explanation,
    ) -> Result<Vec<Flow>, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(input.shape())? {
            return other.flow(input, seed, explanation);
        }
        let graph = self.graph();
        let nodes: Vec<NodeId> = graph
            .forward_order()
            .unwrap_or_default()
            .into_iter()
            .filter(|node| graph.arriving(*node).is_some())
            .collect();
        let samples = input.shape().first().copied().unwrap_or(0);
        let taps = self.tap_nodes(input.view(), seed, &explanation.targets, &nodes)?;
        // Nothing takes the relevance of the input, which is the explanation.
        let of_input = graph.inputs().first().map(|input| (*input, &explanation.relevance));
        Ok((0..samples).map(|sample| self.flow_of(&taps, of_input, explanation, sample)).collect())
    }

    fn flow_of(
        &self,
        taps: &[Tap],
        of_input: Option<(NodeId, &ArrayD<f32>)>,
        explanation: &Explanation,
        sample: usize,
    ) -> Flow {
        let tapped = taps.iter().map(|tap| (tap.node, &tap.relevance));
        let all =
            of_input.into_iter().filter(|(node, _)| taps.iter().all(|tap| tap.node != *node)).chain(tapped);
        let nodes: Vec<FlowNode> = all
            .map(|(node, relevance)| {
                let own = relevance.select(Axis(0), &[sample]);
                let map = match node {
                    node if of_input.is_some_and(|(input, _)| input == node) && explanation.map.is_some() => {
                        explanation.map.as_ref().map(|map| map.select(Axis(0), &[sample])).unwrap_or_default()
                    }
                    _ => Reduce::Spatial.apply(&own),
                };
                let wide = own.iter().map(|v| f64::from(*v));
                FlowNode {
                    node,
                    sum: wide.clone().sum(),
                    magnitude: wide.map(f64::abs).sum(),
                    map: map.index_axis_move(Axis(0), 0),
                    readout: self.graph().readout(node),
                }
            })
            .collect();
        let edges = self.edges(&nodes, explanation, sample);
        Flow { nodes, edges }
    }

    fn edges(&self, nodes: &[FlowNode], explanation: &Explanation, sample: usize) -> Vec<FlowEdge> {
        let graph = self.graph();
        let places: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, n)| (n.node, i)).collect();
        let read = |node: NodeId| {
            let operands = graph.data_operands(node).into_iter();
            operands.filter_map(|(operand, value)| Some((operand, *places.get(&value.node)?)))
        };
        // What brings relevance to each node: its readers, and to the input the read-outs.
        let mut sources = vec![0usize; nodes.len()];
        for node in nodes {
            read(node.node).for_each(|(_, from)| sources[from] += 1);
            if let (Some(_), Some(input)) = (node.readout, graph.inputs().first().and_then(|i| places.get(i)))
            {
                sources[*input] += 1;
            }
        }
        let mut edges = Vec::new();
        for (to, node) in nodes.iter().enumerate() {
            let passed = node.magnitude * (1.0 - node.readout.unwrap_or(0.0));
            let residual = graph.residuals.iter().find(|r| r.join == node.node);
            let join = explanation.ledger.joins.iter().find(|j| graph.node(j.node).of == Some(node.node));
            let share = join.and_then(|join| Some((join.skip, *join.share.get(sample)?)));
            let count = read(node.node).count();
            for (operand, from) in read(node.node) {
                let part = match share {
                    Some((skip, share)) if skip == operand => share,
                    Some(_) if self.preset().split == SplitPolicy::Gradient => 1.0,
                    Some((_, share)) if count == 2 => (1.0 - share).abs(),
                    _ => 1.0 / count as f64,
                };
                let magnitude = if sources[from] == 1 { nodes[from].magnitude } else { passed * part };
                let skip = residual.is_some_and(|r| r.skip == operand);
                edges.push(FlowEdge { from, to, magnitude, skip });
            }
        }
        edges
    }
}
