//! `derive-relevance`: the backward relevance graph.
//!
//! Forward nodes are visited from the explained output backwards. Each turns the relevance of its output into
//! contributions to its operands, by its rule; a value with several users sums what they send back.

use std::collections::BTreeMap;

use relc_ir::op::{AveragePool, LinearLayer, MaxPool, Relevance, Window, WindowAxis};
use relc_ir::rule::{
    BiasPolicy, Fallback, GatePolicy, Leak, LinearRule, PoolWindow, Rule, Stabiliser, Surrogate,
};
use relc_ir::{Dim, Graph, NodeId, Op, ValueId};
use relc_rules::leak_rule;

use crate::error::PassError;
use crate::manager::{Pass, forward_order, ir};
use relc_ir::remark::Remarks;

const NAME: &str = "derive-relevance";

/// Derives the relevance of every input of the model from that of the explained (first) output.
pub struct DeriveRelevance;

impl Pass for DeriveRelevance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "derive the backward relevance graph"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let order = forward_order(graph, NAME)?;
        let Some((_, output)) = graph.outputs().first().cloned() else {
            return Err(malformed("got no output, expected the one to explain".into()));
        };
        let is_split = |n: &NodeId| matches!(graph.node(*n).op, Op::Relevance(Relevance::Split { .. }));
        let splits = graph.node_ids().filter(is_split).filter_map(|n| Some((graph.node(n).of?, n)));
        let splits = splits.collect();
        let mut derivation = Derivation { graph, parts: BTreeMap::new(), splits, remarks };
        let seed = derivation.add(Relevance::Seed, output.node, &[output])?;
        derivation.give(output, ValueId { node: seed, port: 0 });
        for node in order.into_iter().rev() {
            derivation.visit(node)?;
        }
        if derivation.graph.relevance_outputs.is_empty() {
            return Err(malformed("the explained output depends on no input".into()));
        }
        Ok(())
    }
}

fn malformed(message: String) -> PassError {
    PassError::Malformed { pass: NAME, message }
}

struct Derivation<'a> {
    graph: &'a mut Graph,
    /// What the users of each forward value have sent back so far.
    parts: BTreeMap<ValueId, Vec<ValueId>>,
    /// The split that insert-splits put beside each join.
    splits: BTreeMap<NodeId, NodeId>,
    remarks: &'a mut Remarks,
}

