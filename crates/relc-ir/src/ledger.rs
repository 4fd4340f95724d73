//! The ledger: double-entry bookkeeping of relevance.
//!
//! For each relevance node and sample, in f64:
//! `in = out + bias + stabiliser + clipped + padding`, to rounding. Every term is computed from its own definition,
//! so the equation is a check of the executor, not a tautology. `flat_fallback` is part of `out`: redistributed,
//! not lost.

use std::ops::Add;

use serde::Serialize;

use crate::graph::NodeId;

/// One relevance node's books for one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Account {
    /// Sum of the relevance that arrived.
    #[serde(rename = "in")]
    pub incoming: f64,
    /// Sum of the relevance that was passed on.
    #[serde(rename = "out")]
    pub outgoing: f64,
    /// What biases in denominators took: `sum_j s_j b_j`.
    pub bias: f64,
    /// What stabilisers took: `sum_j s_j eps_j`.
    pub stabiliser: f64,
    /// What arrived where the denominator is exactly 0 and the rule has no fallback.
    pub clipped: f64,
    /// What was dropped on padding: by a Pad, or at a window that covers no input.
    pub padding: f64,
    /// What the flat fallback distributed evenly, or a Pad spread over the sample. Part of `out`.
    pub flat_fallback: f64,
    /// What a derivative changed, `in - out`: it is no relevance, so there is nothing that could be lost. 0 for
    /// every other op.
    pub derivative: f64,
    /// Sum of the magnitudes of the relevance that arrived.
    pub magnitude_in: f64,
    /// Sum of the magnitudes of the relevance that was passed on.
    pub magnitude_out: f64,
    /// The smallest relevance that was passed on.
    pub min: f64,
    /// The largest relevance that was passed on.
    pub max: f64,
    /// Non-finite values among what was passed on; 0 in the ledger of a run that succeeded.
    pub non_finite: usize,
}

impl Account {
    /// What was lost: bias, stabiliser, clipped and padding together.
    pub fn lost(&self) -> f64 {
        self.bias + self.stabiliser + self.clipped + self.padding
    }

    /// By how much the books don't balance: `in - out - lost`, where no derivative is the reason.
    pub fn residue(&self) -> f64 {
        self.incoming - self.outgoing - self.lost() - self.derivative
    }

    /// The larger of the magnitudes that arrived and that were passed on.
    fn magnitude(&self) -> f64 {
        self.magnitude_in.max(self.magnitude_out)
    }

    /// Whether all sums are numbers.
    pub fn is_finite(&self) -> bool {
        let sums = [self.incoming, self.outgoing, self.lost(), self.flat_fallback];
        self.non_finite == 0 && sums.iter().all(|v| v.is_finite())
    }
}

/// A relevance node's books.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The relevance node.
    #[serde(skip)]
    pub node: NodeId,
    /// Its label in the text form.
    pub label: String,
    /// The ONNX name of its forward node.
    pub name: String,
    /// The op: `conv.zplus`, `split.ratio`, ...
    pub op: String,
    /// One account per sample.
    pub samples: Vec<Account>,
}

/// A residual join's share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Join {
    /// The split.
    #[serde(skip)]
    pub node: NodeId,
    /// Its label in the text form.
    pub label: String,
    /// The ONNX name of the forward `Add`.
    pub name: String,
    /// Which branch is the skip.
    pub skip: usize,
    /// The share that took the skip, per sample: `sum |R_skip| / sum |R|`; 0 where no relevance arrived.
    pub share: Vec<f64>,
}

/// One sample's way through the whole program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Total {
    /// Sum of the seed.
    pub seed: f64,
    /// Sum of the seed's magnitudes.
    pub seed_magnitude: f64,
    /// Sum of the relevance of all inputs.
    pub inputs: f64,
    /// Sum of what all nodes lost.
    pub lost: f64,
}

impl Total {
    /// `|sum(R_input) - sum(seed)| / sum|seed|`; 0 for a zero seed that gives no relevance.
    pub fn conservation_error(&self) -> f64 {
        relative(self.inputs - self.seed, self.seed_magnitude)
    }
}

/// The books of a backward pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ledger {
    /// Each relevance node's books, in execution order.
    pub entries: Vec<Entry>,
    /// Each residual join's share, in execution order.
    pub joins: Vec<Join>,
    /// Each sample's totals.
    pub totals: Vec<Total>,
}

/// By how much a node's books don't balance.
#[derive(Clone, Debug, PartialEq)]
pub struct Residue {
    /// The relevance node.
    pub node: NodeId,
    /// Its label in the text form.
    pub label: String,
    /// The ONNX name of its forward node.
    pub name: String,
    /// The op.
    pub op: String,
    /// The sample.
    pub sample: usize,
    /// `in - out - bias - stabiliser - clipped - padding`.
    pub absolute: f64,
    /// Its magnitude over the larger of `sum |R|` in and `sum |R|` out, or over 1e-31 where both are smaller: below
    /// that f32 underflows.
    pub relative: f64,
}

/// Books that don't balance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A node's equation is off by more than the tolerance: a bug of the executor, or arithmetic without digits.
    #[error(
        "node \"{}\" ({} {}), sample {}: in - out - losses = {:e}, {:e} of the relevance, expected at most {tolerance:e}",
        .residue.name, .residue.label, .residue.op, .residue.sample, .residue.absolute, .residue.relative
    )]
    Unbalanced {
        /// The worst node.
        residue: Residue,
        /// What was allowed, as a fraction of the relevance.
        tolerance: f64,
    },
}

