//! Random graphs of every forward op over values of one shape: no networks that anybody would train, but what analyses
//! of values must be right about.

use relc_ir::op::{
    Activation, Arithmetic, AveragePool, BatchNormalization, Concat, Conv, Expand, MaxPool,
    MeanVarianceNormalization, Pad, ReduceMean, Slice, Softmax, Transpose, Window,
};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;
use crate::every::activations;

/// The shape `[C, H, W]` of every value.
pub const SHAPE: [usize; 3] = [3, 4, 4];

/// A parameter of an activation: zeros, both signs, and now and then no number at all.
fn parameter(rng: &mut fastrand::Rng) -> f64 {
    let choices = [-6.0, -1.0, -0.5, -0.0, 0.0, 0.1, 1.0, 2.5, f64::NAN];
    choices[rng.usize(..choices.len())]
}

/// Any activation with any parameters.
pub fn activation(rng: &mut fastrand::Rng) -> Activation {
    let mut number = || parameter(rng);
    let (a, b) = (number(), number());
    let all = activations(a, b);
    all[rng.usize(..all.len())]
}

/// A graph of `nodes` random steps from one input `f32[N,C,H,W]` of [`SHAPE`].
///
/// # Panics
/// Never.
pub fn soup(seed: u64, nodes: usize) -> Graph {
    let (mut b, input) = Builder::new("soup", seed, SHAPE);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut values = vec![input];
    for _ in 0..nodes {
        // What came last comes more often, so that chains grow.
        let pick = |rng: &mut fastrand::Rng| {
            values[values.len() - 1 - rng.usize(..values.len()).min(rng.usize(..3))]
        };
        let operands = [pick(&mut rng), pick(&mut rng)];
        let value = step(&mut b, &mut rng, operands);
        values.push(value);
    }
    let last = values[values.len() - 1];
    b.finish(last)
}

/// A constant for each channel: of both signs, of one, or zero.
fn constant(b: &mut Builder, rng: &mut fastrand::Rng, dims: &[usize]) -> ValueId {
    let (low, high) = [(-2.0, 2.0), (0.0, 2.0), (-2.0, 0.0), (0.0, 0.0), (0.5, 2.0)][rng.usize(..5)];
    b.weight(dims, low, high)
}

fn step(b: &mut Builder, rng: &mut fastrand::Rng, [x, other]: [ValueId; 2]) -> ValueId {
    let [c, h, w] = SHAPE;
    let batched = |dims: &[usize]| -> Vec<Dim> {
        [Dim::Batch].into_iter().chain(dims.iter().map(|d| Dim::Fixed(*d))).collect()
    };
    let window = Window::new([3, 3], [1, 1]).padded(1);
    match rng.usize(..16) {
        0..=4 => b.node(Op::Activation(activation(rng)), &[x]),
        5 => {
            let ops = [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Max, Arithmetic::Min];
            b.node(Op::Arithmetic(ops[rng.usize(..ops.len())]), &[x, other])
        }
        6 => {
            let constant = constant(b, rng, &[c, 1, 1]);
            let ops = [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div, Arithmetic::PRelu];
            let op = ops[rng.usize(..ops.len())];
            let turned = rng.bool() && op != Arithmetic::PRelu;
            b.node(Op::Arithmetic(op), &if turned { [constant, x] } else { [x, constant] })
        }
        7 => {
            let exponent = [2.0, 0.5, 3.0, -1.0, -2.0, 0.0][rng.usize(..6)];
            let exponent = b.weight(&[1], exponent, exponent);
            b.node(Op::Arithmetic(Arithmetic::Pow), &[x, exponent])
        }
        8 => b.node(Op::MaxPool(MaxPool { window }), &[x]),
        9 => b.node(Op::AveragePool(AveragePool { window, count_include_pad: rng.bool() }), &[x]),
        10 => {
            let value = if rng.bool() { 0.0 } else { f64::from(rng.i32(-2..3)) };
            let padded = b.node(Op::Pad(Pad { pads: vec![0, 0, 1, 0, 0, 0, 0, 0], value }), &[x]);
            let slice = Slice { starts: vec![0; 4], sizes: batched(&SHAPE), steps: vec![1; 4] };
            b.node(Op::Slice(slice), &[padded])
        }
        11 => {
            let both = b.node(Op::Concat(Concat { axis: 1 }), &[x, other]);
            let starts = vec![0, rng.usize(..=c), 0, 0];
            b.node(Op::Slice(Slice { starts, sizes: batched(&SHAPE), steps: vec![1; 4] }), &[both])
        }
        12 => b.node(Op::Softmax(Softmax { axis: 1, log: rng.bool() }), &[x]),
        13 => {
            let mut parameter = || constant(b, rng, &[c]);
            let (scale, bias, mean) = (parameter(), parameter(), parameter());
            let var = b.weight(&[c], 0.1, 2.0);
            b.node(Op::BatchNormalization(BatchNormalization { epsilon: 1e-5 }), &[x, scale, bias, mean, var])
        }
        14 => {
            let mean = if rng.bool() {
                b.node(Op::GlobalAveragePool, &[x])
            } else {
                b.node(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keepdims: true }), &[x])
            };
            b.node(Op::Expand(Expand { shape: batched(&[c, h, w]) }), &[mean])
        }
        _ if rng.bool() => b.node(Op::Transpose(Transpose { perm: vec![0, 1, 3, 2] }), &[x]),
        _ if rng.bool() => {
            let op = MeanVarianceNormalization { axes: vec![2, 3], epsilon: 1e-3 };
            b.node(Op::MeanVarianceNormalization(op), &[x])
        }
        _ => {
            let weight = constant(b, rng, &[c, c, 1, 1]);
            let conv = Conv { window: Window::new([1, 1], [1, 1]), group: 1, folded_bias: false };
            b.node(Op::Conv(conv), &[x, weight])
        }
    }
}
