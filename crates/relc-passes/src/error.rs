//! What can go wrong in a pass.

use std::fmt;

use relc_ir::{IrError, VerifyErrors};

/// A node that relevance can't pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// Its ONNX name, label and op, as [`relc_ir::Graph::describe`] writes them.
    pub node: String,
    /// Why not.
    pub reason: String,
    /// What is supported, or what to do.
    pub advice: String,
}

impl fmt::Display for UnsupportedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.node, self.reason, self.advice)
    }
}

/// A pass that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// An edit of the graph was refused.
    #[error("pass {pass}: {source}")]
    Ir {
        /// The pass.
        pass: &'static str,
        /// What the graph said.
        source: IrError,
    },
    /// Relevance can't pass through some nodes; all are listed.
    #[error("{} node(s) have no rule:\n{}", nodes.len(), list(nodes))]
    Unsupported {
        /// The nodes.
        nodes: Vec<UnsupportedNode>,
    },
    /// Globs of the preset match nothing in the model.
    #[error("{}", messages.join("\n"))]
    Unmatched {
        /// For each its line, and the nearest name.
        messages: Vec<String>,
    },
    /// The graph has not the form that the pass needs.
    #[error("pass {pass}: {message}")]
    Malformed {
        /// The pass.
        pass: &'static str,
        /// What was got and what is expected.
        message: String,
    },
    /// A pass left a graph that the verifier refuses: a defect of the pass.
    #[error("pass {pass} left a malformed graph, which is a defect of the pass:\n{errors}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// What the verifier said.
        errors: VerifyErrors,
    },
}

fn list(nodes: &[UnsupportedNode]) -> String {
    nodes.iter().map(|n| format!("  {n}")).collect::<Vec<_>>().join("\n")
}
