//! The mean of several networks' softmaxes: each network gets its share of it.

use ndarray::{Array2, ArrayD, Axis};
use relc::{Compiler, Engine, Preset, Seed, SeedKind, Targets};
use relc_tests::every::ensemble;
use relc_tests::shared::{max_abs, max_difference};

/// How often each network counts.
const WEIGHTS: [f64; 3] = [0.5, 0.25, 0.25];

/// Relevance is f32, and rules are linear: sums of maps differ from the map of a sum by rounding alone.
const ROUNDING: f64 = 1e-5;

fn softmax(logits: &Array2<f64>) -> Array2<f64> {
    let mut p = logits.mapv(f64::exp);
    p.axis_iter_mut(Axis(0)).for_each(|mut row| row /= row.sum());
    p
}

#[track_caller]
fn check(preset: &str, engine: Engine) {
    let compiler = Compiler::new(Preset::named(preset).unwrap()).engine(engine);
    let mut rng = fastrand::Rng::with_seed(7);
    let x = ArrayD::from_shape_simple_fn(vec![3, 2, 5, 6], || 2.0 * rng.f32());
    for target in 0..4 {
        let targets = Targets::Outputs(vec![target]);
        let explain = |only, seed| {
            let explainer = compiler.compile(ensemble(5, only)).unwrap_or_else(|e| panic!("{preset}: {e}"));
            assert_eq!(explainer.is_conserving(), preset == "conserve");
            let explained = explainer.explain(x.view(), &Seed::Named(seed), &targets).unwrap();
            let p = explainer.probabilities(&explained.logits);
            (explained, p)
        };
        let (all, p) = explain(None, SeedKind::Logit);
        let members = [0, 1, 2].map(|only| explain(Some(only), SeedKind::OneHot).0);
        let shares = [0, 1, 2].map(|k| softmax(&members[k].logits) * WEIGHTS[k]);
        let mean = &shares[0] + &shares[1] + &shares[2];
        // What is predicted is what the model says, and so are its probabilities.
        assert!(
            (&all.logits - &mean).iter().chain((&p - &mean).iter()).all(|d| d.abs() < ROUNDING),
            "{preset}"
        );
        let mut expected = ArrayD::<f32>::zeros(x.raw_dim());
        for (member, share) in members.iter().zip(&shares) {
            let maps = member.explanations[0].relevance.axis_iter(Axis(0));
            for ((mut sum, map), share) in expected.axis_iter_mut(Axis(0)).zip(maps).zip(share.column(target))
            {
                sum.zip_mut_with(&map, |sum, r| *sum += (share * f64::from(*r)) as f32);
            }
        }
        let got = &all.explanations[0].relevance;
        let off = max_difference(got, &expected) / max_abs(&expected);
        assert!(off < ROUNDING, "{preset} {}: target {target} is off by {off:e}", engine.name());
    }
}

#[test]
fn each_network_gets_its_share() {
    for engine in [Engine::InterpF64, Engine::Jit] {
        check("conserve", engine);
        check("paper", engine);
    }
}

#[test]
fn reports_say_where_relevance_starts() {
    let head = |preset: &str| {
        let explainer = Compiler::new(Preset::named(preset).unwrap()).compile(ensemble(5, None)).unwrap();
        relc::report::model_report(&explainer, None).stripped_head
    };
    assert_eq!(head("conserve"), Some("mixture"));
    // A derivative goes through the softmaxes.
    assert_eq!(head("gradient"), None);
}
