//! From a model to an explainer: the pipeline in one screen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use relc_cpu::{Cpu, Isa, Machine};
use relc_interp::Interpreter;
use relc_ir::{Dim, Graph, TensorType, names, verify};
use relc_onnx::{ImportError, ImportOptions, Imported};
use relc_passes::{CheckConservation, Pass, PassManager, PassRecord, pipeline};
use relc_program::{Backend, Program};
use relc_rules::{BatchNormPolicy, Preset};

use crate::error::CompileError;
use crate::explainer::Explainer;
use crate::sizes::{OpenSizes, assumed};
use crate::source::Source;

/// What executes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Machine code, compiled for the model and this machine, in f32.
    Jit,
    /// The reference interpreter in f32.
    InterpF32,
    /// The reference interpreter in f64.
    InterpF64,
}

names!(Engine, "engine", ["jit" => Jit, "interp-f32" => InterpF32, "interp-f64" => InterpF64]);

/// Compiles models into explainers.
///
/// ```no_run
/// let preset = relc::Preset::named("two_level")?;
/// let explainer = relc::Compiler::new(preset).compile("model.onnx")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    pub(crate) preset: Preset,
    pub(crate) engine: Engine,
    isa: Option<Isa>,
    /// In place of the engine's.
    backend: Option<Arc<dyn Backend>>,
    pub(crate) import: ImportOptions,
    /// What a sample is like, where the model leaves its sizes open.
    samples: Vec<Vec<usize>>,
    pub(crate) added: Vec<Added>,
}

/// A pass of the user's, and after which it runs.
#[derive(Clone)]
pub(crate) struct Added {
    after: String,
    pass: Arc<dyn Pass>,
}

impl fmt::Debug for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {}", self.pass.name(), self.after)
    }
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
    /// If sizes of the input are open in the model: for each dimension, the size that the model fixes.
    pub open: Option<Vec<Option<usize>>>,
    /// The least and the largest value of the input, if it is of integers in the file.
    pub input_limits: Option<(f64, f64)>,
}

/// Imports a model with some options.
type Importer<'a> = &'a dyn Fn(&ImportOptions) -> Result<Imported, ImportError>;

/// For each dimension of the input, the size that the model fixes.
type FixedSizes = Vec<Option<usize>>;

impl Compiler {
    /// A compiler with the preset's own BatchNormalization policy, and the compiled engine.
    pub fn new(preset: Preset) -> Self {
        let import = ImportOptions::default();
        let (samples, added) = (Vec::new(), Vec::new());
        Compiler { preset, engine: Engine::Jit, isa: None, backend: None, import, samples, added }
    }

