//! One node on its own, for executors that have no kernel for it.

use ndarray::ArrayD;
use relc_ir::{Graph, NodeId, Op, ValueId};

use crate::element::Element;
use crate::error::InterpError;
use crate::forward::{shape, weight};
use crate::ops;
use crate::relevance::{self, Operand};
use relc_ir::ledger::Losses;

/// The data operands of a node: the operand's index and its value, of the shape that the graph gives it.
pub type DataOperands<T> = Vec<(usize, ArrayD<T>)>;

/// The output of a forward node on `data`, a batch of `batch` samples; weights come from the graph.
///
/// # Errors
/// If an operand is missing or does not fit, or a weight has no values.
pub fn evaluate_node<T: Element>(
    graph: &Graph,
    node: NodeId,
    data: DataOperands<T>,
    batch: usize,
) -> Result<ArrayD<T>, InterpError> {
    let operands = operands(graph, node, data)?;
    let arrays: Vec<&ArrayD<T>> = operands.iter().map(|(_, array)| array).collect();
    let shape = shape(graph, ValueId { node, port: 0 }, batch)?;
    ops::evaluate(&graph.node(node).op, &arrays, &shape).ok_or_else(|| misfit(graph, node))
}

/// The outputs of a relevance node on `data`, relevance and activations of a batch of `batch` samples, and what all
/// samples together lost; weights come from the graph.
///
/// # Errors
/// As [`evaluate_node`].
pub fn propagate_node<T: Element>(
    graph: &Graph,
    node: NodeId,
    data: DataOperands<T>,
    batch: usize,
) -> Result<(Vec<ArrayD<T>>, Losses), InterpError> {
    let Op::Relevance(op) = &graph.node(node).op else { return Err(misfit(graph, node)) };
    let arrays = operands(graph, node, data)?;
    let operands = arrays.iter().map(|(value, array)| {
        if graph.node(value.node).op.is_relevance() {
            Operand::Relevance(array.clone())
        } else if graph.is_weight(*value) {
            Operand::Weight(array.clone())
        } else {
            Operand::Activation(array)
        }
    });
    let ports = 0..graph.node(node).types().len();
    let shapes =
        ports.map(|port| shape(graph, ValueId { node, port }, batch)).collect::<Result<Vec<_>, _>>()?;
    let propagated = relevance::propagate(op, operands.collect(), &shapes, batch);
    let propagated = propagated.ok_or_else(|| misfit(graph, node))?;
    let losses = propagated.losses.into_iter().fold(Losses::default(), |sum, losses| sum + losses);
    Ok((propagated.outputs, losses))
}

/// All operands, in order, weights among them.
fn operands<T: Element>(
    graph: &Graph,
    node: NodeId,
    data: DataOperands<T>,
) -> Result<Vec<(ValueId, ArrayD<T>)>, InterpError> {
    let mut data = data.into_iter().peekable();
    let mut operands = Vec::new();
    for (index, value) in graph.operands(node).into_iter().enumerate() {
        let array = if graph.is_weight(value) {
            weight(graph, node, value)?
        } else {
            let next = data.next_if(|(i, array)| *i == index && array.ndim() == graph.ty(value).rank());
            next.ok_or_else(|| misfit(graph, node))?.1
        };
        operands.push((value, array));
    }
    Ok(operands)
}

fn misfit(graph: &Graph, node: NodeId) -> InterpError {
    InterpError::node(graph, node, "got operands that don't fit the op")
}
