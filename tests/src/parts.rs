//! Random networks of all kinds of parts: gates, concatenations, pre-activation, odd windows, values of both signs.

use proptest::prelude::*;
use relc_ir::op::{
    Activation, Arithmetic, AveragePool, Concat, Conv, Gemm, MaxPool, Pad, Reshape, Slice, Softmax, Window,
};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;
use crate::graphs::{Block, Skip};

/// What closes a gate.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    /// A factor for each channel, from the channels' means.
    Channels {
        /// What bounds it.
        bound: Activation,
    },
    /// A factor for each pixel.
    Pixels {
        /// What bounds it.
        bound: Activation,
    },
}

/// A part of a network: from one value to another. A window that does not fit is left out.
#[derive(Clone, Debug)]
pub enum Part {
    /// A convolution and the activation.
    Conv {
        /// Its window.
        window: Window,
        /// Outputs of each group.
        outputs: usize,
        /// Whether each channel is a group of its own.
        depthwise: bool,
        /// Whether a BatchNormalization follows.
        normalised: bool,
    },
    /// A residual block.
    Residual(Block),
    /// A residual block whose branch begins with BatchNormalization and activation, and maybe ends in a gate.
    Preactivated {
        /// What multiplies the branch.
        gate: Option<Gate>,
    },
    /// Layers that each read all before them, side by side.
    Dense {
        /// How many.
        layers: usize,
        /// Whether each begins with BatchNormalization and activation.
        preactivated: bool,
    },
    /// A gate.
    Gate(Gate),
    /// A maximum over windows.
    MaxPool(Window),
    /// A mean over windows.
    AveragePool(Window, bool),
    /// Convolutions and a pool side by side.
    Branches,
    /// Sums that share their operands.
    SeveralJoins {
        /// Whether one sum has three operands.
        ternary: bool,
    },
    /// A frame of constants.
    Pad([usize; 4], f64),
    /// A part of the picture.
    Slice {
        /// The first row and column, counted from where the steps come from.
        starts: [usize; 2],
        /// The steps, negative from the bottom or the right.
        steps: [isize; 2],
    },
    /// A constant for each channel.
    Scale(Arithmetic),
}

/// How a network ends.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// The means of the channels, and a fully connected layer.
    Mean,
    /// Their maxima likewise.
    Max,
    /// All pixels, and a fully connected layer.
    Flat,
    /// A 1x1 convolution, and the means of its channels.
    Conv,
    /// The means, and two fully connected layers.
    Layers,
}

/// A network to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Channels, height and width of the input.
    pub image: [usize; 3],
    /// Whether the input has both signs.
    pub signed: bool,
    /// Whether two convolutions read the input, and whether they meet in a sum.
    pub two_stems: Option<bool>,
    /// What follows convolutions.
    pub activation: Activation,
    /// The parts.
    pub parts: Vec<Part>,
    /// The head.
    pub head: Head,
    /// Whether a Softmax follows.
    pub softmax: bool,
    /// Seeds the weights.
    pub seed: u64,
}

fn activations() -> impl Strategy<Value = Activation> {
    let clips = prop_oneof![Just((0.0, 6.0)), Just((-1.0, 1.0)), Just((0.1, 1.5)), Just((-3.0, -0.2))];
    prop_oneof![
        6 => Just(Activation::Relu),
        2 => Just(Activation::LeakyRelu { alpha: 0.2 }),
        1 => Just(Activation::Elu { alpha: 0.7 }),
        1 => Just(Activation::Selu { alpha: 1.67, gamma: 1.05 }),
        1 => Just(Activation::Swish { alpha: 1.0 }),
        1 => Just(Activation::HardSwish),
        1 => Just(Activation::Gelu { tanh: false }),
        1 => Just(Activation::Mish),
        1 => Just(Activation::Softplus),
        1 => Just(Activation::Tanh),
        1 => Just(Activation::ThresholdedRelu { alpha: 0.1 }),
        2 => clips.prop_map(|(min, max)| Activation::Clip { min, max }),
    ]
}

