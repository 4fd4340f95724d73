//! `gradient`, and the two rules that stand for a Relu's derivative: `relu_guided` and `relu_deconv`.
//!
//! ```text
//! gradient:     R_i = sum_j (d z_j / d a_i) R_j
//! relu_guided:  R_i = R_j where a_i > 0 and R_j > 0, else 0
//! relu_deconv:  R_i = R_j where R_j > 0, else 0
//! ```
//!
//! Source: Simonyan et al., Deep inside convolutional networks, ICLR workshop 2014 (gradient); Springenberg et al.,
//! Striving for simplicity, ICLR workshop 2015 (guided backpropagation); Zeiler and Fergus, Visualizing and
//! understanding convolutional networks, ECCV 2014 (DeconvNet); zennit's ReLUGuidedBackprop and ReLUDeconvNet.
//!
//! Domain: any input. A residual sum is derived by the split policy `gradient`, a MaxPool by `winner`.
//! Contract: a derivative is no relevance and conserves nothing: `not-conserving`.
//! At 0/0: never divides.

use relc_ir::Op;
use relc_ir::rule::{Frame, InputPart, Part, Product, Rule, Surrogate, WeightPart};

use super::Description;

const NOT_CONSERVING: &str = "a derivative: conserves nothing";

/// What `relc` says about `gradient`.
pub const GRADIENT: Description = Description {
    name: "gradient",
    formula: "R_i = sum_j (d z_j / d a_i) R_j",
    citation: "Simonyan et al., ICLR workshop 2014",
    domain: "any input",
    contract: NOT_CONSERVING,
    at_zero: "never divides",
};

/// What `relc` says about `relu_guided`.
pub const GUIDED: Description = Description {
    name: "relu_guided",
    formula: "R_i = R_j where a_i > 0 and R_j > 0, else 0",
    citation: "Springenberg et al., ICLR workshop 2015",
    domain: "Relu and other activations",
    contract: NOT_CONSERVING,
    at_zero: "never divides",
};

/// What `relc` says about `relu_deconv`.
pub const DECONV: Description = Description {
    name: "relu_deconv",
    formula: "R_i = R_j where R_j > 0, else 0",
    citation: "Zeiler and Fergus, ECCV 2014",
    domain: "Relu and other activations",
    contract: NOT_CONSERVING,
    at_zero: "never divides",
};

/// The parts of a linear layer's derivative.
pub fn parts() -> Vec<Part> {
    let terms = vec![Product { input: InputPart::Ones, weight: WeightPart::Raw }];
    vec![Part { divides: false, ..Part::new(terms) }]
}

/// The derivative of an op that is no linear layer.
pub fn elementwise(op: &Op) -> Rule {
    match op {
        Op::Activation(_)
        | Op::BatchNormalization(_)
        | Op::MeanVarianceNormalization(_)
        | Op::Softmax(_)
        | Op::Arithmetic(_) => Rule::Derivative(Surrogate::Gradient),
        Op::MaxPool(_) => Rule::Winner,
        Op::Pad(_) => Rule::Crop { frame: Frame::Lost },
        _ => Rule::Pass,
    }
}
