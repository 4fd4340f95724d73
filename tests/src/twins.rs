//! Twins: one network, as different exporters write it.

use proptest::prelude::*;
use relc_ir::op::{
    Activation, Arithmetic, BatchNormalization, Concat, Conv, Gemm, MaxPool, Pad, Reshape, Window, WindowAxis,
};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;

/// How a network is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With its BatchNormalizations.
    Normalised,
    /// With each BatchNormalization folded into the layer before it, as exporters do.
    Folded,
    /// As `Folded`, with each weight changed by 6e-8 of itself at most: what rounding a weight to f32 does. Each number stands for other changes.
    Nudged(u8),
    /// With the channels between a layer and its BatchNormalization in another unit.
    Rescaled,
    /// With Identity, Dropout and Reshapes between a layer and its BatchNormalization.
    Padded,
    /// As `Normalised`, with biases and padding as nodes of their own, and MatMul for Gemm.
    Apart,
    /// With each BatchNormalization as a Mul and an Add of constants.
    WrittenOut,
    /// With layers over one more axis, of size 1, between Reshapes: a row as a picture, a picture as a volume.
    Raised,
}

impl Form {
    /// The forms that all write one network.
    pub const TWINS: [Form; 7] = [
        Form::Normalised,
        Form::Folded,
        Form::Rescaled,
        Form::Padded,
        Form::Apart,
        Form::WrittenOut,
        Form::Raised,
    ];
}

/// What the blocks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two convolutions and an identity skip.
    Identity,
    /// Two convolutions and a projection.
    Projection,
    /// BatchNormalization and Relu before each convolution, which nothing folds.
    PreActivation,
    /// Two convolutions side by side, one of them grouped.
    Concat,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Spatial axes: 1 for rows, 2 for pictures, 3 for volumes.
    pub axes: usize,
    /// Whether some BatchNormalizations turn their channels around.
    pub negative: bool,
    /// BatchNormalization's epsilon.
    pub epsilon: f64,
    /// Whether a MaxPool follows the stem.
    pub pooled: bool,
    /// What follows the stem.
    pub blocks: Vec<Block>,
    /// Seeds the weights.
    pub seed: u64,
}

/// Plans of small networks.
pub fn plans() -> impl Strategy<Value = Plan> {
    let blocks = prop_oneof![
        Just(Block::Identity),
        Just(Block::Projection),
        Just(Block::PreActivation),
        Just(Block::Concat)
    ];
    let epsilon = prop_oneof![Just(1e-5), Just(1e-3)];
    (1..4usize, any::<bool>(), epsilon, any::<bool>(), prop::collection::vec(blocks, 1..3), any::<u64>())
        .prop_map(|(axes, negative, epsilon, pooled, blocks, seed)| Plan {
            axes,
            negative,
            epsilon,
            pooled,
            blocks,
            seed,
        })
}

struct Writer<'a> {
    b: Builder,
    plan: &'a Plan,
    form: Form,
    /// Of what is not the network's but the form's.
    rng: fastrand::Rng,
}

/// BatchNormalization's parameters, in ONNX's order.
type Norm = [Vec<f32>; 4];

/// The network in a form: of `f32[N,2,19]`, `f32[N,2,7,8]` or `f32[N,2,4,5,6]` to three outputs.
///
/// # Panics
/// Never, for a plan of [`plans`].
pub fn build(plan: &Plan, form: Form) -> Graph {
    let input: &[usize] = match plan.axes {
        1 => &[2, 19],
        2 => &[2, 7, 8],
        _ => &[2, 4, 5, 6],
    };
    let (b, x) = Builder::of("twin", plan.seed, input);
    let way = if let Form::Nudged(way) = form { u64::from(way) } else { 0 };
    let mut w = Writer { b, plan, form, rng: fastrand::Rng::with_seed(plan.seed ^ 7 ^ (way << 8)) };
    let stem = w.conv(x, 4, 3, 1, true);
    let mut x = w.b.relu(stem);
    if plan.pooled {
        x = w.max_pool(x);
    }
    for block in &plan.blocks {
        x = w.block(x, *block);
    }
    let x = w.raise(x);
    let channels = w.b.sizes(x)[0];
    let pooled = w.b.node(Op::GlobalAveragePool, &[x]);
    let flat = w.reshape(pooled, &[channels]);
    let hidden = w.gemm(flat, 5, true);
    let hidden = w.b.relu(hidden);
    let logits = w.gemm(hidden, 3, false);
    w.b.finish(logits)
}

