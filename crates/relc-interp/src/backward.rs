//! The backward pass: runs the relevance graph and keeps the ledger.

use std::collections::HashMap;

use ndarray::ArrayD;
use rayon::prelude::*;
use relc_ir::op::Relevance;
use relc_ir::{Graph, NodeId, Op, TensorType, ValueId, verify};

use crate::element::Element;
use crate::error::{InterpError, Quantity};
use crate::forward::{Forward, shape, weight};
use crate::relevance::{self, Operand};
use relc_ir::ledger::{Account, Entry, Join, Ledger, Losses, Total};

/// How a backward pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether every relevance value is kept, not only those of the inputs.
    pub keep_all: bool,
}

/// The relevance of the inputs and how it came about.
#[derive(Clone, Debug)]
pub struct Backward<T> {
    /// The relevance of each input that has one, of the input's shape, in the order of
    /// [`Graph::relevance_outputs`].
    pub inputs: Vec<(NodeId, ArrayD<T>)>,
    /// The books.
    pub ledger: Ledger,
    values: HashMap<ValueId, ArrayD<T>>,
}

impl<T> Backward<T> {
    /// A relevance value, if the pass ran with [`Options::keep_all`].
    pub fn value(&self, value: ValueId) -> Option<&ArrayD<T>> {
        self.values.get(&value)
    }
}

/// Sums of a relevance value of one sample.
#[derive(Clone, Copy)]
struct Stats {
    sum: f64,
    magnitude: f64,
    min: f64,
    max: f64,
    non_finite: usize,
}

impl Stats {
    fn of<T: Element>(sample: &[T]) -> Self {
        let start =
            Stats { sum: 0.0, magnitude: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, non_finite: 0 };
        sample.iter().fold(start, |s, v| {
            let v = v.widen();
            Stats {
                sum: s.sum + v,
                magnitude: s.magnitude + v.abs(),
                min: s.min.min(v),
                max: s.max.max(v),
                non_finite: s.non_finite + usize::from(!v.is_finite()),
            }
        })
    }
}

/// Relevance on its way, with its sums per sample.
struct Flow<T> {
    data: ArrayD<T>,
    stats: Vec<Stats>,
}

/// Takes `seed`, of the explained output's shape `f32[N,K]`, back to the inputs.
///
/// Relevance values are dropped once they are used, unless `options` keeps them.
///
/// # Errors
/// If the graph is malformed, has no relevance or lacks the values of a weight, `forward` is another graph's, the
/// seed does not fit, or relevance is not finite.
pub fn backward<T: Element>(
    graph: &Graph,
    forward: &Forward<T>,
    seed: &ArrayD<T>,
    options: &Options,
) -> Result<Backward<T>, InterpError> {
    verify(graph)?;
    if !graph.has_relevance() {
        return Err(InterpError::NoRelevance);
    }
    let _span = tracing::debug_span!("backward", graph = graph.name()).entered();
    let mut run = Run {
        graph,
        forward,
        seed,
        flows: HashMap::new(),
        kept: options.keep_all.then(HashMap::new),
        ledger: Ledger { totals: vec![Total::default(); forward.batch()], ..Ledger::default() },
    };
    for node in graph.relevance_order().unwrap_or_default() {
        if let Op::Relevance(op) = &graph.node(node).op {
            tracing::trace!(node = graph.node_label(node), "relevance");
            run.step(node, op)?;
        }
    }
    run.finish()
}

struct Run<'a, T> {
    graph: &'a Graph,
    forward: &'a Forward<T>,
    seed: &'a ArrayD<T>,
    flows: HashMap<ValueId, Flow<T>>,
    kept: Option<HashMap<ValueId, ArrayD<T>>>,
    ledger: Ledger,
}

