//! Folding BatchNormalization: into which layers, through which nodes, and what is said where it stays.

use ndarray::ArrayD;
use relc::report::{model_report, rule_report};
use relc::{BatchNormPolicy, Compiler, Engine, Explainer, Preset};
use relc_ir::op::{Arithmetic, BatchNormalization, Conv, Gemm, Reshape, Slice, Transpose, Window};
use relc_ir::{Dim, Graph, Op, ValueId};
use relc_tests::builder::Builder;

fn reshape(b: &mut Builder, x: ValueId, sizes: &[usize]) -> ValueId {
    let shape = [vec![Dim::Batch], sizes.iter().copied().map(Dim::Fixed).collect()].concat();
    b.node(Op::Reshape(Reshape { shape }), &[x])
}

fn norm(b: &mut Builder, x: ValueId) -> ValueId {
    let channels = b.sizes(x)[0];
    let parameters =
        [(0.5, 1.5), (-1.0, 1.0), (-1.0, 1.0), (0.5, 1.5)].map(|(l, h)| b.weight(&[channels], l, h));
    let op = Op::BatchNormalization(BatchNormalization { epsilon: 1e-3 });
    b.node(op, &[&[x], &parameters[..]].concat())
}

/// A convolution of six outputs, in two groups.
fn conv(b: &mut Builder, x: ValueId, kernel: [usize; 2]) -> ValueId {
    let channels = b.sizes(x)[0];
    let weight = b.weight(&[6, channels / 2, kernel[0], kernel[1]], -1.0, 1.0);
    let bias = b.weight(&[6], -1.0, 1.0);
    let op = Op::Conv(Conv { window: Window::new(kernel, [1, 1]), group: 2, folded_bias: false });
    b.node(op, &[x, weight, bias])
}

fn gemm(b: &mut Builder, x: ValueId, outputs: usize) -> ValueId {
    let inputs = b.sizes(x)[0];
    let weight = b.weight(&[inputs, outputs], -1.0, 1.0);
    b.node(Op::Gemm(Gemm { trans_b: false, folded_bias: false }), &[x, weight])
}

fn compile(graph: Graph, policy: BatchNormPolicy) -> Explainer {
    let preset = Preset::named("epsilon_plus").unwrap();
    Compiler::new(preset).batchnorm(policy).engine(Engine::InterpF64).compile(graph).unwrap()
}

fn network(input: &[usize], body: impl Fn(&mut Builder, ValueId) -> ValueId) -> Graph {
    let (mut b, x) = Builder::of("bn", 3, input);
    let y = body(&mut b, x);
    let size = b.sizes(y).iter().product();
    let flat = reshape(&mut b, y, &[size]);
    let y = gemm(&mut b, flat, 3);
    b.finish(y)
}

/// The network without its BatchNormalization computes what it did.
#[track_caller]
fn check_folds(input: &[usize], body: impl Fn(&mut Builder, ValueId) -> ValueId) {
    let kept = compile(network(input, &body), BatchNormPolicy::Keep);
    let folded = compile(network(input, &body), BatchNormPolicy::Fold);
    let norms = |e: &Explainer| {
        let graph = e.graph();
        graph.node_ids().filter(|n| matches!(graph.node(*n).op, Op::BatchNormalization(_))).count()
    };
    assert_eq!((norms(&kept), norms(&folded)), (1, 0));
    assert!(model_report(&folded, None).unfolded.is_empty());
    let shape = folded.input().unwrap().1.bind(2);
    let mut rng = fastrand::Rng::with_seed(4);
    let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 2.0 - 1.0);
    let (a, b) = (kept.predict(x.view()).unwrap(), folded.predict(x.view()).unwrap());
    let largest = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!((&a - &b).iter().all(|d| d.abs() <= 1e-6 * largest), "{a} {b}");
}

#[test]
fn through_moves_into_the_layer_before_them() {
    // A row's convolution, as importers write it.
    check_folds(&[4, 9], |b, x| {
        let x = reshape(b, x, &[4, 1, 9]);
        let y = conv(b, x, [1, 3]);
        let y = reshape(b, y, &[6, 7]);
        norm(b, y)
    });
    // A picture's, in f32[N,H,W,C] and back, with its end cut off as that of a transposed convolution.
    check_folds(&[4, 5, 5], |b, x| {
        let y = conv(b, x, [2, 2]);
        let y = b.node(Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[y]);
        let y = b.node(Op::Transpose(Transpose { perm: vec![0, 3, 2, 1] }), &[y]);
        let sizes = [Dim::Batch, Dim::Fixed(6), Dim::Fixed(3), Dim::Fixed(4)];
        let slice = Slice { starts: vec![0, 0, 1, 0], sizes: sizes.to_vec(), steps: vec![1; 4] };
        let y = b.node(Op::Slice(slice), &[y]);
        norm(b, y)
    });
    // A fully connected layer, and one whose outputs become a picture: twelve of them share a channel.
    check_folds(&[5], |b, x| {
        let y = gemm(b, x, 4);
        norm(b, y)
    });
    check_folds(&[5], |b, x| {
        let y = gemm(b, x, 24);
        let y = reshape(b, y, &[2, 3, 4]);
        norm(b, y)
    });
    // A product and a sum, with the moves between them.
    check_folds(&[4, 9], |b, x| {
        let x = reshape(b, x, &[36]);
        let weight = b.weight(&[36, 12], -1.0, 1.0);
        let y = b.node(Op::MatMul, &[x, weight]);
        let y = reshape(b, y, &[6, 2]);
        let bias = b.weight(&[6, 1], -1.0, 1.0);
        let y = b.node(Op::Arithmetic(Arithmetic::Add), &[y, bias]);
        norm(b, y)
    });
}

/// What stays is named with its reason in the report, in the table of rules and by a warning.
#[track_caller]
fn check_stays(reason: &str, body: impl Fn(&mut Builder, ValueId) -> ValueId) {
    let explainer = compile(network(&[4, 6, 6], body), BatchNormPolicy::Fold);
    let left = model_report(&explainer, None).unfolded;
    assert_eq!(left.len(), 1);
    assert!(left[0].node.contains("BatchNormalization") && left[0].reason.contains(reason), "{left:?}");
    let rules = rule_report(&explainer);
    let noted: Vec<_> = rules.iter().filter_map(|r| Some((r.op, r.unfolded.clone()?))).collect();
    assert_eq!(noted, [("BatchNormalization", left[0].reason.clone())]);
    let said = explainer.compiled().passes.iter().flat_map(|p| &p.remarks).map(ToString::to_string);
    let said: Vec<String> = said.filter(|r| r.starts_with("warning: 1 BatchNormalization(s) stay")).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains(reason), "{said:?}");
}

#[test]
fn what_stays_is_named_with_the_reason() {
    check_stays("follows \"bn/x\"", |b, x| {
        let y = norm(b, x);
        conv(b, y, [3, 3])
    });
    check_stays("has other users", |b, x| {
        let y = conv(b, x, [3, 3]);
        let normed = norm(b, y);
        b.node(Op::Arithmetic(Arithmetic::Add), &[y, normed])
    });
    check_stays("its channels are not those of", |b, x| {
        let y = conv(b, x, [3, 3]);
        let turned = b.node(Op::Transpose(Transpose { perm: vec![0, 2, 1, 3] }), &[y]);
        norm(b, turned)
    });
    // Nothing is said where nothing was to be folded.
    let body = |b: &mut Builder, x| norm(b, x);
    assert!(
        model_report(&compile(network(&[4, 6, 6], body), BatchNormPolicy::Keep), None).unfolded.is_empty()
    );
}
