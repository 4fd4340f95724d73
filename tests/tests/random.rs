//! Random networks of all kinds, under every preset: the compiled engine against the f64 interpreter, and both against
//! ONNX Runtime.
//!
//! `RELC_RANDOM_CASES` says how many graphs are tried, `RELC_RANDOM_NETWORKS` where `tools/random_networks.py` wrote
//! models.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rayon::prelude::*;
use relc::{Compiler, Engine, Preset};
use relc_ir::op::{Activation, Window};
use relc_tests::agreement::{AGREEMENT, Model, problems};
use relc_tests::npz::Npz;
use relc_tests::parts::{Gate, Head, Part, Plan, build, plans};
use relc_tests::shared::skipped;

/// How far logits may be from ONNX Runtime's, of their maximum: it sums in f32, as the compiled engine does.
const PARITY: f64 = 1e-5;

/// The same few graphs each time; as many others as someone asks for.
fn config() -> ProptestConfig {
    let (cases, rng_seed) = match std::env::var("RELC_RANDOM_CASES") {
        Ok(count) => (count.parse().expect("RELC_RANDOM_CASES is a number"), RngSeed::Random),
        Err(_) => (24, RngSeed::Fixed(20)),
    };
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

/// Two samples for a plan's network.
fn input_of(plan: &Plan) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(plan.seed ^ 1);
    let [c, h, w] = plan.image;
    let low = if plan.signed { -2.0 } else { 0.0 };
    ArrayD::from_shape_simple_fn(vec![2, c, h, w], || low + rng.f32() * (2.0 - low))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_networks_agree_with_the_oracle_under_every_preset(plan in plans()) {
        let x = input_of(&plan);
        let graph = build(&plan);
        let problems = problems(Model::Graph(&graph), &x);
        prop_assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), graph);
    }
}

fn check_plan(plan: &Plan) {
    let problems = problems(Model::Graph(&build(plan)), &input_of(plan));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What speaks against an output may be next to nothing where much relevance arrives: quotients a million times those beside
/// them, which a sum that is none of theirs must not see.
#[test]
fn quotients_of_any_size_stay_where_they_belong() {
    let window = Window::new([1, 1], [1, 1]);
    let part = || Part::Conv { window, outputs: 3, depthwise: true, normalised: false };
    check_plan(&Plan {
        image: [1, 1, 9],
        signed: false,
        two_stems: None,
        activation: Activation::ThresholdedRelu { alpha: 0.1 },
        parts: vec![part(), part(), Part::SeveralJoins { ternary: false }],
        head: Head::Mean,
        softmax: false,
        seed: 4063315314673593102,
    });
}

/// Gates whose every factor is below f32's normal numbers.
#[test]
fn gates_that_are_all_but_closed_still_say_where() {
    check_plan(&Plan {
        image: [3, 5, 5],
        signed: false,
        two_stems: None,
        activation: Activation::Relu,
        parts: vec![
            Part::MaxPool(Window::new([1, 1], [1, 2])),
            Part::Branches,
            Part::Preactivated { gate: None },
            Part::Gate(Gate::Pixels { bound: Activation::Sigmoid }),
        ],
        head: Head::Mean,
        softmax: false,
        seed: 16896206820734945615,
    });
}

/// The models of `RELC_RANDOM_NETWORKS`, sorted; `None`, with a word on standard error, if it is not set.
fn networks() -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("RELC_RANDOM_NETWORKS") else {
        skipped("no random networks (write some by tools/random_networks.py, set RELC_RANDOM_NETWORKS)");
        return None;
    };
    let entries = std::fs::read_dir(&folder).expect("RELC_RANDOM_NETWORKS is a folder");
    let paths = entries.map(|e| e.unwrap().path());
    let mut models: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    assert!(!models.is_empty(), "{} has no models", folder.display());
    Some(models)
}

/// How far both engines' logits are from ONNX Runtime's.
fn parity(model: &Path, x: &ArrayD<f32>, logits: &Array2<f64>) -> Result<(), String> {
    let scale = logits.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (engine, tolerance) in [(Engine::InterpF64, PARITY), (Engine::Jit, AGREEMENT)] {
        let compiler = Compiler::new(Preset::named("conserve").unwrap()).engine(engine);
        let explainer = Model::File(model).compile(&compiler)?;
        let got = explainer.predict(x.view()).map_err(|e| e.to_string())?;
        if got.dim() != logits.dim() {
            return Err(format!("got logits {:?}, expected {:?}", got.dim(), logits.dim()));
        }
        let off = (&got - logits).iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        if off.is_nan() || off > tolerance * scale {
            return Err(format!("{}: logits off by {off:e} of {scale:e}", engine.name()));
        }
    }
    Ok(())
}

#[test]
fn random_models_agree_with_onnx_runtime_and_the_oracle() {
    let Some(models) = networks() else { return };
    let check = |model: &PathBuf| -> Vec<String> {
        let arrays = Npz::open(model.with_extension("npz"));
        let x = arrays.f32("x");
        let logits = arrays.f32("logits").mapv(f64::from).into_dimensionality().expect("f32[N,K]");
        let mut wrong = problems(Model::File(model), &x);
        wrong.extend(parity(model, &x, &logits).err());
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        wrong.iter().map(|problem| format!("{name}: {problem}")).collect()
    };
    let wrong: Vec<String> = models.par_iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "of {} models:\n{}", models.len(), wrong.join("\n"));
}
