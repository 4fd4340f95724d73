//! What one target of a batch got.

use std::sync::Arc;

use numpy::{PyArray, PyArray1, PyArray2, PyArrayDyn, ToPyArray};
use pyo3::prelude::*;
use relc::Explanations;

use crate::error::raise;

/// The explanation of one target of each sample. Its arrays are made once: every access gives the same object.
#[pyclass(frozen, module = "relc._relc")]
pub struct Explanation {
    explainer: Arc<relc::Explainer>,
    /// One explanation, whose arrays numpy has.
    rest: Explanations,
    seed: String,
    relevance: Py<PyArrayDyn<f32>>,
    map: Option<Py<PyArrayDyn<f32>>>,
    logits: Py<PyArray2<f64>>,
    probabilities: Py<PyArray2<f64>>,
    targets: Py<PyArray1<i64>>,
}

impl Explanation {
    /// Hands the arrays of a result to numpy: relevance and maps without a copy, the small rest with one.
    pub fn of_each_target(
        py: Python<'_>,
        explainer: &Arc<relc::Explainer>,
        result: Explanations,
        seed: &str,
    ) -> Vec<Explanation> {
        let Explanations { logits, probabilities, explanations, method, baseline } = result;
        let (logit_array, probability_array) = (logits.to_pyarray(py), probabilities.to_pyarray(py));
        let of = |mut explanation: relc::Explanation| {
            let relevance = PyArray::from_owned_array(py, std::mem::take(&mut explanation.relevance));
            let map = explanation.map.take().map(|map| PyArray::from_owned_array(py, map).unbind());
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
                relevance: relevance.unbind(),
                map,
                logits: logit_array.clone().unbind(),
                probabilities: probability_array.clone().unbind(),
                targets: PyArray::from_vec(py, targets).unbind(),
            }
        };
        explanations.into_iter().map(of).collect()
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
    fn relevance(&self, py: Python<'_>) -> Py<PyArrayDyn<f32>> {
        self.relevance.clone_ref(py)
    }

    #[getter]
    fn map(&self, py: Python<'_>) -> Option<Py<PyArrayDyn<f32>>> {
        self.map.as_ref().map(|map| map.clone_ref(py))
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
