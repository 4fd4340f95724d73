//! Errors of the engine.

use crate::conv::ConvError;
use relc_codegen::jit::{CallError, CompileError};
use relc_interp::InterpError;
use relc_program::layout::LayoutError;
use relc_program::{LowerError, ProgramError, RunError};

/// A graph that the engine can't compile, or a run that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A node is not compiled yet.
    #[error("the compiled engine can't run {node}: {reason}; try --engine interp-f32, the interpreter")]
    Unsupported {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// The graph can't be lowered.
    #[error(transparent)]
    Lower(LowerError),
    /// The graph is not what the engine takes.
    #[error("{0}")]
    Malformed(String),
    /// A convolution can't be planned.
    #[error("the compiled engine can't run {node}: {source}; try --engine interp-f32, the interpreter")]
    Conv {
        /// The node.
        node: String,
        /// Why not.
        source: Box<ConvError>,
    },
    /// A buffer is too large.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Kernels can't be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A step was refused: a defect of relc.
    #[error("{node}: {source}; please report it, and use the engine interp-f32")]
    Step {
        /// The node that the step is for.
        node: String,
        /// Why.
        source: Box<StepError>,
    },
    /// The memory plan is wrong: a defect of relc.
    #[error("the memory plan is wrong, please report it: {0}")]
    Plan(String),
    /// An op that the interpreter runs failed.
    #[error(transparent)]
    Interpret(#[from] InterpError),
    /// A run that failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a step was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A convolution's operands don't fit it.
    #[error(transparent)]
    Conv(Box<ConvError>),
    /// A kernel's operands don't fit it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A kernel's operands have other sizes than it declares.
    #[error("the kernel @{kernel} wants buffers of {expected:?} elements, and gets {got:?}")]
    Buffers {
        /// The kernel.
        kernel: String,
        /// What it gets.
        got: Vec<usize>,
        /// What it wants.
        expected: Vec<usize>,
    },
}

impl From<LowerError> for EngineError {
    fn from(error: LowerError) -> Self {
        match error {
            LowerError::Unsupported { node, reason } => EngineError::Unsupported { node, reason },
            other => EngineError::Lower(other),
        }
    }
}

impl From<ProgramError> for EngineError {
    fn from(error: ProgramError) -> Self {
        let unsupported = |node, reason| EngineError::Unsupported { node, reason };
        match error {
            ProgramError::Step { step, reason, .. } => unsupported(step, reason),
            ProgramError::Spec { step, source } => unsupported(step, source.to_string()),
            ProgramError::Layout { step, source } => unsupported(step, source.to_string()),
            other => EngineError::Plan(other.to_string()),
        }
    }
}

impl From<ConvError> for StepError {
    fn from(source: ConvError) -> Self {
        StepError::Conv(Box::new(source))
    }
}
