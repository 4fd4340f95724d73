//! Explanations of what lies on a GPU: input and relevance stay there.

use std::borrow::Cow;

use ndarray::{Array2, ArrayD, IxDyn};
use relc_cuda::driver::Tensor;
use relc_cuda::{CudaError, CudaModule};
use relc_ir::ledger::Ledger;
use relc_program::Module;

use crate::error::ExplainError;
use crate::explainer::{Chosen, Explainer, Explanation, Explanations, matrix, seeds};
use crate::request::{Seed, Targets};
use crate::warning::{Warning, magnitudes, warnings_of};

/// The explanation of one target of each sample of a batch, whose relevance is on a GPU.
#[derive(Debug)]
pub struct GpuExplanation {
    /// As of [`Explanation`].
    pub targets: Vec<usize>,
    /// The relevance of the input, in the input's shape, row-major.
    pub relevance: Tensor,
    /// As of [`Explanation`].
    pub ledger: Ledger,
    /// For each sample, the sum of the magnitudes of its relevance.
    pub magnitudes: Vec<f64>,
    /// As of [`Explanation`].
    pub sensitivity: Option<Vec<f64>>,
    /// As of [`Explanation`].
    pub warnings: Vec<Vec<Warning>>,
}

/// What one batch gave whose input is on a GPU.
#[derive(Debug)]
pub struct GpuExplanations {
    /// The input's shape, the batch first.
    pub shape: Vec<usize>,
    /// As of [`Explanations`].
    pub logits: Array2<f64>,
    /// As of [`Explanations`].
    pub probabilities: Array2<f64>,
    /// As of [`Explanations`].
    pub explanations: Vec<GpuExplanation>,
}

impl GpuExplanations {
    /// The explanation of a target with its relevance copied to the host, as `explainer` would have given it, which made this.
    ///
    /// # Errors
    /// If the GPU fails, there is no such target, or a map is beyond f32.
    pub fn to_host(&self, explainer: &Explainer, target: usize) -> Result<Explanations, ExplainError> {
        let one = self.explanations.get(target).map(|of| self.on_host(explainer, of)).transpose()?;
        Ok(Explanations { explanations: one.into_iter().collect(), ..self.without_relevance() })
    }

    /// All but the relevance, which is empty, and the maps.
    pub fn without_relevance(&self) -> Explanations {
        let without = |of: &GpuExplanation| Explanation {
            targets: of.targets.clone(),
            relevance: ArrayD::zeros(IxDyn(&[0])),
            map: None,
            ledger: of.ledger.clone(),
            sensitivity: of.sensitivity.clone(),
            warnings: of.warnings.clone(),
        };
        Explanations {
            logits: self.logits.clone(),
            probabilities: self.probabilities.clone(),
            explanations: self.explanations.iter().map(without).collect(),
            method: None,
            baseline: None,
        }
    }

    fn on_host(&self, explainer: &Explainer, of: &GpuExplanation) -> Result<Explanation, ExplainError> {
        let relevance = on_host(&of.relevance, &self.shape)?;
        let explanation = explainer.explanation(of.targets.clone(), relevance, of.ledger.clone())?;
        let (sensitivity, warnings) = (of.sensitivity.clone(), of.warnings.clone());
        Ok(Explanation { sensitivity, warnings, ..explanation })
    }
}

/// A tensor of this shape, on the host.
fn on_host(tensor: &Tensor, shape: &[usize]) -> Result<ArrayD<f32>, ExplainError> {
    let data = tensor.to_host().map_err(boxed)?;
    let (name, got) = ("the tensor".to_string(), vec![data.len()]);
    ArrayD::from_shape_vec(IxDyn(shape), data).map_err(|_| ExplainError::InputShape {
        name,
        got,
        expected: format!("{shape:?}"),
    })
}

fn boxed(error: CudaError) -> ExplainError {
    ExplainError::from(Box::new(error) as relc_program::BackendError)
}

impl Explainer {
    /// The program on a GPU, if it runs on one.
    pub fn on_gpu(&self) -> Option<&CudaModule> {
        let module: &dyn std::any::Any = &*self.module;
        module.downcast_ref()
    }

    /// The number of the GPU that the program runs on, if it runs on one.
    pub fn gpu(&self) -> Option<usize> {
        self.on_gpu().map(CudaModule::gpu)
    }

