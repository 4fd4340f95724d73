//! Errors of the IR.

/// An operation on a graph that can't be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IrError {
    /// A node is malformed.
    #[error("node \"{node}\" ({op}): {message}")]
    Node {
        /// The node's ONNX name.
        node: String,
        /// The op's mnemonic.
        op: String,
        /// What was got and what is expected.
        message: String,
    },
    /// A text is no graph.
    #[error("line {line}, column {column}: {message}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What was got and what is expected.
        message: String,
    },
}

impl IrError {
    pub(crate) fn node(node: &str, op: &str, message: String) -> Self {
        IrError::Node { node: node.to_string(), op: op.to_string(), message }
    }
}
