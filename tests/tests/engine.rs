//! The compiled engine against the f64 interpreter, on every instruction set of this machine.

use ndarray::{ArrayD, Axis};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use relc::unstable::ir::rule::{Bounds, Contract};
use relc::{Compiler, Engine, Explainer, Explanations, Isa, Preset, Seed, SeedKind, Targets};
use relc_ir::op::{Activation, Arithmetic, Gemm};
use relc_ir::{Graph, Op, TensorType, ValueId, Weight};
use relc_tests::agreement::{Model, check_accounts, presets};
use relc_tests::graphs::{Plan, build, plans};
use relc_tests::odd::{Link, chain, input_is_a_skip, many_branches, many_users, several_stems, small};
use relc_tests::shared::{max_abs, max_difference, shared};

/// What f32 kernels must reach, of the maximum.
const AGREEMENT: f64 = 1e-4;
/// What `conserve` promises in f32.
const CONSERVATION: f64 = 1e-5;

fn preset(name: &str) -> Preset {
    let (name, split) = name.split_once(' ').unwrap_or((name, "ratio"));
    Preset::named(name).unwrap().with_split(split.parse().unwrap())
}

fn explain(explainer: &Explainer, x: &ArrayD<f32>) -> Explanations {
    explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::TopK(2)).unwrap()
}

/// An input of the model's shape. Noise, because in many presets a MaxPool's winner takes all: where a smooth picture has pixels that
/// agree to f32's last digits, any f32 executor, the interpreter included, may choose another one than f64 does.
fn noise(explainer: &Explainer, samples: usize) -> ArrayD<f32> {
    let shape = explainer.input().unwrap().1.bind(samples);
    let mut rng = fastrand::Rng::with_seed(7);
    ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0)
}

/// Compares each sample's result, measured against its own maximum, and checks the books.
#[track_caller]
fn check(model: &Model<'_>, name: &str, samples: usize) {
    let compiler = Compiler::new(preset(name));
    let oracle = model.compile(&compiler.clone().engine(Engine::InterpF64)).unwrap();
    let x = noise(&oracle, samples);
    let expected = explain(&oracle, &x);
    for isa in Isa::available() {
        let explainer = model.compile(&compiler.clone().isa(isa)).unwrap();
        let got = explain(&explainer, &x);
        let difference = max_difference(
            &got.logits.mapv(|v| v as f32).into_dyn(),
            &expected.logits.mapv(|v| v as f32).into_dyn(),
        );
        let scale = expected.logits.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(
            difference <= AGREEMENT * scale,
            "{name} on {isa}: logits differ by {difference:e} of {scale:e}"
        );
        for (got, expected) in got.explanations.iter().zip(&expected.explanations) {
            assert_eq!(got.targets, expected.targets, "{name} on {isa}");
            let pairs = got.relevance.axis_iter(Axis(0)).zip(expected.relevance.axis_iter(Axis(0)));
            for (sample, (got, expected)) in pairs.enumerate() {
                let (got, expected) = (got.to_owned(), expected.to_owned());
                let difference = max_difference(&got, &expected) / max_abs(&expected).max(f64::MIN_POSITIVE);
                assert!(
                    difference <= AGREEMENT,
                    "{name} on {isa}, sample {sample}: differs by {difference:e}"
                );
            }
            got.ledger.check(CONSERVATION).unwrap_or_else(|e| panic!("{name} on {isa}: {e}"));
            check_accounts(&format!("{name} on {isa}"), &got.ledger, &expected.ledger);
            for (sample, (total, oracle)) in got.ledger.totals.iter().zip(&expected.ledger.totals).enumerate()
            {
                let lost = (total.lost - oracle.lost).abs() / oracle.seed_magnitude.max(f64::MIN_POSITIVE);
                assert!(
                    lost <= AGREEMENT,
                    "{name} on {isa}, sample {sample}: lost {} of {total:?}",
                    oracle.lost
                );
                if name == "conserve" {
                    let error = total.conservation_error();
                    assert!(error <= CONSERVATION, "{name} on {isa}, sample {sample}: {error:e}");
                }
            }
        }
    }
}

