//! The forward pass.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ndarray::ArrayD;
use relc_ir::{Dim, Graph, NodeId, Op, ValueId, verify};

use crate::element::Element;
use crate::error::{InterpError, Quantity};
use crate::ops;

/// The activations of a forward pass that are kept: inputs, outputs, and what the relevance nodes use.
#[derive(Clone, Debug)]
pub struct Forward<T> {
    batch: usize,
    values: HashMap<ValueId, Arc<ArrayD<T>>>,
    outputs: Vec<(String, ValueId)>,
}

impl<T: Element> Forward<T> {
    /// A value of the forward graph; `None` for weights and for values that were not kept.
    pub fn value(&self, value: ValueId) -> Option<&ArrayD<T>> {
        self.values.get(&value).map(Arc::as_ref)
    }

    /// The graph's outputs, in its order, with the model's names.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &ArrayD<T>)> {
        self.outputs.iter().filter_map(|(name, v)| Some((name.as_str(), self.value(*v)?)))
    }

    /// The batch size; 1 if no input has a batch axis.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

/// Runs the forward graph on `inputs`, one array for each input of the graph, in its order: `f32[N,..]` with the
/// same `N` for all that are batched.
///
/// Values are dropped after their last use unless they are inputs, outputs or used by a relevance node.
///
/// # Errors
/// If the graph is malformed or lacks the values of a weight, an input does not fit, or a value is not finite.
pub fn forward<T: Element>(graph: &Graph, inputs: &[ArrayD<T>]) -> Result<Forward<T>, InterpError> {
    run(graph, inputs, false)
}

/// As [`forward`], and keeps every value.
///
/// # Errors
/// As [`forward`].
pub fn forward_all<T: Element>(graph: &Graph, inputs: &[ArrayD<T>]) -> Result<Forward<T>, InterpError> {
    run(graph, inputs, true)
}

fn run<T: Element>(graph: &Graph, inputs: &[ArrayD<T>], keep_all: bool) -> Result<Forward<T>, InterpError> {
    verify(graph)?;
    let _span = tracing::debug_span!("forward", graph = graph.name()).entered();
    let batch = bind_batch(graph, inputs)?;
    let mut values: HashMap<ValueId, Arc<ArrayD<T>>> = HashMap::new();
    for (&node, input) in graph.inputs().iter().zip(inputs) {
        check_finite(graph, node, Quantity::Activation, input)?;
        values.insert(ValueId { node, port: 0 }, Arc::new(input.as_standard_layout().into_owned()));
    }
    let kept = kept(graph);
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    for node in graph.forward_order().unwrap_or_default() {
        if graph.node(node).op == Op::Input {
            continue;
        }
        tracing::trace!(node = graph.node_label(node), "forward");
        let operands = graph.operands(node);
        let out = step(graph, node, &operands, &values, batch)?;
        check_finite(graph, node, Quantity::Activation, &out)?;
        values.insert(ValueId { node, port: 0 }, Arc::new(out));
        for value in operands {
            let done = uses.entry(value).or_default();
            *done += 1;
            if !keep_all && !kept.contains(&value) && *done >= graph.forward_users(value).len() {
                values.remove(&value);
            }
        }
    }
    let outputs = graph.outputs().to_vec();
    Ok(Forward { batch, values, outputs })
}

/// The values that outlive the forward pass.
fn kept(graph: &Graph) -> HashSet<ValueId> {
    let used = graph.node_ids().filter(|n| graph.node(*n).op.is_relevance()).flat_map(|n| graph.operands(n));
    let outputs = graph.outputs().iter().map(|(_, v)| *v);
    let inputs = graph.inputs().iter().map(|&node| ValueId { node, port: 0 });
    used.chain(outputs).chain(inputs).collect()
}

fn step<T: Element>(
    graph: &Graph,
    node: NodeId,
    operands: &[ValueId],
    values: &HashMap<ValueId, Arc<ArrayD<T>>>,
    batch: usize,
) -> Result<ArrayD<T>, InterpError> {
    let shape = shape(graph, ValueId { node, port: 0 }, batch)?;
    let operands = operands.iter().map(|&value| match values.get(&value) {
        Some(array) => Ok(array.clone()),
        None => weight(graph, node, value).map(Arc::new),
    });
    let operands = operands.collect::<Result<Vec<_>, _>>()?;
    let operands: Vec<&ArrayD<T>> = operands.iter().map(Arc::as_ref).collect();
    ops::evaluate(&graph.node(node).op, &operands, &shape)
        .ok_or_else(|| InterpError::node(graph, node, "got operands that don't fit the op"))
}

/// The batch that the inputs' shapes agree on.
fn bind_batch<T: Element>(graph: &Graph, inputs: &[ArrayD<T>]) -> Result<usize, InterpError> {
    if inputs.len() != graph.inputs().len() {
        return Err(InterpError::InputCount { got: inputs.len(), expected: graph.inputs().len() });
    }
    let mut batch = None;
    for (&node, input) in graph.inputs().iter().zip(inputs) {
        let ty = graph.ty(ValueId { node, port: 0 });
        let bound = batch.map_or(String::new(), |n: usize| format!(" with N={n}"));
        let fits = ty.rank() == input.ndim()
            && ty.dims().iter().zip(input.shape()).all(|(dim, &got)| match dim {
                Dim::Fixed(n) => *n == got,
                Dim::Batch => got > 0 && *batch.get_or_insert(got) == got,
            });
        if !fits {
            return Err(InterpError::InputShape {
                name: graph.node(node).name.clone(),
                got: input.shape().to_vec(),
                expected: format!("{ty}{bound}"),
            });
        }
    }
    Ok(batch.unwrap_or(1))
}

/// The shape of a value with the batch bound.
///
/// # Errors
/// If it can't be addressed.
pub(crate) fn shape(graph: &Graph, value: ValueId, batch: usize) -> Result<Vec<usize>, InterpError> {
    let shape = graph.ty(value).bind(batch);
    // A column of patches, and f64, are the widest elements that are allocated in this shape.
    let bytes = shape.iter().try_fold(size_of::<f64>(), |n, &d| n.checked_mul(d));
    match bytes {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(shape),
        _ => Err(InterpError::TooLarge { node: graph.describe(value.node), shape }),
    }
}

/// The values of a weight that `node` uses.
///
/// # Errors
/// If it has none.
pub(crate) fn weight<T: Element>(
    graph: &Graph,
    node: NodeId,
    value: ValueId,
) -> Result<ArrayD<T>, InterpError> {
    let missing = || InterpError::MissingWeight { node: graph.describe(node), weight: graph.label(value) };
    let data = graph.weight(value).and_then(|w| w.data()).ok_or_else(missing)?;
    let data: Vec<T> = data.iter().map(|&v| T::narrow(f64::from(v))).collect();
    ArrayD::from_shape_vec(graph.ty(value).bind(1), data).map_err(|_| missing())
}

fn check_finite<T: Element>(
    graph: &Graph,
    node: NodeId,
    quantity: Quantity,
    array: &ArrayD<T>,
) -> Result<(), InterpError> {
    match array.iter().filter(|v| !v.is_finite()).count() {
        0 => Ok(()),
        count => Err(InterpError::non_finite::<T>(graph, node, quantity, count)),
    }
}
