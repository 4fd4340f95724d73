//! The compiled model.

use std::borrow::Cow;
use std::sync::Arc;

use numpy::{PyArray, PyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use relc::unstable::ir::Dim;
use relc::{ExportTarget, Seed, SeedKind, Targets};

use crate::error::raise;
use crate::explanation::Explanation;
#[cfg(feature = "cuda")]
use crate::tensor::Input;

/// A compiled model; threads may share it.
#[pyclass(frozen, module = "relc._relc")]
pub struct Explainer {
    pub inner: Arc<relc::Explainer>,
}

/// Which outputs to explain: text as the command takes it, one output for all samples, or one for each.
#[derive(FromPyObject)]
pub enum Target {
    #[pyo3(transparent)]
    Text(String),
    #[pyo3(transparent)]
    One(usize),
    #[pyo3(transparent)]
    Each(Vec<usize>),
}

/// The relevance to start from: its name, or a tensor `f32[N,K]` or `f32[K]`.
#[derive(FromPyObject)]
pub enum Start<'py> {
    #[pyo3(transparent)]
    Name(String),
    #[pyo3(transparent)]
    Tensor(PyReadonlyArrayDyn<'py, f32>),
}

impl Target {
    fn targets(self) -> PyResult<Targets> {
        match self {
            Target::Text(text) => Targets::parse(&text, None).map_err(raise),
            Target::One(output) => Ok(Targets::Outputs(vec![output])),
            Target::Each(outputs) => Ok(Targets::Each(outputs)),
        }
    }
}

impl Explainer {
    /// The relevance to start from, and its name.
    fn start(&self, seed: Option<Start<'_>>) -> PyResult<(Seed, String)> {
        Ok(match seed {
            None => named(self.inner.preset().seed),
            Some(Start::Name(name)) => named(name.parse().map_err(raise)?),
            Some(Start::Tensor(tensor)) => (Seed::Tensor(tensor.as_array().to_owned()), "an array".into()),
        })
    }

    /// What explains inputs of a shape.
    fn for_shape(&self, shape: &[usize]) -> Result<Arc<relc::Explainer>, relc::ExplainError> {
        Ok(match self.inner.for_shape(shape)? {
            Cow::Borrowed(_) => self.inner.clone(),
            Cow::Owned(other) => Arc::new(other),
        })
    }
}

#[pymethods]
impl Explainer {
    /// Explains a batch: one explanation for each target.
    #[pyo3(signature = (x, target, seed))]
    fn explain(
        &self,
        py: Python<'_>,
        x: PyReadonlyArrayDyn<'_, f32>,
        target: Target,
        seed: Option<Start<'_>>,
    ) -> PyResult<Vec<Explanation>> {
        let targets = target.targets()?;
        let (seed, seed_name) = self.start(seed)?;
        let input = x.as_array();
        let run = || {
            let explainer = self.for_shape(input.shape())?;
            let result = explainer.explain(input, &seed, &targets)?;
            Ok::<_, relc::ExplainError>((explainer, result))
        };
        let (explainer, result) = py.detach(run).map_err(raise)?;
        Ok(Explanation::of_each_target(py, &explainer, result, &seed_name))
    }

    /// The bytes of an ONNX file that explains as this explainer does.
    fn to_onnx<'py>(
        &self,
        py: Python<'py>,
        target: Target,
        seed: Option<String>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let target = match target {
            Target::Text(text) if text == "argmax" => ExportTarget::Argmax,
            Target::Text(text) if text == "input" => ExportTarget::Input,
            Target::One(output) => ExportTarget::Output(output),
            _ => return Err(raise("to_onnx: expected the target \"argmax\", \"input\", or one output")),
        };
        let seed = match seed {
            Some(name) => name.parse().map_err(raise)?,
            None => self.inner.preset().seed,
        };
        let bytes = py.detach(|| self.inner.to_onnx(target, seed)).map_err(raise)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// As `explain`, of an input on the GPU that this runs on: its relevance stays there.
    #[cfg(feature = "cuda")]
    #[pyo3(signature = (x, target, seed))]
    fn explain_on_gpu(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        target: Target,
        seed: Option<Start<'_>>,
    ) -> PyResult<Vec<Explanation>> {
        let targets = target.targets()?;
        let (seed, seed_name) = self.start(seed)?;
        let input = Input::new(x, &self.inner)?;
        let (tensor, shape) = (&input.tensor, &input.shape);
        let run = || {
            let explainer = self.for_shape(shape)?;
            let result = explainer.explain_on_gpu(tensor, shape, &seed, &targets)?;
            Ok::<_, relc::ExplainError>((explainer, result))
        };
        let (explainer, result) = py.detach(run).map_err(raise)?;
        Explanation::on_gpu(py, &explainer, result, &seed_name)
    }

    /// As `predict`, of an input on the GPU that this runs on.
    #[cfg(feature = "cuda")]
    fn predict_on_gpu<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let input = Input::new(x, &self.inner)?;
        let (tensor, shape) = (&input.tensor, &input.shape);
        let logits = py.detach(|| self.inner.predict_on_gpu(tensor, shape)).map_err(raise)?;
        Ok(PyArray::from_owned_array(py, logits))
    }

    /// The number of the GPU that this runs on.
    #[getter]
    fn gpu(&self) -> Option<usize> {
        #[cfg(feature = "cuda")]
        return self.inner.gpu();
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// The explained output `f64[N,K]`.
    fn predict<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArrayDyn<'_, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let input = x.as_array();
        let logits = py.detach(|| self.inner.predict(input)).map_err(raise)?;
        Ok(PyArray::from_owned_array(py, logits))
    }

    /// Whether inputs of a shape, the batch first, are explained.
    fn takes(&self, shape: Vec<usize>) -> bool {
        self.inner.takes(&shape)
    }

    #[getter]
    fn preset(&self) -> String {
        self.inner.preset().title()
    }

    #[getter]
    fn seed(&self) -> String {
        self.inner.preset().seed.to_string()
    }

    #[getter]
    fn engine(&self) -> &'static str {
        self.inner.engine_name()
    }

    #[getter]
    fn isa(&self) -> Option<&'static str> {
        self.inner.executable().map(|e| e.isa().name())
    }

    #[getter]
    fn is_conserving(&self) -> bool {
        self.inner.is_conserving()
    }

    #[getter]
    fn outputs(&self) -> usize {
        self.inner.outputs()
    }

    #[getter]
    fn input_name(&self) -> PyResult<&str> {
        Ok(self.inner.input().map_err(raise)?.0)
    }

    /// The sizes; `None` stands for the batch.
    #[getter]
    fn input_shape(&self) -> PyResult<Vec<Option<usize>>> {
        let (_, ty) = self.inner.input().map_err(raise)?;
        Ok(ty.dims().iter().map(|dim: &Dim| dim.fixed()).collect())
    }

    /// The least and the largest value of the input, if it is of integers in the file.
    #[getter]
    fn input_limits(&self) -> Option<(f64, f64)> {
        self.inner.compiled().input_limits
    }

    /// What the compiler made of the model, as JSON.
    fn report(&self) -> PyResult<String> {
        serde_json::to_string(&relc::report::model_report(&self.inner, None)).map_err(raise)
    }
}

fn named(kind: SeedKind) -> (Seed, String) {
    (Seed::Named(kind), kind.to_string())
}