/// `f32[N,8]` through fully connected layers of one weight, stored once; with `twice`, what is between them is added to
/// itself.
fn tied(twice: bool) -> Graph {
    let mut graph = Graph::new("tied");
    let x = graph.add_input("x", TensorType::batched(&[8])).unwrap();
    let data: Vec<f32> = (0..64).map(|i| (i * 29 % 64) as f32 / 32.0 - 0.9).collect();
    let w = graph.add_weight(Weight::new("w", TensorType::new([8usize, 8]), data).unwrap()).unwrap();
    let gemm = |trans_b| Op::Gemm(Gemm { trans_b, folded_bias: false });
    let mut node = |op, operands: &[ValueId]| {
        let node = graph.add_node(op, "node", operands).unwrap();
        ValueId { node, port: 0 }
    };
    let up = node(gemm(true), &[x, w]);
    let mut between = node(Op::Activation(Activation::Relu), &[up]);
    if twice {
        between = node(Op::Arithmetic(Arithmetic::Add), &[between, between]);
    }
    let y = node(gemm(false), &[between, w]);
    graph.add_output("y", y);
    graph
}

#[test]
fn a_weight_that_layers_share_transposed_agrees_with_the_oracle() {
    for name in ["conserve", "paper", "epsilon", "gradient"] {
        check(&Model::Graph(&tied(false)), name, 2);
    }
}

#[test]
fn a_value_that_is_added_to_itself_agrees_with_the_oracle() {
    for name in ["conserve", "epsilon", "gradient", "guided_backprop"] {
        check(&Model::Graph(&tied(true)), name, 2);
    }
}

