//! The relevance ops that are no linear layers, the ledger, and what is refused.

mod common;

use common::*;
use relc_interp::{InterpError, Options, backward, forward};
use relc_ir::op::*;
use relc_ir::rule::{BiasPolicy, Fallback, Frame, Stabiliser};
use relc_ir::{Dim, Graph, Op, TensorType};

/// The sum of `n` inputs' values, each its own input of the graph, split by `kind`.
fn join(n: usize, skip: usize, kind: SplitKind) -> Graph {
    let mut graph = Graph::new("join");
    let inputs: Vec<_> =
        (0..n).map(|i| graph.add_input(&format!("x{i}"), TensorType::batched(&[2])).unwrap()).collect();
    let sum = graph.add_node(Op::Arithmetic(Arithmetic::Add), "join", &inputs).unwrap();
    graph.add_output("y", value(sum));
    let r = seed(&mut graph, sum);
    let mut operands = inputs.clone();
    operands.push(r);
    let op = Op::Relevance(Relevance::Split { kind, branches: n, skip });
    let split = graph.add_relevance(op, sum, &operands).unwrap();
    graph.relevance_outputs =
        inputs.iter().enumerate().map(|(port, x)| (x.node, relc_ir::ValueId { node: split, port })).collect();
    graph
}

#[test]
fn splits_share_what_arrives() {
    let inputs = [array::<f64>(&[2, 2], &[3.0, 0.0, 0.0, 1.0]), array(&[2, 2], &[-1.0, 0.0, 0.0, 0.0])];
    let r = array(&[2, 2], &[4.0, 2.0, 0.0, -1.0]);
    let run = |kind, skip| {
        let graph = join(2, skip, kind);
        let pass = forward(&graph, &inputs).unwrap();
        backward(&graph, &pass, &r, &Options::default()).unwrap()
    };
    // Magnitudes count, and 0/0 is even.
    let back = run(SplitKind::Ratio, 1);
    assert_close(&back.inputs[0].1, &[3.0, 1.0, 0.0, -1.0], 0.0);
    assert_close(&back.inputs[1].1, &[1.0, 1.0, 0.0, 0.0], 0.0);
    let join = &back.ledger.joins[0];
    assert_eq!((join.name.as_str(), join.skip, join.share.as_slice()), ("join", 1, &[2.0 / 6.0, 0.0][..]));
    // Which branch is the skip makes no difference to the ratio.
    assert_eq!(run(SplitKind::Ratio, 0).inputs, back.inputs);
    let half = run(SplitKind::Half, 0);
    assert_close(&half.inputs[0].1, &[2.0, 1.0, 0.0, -0.5], 0.0);
    assert_eq!(half.inputs[0].1, half.inputs[1].1);
    for (only, other) in [(0, 1), (1, 0)] {
        let back = run(SplitKind::Only(only), 1);
        assert_close(&back.inputs[only].1, &[4.0, 2.0, 0.0, -1.0], 0.0);
        assert_close(&back.inputs[other].1, &[0.0; 4], 0.0);
        back.ledger.check(0.0).unwrap();
    }
}

#[test]
fn three_branches_and_no_relevance() {
    let graph = join(3, 2, SplitKind::Ratio);
    let inputs = [[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]].map(|v| array::<f32>(&[1, 2], &v));
    let pass = forward(&graph, &inputs).unwrap();
    let back = backward(&graph, &pass, &array(&[1, 2], &[8.0, 3.0]), &Options::default()).unwrap();
    let got: Vec<Vec<f32>> = back.inputs.iter().map(|(_, r)| r.iter().copied().collect()).collect();
    for (got, expected) in got.iter().zip([2.0, 4.0, 2.0]) {
        assert!((got[0] - expected).abs() < 1e-6 && (got[1] - 1.0).abs() < 1e-6, "{got:?}");
    }
    // One forward pass serves another target; a zero seed has no share.
    let back = backward(&graph, &pass, &array(&[1, 2], &[0.0, 0.0]), &Options::default()).unwrap();
    assert_eq!(back.ledger.joins[0].share, [0.0]);
    assert_eq!(back.ledger.totals[0].conservation_error(), 0.0);
}

