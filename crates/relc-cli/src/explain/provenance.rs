//! What a report says of its run, so that it can be made again.

use std::path::{Path, PathBuf};

use relc::Explainer;
use relc::report::{FileReport, MaskReport, PreprocessReport, RunReport, weights_xxh3};

use crate::args::ExplainArgs;
use crate::failure::Failure;

/// What is known before the first input is explained.
pub fn run_report(
    args: &ExplainArgs,
    explainer: &Explainer,
    preprocess: Option<PreprocessReport>,
    warnings: Vec<String>,
) -> Result<RunReport, Failure> {
    let is_npy = |seed: &&String| Path::new(seed).extension().is_some_and(|e| e == "npy");
    let targets = args.compare.as_ref().map(|pair| pair.join(","));
    Ok(RunReport {
        command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        model: file(&args.model)?,
        weights_xxh3: weights_xxh3(explainer.graph()),
        isa: explainer.executable().map(|executable| executable.isa().name()),
        threads: rayon::current_num_threads(),
        target: targets.or_else(|| args.target.clone()).unwrap_or_else(|| "argmax".into()),
        seed_file: args.seed.as_ref().filter(is_npy).map(|path| file(Path::new(path))).transpose()?,
        labels: args.labels.as_deref().map(file).transpose()?,
        masks: explainer.preset().masks().iter().map(MaskReport::from).collect(),
        heat_quantization: args.heat_quantization,
        preprocess,
        warnings,
    })
}

fn file(path: &Path) -> Result<FileReport, Failure> {
    FileReport::of(path).map_err(|e| format!("can't read {}: {e}", path.display()).into())
}

/// Files of inputs, each read once though it may hold many samples.
#[derive(Default)]
pub struct Fingerprints {
    last: Option<(PathBuf, FileReport)>,
}

impl Fingerprints {
    /// The file that an input lies in, or the folder of such files.
    pub fn of(&mut self, path: &Path, files: &[PathBuf]) -> Result<FileReport, Failure> {
        if let Some((_, report)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(report.clone());
        }
        let report = match files {
            [] => file(path)?,
            files => FileReport::of_folder(path, files)
                .map_err(|e| format!("can't read the frames of {}: {e}", path.display()))?,
        };
        self.last = Some((path.to_path_buf(), report.clone()));
        Ok(report)
    }
}
