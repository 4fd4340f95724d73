//! The activation behind the explained output.

use relc_ir::op::{Activation, Softmax};
use relc_ir::{Dim, Graph, Groups, Head, NodeId, Op, ValueId};

use super::{bypass, output};
use crate::error::PassError;

/// Strips a final Softmax, LogSoftmax or Sigmoid, so that relevance starts at the logits. Only moves may follow it.
pub(super) fn strip(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let head = match graph.node(node).op {
        Op::Softmax(Softmax { log: false, .. }) => Head::Softmax(None),
        Op::Softmax(Softmax { log: true, .. }) => Head::LogSoftmax(None),
        Op::Activation(Activation::Sigmoid) => Head::Sigmoid,
        _ => return Ok(None),
    };
    if graph.head != Head::None {
        return Ok(None);
    }
    let groups = match graph.node(node).op {
        Op::Softmax(Softmax { axis, .. }) => match groups(graph.ty(output(node)).dims(), axis) {
            Some(groups) => Some(groups),
            None => return Ok(None),
        },
        _ => None,
    };
    let Some((explained, groups)) = at_output(graph, output(node), groups) else { return Ok(None) };
    let Some(&x) = graph.operands(node).first() else { return Ok(None) };
    let outputs = graph.ty(explained).elements();
    bypass(graph, node, x)?;
    // Over all outputs of a sample there is one group.
    let groups = groups.filter(|g| outputs != Some(g.size));
    graph.head = head.over(groups);
    Ok(Some(match groups {
        Some(g) => format!("stripped: relevance starts before it; it normalises {} outputs together", g.size),
        None => "stripped: relevance starts before it".into(),
    }))
}

/// The groups along an axis of a value, of a sample's elements.
fn groups(dims: &[Dim], axis: usize) -> Option<Groups> {
    let behind = dims.get(axis + 1..)?.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))?;
    (axis > 0).then_some(Groups { size: dims.get(axis)?.fixed()?, stride: behind })
}

/// The explained output, if `value` becomes it by moves that keep samples apart, and the groups as they lie there.
fn at_output(graph: &Graph, value: ValueId, groups: Option<Groups>) -> Option<(ValueId, Option<Groups>)> {
    let (mut at, mut lying) = (value, groups);
    loop {
        let users = graph.users(at);
        let is_output = graph.outputs().iter().any(|(_, v)| *v == at);
        if is_output {
            let explained = graph.outputs().first().is_some_and(|(_, v)| *v == at);
            return (explained && users.is_empty()).then_some((at, lying));
        }
        let &[(user, _)] = &users[..] else { return None };
        let (from, to) = (graph.ty(at).dims(), graph.node(user).types()[0].dims());
        match &graph.node(user).op {
            // A sample's elements stay in their order.
            Op::Reshape(_) if from.first() == to.first() => {}
            Op::Transpose(transpose) if transpose.perm.first() == Some(&0) => {
                if let Some(before) = lying {
                    let axis = (1..from.len()).find(|axis| self::groups(from, *axis) == Some(before))?;
                    lying = Some(self::groups(to, transpose.perm.iter().position(|a| *a == axis)?)?);
                }
            }
            _ => return None,
        }
        at = output(user);
    }
}
