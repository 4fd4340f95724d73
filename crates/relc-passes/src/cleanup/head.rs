//! The activation behind the explained output.

use std::collections::BTreeSet;

use relc_ir::op::{Activation, Arithmetic, Softmax};
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

/// Finds that the output is a mean of softmaxes, and this node one of them: an ensemble of networks. They stay, so that
/// the output is the model's, and relevance passes each: what it gets is its share of the mean.
pub(super) fn mix(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.head != Head::None || !mixed(graph).contains(&node) {
        return Ok(None);
    }
    graph.head = Head::Mixture;
    Ok(Some("stays: the output is a mean of softmaxes, and relevance starts before each".into()))
}

/// The softmaxes that the explained output is a weighted mean of, each over all outputs of a sample. None if it is made of
/// anything else, or of one that is moved only.
pub(crate) fn mixed(graph: &Graph) -> BTreeSet<NodeId> {
    let Some((_, explained)) = graph.outputs().first() else { return BTreeSet::new() };
    let outputs = graph.ty(*explained).elements();
    let (mut members, mut seen) = (BTreeSet::new(), BTreeSet::from([explained.node]));
    let (mut ahead, mut weighs) = (vec![explained.node], false);
    while let Some(node) = ahead.pop() {
        let data = graph.data_operands(node);
        match &graph.node(node).op {
            Op::Softmax(Softmax { axis, log: false }) => {
                let dims = graph.node(node).types()[0].dims();
                if outputs.is_none() || dims.get(*axis).and_then(|d| d.fixed()) != outputs {
                    return BTreeSet::new();
                }
                members.insert(node);
                continue;
            }
            Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) if data.len() == graph.operands(node).len() => {
            }
            Op::ReduceMean(_) | Op::GlobalAveragePool | Op::AveragePool(_) => weighs = true,
            Op::Arithmetic(Arithmetic::Add) if data.len() == graph.operands(node).len() => weighs = true,
            Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div) if is_weighed(graph, node) => weighs = true,
            _ => return BTreeSet::new(),
        }
        ahead.extend(data.into_iter().map(|(_, value)| value.node).filter(|node| seen.insert(*node)));
    }
    let inside =
        |node: &NodeId| graph.forward_users(output(*node)).iter().all(|(user, _)| seen.contains(user));
    if weighs && members.iter().all(inside) { members } else { BTreeSet::new() }
}

/// Whether a product or quotient is of a value and of positive constants.
fn is_weighed(graph: &Graph, node: NodeId) -> bool {
    let weights = match (&graph.node(node).op, &graph.operands(node)[..]) {
        (_, [_, weight]) if graph.is_weight(*weight) => graph.weight(*weight),
        (Op::Arithmetic(Arithmetic::Mul), [weight, _]) => graph.weight(*weight),
        _ => None,
    };
    weights.and_then(|w| w.data()).is_some_and(|data| data.iter().all(|v| *v > 0.0))
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
