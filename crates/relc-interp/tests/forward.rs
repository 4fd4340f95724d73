//! Every forward op against results worked out by hand or by the definition.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use relc_interp::{InterpError, forward, forward_all};
use relc_ir::op::*;
use relc_ir::{Dim, Graph, Op, TensorType};

/// Runs one op on `x: f32[1, input..]`, in f32 and f64, and compares.
#[track_caller]
fn check(
    op: Op,
    input: &[usize],
    x: &[f64],
    weights: &[(&[usize], &[f64])],
    shape: &[usize],
    expected: &[f64],
) {
    let (graph, node) = single(op, input, weights);
    let batched: Vec<usize> = std::iter::once(1).chain(input.iter().copied()).collect();
    let wide = forward(&graph, &[array::<f64>(&batched, x)]).unwrap();
    assert_eq!(wide.value(value(node)).unwrap().shape(), shape);
    assert_close(wide.value(value(node)).unwrap(), expected, 1e-7);
    let narrow = forward(&graph, &[array::<f32>(&batched, x)]).unwrap();
    assert_close(narrow.value(value(node)).unwrap(), expected, 1e-5);
}

fn counting(n: usize) -> Vec<f64> {
    (1..=n).map(|v| v as f64).collect()
}

#[test]
fn convolution_by_hand() {
    let op = Op::Conv(conv(window(2, 1, 0), 1));
    let w: &[f64] = &[1.0, 2.0, 3.0, 4.0];
    check(
        op,
        &[1, 3, 3],
        &counting(9),
        &[(&[1, 1, 2, 2], w), (&[1], &[0.5])],
        &[1, 1, 2, 2],
        &[37.5, 47.5, 67.5, 77.5],
    );
    let padded = Op::Conv(conv(Window::from_lists(&[2; 2], &[2; 2], &[1, 0, 0, 0], &[1; 2]).unwrap(), 1));
    check(padded, &[1, 2, 2], &counting(4), &[(&[1, 1, 2, 2], w)], &[1, 1, 1, 1], &[11.0]);
}

/// The definition: one product for each output pixel and tap.
fn naive_conv(op: &Conv, x: &ArrayD<f64>, w: &ArrayD<f64>, bias: &[f64], shape: &[usize]) -> ArrayD<f64> {
    let (c, m) = (x.shape()[1] / op.group, w.shape()[0] / op.group);
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let &[n, out, ref pixel @ ..] = ndarray::Dimension::slice(&at) else { unreachable!() };
        // Each tap of each axis with the pixel under it.
        let mut taps = vec![(Vec::new(), Vec::new())];
        for (axis, (window, index)) in op.window.axes.iter().zip(pixel).enumerate() {
            let along: Vec<(usize, usize)> = window.taps(*index, x.shape()[axis + 2]).collect();
            let joined = taps.iter().flat_map(|(tap, pixel)| {
                along.iter().map(|(t, p)| ([&tap[..], &[*t]].concat(), [&pixel[..], &[*p]].concat()))
            });
            taps = joined.collect();
        }
        let mut sum = bias[out];
        for (tap, pixel) in &taps {
            for i in 0..c {
                let from = [&[n, out / m * c + i], &pixel[..]].concat();
                sum += x[&from[..]] * w[&[&[out, i], &tap[..]].concat()[..]];
            }
        }
        sum
    })
}

