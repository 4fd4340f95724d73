//! Networks of odd shapes and forms: many readers of one value, long chains, pictures of one pixel or of many.

use relc_ir::op::{Activation, Arithmetic, Conv, Gemm, MaxPool, Reshape, Window};
use relc_ir::{Dim, Graph, Op, ValueId};

use crate::builder::Builder;

impl Builder {
    /// A convolution that keeps the picture's size, without a bias.
    fn same_conv(&mut self, x: ValueId, outputs: usize, kernel: [usize; 2]) -> ValueId {
        let inputs = self.dims(x)[0];
        let weight = self.weight(&[outputs, inputs, kernel[0], kernel[1]], -1.0, 1.0);
        let [y, x_pad] = kernel.map(|k| k / 2);
        let window = Window::from_lists(&kernel, &[1; 2], &[y, x_pad, y, x_pad], &[1; 2]).unwrap();
        self.node(Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight])
    }

    /// The mean of each channel, and three outputs of them.
    fn mean_head(mut self, x: ValueId) -> Graph {
        let channels = self.dims(x)[0];
        let pooled = self.node(Op::GlobalAveragePool, &[x]);
        self.dense(pooled, channels)
    }

    /// Three outputs of `inputs` numbers.
    fn dense(mut self, x: ValueId, inputs: usize) -> Graph {
        let flat = self.node(Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::Fixed(inputs)] }), &[x]);
        let (w, bias) = (self.weight(&[3, inputs], -1.0, 1.0), self.weight(&[3], -0.1, 0.1));
        let logits = self.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[flat, w, bias]);
        self.finish(logits)
    }
}

/// Convolutions of several sizes that all read the input, and whose sum is rectified.
///
/// # Panics
/// Never.
pub fn several_stems(image: [usize; 3], kernels: &[usize]) -> Graph {
    let (mut b, input) = Builder::new("stems", 5, image);
    let stems: Vec<ValueId> = kernels.iter().map(|k| b.same_conv(input, 5, [*k; 2])).collect();
    let sum = b.node(Op::Arithmetic(Arithmetic::Add), &stems);
    let x = b.relu(sum);
    b.mean_head(x)
}

/// An input that a convolution reads and that is added to what comes behind it.
///
/// # Panics
/// Never.
pub fn input_is_a_skip(image: [usize; 3]) -> Graph {
    let (mut b, input) = Builder::new("skip", 6, image);
    let main = b.same_conv(input, image[0], [3, 3]);
    let sum = b.node(Op::Arithmetic(Arithmetic::Add), &[main, input]);
    let x = b.relu(sum);
    b.mean_head(x)
}

/// A value that `users` sums read.
///
/// # Panics
/// Never.
pub fn many_users(users: usize) -> Graph {
    let (mut b, input) = Builder::new("users", 7, [2, 3, 3]);
    let shared = b.same_conv(input, 2, [1, 1]);
    let mut x = shared;
    for _ in 0..users {
        let bent = b.node(Op::Activation(Activation::Tanh), &[x]);
        x = b.node(Op::Arithmetic(Arithmetic::Add), &[shared, bent]);
    }
    b.mean_head(x)
}

/// A sum of `branches` convolutions of one value.
///
/// # Panics
/// Never.
pub fn many_branches(branches: usize) -> Graph {
    several_stems([3, 4, 5], &vec![1; branches])
}

/// A block of a depthwise convolution with taps apart, whose weights are all negative, beside a skip, behind values of both
/// signs: where they are positive under all taps, no denominator of z+ divides, though relevance arrives.
///
/// # Panics
/// Never.
pub fn undivided_at_a_fork() -> Graph {
    let (mut b, input) = Builder::new("undivided", 10, [2, 7, 6]);
    let x = b.same_conv(input, 2, [1, 1]);
    let x = b.node(Op::Activation(Activation::LeakyRelu { alpha: 0.3 }), &[x]);
    let weight = b.weight(&[2, 1, 2, 1], -1.0, -0.1);
    let window = Window::from_lists(&[2, 1], &[1; 2], &[1, 0, 1, 0], &[2, 1]).unwrap();
    let main = b.node(Op::Conv(Conv { window, group: 2, folded_bias: false }), &[x, weight]);
    let sum = b.node(Op::Arithmetic(Arithmetic::Add), &[main, x]);
    let x = b.node(Op::Activation(Activation::LeakyRelu { alpha: 0.3 }), &[sum]);
    b.mean_head(x)
}

/// Patches of a picture, as a transformer has them: a kernel as large as its strides.
///
/// # Panics
/// Never.
pub fn patches(size: usize) -> Graph {
    let (mut b, input) = Builder::new("patches", 11, [3, 2 * size, 2 * size + 1]);
    let weight = b.weight(&[6, 3, size, size], -1.0, 1.0);
    let window = Window::from_lists(&[size; 2], &[size; 2], &[0, 1, 0, 0], &[1; 2]).unwrap();
    let x = b.node(Op::Conv(Conv { window, group: 1, folded_bias: false }), &[input, weight]);
    let x = b.relu(x);
    b.mean_head(x)
}

/// Nodes of one kind in a chain.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    /// An activation.
    Activation(Activation),
    /// The sum with a constant.
    Shift,
    /// The sum with its own activation.
    Join,
}

/// A chain of `length` links.
///
/// # Panics
/// Never.
pub fn chain(length: usize, link: Link) -> Graph {
    let (mut b, input) = Builder::new("chain", 8, [1, 2, 2]);
    let shift = b.weight(&[1, 1, 1], -0.1, 0.1);
    let mut x = b.same_conv(input, 1, [1, 1]);
    for _ in 0..length {
        x = match link {
            Link::Activation(activation) => b.node(Op::Activation(activation), &[x]),
            Link::Shift => b.node(Op::Arithmetic(Arithmetic::Add), &[x, shift]),
            Link::Join => {
                let bent = b.node(Op::Activation(Activation::Tanh), &[x]);
                b.node(Op::Arithmetic(Arithmetic::Add), &[x, bent])
            }
        };
    }
    b.mean_head(x)
}

/// Two convolutions, with or without a MaxPool between them, over a picture of any size, and a mean or a dense layer.
///
/// # Panics
/// Never.
pub fn small(image: [usize; 3], kernel: [usize; 2], pooled: bool, dense: bool) -> Graph {
    let (mut b, input) = Builder::new("small", 9, image);
    let x = b.same_conv(input, 3, kernel);
    let mut x = b.relu(x);
    if pooled {
        let window = Window::new([3, 3], [2, 2]).padded(1);
        x = b.node(Op::MaxPool(MaxPool { window }), &[x]);
    }
    let x = b.same_conv(x, 9, kernel);
    let x = b.relu(x);
    if dense {
        let inputs = b.dims(x).iter().product();
        b.dense(x, inputs)
    } else {
        b.mean_head(x)
    }
}