/// Forwards or backwards, one by one or by leaps.
fn slice_steps() -> impl Strategy<Value = isize> {
    prop_oneof![Just(1), Just(2), Just(-1), Just(-2)]
}

/// Windows with pads less than the kernel, so that none sees padding alone.
fn windows() -> impl Strategy<Value = Window> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let pads = [0..3usize, 0..3, 0..3, 0..3];
    (pair(1..4), pair(1..3), pads, pair(1..3), any::<bool>()).prop_map(
        |(kernel, strides, pads, dilations, ceil)| {
            let pads = [0, 1, 2, 3].map(|i| pads[i].min(kernel[i % 2] - 1));
            Window { ceil, ..Window::from_lists(&kernel, &strides, &pads, &dilations).unwrap() }
        },
    )
}

fn gates() -> impl Strategy<Value = Gate> {
    let hard = Activation::HardSigmoid { alpha: 0.2, beta: 0.5 };
    let bounds = prop_oneof![Just(Activation::Sigmoid), Just(hard)];
    (bounds, any::<bool>()).prop_map(
        |(bound, pixels)| {
            if pixels { Gate::Pixels { bound } } else { Gate::Channels { bound } }
        },
    )
}

fn blocks() -> impl Strategy<Value = Block> {
    let skip = prop_oneof![Just(Skip::Identity), Just(Skip::Projection), Just(Skip::SlicePad)];
    (skip, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(skip, halves, normalised, skip_first)| {
        Block { skip, halves: halves && skip != Skip::Identity, normalised, skip_first }
    })
}

fn parts() -> impl Strategy<Value = Part> {
    let arithmetic = prop_oneof![
        Just(Arithmetic::Add),
        Just(Arithmetic::Sub),
        Just(Arithmetic::Mul),
        Just(Arithmetic::Div)
    ];
    let values = prop_oneof![Just(0.0), Just(0.5), Just(-0.25)];
    prop_oneof![
        3 => (windows(), 1..5usize, any::<bool>(), any::<bool>()).prop_map(
            |(window, outputs, depthwise, normalised)| {
                Part::Conv { window: Window { ceil: false, ..window }, outputs, depthwise, normalised }
            }
        ),
        3 => blocks().prop_map(Part::Residual),
        1 => prop::option::of(gates()).prop_map(|gate| Part::Preactivated { gate }),
        1 => (1..3usize, any::<bool>())
            .prop_map(|(layers, preactivated)| Part::Dense { layers, preactivated }),
        2 => gates().prop_map(Part::Gate),
        2 => windows().prop_map(Part::MaxPool),
        2 => (windows(), any::<bool>()).prop_map(|(window, include)| Part::AveragePool(window, include)),
        1 => Just(Part::Branches),
        2 => any::<bool>().prop_map(|ternary| Part::SeveralJoins { ternary }),
        1 => ([0..3usize, 0..3, 0..3, 0..3], values).prop_map(|(pads, value)| Part::Pad(pads, value)),
        1 => ([0..2usize, 0..2], [slice_steps(), slice_steps()])
            .prop_map(|(starts, steps)| Part::Slice { starts, steps }),
        1 => arithmetic.prop_map(Part::Scale),
    ]
}

/// Plans of networks with one to four parts behind their stem.
pub fn plans() -> impl Strategy<Value = Plan> {
    let heads = prop_oneof![
        3 => Just(Head::Mean),
        1 => Just(Head::Max),
        1 => Just(Head::Flat),
        1 => Just(Head::Conv),
        1 => Just(Head::Layers),
    ];
    // One in five is a signal: a picture of one row.
    let image = prop_oneof![
        4 => (1..4usize, 5..11usize, 5..11usize).prop_map(|(c, h, w)| [c, h, w]),
        1 => (1..4usize, 9..20usize).prop_map(|(c, l)| [c, 1, l]),
    ];
    let stems = prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let parts = prop::collection::vec(parts(), 1..5);
    (image, any::<bool>(), stems, activations(), parts, heads, any::<bool>(), any::<u64>()).prop_map(
        |(image, signed, two_stems, activation, parts, head, softmax, seed)| Plan {
            image,
            signed,
            two_stems,
            activation,
            parts,
            head,
            softmax,
            seed,
        },
    )
}

