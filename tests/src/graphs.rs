//! Random residual networks, small enough to run in an interpreter.

use proptest::prelude::*;
use relc_ir::op::{
    Activation, Arithmetic, BatchNormalization, Conv, Gemm, MaxPool, Pad, Reshape, Slice, Window,
};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;

/// What the skip of a block does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Nothing.
    Identity,
    /// A 1x1 convolution, with the block's stride.
    Projection,
    /// Slice and Pad, with the block's stride.
    SlicePad,
}

/// A residual block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Its skip.
    pub skip: Skip,
    /// Whether it halves the picture (never with an identity skip).
    pub halves: bool,
    /// Whether its convolutions are followed by BatchNormalization.
    pub normalised: bool,
    /// Whether the skip is the first operand of the join.
    pub skip_first: bool,
}

/// A network to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Channels of the input and of the blocks.
    pub channels: [usize; 2],
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Whether a MaxPool follows the stem.
    pub pooled: bool,
    /// What follows the convolutions and the joins.
    pub activation: Activation,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Seeds the weights.
    pub seed: u64,
    /// A part of every name: what a text form has to quote.
    pub name: String,
}

/// Plans of networks with one to three blocks and odd sizes.
pub fn plans() -> impl Strategy<Value = Plan> {
    let skip = prop_oneof![Just(Skip::Identity), Just(Skip::Projection), Just(Skip::SlicePad)];
    let block =
        (skip, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(skip, halves, normalised, first)| {
            Block { skip, halves: halves && skip != Skip::Identity, normalised, skip_first: first }
        });
    let names =
        prop_oneof![Just("plain"), Just("/a b\"c"), Just("input:0"), Just("1st"), Just("r12"), Just("ü\\\n")];
    let blocks = prop::collection::vec(block, 1..4);
    (1..4usize, 1..6usize, 7..12usize, 7..12usize, any::<bool>(), blocks, any::<u64>(), names).prop_map(
        |(inputs, channels, h, w, pooled, blocks, seed, name)| Plan {
            channels: [inputs, channels],
            size: [h, w],
            pooled,
            activation: Activation::Relu,
            blocks,
            seed,
            name: name.to_string(),
        },
    )
}

impl Builder {
    /// A square convolution with half of the kernel as padding, and a bias or a BatchNormalization.
    pub(crate) fn conv(
        &mut self,
        x: ValueId,
        outputs: usize,
        kernel: usize,
        stride: usize,
        normalised: bool,
    ) -> ValueId {
        let inputs = self.dims(x)[0];
        let w = self.weight(&[outputs, inputs, kernel, kernel], -1.0, 1.0);
        let pad = kernel / 2;
        let window = Window::new([kernel; 2], [stride; 2]).padded(pad);
        let op = Op::Conv(Conv { window, group: 1, folded_bias: false });
        if !normalised {
            let bias = self.weight(&[outputs], -0.3, 0.3);
            return self.node(op, &[x, w, bias]);
        }
        let y = self.node(op, &[x, w]);
        self.normalised(y)
    }

    /// A BatchNormalization.
    pub(crate) fn normalised(&mut self, x: ValueId) -> ValueId {
        let [channels, ..] = self.dims(x);
        let (scale, bias) = (self.weight(&[channels], 0.5, 1.5), self.weight(&[channels], -0.3, 0.3));
        let (mean, var) = (self.weight(&[channels], -0.3, 0.3), self.weight(&[channels], 0.5, 1.5));
        self.node(Op::BatchNormalization(BatchNormalization { epsilon: 1e-5 }), &[x, scale, bias, mean, var])
    }

    pub(crate) fn block(&mut self, x: ValueId, block: Block, activation: Activation) -> ValueId {
        let channels = self.dims(x)[0];
        let grows = block.skip != Skip::Identity;
        let (outputs, stride) = (channels + usize::from(grows), 1 + usize::from(block.halves));
        let inner = self.conv(x, outputs, 3, stride, block.normalised);
        let inner = self.node(Op::Activation(activation), &[inner]);
        let main = self.conv(inner, outputs, 3, 1, block.normalised);
        let skip = match block.skip {
            Skip::Identity => x,
            Skip::Projection => self.conv(x, outputs, 1, stride, block.normalised),
            Skip::SlicePad => self.slice_pad(x, stride, outputs - channels),
        };
        let operands = if block.skip_first { [skip, main] } else { [main, skip] };
        let sum = self.node(Op::Arithmetic(Arithmetic::Add), &operands);
        self.node(Op::Activation(activation), &[sum])
    }

    fn slice_pad(&mut self, x: ValueId, stride: usize, more: usize) -> ValueId {
        let [c, h, w] = self.dims(x);
        let size = |n: usize| Dim::Fixed(n.div_ceil(stride));
        let sizes = vec![Dim::Batch, Dim::Fixed(c), size(h), size(w)];
        let slice = Slice { starts: vec![0; 4], sizes, steps: vec![1, 1, stride as isize, stride as isize] };
        let sliced = self.node(Op::Slice(slice), &[x]);
        self.node(Op::Pad(Pad { pads: vec![0, more, 0, 0, 0, 0, 0, 0], value: 0.0 }), &[sliced])
    }
}

/// Builds a network; one residual join for each block.
///
/// # Panics
/// Never, for a plan of [`plans`].
pub fn build(plan: &Plan) -> Graph {
    let (mut b, input) = Builder::new(&plan.name, plan.seed, [plan.channels[0], plan.size[0], plan.size[1]]);
    let stem = b.conv(input, plan.channels[1], 3, 1, true);
    let mut x = b.node(Op::Activation(plan.activation), &[stem]);
    if plan.pooled {
        let window = Window::new([3, 3], [2, 2]).padded(1);
        x = b.node(Op::MaxPool(MaxPool { window }), &[x]);
    }
    for block in &plan.blocks {
        x = b.block(x, *block, plan.activation);
    }
    b.head(x)
}

/// A network in which a 3x3 convolution of values of both signs has windows that see nothing but zeros.
///
/// # Panics
/// Never.
pub fn sees_zeros() -> Graph {
    let (mut b, input) = Builder::new("zeros", 3, [2, 5, 6]);
    let stem = b.conv(input, 5, 1, 1, true);
    let framed = b.node(Op::Pad(Pad { pads: vec![0, 0, 3, 3, 0, 0, 3, 3], value: 0.0 }), &[stem]);
    // Between Pad and Conv, so that these stay two.
    let signed = b.node(Op::Activation(Activation::LeakyRelu { alpha: 0.25 }), &[framed]);
    let x = b.conv(signed, 6, 3, 1, true);
    b.head(x)
}

impl Builder {
    /// The mean of each channel, and three outputs of them.
    fn head(mut self, x: ValueId) -> Graph {
        let b = &mut self;
        let channels = b.dims(x)[0];
        let pooled = b.node(Op::GlobalAveragePool, &[x]);
        let flat = b.node(Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::Fixed(channels)] }), &[pooled]);
        let (w, bias) = (b.weight(&[3, channels], -1.0, 1.0), b.weight(&[3], -0.1, 0.1));
        let logits = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[flat, w, bias]);
        self.finish(logits)
    }
}
