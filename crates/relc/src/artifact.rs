//! Compiled explainers as files: [`Compiler::save`] writes one, [`Explainer::load`] reads it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use relc_artifact::{Artifact, ArtifactError, MAGIC, Model, Parts, PresetText, Target, is_artifact, write};
use relc_cpu::{Cpu, Machine};
use relc_ir::verify;
use relc_passes::{PassRecord, Remarks};
use relc_program::{Backend, Program};
use relc_rules::Preset;

use crate::compiler::{Compiled, Compiler};
use crate::error::{CompileError, SaveError};
use crate::explainer::Explainer;
use crate::files::{FileError, write_atomically};
use crate::read::ReadError;
use crate::report::FileReport;
use crate::source::Source;

/// The name of the first record of what was loaded.
const LOAD: &str = "load";

/// What an artifact says of itself.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The version of relc that wrote it.
    pub relc: String,
    /// The file that it was made of, by its name; without a hash if it was no file.
    pub model: FileReport,
    /// What was stated of what the model leaves open; empty: nothing.
    pub options: String,
    /// The preset that it was compiled with.
    pub preset: Preset,
    /// The instruction set that it was compiled for.
    pub isa: String,
    /// The class of machines that it was compiled for.
    pub machine: String,
}

/// What an artifact says of itself; none if the model is no artifact, or can't be read.
///
/// # Errors
/// If the artifact is of another format, or what it says is damaged. Its weights are not looked at.
pub fn summary(model: impl Into<Source>) -> Result<Option<Summary>, CompileError> {
    let model = model.into();
    let failed = failed(&model);
    let Some(bytes) = bytes_of(&model).map_err(&failed)? else { return Ok(None) };
    let relc_artifact::Summary { relc, model, preset, target } =
        relc_artifact::summary(&bytes).map_err(&failed)?;
    let preset = preset_of(&preset).map_err(&failed)?;
    let (isa, machine) = (target.isa, target.machine);
    let file = FileReport { path: model.file, bytes: model.bytes, sha256: model.sha256 };
    Ok(Some(Summary { relc, model: file, options: model.options, preset, isa, machine }))
}

/// The bytes of an artifact, if a model is one.
fn bytes_of(model: &Source) -> Result<Option<Bytes>, ArtifactError> {
    match model {
        Source::Path(path) if is_artifact_file(path) => relc_artifact::mapped(path).map(Some),
        Source::Bytes(bytes) if is_artifact(bytes) => Ok(Some(bytes.clone())),
        _ => Ok(None),
    }
}

fn is_artifact_file(path: &Path) -> bool {
    let mut beginning = [0; MAGIC.len()];
    // Asked before it is opened: opening a named pipe would wait for its writer.
    let regular = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut read = || File::open(path)?.read_exact(&mut beginning);
    regular && read().is_ok() && is_artifact(&beginning)
}

/// The error of a model that is an artifact.
fn failed(model: &Source) -> impl Fn(ArtifactError) -> CompileError {
    let model = model.to_string();
    move |source| CompileError::Artifact { model: model.clone(), source }
}

/// The preset of a text.
fn preset_of(text: &PresetText) -> Result<Preset, ArtifactError> {
    let quoted = |text: &str| toml::Value::String(text.to_string());
    let [name, description, citation] =
        [&text.name, &text.description, &text.citation].map(|text| quoted(text));
    let file = format!("name = {name}\ndescription = {description}\ncitation = {citation}\n{}", text.text);
    let malformed = |what: String| ArtifactError::Malformed { what };
    Preset::parse(&file, "its preset").map_err(|error| malformed(error.to_string()))
}

fn text_of(preset: &Preset) -> PresetText {
    PresetText {
        name: preset.name.clone(),
        description: preset.description.clone(),
        citation: preset.citation.clone(),
        text: preset.canonical(),
    }
}

fn target_of(cpu: &Cpu) -> Target {
    let Machine { class, isa, caches } = cpu.machine;
    Target {
        backend: cpu.name().into(),
        isa: isa.name().into(),
        machine: class.name().into(),
        caches: caches.map(|bytes| bytes as u64).into(),
    }
}

/// The machine that an artifact was compiled for, if this one runs its instructions.
fn machine_of(target: &Target) -> Option<Machine> {
    let isa = target.isa.parse().ok().filter(|isa: &relc_cpu::Isa| isa.is_available())?;
    let [l1, l2, l3] = target.caches[..] else { return None };
    let mut caches = [0; 3];
    for (cache, bytes) in caches.iter_mut().zip([l1, l2, l3]) {
        *cache = usize::try_from(bytes).ok()?;
    }
    Some(Machine { class: target.machine.parse().ok()?, isa, caches })
}

