//! What one target of a batch got.

use std::sync::Arc;

use numpy::{PyArray, PyArray1, PyArray2, PyArrayDyn, ToPyArray};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use relc::Explanations;
#[cfg(feature = "cuda")]
use relc::GpuExplanations;

use crate::error::raise;
#[cfg(feature = "cuda")]
use crate::tensor::Tensor;

/// The explanation of one target of each sample. Its arrays are made once: every access gives the same object.
#[pyclass(frozen, module = "relc._relc")]
pub struct Explanation {
    explainer: Arc<relc::Explainer>,
    /// One explanation, whose relevance and map are elsewhere.
    rest: Explanations,
    seed: String,
    /// Copied from the GPU when they are first asked for, if the relevance is there.
    arrays: PyOnceLock<Arrays>,
    /// The relevance on the GPU.
    #[cfg(feature = "cuda")]
    tensor: Option<Py<Tensor>>,
    logits: Py<PyArray2<f64>>,
    probabilities: Py<PyArray2<f64>>,
    targets: Py<PyArray1<i64>>,
}

/// The relevance and the map of an explanation.
struct Arrays {
    relevance: Py<PyArrayDyn<f32>>,
    map: Option<Py<PyArrayDyn<f32>>>,
}

impl Arrays {
    /// Hands those of an explanation to numpy, without a copy.
    fn of(py: Python<'_>, explanation: &mut relc::Explanation) -> Arrays {
        let relevance = PyArray::from_owned_array(py, std::mem::take(&mut explanation.relevance)).unbind();
        let map = explanation.map.take().map(|map| PyArray::from_owned_array(py, map).unbind());
        Arrays { relevance, map }
    }
}

impl Explanation {
    /// Hands the arrays of a result to numpy: relevance and maps without a copy, the small rest with one.
    pub fn of_each_target(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        mut result: Explanations,
        seed: &str,
    ) -> Vec<Explanation> {
        let arrays: Vec<Arrays> = result.explanations.iter_mut().map(|own| Arrays::of(py, own)).collect();
        let all = Explanation::without_arrays(py, explainer, result, seed);
        for (own, arrays) in all.iter().zip(arrays) {
            let _ = own.arrays.set(py, arrays);
        }
        all
    }

    /// The explanations of each target of a result whose relevance is on the GPU.
    #[cfg(feature = "cuda")]
    pub fn on_gpu(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        result: GpuExplanations,
        seed: &str,
    ) -> PyResult<Vec<Explanation>> {
        let result = Arc::new(result);
        let all = Explanation::without_arrays(py, explainer, result.without_relevance(), seed);
        let with_tensor = |(at, own): (usize, Explanation)| {
            Ok(Explanation { tensor: Some(Py::new(py, Tensor { result: result.clone(), at })?), ..own })
        };
        all.into_iter().enumerate().map(with_tensor).collect()
    }

    /// What a result says of each target.
    fn without_arrays(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        result: Explanations,
        seed: &str,
    ) -> Vec<Explanation> {
        let Explanations { logits, probabilities, explanations, method, baseline } = result;
        let (logit_array, probability_array) = (logits.to_pyarray(py), probabilities.to_pyarray(py));
        let of = |explanation: relc::Explanation| {
            let targets: Vec<i64> = explanation.targets.iter().map(|t| *t as i64).collect();
            Explanation {
                explainer: explainer.clone(),
                rest: Explanations {
                    logits: logits.clone(),
                    probabilities: probabilities.clone(),
                    explanations: vec![explanation],
                    method: method.clone(),
                    baseline: baseline.clone(),
                },
                seed: seed.to_string(),
                arrays: PyOnceLock::new(),
                #[cfg(feature = "cuda")]
                tensor: None,
                logits: logit_array.clone().unbind(),
                probabilities: probability_array.clone().unbind(),
                targets: PyArray::from_vec(py, targets).unbind(),
            }
        };
        explanations.into_iter().map(of).collect()
    }

    /// Relevance and map on the host.
    fn arrays(&self, py: Python<'_>) -> PyResult<&Arrays> {
        #[cfg(feature = "cuda")]
        if let Some(tensor) = &self.tensor {
            let copy = || {
                let Tensor { result, at } = tensor.get();
                let mut result = py.detach(|| result.to_host(&self.explainer, *at)).map_err(raise)?;
                let own = result.explanations.first_mut().ok_or_else(|| raise("there is no such target"))?;
                Ok(Arrays::of(py, own))
            };
            return self.arrays.get_or_try_init(py, copy);
        }
        self.arrays.get(py).ok_or_else(|| raise("there is no relevance"))
    }

    fn samples(&self) -> usize {
        self.rest.logits.nrows()
    }

    fn of_each_sample<T>(&self, of: impl Fn(&relc::Explanation, usize) -> T) -> Vec<T> {
        let explanation = self.rest.explanations.first();
        explanation.map_or_else(Vec::new, |e| (0..self.samples()).map(|sample| of(e, sample)).collect())
    }
}

#[pymethods]
impl Explanation {
    #[getter]
    fn relevance(&self, py: Python<'_>) -> PyResult<Py<PyArrayDyn<f32>>> {
        Ok(self.arrays(py)?.relevance.clone_ref(py))
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
        Ok(self.arrays(py)?.map.as_ref().map(|map| map.clone_ref(py)))
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
        self.of_each_sample(|explanation, sample| explanation.conservation_error(sample))
    }

    /// What keeps each sample's map from being an explanation.
    #[getter]
    fn warnings(&self) -> Vec<Vec<String>> {
        let texts = |warnings: &Vec<relc::Warning>| warnings.iter().map(ToString::to_string).collect();
        self.of_each_sample(|explanation, sample| {
            explanation.warnings.get(sample).map(texts).unwrap_or_default()
        })
    }

    /// What the command's report says of a sample, as JSON.
    fn report(&self, sample: usize) -> PyResult<String> {
        if sample >= self.samples() {
            return Err(raise(format!(
                "got sample {sample}, expected 0 to {}",
                self.samples().saturating_sub(1)
            )));
        }
        let name = format!("input[{sample}]");
        let report =
            relc::report::sample_report(&self.explainer, &self.rest, sample, &name, &self.seed, None);
        serde_json::to_string(&report).map_err(raise)
    }
}
