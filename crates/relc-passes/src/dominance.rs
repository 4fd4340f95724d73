//! Which nodes every path goes through.

use std::collections::HashMap;

use petgraph::algo::dominators::{self, Dominators};
use petgraph::graphmap::DiGraphMap;
use relc_ir::{Graph, NodeId};

/// The dominator tree of the forward graph under one root above all inputs.
pub(crate) struct Dominance {
    /// Nodes by their index; `ROOT` stands above the inputs.
    tree: Dominators<usize>,
    nodes: HashMap<usize, NodeId>,
}

const ROOT: usize = usize::MAX;

impl Dominance {
    pub fn new(graph: &Graph) -> Self {
        let mut flow = DiGraphMap::<usize, ()>::new();
        let mut nodes = HashMap::new();
        for &input in graph.inputs() {
            flow.add_edge(ROOT, input.index(), ());
            nodes.insert(input.index(), input);
        }
        for (from, to) in graph.forward_edges() {
            flow.add_edge(from.index(), to.index(), ());
            nodes.insert(from.index(), from);
            nodes.insert(to.index(), to);
        }
        flow.add_node(ROOT);
        Dominance { tree: dominators::simple_fast(&flow, ROOT), nodes }
    }

    /// The nearest node that every path to `join` goes through.
    pub fn fork(&self, join: NodeId) -> Option<NodeId> {
        let dominator = self.tree.immediate_dominator(join.index()).filter(|d| *d != ROOT)?;
        self.nodes.get(&dominator).copied()
    }

    /// The nodes that every path from the inputs to `node` goes through, the nearest first, without `node` itself.
    pub fn cuts(&self, node: NodeId) -> Vec<NodeId> {
        let above = self.tree.strict_dominators(node.index());
        above.into_iter().flatten().filter_map(|n| self.nodes.get(&n).copied()).collect()
    }
}