impl<'a, T: Element> Run<'a, T> {
    fn step(&mut self, node: NodeId, op: &Relevance) -> Result<(), InterpError> {
        let graph = self.graph;
        let outputs = graph.node(node).types().len();
        let mut shapes = Vec::with_capacity(outputs);
        for port in 0..outputs {
            self.check_batched(node, &graph.node(node).types()[port])?;
            shapes.push(shape(graph, ValueId { node, port }, self.forward.batch())?);
        }
        let (data, losses, incoming) = if *op == Relevance::Seed {
            let data = self.seed_for(node, &shapes)?;
            let stats = self.stats(&data);
            (vec![data], Vec::new(), stats.iter().map(|s| (s.sum, s.magnitude)).collect())
        } else {
            let (operands, incoming) = self.operands(node)?;
            let propagated = relevance::propagate(op, operands, &shapes, self.forward.batch())
                .ok_or_else(|| InterpError::node(graph, node, "got operands that don't fit the op"))?;
            (propagated.outputs, propagated.losses, incoming)
        };
        self.book(node, op, data, &losses, &incoming)
    }

    /// Samples are entries of the batch axis: without one, relevance could not be booked by sample.
    fn check_batched(&self, node: NodeId, ty: &TensorType) -> Result<(), InterpError> {
        if ty.is_batched() || self.forward.batch() == 1 {
            return Ok(());
        }
        let message = format!(
            "got relevance of a value {ty} without a batch axis in a run with batch {}, expected f32[N,..]; run \
             the samples one by one",
            self.forward.batch()
        );
        Err(InterpError::node(self.graph, node, message))
    }

    fn seed_for(&self, node: NodeId, shapes: &[Vec<usize>]) -> Result<ArrayD<T>, InterpError> {
        let expected = format!("finite values of shape {:?}, that of the explained output", shapes[0]);
        if self.seed.shape() != shapes[0] {
            return Err(InterpError::Seed { got: format!("shape {:?}", self.seed.shape()), expected });
        }
        let non_finite = self.seed.iter().filter(|v| !v.is_finite()).count();
        if non_finite > 0 {
            let label = self.graph.describe(node);
            return Err(InterpError::Seed {
                got: format!("{non_finite} non-finite values at {label}"),
                expected,
            });
        }
        Ok(self.seed.as_standard_layout().into_owned())
    }