    /// As [`explain`](Self::explain), of an input of this shape that is on the GPU which the program runs on: neither it nor the
    /// relevance is copied to the host, unless rounding is [measured](Self::measures_sensitivity), or what is not finite
    /// has to be found.
    ///
    /// # Errors
    /// As of `explain`, and if the program runs on no GPU, or on another one.
    pub fn explain_on_gpu(
        &self,
        input: &Tensor,
        shape: &[usize],
        seed: &Seed,
        targets: &Targets,
    ) -> Result<GpuExplanations, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(shape)? {
            return other.explain_on_gpu(input, shape, seed, targets);
        }
        targets.check_count(self.samples(input, shape)?)?;
        let module = self.gpu_module()?;
        let mut result = match self.run_on_gpu(module, input, shape, seed, targets) {
            Err(ExplainError::Run(error)) if error.is_non_finite() => {
                let host = self.explain(on_host(input, shape)?.view(), seed, targets)?;
                return self.to_gpu(module, host, shape);
            }
            result => result?,
        };
        if self.measures_sensitivity() {
            let input = on_host(input, shape)?;
            for at in 0..result.explanations.len() {
                let mut host = result.to_host(self, at)?;
                self.measure(&input.view(), seed, &mut host);
                if let Some(host) = host.explanations.pop() {
                    result.explanations[at].sensitivity = host.sensitivity;
                }
            }
        }
        for explanation in &mut result.explanations {
            let GpuExplanation { magnitudes, ledger, sensitivity, .. } = explanation;
            explanation.warnings =
                warnings_of(magnitudes, ledger, sensitivity.as_deref(), seed, self.is_bounded());
        }
        Ok(result)
    }

    /// As [`predict`](Self::predict), of an input of this shape that is on the GPU which the program runs on.
    ///
    /// # Errors
    /// As of [`explain_on_gpu`](Self::explain_on_gpu).
    pub fn predict_on_gpu(&self, input: &Tensor, shape: &[usize]) -> Result<Array2<f64>, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(shape)? {
            return other.predict_on_gpu(input, shape);
        }
        let samples = self.samples(input, shape)?;
        let module = self.gpu_module()?;
        let mut logits = Vec::new();
        for (first, count) in rounds(module, samples) {
            logits.extend(module.cuda_session(count).forward_on_gpu(input, first)?);
        }
        matrix(samples, logits)
    }

    fn gpu_module(&self) -> Result<&CudaModule, ExplainError> {
        let missing = || CudaError::Missing("the program runs on the processor: compile it for a GPU".into());
        self.on_gpu().ok_or_else(|| boxed(missing()))
    }

    /// The number of samples of a tensor of this shape.
    fn samples(&self, input: &Tensor, shape: &[usize]) -> Result<usize, ExplainError> {
        let samples = self.check_shape(shape)?;
        if shape.iter().product::<usize>() != input.len() {
            let (got, expected) = (vec![input.len()], format!("as many elements as {shape:?}"));
            return Err(ExplainError::InputShape { name: "the tensor".into(), got, expected });
        }
        Ok(samples)
    }

    fn run_on_gpu(
        &self,
        module: &CudaModule,
        input: &Tensor,
        shape: &[usize],
        seed: &Seed,
        targets: &Targets,
    ) -> Result<GpuExplanations, ExplainError> {
        let (head, samples, chosen) = (self.head(), shape[0], Chosen::Asked(targets));
        let mut logits = Vec::new();
        // First, so that rounds are of what is left.
        let count = if matches!(seed, Seed::Tensor(_)) { 1 } else { targets.count(self.outputs()) };
        let part =
            |_| Ok((Tensor::zeros(module, input.len()).map_err(boxed)?, Ledger::default(), Vec::new()));
        let mut parts =
            (0..count).map(part).collect::<Result<Vec<(Tensor, Ledger, Vec<f64>)>, ExplainError>>()?;
        for (first, count) in rounds(module, samples) {
            let mut session = module.cuda_session(count);
            let round = matrix(count, session.forward_on_gpu(input, first)?)?;
            let seeds = seeds(seed, chosen, &round, head, (first, samples))?;
            for (seed, (relevance, ledger, magnitudes)) in seeds.iter().zip(&mut parts) {
                let round = session.backward_on_gpu(seed, self.ledger, relevance, first)?;
                ledger.append(round.ledger);
                magnitudes.extend(round.magnitudes);
            }
            logits.extend(round);
        }
        let logits = matrix(samples, logits)?;
        let explanation = |(targets, (relevance, ledger, magnitudes))| GpuExplanation {
            targets,
            relevance,
            ledger,
            magnitudes,
            sensitivity: None,
            warnings: Vec::new(),
        };
        let explanations = chosen.of(seed, &logits, 0)?.into_iter().zip(parts).map(explanation).collect();
        let probabilities = self.probabilities(&logits);
        Ok(GpuExplanations { shape: shape.to_vec(), logits, probabilities, explanations })
    }

    /// What the host computed, with its relevance copied to the GPU.
    fn to_gpu(
        &self,
        module: &CudaModule,
        host: Explanations,
        shape: &[usize],
    ) -> Result<GpuExplanations, ExplainError> {
        let explanation = |of: Explanation| {
            let data: Vec<f32> = of.relevance.iter().copied().collect();
            Ok(GpuExplanation {
                targets: of.targets,
                relevance: Tensor::new(module, &data).map_err(boxed)?,
                ledger: of.ledger,
                magnitudes: magnitudes(&of.relevance),
                sensitivity: of.sensitivity,
                warnings: of.warnings,
            })
        };
        let explanations =
            host.explanations.into_iter().map(explanation).collect::<Result<_, ExplainError>>()?;
        let (logits, probabilities) = (host.logits, host.probabilities);
        Ok(GpuExplanations { shape: shape.to_vec(), logits, probabilities, explanations })
    }
}

/// The rounds in which a module runs a batch: the first sample of each, and how many.
fn rounds(module: &CudaModule, samples: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let at_a_time = module.at_a_time(samples).max(1);
    (0..samples).step_by(at_a_time).map(move |first| (first, at_a_time.min(samples - first)))
}
