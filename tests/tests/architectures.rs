//! Thin relatives of many architectures, as `tools/architectures` exports them: what relc imports of them agrees with
//! torch's logits and, under every preset, with the oracle; it keeps what it claims.
//!
//! `RELC_ARCHITECTURES` says where that script wrote its files.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use relc::{Compiler, Engine, Preset};
use relc_tests::agreement::{Model, problems};
use relc_tests::npz::Npz;
use relc_tests::shared::{max_abs, max_difference, skipped};

/// How far the logits may be off torch's, of the largest; both are of f32.
const LOGITS: f64 = 1e-5;

/// What is wrong with a model.
fn check(model: &Path) -> Vec<String> {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).engine(Engine::Jit);
    let compiled = compiler.compile(model);
    let arrays = Npz::open(model.with_extension("npz"));
    let (x, logits) = (arrays.f32("x"), arrays.f32("logits"));
    let mut wrong = problems(Model::File(model), &x);
    match compiled.map_err(|e| e.to_string()).and_then(|e| e.predict(x.view()).map_err(|e| e.to_string())) {
        Err(error) => wrong.push(error),
        Ok(got) => {
            let off = max_difference(&got.mapv(|v| v as f32).into_dyn(), &logits) / max_abs(&logits);
            wrong.extend((off > LOGITS).then(|| format!("logits differ by {off:e} of the largest")));
        }
    }
    wrong.iter().map(|problem| format!("{stem}: {problem}")).collect()
}

#[test]
fn architectures_agree_with_torch_and_the_oracle() {
    let Some(folder) = std::env::var_os("RELC_ARCHITECTURES") else {
        skipped("no architectures (write some by tools/architectures, set RELC_ARCHITECTURES)");
        return;
    };
    let entries = std::fs::read_dir(&folder).expect("RELC_ARCHITECTURES is a folder");
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    models.sort();
    assert!(models.len() >= 36, "{} models in {folder:?}", models.len());
    let wrong: Vec<String> = models.par_iter().flat_map(|model| check(model)).collect();
    assert!(wrong.is_empty(), "of {} models:\n{}", models.len(), wrong.join("\n"));
}
