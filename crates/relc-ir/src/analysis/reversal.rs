//! Where pixels of a value lie, as far as something turns them round.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeId};
use crate::op::Op;

/// A node between `from` and a node that reverses the order of pixels, so that those of the node's output are elsewhere.
pub fn reversal(graph: &Graph, from: NodeId, node: NodeId) -> Option<NodeId> {
    let mut ahead = vec![node];
    let mut seen = BTreeSet::from([node, from]);
    while let Some(node) = ahead.pop() {
        if let Op::Slice(slice) = &graph.node(node).op
            && (2..slice.steps.len()).any(|axis| slice.reverses(axis))
        {
            return Some(node);
        }
        let before = graph.data_operands(node).into_iter().map(|(_, value)| value.node);
        ahead.extend(before.filter(|node| seen.insert(*node)));
    }
    None
}
