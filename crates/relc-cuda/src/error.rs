//! Errors of the back end.

use relc_interp::InterpError;

/// A program that no GPU can run, or a run that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// A node without a kernel.
    #[error("the CUDA back end can't run {node}: {reason}; try --device cpu")]
    Unsupported {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// A graph without relevance.
    #[error("the input has no relevance")]
    NoRelevance,
    /// A library that is not there, or that has no device.
    #[error("{0}")]
    Missing(String),
    /// The kernels don't compile: a defect of relc.
    #[error("the kernels don't compile, please report it:\n{0}")]
    Compile(String),
    /// A value that the program does not have: a defect of relc.
    #[error("the plan is wrong, please report it: {0}")]
    Plan(String),
    /// More memory than there is.
    #[error(
        "got no {needed} bytes of memory for {samples} samples on the device, of which {free} are free; take a smaller \
         --batch"
    )]
    Memory {
        /// How many bytes.
        needed: usize,
        /// For how many samples.
        samples: usize,
        /// What is free.
        free: usize,
    },
    /// The driver refused something.
    #[error("the CUDA driver refused to {what}: {reason}")]
    Driver {
        /// What.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// An op that the interpreter runs failed.
    #[error(transparent)]
    Interpret(#[from] InterpError),
    /// An array of the wrong length.
    #[error("{what} has {got} elements, expected {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What the model wants.
        expected: usize,
    },
    /// The backward steps before the forward ones.
    #[error("the forward steps of this session have not run")]
    NotRun,
    /// The input or the explained output has a value that is infinite or not a number.
    #[error(
        "got a non-finite value in the input or the explained output; --engine interp-f64 finds the node"
    )]
    NonFiniteForward,
    /// A value is infinite or not a number.
    #[error(
        "node {node}: got a non-finite relevance, the first in execution order; --engine interp-f64 shows more"
    )]
    NonFinite {
        /// The node.
        node: String,
    },
}
