//! Networks in which every op of a kind stands.

use relc_ir::op::{
    Activation, Arithmetic, AveragePool, Concat, Conv, Gemm, MaxPool, Pad, ReduceMean, Reshape, Slice,
    Softmax, Window,
};
use relc_ir::{Dim, Graph, Groups, Head, Op, TensorType, ValueId};

use crate::builder::Builder;

/// Three networks of an image `f32[N,2,5,6]` with 4 outputs each: what `only` one of them says, or a weighted mean of
/// their softmaxes.
pub fn ensemble(seed: u64, only: Option<usize>) -> Graph {
    let (mut b, x) = Builder::new("ensemble", seed, [2, 5, 6]);
    let member = |_| {
        let seen = convolved(&mut b, x);
        let seen = b.node(Op::Activation(Activation::Relu), &[seen]);
        let means = b.node(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keepdims: false }), &[seen]);
        let weight = b.weight(&[4, 2], -3.0, 3.0);
        b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[means, weight])
    };
    let members: Vec<ValueId> = (0..3).map(member).collect();
    if let Some(only) = only {
        return b.finish(members[only]);
    }
    let shares = members
        .iter()
        .map(|y| b.node(Op::Softmax(Softmax { axis: 1, log: false }), &[*y]))
        .collect::<Vec<_>>();
    // The first counts twice.
    let twice = b.constant(&[], vec![2.0]);
    let first = b.node(Op::Arithmetic(Arithmetic::Mul), &[shares[0], twice]);
    let sum = b.node(Op::Arithmetic(Arithmetic::Add), &[first, shares[1], shares[2]]);
    let four = b.constant(&[], vec![4.0]);
    let y = b.node(Op::Arithmetic(Arithmetic::Div), &[sum, four]);
    b.finish(y)
}

/// Every activation, `a` being the parameter of those that have one, and `b` the second.
pub fn activations(a: f64, b: f64) -> Vec<Activation> {
    let (min, max) = if a > b { (b, a) } else { (a, b) };
    vec![
        Activation::Relu,
        Activation::LeakyRelu { alpha: a },
        Activation::Clip { min, max },
        Activation::Clip { min: f64::NEG_INFINITY, max: a },
        Activation::Clip { min: a, max: f64::INFINITY },
        Activation::Sigmoid,
        Activation::HardSigmoid { alpha: a, beta: b },
        Activation::HardSwish,
        Activation::Swish { alpha: a },
        Activation::Gelu { tanh: false },
        Activation::Gelu { tanh: true },
        Activation::Mish,
        Activation::Elu { alpha: a },
        Activation::Celu { alpha: a },
        Activation::Selu { alpha: a, gamma: b },
        Activation::ThresholdedRelu { alpha: a },
        Activation::Softplus,
        Activation::Softsign,
        Activation::Tanh,
        Activation::Erf,
        Activation::Exp,
        Activation::Log,
        Activation::Sqrt,
        Activation::Reciprocal,
        Activation::Abs,
        Activation::Neg,
        Activation::Identity,
        Activation::Dropout,
    ]
}

/// All channels of an image, averaged and weighed: 3 outputs.
fn headed(mut b: Builder, branches: &[ValueId]) -> Graph {
    let both = b.node(Op::Concat(Concat { axis: 1 }), branches);
    let [channels, ..] = b.dims(both);
    let means = b.node(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keepdims: false }), &[both]);
    let weight = b.weight(&[3, channels], -1.0, 1.0);
    let y = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[means, weight]);
    b.finish(y)
}

fn convolved(b: &mut Builder, x: ValueId) -> ValueId {
    let [c, ..] = b.dims(x);
    let window = Window::new([3, 3], [1, 1]).padded(1);
    let (weight, bias) = (b.weight(&[2, c, 3, 3], -0.4, 0.4), b.weight(&[2], -0.5, 0.5));
    b.node(Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight, bias])
}

/// An image `f32[N,2,5,6]` through every activation, each behind a convolution of its own; those that want positive
/// numbers get some.
pub fn every_activation(seed: u64) -> Graph {
    let (mut b, x) = Builder::new("activations", seed, [2, 5, 6]);
    let branch = |activation: &Activation| {
        let mut value = convolved(&mut b, x);
        if matches!(activation, Activation::Log | Activation::Sqrt | Activation::Reciprocal) {
            let positive = b.node(Op::Activation(Activation::Abs), &[value]);
            let half = b.constant(&[], vec![0.5]);
            value = b.node(Op::Arithmetic(Arithmetic::Add), &[positive, half]);
        }
        b.node(Op::Activation(*activation), &[value])
    };
    let branches: Vec<ValueId> = activations(0.4, 1.1).iter().map(branch).collect(); // defaults of none
    headed(b, &branches)
}

