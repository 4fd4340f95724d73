//! The flow of relevance through the network: what arrives at each node, and what each edge carries.

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_ir::op::Relevance;
use relc_ir::{NodeId, Op};

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
    /// `sum |R|` of what `to` passed to `from`: where nothing else reads `from`, all that arrived there; at a join of two
    /// branches, the branch's share of what arrived, if the explanation has a ledger. Elsewhere, what these leave of what
    /// arrived at `from`, shared in proportion to what arrived at its readers: exact where relevance has one sign and each
    /// reader conserves it.
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
                    readout: self.readout(node),
                }
            })
            .collect();
        let edges = self.edges(&nodes, explanation, sample);
        Flow { nodes, edges }
    }

    /// The share of the relevance that a read-out takes at a node, and spreads from there over the input.
    pub fn readout(&self, node: NodeId) -> Option<f64> {
        let graph = self.graph();
        graph.node_ids().filter(|n| graph.node(*n).of == Some(node)).find_map(|n| match graph.node(n).op {
            Op::Relevance(Relevance::Readout { share }) => Some(share),
            _ => None,
        })
    }

    fn edges(&self, nodes: &[FlowNode], explanation: &Explanation, sample: usize) -> Vec<FlowEdge> {
        let graph = self.graph();
        let places: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, n)| (n.node, i)).collect();
        let mut readers = vec![0usize; nodes.len()];
        let mut edges = Vec::new();
        for (to, node) in nodes.iter().enumerate() {
            let operands = graph.data_operands(node.node).into_iter();
            let read: Vec<(usize, usize)> =
                operands.filter_map(|(operand, value)| Some((operand, *places.get(&value.node)?))).collect();
            let passed = node.magnitude * (1.0 - node.readout.unwrap_or(0.0));
            let residual = graph.residuals.iter().find(|r| r.join == node.node);
            let join = explanation.ledger.joins.iter().find(|j| graph.node(j.node).of == Some(node.node));
            let share = join.and_then(|join| Some((join.skip, *join.share.get(sample)?)));
            for (operand, from) in &read {
                readers[*from] += 1;
                let skip = residual.is_some_and(|r| r.skip == *operand);
                let (magnitude, is_exact) = match share {
                    Some((skip, share)) if read.len() == 2 => {
                        (passed * if skip == *operand { share } else { 1.0 - share }, true)
                    }
                    _ => (passed, false),
                };
                edges.push((FlowEdge { from: *from, to, magnitude, skip }, is_exact));
            }
        }
        // For each node, what arrived and no exact edge carries, and what all other edges would carry.
        let mut rest: Vec<(f64, f64)> = nodes.iter().map(|node| (node.magnitude, 0.0)).collect();
        for (edge, is_exact) in &edges {
            let (left, wanted) = &mut rest[edge.from];
            match is_exact {
                true => *left -= edge.magnitude,
                false => *wanted += edge.magnitude,
            }
        }
        let settled = |(edge, is_exact): (FlowEdge, bool)| {
            let (left, wanted) = rest[edge.from];
            let magnitude = match is_exact {
                _ if readers[edge.from] == 1 => nodes[edge.from].magnitude,
                true => edge.magnitude,
                false if wanted > 0.0 => left.max(0.0) * edge.magnitude / wanted,
                false => 0.0,
            };
            FlowEdge { magnitude, ..edge }
        };
        edges.into_iter().map(settled).collect()
    }
}
