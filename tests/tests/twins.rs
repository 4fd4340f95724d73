//! One network has one map, however an exporter wrote it.

use ndarray::{ArrayD, Axis};
use proptest::prelude::*;
use relc::unstable::ir::rule::Bounds;
use relc::{BatchNormPolicy, Compiler, Engine, Preset, Seed, SeedKind, Targets};
use relc_ir::Graph;
use relc_tests::twins::{Form, Plan, build, plans};

/// How many times what a change of 6e-8 in the weights did is allowed: two forms differ by several such changes, of which
/// those that were tried are a sample.
const SLACK: f64 = 30.0;

/// The maps are rounded to f32.
const ROUNDING: f64 = 2e-7;

/// The explanation of output 1 of two samples, by the f64 interpreter.
fn explain(preset: &Preset, graph: Graph, seed: u64) -> ArrayD<f32> {
    let compiler = Compiler::new(preset.clone()).engine(Engine::InterpF64);
    let explainer = compiler.compile(graph).unwrap().without_sensitivity();
    let mut rng = fastrand::Rng::with_seed(seed);
    let shape = explainer.input().unwrap().1.bind(2);
    let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0);
    let seed = Seed::Named(SeedKind::OneHot);
    explainer.explain(x.view(), &seed, &Targets::Outputs(vec![1])).unwrap().explanations.remove(0).relevance
}

/// For each sample, the largest difference as a fraction of the maximum.
fn off(a: &ArrayD<f32>, b: &ArrayD<f32>) -> Vec<f64> {
    let of = |(a, b): (ndarray::ArrayViewD<'_, f32>, ndarray::ArrayViewD<'_, f32>)| {
        let largest = a.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
        let differs = a.iter().zip(&b).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
        if differs == 0.0 { 0.0 } else { differs / largest }
    };
    a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(0))).map(of).collect()
}

/// The presets as they are claimed to give twins one map, whatever the signs of their BatchNormalizations' scales or
/// only where none is negative.
fn preset(name: &str) -> Preset {
    let bounds = Bounds { low: vec![-2.0], high: vec![2.0] };
    if name != "paper" {
        return Preset::named(name).unwrap().with_bounds(bounds);
    }
    // Its 1e-5 in every denominator weighs more or less with the unit of a channel: the authors' code has it so.
    let text = Preset::text("paper").unwrap().replace("plus_eps = 1e-5", "plus_eps = 1e-14");
    Preset::parse(&text, "paper").unwrap()
}

fn check(plan: &Plan) {
    for name in Preset::names() {
        let preset = preset(name);
        // Where it is kept, relevance passes it, and folding hides the sign of its scale from the rules.
        let signs = preset.batchnorm != BatchNormPolicy::Keep || name == "gradient";
        if plan.negative && !signs {
            continue;
        }
        let map = |form| explain(&preset, build(plan, form), plan.seed);
        let folded = map(Form::Folded);
        let mut allowed = vec![ROUNDING; 2];
        for way in 0..3 {
            let nudged = off(&folded, &map(Form::Nudged(way)));
            allowed.iter_mut().zip(nudged).for_each(|(a, d)| *a = a.max(d * SLACK + ROUNDING));
        }
        // Its BatchNormalizations that nothing folds have their derivative, and factors let relevance pass.
        let kept = name == "excitation_backprop";
        for form in Form::TWINS.into_iter().filter(|form| !(kept && *form == Form::WrittenOut)) {
            for (sample, (off, allowed)) in off(&folded, &map(form)).into_iter().zip(&allowed).enumerate() {
                assert!(off <= *allowed, "{name}, {form:?}, sample {sample}: off by {off:e} of {allowed:e}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Under every preset: with its BatchNormalizations, folded by an exporter, in other units, between nodes that do
    /// nothing, and with biases and padding apart.
    #[test]
    fn twins_have_one_map_under_every_preset(plan in plans()) {
        check(&plan);
    }
}
