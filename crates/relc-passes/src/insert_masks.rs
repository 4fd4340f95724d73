//! `insert-masks`: only some channels pass a cut, so that the explanation is that of a concept.
//!
//! A mask on a node lets the relevance of only some of its output's channels pass. What flows past the node, along
//! the edges parallel to it (from behind it to what does not depend on it, such as a skip), is masked alike where the
//! value has the same channels, and stopped where it has others: whatever reaches the input went through these
//! channels (Achtibat et al., Nature Machine Intelligence 5 (2023): concept relevance propagation).

use std::collections::BTreeSet;

use relc_ir::op::Relevance;
use relc_ir::spelling::did_you_mean_glob;
use relc_ir::{Dim, Graph, NodeId, Op, ValueId};
use relc_rules::Mask;

use crate::error::PassError;
use crate::manager::{Pass, forward_order, ir};
use relc_ir::remark::Remarks;

const NAME: &str = "insert-masks";

/// Puts a mask on the relevance that arrives at each node whose name matches, and on what flows past them.
pub struct InsertMasks {
    /// The masks.
    pub masks: Vec<Mask>,
}

impl Pass for InsertMasks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "let only the channels pass that the user names"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        for mask in &self.masks {
            let order = forward_order(graph, NAME)?;
            let matched: Vec<(NodeId, ValueId)> = graph
                .last_of_each_name(&order)
                .into_iter()
                .filter(|n| mask.name.is_match(&graph.node(*n).name))
                .filter_map(|n| Some((n, graph.arriving(n)?)))
                .collect();
            let Some((first, _)) = matched.first() else { return Err(unmatched(graph, mask, &order)) };
            let channels = channels_of(graph, *first);
            for value in parallel(graph, &order, &matched) {
                let alike = channels.is_some() && graph.ty(value).dims().get(1) == channels.as_ref();
                let passed = if alike { mask.channels.clone() } else { Vec::new() };
                let of = graph.node(value.node).of.unwrap_or(*first);
                insert(graph, value, of, passed)?;
                remarks.applied(graph.describe(value.node), if alike { "masked alike" } else { "stopped" });
            }
            for (node, value) in matched {
                insert(graph, value, node, mask.channels.clone())?;
                remarks.applied(
                    graph.describe(node),
                    format!("masked: {} channel(s) pass", mask.channels.len()),
                );
            }
        }
        Ok(())
    }
}

fn unmatched(graph: &Graph, mask: &Mask, order: &[NodeId]) -> PassError {
    let glob = mask.name.as_str();
    let ends = |n: &NodeId| matches!(graph.node(*n).op, Op::Relevance(Relevance::Seed | Relevance::Sum));
    let reached: BTreeSet<NodeId> =
        graph.node_ids().filter(|n| !ends(n)).filter_map(|n| graph.node(n).of).collect();
    let names = order.iter().filter(|n| reached.contains(n)).map(|n| graph.node(*n).name.as_str());
    let hint = did_you_mean_glob(glob, names);
    let message = format!("the mask \"{glob}\" matches no node that relevance reaches{hint}");
    PassError::Unmatched { messages: vec![message] }
}

fn channels_of(graph: &Graph, node: NodeId) -> Option<Dim> {
    graph.node(node).types().first()?.dims().get(1).copied()
}

/// The relevance values that flow from what depends on the matched nodes to what does not.
fn parallel(graph: &Graph, order: &[NodeId], matched: &[(NodeId, ValueId)]) -> Vec<ValueId> {
    let cut: BTreeSet<NodeId> = matched.iter().map(|(n, _)| *n).collect();
    let mut behind: BTreeSet<NodeId> = BTreeSet::new();
    for &node in order {
        let depends = |v: &ValueId| cut.contains(&v.node) || behind.contains(&v.node);
        if !cut.contains(&node) && graph.operands(node).iter().any(depends) {
            behind.insert(node);
        }
    }
    let mut values = Vec::new();
    for node in graph.node_ids() {
        let Some(of) = graph.node(node).of.filter(|of| behind.contains(of)) else { continue };
        if matches!(
            graph.node(node).op,
            Op::Relevance(Relevance::Seed | Relevance::Sum | Relevance::Mask { .. })
        ) {
            continue;
        }
        for (port, (_, operand)) in graph.data_operands(of).into_iter().enumerate() {
            let passes_by = !cut.contains(&operand.node) && !behind.contains(&operand.node);
            if passes_by && port < graph.node(node).types().len() {
                values.push(ValueId { node, port });
            }
        }
    }
    values
}

/// Puts a mask behind a relevance value.
fn insert(graph: &mut Graph, value: ValueId, of: NodeId, channels: Vec<usize>) -> Result<(), PassError> {
    let mask =
        graph.add_relevance(Op::Relevance(Relevance::Mask { channels }), of, &[value]).map_err(ir(NAME))?;
    let masked = ValueId { node: mask, port: 0 };
    graph.replace_uses(value, masked);
    for (_, output) in &mut graph.relevance_outputs {
        if *output == value {
            *output = masked;
        }
    }
    Ok(())
}
