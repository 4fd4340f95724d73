//! Errors of the back end.

use relc_interp::InterpError;
use relc_program::RunError;

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
        "got no {needed} bytes of memory for {what} on the device, of which {free} are free; {}",
        if *fewer { "take a smaller --batch" } else { "free some, or take --device cpu" }
    )]
    Memory {
        /// How many bytes.
        needed: usize,
        /// What for.
        what: String,
        /// Whether fewer samples need less.
        fewer: bool,
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
    /// A run that failed.
    #[error(transparent)]
    Run(#[from] RunError),
}