/// Builds a network.
///
/// # Panics
/// Never, for a plan of [`plans`].
pub fn build(plan: &Plan) -> Graph {
    let (mut b, input) = Builder::new("random", plan.seed, plan.image);
    let act = plan.activation;
    let mut x = match plan.two_stems {
        None => b.activated(input, 4, 3, act),
        Some(sum) => {
            let (one, other) = (b.conv(input, 4, 3, 1, true), b.conv(input, 4, 1, 1, false));
            let met = if sum { b.sum(&[one, other]) } else { b.concat(&[one, other]) };
            b.node(Op::Activation(act), &[met])
        }
    };
    for part in &plan.parts {
        x = b.part(x, part, act);
    }
    let logits = b.logits(x, plan.head, act);
    let softmax = Op::Softmax(Softmax { axis: 1, log: false });
    let y = if plan.softmax { b.node(softmax, &[logits]) } else { logits };
    b.finish(y)
}

impl Builder {
    fn activated(&mut self, x: ValueId, outputs: usize, kernel: usize, act: Activation) -> ValueId {
        let y = self.conv(x, outputs, kernel, 1, false);
        self.node(Op::Activation(act), &[y])
    }

    fn sum(&mut self, xs: &[ValueId]) -> ValueId {
        self.node(Op::Arithmetic(Arithmetic::Add), xs)
    }

    fn concat(&mut self, xs: &[ValueId]) -> ValueId {
        self.node(Op::Concat(Concat { axis: 1 }), xs)
    }

    fn fits(&self, x: ValueId, window: &Window) -> bool {
        let [_, h, w] = self.dims(x);
        window.output_size(&[h, w]).is_ok()
    }

    fn part(&mut self, x: ValueId, part: &Part, act: Activation) -> ValueId {
        let [channels, h, w] = self.dims(x);
        match *part {
            Part::Conv { window, outputs, depthwise, normalised } => {
                if !self.fits(x, &window) {
                    return x;
                }
                let group = if depthwise { channels } else { 1 };
                let y = self.convolved(x, window, outputs * group, group, normalised);
                self.node(Op::Activation(act), &[y])
            }
            Part::Residual(block) => self.block(x, block, act),
            Part::Preactivated { gate } => {
                let y = self.normalised(x);
                let y = self.node(Op::Activation(act), &[y]);
                let y = self.activated(y, channels, 3, act);
                let y = self.conv(y, channels, 3, 1, false);
                let y = gate.map_or(y, |gate| self.gated(y, gate));
                self.sum(&[x, y])
            }
            Part::Dense { layers, preactivated } => (0..layers).fold(x, |x, _| {
                let mut y = x;
                if preactivated {
                    y = self.normalised(y);
                    y = self.node(Op::Activation(act), &[y]);
                }
                let y = self.activated(y, 2, 3, act);
                self.concat(&[x, y])
            }),
            Part::Gate(gate) => self.gated(x, gate),
            Part::MaxPool(window) => self.node_if_it_fits(Op::MaxPool(MaxPool { window }), x),
            Part::AveragePool(window, count_include_pad) => {
                self.node_if_it_fits(Op::AveragePool(AveragePool { window, count_include_pad }), x)
            }
            Part::Branches => {
                let window = Window::new([3; 2], [1; 2]).padded(1);
                let pooled = self.node(Op::MaxPool(MaxPool { window }), &[x]);
                let ways = [
                    self.activated(x, 2, 1, act),
                    self.activated(x, 3, 3, act),
                    self.activated(pooled, 1, 1, act),
                ];
                self.concat(&ways)
            }
            Part::SeveralJoins { ternary } => {
                let a = self.activated(x, channels, 3, act);
                let b = self.activated(a, channels, 1, act);
                let inner = self.sum(&[x, b]);
                if ternary { self.sum(&[x, a, inner]) } else { self.sum(&[inner, a]) }
            }
            Part::Pad([top, left, bottom, right], value) => {
                let pads = vec![0, 0, top, left, 0, 0, bottom, right];
                self.node(Op::Pad(Pad { pads, value }), &[x])
            }
            Part::Slice { starts: [top, left], steps: [down, across] } => {
                let along = |from: usize, n: usize, step: isize| {
                    let from = from.min(n - 1);
                    let start = if step < 0 { n - 1 - from } else { from };
                    (start, Dim::Fixed((n - from).div_ceil(step.unsigned_abs())))
                };
                let ((top, rows), (left, columns)) = (along(top, h, down), along(left, w, across));
                let sizes = vec![Dim::Batch, Dim::Fixed(channels), rows, columns];
                let slice = Slice { starts: vec![0, 0, top, left], sizes, steps: vec![1, 1, down, across] };
                self.node(Op::Slice(slice), &[x])
            }
            Part::Scale(arithmetic) => {
                let factors = self.weight(&[channels, 1, 1], 0.5, 1.5);
                self.node(Op::Arithmetic(arithmetic), &[x, factors])
            }
        }
    }

