//! A pass: the layers whose names match get a rule in place of the preset's.

use relc::unstable::ir::rule::{AssignedRule, Rule};
use relc::unstable::ir::{Graph, Op};
use relc::{NameGlob, Pass, PassError, Remarks};

const NAME: &str = "give-rule";

/// Gives a rule to the convolutions and fully connected layers whose ONNX names match. It runs after `assign-rules`.
pub struct GiveRule {
    /// The names.
    pub nodes: NameGlob,
    /// The rule.
    pub rule: Rule,
}

impl Pass for GiveRule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "give a rule to the layers that are named"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let glob = self.nodes.as_str();
        let mut given = 0;
        for node in graph.forward_order().unwrap_or_default() {
            if !self.nodes.is_match(&graph.node(node).name) {
                continue;
            }
            if !matches!(graph.node(node).op, Op::Conv(_) | Op::Gemm(_)) {
                remarks.missed(graph.describe(node), "keeps its rule: it is no layer with weights");
                continue;
            }
            let origin = format!("{NAME} \"{glob}\"");
            graph.rules.insert(node, AssignedRule { rule: self.rule.clone(), origin });
            remarks.applied(graph.describe(node), format!("has the rule {} now", self.rule.name()));
            given += 1;
        }
        if given == 0 {
            return Err(PassError::Unmatched {
                messages: vec![format!("{NAME}: \"{glob}\" matches no layer")],
            });
        }
        Ok(())
    }
}
