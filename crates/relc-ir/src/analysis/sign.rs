//! Signs of values.
//!
//! What is claimed here holds for the numbers that executors compute, not only for those of real arithmetic: products
//! and sums of numbers of one sign keep it however they are rounded, but a convolution is claimed to have none, since it
//! may be computed by an algorithm that subtracts (Winograd's). Zeros of both signs count as neither positive nor
//! negative; numbers that are infinite or none have no claim.

use std::collections::HashMap;

use crate::graph::{Graph, NodeId, ValueId};
use crate::op::{Activation, Arithmetic, Op, Pad};

/// The signs that the elements of a value may have besides 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sign {
    /// Whether one may be negative.
    pub negative: bool,
    /// Whether one may be positive.
    pub positive: bool,
}

impl Sign {
    /// Both.
    pub const ANY: Sign = Sign { negative: true, positive: true };
    /// None: every element is 0.
    pub const ZERO: Sign = Sign { negative: false, positive: false };
    /// No element is negative.
    pub const NON_NEGATIVE: Sign = Sign { negative: false, positive: true };
    /// No element is positive.
    pub const NON_POSITIVE: Sign = Sign { negative: true, positive: false };

    /// The sign of a number; any for what is none.
    pub fn of(number: f64) -> Sign {
        if number.is_nan() { Sign::ANY } else { Sign { negative: number < 0.0, positive: number > 0.0 } }
    }

    /// Whether no element is negative.
    pub fn is_non_negative(self) -> bool {
        !self.negative
    }

    /// What is one or the other, or their sum.
    fn or(self, other: Sign) -> Sign {
        Sign { negative: self.negative || other.negative, positive: self.positive || other.positive }
    }

    fn negated(self) -> Sign {
        Sign { negative: self.positive, positive: self.negative }
    }

    /// The product of both.
    fn times(self, other: Sign) -> Sign {
        Sign {
            negative: (self.negative && other.positive) || (self.positive && other.negative),
            positive: (self.negative && other.negative) || (self.positive && other.positive),
        }
    }

    /// What is positive stays, what is negative is multiplied by something of a sign.
    fn bent(self, slope: Sign) -> Sign {
        let (above, below) = (Sign { negative: false, ..self }, Sign { positive: false, ..self });
        above.or(below.times(slope))
    }

    /// Of `f(x)` for an `x` of this sign.
    pub fn through(self, activation: &Activation) -> Sign {
        match *activation {
            Activation::Relu => Sign { negative: false, ..self },
            Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => self.bent(Sign::of(alpha)),
            Activation::Selu { alpha, gamma } => self.bent(Sign::of(alpha)).times(Sign::of(gamma)),
            // Below 0 it is negative whatever the sign of alpha.
            Activation::Celu { .. } => self,
            Activation::Clip { min, max } if min.is_nan() || max.is_nan() => Sign::ANY,
            Activation::Clip { min, max } => Sign {
                negative: max < 0.0 || (self.negative && min < 0.0),
                positive: max > 0.0 && (self.positive || min > 0.0),
            },
            Activation::ThresholdedRelu { alpha } => {
                // What passes is above the threshold.
                Sign { negative: self.negative && (alpha < 0.0 || alpha.is_nan()), ..self }
            }
            Activation::Sigmoid
            | Activation::HardSigmoid { .. }
            | Activation::Softplus
            | Activation::Exp
            | Activation::Sqrt => Sign::NON_NEGATIVE,
            Activation::Abs => Sign { negative: false, positive: self != Sign::ZERO },
            Activation::Neg => self.negated(),
            // `x` times something in 0..1, or odd and rising.
            Activation::HardSwish
            | Activation::Swish { .. }
            | Activation::Gelu { .. }
            | Activation::Mish
            | Activation::Softsign
            | Activation::Tanh
            | Activation::Erf
            | Activation::Identity
            | Activation::Dropout => self,
            // A zero may have the sign that the quotient shows.
            Activation::Reciprocal | Activation::Log => Sign::ANY,
        }
    }
}

