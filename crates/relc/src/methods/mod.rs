//! Methods beyond one backward pass: programs that run an explainer many times.
//!
//! They use nothing but [`Explainer::explain`] (and [`Explainer::tap`] where a layer's activations are needed), in
//! batches, so any engine serves them. Random numbers come from a seed, and don't depend on how samples are
//! batched.

mod cam;
mod gradients;
mod masks;

use std::str::FromStr;

use ndarray::{Array1, Array2, ArrayD, ArrayViewD, Axis, IxDyn};
use relc_ir::ledger::Ledger;
use relc_ir::names::UnknownName;
use relc_rules::{Preset, PresetError, SeedKind};
use serde::Serialize;

use crate::compiler::Compiler;
use crate::error::ExplainError;
use crate::explainer::{Explainer, Explanation, Explanations};
use crate::request::{Seed, Targets, probabilities};
use crate::warning::warnings;

/// A method. In JSON, its name and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Method {
    /// `x_i * df/dx_i` (Shrikumar et al., arXiv:1605.01713).
    #[serde(rename = "input_x_gradient")]
    InputXGradient,
    /// `(x_i - b) * integral of df/dx_i from b to x` by Gauss-Legendre quadrature (Sundararajan et al., ICML 2017).
    ///
    /// The engines of f32 take two gradients at each node, a little before and after it: where they differ, a Relu or
    /// MaxPool is so near to its kink that f32 can't say on which side, and the node is done again in f64.
    IntegratedGradients {
        /// The number of nodes of the quadrature.
        steps: usize,
        /// `b`, the same for every input value.
        baseline: f32,
    },
    /// The mean of the gradients at noisy inputs (Smilkov et al., arXiv:1706.03825).
    #[serde(rename = "smoothgrad")]
    SmoothGrad {
        /// How many.
        samples: usize,
        /// The noise's standard deviation, as a fraction of the sample's range.
        sigma: f64,
        /// The seed of the noise.
        seed: u64,
    },
    /// `ReLU(sum_k w_k A_k)`, `w_k` the mean gradient of channel `k` of a layer (Selvaraju et al., ICCV 2017),
    /// enlarged bilinearly.
    GradCam {
        /// The ONNX name of the node whose output is the layer; else the last picture before the head.
        layer: Option<String>,
    },
    /// `ReLU(sum_k ReLU(g_k) * A_k)`, `g_k` the gradient at each place of the layer (Jiang et al., LayerCAM, IEEE TIP
    /// 30, 2021), enlarged bilinearly.
    LayerCam {
        /// As for Grad-CAM.
        layer: Option<String>,
    },
    /// As Grad-CAM, with `w_k = sum ReLU(g_k) g_k^2 / (2 g_k^2 + g_k^3 sum A_k)` (Chattopadhay et al., Grad-CAM++,
    /// WACV 2018).
    GradCamPlusPlus {
        /// As for Grad-CAM.
        layer: Option<String>,
    },
    /// As Grad-CAM, with `w` the softmax of the scores of the input masked by each channel (Wang et al., CVPR
    /// workshops 2020).
    ScoreCam {
        /// As for Grad-CAM.
        layer: Option<String>,
    },
    /// The mean of random masks weighted by the target's probability under them (Petsiuk et al., BMVC 2018).
    ///
    /// What a mask hides is black: `m x + (1 - m) black`, the paper's product of mask and picture. Its equation 6 with
    /// the masks' own mean in place of `E[M]`, from which few masks differ: `sum_k p_k m_k / sum_k m_k`.
    Rise {
        /// How many masks.
        masks: usize,
        /// Cells of a mask's grid in each direction.
        cells: usize,
        /// The probability that a cell is kept.
        keep: f64,
        /// The seed of the masks.
        seed: u64,
        /// What black is in the input, for each channel; 0 where it says nothing.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        black: Vec<f32>,
    },
    /// Random numbers in `[0,1)`: a baseline for metrics.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// Options of methods; what is `None` takes the method's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodOptions {
    /// Quadrature nodes of integrated_gradients (50), noisy inputs of smoothgrad (25), masks of rise (1000).
    pub samples: Option<usize>,
    /// smoothgrad's noise (0.15).
    pub sigma: Option<f64>,
    /// The layer of grad_cam, layer_cam, grad_cam_plus_plus and score_cam.
    pub layer: Option<String>,
    /// The seed of random numbers (0).
    pub seed: Option<u64>,
}

