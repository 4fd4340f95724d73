//! What can be wrong with a model.

use std::fmt;
use std::path::PathBuf;

use relc_ir::IrError;

/// The opsets (of the default domain) that relc imports.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// Why a model could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The model's path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path names no regular file, or one that is too large for protobuf.
    #[error("{} is {got}, expected a regular file of at most 2 GiB (larger weights go to external data)", path.display())]
    NoModelFile {
        /// The model's path.
        path: PathBuf,
        /// What it is.
        got: String,
    },
    /// The bytes are no ONNX protobuf message.
    #[error("not an ONNX model: {0}")]
    Decode(String),
    /// The model has no graph, as an empty file has none.
    #[error("the model has no graph: not an ONNX model, or an empty one")]
    NoGraph,
    /// The model states no opset of the default domain, several, or one that relc does not know.
    #[error(
        "got {got} for the domain ai.onnx, expected one opset from {} to {}: export the model with another opset, or \
         convert it (onnx.version_converter)",
        OPSETS.start(),
        OPSETS.end()
    )]
    Opset {
        /// What it states.
        got: String,
    },
    /// A feature of the file, outside its nodes, that relc does not read.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Something of the file, outside its nodes, that ONNX does not allow.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Two things define the same value.
    #[error("the value \"{name}\" is defined twice, as {first} and as {second}, expected one definition")]
    Duplicate {
        /// The value's name.
        name: String,
        /// What defines it first.
        first: String,
        /// What defines it again.
        second: String,
    },
    /// Nodes, or outputs of the model, use values that nothing defines: a missing initialiser, mostly.
    #[error(
        "nothing defines {}; expected an initialiser, an input or a node of that name (was the model saved without its weights?)",
        list(missing, "; ")
    )]
    Undefined {
        /// What is missing and who uses it.
        missing: Vec<String>,
    },
    /// Nodes depend on themselves.
    #[error("the graph has a cycle through the nodes {}, expected none", list(nodes, " -> "))]
    Cycle {
        /// The nodes of one cycle, in order.
        nodes: Vec<String>,
    },
    /// The model has no input, or several.
    #[error(
        "got {} inputs of floats ({}), expected one{}",
        inputs.len(),
        list(inputs, ", "),
        if inputs.len() > 1 { ": hold all others constant (--hold NAME=VALUE)" } else { "" }
    )]
    Inputs {
        /// Their names.
        inputs: Vec<String>,
    },
    /// The model has no output, or several.
    #[error(
        "got {} outputs ({}), expected one: name the one to explain (--output NAME)",
        outputs.len(),
        list(outputs, ", ")
    )]
    Outputs {
        /// Their names.
        outputs: Vec<String>,
    },
    /// The value to explain is not there.
    #[error(
        "the model has no value \"{wanted}\", expected one of its outputs ({}) or another value of its graph",
        list(known, ", ")
    )]
    NoSuchOutput {
        /// What was asked for.
        wanted: String,
        /// The model's outputs.
        known: Vec<String>,
    },
    /// The input to hold constant is not there.
    #[error("the model has no input \"{wanted}\" to hold, expected one of {}", list(known, ", "))]
    NoSuchInput {
        /// What was asked for.
        wanted: String,
        /// The model's inputs.
        known: Vec<String>,
    },
    /// The input's type can't be explained.
    #[error("input \"{input}\": {reason}")]
    InputType {
        /// The input's name.
        input: String,
        /// What was got and what is expected.
        reason: String,
    },
    /// Dimensions of the input other than the first are not known.
    #[error(
        "input \"{input}\": {}: only the first dimension, the batch, may be dynamic; state the shape (--input-shape N,3,224,224)",
        list(dims, ", ")
    )]
    DynamicDims {
        /// The input's name.
        input: String,
        /// The dimensions: index and symbol.
        dims: Vec<String>,
        /// The sizes that the model fixes, the batch first.
        sizes: Vec<Option<usize>>,
    },
    /// The output does not depend on the input.
    #[error("the output \"{0}\" is a constant, expected it to depend on the input")]
    ConstantOutput(String),
    /// Nodes that are unsupported or malformed, all of them.
    #[error("{0}")]
    Nodes(NodeIssues),
    /// As [`Nodes`](Self::Nodes), of a model whose batch is a number above 1, which the graph leaves open.
    #[error(
        "{issues}\nthe input's first dimension, {samples}, counts as the batch, whose samples are explained one by one: \
         where a node treats them unlike each other, or no such dimension is there, export the model with an open batch"
    )]
    FixedBatch {
        /// The first dimension.
        samples: usize,
        /// The nodes.
        issues: NodeIssues,
    },
}

