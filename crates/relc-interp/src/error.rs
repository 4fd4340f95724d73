//! Errors of the executor.

use relc_ir::{Graph, NodeId, Op, VerifyErrors};

use crate::element::Element;

/// What is expected where a value is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An input of numbers.
    Finite,
    /// Sums that f32 holds.
    FitsF32,
    /// Sums that f64 holds.
    FitsF64,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Expected::Finite => "finite numbers",
            Expected::FitsF32 => {
                "an input and weights whose sums fit f32 (check the preprocessing, or try --engine interp-f64)"
            }
            Expected::FitsF64 => {
                "an input and weights whose sums fit f64 (check the preprocessing and the weights)"
            }
        })
    }
}

/// What a non-finite value was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// An activation of the forward pass.
    Activation,
    /// Relevance.
    Relevance,
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Quantity::Activation => "activation",
            Quantity::Relevance => "relevance",
        })
    }
}

/// A run that can't be done, or whose result would not be a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpError {
    /// The graph is not well-formed.
    #[error("the graph can't be run: {0}")]
    Graph(#[from] VerifyErrors),
    /// The number of inputs is wrong.
    #[error("got {got} input arrays, expected {expected}, one for each input of the graph, in its order")]
    InputCount {
        /// Arrays given.
        got: usize,
        /// Inputs of the graph.
        expected: usize,
    },
    /// An input's shape is wrong.
    #[error("input \"{name}\": got shape {got:?}, expected {expected}")]
    InputShape {
        /// The input.
        name: String,
        /// The array's shape.
        got: Vec<usize>,
        /// The declared type, and the batch where another input has fixed it.
        expected: String,
    },
    /// A weight has no values: the graph was read from its text form, which carries only hashes.
    #[error(
        "node {node} uses weight \"{weight}\", which has no values; run a graph that was imported from a model, \
         or attach the weights (a graph read from text has only their hashes)"
    )]
    MissingWeight {
        /// The node that uses it.
        node: String,
        /// The weight.
        weight: String,
    },
    /// A value is infinite or not a number.
    #[error(
        "node {node}: got {count} non-finite values of {quantity}, the first in execution order; expected {expected}"
    )]
    NonFinite {
        /// Activation or relevance.
        quantity: Quantity,
        /// The node: ONNX name, label and op.
        node: String,
        /// The node's label in the text form.
        label: String,
        /// The ONNX node's name.
        name: String,
        /// The op's mnemonic.
        op: String,
        /// How many values are not finite.
        count: usize,
        /// What is expected.
        expected: Expected,
    },
    /// A tensor is too large for this machine's address space.
    #[error(
        "node {node}: got a tensor of shape {shape:?}, which is too large to address; explain fewer or smaller inputs at \
         a time"
    )]
    TooLarge {
        /// The node.
        node: String,
        /// The shape, batch included.
        shape: Vec<usize>,
    },
    /// The graph has no relevance nodes.
    #[error("the graph has no relevance to run; run the pass derive-relevance on it first")]
    NoRelevance,
    /// The seed does not fit the explained output.
    #[error("seed: got {got}, expected {expected}")]
    Seed {
        /// What was given.
        got: String,
        /// The shape of the explained output, all finite.
        expected: String,
    },
    /// A node can't be run as it stands.
    #[error("node {node}: {message}")]
    Node {
        /// The node.
        node: String,
        /// What was got and what is expected.
        message: String,
    },
}

impl InterpError {
    /// An error at a node.
    pub(crate) fn node(graph: &Graph, node: NodeId, message: impl Into<String>) -> Self {
        InterpError::Node { node: graph.describe(node), message: message.into() }
    }

    /// A non-finite value at a node.
    pub(crate) fn non_finite<T: Element>(
        graph: &Graph,
        node: NodeId,
        quantity: Quantity,
        count: usize,
    ) -> Self {
        let n = graph.node(node);
        let expected = match (&n.op, size_of::<T>()) {
            (Op::Input, _) => Expected::Finite,
            (_, 4) => Expected::FitsF32,
            _ => Expected::FitsF64,
        };
        InterpError::NonFinite {
            quantity,
            node: graph.describe(node),
            label: graph.node_label(node),
            name: n.name.clone(),
            op: n.op.mnemonic(),
            count,
            expected,
        }
    }
}
