//! What is wrong with a file.

use std::io;

use crate::FORMAT;

/// An artifact that can't be used. Messages don't name the file: who knows its path does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// It can't be read or written.
    #[error("{0}")]
    File(#[from] io::Error),
    /// It is none.
    #[error("no relc artifact: it does not begin as one")]
    NoArtifact,
    /// It is of another version.
    #[error(
        "an artifact of format {got}, expected {FORMAT} (relc {}): make it again from the model with relc compile",
        env!("CARGO_PKG_VERSION")
    )]
    Format {
        /// The file's.
        got: u32,
    },
    /// It is not what was written.
    #[error("a damaged artifact: {0}; copy it again, or make it again from the model with relc compile")]
    Damaged(String),
    /// It is as it was written, but not by this relc.
    #[error(
        "an artifact that relc {} did not make: {what}; make it again from the model with relc compile",
        env!("CARGO_PKG_VERSION")
    )]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
}

impl ArtifactError {
    pub(crate) fn damaged(what: impl Into<String>) -> ArtifactError {
        ArtifactError::Damaged(what.into())
    }

    pub(crate) fn malformed(what: impl ToString) -> ArtifactError {
        ArtifactError::Malformed { what: what.to_string() }
    }
}