/// Why the samples of a fixed batch can't be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixedBatch {
    /// The first dimension.
    pub samples: usize,
    /// The nodes that treat one sample unlike another.
    pub issues: NodeIssues,
}

impl From<MixedBatch> for ImportError {
    fn from(mixed: MixedBatch) -> Self {
        ImportError::FixedBatch { samples: mixed.samples, issues: mixed.issues }
    }
}

/// How a node is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssueKind {
    /// Good ONNX that relc does not import.
    Unsupported,
    /// Not what ONNX allows.
    Invalid,
}

/// A node that can't be imported, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIssue {
    /// Unsupported or invalid.
    pub kind: IssueKind,
    /// The node's name, or that of its first output if it has none.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The operator's domain.
    pub domain: String,
    /// The opset of that domain that the model states, if it does.
    pub opset: Option<i64>,
    /// What was got and what is expected.
    pub reason: String,
    /// What relc supports of the operator; `None` if it does not know the operator, or refuses it for its subgraphs.
    pub supported: Option<&'static str>,
    /// Whether ONNX's other operators are worth a look: relc does not know the operator.
    pub is_unknown: bool,
}

impl fmt::Display for NodeIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            IssueKind::Unsupported => "unsupported",
            IssueKind::Invalid => "invalid",
        };
        write!(f, "{kind}: node \"{}\" ({}, {}", self.node, self.op, self.domain)?;
        match self.opset {
            Some(opset) => write!(f, " opset {opset}): {}", self.reason)?,
            None => write!(f, ", no opset stated): {}", self.reason)?,
        }
        match (self.kind, self.supported) {
            (IssueKind::Unsupported, Some(supported)) => write!(f, "; supported: {supported}"),
            _ => Ok(()),
        }
    }
}

/// Every node of a model that can't be imported, in the order of the graph. Nodes behind them are not judged where
/// that needs the shapes or values that are missing then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIssues(pub Vec<NodeIssue>);

/// How many items a message lists before it only counts.
const LISTED: usize = 50;

impl fmt::Display for NodeIssues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} node(s) can't be imported:", self.0.len())?;
        for issue in self.0.iter().take(LISTED) {
            write!(f, "\n  {issue}")?;
        }
        if self.0.len() > LISTED {
            write!(f, "\n  and {} more", self.0.len() - LISTED)?;
        }
        if self.0.iter().any(|i| i.is_unknown) {
            let ops: Vec<&str> = crate::opset::supported_ops().iter().map(|o| o.op).collect();
            write!(f, "\nsupported operators (ai.onnx): {}", ops.join(", "))?;
        }
        Ok(())
    }
}

fn list(items: &[String], separator: &str) -> String {
    let mut text = items.iter().take(LISTED).cloned().collect::<Vec<_>>().join(separator);
    if items.len() > LISTED {
        text.push_str(&format!("{separator}and {} more", items.len() - LISTED));
    }
    text
}

/// Why a node can't be converted; the importer adds which node it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub kind: IssueKind,
    pub reason: String,
    /// Whether the operator is one that relc does not know.
    pub is_unknown: bool,
}

impl Fault {
    pub fn unsupported(reason: impl Into<String>) -> Self {
        Fault { kind: IssueKind::Unsupported, reason: reason.into(), is_unknown: false }
    }

    pub fn unknown_operator(reason: impl Into<String>) -> Self {
        Fault { is_unknown: true, ..Fault::unsupported(reason) }
    }

    pub fn invalid(reason: impl Into<String>) -> Self {
        Fault { kind: IssueKind::Invalid, reason: reason.into(), is_unknown: false }
    }

    /// The same fault, told of the tensor of that name.
    pub fn in_tensor(self, name: &str) -> Self {
        Fault { reason: format!("the tensor \"{name}\": {}", self.reason), ..self }
    }
}

/// What the graph refuses is malformed, unless the converter knows better. The node is named by the issue.
impl From<IrError> for Fault {
    fn from(error: IrError) -> Self {
        match error {
            IrError::Node { message, .. } => Fault::invalid(message),
            other => Fault::invalid(other.to_string()),
        }
    }
}
