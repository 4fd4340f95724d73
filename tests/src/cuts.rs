//! The relevance that crosses each cut of a program.

use std::collections::HashMap;

use ndarray::{ArrayD, Axis};
use relc_interp::{Element, Options};
use relc_ir::ledger::Ledger;
use relc_ir::{Graph, Op, ValueId, op::Relevance};

/// What a run conserved at its worst cut.
pub struct Cuts {
    /// The largest `|sum of relevance - sum of seed| / sum |seed|` of any sample at any cut.
    pub error: f64,
    /// The relevance node behind which that cut is.
    pub behind: String,
    /// The run's books.
    pub ledger: Ledger,
}

/// The sum of each sample, in f64.
fn sums<T: Element>(value: &ArrayD<T>, of: impl Fn(f64) -> f64) -> Vec<f64> {
    let sum = |sample: ndarray::ArrayViewD<'_, T>| sample.iter().map(|v| of(v.widen())).sum();
    value.axis_iter(Axis(0)).map(sum).collect()
}

/// Runs a program in `T` from `seed(output)`, and compares what crosses each cut with the seed: after every relevance
/// node, the values that have been made and not yet used.
///
/// # Panics
/// If the program can't be run.
pub fn cuts<T: Element>(graph: &Graph, x: ArrayD<T>, seed: impl FnOnce(&ArrayD<T>) -> ArrayD<T>) -> Cuts {
    let forward = relc_interp::forward(graph, &[x]).expect("the program runs");
    let seed = seed(forward.value(graph.outputs()[0].1).expect("outputs are kept"));
    let backward = relc_interp::backward(graph, &forward, &seed, &Options { keep_all: true })
        .expect("the program runs back");
    let (totals, scales) = (sums(&seed, |v| v), sums(&seed, f64::abs));
    assert!(scales.iter().all(|s| *s > 0.0), "a sample without a seed says nothing");
    let mut live: HashMap<ValueId, Vec<f64>> = HashMap::new();
    let (mut error, mut behind) = (0.0, String::new());
    for node in graph.relevance_order().expect("the program has an order") {
        if graph.node(node).op != Op::Relevance(Relevance::Seed) {
            for value in graph.operands(node) {
                live.remove(&value);
            }
        }
        for port in 0..graph.node(node).types().len() {
            let value = ValueId { node, port };
            live.insert(value, sums(backward.value(value).expect("every value is kept"), |v| v));
        }
        for (sample, (total, scale)) in totals.iter().zip(&scales).enumerate() {
            let crossing: f64 = live.values().map(|sums| sums[sample]).sum();
            let off = (crossing - total).abs() / scale;
            if off > error || off.is_nan() {
                (error, behind) = (off, graph.describe(node));
            }
        }
    }
    assert!(!live.is_empty(), "the program has relevance");
    Cuts { error, behind, ledger: backward.ledger }
}
