//! Rules on linear layers against dense matrices.
//!
//! The oracle turns the layer into a matrix by running it on unit inputs and restates the rule in matrix algebra.

mod common;

use common::*;
use ndarray::{Array1, Array2, ArrayD};
use proptest::prelude::*;
use relc_interp::{Backward, forward};
use relc_ir::ledger::Account;
use relc_ir::op::{MAX_SPATIAL, Relevance, Window, WindowAxis};
use relc_ir::rule::{BiasPolicy, Fallback, InputPart, LinearRule, Stabiliser, WeightPart};
use relc_ir::{Graph, Op};

/// A layer on one sample and its weights.
#[derive(Debug)]
struct Case {
    op: Op,
    input: Vec<usize>,
    weights: Vec<(Vec<usize>, Vec<f64>)>,
}

impl Case {
    fn graph(&self) -> (Graph, relc_ir::NodeId) {
        let weights: Vec<(&[usize], &[f64])> =
            self.weights.iter().map(|(s, v)| (s.as_slice(), v.as_slice())).collect();
        single(self.op.clone(), &self.input, &weights)
    }

    fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    fn shape(&self, batch: usize) -> Vec<usize> {
        std::iter::once(batch).chain(self.input.iter().copied()).collect()
    }

    /// The layer's output for a batch of inputs.
    fn run(&self, x: &ArrayD<f64>) -> ArrayD<f64> {
        let (graph, node) = self.graph();
        forward(&graph, std::slice::from_ref(x)).unwrap().value(value(node)).unwrap().clone()
    }

    /// The matrix `[J,I]` of the layer, and its bias.
    fn matrix(&self) -> (Array2<f64>, Array1<f64>) {
        let n = self.inputs();
        let zero = self.run(&ArrayD::zeros(self.shape(1)));
        let mut units = ArrayD::zeros(self.shape(n));
        units.as_slice_mut().unwrap().iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
        let out = self.run(&units);
        let rows = out.len() / n;
        let bias = zero.flatten().to_owned();
        let columns = out.into_shape_with_order((n, rows)).unwrap() - &bias;
        (columns.reversed_axes(), bias)
    }

    /// Where the layer has a weight at all, even a zero one: the receptive fields.
    fn mask(&self) -> Array2<f64> {
        let ones = |(shape, v): &(Vec<usize>, Vec<f64>)| (shape.clone(), vec![1.0; v.len()]);
        let weights = self.weights.first().map(ones).into_iter().collect();
        let case = Case { op: self.op.clone(), input: self.input.clone(), weights };
        case.matrix().0.mapv(|w| if w > 1e-9 { 1.0 } else { 0.0 })
    }

    fn explain(&self, rule: &LinearRule, x: &ArrayD<f64>, seed: &ArrayD<f64>) -> Backward<f64> {
        let (mut graph, node) = self.graph();
        let op = Relevance::Linear { layer: layer(&self.op), rule: rule.clone() };
        let include = usize::from(rule.bias == BiasPolicy::Include && self.weights.len() > 1);
        explained(&mut graph, node, op, 1 + self.weights.len().min(1) + include);
        explain(&graph, x, seed)
    }
}

fn input_part(x: f64, part: InputPart) -> f64 {
    match part {
        InputPart::Raw => x,
        InputPart::Positive => x.max(0.0),
        InputPart::Negative => x.min(0.0),
        InputPart::Ones => 1.0,
        InputPart::MinusLow | InputPart::MinusHigh => panic!("no rule here has a box"),
    }
}

fn weight_part(w: f64, mask: f64, part: WeightPart) -> f64 {
    if part == WeightPart::Ones { mask } else { part.of(w, 0.0) }
}

