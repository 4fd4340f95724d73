//! What one target of a batch got.

use std::sync::Arc;

use numpy::{PyArray, PyArray1, PyArray2, PyArrayDyn, ToPyArray};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use relc::{Explanations, Ledger, Total, Warning};
#[cfg(feature = "cuda")]
use relc::{GpuExplanation, GpuExplanations};

use crate::error::raise;
#[cfg(feature = "cuda")]
use crate::tensor::Tensor;

/// The explanation of one target of each sample. Its arrays are made once: every access gives the same object.
#[pyclass(frozen, module = "relc._relc")]
pub struct Explanation {
    explainer: Arc<relc::Explainer>,
    /// Copied from the GPU when it is first asked for, if the relevance is there.
    host: PyOnceLock<Host>,
    /// The relevance on the GPU.
    #[cfg(feature = "cuda")]
    tensor: Option<Py<Tensor>>,
    seed: String,
    logits: Py<PyArray2<f64>>,
    probabilities: Py<PyArray2<f64>>,
    targets: Py<PyArray1<i64>>,
    totals: Vec<Total>,
    warnings: Vec<Vec<String>>,
}

/// An explanation on the host.
struct Host {
    /// One explanation, whose arrays numpy has.
    rest: Explanations,
    relevance: Py<PyArrayDyn<f32>>,
    map: Option<Py<PyArrayDyn<f32>>>,
}

impl Host {
    /// Hands relevance and map to numpy, without a copy.
    fn new(py: Python<'_>, mut rest: Explanations) -> PyResult<Host> {
        let explanation = rest.explanations.first_mut().ok_or_else(|| raise("there is no such target"))?;
        let relevance = PyArray::from_owned_array(py, std::mem::take(&mut explanation.relevance)).unbind();
        let map = explanation.map.take().map(|map| PyArray::from_owned_array(py, map).unbind());
        Ok(Host { rest, relevance, map })
    }
}

/// What is said of a target of each sample, wherever the relevance is.
struct Said<'a> {
    targets: &'a [usize],
    ledger: &'a Ledger,
    warnings: &'a [Vec<Warning>],
}

impl Explanation {
    /// The explanations of each target of a result.
    pub fn of_each_target(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        result: Explanations,
        seed: &str,
    ) -> PyResult<Vec<Explanation>> {
        let Explanations { logits, probabilities, explanations, method, baseline } = result;
        let (logit_array, probability_array) = (logits.to_pyarray(py), probabilities.to_pyarray(py));
        let of = |explanation: relc::Explanation| {
            let relc::Explanation { targets, ledger, warnings, .. } = &explanation;
            let said = Said { targets, ledger, warnings };
            let own = Explanation::new(py, explainer, seed, &logit_array, &probability_array, said);
            let rest = Explanations {
                logits: logits.clone(),
                probabilities: probabilities.clone(),
                explanations: vec![explanation],
                method: method.clone(),
                baseline: baseline.clone(),
            };
            let _ = own.host.set(py, Host::new(py, rest)?);
            Ok(own)
        };
        explanations.into_iter().map(of).collect()
    }

    /// The explanations of each target of a result whose relevance is on the GPU.
    #[cfg(feature = "cuda")]
    pub fn on_gpu(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        result: GpuExplanations,
        seed: &str,
    ) -> PyResult<Vec<Explanation>> {
        let (logits, probabilities) = (result.logits.to_pyarray(py), result.probabilities.to_pyarray(py));
        let result = Arc::new(result);
        let of = |(at, explanation): (usize, &GpuExplanation)| {
            let GpuExplanation { targets, ledger, warnings, .. } = explanation;
            let said = Said { targets, ledger, warnings };
            let own = Explanation::new(py, explainer, seed, &logits, &probabilities, said);
            Ok(Explanation { tensor: Some(Py::new(py, Tensor { result: result.clone(), at })?), ..own })
        };
        result.explanations.iter().enumerate().map(of).collect()
    }

