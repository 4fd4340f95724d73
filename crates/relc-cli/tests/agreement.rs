//! `relc check` and `relc explain` on hundreds of models, whole, odd and broken: what `check` calls supported is
//! explained, what it refuses is refused with the same words.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use relc::files::write_npy_f32;
use relc_tests::mutations::mutants;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// How many models are broken, one change each.
const BROKEN: usize = 200;

fn relc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relc")).args(args).output().expect("relc runs")
}

/// The ONNX files of a folder, sorted.
fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|e| e.expect("the folder can be read").path());
    let mut models: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    models
}

/// Noise for one sample of the shape that `check --json` says, written beside the model; without a shape, of any.
fn input(checked: &Output, path: &Path) {
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap_or_default();
    let text = report["input"]["shape"].as_str().unwrap_or("f32[N,3,8,8]");
    let sizes = text.trim_start_matches("f32[").trim_end_matches(']').split(',');
    let mut shape: Vec<usize> = sizes.map(|size| size.parse().unwrap_or(1)).collect();
    shape[0] = 1; // of however many the model takes at once
    let mut rng = fastrand::Rng::with_seed(1);
    let x = ArrayD::from_shape_simple_fn(IxDyn(&shape), || rng.f32() * 4.0 - 2.0);
    write_npy_f32(path, x.view()).expect("the folder takes a file");
}

/// What the two commands disagree on.
fn disagreement(model: &Path, folder: &Path, number: usize) -> Option<String> {
    let checked = relc(&["check", &model.to_string_lossy(), "--json"]);
    let x = folder.join(format!("{number}.npy"));
    input(&checked, &x);
    let explained = relc(&["explain", &model.to_string_lossy(), &x.to_string_lossy()]);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    match (checked.status.code(), explained.status.code()) {
        (Some(0), Some(0)) => None,
        (Some(1), Some(1)) if said(&checked) == said(&explained) => None,
        // What the file leaves open, the array that is explained settles.
        (Some(1), _) if said(&checked).contains("state the shape (--input-shape") => None,
        // Whether f32 holds the sums of a weight of 3e38 depends on the input.
        (Some(0), Some(1))
            if said(&explained).contains("expected an input and weights whose sums fit f32") =>
        {
            None
        }
        (a, b) => Some(format!("check: {a:?} {}\nexplain: {b:?} {}", said(&checked), said(&explained))),
    }
}

#[test]
fn what_check_says_is_what_explain_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<PathBuf> =
        ["tests/zoo", "tests/nodes"].iter().flat_map(|name| models(&Path::new(ROOT).join(name))).collect();
    if let Some(networks) = std::env::var_os("RELC_RANDOM_NETWORKS") {
        all.extend(models(Path::new(&networks)));
    }
    let names = ["basic", "bottleneck", "se", "preact", "sk", "dense", "convnext", "basic.qdq"];
    let read = |name: &&str| {
        let path = format!("{ROOT}/tests/zoo/{name}.onnx");
        ((*name).to_string(), std::fs::read(path).expect("a model of the zoo"))
    };
    let whole: Vec<(String, Vec<u8>)> = names.iter().map(read).collect();
    let mut changes = std::collections::BTreeMap::new();
    for (i, mutant) in mutants(&whole, BROKEN).into_iter().enumerate() {
        let path = folder.path().join(format!("broken{i}.onnx"));
        std::fs::write(&path, &mutant.bytes).unwrap();
        changes.insert(path.clone(), format!("{}: {}", mutant.model, mutant.change));
        all.push(path);
    }
    assert!(all.len() >= 300, "got {} models", all.len());
    let problems: Vec<String> = all
        .par_iter()
        .enumerate()
        .filter_map(|(i, model)| {
            let what = changes.get(model).cloned().unwrap_or_else(|| model.display().to_string());
            disagreement(model, folder.path(), i).map(|problem| format!("{what}\n{problem}"))
        })
        .collect();
    assert!(problems.is_empty(), "of {} models:\n{}", all.len(), problems.join("\n"));
}
