//! Nodes that only move elements, forward and backward.

use relc_ir::op::{Relevance, Slice, Transpose};
use relc_ir::{NodeId, Op, TensorType, ValueId as GraphValue};

use super::{Builder, First, batch};
use crate::error::LowerError;
use crate::op::{Move, StepOp, Strided};

/// The dimensions of one sample.
pub(super) fn sample_dims(ty: &TensorType) -> Vec<usize> {
    ty.dims().iter().skip(1).map(|d| d.bind(1)).collect()
}

/// A part of a dense array: elements from `starts` on, `steps` apart.
fn part(dims: &[usize], starts: &[usize], steps: &[isize]) -> Strided {
    let dense = Strided::dense(dims);
    let base = dense.strides.iter().zip(starts).map(|(stride, start)| stride.unsigned_abs() * start).sum();
    // The step of a single element may be of any size, and leads nowhere.
    let strides =
        dense.strides.iter().zip(steps).map(|(stride, step)| stride.saturating_mul(*step)).collect();
    Strided { base, strides }
}

impl Builder<'_> {
    /// A forward move.
    pub(super) fn moves(&mut self, node: NodeId) -> Result<(), LowerError> {
        let out = node.first();
        let operands = self.graph.operands(node);
        let to = sample_dims(self.graph.ty(out));
        let from = sample_dims(self.graph.ty(operands[0]));
        match self.graph.node(node).op.clone() {
            Op::Reshape(_) => self.moved(node, operands[0], out, reshape(&to)),
            Op::Transpose(t) => self.transposed(node, operands[0], out, &t),
            Op::Slice(slice) => {
                let source = sliced(&slice, &from);
                self.moved(
                    node,
                    operands[0],
                    out,
                    Move { to: Strided::dense(&to), from: source, dims: to, fill: false },
                )
            }
            Op::Expand(_)
                if from.len() == to.len()
                    && !self.graph.is_weight(operands[0])
                    && batch(self.graph.ty(operands[0])) == batch(self.graph.ty(out)) =>
            {
                self.moved(node, operands[0], out, expand(&from, &to))
            }
            Op::Pad(pad) if pad.value == 0.0 => {
                let inner = part(&to, &pad.pads[1..to.len() + 1], &vec![1; to.len()]);
                let box_ = Move { to: inner, from: Strided::dense(&from), dims: from, fill: true };
                self.moved(node, operands[0], out, box_)
            }
            Op::Concat(concat) if operands.iter().all(|v| !self.graph.is_weight(*v)) => {
                self.concat(node, &operands, out, concat.axis, true)
            }
            _ => self.interpret(node),
        }
    }

    /// A relevance node that undoes a move.
    pub(super) fn undo_move(&mut self, node: NodeId, op: &Relevance) -> Result<(), LowerError> {
        let r = self.graph.operands(node)[0];
        let out = node.first();
        let (from, to) = (sample_dims(self.graph.ty(r)), sample_dims(self.graph.ty(out)));
        match op {
            Relevance::Reshape(_) | Relevance::Pass => self.moved(node, r, out, reshape(&to)),
            Relevance::Transpose(t) => self.transposed(node, r, out, t),
            Relevance::Slice { slice, .. } => {
                let target = sliced(slice, &to);
                self.moved(
                    node,
                    r,
                    out,
                    Move { to: target, from: Strided::dense(&from), dims: from, fill: true },
                )
            }
            Relevance::Pad { pad, .. } => {
                let inner = part(&from, &pad.pads[1..to.len() + 1], &vec![1; to.len()]);
                self.moved(node, r, out, Move { to: Strided::dense(&to), from: inner, dims: to, fill: false })
            }
            Relevance::Concat { concat, .. } => {
                let ports = 0..self.graph.node(node).types().len();
                let outs: Vec<GraphValue> = ports.map(|port| GraphValue { node, port }).collect();
                self.concat(node, &outs, r, concat.axis, false)
            }
            _ => self.interpret(node),
        }
    }

    fn transposed(
        &mut self,
        node: NodeId,
        x: GraphValue,
        out: GraphValue,
        t: &Transpose,
    ) -> Result<(), LowerError> {
        let (from, to) = (sample_dims(self.graph.ty(x)), sample_dims(self.graph.ty(out)));
        if t.perm.first() != Some(&0) {
            return Err(self.no_batch(node, "moves"));
        }
        let dense = Strided::dense(&from);
        let strides = t.perm[1..].iter().map(|axis| dense.strides[axis - 1]).collect();
        let source = Strided { base: 0, strides };
        self.moved(node, x, out, Move { to: Strided::dense(&to), from: source, dims: to, fill: false })
    }

    /// Parts side by side along an axis: to the whole, or from it.
    fn concat(
        &mut self,
        node: NodeId,
        parts: &[GraphValue],
        whole: GraphValue,
        axis: usize,
        join: bool,
    ) -> Result<(), LowerError> {
        if axis == 0 {
            return Err(self.no_batch(node, "changes"));
        }
        let dims = sample_dims(self.graph.ty(whole));
        let mut start = 0;
        for value in parts {
            let part_dims = sample_dims(self.graph.ty(*value));
            let mut starts = vec![0; dims.len()];
            starts[axis - 1] = start;
            let inside = part(&dims, &starts, &vec![1; dims.len()]);
            start += part_dims[axis - 1];
            let dense = Strided::dense(&part_dims);
            match join {
                true => self.moved(
                    node,
                    *value,
                    whole,
                    Move { to: inside, from: dense, dims: part_dims, fill: false },
                )?,
                false => self.moved(
                    node,
                    whole,
                    *value,
                    Move { to: dense, from: inside, dims: part_dims, fill: false },
                )?,
            }
        }
        Ok(())
    }

    fn moved(&mut self, node: NodeId, x: GraphValue, out: GraphValue, step: Move) -> Result<(), LowerError> {
        if batch(self.graph.ty(x)) != batch(self.graph.ty(out)) {
            return Err(self.no_batch(node, "changes"));
        }
        let (x, y) = (self.value(x)?, self.value(out)?);
        self.step(StepOp::Move(step), vec![x], y);
        Ok(())
    }
}

/// Every element stays where it is, row-major.
fn reshape(dims: &[usize]) -> Move {
    Move { dims: dims.to_vec(), to: Strided::dense(dims), from: Strided::dense(dims), fill: false }
}

/// An axis of one element is read again and again.
pub(super) fn expand(from: &[usize], to: &[usize]) -> Move {
    let dense = Strided::dense(from);
    let strides = dense.strides.iter().zip(from).map(|(stride, size)| if *size == 1 { 0 } else { *stride });
    let source = Strided { base: 0, strides: strides.collect() };
    Move { dims: to.to_vec(), to: Strided::dense(to), from: source, fill: false }
}

/// Where a slice looks in an array of these sizes.
fn sliced(slice: &Slice, dims: &[usize]) -> Strided {
    part(dims, &slice.starts[1..], &slice.steps[1..])
}
