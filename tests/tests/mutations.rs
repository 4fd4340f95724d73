//! Broken models: `docs/mutations.md` has what relc says to each of a hundred.

use relc_tests::mutations::{Answer, Mutant, mutants, table};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Models that break in different ways: plain, gated, pre-activated, with several branches, and the demo.
fn models() -> Vec<(String, Vec<u8>)> {
    let files = ["examples/demo/model.onnx", "tests/zoo/basic.onnx", "tests/zoo/bottleneck.onnx"];
    let more =
        ["tests/zoo/se.onnx", "tests/zoo/preact.onnx", "tests/zoo/sk.onnx", "tests/zoo/basic.keras.onnx"];
    let read = |file: &str| {
        let name = file.rsplit('/').next().unwrap().trim_end_matches(".onnx");
        let name = if name == "model" { "demo" } else { name };
        (name.to_string(), std::fs::read(format!("{ROOT}/{file}")).unwrap())
    };
    files.into_iter().chain(more).map(read).collect()
}

const HEAD: &str = "# A hundred broken models

Generated; don't edit. One change each, drawn by a seed from the kinds of `tests/src/mutations.rs`, to the demo and to
models of `tests/zoo`. What is still a model is explained, and conserves; all others get one message, which names the
node or the tensor. `RELC_BLESS=1 cargo test -p relc-tests --test suites -- mutations::` writes this file; the test compares.

";

#[test]
fn broken_models_get_the_listed_answers() {
    let folder = tempfile::tempdir().unwrap();
    let answers: Vec<(Mutant, Answer)> = mutants(&models(), 100)
        .into_iter()
        .map(|mutant| {
            let answer = mutant.ask(folder.path());
            (mutant, answer)
        })
        .collect();
    let refused = answers.iter().filter(|(_, a)| *a != Answer::Explained).count();
    assert!((50..100).contains(&refused), "{refused} were refused");
    let text = format!("{HEAD}{}", table(&answers));
    let path = format!("{ROOT}/docs/mutations.md");
    if std::env::var_os("RELC_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(listed == text, "docs/mutations.md is out of date; RELC_BLESS=1 writes it");
}