/// Every method's name.
pub const METHODS: [&str; 9] = [
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "grad_cam",
    "layer_cam",
    "grad_cam_plus_plus",
    "score_cam",
    "rise",
    "random",
];

/// A method that can't be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// There is none of that name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// No samples.
    #[error("got 0 samples (--samples), expected 1 or more")]
    NoSamples,
    /// Noise without sense.
    #[error("got the noise {0} (--sigma), expected a number above 0, such as 0.15")]
    Sigma(f64),
    /// An option that is another method's.
    #[error("the method {method} has no use for {option}; leave it out")]
    Stray {
        /// The method.
        method: String,
        /// The option.
        option: &'static str,
    },
}

impl FromStr for Method {
    type Err = MethodError;

    /// The method of that name with its defaults.
    fn from_str(name: &str) -> Result<Self, MethodError> {
        Method::new(name, &MethodOptions::default())
    }
}

impl Method {
    /// The method called `name`.
    ///
    /// # Errors
    /// If there is none, or an option has no sense or is another method's.
    pub fn new(name: &str, options: &MethodOptions) -> Result<Method, MethodError> {
        let MethodOptions { samples, sigma, layer, seed } = options.clone();
        if samples == Some(0) {
            return Err(MethodError::NoSamples);
        }
        if let Some(sigma) = sigma.filter(|s| !(*s > 0.0 && s.is_finite())) {
            return Err(MethodError::Sigma(sigma));
        }
        let takes = |takes_samples: bool, takes_layer: bool, takes_seed: bool| {
            let smooth = name == "smoothgrad";
            let stray = [
                (samples.is_some() && !takes_samples, "a number of samples (--samples)"),
                (sigma.is_some() && !smooth, "sigma (--sigma)"),
                (layer.is_some() && !takes_layer, "a layer (--layer)"),
                (seed.is_some() && !takes_seed, "a seed of random numbers (--rng-seed)"),
            ];
            match stray.iter().find(|(stray, _)| *stray) {
                Some((_, option)) => Err(MethodError::Stray { method: name.into(), option }),
                None => Ok(()),
            }
        };
        let seed_or = seed.unwrap_or(0);
        Ok(match name {
            "input_x_gradient" => {
                takes(false, false, false)?;
                Method::InputXGradient
            }
            "integrated_gradients" => {
                takes(true, false, false)?;
                Method::IntegratedGradients { steps: samples.unwrap_or(50), baseline: 0.0 }
            }
            "smoothgrad" => {
                takes(true, false, true)?;
                let (samples, sigma) = (samples.unwrap_or(25), sigma.unwrap_or(0.15));
                Method::SmoothGrad { samples, sigma, seed: seed_or }
            }
            "grad_cam" => {
                takes(false, true, false)?;
                Method::GradCam { layer }
            }
            "layer_cam" => {
                takes(false, true, false)?;
                Method::LayerCam { layer }
            }
            "grad_cam_plus_plus" => {
                takes(false, true, false)?;
                Method::GradCamPlusPlus { layer }
            }
            "score_cam" => {
                takes(false, true, false)?;
                Method::ScoreCam { layer }
            }
            "rise" => {
                takes(true, false, true)?;
                let masks = samples.unwrap_or(1000);
                Method::Rise { masks, cells: 7, keep: 0.5, seed: seed_or, black: Vec::new() }
            }
            "random" => {
                takes(false, false, true)?;
                Method::Random { seed: seed_or }
            }
            _ => {
                let (name, known) = (name.to_string(), METHODS.to_vec());
                return Err(UnknownName { what: "method", name, known, other: None }.into());
            }
        })
    }

    /// The method for inputs in which black is this, for each channel.
    #[must_use]
    pub fn with_black(mut self, value: Vec<f32>) -> Method {
        if let Method::Rise { black, .. } = &mut self {
            *black = value;
        }
        self
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        match self {
            Method::InputXGradient => "input_x_gradient",
            Method::IntegratedGradients { .. } => "integrated_gradients",
            Method::SmoothGrad { .. } => "smoothgrad",
            Method::GradCam { .. } => "grad_cam",
            Method::LayerCam { .. } => "layer_cam",
            Method::GradCamPlusPlus { .. } => "grad_cam_plus_plus",
            Method::ScoreCam { .. } => "score_cam",
            Method::Rise { .. } => "rise",
            Method::Random { .. } => "random",
        }
    }

