//! Small graphs for the tests.
#![allow(dead_code, reason = "each test crate uses some of it")]

use ndarray::{ArrayD, IxDyn};
use relc_interp::{Backward, Element, Options, backward, forward};
use relc_ir::op::{AveragePool, Conv, Gemm, LinearLayer, Relevance, Window};
use relc_ir::rule::{BiasPolicy, Fallback, LinearRule, Stabiliser};
use relc_ir::{Graph, NodeId, Op, TensorType, ValueId, Weight};

/// The first output of a node.
pub fn value(node: NodeId) -> ValueId {
    ValueId { node, port: 0 }
}

/// An array from its shape and values.
pub fn array<T: Element>(shape: &[usize], values: &[f64]) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(shape), values.iter().map(|&v| T::narrow(v)).collect()).unwrap()
}

/// Numbers that look random, in `[-1, 1)`, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Multiples of 2^-12, so that f32 holds them exactly.
        ((state >> 40) as i64 % 8192 - 4096) as f64 / 4096.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn noise_array<T: Element>(seed: u64, shape: &[usize]) -> ArrayD<T> {
    array(shape, &noise(seed, shape.iter().product()))
}

pub fn add_weight(graph: &mut Graph, name: &str, shape: &[usize], values: &[f64]) -> ValueId {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    graph.add_weight(Weight::new(name, TensorType::new(shape.iter().copied()), values).unwrap()).unwrap()
}

/// A graph of one op on one batched input `x: f32[N, input..]` and weights (shape, values).
pub fn single(op: Op, input: &[usize], weights: &[(&[usize], &[f64])]) -> (Graph, NodeId) {
    let mut graph = Graph::new("single");
    let x = graph.add_input("x", TensorType::batched(input)).unwrap();
    let mut operands = vec![x];
    for (i, (shape, values)) in weights.iter().enumerate() {
        operands.push(add_weight(&mut graph, &format!("w{i}"), shape, values));
    }
    let node = graph.add_node(op, "layer", &operands).unwrap();
    graph.add_output("y", value(node));
    (graph, node)
}

/// Puts a seed on `output` and returns its relevance.
pub fn seed(graph: &mut Graph, output: NodeId) -> ValueId {
    value(graph.add_relevance(Op::Relevance(Relevance::Seed), output, &[value(output)]).unwrap())
}

/// Adds the relevance op of a forward node: its operands are `r` and then those of `forward`.
pub fn undo(graph: &mut Graph, op: Relevance, of: NodeId, r: ValueId, forward: &[ValueId]) -> NodeId {
    let operands: Vec<ValueId> = std::iter::once(r).chain(forward.iter().copied()).collect();
    graph.add_relevance(Op::Relevance(op), of, &operands).unwrap()
}

/// The graph of [`single`] with a seed and the relevance op; the first `operands` operands of the forward node
/// follow `r`.
pub fn explained(graph: &mut Graph, node: NodeId, op: Relevance, operands: usize) -> NodeId {
    let r = seed(graph, node);
    let forward = graph.operands(node);
    let back = undo(graph, op, node, r, &forward[..operands]);
    graph.relevance_outputs = vec![(graph.inputs()[0], value(back))];
    back
}

/// Forward and backward.
pub fn explain<T: Element>(graph: &Graph, x: &ArrayD<T>, seed: &ArrayD<T>) -> Backward<T> {
    let pass = forward(graph, std::slice::from_ref(x)).unwrap_or_else(|e| panic!("{e}"));
    backward(graph, &pass, seed, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// A rule by the text of its parts.
pub fn rule(parts: &str, stabiliser: Stabiliser, bias: BiasPolicy, fallback: Fallback) -> LinearRule {
    let parts = parts.split('|').map(|part| part.parse().unwrap()).collect();
    LinearRule { stabiliser, bias, fallback, ..LinearRule::new("rule", parts) }
}

/// The rule that loses nothing.
pub fn conserving() -> LinearRule {
    rule("a+*w+ a-*w-", Stabiliser::None, BiasPolicy::Exclude, Fallback::Flat)
}

pub fn window(kernel: usize, stride: usize, pad: usize) -> Window {
    Window::new([kernel; 2], [stride; 2]).padded(pad)
}

pub fn conv(window: Window, group: usize) -> Conv {
    Conv { window, group, folded_bias: false }
}

/// The layer of a forward op.
pub fn layer(op: &Op) -> LinearLayer {
    match op {
        Op::Conv(op) => LinearLayer::Conv(*op),
        Op::Gemm(op) => LinearLayer::Gemm(*op),
        Op::AveragePool(op) => LinearLayer::AveragePool(*op),
        Op::GlobalAveragePool => LinearLayer::GlobalAveragePool,
        other => panic!("{} is no linear layer", other.mnemonic()),
    }
}

pub fn gemm(trans_b: bool) -> Op {
    Op::Gemm(Gemm { trans_b, folded_bias: false })
}

pub fn average(window: Window, count_include_pad: bool) -> Op {
    Op::AveragePool(AveragePool { window, count_include_pad })
}

/// Asserts that two arrays are equal to `tolerance`.
#[track_caller]
pub fn assert_close<T: Element>(got: &ArrayD<T>, expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "shape {:?}", got.shape());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (got.widen() - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.0), "element {i}: got {got}, expected {expected}");
    }
}

/// The same bits.
pub fn bits<T: Element>(array: &ArrayD<T>) -> Vec<u64> {
    array.iter().map(|v| v.widen().to_bits()).collect()
}
