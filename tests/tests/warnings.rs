//! What explanations warn of: maps that rounding decides, maps of zeros, values that f32 does not hold.

use ndarray::{Array2, ArrayD, Axis};
use relc::{Compiler, Engine, ExplainError, Explainer, Preset, SENSITIVE, Seed, SeedKind, Targets, Warning};
use relc_ir::op::{Activation, Gemm, Softmax};
use relc_ir::{Graph, Op, ValueId};
use relc_tests::builder::Builder;

fn compile(preset: &str, engine: Engine, graph: Graph) -> Explainer {
    Compiler::new(Preset::named(preset).unwrap()).engine(engine).compile(graph).unwrap()
}

fn gemm(b: &mut Builder, x: ValueId, outputs: usize, weight: Vec<f32>) -> ValueId {
    let inputs = b.sizes(x)[0];
    let weight = b.constant(&[outputs, inputs], weight);
    b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[x, weight])
}

/// `y_0 = x w`, which is what an epsilon rule divides by.
fn divides_by(w: [f32; 3]) -> Graph {
    let (mut b, x) = Builder::of("t", 0, &[3]);
    let y = gemm(&mut b, x, 2, [w, [0.5, 1.0, -1.0]].concat());
    b.finish(y)
}

/// `f32[3,3]`: all samples alike in kind, not in value.
fn input() -> ArrayD<f32> {
    ArrayD::from_shape_vec(vec![3, 3], vec![1.1, 2.3, 1.7, 0.3, 0.9, -1.3, 2.9, 0.7, 0.1]).unwrap()
}

/// The same, with two values that agree in all but the last digits.
fn alike() -> ArrayD<f32> {
    let mut x = input();
    x.axis_iter_mut(Axis(0)).for_each(|mut sample| sample[1] = sample[0] * (1.0 + 1e-5));
    x
}

fn explain(explainer: &Explainer, x: &ArrayD<f32>, seed: SeedKind) -> relc::Explanation {
    let targets = Targets::Outputs(vec![0]);
    explainer.explain(x.view(), &Seed::Named(seed), &targets).unwrap().explanations.remove(0)
}

#[test]
fn a_map_that_rounding_decides_is_measured_and_warned_of() {
    for engine in [Engine::Jit, Engine::InterpF32, Engine::InterpF64] {
        let cancelling = compile("epsilon_plus", engine, divides_by([1.0, -1.0, 0.0]));
        let all = explain(&cancelling, &alike(), SeedKind::OneHot);
        let changes = all.sensitivity.as_ref().unwrap();
        assert!(changes.iter().all(|c| *c > SENSITIVE), "{}: {changes:?}", engine.name());
        let warned = |w: &Vec<Warning>| matches!(w[..], [Warning::Rounding { .. }]);
        assert!(all.warnings.iter().all(warned), "{:?}", all.warnings);
        assert!(all.warnings[0][0].to_string().contains("--split ratio"), "{}", all.warnings[0][0]);
        // Whatever the batch, each sample has its own, and always the same.
        for (i, one) in alike().axis_chunks_iter(Axis(0), 1).enumerate() {
            let alone = explain(&cancelling, &one.to_owned(), SeedKind::OneHot);
            assert_eq!(alone.sensitivity.unwrap(), [changes[i]]);
        }
        let unasked = explain(&cancelling.without_sensitivity(), &alike(), SeedKind::OneHot);
        assert!(unasked.sensitivity.is_none() && unasked.warnings.iter().all(Vec::is_empty));
        assert_eq!(unasked.relevance, all.relevance);

        // Nothing cancels.
        let stable = explain(
            &compile("epsilon_plus", engine, divides_by([1.0, 1.0, 0.0])),
            &alike(),
            SeedKind::OneHot,
        );
        assert!(stable.sensitivity.unwrap().iter().all(|c| *c < 1e-3));
        assert!(stable.warnings.iter().all(Vec::is_empty));
    }
    // Where relevance is bounded, nothing is measured.
    let bounded = compile("conserve", Engine::Jit, divides_by([1.0, -1.0, 0.0]));
    assert!(!bounded.measures_sensitivity());
    assert!(explain(&bounded, &input(), SeedKind::OneHot).sensitivity.is_none());
}

/// `y = relu(x W)`.
fn relu_of(outputs: usize, weight: Vec<f32>) -> Graph {
    let (mut b, x) = Builder::of("t", 0, &[3]);
    let y = gemm(&mut b, x, outputs, weight);
    let y = b.node(Op::Activation(Activation::Relu), &[y]);
    let y = gemm(&mut b, y, outputs, Array2::eye(outputs).into_iter().collect());
    b.finish(y)
}

