//! What can go wrong.

use std::path::PathBuf;

use relc::files::FileError;
use relc::input::InputError;
use relc::preprocess::PreprocessError;
use relc::{CompileError, ExplainError, PresetError};
use relc_viz::VizError;

/// An evaluation that can't be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The options ask for something that there is not.
    #[error("{0}")]
    Usage(String),
    /// The data set can't be used.
    #[error("{}: {message}", path.display())]
    Dataset {
        /// The data set, or the file of it.
        path: PathBuf,
        /// What was got and what is expected.
        message: String,
    },
    /// A file can't be read or written.
    #[error("can't {what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of results holds something else.
    #[error("{}, line {line}: {message}", path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A method's map can't be judged.
    #[error("{picture}: the map of {method} {message}")]
    Map {
        /// The method.
        method: String,
        /// The picture.
        picture: String,
        /// What is wrong with it.
        message: String,
    },
    /// A signal, volume or video can't be read.
    #[error(transparent)]
    Input(Box<InputError>),
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] PreprocessError),
    /// A preset can't be read.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// The model can't be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// An input can't be explained or scored.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// A result can't be written.
    #[error(transparent)]
    Artifact(#[from] FileError),
    /// A sheet can't be drawn.
    #[error(transparent)]
    Viz(#[from] VizError),
}

impl From<InputError> for EvalError {
    fn from(error: InputError) -> Self {
        EvalError::Input(Box::new(error))
    }
}
