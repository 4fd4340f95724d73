//! Scores: the probability of a class, for many inputs at a time.

use ndarray::{ArrayD, Axis};
use rayon::prelude::*;
use relc::Explainer;

use crate::error::EvalError;
use crate::metric::Fill;

/// Inputs of a batch: enough for every worker, and few enough for the memory.
pub(crate) const BATCH: usize = 32;
/// The most bytes of the inputs of a batch.
const BATCH_BYTES: usize = 64 << 20;

/// Scores inputs of one model.
#[derive(Clone, Copy, Debug)]
pub struct Scorer<'a> {
    /// The model; only its forward pass runs.
    pub explainer: &'a Explainer,
}

impl Scorer<'_> {
    /// The samples of a batch: a whole number of rounds for the workers, or what the model fixes.
    fn batch(&self, values: usize) -> usize {
        let fixed = self.explainer.input().ok().and_then(|(_, ty)| ty.dims().first()?.fixed());
        let threads = rayon::current_num_threads();
        let fit = (BATCH_BYTES / (values.max(1) * size_of::<f32>())).clamp(1, BATCH.max(2 * threads));
        fixed.unwrap_or(if fit > threads { fit - fit % threads } else { fit })
    }

    /// The probabilities of `class` for `count` inputs that `fill` writes.
    ///
    /// # Errors
    /// If an input can't be scored.
    pub fn scores(&self, class: usize, count: usize, fill: &Fill<'_>) -> Result<Vec<f64>, EvalError> {
        let (_, ty) = self.explainer.input()?;
        let values = ty.elements().unwrap_or(0);
        let batch = self.batch(values);
        let mut scores = Vec::with_capacity(count);
        let mut inputs: Vec<f32> = Vec::new();
        for first in (0..count).step_by(batch) {
            let n = batch.min(count - first);
            inputs.resize(n * values, 0.0);
            inputs.par_chunks_mut(values.max(1)).enumerate().for_each(|(i, input)| fill(first + i, input));
            let array = ArrayD::from_shape_vec(ty.bind(n), std::mem::take(&mut inputs)).unwrap_or_default();
            let logits = self.explainer.predict(array.view())?;
            let probabilities = self.explainer.probabilities(&logits);
            scores.extend(probabilities.index_axis(Axis(1), class).iter().copied());
            inputs = array.into_raw_vec_and_offset().0;
        }
        Ok(scores)
    }
}
