//! Properties of random residual networks: text forms, passes, conservation at every cut, batches.

use ndarray::{ArrayD, Axis};
use proptest::prelude::*;
use relc::{BatchNormPolicy, Compiler, Engine, Explainer, Preset, Seed, SeedKind, Targets};
use relc_ir::{Graph, parse, verify};
use relc_passes::{PassManager, pipeline};
use relc_tests::cuts::{Cuts, cuts};
use relc_tests::graphs::{Plan, Skip, build, plans};

#[track_caller]
fn check_text(graph: &Graph) {
    let text = graph.to_string();
    let again = parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert_eq!(again.to_string(), text);
    assert!(again == *graph, "the parsed graph differs from\n{text}");
    verify(&again).unwrap();
}

fn input(plan: &Plan, samples: usize) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(plan.seed ^ 1);
    let shape = vec![samples, plan.channels[0], plan.size[0], plan.size[1]];
    ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0)
}

fn explainer(plan: &Plan, engine: Engine) -> Explainer {
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).engine(engine);
    compiler.compile(build(plan)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// `parse(print(g)) == g` before and after every pass, under either preset; each join is found, and its skip.
    #[test]
    fn every_stage_prints_parses_and_verifies(plan in plans(), paper in any::<bool>(), fold in any::<bool>()) {
        let mut graph = build(&plan);
        check_text(&graph);
        let preset = Preset::named(if paper { "paper" } else { "conserve" }).unwrap();
        let batchnorm = if fold { BatchNormPolicy::Fold } else { BatchNormPolicy::Keep };
        PassManager::new(pipeline(&preset, batchnorm)).run(&mut graph, |_, g| check_text(g)).unwrap();
        let found: Vec<&str> = graph.residuals.iter().map(|r| r.skip_name()).collect();
        let built: Vec<&str> = plan.blocks.iter().map(|b| match b.skip {
            Skip::Identity => "identity",
            Skip::Projection => "projection",
            Skip::SlicePad => "unweighted",
        }).collect();
        prop_assert_eq!(found, built);
    }

    /// At every cut of the relevance graph the relevance that crosses it is the seed.
    #[test]
    fn conserve_conserves_at_every_cut(plan in plans()) {
        let explainer = explainer(&plan, Engine::InterpF64);
        prop_assert!(explainer.is_conserving());
        let x = input(&plan, 2).mapv(f64::from);
        // Another sum for each sample, so that what one sends to the other is seen.
        let seed = ArrayD::from_shape_fn(vec![2, 3], |i| 0.5 + i[1] as f64 + 4.0 * i[0] as f64);
        let Cuts { error, behind, ledger } = cuts(explainer.graph(), x, |_| seed);
        prop_assert!(error <= 1e-10, "{error:e} behind {behind}");
        ledger.check(1e-10).unwrap();
    }

    /// A batch gives what its samples give one by one, to the bit.
    #[test]
    fn a_batch_is_a_loop(plan in plans()) {
        let explainer = explainer(&plan, Engine::InterpF32);
        let x = input(&plan, 3);
        let run = |x: &ArrayD<f32>| {
            explainer.explain(x.view(), &Seed::Named(SeedKind::Logit), &Targets::TopK(2)).unwrap()
        };
        let whole = run(&x);
        for (sample, one) in x.axis_chunks_iter(Axis(0), 1).enumerate() {
            let single = run(&one.to_owned());
            for (a, b) in whole.explanations.iter().zip(&single.explanations) {
                prop_assert_eq!(a.targets[sample], b.targets[0]);
                prop_assert_eq!(a.relevance.index_axis(Axis(0), sample), b.relevance.index_axis(Axis(0), 0));
            }
        }
    }
}