proptest! {
    #[test]
    fn convolution_is_its_definition(
        rank in 1usize..4, group in 1usize..3, c in 1usize..4, m in 1usize..4, size in [1usize..8, 1..8, 1..8],
        kernel in [1usize..4, 1..4, 1..4], strides in [1usize..4, 1..3, 1..3], pads in [0usize..3, 0..3, 0..3, 0..3, 0..3, 0..3],
        dilations in [1usize..3, 1..3, 1..3], seed: u64,
    ) {
        let (size, kernel) = (&size[..rank], &kernel[..rank]);
        let window = Window::from_lists(kernel, &strides[..rank], &pads[..2 * rank], &dilations[..rank]).unwrap();
        let op = conv(window, group);
        let (c, m) = (c * group, m * group);
        let x = noise_array::<f64>(seed, &[&[2, c], size].concat());
        let w = noise_array::<f64>(seed ^ 1, &[&[m, c / group], kernel].concat());
        let bias = noise(seed ^ 2, m);
        let Ok(windows) = window.output_size(size) else { return Ok(()) };
        let weights: [(&[usize], &[f64]); 2] = [(w.shape(), w.as_slice().unwrap()), (&[m], &bias)];
        let (graph, node) = single(Op::Conv(op), &[&[c], size].concat(), &weights);
        let got = forward(&graph, std::slice::from_ref(&x)).unwrap();
        let expected = naive_conv(&op, &x, &w, &bias, &[&[2, m], &windows[..]].concat());
        assert_close(got.value(value(node)).unwrap(), expected.as_slice().unwrap(), 1e-12);
    }
}

#[test]
fn convolution_across_tiles() {
    // More than one tile of output channels, of output rows, and of input channels.
    let op = conv(Window::new([3, 3], [1, 1]).padded(1), 1);
    let x = noise_array::<f64>(5, &[1, 40, 40, 40]);
    let w = noise_array::<f64>(6, &[130, 40, 3, 3]);
    let bias = noise(7, 130);
    let weights: [(&[usize], &[f64]); 2] = [(w.shape(), w.as_slice().unwrap()), (&[130], &bias)];
    let (graph, node) = single(Op::Conv(op), &[40, 40, 40], &weights);
    let got = forward(&graph, std::slice::from_ref(&x)).unwrap();
    let expected = naive_conv(&op, &x, &w, &bias, &[1, 130, 40, 40]);
    assert_close(got.value(value(node)).unwrap(), expected.as_slice().unwrap(), 1e-11);
}

#[test]
fn matrix_products() {
    let w: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    check(gemm(true), &[3], &[1.0, 0.0, -1.0], &[(&[2, 3], w), (&[2], &[10.0, 20.0])], &[1, 2], &[8.0, 18.0]);
    check(gemm(false), &[3], &[1.0, 0.0, -1.0], &[(&[3, 2], w)], &[1, 2], &[-4.0, -4.0]);
    check(Op::MatMul, &[2, 3], &counting(6), &[(&[3, 2], w)], &[1, 2, 2], &[22.0, 28.0, 49.0, 64.0]);
}

#[test]
fn batch_normalization_by_channel() {
    let op = Op::BatchNormalization(BatchNormalization { epsilon: 1.0 });
    let parameters: [(&[usize], &[f64]); 4] =
        [(&[2], &[2.0, -1.0]), (&[2], &[0.5, 0.0]), (&[2], &[1.0, 0.0]), (&[2], &[3.0, 0.0])];
    check(op, &[2, 1, 2], &counting(4), &parameters, &[1, 2, 1, 2], &[0.5, 1.5, -3.0, -4.0]);
}

#[test]
fn activations() {
    let run =
        |op, expected: &[f64]| check(Op::Activation(op), &[3], &[-2.0, 0.0, 3.0], &[], &[1, 3], expected);
    run(Activation::Relu, &[0.0, 0.0, 3.0]);
    run(Activation::LeakyRelu { alpha: 0.5 }, &[-1.0, 0.0, 3.0]);
    run(Activation::Clip { min: -1.0, max: 2.0 }, &[-1.0, 0.0, 2.0]);
    run(Activation::Clip { min: f64::NEG_INFINITY, max: f64::INFINITY }, &[-2.0, 0.0, 3.0]);
    run(Activation::Sigmoid, &[0.11920292202211755, 0.5, 0.9525741268224334]);
    run(Activation::Identity, &[-2.0, 0.0, 3.0]);
    run(Activation::Dropout, &[-2.0, 0.0, 3.0]);
}

