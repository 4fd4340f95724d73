//! The `paper` preset against the authors' own code: reference arrays computed in f64 with PyTorch.

use ndarray::{ArrayD, Axis};
use relc::unstable::ir::rule::BiasPolicy;
use relc::{BatchNormPolicy, Compiler, Engine, Preset, Seed, SeedKind, Targets};
use relc_tests::npz::Npz;
use relc_tests::shared::{max_abs, max_difference, shared};

/// What the f64 interpreter must reach: the references are rounded to f32.
const F64: f64 = 1e-5;
/// What f32 arithmetic must reach.
const F32: f64 = 1e-4;

struct Case<'a> {
    model: String,
    npz: &'a Npz,
    array: &'a str,
    split: &'a str,
    bias: BiasPolicy,
    batchnorm: BatchNormPolicy,
}

#[track_caller]
fn check(case: &Case<'_>) {
    let preset = Preset::named("paper").unwrap().with_split(case.split.parse().unwrap());
    let preset = preset.with_bias(case.bias).unwrap();
    let compiler = Compiler::new(preset).batchnorm(case.batchnorm);
    let (x, reference, logits) = (case.npz.f32("x"), case.npz.f32(case.array), case.npz.f32("logits"));
    for (engine, tolerance) in [(Engine::InterpF64, F64), (Engine::InterpF32, F32), (Engine::Jit, F32)] {
        let explainer = compiler.clone().engine(engine).compile(&case.model).unwrap();
        let result = explainer.explain(x.view(), &Seed::Named(SeedKind::Prob), &Targets::Argmax).unwrap();
        let label = format!("{} {} {}", case.model, case.array, engine.name());

        let got = result.logits.mapv(|v| v as f32).into_dyn();
        let difference = max_difference(&got, &logits) / max_abs(&logits);
        assert!(difference <= tolerance, "{label}: logits differ by {difference:e} of the maximum");

        let explanation = &result.explanations[0];
        let targets: Vec<i64> = explanation.targets.iter().map(|t| *t as i64).collect();
        assert_eq!(targets, case.npz.i64("target"), "{label}");

        let map: ArrayD<f32> = explanation.map.clone().unwrap().into_dyn();
        assert_eq!(map.shape(), reference.shape(), "{label}");
        // Each picture was explained on its own, so each has its own maximum.
        for (i, (ours, theirs)) in map.axis_iter(Axis(0)).zip(reference.axis_iter(Axis(0))).enumerate() {
            let difference =
                max_difference(&ours.to_owned(), &theirs.to_owned()) / max_abs(&theirs.to_owned());
            assert!(
                difference <= tolerance,
                "{label}, picture {i}: differs by {difference:e} of the maximum"
            );
        }
    }
}

#[test]
fn the_authors_four_modes_are_reproduced() {
    let Some(shared) = shared() else { return };
    let mut checked = 0;
    for npz in shared.files("refs", ".npz") {
        let name = npz.file_stem().unwrap().to_string_lossy().into_owned();
        let arrays = Npz::open(&npz);
        for (array, split) in [
            ("paper.flows_skip", "ratio"),
            ("paper.flows_skip_simple", "half"),
            ("paper.simple", "half-at-projection"),
            ("paper.latest", "ratio-at-projection"),
        ] {
            if !arrays.has(array) {
                // The trained CIFAR network has only the two arrays of the test below, others are of other presets.
                assert!(
                    arrays.has("paper.ratio.bn") || arrays.has("conserve.winner"),
                    "{name} lacks {array}"
                );
                continue;
            }
            checked += 1;
            check(&Case {
                model: shared.path(&format!("refs/{name}.bn.onnx")),
                npz: &arrays,
                array,
                split,
                bias: BiasPolicy::Include,
                batchnorm: BatchNormPolicy::Keep,
            });
        }
    }
    assert!(checked > 0, "no array was compared");
}

