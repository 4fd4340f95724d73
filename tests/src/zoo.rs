//! The model zoo: models made by `tools/make_zoo.py`, with ONNX Runtime's outputs beside them, and what relc makes of
//! each.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::ArrayD;
use relc::unstable::ir::Dim;
use relc::{Compiler, Engine, Explainer, ImportOptions, Preset, Seed, SeedKind, Targets};
use serde::Deserialize;

use crate::npz::Npz;

/// An entry of `zoo.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The architecture's name.
    pub architecture: String,
    /// What wrote the file.
    pub exporter: String,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// The residual sums of the architecture, counted in the PyTorch module.
    pub joins: usize,
    /// The input's shape, where the file leaves it open.
    #[serde(default)]
    pub input_shape: Option<Vec<usize>>,
    /// The output to explain, where the file has several.
    #[serde(default)]
    pub output: Option<String>,
    /// ONNX Runtime's logits, where no arrays lie beside the model.
    #[serde(default)]
    pub logits: Option<Vec<f32>>,
    /// The entry whose map this one has to equal.
    #[serde(default)]
    pub same_as: Option<String>,
}

/// A model of the zoo.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name: that of its files.
    pub name: String,
    /// What is known of it.
    pub entry: Entry,
    folder: PathBuf,
}

/// What relc made of a model.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The residual joins that were found.
    pub joins: usize,
    /// The largest difference of the logits from ONNX Runtime's, in units of their range.
    pub parity: f64,
    /// `|sum R(input) - sum seed| / sum |seed|`.
    pub conservation: f64,
    /// Whether the compiler claims that the program conserves.
    pub claimed: bool,
    /// The map `f32[H,W]`.
    pub map: Vec<f32>,
    /// Seconds to compile.
    pub compile: f64,
    /// Seconds to explain one picture.
    pub explain: f64,
}

/// The models of a folder, sorted by name.
///
/// # Panics
/// If the folder has no readable `zoo.json`.
pub fn models(folder: &Path) -> Vec<Model> {
    let index = folder.join("zoo.json");
    let text = std::fs::read_to_string(&index).unwrap_or_else(|e| panic!("{}: {e}", index.display()));
    let entries: std::collections::BTreeMap<String, Entry> =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", index.display()));
    let model = |(name, entry)| Model { name, entry, folder: folder.to_path_buf() };
    entries.into_iter().map(model).collect()
}

impl Model {
    /// The model's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.onnx", self.name))
    }

    /// Imports the model, with what the entry says about its input and output, and compiles it.
    ///
    /// # Errors
    /// What relc says if it can't.
    pub fn compile(&self, compiler: &Compiler) -> Result<Explainer, String> {
        let input_shape =
            self.entry.input_shape.as_ref().map(|s| s.iter().copied().map(Dim::Fixed).collect());
        let options =
            ImportOptions { output: self.entry.output.clone(), input_shape, ..ImportOptions::default() };
        compiler.clone().import(options).compile(self.path()).map_err(|e| chain(&e))
    }

    /// Compiles the model with the preset `conserve` and explains the largest logit of its input.
    ///
    /// # Errors
    /// What relc says if it can't.
    ///
    /// # Panics
    /// If the arrays beside the model can't be read.
    pub fn run(&self) -> Result<Outcome, String> {
        let preset = Preset::named("conserve").map_err(|e| e.to_string())?;
        let start = Instant::now();
        let explainer = self.compile(&Compiler::new(preset).engine(Engine::Jit))?;
        let compile = start.elapsed().as_secs_f64();
        let (x, expected) = self.arrays(&explainer)?;
        let start = Instant::now();
        let seed = Seed::Named(SeedKind::Logit);
        let result = explainer.explain(x.view(), &seed, &Targets::Argmax).map_err(|e| chain(&e))?;
        let explain = start.elapsed().as_secs_f64();
        let explanation = result.explanations.first().ok_or("got no explanation")?;
        let (low, high) = expected.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(f64::from(*v)), high.max(f64::from(*v)))
        });
        let off = expected.iter().zip(&result.logits).map(|(a, b)| (f64::from(*a) - b).abs());
        let parity = off.fold(0.0, f64::max) / (high - low);
        if expected.len() != result.logits.len() || parity.is_nan() {
            return Err(format!("got {} logits, expected {}", result.logits.len(), expected.len()));
        }
        Ok(Outcome {
            joins: explainer.graph().residuals.len(),
            parity,
            conservation: explanation.conservation_error(0),
            claimed: explainer.is_conserving(),
            map: explanation.map.iter().flatten().copied().collect(),
            compile,
            explain,
        })
    }

    /// The input, in the model's layout, and ONNX Runtime's logits for it.
    ///
    /// # Errors
    /// If the model has several inputs.
    ///
    /// # Panics
    /// If the arrays beside the model can't be read.
    pub fn arrays(&self, explainer: &Explainer) -> Result<(ArrayD<f32>, Vec<f32>), String> {
        let Some(logits) = &self.entry.logits else {
            let arrays = Npz::open(self.folder.join(format!("{}.npz", self.name)));
            return Ok((arrays.f32("x"), arrays.f32("logits").into_iter().collect()));
        };
        let [h, w] = self.entry.size;
        // The script computes the same numbers, exactly.
        let pixel = |i: usize| (i * 7919 % 509) as f32 / 128.0 - 2.0;
        let x = ArrayD::from_shape_fn(vec![1, 3, h, w], |at| pixel((at[1] * h + at[2]) * w + at[3]));
        let shape = explainer.input().map_err(|e| e.to_string())?.1.bind(1);
        let x = if shape == [1, h, w, 3] { x.permuted_axes(vec![0, 2, 3, 1]) } else { x };
        Ok((x, logits.clone()))
    }
}

/// An error with what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The largest difference of two maps, in units of the largest magnitude of the second.
pub fn map_difference(a: &[f32], b: &[f32]) -> f64 {
    let max = b.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
    let off = a.iter().zip(b).fold(0.0, |m: f64, (x, y)| m.max((f64::from(*x) - f64::from(*y)).abs()));
    if a.len() == b.len() { off / max.max(f64::MIN_POSITIVE) } else { f64::INFINITY }
}
