//! `assign-rules`: each forward node gets a rule, and the line that decided is kept.

use std::collections::BTreeSet;

use relc_ir::op::Arithmetic;
use relc_ir::rule::{AssignedRule, Rule};
use relc_ir::{Graph, NodeId, Op};
use relc_rules::Preset;

use crate::error::{PassError, UnsupportedNode};
use crate::gates::Gates;
use crate::manager::{Pass, Remarks, forward_order};

/// Asks the preset for every node's rule. Nodes that no relevance can pass through are listed in one error.
pub struct AssignRules {
    /// The preset, with the user's options in it.
    pub preset: Preset,
}

impl Pass for AssignRules {
    fn name(&self) -> &'static str {
        "assign-rules"
    }

    fn description(&self) -> &'static str {
        "give each node the rule that the preset and the options say"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let order = forward_order(graph, self.name())?;
        let first = before_weighted_layers(graph, &order);
        let gates = Gates::new(graph, &order);
        let reached = gates.reached(graph, &order);
        let mut unsupported = Vec::new();
        graph.rules.clear();
        for node in order {
            if graph.data_operands(node).is_empty() || !reached.contains(&node) {
                continue; // an input, or what computes a gate
            }
            match self.assign(graph, node, first.contains(&node), gates.signal(graph, node)) {
                Ok(assigned) => {
                    graph.rules.insert(node, assigned);
                }
                Err((reason, advice)) => {
                    unsupported.push(UnsupportedNode { node: graph.describe(node), reason, advice });
                }
            }
        }
        if !unsupported.is_empty() {
            return Err(PassError::Unsupported { nodes: unsupported });
        }
        remarks.applied("", format!("{} rules of the preset {}", graph.rules.len(), self.preset.name));
        Ok(())
    }
}

/// The nodes that no weighted layer comes before.
fn before_weighted_layers(graph: &Graph, order: &[NodeId]) -> BTreeSet<NodeId> {
    let mut behind = BTreeSet::new();
    for &node in order {
        let after_one = graph
            .data_operands(node)
            .iter()
            .any(|(_, v)| behind.contains(&v.node) || graph.node(v.node).op.is_weighted());
        if after_one {
            behind.insert(node);
        }
    }
    order.iter().copied().filter(|n| !behind.contains(n)).collect()
}

/// Why a node has no rule, and what to do.
type Refusal = (String, String);

impl AssignRules {
    fn assign(
        &self,
        graph: &Graph,
        node: NodeId,
        first: bool,
        signal: Option<usize>,
    ) -> Result<AssignedRule, Refusal> {
        let n = graph.node(node);
        let data = graph.data_operands(node);
        let refuse = |reason: &str, advice: &str| Err((reason.to_string(), advice.to_string()));
        let given = |(rule, origin)| Ok(AssignedRule { rule, origin });
        let keeps_type = || data.iter().all(|(_, v)| graph.ty(*v) == &n.types()[0]);
        match n.op {
            Op::Arithmetic(Arithmetic::Add) if data.len() > 1 => {
                if !graph.residuals.iter().any(|r| r.join == node) {
                    return refuse(
                        "branches are added that are no residual structure",
                        "a sum of branches of one fork is supported, without constants among them",
                    );
                }
                if !keeps_type() {
                    return refuse(
                        "branches of different shapes are added",
                        "branches of one shape are supported",
                    );
                }
                given(self.preset.split_rule())
            }
            Op::Arithmetic(_) if data.len() > 1 => match signal {
                Some(signal) => Ok(AssignedRule {
                    rule: Rule::Gate { signal },
                    origin: "structure: the signal of a gate takes the relevance".into(),
                }),
                None => refuse(
                    "two branches of which neither is the other's gate",
                    "Add, and Mul by a gate (a sigmoid, a softmax, or a value that is repeated over height and width), \
                     are supported",
                ),
            },
            Op::Arithmetic(_) if !keeps_type() => {
                refuse("a constant widens the value", "constants that broadcast to the value are supported")
            }
            Op::Arithmetic(Arithmetic::Div) if data[0].0 == 1 => {
                refuse("a constant is divided by the value", "division by a constant is supported")
            }
            Op::MatMul => refuse(
                "a matrix product that is no fully connected layer",
                "f32[N,K] times a weight is supported",
            ),
            Op::Softmax(_) => refuse(
                "a softmax inside the network",
                "a softmax in a gate, or behind the explained output, is supported",
            ),
            Op::ReduceMean(_) => refuse("a mean over the batch", "means over the other axes are supported"),
            _ => match self.preset.rule(&n.op, &n.name, first) {
                Some(rule) => given(rule),
                None => refuse(
                    &format!("the preset {} has no rule for {}", self.preset.name, n.op.onnx_name()),
                    "add a [[rule]] line for it to the preset",
                ),
            },
        }
    }
}
