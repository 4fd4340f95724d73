//! ResNets of the usual shapes with random weights: to time, not to look at.

use relc_ir::op::{Arithmetic, Conv, Gemm, MaxPool, Reshape, Window};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;

/// What a stage repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1; the last has four times as many channels.
    Bottleneck,
}

/// A ResNet: He et al., *Deep Residual Learning for Image Recognition* (CVPR 2016), table 1, with BatchNormalization
/// folded away.
#[derive(Clone, Copy, Debug)]
pub struct ResNet {
    /// Its blocks.
    pub kind: Kind,
    /// How many each stage has.
    pub blocks: [usize; 4],
    /// Channels of the first stage; each further one has twice as many.
    pub width: usize,
    /// Height and width of the input, `f32[N,3,H,W]`.
    pub size: [usize; 2],
    /// Outputs.
    pub classes: usize,
}

impl ResNet {
    /// ResNet-18 for ImageNet, for inputs of another size if need be.
    pub const fn resnet18(size: usize) -> ResNet {
        let blocks = [2, 2, 2, 2];
        ResNet { kind: Kind::Basic, blocks, width: 64, size: [size, size], classes: 1000 }
    }

    /// ResNet-50 likewise.
    pub const fn resnet50(size: usize) -> ResNet {
        ResNet { kind: Kind::Bottleneck, blocks: [3, 4, 6, 3], ..ResNet::resnet18(size) }
    }

    /// Its graph; one residual join for each block.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn graph(&self) -> Graph {
        let (mut b, input) = Builder::new("resnet", 0, [3, self.size[0], self.size[1]]);
        let stem = conv(&mut b, input, self.width, 7, 2);
        let stem = b.relu(stem);
        let window = Window::new([3, 3], [2, 2]).padded(1);
        let mut x = b.node(Op::MaxPool(MaxPool { window }), &[stem]);
        for (stage, count) in self.blocks.into_iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.block(&mut b, x, self.width << stage, stride);
            }
        }
        let channels = b.dims(x)[0];
        let pooled = b.node(Op::GlobalAveragePool, &[x]);
        let shape = vec![Dim::Batch, Dim::Fixed(channels)];
        let flat = b.node(Op::Reshape(Reshape { shape }), &[pooled]);
        let (weight, bias) =
            (b.weight(&[self.classes, channels], -0.1, 0.1), b.weight(&[self.classes], -0.1, 0.1));
        let logits = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[flat, weight, bias]);
        b.finish(logits)
    }

    fn block(&self, b: &mut Builder, x: ValueId, width: usize, stride: usize) -> ValueId {
        let (layers, channels): (&[_], _) = match self.kind {
            Kind::Basic => (&[(3, stride), (3, 1)], width),
            Kind::Bottleneck => (&[(1, 1), (3, stride), (1, 1)], 4 * width),
        };
        let mut main = x;
        for (index, (kernel, stride)) in layers.iter().enumerate() {
            let last = index + 1 == layers.len();
            main = conv(b, main, if last { channels } else { width }, *kernel, *stride);
            if !last {
                main = b.relu(main);
            }
        }
        let fits = stride == 1 && b.dims(x)[0] == channels;
        let skip = if fits { x } else { conv(b, x, channels, 1, stride) };
        let sum = b.node(Op::Arithmetic(Arithmetic::Add), &[main, skip]);
        b.relu(sum)
    }
}

/// A convolution that halves the mean square of what passes, so that sums of two branches keep it.
fn conv(b: &mut Builder, x: ValueId, outputs: usize, kernel: usize, stride: usize) -> ValueId {
    let inputs = b.dims(x)[0];
    let bound = (3.0 / (inputs * kernel * kernel) as f32).sqrt();
    let weight = b.weight(&[outputs, inputs, kernel, kernel], -bound, bound);
    let bias = b.weight(&[outputs], -0.1, 0.1);
    let window = Window::new([kernel; 2], [stride; 2]).padded(kernel / 2);
    b.node(Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight, bias])
}
