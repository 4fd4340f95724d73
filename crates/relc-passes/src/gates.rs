//! Products of a signal and a gate: which operand takes the relevance.
//!
//! Attention (squeeze-and-excitation, selective kernels, split attention, SiLU written out, ...) multiplies a signal by
//! a gate that the network computes from it. The signal takes all of the relevance and the gate counts as a constant:
//! signal-take-all, Arras et al., Explaining and interpreting LSTMs, 2019, arXiv:1909.12114, section 3.2. So no
//! relevance enters a gate, and what computes it (a softmax, say) needs no rule. The same holds for what a value is
//! divided by, and for a statistic of its own that is subtracted from it.

use std::collections::{BTreeMap, BTreeSet};

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::{Graph, NodeId, Op, ValueId};

use crate::ranges::{Range, interpolates, ranges, resamples};

/// How far back the source of a gate is looked for.
const MAX_STEPS: usize = 16;

/// The roles of values in products.
pub(crate) struct Gates {
    /// The nodes whose output is bounded because of a sigmoid, a softmax or the like.
    squashed: BTreeSet<NodeId>,
    ranges: BTreeMap<NodeId, Range>,
}

impl Gates {
    /// Looks at a graph; `order` is its forward order.
    pub fn new(graph: &Graph, order: &[NodeId]) -> Self {
        let mut squashed = BTreeSet::new();
        for &node in order {
            let data = graph.data_operands(node);
            let all = !data.is_empty() && data.iter().all(|(_, v)| squashed.contains(&v.node));
            let holds = match &graph.node(node).op {
                Op::Activation(
                    Activation::Sigmoid
                    | Activation::HardSigmoid { .. }
                    | Activation::Tanh
                    | Activation::Erf
                    | Activation::Softsign,
                )
                | Op::Softmax(_) => true,
                Op::Conv(conv) => all && interpolates(graph, node, conv),
                Op::Gemm(_) | Op::MatMul => false,
                _ => all,
            };
            if holds {
                squashed.insert(node);
            }
        }
        Gates { squashed, ranges: ranges(graph, order) }
    }

    /// The index, among the data operands of a product, quotient or difference of two, of the one that takes the
    /// relevance. `None`: neither is the other's gate, or the node is no such thing.
    ///
    /// A gate is what the signal is multiplied with that is, and the signal is not, in this order: made of the signal
    /// element by element; a share (between -1 and 1, or made of what a sigmoid or softmax gave); repeated or resized to
    /// the signal's shape; bounded; never negative.
    pub fn signal(&self, graph: &Graph, node: NodeId) -> Option<usize> {
        let data = graph.data_operands(node);
        let (&[(_, a), (_, b)], 2) = (&data[..], graph.operands(node).len()) else { return None };
        let out = &graph.node(node).types()[0];
        let whole = |v: ValueId| graph.ty(v) == out;
        let signal = match graph.node(node).op {
            Op::Arithmetic(Arithmetic::Div) => 0,
            Op::Arithmetic(Arithmetic::Sub) if !whole(b) => 0,
            Op::Arithmetic(Arithmetic::Mul) if stems_from(graph, b, a) => 0,
            Op::Arithmetic(Arithmetic::Mul) if stems_from(graph, a, b) => 1,
            Op::Arithmetic(Arithmetic::Mul) => {
                let range = |v: ValueId| self.ranges.get(&v.node).copied();
                let only = |is_gate: &dyn Fn(ValueId) -> bool| match (is_gate(a), is_gate(b)) {
                    (false, true) => Some(0),
                    (true, false) => Some(1),
                    _ => None,
                };
                let is_share =
                    |v: ValueId| self.squashed.contains(&v.node) || range(v).is_some_and(Range::is_share);
                let is_repeated = |v: ValueId| !whole(v) || is_repeated(graph, v);
                let is_bounded = |v: ValueId| range(v).is_some_and(Range::is_bounded);
                let is_positive = |v: ValueId| range(v).is_some_and(|r| r.low >= 0.0);
                only(&is_share)
                    .or_else(|| only(&is_repeated))
                    .or_else(|| only(&is_bounded))
                    .or_else(|| only(&is_positive))?
            }
            _ => return None,
        };
        whole([a, b][signal]).then_some(signal)
    }

    /// The nodes that relevance reaches from the explained output; `order` is the graph's forward order. At the products
    /// of which `leaves_gates` holds, it passes to the signal only.
    pub fn reached(
        &self,
        graph: &Graph,
        order: &[NodeId],
        leaves_gates: impl Fn(NodeId) -> bool,
    ) -> BTreeSet<NodeId> {
        let mut reached: BTreeSet<NodeId> =
            graph.outputs().first().map(|(_, v)| v.node).into_iter().collect();
        for &node in order.iter().rev() {
            if !reached.contains(&node) {
                continue;
            }
            let data = graph.data_operands(node);
            match self.signal(graph, node).filter(|_| leaves_gates(node)) {
                Some(signal) => reached.extend(data.get(signal).map(|(_, v)| v.node)),
                None => reached.extend(data.iter().map(|(_, v)| v.node)),
            }
        }
        reached
    }
}

/// Whether `value` is computed element by element from `source` alone (or is `source`).
fn stems_from(graph: &Graph, value: ValueId, source: ValueId) -> bool {
    let mut at = value;
    for _ in 0..MAX_STEPS {
        if at == source {
            return true;
        }
        let elementwise = matches!(graph.node(at.node).op, Op::Activation(_) | Op::Arithmetic(_));
        match graph.data_operands(at.node)[..] {
            [(_, before)] if elementwise => at = before,
            _ => return false,
        }
    }
    false
}

/// Whether a value was repeated, or resized from a smaller one, and then changed element by element at most.
fn is_repeated(graph: &Graph, value: ValueId) -> bool {
    let elements = |v: ValueId| graph.ty(v).elements();
    let mut at = value;
    for _ in 0..MAX_STEPS {
        let [(_, before)] = graph.data_operands(at.node)[..] else { return false };
        let moves = match &graph.node(at.node).op {
            Op::Expand(_) => true,
            Op::Conv(conv) => resamples(graph, at.node, conv),
            Op::Activation(_) | Op::Arithmetic(_) | Op::Reshape(_) | Op::Transpose(_) => {
                at = before;
                continue;
            }
            _ => false,
        };
        if !moves {
            return false;
        }
        if elements(before) < elements(at) {
            return true;
        }
        at = before;
    }
    false
}
