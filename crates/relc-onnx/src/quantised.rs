//! What a tensor of integers is to the importer: the floats that the integers stand for, and how.
//!
//! relc's graph has floats only. A tensor of integers `q` is kept as the tensor `x = (q - zero) * scale`, the
//! integers' own rounding left out, and whoever reads the integers reads `x` instead.

use relc_ir::ValueId;
use relc_ir::op::Conv;

use crate::constant::Const;

/// A tensor of integers that depends on the model's input.
#[derive(Clone, Debug)]
pub(crate) struct Integers {
    /// The floats that they stand for.
    pub value: ValueId,
    /// How the integers count.
    pub step: Step,
    /// The least and the largest integer of the type.
    pub limits: (f64, f64),
}

/// How integers count: an integer `q` stands for `(q - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// By constants.
    Fixed {
        /// The step.
        scale: f32,
        /// The integer that stands for 0.
        zero: f32,
    },
    /// By what a `DynamicQuantizeLinear` computes from the data, of that number.
    Dynamic(usize),
}

impl Step {
    /// Integers that stand for themselves.
    pub const PLAIN: Step = Step::Fixed { scale: 1.0, zero: 0.0 };
}

/// A scale that a `DynamicQuantizeLinear` computes, times a constant.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Of which.
    pub of: usize,
    /// The constant.
    pub factor: Const<f32>,
}

/// The sums of products of a layer of integers, which a scale makes floats of: the layer of `x`, divided by the scale
/// of its integers.
#[derive(Clone, Debug)]
pub(crate) struct Accumulator {
    /// The layer.
    pub layer: Layer,
    /// The floats that the integers of its input stand for.
    pub x: ValueId,
    /// The weight's integers, less their zero point.
    pub weight: Const<f32>,
    /// The scale of the input's integers; `Dynamic` if it depends on the data.
    pub step: Step,
}

/// A layer whose weight has no scale yet.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// A convolution.
    Conv(Conv),
    /// A product of matrices.
    MatMul,
}
