//! The activation behind the explained output.

use relc_ir::op::{Activation, Softmax};
use relc_ir::{Graph, Head, NodeId, Op};

use super::{bypass, output};
use crate::error::PassError;

/// Strips a final Softmax, LogSoftmax or Sigmoid, so that relevance starts at the logits.
pub(super) fn strip(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let head = match graph.node(node).op {
        Op::Softmax(Softmax { log: false, .. }) => Head::Softmax,
        Op::Softmax(Softmax { log: true, .. }) => Head::LogSoftmax,
        Op::Activation(Activation::Sigmoid) => Head::Sigmoid,
        _ => return Ok(None),
    };
    let explained = graph.outputs().first().is_some_and(|(_, v)| *v == output(node));
    if !explained || !graph.users(output(node)).is_empty() || graph.head != Head::None {
        return Ok(None);
    }
    let Some(&x) = graph.operands(node).first() else { return Ok(None) };
    bypass(graph, node, x)?;
    graph.head = head;
    Ok(Some("stripped: relevance starts before it".into()))
}
