//! Nodes that only move elements, forward and backward: tables of (to, from).

use relc_ir::op::{Relevance, Slice, Transpose};
use relc_ir::{NodeId, Op, TensorType, ValueId};

use super::Builder;
use crate::error::EngineError;
use crate::image::{batch, offset_of};
use crate::step::{Action, BufferId, NOWHERE};

/// The dimensions of one sample.
fn sample_dims(ty: &TensorType) -> Vec<usize> {
    ty.dims().iter().skip(1).map(|d| d.bind(1)).collect()
}

/// The row-major coordinates of an index.
fn coordinates(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut at = vec![0; dims.len()];
    for (slot, size) in at.iter_mut().zip(dims).rev() {
        *slot = index % size;
        index /= size;
    }
    at
}

/// The row-major index of coordinates.
fn index(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |i, (a, d)| i * d + a)
}

impl Builder<'_> {
    /// A forward move.
    pub(super) fn moves(&mut self, node: NodeId) -> Result<(), EngineError> {
        let out = ValueId { node, port: 0 };
        let operands = self.graph.operands(node);
        let to = sample_dims(self.graph.ty(out));
        match self.graph.node(node).op.clone() {
            Op::Reshape(_) => self.table(node, operands[0], out, Some),
            Op::Transpose(t) => self.transposed(node, operands[0], out, &t),
            Op::Slice(slice) => {
                let from = sample_dims(self.graph.ty(operands[0]));
                self.table(node, operands[0], out, |i| {
                    let at: Vec<usize> = coordinates(i, &to)
                        .iter()
                        .enumerate()
                        .map(|(axis, a)| slice.starts[axis + 1] + a * slice.steps[axis + 1])
                        .collect();
                    Some(index(&at, &from))
                })
            }
            Op::Pad(pad) if pad.value == 0.0 => {
                let from = sample_dims(self.graph.ty(operands[0]));
                self.table(node, operands[0], out, |i| padded_source(i, &to, &from, &pad.pads))
            }
            Op::Concat(concat) if operands.iter().all(|v| !self.graph.is_weight(*v)) => {
                self.concat(&operands, out, concat.axis, true)
            }
            _ => self.interpret(node),
        }
    }

    /// A relevance node that undoes a move.
    pub(super) fn undo_move(&mut self, node: NodeId, op: &Relevance) -> Result<(), EngineError> {
        let r = self.graph.operands(node)[0];
        let out = ValueId { node, port: 0 };
        let (from, to) = (sample_dims(self.graph.ty(r)), sample_dims(self.graph.ty(out)));
        match op {
            Relevance::Reshape(_) | Relevance::Pass => self.table(node, r, out, Some),
            Relevance::Transpose(t) => self.transposed(node, r, out, t),
            Relevance::Slice { slice, .. } => {
                self.table(node, r, out, |i| sliced_source(i, &to, &from, slice))
            }
            Relevance::Pad { pad, .. } => {
                let begins = &pad.pads[1..to.len() + 1];
                self.table(node, r, out, |i| {
                    let at: Vec<usize> = coordinates(i, &to).iter().zip(begins).map(|(a, p)| a + p).collect();
                    Some(index(&at, &from))
                })
            }
            Relevance::Concat { concat, .. } => {
                let outs: Vec<ValueId> =
                    (0..self.graph.node(node).types().len()).map(|port| ValueId { node, port }).collect();
                self.concat(&outs, r, concat.axis, false)
            }
            _ => self.interpret(node),
        }
    }

    fn transposed(
        &mut self,
        node: NodeId,
        x: ValueId,
        out: ValueId,
        t: &Transpose,
    ) -> Result<(), EngineError> {
        let (from, to) = (sample_dims(self.graph.ty(x)), sample_dims(self.graph.ty(out)));
        if t.perm.first() != Some(&0) {
            return Err(self.no_batch(node, "moves"));
        }
        self.table(node, x, out, |i| {
            let mut at = vec![0; from.len()];
            for (axis, a) in coordinates(i, &to).into_iter().enumerate() {
                at[t.perm[axis + 1] - 1] = a;
            }
            Some(index(&at, &from))
        })
    }

    /// Parts side by side along an axis: to the whole, or from it.
    fn concat(
        &mut self,
        parts: &[ValueId],
        whole: ValueId,
        axis: usize,
        join: bool,
    ) -> Result<(), EngineError> {
        let dims = sample_dims(self.graph.ty(whole));
        let (mut start, id) = (0, self.buffer(whole)?);
        for part in parts {
            let part_dims = sample_dims(self.graph.ty(*part));
            let part_id = self.buffer(*part)?;
            let pairs: Vec<(usize, usize)> = (0..part_dims.iter().product())
                .map(|i| {
                    let mut at = coordinates(i, &part_dims);
                    at[axis - 1] += start;
                    (i, index(&at, &dims))
                })
                .collect();
            let pairs = pairs.into_iter().map(|(p, w)| if join { (w, Some(p)) } else { (p, Some(w)) });
            let (input, output) = if join { (part_id, id) } else { (id, part_id) };
            self.move_step(input, output, pairs.collect());
            start += part_dims[axis - 1];
        }
        Ok(())
    }

    /// A move in which element `i` of the output comes from element `source(i)` of the input.
    fn table(
        &mut self,
        node: NodeId,
        x: ValueId,
        out: ValueId,
        source: impl Fn(usize) -> Option<usize>,
    ) -> Result<(), EngineError> {
        if batch(self.graph.ty(x)) != batch(self.graph.ty(out)) {
            return Err(self.no_batch(node, "changes"));
        }
        let (input, output) = (self.buffer(x)?, self.buffer(out)?);
        let count = sample_dims(self.graph.ty(out)).iter().product();
        self.move_step(input, output, (0..count).map(|i| (i, source(i))).collect());
        Ok(())
    }

    fn move_step(&mut self, input: BufferId, output: BufferId, pairs: Vec<(usize, Option<usize>)>) {
        let (from, to) = (self.layouts[input], self.layouts[output]);
        // Layouts have fewer than 2^32 elements.
        let offset = |layout, i| offset_of(layout, i) as u32;
        let pair = |(o, i): (usize, Option<usize>)| (offset(&to, o), i.map_or(NOWHERE, |i| offset(&from, i)));
        self.push(Action::Move { table: pairs.into_iter().map(pair).collect(), input, output });
    }
}

/// The source of a padded element; none on the padding.
fn padded_source(i: usize, to: &[usize], from: &[usize], pads: &[usize]) -> Option<usize> {
    let at: Option<Vec<usize>> = coordinates(i, to)
        .iter()
        .enumerate()
        .map(|(axis, a)| a.checked_sub(pads[axis + 1]).filter(|p| *p < from[axis]))
        .collect();
    at.map(|at| index(&at, from))
}

/// The source of an element of a slice's input; none where the slice did not look.
fn sliced_source(i: usize, to: &[usize], from: &[usize], slice: &Slice) -> Option<usize> {
    let at: Option<Vec<usize>> = coordinates(i, to)
        .iter()
        .enumerate()
        .map(|(axis, a)| {
            let distance = a.checked_sub(slice.starts[axis + 1])?;
            let step = slice.steps[axis + 1];
            (distance % step == 0 && distance / step < from[axis]).then_some(distance / step)
        })
        .collect();
    at.map(|at| index(&at, from))
}
