//! Nodes that depend on constants alone: computed at once, by the reference executor, so that what follows from held
//! inputs and from weights is a constant again.

use relc_ir::op::AveragePool;
use relc_ir::{NodeId, Op, ValueId};

use crate::call::Builder;
use crate::constant::Const;
use crate::error::Fault;

/// The most multiplications that the folding of one node takes.
const MAX_WORK: usize = 1 << 31;

impl Builder {
    /// The value of a node: the node's own output, or, if no operand depends on the model's input, the weight that it
    /// comes to, called after `name`.
    pub fn folded(&mut self, node: NodeId, name: &str) -> Result<ValueId, Fault> {
        let value = ValueId { node, port: 0 };
        if !self.graph.data_operands(node).is_empty() {
            return Ok(value);
        }
        let Some(dims) = self.graph.ty(value).fixed_dims() else {
            let ty = self.graph.ty(value);
            return Err(Fault::unsupported(format!(
                "got a constant that is repeated over the batch to {ty}, expected one that broadcasts"
            )));
        };
        let count = self.budget.fold::<f64>(&dims)?;
        if count.checked_mul(self.work_per_element(node)).is_none_or(|work| work > MAX_WORK) {
            return Err(Fault::unsupported(format!(
                "got constants alone, of which {} would take more than {MAX_WORK} multiplications to compute",
                self.graph.ty(value)
            )));
        }
        let result = relc_interp::evaluate_node::<f64>(&self.graph, node, Vec::new(), 1);
        let result = result.map_err(|e| Fault::invalid(e.to_string()))?;
        self.graph.remove(node)?;
        self.budget.charge::<f32>(count)?;
        let values: Vec<f32> = result.iter().map(|v| *v as f32).collect();
        self.new_weight(name, &Const::new(dims, values)?)
    }

    /// How many products make one element of a node's output.
    fn work_per_element(&self, node: NodeId) -> usize {
        let size = |i: usize, axis: usize| {
            let ty = self.graph.operands(node).get(i).map(|v| self.graph.ty(*v).clone());
            ty.and_then(|t| t.dims().get(axis)?.fixed()).unwrap_or(1)
        };
        match &self.graph.node(node).op {
            Op::Conv(conv) => size(1, 1).saturating_mul(conv.window.taps()),
            Op::Gemm(_) => size(0, 1),
            Op::MatMul => size(1, 0),
            Op::AveragePool(AveragePool { window, .. }) => window.taps(),
            Op::MaxPool(pool) => pool.window.taps(),
            Op::GlobalAveragePool => {
                let x = self.graph.operands(node).first().and_then(|x| self.graph.ty(*x).spatial());
                x.unwrap_or_default().into_iter().fold(1, usize::saturating_mul)
            }
            _ => 1,
        }
    }
}
