//! From a forward value to its relevance, and to what of it stops there.

use crate::graph::{Graph, NodeId, ValueId};
use crate::op::{Op, Relevance};

impl Graph {
    /// The relevance of a forward node's output, all of it, before a read-out takes its share; `None` if none arrives or
    /// relevance is not derived.
    pub fn arriving(&self, node: NodeId) -> Option<ValueId> {
        let of_node = || self.node_ids().filter(|n| self.node(*n).of == Some(node));
        let readout =
            of_node().find(|n| matches!(self.node(*n).op, Op::Relevance(Relevance::Readout { .. })));
        if let Some(readout) = readout {
            return self.operands(readout).first().copied();
        }
        of_node().find_map(|n| {
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
        self.node_ids().filter(|n| self.node(*n).of == Some(node)).find_map(|n| match self.node(n).op {
            Op::Relevance(Relevance::Readout { share }) => Some(share),
            _ => None,
        })
    }
}
