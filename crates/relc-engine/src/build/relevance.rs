//! Relevance nodes.

use relc_codegen::kernels::{self, Operand};
use relc_ir::op::{Relevance, SplitKind};
use relc_ir::{NodeId, Op, ValueId};

use super::Builder;
use crate::error::EngineError;
use crate::step::Bind;

impl Builder<'_> {
    /// Lowers a relevance node.
    pub(super) fn relevance(&mut self, node: NodeId) -> Result<(), EngineError> {
        let Op::Relevance(op) = self.graph.node(node).op.clone() else { return Ok(()) };
        let out = ValueId { node, port: 0 };
        let operands = self.graph.operands(node);
        match &op {
            Relevance::Seed => self.tally(node),
            Relevance::Linear { layer, rule } => {
                self.linear(node, layer, rule)?;
                self.tally(node)
            }
            Relevance::Winner(pool) => {
                let (r, x, r_in) = (self.buffer(operands[0])?, self.buffer(operands[1])?, self.buffer(out)?);
                let axes = self.axes(node, operands[1], &pool.window)?;
                let layout = |b: &Self, id| b.kernel_layout(node, id);
                let (lx, lr, lo) = (layout(self, x)?, layout(self, r)?, layout(self, r_in)?);
                let kernel = kernels::max_pool_winner(&self.kernel_name(node, "winner"), lx, lr, lo, axes);
                self.kernel(kernel, vec![Bind::Read(x), Bind::Read(r), Bind::Write(r_in)]);
                self.tally(node)
            }
            Relevance::Split { kind, branches, skip } => {
                self.split(node, *kind, *branches, *skip)?;
                self.tally(node)
            }
            Relevance::Sum => {
                let ids = operands.iter().map(|v| self.buffer(*v)).collect::<Result<Vec<_>, _>>()?;
                let sum = self.buffer(out)?;
                self.add(node, &ids, sum, false)?;
                self.tally(node)
            }
            Relevance::Pass | Relevance::Reshape(_) if self.aliases.contains_key(&out) => Ok(()),
            Relevance::Pad { pad, .. } if pad.pads.iter().any(|p| *p > 0) => {
                // What lies on the padding is lost or spread, and booked.
                self.interpret(node)?;
                self.tally(node)
            }
            _ => {
                self.undo_move(node, &op)?;
                self.tally(node)
            }
        }
    }

    /// A residual join of two branches.
    fn split(
        &mut self,
        node: NodeId,
        kind: SplitKind,
        branches: usize,
        skip: usize,
    ) -> Result<(), EngineError> {
        if branches != 2 || matches!(kind, SplitKind::Signed | SplitKind::Copy) {
            return self.interpret(node);
        }
        let operands = self.graph.operands(node);
        let main = 1 - skip;
        let r = self.buffer(operands[2])?;
        let (main_out, skip_out) =
            (self.buffer(ValueId { node, port: main })?, self.buffer(ValueId { node, port: skip })?);
        let layout = |b: &Self, id| b.kernel_layout(node, id);
        let (lr, lm, ls) = (layout(self, r)?, layout(self, main_out)?, layout(self, skip_out)?);
        let name = self.kernel_name(node, "split");
        let outs = [("r_main", lm), ("r_skip", ls)];
        let writes = [Bind::Write(main_out), Bind::Write(skip_out)];
        match kind {
            SplitKind::Ratio => {
                let (f, s) = (self.buffer(operands[main])?, self.buffer(operands[skip])?);
                let kernel = kernels::ratio_split(&name, [layout(self, f)?, layout(self, s)?, lr, lm, ls]);
                self.kernel(
                    kernel,
                    [vec![Bind::Read(f), Bind::Read(s), Bind::Read(r)], writes.to_vec()].concat(),
                );
            }
            SplitKind::Signed | SplitKind::Copy => {} // interpreted above
            SplitKind::Half | SplitKind::Only(_) => {
                let share = match kind {
                    SplitKind::Only(branch) if branch == main => 1.0,
                    SplitKind::Only(_) => 0.0,
                    _ => 0.5,
                };
                let kernel = kernels::elementwise(&name, [Operand::Tensor("r", lr)], outs, |b, [r]| {
                    let share = b.const4(share);
                    let first = b.mul(r, share);
                    let rest = b.sub(r, first);
                    [first, rest]
                });
                self.kernel(kernel, [vec![Bind::Read(r)], writes.to_vec()].concat());
            }
        }
        Ok(())
    }
}