    /// With what models leave open: the output to explain, the input's shape.
    ///
    /// ```no_run
    /// # use relc::{Compiler, ImportOptions, Preset};
    /// let options = ImportOptions { output: Some("logits".into()), ..ImportOptions::default() };
    /// let explainer = Compiler::new(Preset::named("two_level")?).import(options).compile("model.onnx")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn import(mut self, options: ImportOptions) -> Self {
        self.import = options;
        self
    }

    /// With the shape that the model's input has, the batch first, where the model leaves sizes open.
    pub(crate) fn input_shape(mut self, shape: Vec<Dim>) -> Self {
        self.import.input_shape = Some(shape);
        self
    }

    /// With what the samples are like, where the model leaves sizes open: an array's sizes with the batch or
    /// without it, or height and width of pictures. Without it, pictures are taken to be 224 x 224. An [`Explainer`] of such a model explains
    /// inputs of any size that the model takes, one after the other. Called again, the first that fits the model counts.
    #[must_use]
    pub fn sample(mut self, sizes: Vec<usize>) -> Self {
        self.samples.push(sizes);
        self
    }

    /// With another BatchNormalization policy.
    #[must_use]
    pub fn batchnorm(mut self, policy: BatchNormPolicy) -> Self {
        self.preset.batchnorm = policy;
        self
    }

    /// With another engine.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// With the engine, the instruction set and the back end of another compiler.
    #[must_use]
    pub fn engine_of(mut self, other: &Compiler) -> Self {
        (self.engine, self.isa, self.backend) = (other.engine, other.isa, other.backend.clone());
        self
    }

    /// With an instruction set for the compiled engine, in place of `RELC_ISA` or the widest that this machine has.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// With a [back end](relc_program::Backend) of one's own in place of the engine's. It gets the program after the
    /// [portable passes](relc_program::passes::portable) and its own. Methods run on it too; an artifact is compiled again
    /// from the model inside.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Whether the engine is the compiled one, and relc's own.
    pub(crate) fn is_jit(&self) -> bool {
        self.engine == Engine::Jit && self.backend.is_none()
    }

    /// With a pass of one's own, which runs after that of the name `after`, and after what was added there before. The
    /// names are those of [`passes::pass_list`](relc_passes::pass_list) and of passes that were added; the graph is
    /// verified after each. After passes behind `check-conservation`, that runs again, so that its claim is of the graph
    /// that there is.
    ///
    /// ```no_run
    /// # use relc::unstable::ir::Graph;
    /// # use relc::{Compiler, Pass, PassError, Preset, Remarks};
    /// struct Count;
    ///
    /// impl Pass for Count {
    ///     fn name(&self) -> &'static str {
    ///         "count"
    ///     }
    ///     fn description(&self) -> &'static str {
    ///         "say how many nodes there are"
    ///     }
    ///     fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
    ///         remarks.applied("", format!("{} nodes", graph.node_ids().count()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let compiler = Compiler::new(Preset::named("two_level")?).pass_after("insert-splits", Count);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pass_after(mut self, after: &str, pass: impl Pass + 'static) -> Self {
        self.added.push(Added { after: after.to_string(), pass: Arc::new(pass) });
        self
    }

    /// Compiles a model: the path of an ONNX file or of an [artifact](Self::save), the bytes of an ONNX file, or a graph. An
    /// artifact is loaded as it was compiled if that was with this preset, else compiled from the model inside.
    ///
    /// # Errors
    /// If the file can't be read, is no model that relc supports, or relevance can't pass through some of its
    /// nodes (all are listed), or the engine can't run it on this machine.
    pub fn compile(&self, model: impl Into<Source>) -> Result<Explainer, CompileError> {
        let model = model.into();
        if let Some(explainer) = self.load(&model)? {
            return Ok(explainer);
        }
        let compiled = self.passes(model.clone(), |_, _| {})?;
        let sizes = compiled.open.clone().map(|fixed| OpenSizes::new(self, model, fixed));
        Ok(self.explainer(compiled)?.with_sizes(sizes))
    }

    /// Imports a model and runs the passes, and calls `after` with the name of each (`import` first) and the
    /// graph that it left.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn passes(
        &self,
        model: impl Into<Source>,
        mut after: impl FnMut(&'static str, &Graph),
    ) -> Result<Compiled, CompileError> {
        let start = std::time::Instant::now();
        let model = model.into();
        if let Some((graph, input_limits, record)) = self.forward_of(&model)? {
            after("import", &graph);
            let mut compiled = self.run_passes(graph, start.elapsed(), after)?;
            compiled.passes.insert(0, record);
            return Ok(Compiled { input_limits, ..compiled });
        }
        let read = match &model {
            Source::Path(path) => self.read(&|options| relc_onnx::import_path_with(path, options)),
            Source::Bytes(bytes) => {
                self.read(&|options| relc_onnx::import_bytes_with(bytes.clone(), None, options))
            }
            Source::Graph(graph) => {
                if let Err(errors) = verify(graph) {
                    let expected = "a graph that verifies";
                    return Err(CompileError::Graph {
                        graph: model.to_string(),
                        got: errors.to_string(),
                        expected,
                    });
                }
                after("import", graph);
                return self.run_passes(graph.as_ref().clone(), Duration::ZERO, after);
            }
        };
        let (imported, open) =
            read.map_err(|source| CompileError::Import { model: model.to_string(), source })?;
        let Imported { graph, input_limits, .. } = imported;
        let import_time = start.elapsed();
        after("import", &graph);
        Ok(Compiled { open, input_limits, ..self.run_passes(graph, import_time, after)? })
    }

    /// Makes an explainer of a graph that the passes have been run on already, such as one that [`Self::passes`] gave and
    /// that was changed since; it is verified, and its claim made, again. The preset gives the explanations their seed. Of
    /// a model that leaves sizes open, it explains the one that was assumed.
    ///
    /// # Errors
    /// If the graph is malformed or has no relevance, or the engine can't run it on this machine.
    pub fn finish(&self, compiled: Compiled) -> Result<Explainer, CompileError> {
        let mut compiled = Compiled { open: None, ..compiled };
        let graph = &compiled.graph;
        let wrong = |got: String, expected| {
            Err(CompileError::Graph { graph: format!("the graph @{}", graph.name()), got, expected })
        };
        if graph.relevance_outputs.is_empty() {
            return wrong(
                "a graph without relevance".into(),
                "one that derive-relevance has run on (Compiler::passes)",
            );
        }
        if let Err(errors) = verify(graph) {
            return wrong(errors.to_string(), "a graph that verifies");
        }
        let check = PassManager::new(vec![Box::new(CheckConservation)]);
        compiled.passes.extend(check.run(&mut compiled.graph, |_, _| {}).map_err(CompileError::Pass)?);
        self.explainer(compiled)
    }

    /// The model, and what it fixes of its input's sizes if it leaves others open: these are assumed then.
    fn read(&self, import: Importer<'_>) -> Result<(Imported, Option<FixedSizes>), ImportError> {
        let imported = import(&self.import).and_then(|imported| match imported.mixed {
            Some(mixed) => Err(mixed.into()),
            None => Ok(imported),
        });
        let error = match imported {
            Ok(imported) => return Ok((imported, None)),
            Err(error) => error,
        };
        let ImportError::DynamicDims { input, sizes, .. } = &error else { return Err(error) };
        let stated = self.import.input_shape.is_some();
        let Some(shape) = assumed(sizes, &self.samples).filter(|_| !stated) else {
            return Err(error);
        };
        let ty = TensorType::new(shape.iter().copied());
        let options = ImportOptions { input_shape: Some(shape), ..self.import.clone() };
        let mut imported = import(&options)?;
        imported.graph.notes.push(format!(
            "the model leaves sizes of its input \"{input}\" open, which is taken as {ty}; other sizes run too, or state \
             one (--input-shape)"
        ));
        Ok((imported, Some(sizes.clone())))
    }

    /// Lowers what [`passes`](Self::passes) gave to the compiled engine's program, and runs the passes over that; calls
    /// `after` with the name of each (`lower` first) and the program that it left.
    ///
    /// # Errors
    /// If the engine can't run the graph on this machine.
    pub fn program(
        &self,
        compiled: &Compiled,
        mut after: impl FnMut(&'static str, &Program),
    ) -> Result<Vec<PassRecord>, CompileError> {
        let graph = &compiled.graph;
        let (_, records) = match &self.backend {
            Some(backend) => backend.program(graph, &[], &mut after)?,
            None => self.cpu()?.program(graph, &[], &mut after)?,
        };
        Ok(records)
    }

    /// This machine, or what the environment names in its place.
    pub(crate) fn cpu(&self) -> Result<Cpu, CompileError> {
        let isa = self.isa.map_or_else(Isa::detect, Ok)?;
        Ok(Cpu { machine: Machine::detect(isa)? })
    }

    pub(crate) fn explainer(&self, compiled: Compiled) -> Result<Explainer, CompileError> {
        let backend: Arc<dyn Backend> = match (&self.backend, self.engine) {
            (Some(backend), _) => backend.clone(),
            (None, Engine::Jit) => Arc::new(self.cpu()?),
            (None, Engine::InterpF32) => Arc::new(Interpreter::F32),
            (None, Engine::InterpF64) => Arc::new(Interpreter::F64),
        };
        Explainer::new(compiled, self.preset.clone(), self.engine, backend)
    }

    fn run_passes(
        &self,
        mut graph: Graph,
        import_time: Duration,
        after: impl FnMut(&'static str, &Graph),
    ) -> Result<Compiled, CompileError> {
        if !graph.relevance_outputs.is_empty() {
            let (got, graph) =
                ("a graph that has relevance already".into(), format!("the graph @{}", graph.name()));
            let expected = "a forward graph; make an explainer of this one with Compiler::finish";
            return Err(CompileError::Graph { graph, got, expected });
        }
        let manager = PassManager::new(self.pipeline()?);
        let passes = manager.run(&mut graph, after).map_err(CompileError::Pass)?;
        Ok(Compiled { graph, passes, import_time, open: None, input_limits: None })
    }

    /// The passes of the preset, and those that were added.
    fn pipeline(&self) -> Result<Vec<Box<dyn Pass>>, CompileError> {
        let own = pipeline(&self.preset, self.preset.batchnorm);
        // Each with the pass that it was put behind.
        let mut passes: Vec<(Option<&str>, Box<dyn Pass>)> =
            own.into_iter().map(|pass| (None, pass)).collect();
        for Added { after, pass } in &self.added {
            let Some(at) = passes.iter().position(|(_, p)| p.name() == after) else {
                let known = passes.iter().map(|(_, p)| p.name()).collect();
                return Err(CompileError::NoPass { pass: pass.name(), after: after.clone(), known });
            };
            let behind = passes.iter().skip(at + 1).take_while(|(anchor, _)| *anchor == Some(after)).count();
            passes.insert(at + 1 + behind, (Some(after), Box::new(pass.clone())));
        }
        let mut passes: Vec<Box<dyn Pass>> = passes.into_iter().map(|(_, pass)| pass).collect();
        if passes.last().is_some_and(|last| last.name() != CheckConservation.name()) {
            passes.push(Box::new(CheckConservation));
        }
        Ok(passes)
    }
}