#[test]
fn arithmetic_broadcasts() {
    let run = |op, w: (&[usize], &[f64]), expected: &[f64]| {
        check(Op::Arithmetic(op), &[2, 1, 2], &counting(4), &[w], &[1, 2, 1, 2], expected);
    };
    run(Arithmetic::Add, (&[2, 1, 1], &[10.0, 20.0]), &[11.0, 12.0, 23.0, 24.0]);
    run(Arithmetic::Sub, (&[2], &[1.0, 2.0]), &[0.0, 0.0, 2.0, 2.0]);
    run(Arithmetic::Mul, (&[1], &[2.0]), &[2.0, 4.0, 6.0, 8.0]);
    run(Arithmetic::Div, (&[], &[2.0]), &[0.5, 1.0, 1.5, 2.0]);
    let three: [(&[usize], &[f64]); 2] = [(&[2], &[1.0, 2.0]), (&[1], &[100.0])];
    check(Op::Arithmetic(Arithmetic::Add), &[2], &[0.0, 0.0], &three, &[1, 2], &[101.0, 102.0]);
}

#[test]
fn pools() {
    let x = counting(9).iter().map(|v| -v).collect::<Vec<_>>();
    // Padding never wins, also where all values are negative.
    let max = MaxPool { window: window(2, 2, 1) };
    check(Op::MaxPool(max), &[1, 3, 3], &x, &[], &[1, 1, 2, 2], &[-1.0, -2.0, -4.0, -5.0]);
    let x = counting(9);
    let shape = [1, 1, 2, 2];
    check(average(window(2, 2, 1), false), &[1, 3, 3], &x, &[], &shape, &[1.0, 2.5, 5.5, 7.0]);
    check(average(window(2, 2, 1), true), &[1, 3, 3], &x, &[], &shape, &[0.25, 1.25, 2.75, 7.0]);
    let ceil = Window { ceil: true, ..window(2, 2, 0) };
    check(average(ceil, true), &[1, 3, 3], &x, &[], &shape, &[3.0, 4.5, 7.5, 9.0]);
    check(Op::GlobalAveragePool, &[1, 3, 3], &x, &[], &[1, 1, 1, 1], &[5.0]);
    let x = counting(8);
    let mean = |axes: &[usize], keepdims| Op::ReduceMean(ReduceMean { axes: axes.to_vec(), keepdims });
    check(mean(&[2, 3], true), &[2, 2, 2], &x, &[], &[1, 2, 1, 1], &[2.5, 6.5]);
    check(mean(&[1, 3], false), &[2, 2, 2], &x, &[], &[1, 2], &[3.5, 5.5]);
}

#[test]
fn softmax_does_not_overflow() {
    let softmax = |log| Op::Softmax(Softmax { axis: 1, log });
    let e = 1f64.exp();
    check(softmax(false), &[2], &[1000.0, 1001.0], &[], &[1, 2], &[1.0 / (1.0 + e), e / (1.0 + e)]);
    check(softmax(true), &[2], &[-1000.0, 1000.0], &[], &[1, 2], &[-2000.0, 0.0]);
}