#[test]
fn a_map_of_zeros_says_why() {
    let row = [1.0, 2.0, 3.0];
    let check = |graph: Graph, seed, expected: Option<Warning>| {
        for engine in [Engine::Jit, Engine::InterpF64] {
            let got = explain(&compile("conserve", engine, graph.clone()), &input(), seed);
            assert_eq!(got.warnings[0], expected.into_iter().collect::<Vec<_>>(), "{}", engine.name());
            let largest = got.relevance.index_axis(Axis(0), 0).iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert_eq!(expected.is_some(), largest < 1e-7);
        }
    };
    let two = |second: [f32; 3]| relu_of(2, [row, second].concat());
    check(two([3.0, 1.0, 1.0]), SeedKind::Logit, None);
    check(two([3.0, 1.0, 1.0]), SeedKind::Contrast, None);
    check(relu_of(1, row.to_vec()), SeedKind::Contrast, Some(Warning::NothingToContrast));
    // A dead output: its logit is 0.
    check(relu_of(2, [row.map(|v: f32| -v), row].concat()), SeedKind::Logit, Some(Warning::ZeroSeed));
    // Two equal outputs.
    let (mut b, x) = Builder::of("t", 0, &[3]);
    let y = gemm(&mut b, x, 2, [row, row].concat());
    check(b.finish(y), SeedKind::Contrast, Some(Warning::NothingToContrast));
}

#[test]
fn a_gradient_of_zero_is_a_map_of_zeros() {
    let graph = relu_of(2, vec![-1.0, -2.0, -3.0, 3.0, 1.0, 1.0]);
    let got = explain(&compile("gradient", Engine::Jit, graph), &input(), SeedKind::OneHot);
    assert_eq!(got.warnings[0], [Warning::ZeroMap]);
}

/// What f64 holds and f32 does not is an error in every engine, and names the first node.
#[test]
fn relevance_beyond_f32_is_an_error() {
    let graph = || {
        let (mut b, x) = Builder::of("t", 0, &[3]);
        let y = gemm(&mut b, x, 2, vec![1e20; 6]);
        let y = gemm(&mut b, y, 2, vec![1e20; 4]);
        b.finish(y)
    };
    for engine in [Engine::Jit, Engine::InterpF32, Engine::InterpF64] {
        let explainer = compile("conserve", engine, graph());
        let seed = Seed::Named(SeedKind::Logit);
        let error = explainer.explain(input().view(), &seed, &Targets::Argmax).unwrap_err();
        assert!(error.to_string().contains("t/Gemm_"), "{}: {error}", engine.name());
        if engine == Engine::InterpF64 {
            assert!(matches!(error, ExplainError::BeyondF32 { .. }), "{error}");
            let error = explainer.tap(input().view(), &seed, &[0, 0, 0], "*").unwrap_err();
            assert!(error.to_string().contains("beyond the numbers of f32"), "{error}");
        }
    }
}

/// A final softmax over one of several axes gives the probabilities that the model gives, also through moves.
#[test]
fn probabilities_are_those_of_the_models_own_softmax() {
    use relc_ir::op::{Conv, Reshape, Transpose, Window};
    use relc_ir::{Dim, Head};
    let softmax = |axis| Op::Softmax(Softmax { axis, log: false });
    let turned = |perm: [usize; 4]| Op::Transpose(Transpose { perm: perm.to_vec() });
    let flat = || Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::Fixed(60)] });
    let cases: [(Vec<Op>, usize); 5] = [
        (vec![softmax(1)], 3),
        (vec![softmax(3)], 5),
        (vec![softmax(1), turned([0, 2, 3, 1])], 3),
        (vec![turned([0, 3, 1, 2]), softmax(2), flat()], 3),
        (vec![flat(), softmax(1)], 60),
    ];
    for (tail, size) in cases {
        let build = || {
            let (mut b, x) = Builder::of("t", 5, &[2, 4, 5]);
            let weight = b.weight(&[3, 2, 1, 1], -1.0, 1.0);
            let conv = Conv { window: Window::new([1, 1], [1, 1]), group: 1, folded_bias: false };
            let mut y = b.node(Op::Conv(conv), &[x, weight]);
            for op in &tail {
                y = b.node(op.clone(), &[y]);
            }
            b.finish(y)
        };
        let x = ArrayD::from_shape_fn(vec![2, 2, 4, 5], |i| {
            ((i[0] * 40 + i[1] * 20 + i[2] * 5 + i[3]) as f32).sin()
        });
        let forward = relc_interp::forward(&build(), &[x.mapv(f64::from)]).unwrap();
        let own: Vec<f64> = forward.outputs().next().unwrap().1.iter().copied().collect();
        let explainer = compile("conserve", Engine::InterpF64, build());
        assert!(matches!(explainer.head(), Head::Softmax(_)), "{tail:?}");
        let seed = Seed::Named(SeedKind::Contrast);
        let result = explainer.explain(x.view(), &seed, &Targets::Outputs(vec![7])).unwrap();
        let off = result.probabilities.iter().zip(&own).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-12, "{tail:?}: off by {off:e}");
        // The seed contrasts the target with the others of its group alone: it sums to 0, and is 1 - p there.
        let total = result.explanations[0].ledger.totals[0];
        assert!((total.seed_magnitude - 2.0 * (1.0 - own[7])).abs() < 1e-12, "{tail:?}");
        assert!(own.len() == 120 && (own.iter().sum::<f64>() - 120.0 / size as f64).abs() < 1e-9);
    }
}
