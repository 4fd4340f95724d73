//! Between which bounds the values of a node lie, whatever the model's input.

use std::collections::BTreeMap;

use relc_ir::op::{Activation, Arithmetic, Conv};
use relc_ir::{Graph, NodeId, Op, ValueId, Weight};

/// The least and the largest value; infinite where nothing bounds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// Nothing is known.
const ANY: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY };

impl Range {
    fn new(low: f64, high: f64) -> Range {
        // A bound that is no number (infinity times 0) is none.
        let or = |v: f64, other: f64| if v.is_nan() { other } else { v };
        Range { low: or(low, ANY.low), high: or(high, ANY.high) }
    }

    /// The smallest range that holds both.
    fn or(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The bounds of a function that never falls.
    fn rising(self, f: impl Fn(f64) -> f64) -> Range {
        Range::new(f(self.low), f(self.high))
    }

    fn of_corners(self, other: Range, f: impl Fn(f64, f64) -> f64) -> Range {
        let corners =
            [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let corners = corners.map(|(a, b)| f(a, b));
        if corners.iter().any(|v| v.is_nan()) {
            return ANY;
        }
        Range {
            low: corners.into_iter().fold(f64::INFINITY, f64::min),
            high: corners.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Whether both bounds are finite.
    pub fn is_bounded(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    /// Whether no value is larger than 1 in magnitude, but for how f32 rounds a factor (6 times a sixth, say).
    pub fn is_share(self) -> bool {
        const ONE: f64 = 1.0 + 1e-6;
        self.low >= -ONE && self.high <= ONE
    }
}

/// The range of every forward node; `order` is the graph's forward order.
pub(crate) fn ranges(graph: &Graph, order: &[NodeId]) -> BTreeMap<NodeId, Range> {
    let mut known: BTreeMap<NodeId, Range> = BTreeMap::new();
    for &node in order {
        let of = |v: &ValueId| match graph.weight(*v) {
            Some(weight) => of_weight(weight),
            None => known.get(&v.node).copied().unwrap_or(ANY),
        };
        let operands: Vec<Range> = graph.operands(node).iter().map(of).collect();
        known.insert(node, of_node(graph, node, &operands));
    }
    known
}

fn of_weight(weight: &Weight) -> Range {
    let Some(data) = weight.data() else { return ANY };
    // Many values at a time: the weights of a large network are many.
    const LANES: usize = 16;
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for values in data.chunks(LANES) {
        for (v, (low, high)) in values.iter().zip(low.iter_mut().zip(&mut high)) {
            *low = low.min(*v);
            *high = high.max(*v);
        }
    }
    let (low, high) =
        (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max));
    Range::new(f64::from(low), f64::from(high))
}

fn of_node(graph: &Graph, node: NodeId, operands: &[Range]) -> Range {
    let all = || operands.iter().copied().reduce(Range::or).unwrap_or(ANY);
    match (&graph.node(node).op, operands) {
        (Op::Activation(activation), [x]) => of_activation(*activation, *x),
        (Op::Arithmetic(Arithmetic::Add), operands) => {
            operands.iter().copied().reduce(|a, b| Range::new(a.low + b.low, a.high + b.high)).unwrap_or(ANY)
        }
        (Op::Arithmetic(op), [a, b]) => of_two(*op, *a, *b),
        (Op::Softmax(softmax), _) if !softmax.log => Range { low: 0.0, high: 1.0 },
        (Op::Pad(pad), [x]) => x.or(Range::new(pad.value, pad.value)),
        (Op::Conv(conv), [x, ..]) if interpolates(graph, node, conv) => *x,
        // A mean with zeros of the padding counted lies between its values and 0.
        (Op::AveragePool(pool), [x]) if pool.count_include_pad => x.or(Range::new(0.0, 0.0)),
        (
            Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::GlobalAveragePool
            | Op::ReduceMean(_)
            | Op::Reshape(_)
            | Op::Expand(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Concat(_),
            _,
        ) => all(),
        _ => ANY,
    }
}

fn of_activation(activation: Activation, x: Range) -> Range {
    match activation {
        Activation::Relu => x.rising(|v| v.max(0.0)),
        Activation::Clip { min, max } => x.rising(|v| v.max(min).min(max)),
        Activation::Sigmoid | Activation::HardSigmoid { .. } => Range { low: 0.0, high: 1.0 },
        Activation::Tanh | Activation::Softsign | Activation::Erf => Range { low: -1.0, high: 1.0 },
        Activation::Softplus => x.rising(|v| v.max(0.0) + (-v.abs()).exp().ln_1p()),
        Activation::Exp => x.rising(f64::exp),
        Activation::Sqrt => x.rising(|v| v.max(0.0).sqrt()),
        Activation::Abs => Range { low: 0.0, high: x.low.abs().max(x.high.abs()) },
        Activation::Neg => Range::new(-x.high, -x.low),
        Activation::Identity | Activation::Dropout => x,
        _ => ANY,
    }
}

fn of_two(op: Arithmetic, a: Range, b: Range) -> Range {
    match op {
        Arithmetic::Sub => Range::new(a.low - b.high, a.high - b.low),
        Arithmetic::Mul => a.of_corners(b, |a, b| a * b),
        Arithmetic::Div if b.low > 0.0 || b.high < 0.0 => a.of_corners(b, |a, b| a / b),
        Arithmetic::Max => Range::new(a.low.max(b.low), a.high.max(b.high)),
        Arithmetic::Min => Range::new(a.low.min(b.low), a.high.min(b.high)),
        _ => ANY,
    }
}

/// How far from 1 the sum of the weights of an interpolation may be, as f32 rounds them.
const ROUNDING: f64 = 1e-4;

/// Whether a convolution only mixes values of its input, as a `Resize` does: pointwise, without bias, and the weights of
/// each output are shares that add up to 1.
pub(crate) fn interpolates(graph: &Graph, node: NodeId, conv: &Conv) -> bool {
    let operands = graph.operands(node);
    let &[_, weight] = &operands[..] else { return false };
    weights_of_outputs(graph, weight, conv)
        .is_some_and(|rows| rows.iter().all(|row| row.iter().all(|w| *w >= 0.0) && adds_up(row)))
}

/// As [`interpolates`], but weights may be negative, as those of a cubic interpolation are: values may leave their range.
pub(crate) fn resamples(graph: &Graph, node: NodeId, conv: &Conv) -> bool {
    let operands = graph.operands(node);
    let &[_, weight] = &operands[..] else { return false };
    weights_of_outputs(graph, weight, conv).is_some_and(|rows| rows.iter().all(|row| adds_up(row)))
}

fn adds_up(row: &[f32]) -> bool {
    (row.iter().map(|w| f64::from(*w)).sum::<f64>() - 1.0).abs() <= ROUNDING
}

/// The weights of each output of a pointwise convolution of one group.
fn weights_of_outputs<'a>(graph: &'a Graph, weight: ValueId, conv: &Conv) -> Option<Vec<&'a [f32]>> {
    let pointwise = conv.window.taps() == 1 && !conv.window.is_padded() && conv.group == 1;
    let weight = graph.weight(weight).filter(|_| pointwise)?;
    let inputs = weight.ty().dims().get(1)?.fixed()?;
    Some(weight.data()?.chunks_exact(inputs.max(1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_the_functions() {
        let unit = Range { low: 0.0, high: 1.0 };
        let relu6 = of_activation(Activation::Clip { min: 0.0, max: 6.0 }, ANY);
        let six = Range { low: 6.0, high: 6.0 };
        assert_eq!(of_two(Arithmetic::Div, relu6, six), unit);
        assert_eq!(of_activation(Activation::Neg, unit), Range { low: -1.0, high: 0.0 });
        assert_eq!(of_two(Arithmetic::Sub, unit, unit), Range { low: -1.0, high: 1.0 });
        assert_eq!(of_activation(Activation::Relu, ANY), Range { low: 0.0, high: f64::INFINITY });
        assert_eq!(of_activation(Activation::Softplus, ANY), Range { low: 0.0, high: f64::INFINITY });
        assert!(!of_two(Arithmetic::Div, unit, unit).is_bounded());
        assert!(of_activation(Activation::Clip { min: -6.0, max: -1.0 }, ANY).high < 0.0);
    }

    #[test]
    fn what_is_no_number_bounds_nothing() {
        let zero = Range { low: 0.0, high: 0.0 };
        assert_eq!(of_two(Arithmetic::Mul, zero, ANY), ANY);
        assert_eq!(of_two(Arithmetic::Sub, ANY, ANY), ANY);
    }
}