#[test]
fn the_first_of_equal_values_wins() {
    let pool = MaxPool { window: window(2, 1, 0) };
    let (mut graph, node) = single(Op::MaxPool(pool), &[1, 2, 3], &[]);
    explained(&mut graph, node, Relevance::Winner(pool), 1);
    let x = array::<f64>(&[2, 1, 2, 3], &[1.0, 1.0, 0.0, 1.0, 1.0, 1.0, -1.0, -2.0, -2.0, -1.0, -2.0, -2.0]);
    let back = explain(&graph, &x, &array(&[2, 1, 1, 2], &[5.0, 7.0, 1.0, 2.0]));
    let expected = [5.0, 7.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0];
    assert_close(&back.inputs[0].1, &expected, 0.0);
    back.ledger.check(0.0).unwrap();
}

#[test]
fn relevance_on_a_frame_is_lost_or_spread_or_that_of_constants() {
    let pad = Pad { pads: vec![0, 1, 0, 1], value: 0.0 };
    let (inner, with_a_share) = ([2.0, 3.0, 20.0, 30.0], [4.5, 5.5, 45.0, 55.0]);
    for (frame, expected) in [(Frame::Lost, inner), (Frame::Spread, with_a_share), (Frame::Constants, inner)]
    {
        let (mut graph, node) = single(Op::Pad(pad.clone()), &[2], &[]);
        let shape = vec![Dim::Batch, 2.into()];
        explained(&mut graph, node, Relevance::Pad { pad: pad.clone(), shape, frame }, 0);
        let r = array(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
        let back = explain(&graph, &array::<f64>(&[2, 2], &[0.0; 4]), &r);
        assert_close(&back.inputs[0].1, &expected, 0.0);
        let account = back.ledger.entries[1].samples[1];
        let booked = [account.padding, account.flat_fallback, account.bias];
        let expected =
            [Frame::Lost, Frame::Spread, Frame::Constants].map(|f| if f == frame { 50.0 } else { 0.0 });
        assert_eq!((booked, account.lost()), (expected, if frame == Frame::Spread { 0.0 } else { 50.0 }));
        back.ledger.check(1e-15).unwrap();
    }
}

#[test]
fn changes_of_shape_are_undone() {
    let x = array::<f64>(&[1, 2, 3], &[0.0; 6]);
    let r = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let run = |op: Op, undone: Relevance, shape: &[usize], r: &[f64], expected: &[f64]| {
        let (mut graph, node) = single(op, &[2, 3], &[]);
        explained(&mut graph, node, undone, 0);
        let back = explain(&graph, &x, &array(shape, r));
        assert_close(&back.inputs[0].1, expected, 0.0);
        back.ledger.check(0.0).unwrap();
    };
    let flat = Reshape { shape: vec![Dim::Batch, 6.into()] };
    let deep = Reshape { shape: vec![Dim::Batch, 2.into(), 3.into()] };
    run(Op::Reshape(flat), Relevance::Reshape(deep), &[1, 6], &r, &r);
    let transpose = Transpose { perm: vec![0, 2, 1] };
    let inverse = Relevance::Transpose(transpose.inverse());
    run(Op::Transpose(transpose), inverse, &[1, 3, 2], &r, &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let slice =
        Slice { starts: vec![0, 1, 0], sizes: vec![Dim::Batch, 1.into(), 2.into()], steps: vec![1, 1, 2] };
    let shape = vec![Dim::Batch, 2.into(), 3.into()];
    let undone = Relevance::Slice { slice: slice.clone(), shape: shape.clone() };
    run(Op::Slice(slice), undone, &[1, 1, 2], &[5.0, 6.0], &[0.0, 0.0, 0.0, 5.0, 0.0, 6.0]);
    let turned =
        Slice { starts: vec![0, 1, 2], sizes: vec![Dim::Batch, 2.into(), 2.into()], steps: vec![1, -1, -2] };
    let undone = Relevance::Slice { slice: turned.clone(), shape };
    run(Op::Slice(turned), undone, &[1, 2, 2], &r[..4], &[4.0, 0.0, 3.0, 2.0, 0.0, 1.0]);
    run(Op::Activation(Activation::Relu), Relevance::Pass, &[1, 2, 3], &r, &r);
}

/// Relevance of repetitions adds up where they came from, along every axis that was repeated.
#[test]
fn an_expansion_is_undone_by_sums() {
    let op = Expand { shape: vec![Dim::Batch, 2.into(), 3.into()] };
    let (mut graph, node) = single(Op::Expand(op.clone()), &[2, 1], &[]);
    let from = vec![Dim::Batch, 2.into(), 1.into()];
    explained(&mut graph, node, Relevance::Expand { expand: op, from }, 0);
    let (x, r) = (array::<f32>(&[1, 2, 1], &[5.0, 7.0]), array(&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let forward = forward(&graph, std::slice::from_ref(&x)).unwrap();
    assert_close(forward.value(value(node)).unwrap(), &[5.0, 5.0, 5.0, 7.0, 7.0, 7.0], 0.0);
    assert_close(&explain(&graph, &x, &r).inputs[0].1, &[6.0, 15.0], 0.0);
}

/// `x` joined with its own rectification along the channels: a fork, whose relevances add.
fn forked() -> Graph {
    let mut graph = Graph::new("forked");
    let x = graph.add_input("x", TensorType::batched(&[2])).unwrap();
    let relu = graph.add_node(Op::Activation(Activation::Relu), "relu", &[x]).unwrap();
    let concat = Concat { axis: 1 };
    let joined = graph.add_node(Op::Concat(concat), "concat", &[x, value(relu)]).unwrap();
    graph.add_output("y", value(joined));
    let r = seed(&mut graph, joined);
    let parts = undo(&mut graph, Relevance::Concat { concat, sizes: vec![2, 2] }, joined, r, &[]);
    let part = |port| relc_ir::ValueId { node: parts, port };
    let through = undo(&mut graph, Relevance::Pass, relu, part(1), &[]);
    let sum = graph.add_relevance(Op::Relevance(Relevance::Sum), x.node, &[part(0), value(through)]).unwrap();
    graph.relevance_outputs = vec![(x.node, value(sum))];
    graph
}

#[test]
fn relevance_adds_at_a_fork() {
    let graph = forked();
    let pass = forward(&graph, &[array::<f64>(&[1, 2], &[1.0, -1.0])]).unwrap();
    let seed = array(&[1, 4], &[1.0, 2.0, 10.0, 20.0]);
    let back = backward(&graph, &pass, &seed, &Options { keep_all: true }).unwrap();
    assert_close(&back.inputs[0].1, &[11.0, 22.0], 0.0);
    let ops: Vec<&str> = back.ledger.entries.iter().map(|e| e.op.as_str()).collect();
    assert_eq!(ops, ["seed", "concat.pass", "pass", "sum"]);
    let last = &back.ledger.entries[3];
    assert_eq!((last.samples[0].incoming, last.samples[0].min, last.samples[0].max), (33.0, 11.0, 22.0));
    for entry in &back.ledger.entries {
        assert!(back.value(value(entry.node)).is_some(), "{}", entry.label);
    }
    let lean = backward(&graph, &pass, &seed, &Options::default()).unwrap();
    assert!(lean.value(value(back.ledger.entries[0].node)).is_none());
    assert_eq!(lean.inputs, back.inputs);
}

#[test]
fn the_ledger_serialises() {
    let graph = forked();
    let x = array::<f64>(&[1, 2], &[1.0, -1.0]);
    let back = explain(&graph, &x, &array(&[1, 4], &[1.0, 2.0, 10.0, 20.0]));
    let json = serde_json::to_value(&back.ledger).unwrap();
    let sum = &json["entries"][3];
    assert_eq!((&sum["name"], &sum["op"]), (&"x".into(), &"sum".into()));
    assert_eq!((&sum["samples"][0]["in"], &sum["samples"][0]["out"]), (&33.0.into(), &33.0.into()));
    assert_eq!(json["totals"][0]["seed"], 33.0);
}

#[test]
fn unbalanced_books_are_reported() {
    let graph = forked();
    let x = array::<f64>(&[1, 2], &[1.0, -1.0]);
    let mut ledger = explain(&graph, &x, &array(&[1, 4], &[1.0, 2.0, 10.0, 20.0])).ledger;
    assert_eq!(ledger.check(0.0).unwrap().unwrap().relative, 0.0);
    ledger.entries[2].samples[0].outgoing -= 3.0;
    let error = ledger.check(1e-3).unwrap_err().to_string();
    assert!(error.starts_with("node \"relu\" ("), "{error}");
    assert!(error.contains("sample 0: in - out - losses = 3e0, 1e-1 of the relevance"), "{error}");
    ledger.entries[1].samples[0].incoming = f64::NAN;
    assert!(ledger.check(1e9).is_err());
}

#[test]
fn seeds_that_do_not_fit_are_refused() {
    let graph = forked();
    let pass = forward(&graph, &[array::<f32>(&[1, 2], &[1.0, -1.0])]).unwrap();
    let error = |seed| backward(&graph, &pass, &seed, &Options::default()).unwrap_err().to_string();
    let expected = "expected finite values of shape [1, 4], that of the explained output";
    assert_eq!(error(array(&[1, 3], &[0.0; 3])), format!("seed: got shape [1, 3], {expected}"));
    let infinite = array(&[1, 4], &[f64::INFINITY, 0.0, 0.0, 0.0]);
    assert!(error(infinite).starts_with("seed: got 1 non-finite values at \"concat\""));
    let (plain, _) = single(Op::Activation(Activation::Relu), &[2], &[]);
    let pass = forward(&plain, &[array::<f32>(&[1, 2], &[1.0, -1.0])]).unwrap();
    let seed = array(&[1, 2], &[1.0; 2]);
    let error = backward(&plain, &pass, &seed, &Options::default()).unwrap_err();
    assert_eq!(error, InterpError::NoRelevance);
}

#[test]
fn overflowing_relevance_is_an_error() {
    let (mut graph, node) = single(gemm(true), &[2], &[(&[1, 2], &[1.0, 1.0])]);
    let layer = layer(&graph.node(node).op);
    let rule = rule("a*w", Stabiliser::None, BiasPolicy::Exclude, Fallback::None);
    explained(&mut graph, node, Relevance::Linear { layer, rule }, 2);
    let pass = forward(&graph, &[array::<f32>(&[1, 2], &[1e-38, 0.0])]).unwrap();
    let error = backward(&graph, &pass, &array(&[1, 1], &[1e30]), &Options::default()).unwrap_err();
    let InterpError::NonFinite { op, name, count, .. } = &error else { panic!("{error}") };
    assert_eq!((op.as_str(), name.as_str(), *count), ("gemm.rule", "layer", 2));
    // Without a fallback, what arrives at an exact zero is clipped, not divided.
    let pass = forward(&graph, &[array::<f32>(&[1, 2], &[0.0, 0.0])]).unwrap();
    let back = backward(&graph, &pass, &array(&[1, 1], &[3.0]), &Options::default()).unwrap();
    assert_eq!(back.ledger.entries[1].samples[0].clipped, 3.0);
    assert_close(&back.inputs[0].1, &[0.0, 0.0], 0.0);
}

#[test]
fn another_graphs_forward_pass_is_refused() {
    let graph = join(2, 1, SplitKind::Ratio);
    let (other, _) = single(Op::Activation(Activation::Relu), &[3], &[]);
    let pass = forward(&other, &[array::<f32>(&[1, 3], &[1.0, -1.0, 0.0])]).unwrap();
    let seed = array(&[1, 2], &[1.0; 2]);
    let error = backward(&graph, &pass, &seed, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("expected the forward pass of this graph"), "{error}");
}