#[test]
fn shaping() {
    let x = counting(6);
    let shape = vec![Dim::Batch, 6.into()];
    check(Op::Reshape(Reshape { shape }), &[2, 3], &x, &[], &[1, 6], &x);
    let transpose = Op::Transpose(Transpose { perm: vec![0, 2, 1] });
    check(transpose, &[2, 3], &x, &[], &[1, 3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let pad = Pad { pads: vec![0, 1, 0, 0, 0, 1], value: 9.0 };
    let expected = [9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0, 9.0];
    check(Op::Pad(pad), &[2, 3], &x, &[], &[1, 3, 4], &expected);
    let slice =
        Slice { starts: vec![0, 1, 0], sizes: vec![Dim::Batch, 1.into(), 2.into()], steps: vec![1, 1, 2] };
    check(Op::Slice(slice), &[2, 3], &x, &[], &[1, 1, 2], &[4.0, 6.0]);
    let turned =
        Slice { starts: vec![0, 1, 2], sizes: vec![Dim::Batch, 2.into(), 2.into()], steps: vec![1, -1, -2] };
    check(Op::Slice(turned), &[2, 3], &x, &[], &[1, 2, 2], &[6.0, 4.0, 3.0, 1.0]);
    let mut graph = Graph::new("concat");
    let x = graph.add_input("x", TensorType::batched(&[2, 1])).unwrap();
    let node = graph.add_node(Op::Concat(Concat { axis: 2 }), "concat", &[x, x]).unwrap();
    graph.add_output("y", value(node));
    let pass = forward(&graph, &[array::<f64>(&[1, 2, 1], &[1.0, 2.0])]).unwrap();
    assert_close(pass.value(value(node)).unwrap(), &[1.0, 1.0, 2.0, 2.0], 0.0);
}

#[test]
fn keeps_what_is_needed_and_no_more() {
    let mut graph = Graph::new("chain");
    let x = graph.add_input("x", TensorType::batched(&[2])).unwrap();
    let relu = Op::Activation(Activation::Relu);
    let first = graph.add_node(relu.clone(), "first", &[x]).unwrap();
    let last = graph.add_node(relu, "last", &[value(first)]).unwrap();
    graph.add_output("y", value(last));
    let input = array::<f32>(&[3, 2], &[1.0; 6]);
    let pass = forward(&graph, std::slice::from_ref(&input)).unwrap();
    assert_eq!(pass.batch(), 3);
    assert!(pass.value(x).is_some() && pass.value(value(first)).is_none());
    assert_eq!(pass.outputs().map(|(name, y)| (name, y.len())).collect::<Vec<_>>(), [("y", 6)]);
    assert!(forward_all(&graph, &[input]).unwrap().value(value(first)).is_some());
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let (graph, _) = single(Op::Activation(Activation::Relu), &[2], &[]);
    let error = |inputs: &[ArrayD<f32>]| forward(&graph, inputs).unwrap_err().to_string();
    assert_eq!(error(&[]), "got 0 input arrays, expected 1, one for each input of the graph, in its order");
    assert_eq!(error(&[array(&[1, 3], &[0.0; 3])]), "input \"x\": got shape [1, 3], expected f32[N,2]");
    assert_eq!(error(&[array(&[0, 2], &[])]), "input \"x\": got shape [0, 2], expected f32[N,2]");

    let mut graph = Graph::new("two");
    let a = graph.add_input("a", TensorType::batched(&[1])).unwrap();
    let b = graph.add_input("b", TensorType::batched(&[1])).unwrap();
    let sum = graph.add_node(Op::Arithmetic(Arithmetic::Add), "sum", &[a, b]).unwrap();
    graph.add_output("y", value(sum));
    let error = forward(&graph, &[array::<f32>(&[2, 1], &[0.0; 2]), array(&[3, 1], &[0.0; 3])]).unwrap_err();
    assert_eq!(error.to_string(), "input \"b\": got shape [3, 1], expected f32[N,1] with N=2");
}

#[test]
fn the_first_non_finite_node_is_named() {
    let div = Op::Arithmetic(Arithmetic::Div);
    let (mut graph, first) = single(div, &[2], &[(&[2], &[1.0, 0.0])]);
    graph.add_node(Op::Activation(Activation::Relu), "later", &[value(first)]).unwrap();
    let error = forward(&graph, &[array::<f32>(&[1, 2], &[1.0, 1.0])]).unwrap_err();
    let InterpError::NonFinite { label, name, op, count, .. } = &error else { panic!("{error}") };
    assert_eq!((label.as_str(), name.as_str(), op.as_str(), *count), ("%3", "layer", "div", 1));
    let error = forward(&graph, &[array::<f32>(&[1, 2], &[1.0, f64::NAN])]).unwrap_err();
    assert!(error.to_string().contains("\"x\" (%x input): got 1 non-finite values of activation"), "{error}");
}

#[test]
fn a_graph_from_text_has_no_weights() {
    let (graph, _) = single(gemm(true), &[2], &[(&[1, 2], &[1.0, 2.0])]);
    let parsed = relc_ir::parse(&graph.to_string()).unwrap();
    let error = forward(&parsed, &[array::<f32>(&[1, 2], &[1.0, 1.0])]).unwrap_err().to_string();
    assert!(error.contains("\"layer\" (%3 gemm) uses weight \"@w0\", which has no values"), "{error}");
}