    /// A compiler for the explainers that methods run: that of the preset `gradient`.
    ///
    /// # Errors
    /// Never for the shipped preset, which always parses.
    pub fn compiler() -> Result<Compiler, PresetError> {
        Ok(Compiler::new(Preset::named("gradient")?))
    }

    /// Explains a batch, `batch` runs at a time, on an explainer of [`Method::compiler`]. `progress` is told how many
    /// runs are done, of how many.
    ///
    /// The explanations have an empty ledger. Methods that give a map share it evenly among the channels.
    ///
    /// # Errors
    /// As [`Explainer::explain`]; if the explainer has another preset; if a method of pictures gets a model of
    /// another input, or no node of the layer's name.
    pub fn explain(
        &self,
        explainer: &Explainer,
        input: ArrayViewD<'_, f32>,
        targets: &Targets,
        batch: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Explanations, ExplainError> {
        if explainer.preset().name != "gradient" {
            let got = format!("an explainer of the preset {}", explainer.preset().name);
            return Err(method_error(self, got, "one of the preset gradient"));
        }
        let logits = explainer.predict(input.view())?;
        targets.check_count(logits.nrows())?;
        let resolved = targets.resolve(&logits, 0)?;
        let mut runner =
            Runner { explainer, input, batch: explainer.fixed_batch().unwrap_or(batch.max(1)), progress };
        let mut explanations = Vec::with_capacity(resolved.len());
        for targets in resolved {
            let (relevance, map) = self.run(&mut runner, &targets)?;
            let (ledger, sensitivity) = (Ledger::default(), None);
            let mut explanation =
                Explanation { targets, relevance, map, ledger, sensitivity, warnings: Vec::new() };
            explanation.warnings = warnings(&explanation, &Seed::Named(SeedKind::OneHot), false);
            explanations.push(explanation);
        }
        let probabilities = probabilities(&logits, explainer.head());
        let (method, baseline) = (Some(self.clone()), self.baseline_logits(explainer));
        Ok(Explanations { logits, probabilities, explanations, method, baseline })
    }

    /// The value of the input that the method measures from, if what it gives adds up to what the target's logit is
    /// more than there: exactly for integrated gradients, and for the product of input and gradient as far as the
    /// network is linear between the two.
    fn baseline(&self) -> Option<f32> {
        match self {
            Method::IntegratedGradients { baseline, .. } => Some(*baseline),
            Method::InputXGradient => Some(0.0),
            _ => None,
        }
    }

    /// The logits at the baseline; none where they are not finite, which is no reason to withhold an explanation.
    fn baseline_logits(&self, explainer: &Explainer) -> Option<Array1<f64>> {
        let input = ArrayD::from_elem(explainer.input().ok()?.1.bind(1), self.baseline()?);
        let logits = explainer.predict(input.view()).ok()?;
        Some(logits.row(0).to_owned())
    }
}

/// The relevance of an input and its map.
type Attributed = (ArrayD<f32>, Option<ArrayD<f32>>);

fn method_error(method: &Method, got: String, expected: &str) -> ExplainError {
    ExplainError::Method { method: method.name(), got, expected: expected.to_string() }
}

/// What every method does with an explainer.
struct Runner<'a> {
    explainer: &'a Explainer,
    input: ArrayViewD<'a, f32>,
    batch: usize,
    progress: &'a mut dyn FnMut(usize, usize),
}