/// An image `f32[N,2,5,6]` through powers, bounds and slopes for each channel, and strided slices and
/// frames.
pub fn every_arithmetic(seed: u64) -> Graph {
    let (mut b, x) = Builder::new("arithmetic", seed, [2, 5, 6]);
    let (v, w) = (convolved(&mut b, x), convolved(&mut b, x));
    let positive = b.node(Op::Activation(Activation::Softplus), &[w]);
    let (power, slope) = (b.constant(&[], vec![1.7]), b.weight(&[2, 1, 1], 0.1, 0.4));
    let bound = b.weight(&[2, 1, 1], -0.3, 0.3);
    let branches = [
        b.node(Op::Arithmetic(Arithmetic::Pow), &[positive, power]),
        b.node(Op::Arithmetic(Arithmetic::PRelu), &[v, slope]),
        b.node(Op::Arithmetic(Arithmetic::Max), &[v, bound]),
        b.node(Op::Arithmetic(Arithmetic::Min), &[bound, w]),
        b.node(Op::Arithmetic(Arithmetic::Div), &[v, positive]),
        b.node(Op::Arithmetic(Arithmetic::Sub), &[v, w]),
    ];
    let slices = branches.map(|branch| {
        // Rows 1, 3 and columns 3, 0 of the channels in reverse, in a frame.
        let slice = Slice {
            starts: vec![0, 1, 1, 3],
            sizes: vec![Dim::Batch, 2.into(), 2.into(), 2.into()],
            steps: vec![1, -1, 2, -3],
        };
        let part = b.node(Op::Slice(slice), &[branch]);
        b.node(Op::Pad(Pad { pads: vec![0, 0, 1, 0, 0, 0, 0, 2], value: 0.3 }), &[part])
    });
    headed(b, &slices)
}

/// An image of one sample whose size is fixed, and what only such a graph may do: pad what was its channels, and end in
/// an output without a batch. On the way grouped, dilated and strided convolutions whose windows leave a rest, and pools
/// that round up, of which the last window would start in the padding or not.
pub fn every_window(seed: u64) -> Graph {
    let (mut b, x) = Builder::typed("windows", seed, TensorType::new([1, 4, 12, 11]));
    let (weight, bias) = (b.weight(&[6, 2, 3, 2], -0.4, 0.4), b.weight(&[6], -0.5, 0.5));
    let window = Window::from_lists(&[3, 2], &[2, 3], &[1, 0, 2, 1], &[2, 1]).unwrap();
    let x = b.node(Op::Conv(Conv { window, group: 2, folded_bias: false }), &[x, weight, bias]);
    let x = b.relu(x);
    let [_, c, h, w] = b.sizes(x)[..] else { unreachable!("f32[1,C,H,W]") };
    let flat = Reshape { shape: vec![c.into(), h.into(), w.into()] };
    let x = b.node(Op::Reshape(flat), &[x]);
    let x = b.node(Op::Pad(Pad { pads: vec![1, 0, 0, 1, 1, 0], value: 0.2 }), &[x]);
    let image = Reshape { shape: [1, c + 2, h + 1, w].map(Dim::from).to_vec() };
    let x = b.node(Op::Reshape(image), &[x]);
    let rounded = Window::from_lists(&[2; 2], &[2; 2], &[0, 0, 1, 1], &[1; 2]).unwrap();
    let rounded = Window { ceil: true, ..rounded };
    let branches = [
        b.node(Op::MaxPool(MaxPool { window: rounded }), &[x]),
        b.node(Op::AveragePool(AveragePool { window: rounded, count_include_pad: true }), &[x]),
    ];
    let x = b.node(Op::Concat(Concat { axis: 1 }), &branches);
    let features: usize = b.sizes(x).iter().product();
    let x = b.node(Op::Reshape(Reshape { shape: vec![1.into(), features.into()] }), &[x]);
    let weight = b.weight(&[6, features], -0.5, 0.5);
    let x = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[x, weight]);
    let x = b.node(Op::Reshape(Reshape { shape: vec![6.into()] }), &[x]);
    let mut graph = b.finish(x);
    graph.head = Head::Softmax(Some(Groups { size: 3, stride: 2 }));
    graph
}
