//! Explainers as ONNX files: a graph with its relevance graph, written in ONNX's standard operators.
//!
//! [`export`] writes each node of a derived [`Graph`] as a few nodes of opset 17, forward and relevance alike, so that
//! relevance runs wherever ONNX runs. The file has one input, the model's, and the outputs `logits` `f32[N,K]`,
//! `relevance` (of the input's shape) and, for pictures, `map`, the relevance summed over the channels; one whose name the
//! model's input has gets a number behind it. Each weight is
//! stored once: its forms (`w+`, `w^2`, ...) are operators on it. Nothing that depends on the batch is stored, which
//! stays as open as the graph leaves it.
//!
//! One file per concern: `writer` makes messages, names and constants; `forward` writes the network; `layer` a linear
//! layer both ways, `linear` the rules on it; `relevance` all other relevance ops, `derivative` the derivatives; `seed`
//! what the backward pass starts from.
//!
//! **Invariant:** what a node computes is what `relc-interp` computes for it, to the rounding of `f32`. There is no
//! ledger: what a rule loses is not in the file's outputs, but the claim of check-conservation is in its metadata.
#![forbid(unsafe_code)]

mod derivative;
mod forward;
mod layer;
mod linear;
mod relevance;
mod seed;
mod writer;

use relc_ir::{Graph, TensorType};
use relc_rules::SeedKind;

use writer::Writer;

/// The version of ONNX's operators that a file is written in.
pub const OPSET: i64 = 17;

/// Protobuf's limit on a message, in bytes.
const MAX_FILE: usize = (1 << 31) - 1;

/// Which output of a sample an exported explainer explains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportTarget {
    /// The largest of each sample; of equal ones the first.
    #[default]
    Argmax,
    /// This one of every sample.
    Output(usize),
    /// The one that a second input, `target: int64[N]`, names for each sample.
    Input,
}

/// What an exported explainer explains, and what it gives.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The output that is explained.
    pub target: ExportTarget,
    /// What the relevance starts from there.
    pub seed: SeedKind,
    /// The axis of the input over which the output `map` sums the relevance; no such output without one.
    pub channels: Option<usize>,
    /// Keys and values for the file's metadata.
    pub metadata: Vec<(String, String)>,
}

/// A graph that can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The graph has no relevance.
    #[error("got a graph without relevance, expected one that derive-relevance has run on")]
    NoRelevance,
    /// The graph has a cycle.
    #[error("got a graph with a cycle, expected one that verifies")]
    Cycle,
    /// The model has several inputs.
    #[error("the model has {count} inputs; expected one")]
    SeveralInputs {
        /// How many.
        count: usize,
    },
    /// A weight whose values are not at hand.
    #[error("the weight \"{0}\" has no values: the graph came from a text")]
    NoData(String),
    /// A target that there is not.
    #[error("got the target {target}, expected one of the outputs 0 to {}", outputs.saturating_sub(1))]
    Target {
        /// The target.
        target: usize,
        /// How many outputs there are.
        outputs: usize,
    },
    /// A node that ONNX can't express.
    #[error("{node}: {message}")]
    Node {
        /// ONNX name, label and op.
        node: String,
        /// What was got, and what is expected.
        message: String,
    },
    /// More than a file may hold.
    #[error(
        "the explainer takes {0} bytes, more than the 2 GiB that an ONNX file without external data may have"
    )]
    TooLarge(usize),
}

/// The bytes of an ONNX file that explains as `graph` does; see the crate's documentation for its inputs and outputs.
///
/// # Errors
/// If the graph has no relevance, several inputs, weights without values, or a node that can't be written.
pub fn export(graph: &Graph, options: &ExportOptions) -> Result<Vec<u8>, ExportError> {
    let [input] = graph.inputs() else {
        return Err(ExportError::SeveralInputs { count: graph.inputs().len() });
    };
    let (Some((_, relevance)), Some((_, explained))) =
        (graph.relevance_outputs.iter().find(|(node, _)| node == input), graph.outputs().first())
    else {
        return Err(ExportError::NoRelevance);
    };
    let mut writer = Writer::new(graph);
    let order = graph.topological().ok_or(ExportError::Cycle)?;
    writer.input(*input);
    // The operands of the relevance graph come first: the seed reads what the whole network gives.
    for node in order.iter().copied().filter(|node| !graph.node(*node).op.is_relevance()) {
        writer.scope(node);
        forward::write(&mut writer, node)?;
    }
    let (logits, seed) = seed::write(&mut writer, *input, *explained, options)?;
    for node in order.into_iter().filter(|node| graph.node(*node).op.is_relevance()) {
        writer.scope(node);
        relevance::write(&mut writer, node, &seed)?;
    }
    let relevance_type = graph.ty(*relevance).clone();
    let relevance = writer.value(*relevance)?;
    writer.scope_of("outputs");
    let [batch, outputs] = seed::logits_dims(graph, *input, *explained);
    writer.output("logits", &logits, &TensorType::new([batch, outputs]));
    writer.output("relevance", &relevance, &relevance_type);
    if let Some(axis) = options.channels {
        let map = writer.reduce_sum(&relevance, &[axis], false);
        let dims = relevance_type.dims().iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| *d);
        writer.output("map", &map, &TensorType::new(dims));
    }
    let bytes = writer.finish(&options.metadata);
    if bytes.len() > MAX_FILE { Err(ExportError::TooLarge(bytes.len())) } else { Ok(bytes) }
}
