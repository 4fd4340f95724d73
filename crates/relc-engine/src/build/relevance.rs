//! Relevance nodes.

use relc_codegen::kernels::{self, Condition, Denominator, Operand, QuotientPart};
use relc_codegen::kir::{Compare, Kernel};
use relc_ir::op::{Activation, Relevance, SIGNED_EPS, SplitKind};
use relc_ir::rule::Surrogate;
use relc_ir::{NodeId, Op, ValueId};

use super::Builder;
use super::forward::MAX_PARTS;
use crate::error::EngineError;
use crate::step::{Action, Bind};

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
                if !kernels::winner_fits(&axes) {
                    self.interpret(node)?;
                    return self.tally(node);
                }
                let layout = |b: &Self, id| b.kernel_layout(node, id);
                let (lx, lr, lo) = (layout(self, x)?, layout(self, r)?, layout(self, r_in)?);
                let kernel = kernels::max_pool_winner("winner", lx, lr, lo, axes);
                self.kernel(kernel, vec![Bind::Read(x), Bind::Read(r), Bind::Write(r_in)])?;
                self.tally(node)
            }
            Relevance::Split { kind, branches, skip } => {
                self.split(node, *kind, *branches, *skip)?;
                self.tally(node)
            }
            Relevance::Readout { share } => {
                self.readout(node, *share as f32)?;
                self.tally(node)
            }
            Relevance::Upsample { .. } | Relevance::Proportional => {
                self.interpret(node)?;
                self.tally(node)
            }
            Relevance::Sum => {
                let ids = operands.iter().map(|v| self.buffer(*v)).collect::<Result<Vec<_>, _>>()?;
                let sum = self.buffer(out)?;
                self.add(node, &ids, sum, false)?;
                self.tally(node)
            }
            Relevance::Activation { activation: Activation::Relu, kind } => {
                self.relu_derivative(node, *kind)?;
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

    /// A share that stops, and the rest.
    fn readout(&mut self, node: NodeId, share: f32) -> Result<(), EngineError> {
        let r = self.buffer(self.graph.operands(node)[0])?;
        let [stops, rest] = [0, 1].map(|port| ValueId { node, port });
        let (stops, rest) = (self.buffer(stops)?, self.buffer(rest)?);
        let layout = |b: &Self, id| b.kernel_layout(node, id);
        let outs = [("r_stops", layout(self, stops)?), ("r_rest", layout(self, rest)?)];
        let reads = [Operand::Tensor("r", layout(self, r)?)];
        let kernel = shared_out("readout", reads, outs, share);
        self.kernel(kernel, vec![Bind::Read(r), Bind::Write(stops), Bind::Write(rest)])
    }

    /// A residual join of two branches.
    fn split(
        &mut self,
        node: NodeId,
        kind: SplitKind,
        branches: usize,
        skip: usize,
    ) -> Result<(), EngineError> {
        let operands = self.graph.operands(node);
        match kind {
            SplitKind::Signed => return self.signed_split(node, &operands),
            SplitKind::Copy => return self.copies(node, operands[branches], branches),
            _ if branches != 2 => return self.interpret(node),
            _ => {}
        }
        let main = 1 - skip;
        let r = self.buffer(operands[2])?;
        let (main_out, skip_out) =
            (self.buffer(ValueId { node, port: main })?, self.buffer(ValueId { node, port: skip })?);
        let layout = |b: &Self, id| b.kernel_layout(node, id);
        let (lr, lm, ls) = (layout(self, r)?, layout(self, main_out)?, layout(self, skip_out)?);
        let outs = [("r_main", lm), ("r_skip", ls)];
        let writes = [Bind::Write(main_out), Bind::Write(skip_out)];
        match kind {
            SplitKind::Ratio => {
                let (f, s) = (self.buffer(operands[main])?, self.buffer(operands[skip])?);
                let kernel = kernels::ratio_split("split", [layout(self, f)?, layout(self, s)?, lr, lm, ls]);
                self.kernel(
                    kernel,
                    [vec![Bind::Read(f), Bind::Read(s), Bind::Read(r)], writes.to_vec()].concat(),
                )?;
            }
            _ => {
                let share = match kind {
                    SplitKind::Only(branch) if branch == main => 1.0,
                    SplitKind::Only(_) => 0.0,
                    _ => 0.5,
                };
                let kernel = shared_out("split", [Operand::Tensor("r", lr)], outs, share);
                self.kernel(kernel, [vec![Bind::Read(r)], writes.to_vec()].concat())?;
            }
        }
        Ok(())
    }

    /// `R_k = F_k R / stab(sum F)`.
    fn signed_split(&mut self, node: NodeId, operands: &[ValueId]) -> Result<(), EngineError> {
        let Some((r, branches)) = operands.split_last() else { return self.interpret(node) };
        let r = self.buffer(*r)?;
        let branches = branches.iter().map(|v| self.buffer(*v)).collect::<Result<Vec<_>, _>>()?;
        let tensors =
            branches.iter().map(|id| self.kernel_layout(node, *id)).collect::<Result<Vec<_>, _>>()?;
        let s = self.scratch(self.layouts[r]);
        let (lr, ls) = (self.kernel_layout(node, r)?, self.kernel_layout(node, s)?);
        // A kernel has so many buffers: the sum of more is formed before.
        let mut summed = branches.clone();
        if branches.len() > MAX_PARTS {
            let sum = self.scratch(self.layouts[branches[0]]);
            self.add(node, &branches, sum, false)?;
            summed = vec![sum];
        }
        let parts = summed.iter().map(|id| self.kernel_layout(node, *id)).collect::<Result<Vec<_>, _>>()?;
        let denominator = Denominator::Sum { tensors: parts, constant: false, biased: false };
        let part = QuotientPart { scale: 1.0, on: Condition::Always, denominator: Some(denominator) };
        let stabiliser = kernels::Stabiliser::Signed(SIGNED_EPS as f32);
        let how = (stabiliser, kernels::Vanishing::Clipped);
        let kernel = kernels::quotients("quotients", [lr, ls], None, &[part], how, None);
        let mut binds = vec![Bind::Read(r)];
        binds.extend(summed.iter().map(|id| Bind::Read(*id)));
        binds.push(Bind::Write(s));
        let kernel = self.known_kernel(kernel)?;
        self.push(Action::Quotients { kernel, binds, flag: None });
        for (port, (branch, layout)) in branches.into_iter().zip(tensors).enumerate() {
            let out = self.buffer(ValueId { node, port })?;
            let kernel = kernels::multiply("branch", [layout, ls, self.kernel_layout(node, out)?]);
            self.kernel(kernel, vec![Bind::Read(branch), Bind::Read(s), Bind::Write(out)])?;
        }
        Ok(())
    }

    /// The same value for each output.
    fn copies(&mut self, node: NodeId, r: ValueId, outputs: usize) -> Result<(), EngineError> {
        let r = self.buffer(r)?;
        let layout = self.kernel_layout(node, r)?;
        for port in 0..outputs {
            let out = self.buffer(ValueId { node, port })?;
            let writes = [("y", self.kernel_layout(node, out)?)];
            let kernel = kernels::elementwise("copy", [Operand::Tensor("x", layout)], writes, |_, x| x);
            self.kernel(kernel, vec![Bind::Read(r), Bind::Write(out)])?;
        }
        Ok(())
    }

    /// The derivative of a Relu, or what stands for it.
    fn relu_derivative(&mut self, node: NodeId, kind: Surrogate) -> Result<(), EngineError> {
        let operands = self.graph.operands(node);
        let (r, x) = (self.buffer(operands[0])?, self.buffer(operands[1])?);
        let out = self.buffer(ValueId { node, port: 0 })?;
        let layout = |b: &Self, id| b.kernel_layout(node, id);
        let reads = [Operand::Tensor("r", layout(self, r)?), Operand::Tensor("x", layout(self, x)?)];
        let writes = [("y", layout(self, out)?)];
        let kernel = kernels::elementwise("derivative", reads, writes, |b, [r, x]| {
            let zero = b.const4(0.0);
            let passed = if kind == Surrogate::Gradient { r } else { b.max(r, zero) };
            if kind == Surrogate::Deconv {
                return [passed];
            }
            let active = b.compare(Compare::Gt, x, zero);
            [b.select(active, passed, zero)]
        });
        self.kernel(kernel, vec![Bind::Read(r), Bind::Read(x), Bind::Write(out)])
    }
}

/// A kernel that gives a share of `r` to the first of two outputs, and the rest to the second.
fn shared_out(
    name: &str,
    reads: [Operand<'_>; 1],
    outs: [(&str, kernels::Blocked); 2],
    share: f32,
) -> Kernel {
    kernels::elementwise(name, reads, outs, |b, [r]| {
        let share = b.const4(share);
        let first = b.mul(r, share);
        let rest = b.sub(r, first);
        [first, rest]
    })
}
