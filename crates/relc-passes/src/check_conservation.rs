//! `check-conservation`: composes the contracts of all relevance nodes into a claim for the program.

use relc_ir::analysis::Signs;
use relc_ir::op::{LinearLayer, Relevance};
use relc_ir::rule::Contract;
use relc_ir::{Claim, Graph, NodeId, Op};
use relc_rules::{InputFacts, contract};

use crate::error::PassError;
use crate::manager::{Pass, forward_order};
use relc_ir::remark::Remarks;

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
        forward_order(graph, self.name())?;
        let signs = Signs::of(graph);
        let mut claim = Claim::default();
        for node in graph.relevance_order().unwrap_or_default() {
            let Op::Relevance(op) = &graph.node(node).op else { continue };
            let contract = contract(op, facts(graph, node, op, &signs));
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

fn facts(graph: &Graph, node: NodeId, op: &Relevance, signs: &Signs) -> InputFacts {
    let operands = graph.operands(node);
    let act = operands.get(1);
    let size = act.and_then(|v| graph.ty(*v).spatial());
    let window = match op {
        Relevance::Linear { layer: LinearLayer::Conv(conv), .. } => Some(conv.window),
        Relevance::Linear { layer: LinearLayer::AveragePool(pool), .. } => Some(pool.window),
        _ => None,
    };
    InputFacts {
        non_negative: act.is_some_and(|v| signs.sign(*v).is_non_negative()),
        windows_cover_input: match (window, size) {
            (Some(window), Some(size)) => window.always_covers_input(&size),
            _ => true,
        },
        has_bias: match op {
            Relevance::Linear { rule, .. } => operands.len() - usize::from(rule.reads_output()) > 3,
            _ => false,
        },
    }
}
