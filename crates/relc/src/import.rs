//! Models that leave something open: the output to explain, the size of the input.

use std::path::Path;

use relc_ir::Graph;
use relc_onnx::ImportOptions;

use crate::error::CompileError;

/// Reads an ONNX file, for [`Compiler::compile_graph`](crate::Compiler::compile_graph), with what the model leaves open.
///
/// ```no_run
/// # use relc::{Compiler, ImportOptions, Preset};
/// let options = ImportOptions { output: Some("logits".into()), ..ImportOptions::default() };
/// let graph = relc::import("model.onnx", &options)?;
/// let explainer = Compiler::new(Preset::named("conserve")?).compile_graph(graph)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the file can't be read, is no model that relc supports, or the options don't fit it.
pub fn import(model: impl AsRef<Path>, options: &ImportOptions) -> Result<Graph, CompileError> {
    let model = model.as_ref();
    relc_onnx::import_path_with(model, options)
        .map(|imported| imported.graph)
        .map_err(|source| CompileError::Import { model: model.to_path_buf(), source })
}
