//! Products of a signal and a gate: which operand takes the relevance.
//!
//! Attention (squeeze-and-excitation, selective kernels, split attention, SiLU written out, ...) multiplies a signal by
//! a gate that the network computes from it. The signal takes all of the relevance and the gate counts as a constant:
//! signal-take-all, Arras et al., Explaining and interpreting LSTMs, 2019, arXiv:1909.12114, section 3.2. So no
//! relevance enters a gate, and what computes it (a softmax, say) needs no rule. The same holds for what a value is
//! divided by, and for a statistic of its own that is subtracted from it.

use std::collections::BTreeSet;

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::{Graph, NodeId, Op, ValueId};

/// How far back a gate that is made of its signal element by element is looked for.
const MAX_STEPS: usize = 16;

/// The roles of values in products.
pub(crate) struct Gates {
    /// The nodes whose output is bounded because of a sigmoid, a softmax or the like.
    bounded: BTreeSet<NodeId>,
}

impl Gates {
    /// Looks at a graph; `order` is its forward order.
    pub fn new(graph: &Graph, order: &[NodeId]) -> Self {
        let mut bounded = BTreeSet::new();
        for &node in order {
            let data = graph.data_operands(node);
            let all = !data.is_empty() && data.iter().all(|(_, v)| bounded.contains(&v.node));
            let holds = match graph.node(node).op {
                Op::Activation(
                    Activation::Sigmoid
                    | Activation::HardSigmoid { .. }
                    | Activation::Tanh
                    | Activation::Erf
                    | Activation::Softsign,
                )
                | Op::Softmax(_) => true,
                Op::Activation(Activation::Clip { min, max }) => (min, max) == (0.0, 1.0) || all,
                Op::Conv(_) | Op::Gemm(_) | Op::MatMul => false,
                _ => all,
            };
            if holds {
                bounded.insert(node);
            }
        }
        Gates { bounded }
    }

    /// The index, among the data operands of a product, quotient or difference of two, of the one that takes the
    /// relevance. `None`: neither is the other's gate, or the node is no such thing.
    pub fn signal(&self, graph: &Graph, node: NodeId) -> Option<usize> {
        let data = graph.data_operands(node);
        let (&[(_, a), (_, b)], 2) = (&data[..], graph.operands(node).len()) else { return None };
        let out = &graph.node(node).types()[0];
        let whole = |v: ValueId| graph.ty(v) == out;
        let signal = match graph.node(node).op {
            Op::Arithmetic(Arithmetic::Div) => 0,
            Op::Arithmetic(Arithmetic::Sub) if !whole(b) => 0,
            Op::Arithmetic(Arithmetic::Mul) => {
                let is_bounded = |v: ValueId| self.bounded.contains(&v.node);
                match (is_bounded(a), is_bounded(b)) {
                    _ if stems_from(graph, b, a) => 0,
                    _ if stems_from(graph, a, b) => 1,
                    (false, true) => 0,
                    (true, false) => 1,
                    _ if !whole(b) => 0,
                    _ if !whole(a) => 1,
                    _ => return None,
                }
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