    /// One whose relevance is nowhere yet.
    fn new<'py>(
        py: Python<'py>,
        explainer: &Arc<relc::Explainer>,
        seed: &str,
        logits: &Bound<'py, PyArray2<f64>>,
        probabilities: &Bound<'py, PyArray2<f64>>,
        said: Said<'_>,
    ) -> Explanation {
        let targets: Vec<i64> = said.targets.iter().map(|t| *t as i64).collect();
        let texts = |warnings: &Vec<Warning>| warnings.iter().map(ToString::to_string).collect();
        Explanation {
            explainer: explainer.clone(),
            host: PyOnceLock::new(),
            #[cfg(feature = "cuda")]
            tensor: None,
            seed: seed.to_string(),
            logits: logits.clone().unbind(),
            probabilities: probabilities.clone().unbind(),
            targets: PyArray::from_vec(py, targets).unbind(),
            totals: said.ledger.totals.clone(),
            warnings: said.warnings.iter().map(texts).collect(),
        }
    }

    /// The explanation on the host.
    fn host(&self, py: Python<'_>) -> PyResult<&Host> {
        #[cfg(feature = "cuda")]
        if let Some(tensor) = &self.tensor {
            let copy = || {
                let Tensor { result, at } = tensor.get();
                let result = py.detach(|| result.to_host(&self.explainer, *at)).map_err(raise)?;
                Host::new(py, result)
            };
            return self.host.get_or_try_init(py, copy);
        }
        self.host.get(py).ok_or_else(|| raise("there is no relevance"))
    }
}

#[pymethods]
impl Explanation {
    #[getter]
    fn relevance(&self, py: Python<'_>) -> PyResult<Py<PyArrayDyn<f32>>> {
        Ok(self.host(py)?.relevance.clone_ref(py))
    }

    /// The relevance on the GPU; none if it is on the host.
    #[getter]
    fn tensor(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        #[cfg(feature = "cuda")]
        return self.tensor.as_ref().map(|tensor| tensor.clone_ref(py).into_any());
        #[cfg(not(feature = "cuda"))]
        {
            let _ = py;
            None
        }
    }

    #[getter]
    fn map(&self, py: Python<'_>) -> PyResult<Option<Py<PyArrayDyn<f32>>>> {
        Ok(self.host(py)?.map.as_ref().map(|map| map.clone_ref(py)))
    }

    #[getter]
    fn logits(&self, py: Python<'_>) -> Py<PyArray2<f64>> {
        self.logits.clone_ref(py)
    }

    #[getter]
    fn probabilities(&self, py: Python<'_>) -> Py<PyArray2<f64>> {
        self.probabilities.clone_ref(py)
    }

    #[getter]
    fn targets(&self, py: Python<'_>) -> Py<PyArray1<i64>> {
        self.targets.clone_ref(py)
    }

    #[getter]
    fn seed(&self) -> &str {
        &self.seed
    }

    /// `|sum R(input) - sum seed| / sum |seed|` of each sample.
    #[getter]
    fn conservation_error(&self) -> Vec<f64> {
        self.totals.iter().map(Total::conservation_error).collect()
    }

    /// What keeps each sample's map from being an explanation.
    #[getter]
    fn warnings(&self) -> Vec<Vec<String>> {
        self.warnings.clone()
    }

    /// What the command's report says of a sample, as JSON.
    fn report(&self, py: Python<'_>, sample: usize) -> PyResult<String> {
        let rest = &self.host(py)?.rest;
        let samples = rest.logits.nrows();
        if sample >= samples {
            return Err(raise(format!("got sample {sample}, expected 0 to {}", samples.saturating_sub(1))));
        }
        let name = format!("input[{sample}]");
        let report = relc::report::sample_report(&self.explainer, rest, sample, &name, &self.seed, None);
        serde_json::to_string(&report).map_err(raise)
    }
}
