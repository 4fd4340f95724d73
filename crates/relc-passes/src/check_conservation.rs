//! `check-conservation`: composes the contracts of all relevance nodes into a claim for the program.

use std::collections::BTreeSet;

use relc_ir::op::{Activation, Arithmetic, LinearLayer, Relevance};
use relc_ir::rule::Contract;
use relc_ir::{Claim, Dim, Graph, NodeId, Op};
use relc_rules::{InputFacts, contract};

use crate::error::PassError;
use crate::manager::{Pass, Remarks, forward_order};

/// The program conserves relevance if every node does: relevance is never copied (the verifier sees to that), so
/// what leaves the last node is what the seed put in.
pub struct CheckConservation;

impl Pass for CheckConservation {
    fn name(&self) -> &'static str {
        "check-conservation"
    }

    fn description(&self) -> &'static str {
        "compose the rules' contracts into a claim about the whole program"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let non_negative = non_negative_values(graph, &forward_order(graph, self.name())?);
        let mut claim = Claim::default();
        for node in graph.relevance_order().unwrap_or_default() {
            let Op::Relevance(op) = &graph.node(node).op else { continue };
            let contract = contract(op, facts(graph, node, op, &non_negative));
            if contract != Contract::Conserving {
                remarks.applied(graph.describe(node), contract.to_string());
                claim.leaks.push((node, contract));
            }
        }
        if claim.leaks.is_empty() {
            remarks.applied("", "every node conserves relevance, so the program does");
        }
        graph.claim = Some(claim);
        Ok(())
    }
}

fn facts(graph: &Graph, node: NodeId, op: &Relevance, non_negative: &BTreeSet<NodeId>) -> InputFacts {
    let operands = graph.operands(node);
    let act = operands.get(1);
    let size = act.and_then(|v| match graph.ty(*v).dims() {
        [_, _, Dim::Fixed(h), Dim::Fixed(w)] => Some([*h, *w]),
        _ => None,
    });
    let window = match op {
        Relevance::Linear { layer: LinearLayer::Conv(conv), .. } => Some(conv.window),
        Relevance::Linear { layer: LinearLayer::AveragePool(pool), .. } => Some(pool.window),
        _ => None,
    };
    InputFacts {
        non_negative: act.is_some_and(|v| non_negative.contains(&v.node)),
        windows_cover_input: match (window, size) {
            (Some(window), Some(size)) => window.always_covers_input(size),
            _ => true,
        },
        has_bias: match op {
            Relevance::Linear { rule, .. } => operands.len() - usize::from(rule.reads_output()) > 3,
            _ => false,
        },
    }
}

/// The forward nodes whose output is never negative, whatever the model's input. `order` is the graph's forward order.
pub fn non_negative_values(graph: &Graph, order: &[NodeId]) -> BTreeSet<NodeId> {
    let mut known = BTreeSet::new();
    for &node in order {
        let operands = graph.operands(node);
        let all = |known: &BTreeSet<NodeId>| {
            !operands.is_empty() && operands.iter().all(|v| known.contains(&v.node))
        };
        let holds = match &graph.node(node).op {
            Op::Activation(
                Activation::Relu
                | Activation::Sigmoid
                | Activation::HardSigmoid { .. }
                | Activation::Softplus
                | Activation::Exp
                | Activation::Sqrt
                | Activation::Abs,
            ) => true,
            Op::Activation(Activation::Neg | Activation::Log | Activation::Celu { .. }) => false,
            Op::Activation(Activation::Clip { min, .. }) => *min >= 0.0 || all(&known),
            Op::Activation(_) => all(&known),
            Op::Softmax(softmax) => !softmax.log,
            Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool | Op::ReduceMean(_) => all(&known),
            Op::Reshape(_) | Op::Expand(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat(_) => all(&known),
            Op::Pad(pad) => pad.value >= 0.0 && all(&known),
            Op::Arithmetic(Arithmetic::Add | Arithmetic::Mul) => all(&known),
            _ => false,
        };
        if holds {
            known.insert(node);
        }
    }
    known
}