    /// The operands of a node, relevance taken and the rest borrowed, and the sum and magnitude of the relevance
    /// that arrives per sample.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn operands(&mut self, node: NodeId) -> Result<(Vec<Operand<'a, T>>, Vec<(f64, f64)>), InterpError> {
        let mut incoming = vec![(0.0, 0.0); self.forward.batch()];
        let mut operands = Vec::new();
        for value in self.graph.operands(node) {
            let operand = if self.graph.node(value.node).op.is_relevance() {
                let flow = self.flows.remove(&value).ok_or_else(|| {
                    InterpError::node(self.graph, node, "got relevance that is used twice, expected once")
                })?;
                for ((sum, magnitude), stats) in incoming.iter_mut().zip(&flow.stats) {
                    *sum += stats.sum;
                    *magnitude += stats.magnitude;
                }
                Operand::Relevance(flow.data)
            } else if self.graph.is_weight(value) {
                Operand::Weight(weight(self.graph, node, value)?)
            } else {
                Operand::Activation(self.activation(node, value)?)
            };
            operands.push(operand);
        }
        Ok((operands, incoming))
    }

    fn activation(&self, node: NodeId, value: ValueId) -> Result<&'a ArrayD<T>, InterpError> {
        let expected = shape(self.graph, value, self.forward.batch())?;
        self.forward.value(value).filter(|v| v.shape() == expected).ok_or_else(|| {
            let label = self.graph.label(value);
            let message = format!(
                "got no activation {label} of shape {expected:?}, expected the forward pass of this graph"
            );
            InterpError::node(self.graph, node, message)
        })
    }

    /// The sums of each sample.
    fn stats(&self, data: &ArrayD<T>) -> Vec<Stats> {
        let len = data.len() / self.forward.batch();
        data.as_slice().map_or_else(Vec::new, |data| data.par_chunks_exact(len).map(Stats::of).collect())
    }

    /// Enters a node's books and sends its outputs on.
    fn book(
        &mut self,
        node: NodeId,
        op: &Relevance,
        outputs: Vec<ArrayD<T>>,
        losses: &[Losses],
        incoming: &[(f64, f64)],
    ) -> Result<(), InterpError> {
        let stats: Vec<Vec<Stats>> = outputs.iter().map(|data| self.stats(data)).collect();
        let batch = self.forward.batch();
        let samples: Vec<Account> =
            (0..batch).map(|i| account(op, &stats, i, losses_of(losses, i, batch), incoming[i])).collect();
        if samples.iter().any(|a| !a.is_finite()) {
            let count = samples.iter().map(|a| a.non_finite).sum::<usize>().max(1);
            return Err(InterpError::non_finite::<T>(self.graph, node, Quantity::Relevance, count));
        }
        let (label, name) = (self.graph.node_label(node), self.graph.node(node).name.clone());
        if let Relevance::Split { skip, .. } = *op {
            let share = |(stats, account): (&Stats, &Account)| {
                if account.magnitude_in == 0.0 { 0.0 } else { stats.magnitude / account.magnitude_in }
            };
            let share = stats[skip].iter().zip(&samples).map(share).collect();
            self.ledger.joins.push(Join { node, label: label.clone(), name: name.clone(), skip, share });
        }
        for (total, account) in self.ledger.totals.iter_mut().zip(&samples) {
            total.lost += account.lost();
            if *op == Relevance::Seed {
                (total.seed, total.seed_magnitude) = (account.incoming, account.magnitude_in);
            }
        }
        self.ledger.entries.push(Entry {
            node,
            label,
            name,
            op: self.graph.node(node).op.mnemonic(),
            samples,
        });
        for (port, (data, stats)) in outputs.into_iter().zip(stats).enumerate() {
            let value = ValueId { node, port };
            if let Some(kept) = &mut self.kept {
                kept.insert(value, data.clone());
            }
            self.flows.insert(value, Flow { data, stats });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Backward<T>, InterpError> {
        let mut inputs = Vec::new();
        for &(input, value) in &self.graph.relevance_outputs {
            let flow = self.flows.remove(&value).ok_or_else(|| {
                InterpError::node(
                    self.graph,
                    value.node,
                    "got relevance that is returned twice, expected once",
                )
            })?;
            for (total, stats) in self.ledger.totals.iter_mut().zip(&flow.stats) {
                total.inputs += stats.sum;
            }
            inputs.push((input, flow.data));
        }
        Ok(Backward { inputs, ledger: self.ledger, values: self.kept.unwrap_or_default() })
    }
}

/// The losses of sample `i`: the linear layers report one entry for each index of the first axis, which holds a
/// whole number of them per sample; most other nodes lose nothing and report none.
fn losses_of(losses: &[Losses], i: usize, batch: usize) -> Losses {
    let rows = losses.len() / batch;
    losses.iter().skip(i * rows).take(rows).fold(Losses::default(), |sum, l| sum + *l)
}

fn account(
    op: &Relevance,
    stats: &[Vec<Stats>],
    i: usize,
    losses: Losses,
    (incoming, magnitude_in): (f64, f64),
) -> Account {
    let outputs = || stats.iter().filter_map(|s| s.get(i));
    let outgoing = outputs().map(|s| s.sum).sum();
    Account {
        incoming,
        outgoing,
        derivative: if op.is_derivative() { incoming - outgoing } else { 0.0 },
        bias: losses.bias,
        stabiliser: losses.stabiliser,
        clipped: losses.clipped,
        padding: losses.padding,
        flat_fallback: losses.flat_fallback,
        magnitude_in,
        magnitude_out: outputs().map(|s| s.magnitude).sum(),
        min: outputs().map(|s| s.min).fold(f64::INFINITY, f64::min),
        max: outputs().map(|s| s.max).fold(f64::NEG_INFINITY, f64::max),
        non_finite: outputs().map(|s| s.non_finite).sum(),
    }
}
