//! What a report says of its run, so that it can be made again.

use std::path::Path;

use relc::Explainer;
use relc::artifact::{Summary, summary};
use relc::report::{ArtifactReport, MaskReport, PreprocessReport, RunReport, weights_xxh3};

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::inputs::fingerprint;

/// What is known before the first input is explained.
pub fn run_report(
    args: &ExplainArgs,
    explainer: &Explainer,
    preprocess: Option<PreprocessReport>,
    warnings: Vec<String>,
) -> Result<RunReport, Failure> {
    let is_npy = |seed: &&String| Path::new(seed).extension().is_some_and(|e| e == "npy");
    let artifact = summary(args.model.clone())?;
    let model = match &artifact {
        Some(artifact) => artifact.model.clone(),
        None => fingerprint(&args.model)?,
    };
    let path = args.model.display().to_string();
    let artifact =
        artifact.map(|Summary { relc, isa, machine, .. }| ArtifactReport { path, relc, isa, machine });
    let targets = args.compare.as_ref().map(|pair| pair.join(","));
    Ok(RunReport {
        command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        model,
        artifact,
        weights_xxh3: weights_xxh3(explainer.graph()),
        isa: explainer.executable().map(|executable| executable.isa().name()),
        threads: rayon::current_num_threads(),
        target: targets.or_else(|| args.target.clone()).unwrap_or_else(|| "argmax".into()),
        seed_file: args.seed.as_ref().filter(is_npy).map(|path| fingerprint(Path::new(path))).transpose()?,
        labels: args.labels.as_deref().map(fingerprint).transpose()?,
        masks: explainer.preset().masks().iter().map(MaskReport::from).collect(),
        heat_quantization: args.heat_quantization,
        preprocess,
        warnings,
    })
}