#[test]
fn every_reference_model_agrees_with_the_oracle() {
    let Some(shared) = shared() else { return };
    for model in shared.models() {
        let path = model.to_string_lossy();
        let samples = if path.contains("open_nsfw") { 1 } else { 2 };
        for name in
            ["conserve", "paper", "paper half", "paper half-at-projection", "paper ratio-at-projection"]
        {
            if samples == 1 && name.contains(' ') {
                continue; // large: the policies are seen on the others
            }
            let compiler = Compiler::new(preset(name)).engine(Engine::InterpF64);
            let unbounded = Model::File(&model).compile(&compiler).unwrap().leaks().iter().any(|leak| {
                leak.1 == Contract::Unbounded // `paper` on signed inputs: there any f32 executor is off
            });
            println!("{path} {name}{}", if unbounded { ": unbounded" } else { "" });
            if !unbounded {
                check(&Model::File(&model), name, samples);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random residual networks: odd sizes, channels that fill no vector, all kinds of skips.
    #[test]
    fn random_networks_agree_with_the_oracle(plan in plans(), samples in 1usize..4) {
        let graph = build(&plan);
        for name in ["conserve", "paper"] {
            check(&Model::Graph(&graph), name, samples);
        }
    }

    /// The same with activations whose values have both signs, where z+ has two sides.
    #[test]
    fn random_networks_of_both_signs_agree_with_the_oracle(plan in plans(), swish: bool) {
        let activation =
            if swish { Activation::Swish { alpha: 1.0 } } else { Activation::LeakyRelu { alpha: 0.2 } };
        check(&Model::Graph(&build(&Plan { activation, ..plan })), "conserve", 2);
    }

    /// A batch gives what its samples give one by one, and one thread what several give, to the bit.
    #[test]
    fn a_batch_is_a_loop_on_any_number_of_threads(plan in plans()) {
        for isa in Isa::available() {
            let compiler = Compiler::new(preset("conserve")).isa(isa);
            let explainer = compiler.compile(build(&plan)).unwrap();
            let x = noise(&explainer, 3);
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let whole = pool(1).install(|| explain(&explainer, &x));
            for threads in [2, 3] {
                let again = pool(threads).install(|| explain(&explainer, &x));
                for (a, b) in whole.explanations.iter().zip(&again.explanations) {
                    prop_assert_eq!(&a.relevance, &b.relevance);
                    prop_assert_eq!(&a.ledger, &b.ledger);
                }
            }
            for (sample, one) in x.axis_chunks_iter(Axis(0), 1).enumerate() {
                let single = explain(&explainer, &one.to_owned());
                for (a, b) in whole.explanations.iter().zip(&single.explanations) {
                    prop_assert_eq!(a.targets[sample], b.targets[0]);
                    prop_assert_eq!(a.relevance.index_axis(Axis(0), sample), b.relevance.index_axis(Axis(0), 0));
                }
            }
        }
    }
}

/// Several targets share what does not depend on them; each is explained as if it were alone, to the bit.
#[test]
fn a_target_among_others_is_explained_as_alone() {
    let (mut runner, plans) = (proptest::test_runner::TestRunner::deterministic(), plans());
    let mut plan = || plans.new_tree(&mut runner).unwrap().current();
    let swish = Plan { activation: Activation::Swish { alpha: 1.0 }, ..plan() };
    let graphs = [build(&plan()), build(&plan()), build(&swish), many_branches(3)];
    let seed = Seed::Named(SeedKind::Logit);
    for (graph, (name, preset)) in graphs.iter().flat_map(|g| presets().into_iter().map(move |p| (g, p))) {
        let explainer = Compiler::new(preset).compile(graph.clone()).unwrap();
        let x = noise(&explainer, 3);
        let together = explainer.explain(x.view(), &seed, &Targets::TopK(3)).unwrap();
        let limited = explainer.clone().with_memory_limit(explainer.memory_estimate(3));
        let forgetful = limited.explain(x.view(), &seed, &Targets::TopK(3)).unwrap();
        for (one, again) in together.explanations.iter().zip(&forgetful.explanations) {
            let target = Targets::Each(one.targets.clone());
            let alone = &explainer.explain(x.view(), &seed, &target).unwrap().explanations[0];
            for other in [again, alone] {
                assert_eq!(one.relevance, other.relevance, "{name} in\n{graph}");
                assert_eq!(one.ledger, other.ledger, "{name} in\n{graph}");
            }
        }
    }
}

/// A network whose layers exceed the caches: samples share a reading of their weights, several targets the denominators.
#[test]
fn a_batch_of_a_large_network_is_a_loop() {
    let Some(shared) = shared() else { return };
    // `paper` divides where it sums, `conserve` behind activations of both signs by two sums.
    for (name, file) in [("paper", "imagenet_resnet18.onnx"), ("conserve", "efficientnet_lite0.onnx")] {
        let path = shared.models().into_iter().find(|path| path.ends_with(file)).unwrap();
        let explainer = Compiler::new(preset(name)).compile(path).unwrap();
        let x = noise(&explainer, 3);
        let whole = explain(&explainer, &x);
        for (sample, one) in x.axis_chunks_iter(Axis(0), 1).enumerate() {
            let single = explain(&explainer, &one.to_owned());
            for (a, b) in whole.explanations.iter().zip(&single.explanations) {
                let (a, b) = (a.relevance.index_axis(Axis(0), sample), b.relevance.index_axis(Axis(0), 0));
                assert!(a == b, "{file}, sample {sample}");
            }
        }
    }
}

/// Inputs of both signs, and windows that see nothing but zeros: relevance that no denominator divides is spread.
#[test]
fn two_sided_denominators_that_vanish_agree_with_the_oracle() {
    let graph = relc_tests::graphs::sees_zeros();
    check(&Model::Graph(&graph), "conserve", 2);
    let explainer = Compiler::new(preset("conserve")).compile(graph).unwrap();
    let spread: f64 = explain(&explainer, &noise(&explainer, 1)).explanations[0]
        .ledger
        .entries
        .iter()
        .map(|e| e.samples[0].flat_fallback.abs())
        .sum();
    assert!(spread > 0.0, "nothing vanished");
}

/// Activations whose values are negative where their names would not make one think so.
#[test]
fn values_of_unusual_signs_agree_with_the_oracle() {
    for activation in [
        Activation::Clip { min: -6.0, max: -1.0 },
        Activation::Clip { min: -2.0, max: 3.0 },
        Activation::Selu { alpha: 1.6733, gamma: -1.0507 },
        Activation::Selu { alpha: -1.0, gamma: 1.0 },
        Activation::Elu { alpha: -0.5 },
        Activation::Celu { alpha: 0.5 },
        Activation::LeakyRelu { alpha: -0.3 },
        Activation::ThresholdedRelu { alpha: -1.0 },
        Activation::HardSigmoid { alpha: -0.4, beta: 0.3 },
        Activation::HardSwish,
        Activation::Gelu { tanh: false },
        Activation::Neg,
    ] {
        let (mut runner, plans) = (proptest::test_runner::TestRunner::deterministic(), plans());
        for _ in 0..3 {
            let plan = plans.new_tree(&mut runner).unwrap().current();
            check(&Model::Graph(&build(&Plan { activation, ..plan })), "conserve", 2);
        }
    }
}

/// An activation that makes something of nothing leaves what lies beyond the last channel zero: the books, which add up
/// whole vectors, balance.
#[test]
fn clips_that_exclude_zero_leave_the_books_balanced() {
    let (mut runner, plans) = (proptest::test_runner::TestRunner::deterministic(), plans());
    for activation in [Activation::Clip { min: 0.1, max: 1.5 }, Activation::Clip { min: -6.0, max: -1.0 }] {
        for _ in 0..3 {
            let plan = plans.new_tree(&mut runner).unwrap().current();
            let graph = build(&Plan { activation, ..plan });
            for isa in Isa::available() {
                let explainer =
                    Compiler::new(preset("epsilon half")).isa(isa).compile(graph.clone()).unwrap();
                let ledger = &explain(&explainer, &noise(&explainer, 2)).explanations[0].ledger;
                ledger.check(1e-3).unwrap_or_else(|e| panic!("{isa}: {e} in\n{graph}"));
            }
        }
    }
}

/// Every preset runs compiled what it calls supported, and gives finite numbers.
#[track_caller]
fn runs_under_every_preset(graph: &Graph) {
    for name in Preset::names() {
        let bounds = Bounds { low: vec![-2.0], high: vec![2.0] };
        let preset = Preset::named(name).unwrap().with_bounds(bounds);
        for isa in Isa::available() {
            let explainer = Compiler::new(preset.clone()).isa(isa).compile(graph.clone()).unwrap();
            explainer.rehearse().unwrap_or_else(|e| panic!("{name} on {isa}: {e} in\n{graph}"));
            let explanations = explain(&explainer, &noise(&explainer, 1));
            assert!(explanations.explanations[0].relevance.iter().all(|v| v.is_finite()), "{name} on {isa}");
        }
    }
}

#[test]
fn several_readers_of_the_input_agree_with_the_oracle() {
    for image in [[3, 8, 8], [1, 5, 7], [4, 6, 3], [2, 1, 9], [5, 4, 4]] {
        for graph in [several_stems(image, &[3, 1]), several_stems(image, &[1, 5, 3]), input_is_a_skip(image)]
        {
            runs_under_every_preset(&graph);
            for name in ["conserve", "conserve half", "paper"] {
                check(&Model::Graph(&graph), name, 1);
            }
        }
    }
}

#[test]
fn odd_pictures_agree_with_the_oracle() {
    let shapes = [[1, 1, 1], [3, 1, 1], [1, 400, 1], [4, 1, 400], [17, 2, 1], [3, 5, 4]];
    for (i, image) in shapes.into_iter().enumerate() {
        for kernel in [[1, 1], [3, 3], [1, 7], [5, 1]] {
            let graph = small(image, kernel, i % 2 == 0, kernel[0] > 1);
            runs_under_every_preset(&graph);
            check(&Model::Graph(&graph), "conserve", 2);
        }
    }
}

/// More operands than a kernel takes.
#[test]
fn values_of_many_users_agree_with_the_oracle() {
    for graph in [many_users(300), many_branches(300)] {
        for name in ["conserve", "gradient"] {
            check(&Model::Graph(&graph), name, 1);
        }
        let compiler = Compiler::new(preset("epsilon_plus"));
        compiler.compile(graph).unwrap().rehearse().unwrap();
    }
}

/// The mean over a large picture is linear in its pixels, forward and backward, under every rule.
#[test]
fn means_over_large_pictures_are_linear() {
    for image in [[1, 700, 700], [3, 20, 32_775], [1, 1, 500_000]] {
        let graph = small(image, [1, 1], false, false);
        for name in Preset::names() {
            let bounds = Bounds { low: vec![-2.0], high: vec![2.0] };
            let preset = Preset::named(name).unwrap().with_bounds(bounds);
            let explainer = Compiler::new(preset).compile(graph.clone()).unwrap();
            // Dense, that would be an exabyte.
            assert!(explainer.executable().unwrap().weights_bytes() < 64 << 20, "{name}");
            explainer.rehearse().unwrap();
        }
    }
    for name in ["conserve", "paper", "gradient"] {
        check(&Model::Graph(&small([1, 300, 200], [1, 1], false, false)), name, 1);
    }
}

/// Long chains: nothing walks them once for each node, and nothing recurses along them.
#[test]
fn long_chains_compile() {
    let links = [
        Link::Activation(Activation::Relu),
        Link::Activation(Activation::Tanh),
        Link::Activation(Activation::LeakyRelu { alpha: 0.9 }),
        Link::Shift,
        Link::Join,
    ];
    for link in links {
        let start = std::time::Instant::now();
        let compile = move || {
            let explainer = Compiler::new(preset("conserve")).compile(chain(10_000, link)).unwrap();
            explainer.rehearse().unwrap();
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(compile).unwrap().join().unwrap();
        println!("{link:?}: {:?}", start.elapsed());
    }
}

/// Several threads explain different pictures with one explainer at the same time.
#[test]
fn threads_share_an_explainer() {
    let explainer = Compiler::new(preset("conserve")).compile(demo()).unwrap();
    let xs: Vec<ArrayD<f32>> = (0..4).map(|i| noise(&explainer, 1).mapv(|v| v * (1.0 + i as f32))).collect();
    let expected: Vec<_> =
        xs.iter().map(|x| explain(&explainer, x).explanations[0].relevance.clone()).collect();
    std::thread::scope(|scope| {
        for (x, expected) in xs.iter().zip(&expected) {
            let explainer = &explainer;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(&explain(explainer, x).explanations[0].relevance, expected);
                }
            });
        }
    });
}

/// Without a ledger the same relevance comes out, and the totals still say how well it is conserved.
#[test]
fn the_ledger_can_be_dropped() {
    for (name, preset) in presets() {
        let explainer = Compiler::new(preset).compile(demo()).unwrap();
        let x = noise(&explainer, 2);
        let with = explain(&explainer, &x);
        let without = explain(&explainer.without_ledger(), &x);
        for (a, b) in with.explanations.iter().zip(&without.explanations) {
            assert_eq!(a.relevance, b.relevance, "{name}");
            assert!(b.ledger.entries.is_empty() && !a.ledger.entries.is_empty(), "{name}");
            for sample in [0, 1] {
                assert_eq!(a.conservation_error(sample), b.conservation_error(sample), "{name}");
            }
        }
    }
}

fn demo() -> String {
    format!("{}/../examples/demo/model.onnx", env!("CARGO_MANIFEST_DIR"))
}
