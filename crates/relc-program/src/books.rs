//! From a back end's sums to the ledger.

use std::collections::HashMap;

use relc_ir::ledger::{Account, Entry, Join, Ledger, Losses, Total};
use relc_ir::op::Relevance;
use relc_ir::{Graph, NodeId, Op, ValueId};

use crate::program::Program;

/// Sums over the elements of a tensor, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The sum.
    pub sum: f64,
    /// The sum of magnitudes.
    pub magnitude: f64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Stats {
    /// Of no elements.
    pub const NOTHING: Stats = Stats { sum: 0.0, magnitude: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// Of the elements of both.
    pub fn with(self, other: Stats) -> Stats {
        Stats {
            sum: self.sum + other.sum,
            magnitude: self.magnitude + other.magnitude,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Of one element.
    pub fn of_value(value: f32) -> Stats {
        Stats { sum: f64::from(value), magnitude: f64::from(value.abs()), min: value, max: value }
    }

    /// Whether all elements are finite: a sum of magnitudes that fit in f32 is, in f64.
    pub fn is_finite(&self) -> bool {
        self.magnitude.is_finite() && self.sum.is_finite()
    }
}

/// The relevance values of a graph.
pub fn relevance_values(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    let nodes = graph.node_ids().filter(|node| graph.node(*node).op.is_relevance());
    nodes.flat_map(|node| (0..graph.node(node).types().len()).map(move |port| ValueId { node, port }))
}

/// The sums of one backward pass of one sample.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Of relevance values.
    pub stats: HashMap<ValueId, Stats>,
    /// Of relevance nodes.
    pub losses: HashMap<NodeId, Losses>,
}

/// A relevance node's page.
#[derive(Clone, Debug)]
struct Page {
    node: NodeId,
    label: String,
    name: String,
    op: String,
    /// The relevance that arrives: the values in whose place the operands lie.
    incoming: Vec<ValueId>,
    outgoing: Vec<ValueId>,
    /// Whether it is the seed, which relevance does not arrive at but starts from.
    seed: bool,
    /// Whether the node is a derivative.
    derivative: bool,
    /// The output that a split sends to the skip.
    skip: Option<usize>,
}

/// Knows which sums belong to which node.
#[derive(Clone, Debug)]
pub struct Bookkeeper {
    pages: Vec<Page>,
    returned: ValueId,
}

impl Bookkeeper {
    /// For a graph and its program, whose sums may be those of several relevance values; none if the input has no relevance.
    pub fn new(graph: &Graph, program: &Program) -> Option<Bookkeeper> {
        let labels: HashMap<String, ValueId> =
            relevance_values(graph).map(|value| (graph.label(value), value)).collect();
        let mut first: HashMap<ValueId, ValueId> = HashMap::new();
        for step in &program.backward {
            for of in step.op.tallies() {
                let values: Vec<ValueId> = of.iter().filter_map(|label| labels.get(label).copied()).collect();
                first.extend(values.iter().map(|value| (*value, values[0])));
            }
        }
        let root = |value: ValueId| first.get(&value).copied().unwrap_or(value);
        let page = |node: NodeId| {
            let n = graph.node(node);
            let relevance = graph.operands(node).into_iter().filter(|v| graph.node(v.node).op.is_relevance());
            Page {
                derivative: matches!(&n.op, Op::Relevance(op) if op.is_derivative()),
                node,
                label: graph.node_label(node),
                name: n.name.clone(),
                op: n.op.mnemonic(),
                incoming: relevance.map(root).collect(),
                outgoing: (0..n.types().len()).map(|port| root(ValueId { node, port })).collect(),
                seed: n.op == Op::Relevance(Relevance::Seed),
                skip: match n.op {
                    Op::Relevance(Relevance::Split { skip, .. }) => Some(skip),
                    _ => None,
                },
            }
        };
        let returned = graph.relevance_outputs.first().map(|(_, value)| root(*value))?;
        let pages = graph.relevance_order().unwrap_or_default().into_iter().map(page).collect();
        Some(Bookkeeper { pages, returned })
    }

    /// The values that relevance starts and ends at: the seed and the input's relevance.
    pub fn ends(&self) -> [ValueId; 2] {
        let seed = self.pages.iter().find(|page| page.seed).and_then(|page| page.outgoing.first());
        [seed.copied().unwrap_or(self.returned), self.returned]
    }

    /// The first node, in execution order, whose relevance is not finite.
    pub fn non_finite(&self, books: &Books) -> Option<String> {
        let finite = |value: &ValueId| books.stats.get(value).is_none_or(Stats::is_finite);
        let page = self.pages.iter().find(|page| !page.outgoing.iter().all(finite))?;
        Some(format!("\"{}\" ({} {})", page.name, page.label, page.op))
    }

    /// The books of some samples, which are complete, or of which only the sums of the ends were taken.
    pub fn ledger(&self, samples: &[&Books], complete: bool) -> Ledger {
        let mut ledger = Ledger { totals: vec![Total::default(); samples.len()], ..Ledger::default() };
        for (total, books) in ledger.totals.iter_mut().zip(samples) {
            let sums = |value: ValueId| books.stats.get(&value).copied().unwrap_or(Stats::NOTHING);
            let [seed, inputs] = self.ends().map(sums);
            (total.seed, total.seed_magnitude) = (seed.sum, seed.magnitude);
            total.inputs = inputs.sum;
        }
        for page in self.pages.iter().filter(|_| complete) {
            let accounts: Vec<Account> = samples.iter().map(|books| page.account(books)).collect();
            ledger.totals.iter_mut().zip(&accounts).for_each(|(total, account)| total.lost += account.lost());
            if let Some(skip) = page.skip {
                let share = samples.iter().zip(&accounts).map(|(books, account)| {
                    let taken = page.outgoing.get(skip).and_then(|value| books.stats.get(value));
                    if account.magnitude_in == 0.0 {
                        0.0
                    } else {
                        taken.map_or(0.0, |stats| stats.magnitude) / account.magnitude_in
                    }
                });
                let (label, name) = (page.label.clone(), page.name.clone());
                ledger.joins.push(Join { node: page.node, label, name, skip, share: share.collect() });
            }
            let (label, name, op) = (page.label.clone(), page.name.clone(), page.op.clone());
            ledger.entries.push(Entry { node: page.node, label, name, op, samples: accounts });
        }
        ledger
    }
}

impl Page {
    /// The node's books of one sample.
    fn account(&self, books: &Books) -> Account {
        let total = |values: &[ValueId]| {
            let sums = values.iter().filter_map(|value| books.stats.get(value).copied());
            sums.fold(Stats::NOTHING, Stats::with)
        };
        let outgoing = total(&self.outgoing);
        let incoming = if self.seed { outgoing } else { total(&self.incoming) };
        let losses = books.losses.get(&self.node).copied().unwrap_or_default();
        Account {
            incoming: incoming.sum,
            outgoing: outgoing.sum,
            bias: losses.bias,
            stabiliser: losses.stabiliser,
            clipped: losses.clipped,
            padding: losses.padding,
            flat_fallback: losses.flat_fallback,
            derivative: if self.derivative { incoming.sum - outgoing.sum } else { 0.0 },
            magnitude_in: incoming.magnitude,
            magnitude_out: outgoing.magnitude,
            min: f64::from(outgoing.min),
            max: f64::from(outgoing.max),
            non_finite: 0,
        }
    }
}