/// What a file is made of.
struct Made {
    model: Model,
    preset: PresetText,
    target: Target,
    forward: relc_ir::Graph,
    program: Program,
    explainer: Explainer,
}

impl Made {
    fn parts(&self) -> Parts<'_> {
        let explainer = &self.explainer;
        Parts {
            model: &self.model,
            preset: &self.preset,
            target: &self.target,
            forward: &self.forward,
            graph: explainer.graph(),
            passes: &explainer.compiled().passes,
            program: &self.program,
            packed: explainer.module.packed(),
        }
    }
}

/// Whether a name is an identifier of C's.
fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

impl Compiler {
    /// Compiles a model and writes the explainer as a file: [`Explainer::load`] reads it without compiling, and gives
    /// the same results to the bit. The file holds the model as well, so that it serves wherever the model does.
    ///
    /// ```no_run
    /// use relc::{Compiler, Explainer, Preset};
    ///
    /// Compiler::new(Preset::named("two_level")?).save("model.onnx", "model.relc".as_ref())?;
    /// let explainer = Explainer::load("model.relc".as_ref())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`compile`](Self::compile); if the engine is an interpreter, which compiles nothing; if the model leaves sizes
    /// of its input open and none are stated ([`ImportOptions::input_shape`](crate::ImportOptions)); if the file can't be
    /// written.
    pub fn save(&self, model: impl Into<Source>, path: &Path) -> Result<Explainer, SaveError> {
        let made = self.made(model.into())?;
        write_atomically(path, |file| write(&made.parts(), file).map_err(io::Error::other))?;
        Ok(made.explainer)
    }

    /// Compiles a model and writes the explainer as an object file for this machine's linker: the file that
    /// [`save`](Self::save) writes, and the kernels, compiled ahead of time, behind one symbol of this name. With relc's
    /// library for C it becomes part of a program (`relc_load_model`). All of it is in memory meanwhile, three times.
    ///
    /// # Errors
    /// As of `save`, and if the name is no identifier of C.
    pub fn save_object(
        &self,
        model: impl Into<Source>,
        name: &str,
        path: &Path,
    ) -> Result<Explainer, SaveError> {
        if !is_identifier(name) {
            return Err(SaveError::Name { got: name.to_string() });
        }
        let made = self.made(model.into())?;
        let mut data = Vec::new();
        let written = write(&made.parts(), &mut data).map_err(io::Error::other);
        written.map_err(|source| FileError::Write { path: path.to_path_buf(), source })?;
        let executable = made.explainer.executable().ok_or(SaveError::Engine(self.engine))?;
        let object = executable.object(name, data).map_err(CompileError::Engine)?;
        write_atomically(path, |file| file.write_all(&object))?;
        Ok(made.explainer)
    }

    /// An explainer and all else that a file of it holds.
    fn made(&self, model: Source) -> Result<Made, SaveError> {
        if !self.is_jit() {
            return Err(SaveError::Engine(self.engine));
        }
        let mut forward = None;
        let compiled = self.passes(model.clone(), |pass, graph| {
            forward = forward.take().or_else(|| (pass == "import").then(|| graph.clone()));
        })?;
        if compiled.open.is_some() {
            return Err(SaveError::OpenSizes { model: model.to_string() });
        }
        let explainer = self.explainer(compiled)?;
        let (Some(forward), Some(program)) = (forward, explainer.module.program().cloned()) else {
            return Err(SaveError::Engine(self.engine));
        };
        let file = match &model {
            Source::Path(path) => {
                let unread = |source| FileError::Read(ReadError::Io { path: path.clone(), source });
                FileReport::of(path).map_err(unread)?
            }
            Source::Bytes(bytes) => FileReport::of_bytes(&model.to_string(), bytes),
            Source::Graph(_) => FileReport { path: model.to_string(), bytes: 0, sha256: String::new() },
        };
        let name = Path::new(&file.path).file_name().map(|name| name.to_string_lossy().into_owned());
        let model = Model {
            file: name.unwrap_or_default(),
            options: self.stated(),
            input_limits: explainer.compiled().input_limits,
            bytes: file.bytes,
            sha256: file.sha256,
        };
        let (preset, target) = (text_of(&self.preset), target_of(&self.cpu()?));
        Ok(Made { model, preset, target, forward, program, explainer })
    }

    /// What is stated of what models leave open; empty: nothing.
    fn stated(&self) -> String {
        let options = &self.import;
        let mut stated = Vec::new();
        stated.extend(options.output.iter().map(|output| format!("the output \"{output}\"")));
        let shape = options.input_shape.as_ref().map(|shape| relc_ir::TensorType::new(shape.iter().copied()));
        stated.extend(shape.map(|shape| format!("the input's shape {shape}")));
        stated.extend(options.hold.iter().map(|held| format!("{} held", held.name)));
        stated.join(", ")
    }