/// The rule in matrix algebra for one sample, and its books.
fn dense(case: &Case, rule: &LinearRule, x: &[f64], r: &[f64]) -> (Vec<f64>, Account) {
    let (w, b) = case.matrix();
    let mask = case.mask();
    let parts: Vec<(Vec<f64>, Array2<f64>)> = rule
        .terms()
        .map(|term| {
            let x = x.iter().map(|&x| input_part(x, term.input)).collect();
            let mut part = w.clone();
            part.zip_mut_with(&mask, |w, m| *w = weight_part(*w, *m, term.weight));
            (x, part)
        })
        .collect();
    let mut out = vec![0.0; x.len()];
    let mut account = Account::default();
    for (j, &r) in r.iter().enumerate() {
        let contribution = |i: usize| parts.iter().map(|(x, w)| x[i] * w[[j, i]]).sum::<f64>();
        let bias = if rule.bias == BiasPolicy::Include { b[j] } else { 0.0 };
        let z = (0..x.len()).map(contribution).sum::<f64>() + bias;
        let eps = rule.stabiliser.term(z, 0.0);
        let fan_in = mask.row(j).sum();
        if rule.fallback == Fallback::Flat && (z + eps).abs() < 1e-20 {
            if fan_in == 0.0 {
                account.padding += r;
            } else {
                (0..x.len()).for_each(|i| out[i] += mask[[j, i]] * r / fan_in);
                account.flat_fallback += r;
            }
        } else if z + eps == 0.0 {
            if fan_in == 0.0 { account.padding += r } else { account.clipped += r }
        } else {
            let s = r / (z + eps);
            (0..x.len()).for_each(|i| out[i] += contribution(i) * s);
            account.bias += s * bias;
            account.stabiliser += s * eps;
        }
    }
    (out, account)
}

/// Inputs with many zeros and both signs.
fn activations(seed: u64, count: usize, negative: bool) -> Vec<f64> {
    let low = if negative { -1.0 } else { 0.0 };
    noise(seed, count).into_iter().map(|v| if v.abs() < 0.3 { 0.0 } else { v.max(low) }).collect()
}

fn check_against_dense(case: &Case, rule: &LinearRule, seed: u64, negative: bool, tolerance: f64) {
    let x = activations(seed, case.inputs(), negative);
    let x = array::<f64>(&case.shape(1), &x);
    let r = noise_array::<f64>(seed ^ 7, case.run(&x).shape());
    let (expected, books) = dense(case, rule, x.as_slice().unwrap(), r.as_slice().unwrap());
    let back = case.explain(rule, &x, &r);
    let scale = expected.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (got, expected) in back.inputs[0].1.iter().zip(&expected) {
        assert!((got - expected).abs() <= tolerance * scale, "got {got}, expected {expected} (of {scale})");
    }
    let got = back.ledger.entries[1].samples[0];
    let pairs = [
        (got.bias, books.bias),
        (got.stabiliser, books.stabiliser),
        (got.clipped, books.clipped),
        (got.padding, books.padding),
        (got.flat_fallback, books.flat_fallback),
    ];
    for (got, expected) in pairs {
        assert!((got - expected).abs() <= tolerance * scale * expected.abs().max(1.0), "{pairs:?}");
    }
    back.ledger.check(1e-9).unwrap();
}

/// Random small convolutions of one to three axes, some of whose windows cover padding only.
fn convolutions() -> impl Strategy<Value = Case> {
    let axis = (1usize..6, 1usize..4, 1usize..4, [0usize..3, 0..3], 1usize..3);
    let axis = axis.prop_map(|(size, kernel, stride, pads, dilation)| {
        (size, WindowAxis { kernel, stride, pads, dilation })
    });
    let axes = prop::collection::vec(axis, 1..=MAX_SPATIAL);
    (1usize..3, 1usize..3, 1usize..3, axes, any::<u64>()).prop_filter_map(
        "no window fits, or there is much to do",
        |(group, c, m, axes, seed)| {
            let (size, axes): (Vec<usize>, Vec<WindowAxis>) = axes.into_iter().unzip();
            let window = Window { axes: axes.into_iter().collect(), ceil: false };
            let windows = window.output_size(&size).ok()?;
            if windows.iter().chain(&size).product::<usize>() > 4000 {
                return None;
            }
            let shape = [&[m * group, c], &window.kernel()[..]].concat();
            let weights = noise(seed, shape.iter().product());
            Some(Case {
                op: Op::Conv(conv(window, group)),
                input: [&[c * group], &size[..]].concat(),
                weights: vec![(shape, weights), (vec![m * group], noise(seed ^ 3, m * group))],
            })
        },
    )
}

