//! `find-residuals`: residual structures, from the graph's structure alone.
//!
//! A convergence point (join) is a sum of two or more non-constant values that relevance reaches (a sum inside a gate is
//! none). Its fork is its immediate dominator: the
//! last node that every path from the inputs to the join goes through. The skip is the operand whose path from the
//! fork has the fewest weighted layers, then the fewest nodes (not
//! counting those that only move elements), then comes last.

use std::collections::HashMap;

use relc_ir::op::Arithmetic;
use relc_ir::residual::{Branch, BranchKind, Residual};
use relc_ir::{Graph, NodeId, Op, ValueId};

use crate::dominance::Dominance;
use crate::error::PassError;
use crate::gates::Gates;
use crate::manager::{Pass, forward_order};
use relc_ir::remark::Remarks;

/// Finds residual joins by dominator analysis; names and classes don't count.
pub struct FindResiduals;

impl Pass for FindResiduals {
    fn name(&self) -> &'static str {
        "find-residuals"
    }

    fn description(&self) -> &'static str {
        "find where residual branches fork and meet, by dominators"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let order = forward_order(graph, self.name())?;
        let dominators = Dominance::new(graph);
        let gates = Gates::new(graph, &order);
        let reached = gates.reached(graph, &order, |_| true);
        let mut paths = Paths::new(&order);
        let mut residuals = Vec::new();
        for &node in &order {
            let data = graph.data_operands(node);
            if data.len() < 2 || !reached.contains(&node) {
                continue;
            }
            match graph.node(node).op {
                Op::Arithmetic(Arithmetic::Add) if data.len() == graph.operands(node).len() => {
                    match dominators.fork(node) {
                        Some(fork) => {
                            let residual = paths.analyse(graph, node, fork, &data);
                            let message = format!("joins {}", describe(graph, &residual));
                            remarks.applied(graph.describe(node), message);
                            residuals.push(residual);
                        }
                        None => {
                            remarks.warning(graph.describe(node), "its operands have no common dominator")
                        }
                    }
                }
                Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div | Arithmetic::Sub) => {
                    match gates.signal(graph, node) {
                        Some(signal) => remarks.applied(
                            graph.describe(node),
                            format!("is a gate on {}", graph.label(data[signal].1)),
                        ),
                        None if graph.node(node).op == Op::Arithmetic(Arithmetic::Mul) => remarks.warning(
                            graph.describe(node),
                            "two branches of which neither is the other's gate: each takes half of the relevance",
                        ),
                        None => remarks.warning(
                            graph.describe(node),
                            "branches meet of which neither is a statistic of the other",
                        ),
                    }
                }
                Op::Concat(_) => remarks.applied(graph.describe(node), "puts branches side by side"),
                _ => remarks.warning(graph.describe(node), "branches meet in a way that is not understood"),
            }
        }
        if residuals.is_empty() {
            let adds = order.iter().filter(|n| graph.node(**n).op == Op::Arithmetic(Arithmetic::Add)).count();
            let message = format!("no residual join found ({adds} Add nodes): this is no residual network");
            remarks.warning("", message);
        }
        graph.residuals = residuals;
        Ok(())
    }
}

fn describe(graph: &Graph, r: &Residual) -> String {
    let main = r.branches[r.main()];
    format!(
        "a branch of {} weighted layer(s) and a skip ({}) that forked at {}",
        main.weighted_layers,
        r.skip_name(),
        graph.describe(r.fork)
    )
}

/// The longest path from a fork to a value: weighted layers, and nodes.
#[derive(Clone, Copy, Default)]
struct Path {
    weighted: usize,
    length: usize,
}

/// The longest paths from each fork, over the nodes behind it in topological order. Those from a fork of several joins
/// go on from one join to the next, so that a chain of joins takes time that is linear in its length.
struct Paths<'a> {
    order: &'a [NodeId],
    positions: HashMap<NodeId, usize>,
    /// The paths from a fork, and how far they reach in the order.
    from: HashMap<NodeId, (HashMap<NodeId, Path>, usize)>,
}

impl<'a> Paths<'a> {
    fn new(order: &'a [NodeId]) -> Self {
        let positions = order.iter().enumerate().map(|(at, node)| (*node, at)).collect();
        Paths { order, positions, from: HashMap::new() }
    }

    fn position(&self, node: NodeId) -> usize {
        self.positions.get(&node).copied().unwrap_or(0)
    }

    /// The paths from a fork to the nodes before a join.
    fn between(&mut self, graph: &Graph, fork: NodeId, join: NodeId) -> &HashMap<NodeId, Path> {
        let (start, end) = (self.position(fork) + 1, self.position(join));
        let start = || (HashMap::from([(fork, Path::default())]), start);
        let (paths, reach) = self.from.entry(fork).or_insert_with(start);
        for &node in self.order.get(*reach..end).unwrap_or(&[]) {
            let from = graph.data_operands(node).into_iter().filter_map(|(_, v)| paths.get(&v.node).copied());
            let Some(longest) = from
                .reduce(|a, b| Path { weighted: a.weighted.max(b.weighted), length: a.length.max(b.length) })
            else {
                continue;
            };
            let op = &graph.node(node).op;
            let weighted = longest.weighted + usize::from(op.is_weighted());
            // What only moves elements is no layer: a skip of such is an identity.
            let moves = matches!(op, Op::Reshape(_) | Op::Transpose(_));
            paths.insert(node, Path { weighted, length: longest.length + usize::from(!moves) });
        }
        *reach = (*reach).max(end);
        paths
    }

    fn analyse(&mut self, graph: &Graph, join: NodeId, fork: NodeId, data: &[(usize, ValueId)]) -> Residual {
        let paths = self.between(graph, fork, join);
        let branches: Vec<Branch> = data
            .iter()
            .map(|(_, value)| {
                let path = paths.get(&value.node).copied().unwrap_or_default();
                let kind = match path {
                    Path { weighted: 1.., .. } => BranchKind::Weighted,
                    Path { length: 0, .. } => BranchKind::Identity,
                    _ => BranchKind::Unweighted,
                };
                Branch { kind, weighted_layers: path.weighted, length: path.length }
            })
            .collect();
        let key = |i: &usize| (branches[*i].weighted_layers, branches[*i].length, std::cmp::Reverse(*i));
        let skip = (0..branches.len()).min_by_key(key).unwrap_or(0);
        Residual { join, fork, branches, skip }
    }
}
