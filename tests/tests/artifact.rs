//! Artifacts: what is saved and loaded explains as what was compiled, and no damage goes unseen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use proptest::strategy::{Strategy, ValueTree};
use relc::artifact::summary;
use relc::report::FileReport;
use relc::{
    Compiler, Engine, Explainer, Explanations, Held, ImportOptions, Isa, Ledger, Preset, Seed, SeedKind,
    Source, Targets, messages,
};
use relc_tests::agreement::presets;
use relc_tests::corpus;
use relc_tests::graphs::{build, plans};
use relc_tests::odd::many_branches;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn noise(explainer: &Explainer, samples: usize) -> ArrayD<f32> {
    let shape = explainer.input().unwrap().1.bind(samples);
    let mut rng = fastrand::Rng::with_seed(7);
    ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0)
}

fn explain(explainer: &Explainer, x: &ArrayD<f32>) -> Explanations {
    explainer.explain(x.view(), &Seed::Named(SeedKind::Logit), &Targets::TopK(2)).unwrap()
}

/// A ledger but for the numbers of nodes, which are those of the graph at hand.
fn books(ledger: &Ledger) -> String {
    let entries: Vec<_> = ledger.entries.iter().map(|e| (&e.label, &e.name, &e.op, &e.samples)).collect();
    let joins: Vec<_> = ledger.joins.iter().map(|j| (&j.label, &j.name, j.skip, &j.share)).collect();
    format!("{entries:?} {joins:?} {:?}", ledger.totals)
}

#[track_caller]
fn check_alike(got: &Explainer, expected: &Explainer, what: &str) {
    let x = noise(expected, 2);
    let (got, expected) = (explain(got, &x), explain(expected, &x));
    assert_eq!(got.logits, expected.logits, "{what}");
    for (got, expected) in got.explanations.iter().zip(&expected.explanations) {
        assert_eq!(got.relevance, expected.relevance, "{what}");
        assert!(books(&got.ledger) == books(&expected.ledger), "{what}: the ledgers differ");
        assert_eq!(got.warnings, expected.warnings, "{what}");
    }
}

/// Saves a model, loads it, and compares the two and what each was made of.
#[track_caller]
fn check(model: impl Into<Source>, compiler: &Compiler, what: &str) -> Vec<u8> {
    let (folder, model) = (tempfile::tempdir().unwrap(), model.into());
    let path = folder.path().join("model.relc");
    let saved = compiler.save(model.clone(), &path).unwrap_or_else(|e| panic!("{what}: {e}"));
    let loaded = compiler.compile(&path).unwrap_or_else(|e| panic!("{what}: {}", messages(&e).join(": ")));
    check_alike(&loaded, &saved, what);
    assert_eq!(loaded.graph().to_string(), saved.graph().to_string(), "{what}");
    let texts = |explainer: &Explainer| -> BTreeSet<String> {
        explainer.compiled().passes.iter().flat_map(|p| &p.remarks).map(ToString::to_string).collect()
    };
    assert_eq!(texts(&loaded), texts(&saved), "{what}");
    std::fs::read(&path).unwrap()
}

#[test]
fn what_is_loaded_explains_to_the_bit() {
    let (mut runner, plans) = (proptest::test_runner::TestRunner::deterministic(), plans());
    let mut graph = || build(&plans.new_tree(&mut runner).unwrap().current());
    for graph in [graph(), graph(), many_branches(3)] {
        for (name, preset) in presets() {
            for isa in Isa::available() {
                let what = format!("{name} on {isa} in\n{graph}");
                // Which instruction set is used is no part of a file: it has to be asked for again.
                check(graph.clone(), &Compiler::new(preset.clone()).isa(isa), &what);
            }
        }
    }
    for model in ["demo/model.onnx", "signal/model.onnx", "volume/model.onnx"] {
        let bytes = check(example(model), &Compiler::new(Preset::named("two_level").unwrap()), model);
        // The bytes serve as the file does.
        let loaded = Compiler::new(Preset::named("two_level").unwrap()).compile(bytes).unwrap();
        assert!(loaded.compiled().passes.iter().all(|pass| pass.name != "load"), "it was compiled again");
    }
}

#[test]
fn the_file_says_what_it_is_and_loads_with_its_own_preset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.relc");
    let preset = Preset::named("paper").unwrap().with_split("half".parse().unwrap());
    let saved = Compiler::new(preset.clone()).save(example("demo/model.onnx"), &path).unwrap();
    let said = summary(path.clone()).unwrap().unwrap();
    assert_eq!((said.model.path.as_str(), said.options.as_str()), ("model.onnx", ""));
    assert_eq!(said.model.sha256, FileReport::of(&example("demo/model.onnx")).unwrap().sha256);
    assert_eq!((said.preset.canonical(), said.preset.title()), (preset.canonical(), preset.title()));
    assert_eq!(said.isa, Isa::detect().unwrap().name());
    let loaded = Explainer::load(&path).unwrap();
    check_alike(&loaded, &saved, "loaded");
    assert!(summary(example("demo/model.onnx")).unwrap().is_none());
    let none = Explainer::load(&example("demo/model.onnx")).unwrap_err();
    assert!(messages(&none).join(": ").contains("model.onnx: no relc artifact"), "{none:?}");
}

