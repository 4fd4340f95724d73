//! The preset `gradient` is the derivative: against central differences of the forward pass in f64.

use ndarray::ArrayD;
use proptest::prelude::*;
use relc::{Compiler, Engine, Preset, Seed, Targets};
use relc_ir::op::{
    Activation, Arithmetic, AveragePool, BatchNormalization, Concat, Conv, Expand, Gemm, MaxPool,
    MeanVarianceNormalization, Pad, Reshape, Softmax, Transpose, Window,
};
use relc_ir::{Graph, Op, TensorType, ValueId, Weight};
use relc_tests::every::{every_activation, every_arithmetic};
use relc_tests::graphs::{build, plans};

/// Compares the derivative of output 0 by some inputs with differences of the forward pass.
#[track_caller]
fn check(graph: Graph, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let preset = Preset::named("gradient").unwrap();
    let explainer = Compiler::new(preset).engine(Engine::InterpF64).compile(graph).unwrap();
    let graph = explainer.graph();
    let shape = explainer.input().unwrap().1.bind(1);
    let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0);
    let outputs = graph.ty(graph.outputs()[0].1).elements().unwrap();
    let seed = ArrayD::from_shape_fn(vec![outputs], |i| if i[0] == 0 { 1.0 } else { 0.0 });
    let result = explainer.explain(x.view(), &Seed::Tensor(seed), &Targets::Argmax).unwrap();
    assert!(!explainer.is_conserving());
    let gradient = &result.explanations[0].relevance;
    let largest = gradient.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
    let forward = |i: usize, step: f64| {
        let mut x = x.mapv(f64::from);
        x.as_slice_mut().unwrap()[i] += step;
        let forward = relc_interp::forward(graph, &[x]).unwrap();
        *forward.value(graph.outputs()[0].1).unwrap().iter().next().unwrap()
    };
    let h = 1e-7;
    let mut compared = 0;
    for _ in 0..12 {
        let i = rng.usize(0..x.len());
        let [up, middle, down] = [h, 0.0, -h].map(|step| forward(i, step));
        let (left, right) = ((middle - down) / h, (up - middle) / h);
        if (left - right).abs() > 1e-4 * largest.max(1e-3) {
            continue; // a kink lies between
        }
        compared += 1;
        let got = f64::from(gradient.as_slice().unwrap()[i]);
        let expected = (up - down) / (2.0 * h);
        assert!(
            (got - expected).abs() <= 1e-5 * largest.max(1e-3),
            "input {i}: got {got}, expected {expected}"
        );
    }
    assert!(compared >= 4, "only {compared} of 12 inputs lie at no kink");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn of_residual_networks(plan in plans(), seed: u64) {
        check(build(&plan), seed);
    }
}

struct Builder(Graph, u64);

impl Builder {
    fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("n{}", self.0.node_ids().count());
        ValueId { node: self.0.add_node(op, &name, operands).unwrap(), port: 0 }
    }

    fn weight(&mut self, dims: &[usize], low: f32) -> ValueId {
        self.1 += 1;
        let mut rng = fastrand::Rng::with_seed(self.1);
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| low + rng.f32()).collect();
        let ty = TensorType::new(dims.iter().copied());
        let name = format!("w{}", self.1);
        self.0.add_weight(Weight::new(&name, ty, values).unwrap()).unwrap()
    }
}

/// Ops that have a derivative of their own, in one network: kept BatchNormalization, activations, constants on either side, a gate, a difference and a quotient of branches, pools, and changes of shape.
#[test]
fn of_every_op() {
    for seed in 0..8 {
        let mut b = Builder(Graph::new("ops"), seed * 1000);
        let x = b.0.add_input("x", TensorType::batched(&[2, 6, 6])).unwrap();
        let pad = Pad { pads: vec![0, 0, 1, 0, 0, 0, 0, 1], value: 0.3 };
        let padded = b.node(Op::Pad(pad), &[x]);
        let w = b.weight(&[4, 2, 3, 3], -0.5);
        let conv = Conv { window: Window::new([3, 3], [1, 1]), group: 1, folded_bias: false };
        let conv = b.node(Op::Conv(conv), &[padded, w]);
        let parameters =
            [b.weight(&[4], 0.5), b.weight(&[4], -0.5), b.weight(&[4], -0.5), b.weight(&[4], 0.5)];
        let norm = Op::BatchNormalization(BatchNormalization { epsilon: 1e-3 });
        let norm = b.node(norm, &[conv, parameters[0], parameters[1], parameters[2], parameters[3]]);
        let leaky = b.node(Op::Activation(Activation::LeakyRelu { alpha: 0.2 }), &[norm]);
        let c = b.weight(&[4, 1, 1], 0.5);
        let scaled = b.node(Op::Arithmetic(Arithmetic::Mul), &[c, leaky]);
        let mirrored = b.node(Op::Arithmetic(Arithmetic::Sub), &[c, scaled]);
        let divided = b.node(Op::Arithmetic(Arithmetic::Div), &[mirrored, c]);
        let own = MeanVarianceNormalization { axes: vec![2, 3], epsilon: 1e-3 };
        let divided = b.node(Op::MeanVarianceNormalization(own), &[divided]);
        let pooled = b.node(Op::GlobalAveragePool, &[divided]);
        let gate = b.node(Op::Activation(Activation::Sigmoid), &[pooled]);
        let gated = b.node(Op::Arithmetic(Arithmetic::Mul), &[divided, gate]);
        let share = b.node(Op::Softmax(Softmax { axis: 1, log: false }), &[gated]);
        let surprise = b.node(Op::Softmax(Softmax { axis: 3, log: true }), &[share]);
        let gated = b.node(Op::Arithmetic(Arithmetic::Sub), &[gated, surprise]);
        let clip = b.node(Op::Activation(Activation::Clip { min: -0.4, max: 0.6 }), &[gated]);
        let wide = Op::Expand(Expand { shape: b.0.ty(clip).dims().to_vec() });
        let wide = b.node(wide, &[pooled]);
        let clip = b.node(Op::Arithmetic(Arithmetic::Add), &[clip, wide]);
        let difference = b.node(Op::Arithmetic(Arithmetic::Sub), &[gated, clip]);
        let quotient = b.node(Op::Arithmetic(Arithmetic::Div), &[difference, gate]);
        let max = b.node(Op::MaxPool(MaxPool { window: Window::new([2, 2], [1, 1]) }), &[quotient]);
        let average = AveragePool { window: Window::new([2, 2], [1, 1]), count_include_pad: false };
        let average = b.node(Op::AveragePool(average), &[quotient]);
        let both = b.node(Op::Concat(Concat { axis: 1 }), &[max, average]);
        let turned = b.node(Op::Transpose(Transpose { perm: vec![0, 1, 3, 2] }), &[both]);
        let relu = b.node(Op::Activation(Activation::Relu), &[turned]);
        let features: usize = b.0.ty(relu).elements().unwrap();
        let flat = Reshape { shape: TensorType::batched(&[features]).dims().to_vec() };
        let flat = b.node(Op::Reshape(flat), &[relu]);
        let fc = b.weight(&[3, features], -0.5);
        let y = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[flat, fc]);
        b.0.add_output("y", y);
        check(b.0, seed);
    }
}

#[test]
fn of_every_activation_and_every_arithmetic() {
    for seed in 0..8 {
        check(every_activation(seed), seed);
        check(every_arithmetic(seed), seed);
    }
}
