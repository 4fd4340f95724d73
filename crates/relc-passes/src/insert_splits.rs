//! `insert-splits`: a relevance-split node at each residual join.

use relc_ir::op::{Relevance, SplitKind};
use relc_ir::residual::Residual;
use relc_ir::rule::{Rule, SplitPolicy};
use relc_ir::{Graph, Op};

use crate::error::PassError;
use crate::manager::{Pass, ir};
use relc_ir::remark::Remarks;

/// Puts a `split` beside each join, with the join's operands; derive-relevance connects the relevance.
pub struct InsertSplits;

/// The shares at one join under a policy.
fn kind(policy: SplitPolicy, residual: &Residual) -> SplitKind {
    match (policy, residual.skip_is_projection()) {
        (SplitPolicy::Ratio, _) | (SplitPolicy::RatioAtProjection, true) => SplitKind::Ratio,
        (SplitPolicy::Half, _) | (SplitPolicy::HalfAtProjection, true) => SplitKind::Half,
        (SplitPolicy::Signed, _) => SplitKind::Signed,
        (SplitPolicy::Gradient, _) => SplitKind::Copy,
        (SplitPolicy::SkipOnly, _) => SplitKind::Only(residual.skip),
        (SplitPolicy::MainOnly, _)
        | (SplitPolicy::RatioAtProjection | SplitPolicy::HalfAtProjection, false) => {
            SplitKind::Only(residual.main())
        }
    }
}

impl Pass for InsertSplits {
    fn name(&self) -> &'static str {
        "insert-splits"
    }

    fn description(&self) -> &'static str {
        "put a relevance-split node at each residual join"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        for residual in graph.residuals.clone() {
            let join = residual.join;
            let Some(Rule::Split(policy)) = graph.rules.get(&join).map(|a| a.rule.clone()) else {
                let message =
                    format!("{} has no split rule; expected assign-rules before", graph.describe(join));
                return Err(PassError::Malformed { pass: self.name(), message });
            };
            let kind = kind(policy, &residual);
            let split = Relevance::Split { kind, branches: residual.branches.len(), skip: residual.skip };
            let operands = graph.operands(join);
            let node = graph.add_relevance(Op::Relevance(split), join, &operands).map_err(ir(self.name()))?;
            remarks.applied(graph.describe(join), format!("{} by {policy}", graph.node_label(node)));
        }
        Ok(())
    }
}