#[test]
fn another_preset_or_engine_is_compiled_from_the_model_inside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.relc");
    Compiler::new(Preset::named("conserve").unwrap()).save(example("demo/model.onnx"), &path).unwrap();
    for (preset, engine) in
        [("paper", Engine::Jit), ("conserve", Engine::InterpF64), ("epsilon", Engine::InterpF32)]
    {
        let compiler = Compiler::new(Preset::named(preset).unwrap()).engine(engine);
        let [fresh, inside] =
            [example("demo/model.onnx"), path.clone()].map(|model| compiler.compile(model).unwrap());
        check_alike(&inside, &fresh, preset);
        assert_eq!(inside.compiled().passes[0].name, "load");
    }
    let narrow = Compiler::new(Preset::named("conserve").unwrap()).isa(Isa::Portable);
    let inside = narrow.compile(&path).unwrap();
    check_alike(&inside, &narrow.compile(example("demo/model.onnx")).unwrap(), "portable");
    let warned = inside.compiled().passes[0].remarks.iter().any(|r| r.message.contains("packed again"));
    assert_eq!(
        warned,
        Isa::detect().unwrap() != Isa::Portable,
        "weights were packed for another instruction set"
    );
}

#[test]
fn what_can_not_be_saved_or_was_stated_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.relc");
    let model = example("demo/model.onnx");
    let compiler = Compiler::new(Preset::named("conserve").unwrap());
    let interpreted = compiler.clone().engine(Engine::InterpF32).save(&model, &path).unwrap_err();
    assert!(interpreted.to_string().contains("engine interp-f32, expected jit"), "{interpreted}");
    let nowhere = compiler.save(&model, &folder.path().join("no/such/model.relc")).unwrap_err();
    assert!(nowhere.to_string().starts_with("can't write"), "{nowhere}");
    compiler.save(&model, &path).unwrap();
    let held = Held { name: "x".into(), shape: Vec::new(), values: vec![1.0] };
    let options = ImportOptions { hold: vec![held], ..ImportOptions::default() };
    let stated = compiler.import(options).compile(&path).unwrap_err().to_string();
    assert!(
        stated.ends_with(
            "got x held, but the artifact was compiled with nothing stated; compile the model again with it"
        ),
        "{stated}"
    );
}

/// A small artifact.
fn artifact() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.relc");
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).isa(Isa::Portable);
    compiler.save(relc_tests::odd::small([3, 8, 8], [3, 3], true, true), &path).unwrap();
    std::fs::read(&path).unwrap()
}

/// The error of bytes.
#[track_caller]
fn refused(bytes: Vec<u8>, what: &str) -> String {
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).isa(Isa::Portable);
    match compiler.compile(bytes) {
        Ok(_) => panic!("{what}: not seen"),
        Err(error) => messages(&error).join(": "),
    }
}

#[test]
fn every_damage_is_seen() {
    let whole = artifact();
    let mut rng = fastrand::Rng::with_seed(18);
    for round in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= rng.u8(1..);
        }
        if bytes == whole {
            continue;
        }
        refused(bytes, &format!("round {round}"));
    }
    for length in (8..whole.len()).step_by(97).chain([9, 39, 40, 41, whole.len() - 1]) {
        let cut = refused(whole[..length].to_vec(), &format!("{length} bytes"));
        assert!(cut.contains("a damaged artifact: it "), "{cut}");
    }
    let longer = refused([&whole[..], &[0; 64]].concat(), "more bytes");
    assert!(longer.contains("expected"), "{longer}");
}

#[test]
fn damage_is_said_and_what_to_do() {
    let whole = artifact();
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(bytes, &format!("byte {at}"))
    };
    let again = "copy it again, or make it again from the model with relc compile";
    let description = changed(100);
    assert!(description.contains("its description is not what was written"), "{description}");
    assert!(description.ends_with(again), "{description}");
    let weights = changed(whole.len() - 64);
    assert!(weights.contains("of its blocks are not what was written"), "{weights}");
    let mut newer = whole.clone();
    newer[8] = 200;
    let newer = refused(newer, "a newer format");
    assert!(newer.contains("an artifact of format 200, expected 1 (relc "), "{newer}");
    assert!(newer.ends_with("make it again from the model with relc compile"), "{newer}");
}

/// Whoever can write a file can write its hashes: what is in it is checked as well.
#[test]
fn hostile_contents_are_refused_or_run() {
    let whole = artifact();
    let mut rng = fastrand::Rng::with_seed(19);
    for _ in 0..1_500 {
        let mut bytes = whole.clone();
        let length = u64::from_le_bytes(*bytes[16..].first_chunk().unwrap()) as usize;
        for _ in 0..rng.usize(1..4) {
            let at = 40 + rng.usize(..length);
            // Digits stay digits most of the time, so that more than the texts' grammar is tried.
            bytes[at] = if bytes[at].is_ascii_digit() { b'0' + rng.u8(..10) } else { rng.u8(..) };
        }
        corpus::artifact(&bytes);
    }
}