#[test]
fn the_trained_cifar_network_is_reproduced_unfolded_and_folded() {
    let Some(shared) = shared() else { return };
    let arrays = Npz::open(shared.path("refs/cifar10_resnet20.npz"));
    for (form, bias) in [("bn", BiasPolicy::Include), ("folded", BiasPolicy::Exclude)] {
        check(&Case {
            model: shared.path(&format!("models/cifar10_resnet20.{form}.onnx")),
            npz: &arrays,
            array: &format!("paper.ratio.{form}"),
            split: "ratio",
            bias,
            batchnorm: BatchNormPolicy::Keep,
        });
    }
}

/// Folding inside relc marks the biases that it makes, so that they stay out of denominators even where the user
/// asks for biases; the result is that of the file that was folded on export, where biases are excluded by hand.
#[test]
fn folding_in_relc_equals_folding_on_export() {
    let Some(shared) = shared() else { return };
    for name in ["basic18", "bottleneck26", "neggamma18"] {
        let x = Npz::open(shared.path(&format!("refs/{name}.npz"))).f32("x");
        let map = |form: &str, bias, batchnorm| {
            let preset = Preset::named("paper").unwrap().with_bias(bias).unwrap();
            let compiler = Compiler::new(preset).batchnorm(batchnorm).engine(Engine::InterpF64);
            let explainer = compiler.compile(shared.path(&format!("refs/{name}.{form}.onnx"))).unwrap();
            let result = explainer.explain(x.view(), &Seed::Named(SeedKind::Prob), &Targets::Argmax).unwrap();
            result.explanations[0].map.clone().unwrap().into_dyn()
        };
        let ours = map("bn", BiasPolicy::Include, BatchNormPolicy::Fold);
        let theirs = map("folded", BiasPolicy::Exclude, BatchNormPolicy::Keep);
        let difference = max_difference(&ours, &theirs) / max_abs(&theirs);
        // The exporter folds in f32, relc in f64.
        assert!(difference <= 1e-4, "{name}: differs by {difference:e} of the maximum");
    }
}

/// What `tools/make_reference.py` computed by dense matrices, of a network with both kinds of skips, negative scales of
/// BatchNormalizations and biases of its own and of folding's.
#[test]
fn the_repositorys_own_reference_is_reproduced() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/reference");
    let npz = Npz::open(format!("{folder}/net.npz"));
    let (x, logits) = (npz.f32("x"), npz.f32("logits"));
    let named = |name: &str| Preset::named(name).unwrap();
    let include = named("epsilon_plus").with_bias(BiasPolicy::Include).unwrap();
    for (array, preset) in [
        ("paper", named("paper")),
        ("conserve", named("conserve")),
        ("epsilon_plus", named("epsilon_plus")),
        ("epsilon_plus.include", include),
    ] {
        for (engine, tolerance) in [(Engine::InterpF64, 1e-6), (Engine::InterpF32, F32), (Engine::Jit, F32)] {
            let compiler = Compiler::new(preset.clone()).engine(engine);
            let explainer = compiler.compile(format!("{folder}/net.onnx")).unwrap();
            let seed = Seed::Named(explainer.preset().seed);
            let result = explainer.explain(x.view(), &seed, &Targets::Argmax).unwrap();
            let label = format!("{array} {}", engine.name());
            let off =
                max_difference(&result.logits.mapv(|v| v as f32).into_dyn(), &logits) / max_abs(&logits);
            assert!(off <= tolerance, "{label}: logits differ by {off:e} of the maximum");
            let reference = npz.f32(array);
            let off = max_difference(&result.explanations[0].relevance, &reference) / max_abs(&reference);
            assert!(off <= tolerance, "{label}: differs by {off:e} of the maximum");
        }
    }
    let [all, include] = ["epsilon_plus", "epsilon_plus.include"].map(|array| npz.f32(array));
    assert!(max_difference(&all, &include) > 0.01 * max_abs(&all), "folding's biases take nothing");
}