fn rules() -> impl Strategy<Value = LinearRule> {
    let terms = vec!["a+*w+ a-*w-", "a+*w+", "a*w", "1*w+", "1*1", "1*w^2", "a-*w+ a+*w-", "a*1 1*w"];
    let stabilisers = vec![Stabiliser::None, Stabiliser::Plus(0.25), Stabiliser::Signed(0.25)];
    let bias = prop_oneof![Just(BiasPolicy::Include), Just(BiasPolicy::Exclude)];
    let fallback = prop_oneof![Just(Fallback::None), Just(Fallback::Flat)];
    (prop::sample::select(terms), prop::sample::select(stabilisers), bias, fallback)
        .prop_map(|(terms, stabiliser, bias, fallback)| rule(terms, stabiliser, bias, fallback))
}

proptest! {
    /// Denominators of mixed signs can cancel, which takes digits: the tolerance is on the largest relevance.
    #[test]
    fn convolutions_are_dense_algebra(case in convolutions(), rule in rules(), seed: u64, negative: bool) {
        check_against_dense(&case, &rule, seed, negative, 1e-10);
    }

    #[test]
    fn fully_connected_is_dense_algebra(
        k in 1usize..20, m in 1usize..6, trans_b: bool, rule in rules(), seed: u64, negative: bool,
    ) {
        let shape = if trans_b { vec![m, k] } else { vec![k, m] };
        let weights = vec![(shape, noise(seed ^ 5, k * m)), (vec![m], noise(seed ^ 6, m))];
        check_against_dense(&Case { op: gemm(trans_b), input: vec![k], weights }, &rule, seed, negative, 1e-10);
    }

    #[test]
    fn average_pools_are_dense_algebra(
        size in prop::collection::vec(2usize..6, 1..=MAX_SPATIAL), kernel in 1usize..4, stride in 1usize..3,
        pad in 0usize..2, include: bool, global: bool, rule in rules(), seed: u64, negative: bool,
    ) {
        let axis = WindowAxis { kernel, stride, pads: [pad; 2], dilation: 1 };
        let window = Window { axes: size.iter().map(|_| axis).collect(), ceil: false };
        let fits = window.output_size(&size).is_ok();
        let op = if global || !fits { Op::GlobalAveragePool } else { average(window, include) };
        let case = Case { op, input: [&[2], &size[..]].concat(), weights: vec![] };
        check_against_dense(&case, &rule, seed, negative, 1e-10);
    }

    /// Nothing is lost but what reaches windows without any input, whatever the activations.
    #[test]
    fn the_conserving_rule_conserves(case in convolutions(), seed: u64, negative: bool, dead: bool) {
        let mut x = activations(seed, 2 * case.inputs(), negative);
        if dead {
            x.fill(0.0);
        }
        let x = array::<f64>(&case.shape(2), &x);
        let r = noise_array::<f64>(seed ^ 7, case.run(&x).shape()).mapv(f64::abs);
        let back = case.explain(&conserving(), &x, &r);
        for (total, account) in back.ledger.totals.iter().zip(&back.ledger.entries[1].samples) {
            prop_assert!((total.inputs + account.padding - total.seed).abs() <= 1e-12 * total.seed_magnitude);
            prop_assert_eq!((account.bias, account.stabiliser, account.clipped), (0.0, 0.0, 0.0));
        }
        back.ledger.check(1e-12).unwrap();
    }
}

