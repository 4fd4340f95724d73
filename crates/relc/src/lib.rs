//! The relevance compiler: from an ONNX ResNet to explanations whose relevance is conserved.
//!
//! [`Compiler`] imports a model, runs the passes, and gives an [`Explainer`], which explains batches of inputs.
//! This crate is the one stable API, but for [`unstable`]; the crates below it are its parts.
//!
//! ```no_run
//! use relc::{Compiler, Preset, Seed, SeedKind, Targets};
//!
//! let explainer = Compiler::new(Preset::named("two_level")?).compile("examples/demo/model.onnx")?;
//! let input = ndarray::ArrayD::<f32>::zeros(vec![1, 3, 64, 64]);
//! let result = explainer.explain(input.view(), &Seed::Named(SeedKind::Logit), &Targets::Argmax)?;
//! let explanation = &result.explanations[0];
//! println!("class {}: conserved to {:.1e}", explanation.targets[0], explanation.conservation_error(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `pictures` (on): files of pictures and videos, and inputs made of them (`Preprocess::apply`, `video`); the crate `image` and its decoders come with it.
//! - `npz` (on): archives of arrays (`files::NpzFile`, `files::NpzRows`).
//! - `schema`: the JSON Schema of the reports (`report::schema`).
//! - `testing`: filetests for passes of one's own (`testing`).
//!
//! Without the two that are on, `relc` explains arrays alone, and builds sooner.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod columns;
mod compiler;
mod device;
mod error;
mod explainer;
mod export;
pub mod files;
mod flow;
#[cfg(all(feature = "pictures", feature = "volumes"))]
pub mod input;
pub mod map;
pub mod methods;
#[cfg(feature = "cuda")]
mod on_gpu;
#[cfg(feature = "pictures")]
mod picture;
pub mod preprocess;
pub mod read;
mod rehearsal;
pub mod report;
mod request;
mod sensitivity;
mod sizes;
mod source;
mod tap;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "pictures")]
pub mod video;
#[cfg(feature = "volumes")]
pub mod volume;
mod warning;

pub use compiler::{Compiled, Compiler, Engine};
pub use device::{Device, Precision};
pub use error::{CompileError, ExplainError, SaveError, messages};
pub use explainer::{DEFAULT_MEMORY_LIMIT, Explainer, Explanation, Explanations};
pub use flow::{Flow, FlowEdge, FlowNode};
pub use methods::{METHODS, Method, MethodError, MethodOptions};
#[cfg(feature = "cuda")]
pub use on_gpu::{GpuExplanation, GpuExplanations};
pub use request::{RequestError, Seed, Targets};
pub use source::Source;
pub use tap::{Reduce, Tap};
pub use warning::{SENSITIVE, Warning};

#[cfg(feature = "pictures")]
pub use image;
pub use ndarray;
pub use relc_artifact::ArtifactError;
pub use relc_cpu::{EngineError, Isa, IsaError, MachineError};
pub use relc_export::{ExportError, ExportTarget};
pub use relc_interp::InterpError;
pub use relc_ir::ledger::{Account, Entry, Join, Ledger, Total};
pub use relc_onnx::{Held, ImportError, ImportOptions};
pub use relc_passes::{Pass, PassError, PassRecord, Remark, RemarkKind, Remarks};
pub use relc_program::RunError;
pub use relc_rules::{BatchNormPolicy, Description, NameGlob, Preset, PresetError, RULES, SeedKind};

/// The parts that relc consists of, for passes and rules of one's own, and for tools. What is here changes with the
/// compiler: a version may move or rename it without a word.
pub mod unstable {
    pub use relc_cpu as engine;
    #[cfg(feature = "cuda")]
    pub use relc_cuda as cuda;
    pub use relc_ir as ir;
    pub use relc_passes as passes;
    pub use relc_program as program;
    pub use relc_rules as rules;
}
