//! Errors of programs.

use std::fmt;

use crate::conv::SpecError;
use crate::layout::LayoutError;

/// A graph that can't be lowered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// A node that no program can hold.
    #[error("{node} can't be compiled: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A node's first axis is not the batch.
    #[error(
        "{node} {does} its first axis, which must be the batch of every value; export the model with an input whose \
         first axis is the batch, such as [N,C,H,W]"
    )]
    Batch {
        /// The node.
        node: String,
        /// `moves` or `changes`.
        does: &'static str,
    },
    /// The graph is not what can be lowered.
    #[error("{0}")]
    Malformed(String),
}

/// A pass over a program that can't do its work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// A step that a pass can't treat.
    #[error("{pass}: {step}: {reason}")]
    Step {
        /// The pass.
        pass: &'static str,
        /// What the step is for.
        step: String,
        /// Why.
        reason: String,
    },
    /// A pass left a program that is malformed: a defect of relc.
    #[error("{pass} left a malformed program, please report it:\n{errors}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// What is wrong.
        errors: ProgramErrors,
    },
    /// A convolution that is none.
    #[error("{step}: {source}")]
    Spec {
        /// What the step is for.
        step: String,
        /// Why.
        source: Box<SpecError>,
    },
    /// A value that is too large.
    #[error("{step}: {source}")]
    Layout {
        /// What the step is for.
        step: String,
        /// Why.
        source: LayoutError,
    },
}

/// A run that any [session](crate::Session) may refuse. It comes as itself, not within a back end's own error, so that
/// whoever runs programs knows it, whatever runs them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
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

impl RunError {
    /// Whether it is the sample's values that can't be explained: another sample may well be.
    pub fn is_non_finite(&self) -> bool {
        matches!(self, RunError::NonFiniteForward | RunError::NonFinite { .. })
    }
}

/// What is wrong with a program, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramErrors(pub Vec<String>);

impl fmt::Display for ProgramErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ProgramErrors {}
