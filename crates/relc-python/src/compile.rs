//! From a model and options to an explainer.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use numpy::PyReadonlyArrayDyn;
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use relc::unstable::ir::Dim;
use relc::unstable::ir::rule::{BiasPolicy, Bounds};
use relc::{BatchNormPolicy, Compiler, Device, Engine, Held, ImportOptions, Precision, Preset, Source, read};

use crate::error::raise;
use crate::explainer::Explainer;
use crate::picture::Preprocess;

/// The preprocessing whose bounds a zbox takes where none is stated, as the command does.
const DEFAULT_PREPROCESS: &str = "imagenet";

/// An ONNX file or an artifact, or the bytes of one.
#[derive(FromPyObject)]
pub enum Model {
    #[pyo3(transparent)]
    Bytes(PyBackedBytes),
    #[pyo3(transparent)]
    Path(PathBuf),
}

impl From<Model> for Source {
    fn from(model: Model) -> Source {
        match model {
            Model::Bytes(bytes) => Source::Bytes(Bytes::from_owner(bytes)),
            Model::Path(path) => Source::Path(path),
        }
    }
}

/// Names and descriptions of the presets that come with relc.
#[pyfunction]
pub fn presets() -> PyResult<Vec<(String, String)>> {
    let describe = |name| Preset::named(name).map(|preset| (preset.name, preset.description)).map_err(raise);
    Preset::names().into_iter().map(describe).collect()
}

/// Compiles a model into an explainer.
#[pyfunction]
#[pyo3(signature = (model, preset, *, save, split, gate, bias, batchnorm, bounds, engine, device, precision, output, input_shape, hold, preprocess, ledger, sensitivity))]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the Python function")]
pub fn compile(
    py: Python<'_>,
    model: Model,
    preset: Option<&str>,
    save: Option<PathBuf>,
    split: Option<&str>,
    gate: Option<&str>,
    bias: Option<&str>,
    batchnorm: Option<&str>,
    bounds: Option<(Vec<f64>, Vec<f64>)>,
    engine: Option<&str>,
    device: &str,
    precision: &str,
    output: Option<String>,
    input_shape: Option<Vec<Option<usize>>>,
    hold: Vec<(String, PyReadonlyArrayDyn<'_, f32>)>,
    preprocess: Option<&Preprocess>,
    ledger: bool,
    sensitivity: bool,
) -> PyResult<Explainer> {
    let source = Source::from(model);
    let mut preset = match preset {
        Some(preset) => named_or_file(preset)?,
        None => match relc::artifact::summary(source.clone()).map_err(raise)? {
            Some(artifact) => artifact.preset,
            None => named_or_file(Preset::DEFAULT)?,
        },
    };
    if let Some(split) = split {
        preset = preset.with_split(split.parse().map_err(raise)?);
    }
    if let Some(gate) = gate {
        preset = preset.with_gate(gate.parse().map_err(raise)?);
    }
    if let Some(bias) = bias {
        preset = preset.with_bias(bias.parse::<BiasPolicy>().map_err(raise)?).map_err(raise)?;
    }
    if let Some((low, high)) = bounds {
        preset = preset.with_bounds(Bounds { low, high });
    }
    if preset.wants_bounds() {
        let default = relc::preprocess::Preprocess::load(DEFAULT_PREPROCESS).map_err(raise)?;
        preset = preset.with_bounds(preprocess.map_or(&default, |p| &p.inner).bounds());
    }
    let input_shape = input_shape.map(shape).transpose()?;
    let hold = hold.into_iter().map(|(name, array)| held(name, &array)).collect();
    let options = ImportOptions { output, input_shape, hold, ..ImportOptions::default() };
    let mut compiler = Compiler::new(preset).import(options);
    if let Some(engine) = engine {
        compiler = compiler.engine(engine.parse::<Engine>().map_err(raise)?);
    }
    let device = device.parse::<Device>().map_err(raise)?;
    let precision = precision.parse::<Precision>().map_err(raise)?;
    let mut missing = None;
    compiler = compiler.device(device, precision, |why| missing = Some(why.to_string())).map_err(raise)?;
    if let Some(why) = missing {
        let text = CString::new(format!("the processor is used, in fp32: {why}"))?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)?;
    }
    if let Some(batchnorm) = batchnorm {
        compiler = compiler.batchnorm(batchnorm.parse::<BatchNormPolicy>().map_err(raise)?);
    }
    let explainer = py.detach(|| match save {
        Some(path) => compiler.save(source, &path).map_err(raise),
        None => compiler.compile(source).map_err(raise),
    })?;
    let explainer = if ledger { explainer } else { explainer.without_ledger() };
    let explainer = if sensitivity { explainer } else { explainer.without_sensitivity() };
    Ok(Explainer { inner: Arc::new(explainer) })
}

/// A shipped preset, or one from a file.
fn named_or_file(name: &str) -> PyResult<Preset> {
    if Path::new(name).extension().is_some_and(|e| e == "toml") {
        let text = read::text(Path::new(name), read::PRESET).map_err(raise)?;
        return Preset::parse(&text, name).map_err(raise);
    }
    Preset::named(name).map_err(raise)
}

/// `None` stands for the batch.
fn shape(sizes: Vec<Option<usize>>) -> PyResult<Vec<Dim>> {
    let dim = |size: Option<usize>| match size {
        None => Ok(Dim::Batch),
        Some(0) => Err(raise("got an input_shape with a 0, expected sizes from 1, and None for the batch")),
        Some(size) => Ok(Dim::Fixed(size)),
    };
    sizes.into_iter().map(dim).collect()
}

fn held(name: String, array: &PyReadonlyArrayDyn<'_, f32>) -> Held {
    let array = array.as_array();
    Held { name, shape: array.shape().to_vec(), values: array.iter().copied().collect() }
}