impl Writer<'_> {
    fn reshape(&mut self, x: ValueId, sizes: &[usize]) -> ValueId {
        let shape = [vec![Dim::Batch], sizes.iter().copied().map(Dim::Fixed).collect()].concat();
        self.b.node(Op::Reshape(Reshape { shape }), &[x])
    }

    fn is_raised(&self) -> bool {
        self.form == Form::Raised && self.plan.axes < 3
    }

    /// A value as layers take it.
    fn raise(&mut self, x: ValueId) -> ValueId {
        if !self.is_raised() {
            return x;
        }
        let mut sizes = self.b.sizes(x).to_vec();
        sizes.insert(1, 1);
        self.reshape(x, &sizes)
    }

    /// What a layer gives as the network has it.
    fn lower(&mut self, y: ValueId) -> ValueId {
        if !self.is_raised() {
            return y;
        }
        let mut sizes = self.b.sizes(y).to_vec();
        sizes.remove(1);
        self.reshape(y, &sizes)
    }

    fn window(&self, kernel: usize, stride: usize) -> Window {
        let pads = [kernel / 2; 2];
        let axis = WindowAxis { kernel, stride, pads, ..WindowAxis::ONE };
        let raised = self.is_raised().then_some(WindowAxis::ONE);
        let axes = raised.into_iter().chain(std::iter::repeat_n(axis, self.plan.axes)).collect();
        Window { axes, ceil: false }
    }

    fn max_pool(&mut self, x: ValueId) -> ValueId {
        let window = self.window(3, 2);
        let x = self.raise(x);
        let y = self.b.node(Op::MaxPool(MaxPool { window }), &[x]);
        self.lower(y)
    }

    fn block(&mut self, x: ValueId, block: Block) -> ValueId {
        let channels = self.b.sizes(x)[0];
        match block {
            Block::Identity | Block::Projection => {
                let (outputs, stride) =
                    if block == Block::Identity { (channels, 1) } else { (channels + 2, 2) };
                let y = self.conv(x, outputs, 3, stride, true);
                let y = self.b.relu(y);
                let main = self.conv(y, outputs, 3, 1, true);
                let skip = if block == Block::Identity { x } else { self.conv(x, outputs, 1, stride, true) };
                let sum = self.b.node(Op::Arithmetic(Arithmetic::Add), &[main, skip]);
                self.b.relu(sum)
            }
            Block::PreActivation => {
                let norm = self.norm(channels);
                let y = self.normalise(x, norm);
                let y = self.b.relu(y);
                let y = self.conv(y, channels, 3, 1, true);
                let y = self.b.relu(y);
                let main = self.conv(y, channels, 3, 1, false);
                self.b.node(Op::Arithmetic(Arithmetic::Add), &[main, x])
            }
            Block::Concat => {
                let wide = self.conv(x, channels, 3, 1, true);
                let pointwise = self.conv(x, 2, 1, 1, false);
                let both = self.b.node(Op::Concat(Concat { axis: 1 }), &[wide, pointwise]);
                // A normalisation of both: it follows no layer.
                let norm = self.norm(channels + 2);
                let y = self.normalise(both, norm);
                self.b.relu(y)
            }
        }
    }

    fn norm(&mut self, channels: usize) -> Norm {
        let mut scale = self.b.values(channels, 0.5, 1.5);
        if self.plan.negative {
            scale.iter_mut().step_by(3).for_each(|s| *s = -*s);
        }
        let mean = self.b.values(channels, -0.3, 0.3);
        [scale, self.b.values(channels, -0.3, 0.3), mean, self.b.values(channels, 0.5, 1.5)]
    }

    fn normalise(&mut self, x: ValueId, [scale, bias, mean, var]: Norm) -> ValueId {
        if self.form == Form::WrittenOut {
            let factor = scale
                .iter()
                .zip(&var)
                .map(|(s, v)| f64::from(*s) / (f64::from(*v) + self.plan.epsilon).sqrt());
            let factor: Vec<f64> = factor.collect();
            let shift = bias
                .iter()
                .zip(&mean)
                .zip(&factor)
                .map(|((b, m), f)| (f64::from(*b) - f64::from(*m) * f) as f32);
            let shift = shift.collect();
            let mut shape = vec![1; self.b.sizes(x).len()];
            shape[0] = factor.len();
            let factor = self.b.constant(&shape, factor.into_iter().map(|f| f as f32).collect());
            let shift = self.b.constant(&shape, shift);
            let product = self.b.node(Op::Arithmetic(Arithmetic::Mul), &[x, factor]);
            return self.b.node(Op::Arithmetic(Arithmetic::Add), &[shift, product]);
        }
        let parameters = [scale, bias, mean, var].map(|values| self.b.constant(&[values.len()], values));
        let op = Op::BatchNormalization(BatchNormalization { epsilon: self.plan.epsilon });
        self.b.node(op, &[&[x], &parameters[..]].concat())
    }

    /// A weight `[outputs, ..]` and its bias as the form has them, and the normalisation that is left.
    fn layer(
        &mut self,
        outputs: usize,
        inputs: usize,
        normalised: bool,
    ) -> (Vec<f32>, Vec<f32>, Option<Norm>) {
        let reach = 1.5 / (inputs as f32).sqrt();
        let mut weight = self.b.values(outputs * inputs, -reach, reach);
        let mut bias = self.b.values(outputs, -0.3, 0.3);
        let mut norm = normalised.then(|| self.norm(outputs));
        match (self.form, &mut norm) {
            (Form::Folded | Form::Nudged(_), Some([scale, shift, mean, var])) => {
                for o in 0..outputs {
                    let wide = |v: &[f32]| f64::from(v[o]);
                    let factor = wide(scale) / (wide(var) + self.plan.epsilon).sqrt();
                    let folded = (wide(&bias) - wide(mean)) * factor + wide(shift);
                    bias[o] = folded as f32;
                    for w in &mut weight[o * inputs..][..inputs] {
                        *w = (f64::from(*w) * factor) as f32;
                    }
                }
                norm = None;
            }
            (Form::Rescaled, Some([_, _, mean, var])) => {
                for o in 0..outputs {
                    let unit = 0.5 + 1.5 * self.rng.f64();
                    let scaled = |v: f32| (f64::from(v) * unit) as f32;
                    let spread = (f64::from(var[o]) + self.plan.epsilon) * unit * unit - self.plan.epsilon;
                    (bias[o], mean[o], var[o]) = (scaled(bias[o]), scaled(mean[o]), spread as f32);
                    weight[o * inputs..][..inputs].iter_mut().for_each(|w| *w = scaled(*w));
                }
            }
            _ => {}
        }
        if matches!(self.form, Form::Nudged(_)) {
            let nudge = |v: &mut f32| {
                let change = 6e-8 * if self.rng.bool() { 1.0 } else { -1.0 };
                *v = (f64::from(*v) * (1.0 + change)) as f32;
            };
            weight.iter_mut().chain(&mut bias).for_each(nudge);
        }
        (weight, bias, norm)
    }

    fn conv(
        &mut self,
        x: ValueId,
        outputs: usize,
        kernel: usize,
        stride: usize,
        normalised: bool,
    ) -> ValueId {
        let channels = self.b.sizes(x)[0];
        // Grouped where it can be, and the kernel is more than a point.
        let even = channels.is_multiple_of(2) && outputs.is_multiple_of(2);
        let group = if even && kernel > 1 && channels > 2 { 2 } else { 1 };
        let mut window = self.window(kernel, stride);
        let inputs = channels / group * window.taps();
        let (weight, bias, norm) = self.layer(outputs, inputs, normalised);
        let shape = [&[outputs, channels / group], &window.kernel()[..]].concat();
        let weight = self.b.constant(&shape, weight);
        let apart = self.form == Form::Apart;
        let mut x = x;
        if apart && kernel > 1 {
            let p = kernel / 2;
            let axes = self.b.sizes(x).len() - 1;
            let side = [vec![0, 0], vec![p; axes]].concat();
            x = self.b.node(Op::Pad(Pad { pads: [side.clone(), side].concat(), value: 0.0 }), &[x]);
            window = window.padded(0);
        }
        let x = self.raise(x);
        let op = Op::Conv(Conv { window, group, folded_bias: false });
        let mut y = if apart {
            let y = self.b.node(op, &[x, weight]);
            let dims = [vec![outputs], vec![1; self.b.sizes(y).len() - 1]].concat();
            let bias = self.b.constant(&dims, bias);
            self.b.node(Op::Arithmetic(Arithmetic::Add), &[y, bias])
        } else {
            let bias = self.b.constant(&[outputs], bias);
            let y = self.b.node(op, &[x, weight, bias]);
            self.lower(y)
        };
        if self.form == Form::Padded {
            y = self.b.node(Op::Activation(Activation::Identity), &[y]);
            y = self.b.node(Op::Activation(Activation::Dropout), &[y]);
        }
        let Some(norm) = norm else { return y };
        if self.form != Form::Padded {
            return self.normalise(y, norm);
        }
        // With two axes as one, or one more.
        let sizes = self.b.sizes(y);
        let other = match sizes[..] {
            [c, h, w, ref rest @ ..] => [&[c, h * w], rest].concat(),
            _ => [&sizes[..], &[1]].concat(),
        };
        let y = self.reshape(y, &other);
        let y = self.normalise(y, norm);
        self.reshape(y, &sizes)
    }

    fn gemm(&mut self, x: ValueId, outputs: usize, normalised: bool) -> ValueId {
        let inputs = self.b.sizes(x)[0];
        let (weight, bias, norm) = self.layer(outputs, inputs, normalised);
        let bias = self.b.constant(&[outputs], bias);
        let y = if self.form == Form::Apart {
            let turned = (0..inputs * outputs).map(|i| weight[i % outputs * inputs + i / outputs]).collect();
            let weight = self.b.constant(&[inputs, outputs], turned);
            let product = self.b.node(Op::MatMul, &[x, weight]);
            self.b.node(Op::Arithmetic(Arithmetic::Add), &[bias, product])
        } else {
            let weight = self.b.constant(&[outputs, inputs], weight);
            self.b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[x, weight, bias])
        };
        match norm {
            Some(norm) => self.normalise(y, norm),
            None => y,
        }
    }
}
