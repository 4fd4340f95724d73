//! Residual structures: what find-residuals found.

use crate::graph::NodeId;
use crate::names;

/// What one branch of a residual join does between the fork and the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BranchKind {
    /// The fork's value itself.
    Identity,
    /// No weighted layer, but something: a change of shape or size, a pool, an activation, ...
    Unweighted,
    /// A branch with weighted layers.
    Weighted,
}

names!(BranchKind, "branch kind", ["identity" => Identity, "unweighted" => Unweighted, "weighted" => Weighted]);

/// One branch of a residual join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// What it does.
    pub kind: BranchKind,
    /// Weighted layers on its longest path from the fork.
    pub weighted_layers: usize,
    /// Nodes on its longest path from the fork.
    pub length: usize,
}

/// A residual structure: branches that leave one value (the fork) and meet in a sum (the join).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residual<N = NodeId> {
    /// The sum.
    pub join: N,
    /// The nearest common dominator of its operands.
    pub fork: N,
    /// The branches, in the order of the join's operands.
    pub branches: Vec<Branch>,
    /// Which of them is the skip: the one with the fewest weighted layers, then the shortest, then the last.
    pub skip: usize,
}

impl<N: Copy> Residual<N> {
    /// Whether the skip has weighted layers of its own.
    pub fn skip_is_projection(&self) -> bool {
        self.branches.get(self.skip).is_some_and(|b| b.kind == BranchKind::Weighted)
    }

    /// The index of the main branch: the one with the most weighted layers, then the longest, then the first.
    pub fn main(&self) -> usize {
        let key = |&i: &usize| {
            let b = self.branches[i];
            (b.weighted_layers, b.length, std::cmp::Reverse(i))
        };
        (0..self.branches.len()).filter(|i| *i != self.skip).max_by_key(key).unwrap_or(0)
    }

    /// What the skip is called in reports: `identity`, `unweighted` or `projection`.
    pub fn skip_name(&self) -> &'static str {
        match self.branches.get(self.skip).map(|b| b.kind) {
            Some(BranchKind::Weighted) => "projection",
            Some(BranchKind::Unweighted) => "unweighted",
            _ => "identity",
        }
    }

    /// The same structure with other names for its nodes.
    pub fn map<M>(&self, f: impl Fn(N) -> M) -> Residual<M> {
        Residual { join: f(self.join), fork: f(self.fork), branches: self.branches.clone(), skip: self.skip }
    }
}
