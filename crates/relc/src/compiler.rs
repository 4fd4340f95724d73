//! From a model to an explainer: the pipeline in one screen.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use relc_ir::Graph;
use relc_passes::{PassManager, PassRecord, pipeline};
use relc_rules::{BatchNormPolicy, Preset};

use crate::error::CompileError;
use crate::explainer::Explainer;

/// What executes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The reference interpreter in f32.
    InterpF32,
    /// The reference interpreter in f64.
    InterpF64,
}

impl Engine {
    /// Every engine with its name.
    pub const ALL: [(&'static str, Engine); 2] =
        [("interp-f32", Engine::InterpF32), ("interp-f64", Engine::InterpF64)];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, e)| *e == self).map_or("?", |(name, _)| name)
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, e)| *e);
        found.ok_or_else(|| format!("got the engine \"{name}\", expected interp-f32 or interp-f64"))
    }
}

/// Compiles models into explainers.
///
/// ```no_run
/// let preset = relc::Preset::named("conserve")?;
/// let explainer = relc::Compiler::new(preset).compile("model.onnx")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    preset: Preset,
    batchnorm: BatchNormPolicy,
    engine: Engine,
}

/// A compiled graph, and what the passes said on the way.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The forward and relevance graph.
    pub graph: Graph,
    /// The passes that ran.
    pub passes: Vec<PassRecord>,
    /// How long reading the file took.
    pub import_time: Duration,
}

impl Compiler {
    /// A compiler with the preset's own BatchNormalization policy, and the f32 interpreter.
    pub fn new(preset: Preset) -> Self {
        Compiler { batchnorm: preset.batchnorm, preset, engine: Engine::InterpF32 }
    }

    /// With another BatchNormalization policy.
    #[must_use]
    pub fn batchnorm(mut self, policy: BatchNormPolicy) -> Self {
        self.batchnorm = policy;
        self
    }

    /// With another engine.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Compiles an ONNX file.
    ///
    /// # Errors
    /// If the file can't be read, is no model that relc supports, or relevance can't pass through some of its
    /// nodes (all are listed).
    pub fn compile(&self, model: impl AsRef<Path>) -> Result<Explainer, CompileError> {
        let compiled = self.passes(model.as_ref(), |_, _| {})?;
        Ok(Explainer::new(compiled, self.preset.clone(), self.batchnorm, self.engine))
    }

    /// Compiles a graph that is at hand already.
    ///
    /// # Errors
    /// If relevance can't pass through some of its nodes (all are listed).
    pub fn compile_graph(&self, graph: Graph) -> Result<Explainer, CompileError> {
        let compiled = self.run_passes(graph, Duration::ZERO, |_, _| {})?;
        Ok(Explainer::new(compiled, self.preset.clone(), self.batchnorm, self.engine))
    }

    /// Imports an ONNX file and runs the passes, and calls `after` with the name of each (`import` first) and the
    /// graph that it left.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn passes(
        &self,
        model: &Path,
        mut after: impl FnMut(&'static str, &Graph),
    ) -> Result<Compiled, CompileError> {
        let start = std::time::Instant::now();
        let imported = relc_onnx::import_path(model)
            .map_err(|source| CompileError::Import { model: model.to_path_buf(), source })?;
        let graph = imported.graph;
        let import_time = start.elapsed();
        after("import", &graph);
        self.run_passes(graph, import_time, after)
    }

    fn run_passes(
        &self,
        mut graph: Graph,
        import_time: Duration,
        after: impl FnMut(&'static str, &Graph),
    ) -> Result<Compiled, CompileError> {
        let manager = PassManager::new(pipeline(&self.preset, self.batchnorm));
        let passes = manager.run(&mut graph, after).map_err(CompileError::Pass)?;
        Ok(Compiled { graph, passes, import_time })
    }
}
