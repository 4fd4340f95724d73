//! Presets against the arrays that other programs computed in f64: zennit's composites and the plain gradient.

use ndarray::ArrayD;
use relc::unstable::ir::rule::Bounds;
use relc::{BatchNormPolicy, Compiler, Engine, Preset, Seed, SeedKind, Targets};
use relc_ir::op::Activation;
use relc_tests::graphs::{Block, Plan, Skip, build};
use relc_tests::npz::Npz;
use relc_tests::shared::{max_abs, max_difference, shared};

/// The preset of each array.
const ARRAYS: [(&str, &str); 9] = [
    ("zennit.EpsilonPlus", "epsilon_plus"),
    ("zennit.EpsilonPlusFlat", "epsilon_plus_flat"),
    ("zennit.EpsilonAlpha2Beta1", "epsilon_alpha2_beta1"),
    ("zennit.EpsilonAlpha2Beta1Flat", "epsilon_alpha2_beta1_flat"),
    ("zennit.EpsilonGammaBox", "epsilon_gamma_box"),
    ("zennit.ExcitationBackprop", "excitation_backprop"),
    ("zennit.GuidedBackprop", "guided_backprop"),
    ("zennit.DeconvNet", "deconvnet"),
    ("grad", "gradient"),
];

/// What the f64 interpreter must reach: the references are rounded to f32.
const F64: f64 = 1e-5;

/// What f32 arithmetic must reach; pure gradients have no denominators that would scale errors back.
fn f32_tolerance(array: &str) -> f64 {
    let gradient = ["grad", "zennit.GuidedBackprop", "zennit.DeconvNet"].contains(&array);
    if gradient { 1e-3 } else { 1e-4 }
}

#[track_caller]
fn check(
    model: &str,
    npz: &Npz,
    array: &str,
    preset: &str,
    engine: Engine,
    tolerance: f64,
    failures: &mut Vec<String>,
) {
    let bounds = Bounds { low: vec![-3.0], high: vec![3.0] };
    let preset = Preset::named(preset).unwrap().with_bounds(bounds);
    // zennit's own folding, whose epsilon keeps acting; the plain gradient is that of the network as it is.
    let batchnorm = if array == "grad" { BatchNormPolicy::Keep } else { BatchNormPolicy::FoldAsZennit };
    let explainer = Compiler::new(preset).batchnorm(batchnorm).engine(engine).compile(model).unwrap();
    let (x, reference) = (npz.f32("x"), npz.f32(array));
    let result = explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::Argmax).unwrap();
    let explanation = &result.explanations[0];
    let targets: Vec<i64> = explanation.targets.iter().map(|t| *t as i64).collect();
    assert_eq!(targets, npz.i64("target"), "{model} {array}");
    explanation.ledger.check(1e-4).unwrap();
    let difference = max_difference(&explanation.relevance, &reference) / max_abs(&reference);
    println!("{model} {array} {}: {difference:.2e}", engine.name());
    failures.extend(
        (difference > tolerance).then(|| format!("{model} {array} {}: {difference:e}", engine.name())),
    );
}

#[test]
fn the_references_are_reproduced() {
    let Some(shared) = shared() else { return };
    let (mut checked, mut failures) = (0, Vec::new());
    for npz in shared.files("refs", ".npz") {
        let name = npz.file_stem().unwrap().to_string_lossy().into_owned();
        let arrays = Npz::open(&npz);
        for (array, preset) in ARRAYS.into_iter().filter(|(array, _)| arrays.has(array)) {
            let model = shared.reference_model(&name);
            check(&model, &arrays, array, preset, Engine::InterpF64, F64, &mut failures);
            check(&model, &arrays, array, preset, Engine::Jit, f32_tolerance(array), &mut failures);
            check(&model, &arrays, array, preset, Engine::InterpF32, f32_tolerance(array), &mut failures);
            checked += 1;
        }
    }
    assert!(failures.is_empty(), "of the maximum:\n{}", failures.join("\n"));
    assert!(checked >= 3 * ARRAYS.len(), "only {checked} arrays were found");
}

/// The relevance of a network over one axis, of one over three, and of one that pools by attention, by an independent
/// implementation of `conserve`.
#[test]
fn conserve_is_reproduced_on_signals_volumes_and_attention() {
    let Some(shared) = shared() else { return };
    let winner = include_str!("../../examples/presets/conserve_winner.toml");
    let winner = Preset::parse(winner, "conserve_winner.toml").unwrap();
    let presets = [("conserve.average", Preset::named("conserve").unwrap()), ("conserve.winner", winner)];
    for name in ["signal12", "volume10", "attnpool"] {
        let npz = Npz::open(shared.path(&format!("refs/{name}.npz")));
        for (array, preset) in &presets {
            let (x, reference) = (npz.f32("x"), npz.f32(array));
            for (engine, tolerance) in [(Engine::InterpF64, F64), (Engine::Jit, 1e-4)] {
                let compiler = Compiler::new(preset.clone()).engine(engine);
                let explainer = compiler.compile(shared.path(&format!("refs/{name}.onnx"))).unwrap();
                let seed = Seed::Named(SeedKind::Logit);
                let result = explainer.explain(x.view(), &seed, &Targets::Argmax).unwrap();
                let explanation = &result.explanations[0];
                let off = max_difference(&explanation.relevance, &reference) / max_abs(&reference);
                assert!(
                    off <= tolerance,
                    "{name}, {array}, {}: off by {off:e} of the maximum",
                    engine.name()
                );
                for sample in 0..2 {
                    assert!(
                        explanation.conservation_error(sample) < 1e-5,
                        "{name}, {array}, {}",
                        engine.name()
                    );
                }
            }
        }
    }
}

/// Guided backpropagation and DeconvNet change Relu; what is no Relu keeps its derivative.
#[test]
fn activations_other_than_relu_keep_their_derivative() {
    let block = Block { skip: Skip::Projection, halves: true, normalised: true, skip_first: false };
    let map = |preset: &str, activation| {
        let plan = Plan {
            channels: [2, 4],
            size: [8, 9],
            pooled: true,
            activation,
            blocks: vec![block],
            seed: 5,
            name: "net".into(),
        };
        let compiler = Compiler::new(Preset::named(preset).unwrap()).engine(Engine::InterpF64);
        let explainer = compiler.compile(build(&plan)).unwrap();
        let x = ArrayD::from_shape_fn(vec![1, 2, 8, 9], |i| ((i[1] * 72 + i[2] * 9 + i[3]) as f32).sin());
        let seed = Seed::Named(SeedKind::OneHot);
        explainer
            .explain(x.view(), &seed, &Targets::Outputs(vec![2]))
            .unwrap()
            .explanations
            .remove(0)
            .relevance
    };
    for preset in ["guided_backprop", "deconvnet"] {
        for activation in [
            Activation::LeakyRelu { alpha: 0.2 },
            Activation::Clip { min: 0.0, max: 1.0 },
            Activation::Elu { alpha: 1.0 },
        ] {
            let (got, gradient) = (map(preset, activation), map("gradient", activation));
            let off = max_difference(&got, &gradient) / max_abs(&gradient);
            assert!(off <= 1e-6, "{preset} on {activation:?}: differs by {off:e} of the maximum");
        }
        let (got, gradient) = (map(preset, Activation::Relu), map("gradient", Activation::Relu));
        assert!(max_difference(&got, &gradient) > 0.01 * max_abs(&gradient), "{preset} does nothing to Relu");
    }
}