/// Relevance of a smaller magnitude, `2^-126 / 2^-23`, about 1e-31, loses digits to underflow in f32.
const DIGITS: f64 = f32::MIN_POSITIVE as f64 / f32::EPSILON as f64;

/// `|x| / scale`, where nothing of nothing is 0.
fn relative(x: f64, scale: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.abs() / scale }
}

impl Ledger {
    /// Puts the samples of another ledger of the same graph behind those of this one.
    pub fn append(&mut self, other: Ledger) {
        if self.totals.is_empty() {
            *self = other;
            return;
        }
        let entries = self.entries.iter_mut().zip(other.entries);
        entries.for_each(|(entry, more)| entry.samples.extend(more.samples));
        let joins = self.joins.iter_mut().zip(other.joins);
        joins.for_each(|(join, more)| join.share.extend(more.share));
        self.totals.extend(other.totals);
    }

    /// A sample's relevance where it was largest, `max sum |R|` over what nodes received and passed on. Contributions
    /// of both signs may make it far larger than the seed before they cancel again, and rounding is a share of it.
    /// `None` without entries.
    pub fn flow(&self, sample: usize) -> Option<f64> {
        let accounts = self.entries.iter().filter_map(|e| e.samples.get(sample));
        accounts.map(Account::magnitude).reduce(f64::max)
    }

    /// The node and sample whose books are off by the largest fraction of the relevance; `None` for an empty
    /// ledger.
    pub fn worst(&self) -> Option<Residue> {
        let accounts =
            self.entries.iter().flat_map(|e| e.samples.iter().enumerate().map(move |(i, a)| (e, i, a)));
        let residues = accounts.map(|(entry, sample, account)| {
            let scale = account.magnitude().max(DIGITS);
            (relative(account.residue(), scale), entry, sample, account.residue())
        });
        let (relative, entry, sample, absolute) = residues.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let (label, name, op) = (entry.label.clone(), entry.name.clone(), entry.op.clone());
        Some(Residue { node: entry.node, label, name, op, sample, absolute, relative })
    }

    /// Checks `in = out + bias + stabiliser + clipped + padding` for every node and sample, to `tolerance` as a
    /// fraction of the relevance there, and returns the worst.
    ///
    /// # Errors
    /// If the worst is above the tolerance, or not a number.
    pub fn check(&self, tolerance: f64) -> Result<Option<Residue>, LedgerError> {
        match self.worst() {
            Some(residue) if residue.relative.is_nan() || residue.relative > tolerance => {
                Err(LedgerError::Unbalanced { residue, tolerance })
            }
            worst => Ok(worst),
        }
    }
}

/// What a node did not pass on as it is, in f64; see [`Account`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// What biases took.
    pub bias: f64,
    /// What stabilisers took.
    pub stabiliser: f64,
    /// What arrived where nothing divides.
    pub clipped: f64,
    /// What was dropped on padding.
    pub padding: f64,
    /// What was distributed evenly.
    pub flat_fallback: f64,
}

impl Add for Losses {
    type Output = Losses;

    fn add(self, other: Losses) -> Losses {
        Losses {
            bias: self.bias + other.bias,
            stabiliser: self.stabiliser + other.stabiliser,
            clipped: self.clipped + other.clipped,
            padding: self.padding + other.padding,
            flat_fallback: self.flat_fallback + other.flat_fallback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(accounts: &[(f64, f64)]) -> Ledger {
        let account = |&(incoming, outgoing): &(f64, f64)| Account {
            incoming,
            outgoing,
            magnitude_in: 3.0 * incoming.abs(),
            magnitude_out: outgoing.abs(),
            ..Account::default()
        };
        let entry = |(i, sums)| Entry {
            node: NodeId(petgraph::graph::NodeIndex::new(i)),
            label: format!("%r{i}"),
            name: String::new(),
            op: String::new(),
            samples: vec![account(sums)],
        };
        Ledger { entries: accounts.iter().enumerate().map(entry).collect(), ..Ledger::default() }
    }

    #[test]
    fn the_flow_is_that_of_the_node_where_it_is_largest() {
        assert_eq!(ledger(&[(1.0, 1.0), (2.0, 7.0), (1.0, 1.0)]).flow(0), Some(7.0));
        assert_eq!(ledger(&[(2.0, 1.0)]).flow(0), Some(6.0));
        assert_eq!((ledger(&[]).flow(0), ledger(&[(1.0, 1.0)]).flow(1)), (None, None));
    }

    #[test]
    fn books_are_off_by_a_fraction_of_the_relevance_and_underflow_is_no_fault() {
        let worst = ledger(&[(1.0, 1.0), (1.0, 0.97)]).check(0.001).unwrap_err();
        let LedgerError::Unbalanced { residue, .. } = worst;
        assert_eq!((residue.label.as_str(), (residue.relative * 1e6).round()), ("%r1", 1e4));
        ledger(&[(1e-38, 0.97e-38)]).check(1e-6).unwrap();
        ledger(&[(1e-30, 0.97e-30)]).check(1e-6).unwrap_err();
    }
}
