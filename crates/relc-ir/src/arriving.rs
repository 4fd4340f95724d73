//! From a forward value to its relevance, and to what of it stops there.

use crate::graph::{Graph, NodeId, ValueId};
use crate::op::{Op, Relevance};

impl Graph {
    /// The relevance of a forward node's output, all of it, before a read-out takes its share; `None` if none arrives or
    /// relevance is not derived.
    pub fn arriving(&self, node: NodeId) -> Option<ValueId> {
        if let Some((readout, _)) = self.readout_node(node) {
            return self.operands(readout).first().copied();
        }
        self.relevance_of(node).find_map(|n| {
            let operands = self.operands(n);
            match &self.node(n).op {
                Op::Relevance(Relevance::Seed | Relevance::Sum) => None,
                Op::Relevance(Relevance::Split { branches, .. }) => operands.get(*branches).copied(),
                _ => operands.first().copied(),
            }
        })
    }

    /// The share of a forward node's relevance that a read-out takes, and spreads from there over the input; `None` where
    /// there is no read-out.
    pub fn readout(&self, node: NodeId) -> Option<f64> {
        self.readout_node(node).map(|(_, share)| share)
    }

    /// A forward node's read-out, and its share.
    fn readout_node(&self, node: NodeId) -> Option<(NodeId, f64)> {
        self.relevance_of(node).find_map(|n| match self.node(n).op {
            Op::Relevance(Relevance::Readout { share }) => Some((n, share)),
            _ => None,
        })
    }

    /// The relevance nodes of a forward node.
    fn relevance_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.node_ids().filter(move |n| self.node(*n).of == Some(node))
    }
}