    fn gated(&mut self, x: ValueId, gate: Gate) -> ValueId {
        let (factors, bound) = match gate {
            Gate::Pixels { bound } => (self.conv(x, 1, 3, 1, false), bound),
            Gate::Channels { bound } => {
                let [channels, ..] = self.dims(x);
                let means = self.node(Op::GlobalAveragePool, &[x]);
                let squeezed = self.activated(means, channels.div_ceil(2), 1, Activation::Relu);
                (self.conv(squeezed, channels, 1, 1, false), bound)
            }
        };
        let factors = self.node(Op::Activation(bound), &[factors]);
        self.node(Op::Arithmetic(Arithmetic::Mul), &[x, factors])
    }

    fn logits(&mut self, x: ValueId, head: Head, act: Activation) -> ValueId {
        const CLASSES: usize = 3;
        let [channels, h, w] = self.dims(x);
        match head {
            Head::Mean | Head::Layers => {
                let pooled = self.node(Op::GlobalAveragePool, &[x]);
                let mut features = self.flat(pooled, channels);
                let mut count = channels;
                if matches!(head, Head::Layers) {
                    count = 5;
                    let hidden = self.gemm(features, channels, count);
                    features = self.node(Op::Activation(act), &[hidden]);
                }
                self.gemm(features, count, CLASSES)
            }
            Head::Max => {
                let window = Window::new([h, w], [1; 2]);
                let pooled = self.node(Op::MaxPool(MaxPool { window }), &[x]);
                let features = self.flat(pooled, channels);
                self.gemm(features, channels, CLASSES)
            }
            Head::Flat => {
                let features = self.flat(x, channels * h * w);
                self.gemm(features, channels * h * w, CLASSES)
            }
            Head::Conv => {
                let classes = self.conv(x, CLASSES, 1, 1, false);
                let pooled = self.node(Op::GlobalAveragePool, &[classes]);
                self.flat(pooled, CLASSES)
            }
        }
    }

    fn flat(&mut self, x: ValueId, features: usize) -> ValueId {
        self.node(Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::Fixed(features)] }), &[x])
    }

    fn gemm(&mut self, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
        let (w, bias) = (self.weight(&[outputs, inputs], -1.0, 1.0), self.weight(&[outputs], -0.1, 0.1));
        self.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[x, w, bias])
    }

    fn convolved(
        &mut self,
        x: ValueId,
        window: Window,
        outputs: usize,
        group: usize,
        normalised: bool,
    ) -> ValueId {
        let [channels, ..] = self.dims(x);
        let shape = [&[outputs, channels / group], &window.kernel()[..]].concat();
        let w = self.weight(&shape, -1.0, 1.0);
        let y = self.node(Op::Conv(Conv { window, group, folded_bias: false }), &[x, w]);
        if normalised { self.normalised(y) } else { y }
    }
}