/// The signs of all forward values of a graph.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    signs: HashMap<NodeId, Sign>,
}

impl Signs {
    /// Of a graph; one with a cycle has none.
    pub fn of(graph: &Graph) -> Signs {
        let mut signs = Signs::default();
        for node in graph.forward_order().unwrap_or_default() {
            let sign = signs.infer(graph, node);
            signs.signs.insert(node, sign);
        }
        signs
    }

    /// The sign of a forward value that is computed; any for others.
    pub fn sign(&self, value: ValueId) -> Sign {
        self.signs.get(&value.node).copied().unwrap_or(Sign::ANY)
    }

    fn infer(&self, graph: &Graph, node: NodeId) -> Sign {
        let operands = graph.operands(node);
        let of = |value: &ValueId| match graph.node(value.node).op {
            Op::Constant => of_constant(graph, *value),
            _ => self.sign(*value),
        };
        let sign = |index: usize| operands.get(index).map_or(Sign::ANY, of);
        // Of what consists of elements, sums or means of all operands.
        let all = || operands.iter().map(of).reduce(Sign::or).unwrap_or(Sign::ANY);
        match &graph.node(node).op {
            Op::Activation(activation) => sign(0).through(activation),
            Op::Arithmetic(arithmetic) => match arithmetic {
                Arithmetic::Add => all(),
                Arithmetic::Sub => sign(0).or(sign(1).negated()),
                Arithmetic::Mul if operands.first() == operands.get(1) => sign(0).through(&Activation::Abs),
                Arithmetic::Mul => sign(0).times(sign(1)),
                Arithmetic::PRelu => sign(0).bent(sign(1)),
                Arithmetic::Max => Sign {
                    negative: sign(0).negative && sign(1).negative,
                    positive: sign(0).positive || sign(1).positive,
                },
                Arithmetic::Min => Sign {
                    negative: sign(0).negative || sign(1).negative,
                    positive: sign(0).positive && sign(1).positive,
                },
                Arithmetic::Div if constant(graph, &operands, |v| v != 0.0) => sign(0).times(sign(1)),
                Arithmetic::Pow if constant(graph, &operands, |v| v % 2.0 == 0.0) => Sign::NON_NEGATIVE,
                Arithmetic::Pow if !sign(0).negative && constant(graph, &operands, |v| v >= 0.0) => {
                    Sign::NON_NEGATIVE
                }
                Arithmetic::Div | Arithmetic::Pow => Sign::ANY,
            },
            // (x - mean) * scale / sqrt(var + epsilon) + bias
            Op::BatchNormalization(_) => sign(0).or(sign(3).negated()).times(sign(1)).or(sign(2)),
            Op::Softmax(softmax) if softmax.log => Sign::NON_POSITIVE,
            Op::Softmax(_) => Sign::NON_NEGATIVE,
            Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool | Op::ReduceMean(_) => all(),
            Op::Reshape(_) | Op::Expand(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat(_) => all(),
            Op::Pad(Pad { value, .. }) => all().or(Sign::of(*value)),
            Op::Input
            | Op::Constant
            | Op::Conv(_)
            | Op::Gemm(_)
            | Op::MatMul
            | Op::MeanVarianceNormalization(_)
            | Op::Relevance(_) => Sign::ANY,
        }
    }
}

/// Whether the second operand is a constant of which all elements are finite and pass.
fn constant(graph: &Graph, operands: &[ValueId], pass: impl Fn(f32) -> bool) -> bool {
    let data = operands.get(1).and_then(|value| graph.weight(*value)?.data());
    data.is_some_and(|data| data.iter().all(|v| v.is_finite() && pass(*v)))
}

/// Of a weight; any if its values are not at hand.
fn of_constant(graph: &Graph, value: ValueId) -> Sign {
    match graph.weight(value).and_then(|weight| weight.data()) {
        Some(data) => data.iter().map(|v| Sign::of(f64::from(*v))).fold(Sign::ZERO, Sign::or),
        None => Sign::ANY,
    }
}