impl Derivation<'_> {
    fn add(&mut self, op: Relevance, of: NodeId, operands: &[ValueId]) -> Result<NodeId, PassError> {
        self.graph.add_relevance(Op::Relevance(op), of, operands).map_err(ir(NAME))
    }

    fn give(&mut self, value: ValueId, relevance: ValueId) {
        self.parts.entry(value).or_default().push(relevance);
    }

    /// The relevance of a node's output: what its users sent back, summed. `None` if nobody did.
    fn arrived(&mut self, node: NodeId) -> Result<Option<ValueId>, PassError> {
        match self.parts.remove(&ValueId { node, port: 0 }).as_deref() {
            None | Some([]) => Ok(None),
            Some([one]) => Ok(Some(*one)),
            Some(several) => {
                let sum = self.add(Relevance::Sum, node, several)?;
                Ok(Some(ValueId { node: sum, port: 0 }))
            }
        }
    }

    fn visit(&mut self, node: NodeId) -> Result<(), PassError> {
        let Some(r) = self.arrived(node)? else { return Ok(()) };
        if self.graph.node(node).op == Op::Input {
            self.graph.relevance_outputs.push((node, r));
            return Ok(());
        }
        let Some(rule) = self.graph.rules.get(&node).map(|a| a.rule.clone()) else {
            let message = format!("{} has no rule; expected assign-rules before", self.graph.describe(node));
            return Err(malformed(message));
        };
        let data: Vec<ValueId> = self.graph.data_operands(node).into_iter().map(|(_, v)| v).collect();
        let Some(&x) = data.first() else { return Ok(()) };
        match rule {
            Rule::Split(_) => {
                let split = self.split_of(node)?;
                self.graph.push_operand(split, r).map_err(ir(NAME))?;
                for (port, value) in data.into_iter().enumerate() {
                    self.give(value, ValueId { node: split, port });
                }
                return Ok(());
            }
            Rule::Linear(rule) => {
                let passed = self.linear(node, r, x, rule)?;
                self.give(x, passed);
            }
            Rule::AsAverage { window, rule } => {
                let pool = self.stand_in(node, x, window, &rule)?;
                let passed = self.through(node, LinearLayer::AveragePool(pool), rule, &[r, x])?;
                self.give(x, passed);
            }
            Rule::Winner => {
                let Op::MaxPool(pool) = self.graph.node(node).op else {
                    return Err(self.misfit(node, "winner"));
                };
                let passed = self.add(Relevance::Winner(pool), node, &[r, x])?;
                self.give(x, ValueId { node: passed, port: 0 });
            }
            Rule::Gate { signal, policy } => self.gate(node, r, &data, signal, policy)?,
            Rule::Derivative(kind) => self.derive(node, kind, r)?,
            Rule::Pass | Rule::Crop { .. } => {
                let op = self.undo(node, &rule, &data)?;
                let passed = self.add(op, node, &[r])?;
                for (port, value) in data.into_iter().enumerate() {
                    self.give(value, ValueId { node: passed, port });
                }
            }
        }
        Ok(())
    }

    /// A product of a signal and a gate.
    fn gate(
        &mut self,
        node: NodeId,
        r: ValueId,
        data: &[ValueId],
        signal: usize,
        policy: GatePolicy,
    ) -> Result<(), PassError> {
        let Some(&value) = data.get(signal) else { return Err(self.misfit(node, "gate")) };
        if policy == GatePolicy::Signal {
            let passed = self.add(Relevance::Pass, node, &[r])?;
            self.give(value, ValueId { node: passed, port: 0 });
            return Ok(());
        }
        let Some(&gate) = data.get(1 - signal.min(1)) else { return Err(self.misfit(node, "gate")) };
        let op = Relevance::Gate { signal, gate: self.graph.ty(gate).dims().to_vec() };
        let halves = self.add(op, node, &[r])?;
        for (port, value) in data.iter().enumerate() {
            self.give(*value, ValueId { node: halves, port });
        }
        Ok(())
    }

    /// The derivative of an elementwise op or a normalisation.
    fn derive(&mut self, node: NodeId, kind: Surrogate, r: ValueId) -> Result<(), PassError> {
        let data = self.graph.data_operands(node);
        let operands = self.graph.operands(node);
        let with = |rest: &[ValueId]| [&[r], rest].concat();
        let (op, operands) = match (&self.graph.node(node).op, &operands[..]) {
            (Op::Activation(activation), [x]) => {
                (Relevance::Activation { activation: *activation, kind }, with(&[*x]))
            }
            (Op::BatchNormalization(op), [_, scale, _, _, var]) => {
                (Relevance::BatchNormalization(*op), with(&[*scale, *var]))
            }
            (Op::MeanVarianceNormalization(op), [x]) => {
                (Relevance::MeanVarianceNormalization(op.clone()), with(&[*x]))
            }
            (Op::Softmax(op), [x]) => (Relevance::Softmax(*op), with(&[*x])),
            (Op::Arithmetic(arithmetic), operands) => {
                let wrt = data.iter().map(|(i, _)| *i).collect();
                (Relevance::Arithmetic { arithmetic: *arithmetic, wrt }, with(operands))
            }
            _ => return Err(self.misfit(node, kind.name())),
        };
        let passed = self.add(op, node, &operands)?;
        for (port, (_, value)) in data.into_iter().enumerate() {
            self.give(value, ValueId { node: passed, port });
        }
        Ok(())
    }

    fn misfit(&self, node: NodeId, rule: &str) -> PassError {
        malformed(format!("{}: the rule {rule} does not fit", self.graph.describe(node)))
    }

    /// The split that insert-splits put beside a join.
    fn split_of(&self, join: NodeId) -> Result<NodeId, PassError> {
        self.splits.get(&join).copied().ok_or_else(|| {
            malformed(format!("{} has no split; expected insert-splits before", self.graph.describe(join)))
        })
    }

    fn linear(
        &mut self,
        node: NodeId,
        r: ValueId,
        x: ValueId,
        rule: LinearRule,
    ) -> Result<ValueId, PassError> {
        let operands = self.graph.operands(node);
        let (layer, folded) = match self.graph.node(node).op.clone() {
            Op::Conv(conv) => (LinearLayer::Conv(conv), conv.folded_bias),
            Op::Gemm(gemm) => (LinearLayer::Gemm(gemm), gemm.folded_bias),
            Op::AveragePool(pool) => (LinearLayer::AveragePool(pool), false),
            Op::GlobalAveragePool => (LinearLayer::GlobalAveragePool, false),
            _ => return Err(self.misfit(node, &rule.name)),
        };
        let mut with = vec![r, x];
        with.extend(operands.get(1));
        if rule.bias.admits(folded) {
            with.extend(operands.get(2));
        }
        if rule.reads_output() {
            with.push(ValueId { node, port: 0 });
        }
        self.through(node, layer, rule, &with)
    }

    /// The relevance of a layer's input by a rule, and by the rule that takes what the first does not pass on.
    /// `operands` are `r`, the input and what the layer has besides.
    fn through(
        &mut self,
        node: NodeId,
        layer: LinearLayer,
        rule: LinearRule,
        operands: &[ValueId],
    ) -> Result<ValueId, PassError> {
        let leak = rule.leak;
        let op = Relevance::Linear { layer: layer.clone(), rule };
        let passed = self.add(op, node, operands)?;
        let [passed, lost] = [0, 1].map(|port| ValueId { node: passed, port });
        let handed_on = match leak {
            Leak::Lost => return Ok(passed),
            Leak::Proportional => {
                let joined = self.add(Relevance::Proportional, node, &[passed, lost])?;
                return Ok(ValueId { node: joined, port: 0 });
            }
            Leak::Zplus | Leak::Flat => {
                let weighted = matches!(layer, LinearLayer::Conv(_) | LinearLayer::Gemm(_));
                let parameters = operands.get(1..if weighted { 3 } else { 2 }).unwrap_or_default();
                let op = Relevance::Linear { layer, rule: leak_rule(leak) };
                self.add(op, node, &[&[lost], parameters].concat())?
            }
        };
        // The sum belongs to the node whose output the relevance is of.
        let of = operands.get(1).map_or(node, |x| x.node);
        let sum = self.add(Relevance::Sum, of, &[passed, ValueId { node: handed_on, port: 0 }])?;
        Ok(ValueId { node: sum, port: 0 })
    }

    /// The average pool that stands for a MaxPool.
    ///
    /// Where nothing but the window's values is in the denominator, the divisor cancels: then every tap counts, padding
    /// or not, which is the same and makes the pool a convolution.
    fn stand_in(
        &mut self,
        node: NodeId,
        x: ValueId,
        window: PoolWindow,
        rule: &LinearRule,
    ) -> Result<AveragePool, PassError> {
        let Op::MaxPool(MaxPool { window: own }) = self.graph.node(node).op else {
            return Err(self.misfit(node, "as_average"));
        };
        let average = |window| AveragePool { window, count_include_pad: false };
        let pair = WindowAxis { kernel: 2, stride: 2, ..WindowAxis::ONE };
        let paper = average(Window { axes: own.axes.iter().map(|_| pair).collect(), ceil: false });
        let out = &self.graph.node(node).types()[0];
        if window == PoolWindow::Paper {
            if paper.infer(&[self.graph.ty(x)]).as_ref() == Ok(out) {
                return Ok(paper);
            }
            let message =
                format!("windows of 2 with stride 2 don't give {out}: the pool's own window stands in");
            self.remarks.missed(self.graph.describe(node), message);
        }
        let cancels = rule.stabiliser == Stabiliser::None && rule.bias == BiasPolicy::Exclude;
        match self.graph.ty(x).spatial() {
            Some(size) if cancels && rule.fallback == Fallback::Flat => {
                let window = own.without_ceil(&size).unwrap_or(own);
                Ok(AveragePool { window, count_include_pad: true })
            }
            _ => Ok(average(own)),
        }
    }

    /// The op that undoes a change of shape.
    fn undo(&self, node: NodeId, rule: &Rule, data: &[ValueId]) -> Result<Relevance, PassError> {
        let shape: Vec<Dim> = self.graph.ty(data[0]).dims().to_vec();
        Ok(match (self.graph.node(node).op.clone(), rule) {
            (Op::Reshape(_), _) => Relevance::Reshape(relc_ir::op::Reshape { shape }),
            (Op::Expand(expand), _) => Relevance::Expand { expand, from: shape },
            (Op::Transpose(transpose), _) => Relevance::Transpose(transpose.inverse()),
            (Op::Slice(slice), _) => Relevance::Slice { slice, shape },
            (Op::Pad(pad), Rule::Crop { frame }) => Relevance::Pad { pad, shape, frame: *frame },
            (Op::Pad(_), _) => return Err(self.misfit(node, "pass")),
            (Op::Concat(concat), _) => {
                let size = |v: &ValueId| self.graph.ty(*v).dims().get(concat.axis).and_then(|d| d.fixed());
                if data.len() != self.graph.operands(node).len() {
                    return Err(malformed(format!(
                        "{}: a constant is concatenated, expected a pad and the constant added to it",
                        self.graph.describe(node)
                    )));
                }
                Relevance::Concat { concat, sizes: data.iter().filter_map(size).collect() }
            }
            _ => Relevance::Pass,
        })
    }
}