#[test]
fn layers_across_tiles_are_dense_algebra() {
    // More than one tile of input channels and of output rows, with strides and without.
    for (kernel, stride, pad) in [(1, 1, 0), (3, 2, 1)] {
        let shape = vec![4, 36, kernel, kernel];
        let weights = vec![(shape, noise(3, 4 * 36 * kernel * kernel)), (vec![4], noise(4, 4))];
        let input = vec![36, 5, 5];
        let case = Case { op: Op::Conv(conv(window(kernel, stride, pad), 1)), input, weights };
        check_against_dense(&case, &conserving(), 11, true, 1e-11);
    }
}

#[test]
fn wide_images_conserve() {
    // The output has several stripes of rows, whose patches overlap.
    let positive = noise(3, 18).into_iter().map(|w| w.abs() + 0.01).collect();
    let weights = vec![(vec![2, 1, 3, 3], positive)];
    let case = Case { op: Op::Conv(conv(window(3, 1, 1), 1)), input: vec![1, 20, 300], weights };
    let x = noise_array::<f64>(1, &case.shape(1)).mapv(|v: f64| v.abs() + 0.1);
    let r = ArrayD::ones(case.run(&x).raw_dim());
    let back = case.explain(&conserving(), &x, &r);
    assert!(back.ledger.totals[0].conservation_error() < 1e-12);
    assert_eq!(back.ledger.entries[1].samples[0].flat_fallback, 0.0);
    // An interior pixel's relevance by the definition.
    let w = &case.weights[0].1;
    let at = |y: usize, x: usize| y * 300 + x;
    let a = x.as_slice().unwrap();
    for (py, px) in [(3, 5), (4, 150), (2, 298), (10, 10)] {
        let mut expected = 0.0;
        for (m, ky, kx) in (0..2).flat_map(|m| (0..9).map(move |t| (m, t / 3, t % 3))) {
            let (oy, ox) = ((py + 1 - ky) as i64, (px + 1 - kx) as i64);
            let den: f64 = (0..9)
                .map(|t| (t, oy + t / 3 - 1, ox + t % 3 - 1))
                .filter(|(_, y, x)| (0..20).contains(y) && (0..300).contains(x))
                .map(|(t, y, x)| a[at(y as usize, x as usize)] * w[m * 9 + t as usize].max(0.0))
                .sum();
            let inside = (0..20).contains(&oy) && (0..300).contains(&ox);
            if inside && den > 0.0 {
                expected += a[at(py, px)] * w[m * 9 + ky * 3 + kx].max(0.0) / den;
            }
        }
        let got = back.inputs[0].1[[0, 0, py, px]];
        assert!((got - expected).abs() < 1e-9, "({py},{px}): got {got}, expected {expected}");
    }
}

#[test]
fn a_folded_bias_never_enters() {
    let mut folded = conv(window(1, 1, 0), 1);
    folded.folded_bias = true;
    let weights = vec![(vec![1, 1, 1, 1], vec![2.0]), (vec![1], vec![6.0])];
    let include = rule("a*w", Stabiliser::None, BiasPolicy::Include, Fallback::None);
    let x = array::<f64>(&[1, 1, 1, 1], &[1.0]);
    for (op, relevance, bias) in [(conv(window(1, 1, 0), 1), 1.0, 3.0), (folded, 4.0, 0.0)] {
        let case = Case { op: Op::Conv(op), input: vec![1, 1, 1], weights: weights.clone() };
        let back = case.explain(&include, &x, &array(&[1, 1, 1, 1], &[4.0]));
        assert_close(&back.inputs[0].1, &[relevance], 1e-15);
        assert_eq!(back.ledger.entries[1].samples[0].bias, bias);
    }
}

#[test]
fn tiny_denominators_take_the_fallback() {
    // 1e-30 is a normal f64, and below the threshold that all executors share.
    let case = Case { op: gemm(true), input: vec![2], weights: vec![(vec![1, 2], vec![1.0, 0.0])] };
    let x = array::<f64>(&[1, 2], &[1e-30, 0.0]);
    let back = case.explain(&conserving(), &x, &array(&[1, 1], &[3.0]));
    assert_close(&back.inputs[0].1, &[1.5, 1.5], 0.0);
    assert_eq!(back.ledger.entries[1].samples[0].flat_fallback, 3.0);
}