impl Runner<'_> {
    fn samples(&self) -> usize {
        self.input.shape().first().copied().unwrap_or(0)
    }

    /// Runs inputs `make(job)` (without the batch axis) in batches, with the gradient of output `target(job)`, and
    /// hands each gradient to `take`, in the order of the jobs.
    fn gradients(
        &mut self,
        jobs: usize,
        make: impl Fn(usize) -> ArrayD<f32>,
        target: impl Fn(usize) -> usize,
        mut take: impl FnMut(usize, ArrayViewD<'_, f32>),
    ) -> Result<(), ExplainError> {
        let outputs = self.explainer.outputs();
        self.in_batches(jobs, make, |explainer, first, inputs| {
            let count = inputs.shape()[0];
            let mut seed = ArrayD::zeros(IxDyn(&[count, outputs]));
            for i in 0..count {
                if let Some(slot) = seed.get_mut(IxDyn(&[i, target(first + i)])) {
                    *slot = 1.0;
                }
            }
            let result = explainer.explain(inputs.view(), &Seed::Tensor(seed), &Targets::Argmax)?;
            for explanation in result.explanations.iter().take(1) {
                for (i, gradient) in explanation.relevance.axis_iter(Axis(0)).enumerate() {
                    take(first + i, gradient);
                }
            }
            Ok(())
        })
    }

    /// As [`gradients`](Self::gradients), with the logits and probabilities of each job.
    fn predictions(
        &mut self,
        jobs: usize,
        make: impl Fn(usize) -> ArrayD<f32>,
        mut take: impl FnMut(usize, &Array2<f64>, &Array2<f64>, usize),
    ) -> Result<(), ExplainError> {
        self.in_batches(jobs, make, |explainer, first, inputs| {
            let logits = explainer.predict(inputs.view())?;
            let probabilities = probabilities(&logits, explainer.head());
            for i in 0..inputs.shape()[0] {
                take(first + i, &logits, &probabilities, i);
            }
            Ok(())
        })
    }

    fn in_batches(
        &mut self,
        jobs: usize,
        make: impl Fn(usize) -> ArrayD<f32>,
        mut run: impl FnMut(&Explainer, usize, ArrayD<f32>) -> Result<(), ExplainError>,
    ) -> Result<(), ExplainError> {
        let mut first = 0;
        while first < jobs {
            let count = self.batch.min(jobs - first);
            let parts: Vec<ArrayD<f32>> = (first..first + count).map(&make).collect();
            let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
            // Parts of one shape always stack.
            let inputs = ndarray::stack(Axis(0), &views).unwrap_or_default();
            run(self.explainer, first, inputs)?;
            first += count;
            (self.progress)(first, jobs);
        }
        Ok(())
    }
}

impl Method {
    /// Explains one target of each sample.
    fn run(&self, runner: &mut Runner<'_>, targets: &[usize]) -> Result<Attributed, ExplainError> {
        let map = match self {
            Method::InputXGradient => {
                return Ok(with_map(runner.explainer, gradients::input_x_gradient(runner, targets)?));
            }
            Method::IntegratedGradients { steps, baseline } => {
                let relevance = gradients::integrated(runner, targets, *steps, *baseline)?;
                return Ok(with_map(runner.explainer, relevance));
            }
            Method::SmoothGrad { samples, sigma, seed } => {
                let relevance = gradients::smooth(runner, targets, *samples, *sigma, *seed)?;
                return Ok(with_map(runner.explainer, relevance));
            }
            Method::GradCam { layer } => cam::grad_cam(self, runner, targets, layer.as_deref())?,
            Method::LayerCam { layer } => cam::layer_cam(self, runner, targets, layer.as_deref())?,
            Method::GradCamPlusPlus { layer } => {
                cam::grad_cam_plus_plus(self, runner, targets, layer.as_deref())?
            }
            Method::ScoreCam { layer } => cam::score_cam(self, runner, targets, layer.as_deref())?,
            Method::Rise { masks, cells, keep, seed, black } => {
                let (masks, cells, keep, seed) = (*masks, *cells, *keep, *seed);
                let options = masks::Rise { masks, cells, keep, seed, black: black.clone() };
                masks::rise(self, runner, targets, options)?
            }
            Method::Random { seed } => masks::random(self, runner, *seed)?,
        };
        Ok((on_channels(runner, &map), Some(map)))
    }

    /// The sizes of the input's spatial axes.
    fn grid(&self, explainer: &Explainer) -> Result<Vec<usize>, ExplainError> {
        let size = explainer.spatial_input().map(|(_, size)| size);
        size.ok_or_else(|| {
            method_error(
                self,
                "a model whose input has no spatial axes".into(),
                "f32[N,C,..] of one to three",
            )
        })
    }
}

/// Relevance with its map.
fn with_map(explainer: &Explainer, relevance: ArrayD<f32>) -> Attributed {
    let map = crate::map::sum_over_channels(relevance.view(), explainer.channel_axis());
    (relevance, map)
}

/// A map as relevance: each channel takes an even share.
fn on_channels(runner: &Runner<'_>, map: &ArrayD<f32>) -> ArrayD<f32> {
    let axis = runner.explainer.channel_axis();
    let channels = runner.input.shape().get(axis).copied().unwrap_or(1).max(1);
    let share = (map / channels as f32).insert_axis(Axis(axis));
    share.broadcast(runner.input.raw_dim()).map(|v| v.to_owned()).unwrap_or_default()
}

impl Explainer {
    /// The batch that the model fixes.
    fn fixed_batch(&self) -> Option<usize> {
        self.input().ok()?.1.dims().first()?.fixed()
    }
}