    /// The artifact that a model is, if it is one, and what it says of itself.
    fn artifact(&self, model: &Source) -> Result<Option<(Bytes, relc_artifact::Summary)>, CompileError> {
        let Some(bytes) = bytes_of(model).map_err(failed(model))? else { return Ok(None) };
        let summary = relc_artifact::summary(&bytes).map_err(failed(model))?;
        let (got, expected) = (self.stated(), &summary.model.options);
        if !got.is_empty() && got != *expected {
            return Err(CompileError::Stated { model: model.to_string(), got, stated: expected.clone() });
        }
        Ok(Some((bytes, summary)))
    }

    /// The explainer of an artifact, if the model is one: as it was compiled, where that was for this preset and for
    /// instructions that this machine has.
    pub(crate) fn load(&self, model: &Source) -> Result<Option<Explainer>, CompileError> {
        let Some((bytes, summary)) = self.artifact(model)? else { return Ok(None) };
        let asked = self.is_jit() && self.added.is_empty();
        if !asked || summary.preset.text != self.preset.canonical() {
            return Ok(None);
        }
        let here = self.cpu()?.machine;
        let Some(machine) = machine_of(&summary.target).filter(|machine| machine.isa == here.isa) else {
            return Ok(None);
        };
        let loaded = relc_artifact::read_beside(&bytes, |artifact| self.loaded(artifact, machine));
        loaded.and_then(|explainer| explainer).map(Some).map_err(failed(model))
    }

    fn loaded(&self, artifact: Artifact, machine: Machine) -> Result<Explainer, ArtifactError> {
        let start = Instant::now();
        let malformed = |what: String| ArtifactError::Malformed { what };
        let (graph, program) = rayon::join(|| artifact.graph(), || artifact.program());
        let (graph, program) = (graph?, program?);
        verify(&graph).map_err(|errors| malformed(errors.to_string()))?;
        let backend: Arc<dyn Backend> = Arc::new(Cpu { machine });
        let module = backend.load(&graph, program, artifact.packed());
        let module = module.map_err(|error| malformed(error.to_string()))?;
        let compiled = Compiled {
            graph,
            passes: artifact.passes,
            import_time: start.elapsed(),
            open: None,
            input_limits: artifact.summary.model.input_limits,
        };
        Ok(Explainer::of(compiled, self.preset.clone(), self.engine, backend, module.into()))
    }

    /// The graph that an artifact was made of and what its input's limits are, if the model is an artifact; and what is to
    /// be said of that.
    pub(crate) fn forward_of(&self, model: &Source) -> Result<Option<Forward>, CompileError> {
        let (failed, Some((bytes, summary))) = (failed(model), self.artifact(model)?) else {
            return Ok(None);
        };
        let graph = relc_artifact::read_beside(&bytes, |artifact| artifact.forward());
        let graph = graph.and_then(|graph| graph).map_err(&failed)?;
        verify(&graph).map_err(|errors| failed(ArtifactError::Malformed { what: errors.to_string() }))?;
        let mut remarks = Remarks::default();
        let here = self.cpu()?.machine.isa;
        let same = summary.preset.text == self.preset.canonical();
        if self.is_jit() && same && summary.target.isa != here.name() {
            remarks.warning(
                "",
                format!(
                    "the artifact was compiled for {}, this machine runs {here}: its weights are packed again, which takes \
                     as long as compiling; compile it here to save that",
                    summary.target.isa
                ),
            );
        }
        let record = PassRecord { name: LOAD.into(), time: Default::default(), remarks: remarks.into_list() };
        Ok(Some((graph, summary.model.input_limits, record)))
    }
}

/// A graph, the limits of its input, and a record of where they are from.
pub(crate) type Forward = (relc_ir::Graph, Option<(f64, f64)>, PassRecord);

impl Explainer {
    /// Loads what [`Compiler::save`] wrote. On a machine that lacks the instructions that it was compiled for, it is
    /// compiled again from the model inside, and a remark says so.
    ///
    /// # Errors
    /// If the file is no artifact of this version of relc, or damaged, or as of [`Compiler::compile`].
    pub fn load(path: &Path) -> Result<Explainer, CompileError> {
        match summary(path)? {
            Some(summary) => Compiler::new(summary.preset).compile(path),
            None => {
                let source = match File::open(path) {
                    Ok(_) => ArtifactError::NoArtifact,
                    Err(error) => ArtifactError::File(error),
                };
                Err(failed(&path.into())(source))
            }
        }
    }
}
