//! Errors of the facade.

use std::error::Error;

use relc_artifact::ArtifactError;
use relc_cpu::{EngineError, IsaError, MachineError};
use relc_interp::InterpError;
use relc_ir::spelling::did_you_mean;
use relc_onnx::ImportError;
use relc_passes::PassError;
use relc_program::{BackendError, RunError};

use crate::compiler::Engine;
use crate::files::FileError;
use crate::request::RequestError;

/// The message of an error and those of its causes; a cause that its parent's message already holds is left out.
pub fn messages(error: &dyn Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut all = vec![said.clone()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            all.push(message.clone());
        }
        said = message;
        cause = error.source();
    }
    all
}

/// A model that can't be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The model can't be imported.
    #[error("can't import {model}")]
    Import {
        /// The file, or what the model is in place of one.
        model: String,
        /// Why not.
        source: ImportError,
    },
    /// An artifact can't be loaded.
    #[error("can't load {model}")]
    Artifact {
        /// The file.
        model: String,
        /// Why not.
        source: ArtifactError,
    },
    /// Something else is stated of a model than when it was compiled.
    #[error(
        "{model}: got {got}, but the artifact was compiled with {}; compile the model again with it",
        if stated.is_empty() { "nothing stated" } else { stated }
    )]
    Stated {
        /// The artifact.
        model: String,
        /// What is stated.
        got: String,
        /// What was.
        stated: String,
    },
    /// A pass failed.
    #[error(transparent)]
    Pass(PassError),
    /// A pass was to run after one that there is not.
    #[error("got the pass \"{pass}\" to run after \"{after}\", expected to run it after one of {}{}", known.join(", "), did_you_mean(after, known.iter().copied()))]
    NoPass {
        /// The pass that was to run.
        pass: &'static str,
        /// After which.
        after: String,
        /// The passes that there are.
        known: Vec<&'static str>,
    },
    /// The graph is not what is expected of it: a forward graph to compile, or one with relevance to make an explainer of.
    #[error("{graph}: got {got}, expected {expected}")]
    Graph {
        /// The graph.
        graph: String,
        /// What it is.
        got: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The environment asks for an instruction set that there is not.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The environment names a machine that there is none of.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The program can't be compiled to machine code.
    #[error(transparent)]
    Engine(EngineError),
    /// A device that is not there.
    #[error("{0}")]
    Device(String),
    /// Another back end can't compile it.
    #[error(transparent)]
    Backend(BackendError),
}

impl From<BackendError> for CompileError {
    fn from(error: BackendError) -> Self {
        match error.downcast::<EngineError>() {
            Ok(error) => CompileError::Engine(*error),
            Err(error) => CompileError::Backend(error),
        }
    }
}

/// An explainer that can't be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The model can't be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The file can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An interpreter compiles nothing that could be saved.
    #[error("got the engine {0}, expected jit: an interpreter compiles nothing that could be saved")]
    Engine(Engine),
    /// A symbol of an object file has another name.
    #[error("got the name \"{got}\", expected an identifier of C: letters, digits and _, the first no digit")]
    Name {
        /// What was given.
        got: String,
    },
    /// The model takes inputs of many sizes.
    #[error(
        "{model} leaves sizes of its input open, and an artifact is compiled for one: state it, as with --input-shape \
         N,3,224,224"
    )]
    OpenSizes {
        /// The model.
        model: String,
    },
}

/// An explanation that can't be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The input has another shape than the model's.
    #[error("the input has the shape {got:?}, expected {expected} for the model's input \"{name}\"")]
    InputShape {
        /// The input's name.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The model's type, `N` any number of samples.
        expected: String,
    },
    /// The model leaves sizes of its input open and can't be compiled for these.
    #[error("can't compile the model for inputs of the shape {shape:?}")]
    Size {
        /// The input's shape.
        shape: Vec<usize>,
        /// Why not.
        source: Box<CompileError>,
    },
    /// The model has several inputs.
    #[error("the model has {count} inputs; expected one")]
    SeveralInputs {
        /// How many.
        count: usize,
    },
    /// The request does not fit the model.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// More memory would be needed than is allowed.
    #[error(
        "{samples} sample(s) at once need about {needed} MiB, more than the limit of {limit} MiB; {}",
        if *samples > 1 { "explain fewer at a time (--batch 1)" } else { "explain smaller inputs" }
    )]
    Memory {
        /// Samples in the batch.
        samples: usize,
        /// What they need, in MiB.
        needed: usize,
        /// The limit, in MiB.
        limit: usize,
    },
    /// Relevance that f64 holds and f32, in which results are given, does not.
    #[error(
        "{node}: got values beyond the numbers of f32 (3.4e38), in which results are given; expected an input and weights \
         whose sums fit f32 (check the preprocessing, or take a smaller seed)"
    )]
    BeyondF32 {
        /// The first node, in the order of the relevance: ONNX name, label and op.
        node: String,
    },
    /// A method can't run on this explainer.
    #[error("method {method}: got {got}, expected {expected}")]
    Method {
        /// The method.
        method: &'static str,
        /// What was given.
        got: String,
        /// What it needs.
        expected: String,
    },
    /// A glob that is none.
    #[error("{0}")]
    MalformedGlob(String),
    /// A glob on node names.
    #[error("the glob \"{glob}\" {message}")]
    Glob {
        /// The glob.
        glob: String,
        /// What is wrong with it, with the nearest name.
        message: String,
    },
    /// The interpreter failed.
    #[error(transparent)]
    Execute(#[from] InterpError),
    /// A run that failed, whatever ran it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The compiled engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another back end failed.
    #[error(transparent)]
    Backend(BackendError),
}

impl From<BackendError> for ExplainError {
    fn from(error: BackendError) -> Self {
        let error = match error.downcast::<RunError>() {
            Ok(error) => return ExplainError::Run(*error),
            Err(error) => error,
        };
        let error = match error.downcast::<EngineError>() {
            Ok(error) => return ExplainError::Engine(*error),
            Err(error) => error,
        };
        match error.downcast::<InterpError>() {
            Ok(error) => ExplainError::Execute(*error),
            Err(error) => ExplainError::Backend(error),
        }
    }
}
