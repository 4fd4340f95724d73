//! Relevance nodes.

use relc_ir::op::{Activation, Arithmetic, Relevance, SIGNED_EPS, SplitKind};
use relc_ir::rule::Condition;
use relc_ir::{NodeId, Op, ValueId as GraphValue};

use super::{Builder, First, MAX_PARTS};
use crate::error::LowerError;
use crate::op::{Denominator, QuotientPart, QuotientStabiliser, Quotients, StepOp, Vanishing};

impl Builder<'_> {
    /// Lowers a relevance node.
    pub(super) fn relevance(&mut self, node: NodeId) -> Result<(), LowerError> {
        let Op::Relevance(op) = self.graph.node(node).op.clone() else { return Ok(()) };
        let operands = self.graph.operands(node);
        match &op {
            Relevance::Seed => {}
            Relevance::Linear { layer, rule } => self.linear(node, layer, rule)?,
            Relevance::Winner(pool) => {
                let reads = self.values(&operands)?;
                let out = self.value(node.first())?;
                self.step(StepOp::Winner(*pool), reads, out);
            }
            Relevance::Split { kind, branches, skip } => self.split(node, *kind, *branches, *skip)?,
            Relevance::Readout { share } => self.share(node, operands[0], [0, 1], *share as f32)?,
            Relevance::Upsample { .. } | Relevance::Proportional => self.interpret(node)?,
            Relevance::Sum => {
                let parts = self.values(&operands)?;
                let sum = self.value(node.first())?;
                self.add(&parts, sum);
            }
            Relevance::Activation { activation: Activation::Relu, kind } => {
                let reads = self.values(&operands)?;
                let out = self.value(node.first())?;
                self.step(StepOp::Derivative(*kind), reads, out);
            }
            // What lies on the padding is lost or spread, and booked.
            Relevance::Pad { pad, .. } if pad.pads.iter().any(|p| *p > 0) => self.interpret(node)?,
            _ => self.undo_move(node, &op)?,
        }
        self.tally(node)
    }

    /// A share of a value for one output, and the rest for another.
    fn share(
        &mut self,
        node: NodeId,
        r: GraphValue,
        ports: [usize; 2],
        share: f32,
    ) -> Result<(), LowerError> {
        let r = self.value(r)?;
        let outs = self.values(&ports.map(|port| GraphValue { node, port }))?;
        self.push(StepOp::Share { share }, vec![r], Vec::new(), outs);
        Ok(())
    }

    /// A residual join.
    fn split(
        &mut self,
        node: NodeId,
        kind: SplitKind,
        branches: usize,
        skip: usize,
    ) -> Result<(), LowerError> {
        let operands = self.graph.operands(node);
        match kind {
            SplitKind::Signed => return self.signed_split(node, &operands),
            SplitKind::Copy => {
                let r = self.value(operands[branches])?;
                for port in 0..branches {
                    let out = self.value(GraphValue { node, port })?;
                    self.step(StepOp::Activation(Activation::Identity), vec![r], out);
                }
                return Ok(());
            }
            _ if branches != 2 => return self.interpret(node),
            _ => {}
        }
        let main = 1 - skip;
        match kind {
            SplitKind::Ratio => {
                let reads = self.values(&[operands[main], operands[skip], operands[2]])?;
                let outs = self.values(&[main, skip].map(|port| GraphValue { node, port }))?;
                self.push(StepOp::SplitRatio, reads, Vec::new(), outs);
                Ok(())
            }
            SplitKind::Only(branch) => {
                let share = if branch == main { 1.0 } else { 0.0 };
                self.share(node, operands[2], [main, skip], share)
            }
            _ => self.share(node, operands[2], [main, skip], 0.5),
        }
    }

    /// `R_k = F_k R / stab(sum F)`.
    fn signed_split(&mut self, node: NodeId, operands: &[GraphValue]) -> Result<(), LowerError> {
        let Some((r, branches)) = operands.split_last() else { return self.interpret(node) };
        let r = self.value(*r)?;
        let branches = self.values(branches)?;
        let s = self.like(r);
        // A step reads so many values: the sum of more is formed before.
        let mut summed = branches.clone();
        if branches.len() > MAX_PARTS {
            let sum = self.like(r);
            self.add(&branches, sum);
            summed = vec![sum];
        }
        let denominator = Denominator::Sum { tensors: summed.len(), constant: false, biased: false };
        let quotients = Quotients {
            parts: vec![QuotientPart { scale: 1.0, on: Condition::Always, denominator: Some(denominator) }],
            stabiliser: QuotientStabiliser::Signed(SIGNED_EPS),
            vanishing: Vanishing::Clipped,
            output: false,
            lost: false,
        };
        let reads = [vec![r], summed].concat();
        self.step(StepOp::Quotients(Box::new(quotients)), reads, s);
        for (port, branch) in branches.into_iter().enumerate() {
            let out = self.value(GraphValue { node, port })?;
            self.step(StepOp::Binary { op: Arithmetic::Mul, relu: false }, vec![branch, s], out);
        }
        Ok(())
    }
}
