//! Residual joins split, forks add.

use ndarray::ArrayD;
use relc_ir::op::{SIGNED_EPS, SplitKind};
use relc_ir::rule::Stabiliser;

use relc_ir::ledger::Losses;

use super::Propagated;
use crate::element::Element;
use crate::ops::shaping;

/// The relevance of each branch of a join. The branch `skip` takes what the others leave, so that what leaves is
/// what arrives; not so by signed values, where the stabiliser takes a part, and for derivatives.
pub(super) fn split<T: Element>(
    kind: SplitKind,
    skip: usize,
    branches: &[&ArrayD<T>],
    r: &ArrayD<T>,
    batch: usize,
) -> Propagated<T> {
    let ratio: &dyn Fn(usize) -> ArrayD<T> = match kind {
        SplitKind::Ratio => &|k| ratio(branches, k),
        SplitKind::Half => &|_| ArrayD::from_elem(r.raw_dim(), even(branches.len())),
        SplitKind::Only(only) => &move |k| {
            if only == k { ArrayD::ones(r.raw_dim()) } else { ArrayD::zeros(r.raw_dim()) }
        },
        SplitKind::Signed => return signed(branches, r, batch),
        SplitKind::Copy => {
            return Propagated { outputs: vec![r.clone(); branches.len()], losses: Vec::new() };
        }
    };
    let mut rest = r.clone();
    let mut shares: Vec<ArrayD<T>> = Vec::with_capacity(branches.len());
    for k in 0..branches.len() {
        let share = (k != skip).then(|| ratio(k) * r);
        if let Some(share) = &share {
            rest.zip_mut_with(share, |rest, share| *rest = *rest - *share);
        }
        shares.push(share.unwrap_or_else(|| ArrayD::zeros(r.raw_dim())));
    }
    shares[skip] = rest;
    Propagated { outputs: shares, losses: Vec::new() }
}

/// `R_k = F_k R / stab(sum F)`.
fn signed<T: Element>(branches: &[&ArrayD<T>], r: &ArrayD<T>, batch: usize) -> Propagated<T> {
    let mut sum = ArrayD::zeros(r.raw_dim());
    branches.iter().for_each(|branch| sum.zip_mut_with(branch, |sum: &mut T, f| *sum += *f));
    let mut taken = vec![Losses::default(); batch];
    let mut s = r.clone();
    let len = r.len() / batch.max(1);
    for (i, (s, sum)) in s.iter_mut().zip(&sum).enumerate() {
        let eps = T::narrow(Stabiliser::Signed(SIGNED_EPS).term(sum.widen(), 0.0));
        *s = *s / (*sum + eps);
        taken[i / len].stabiliser += s.widen() * eps.widen();
    }
    let outputs = branches.iter().map(|branch| &s * *branch).collect();
    Propagated { outputs, losses: taken }
}

/// `1 / n`.
fn even<T: Element>(n: usize) -> T {
    T::narrow(n as f64).recip()
}

/// `|F_k| / sum |F|`; even where all branches are 0.
fn ratio<T: Element>(branches: &[&ArrayD<T>], k: usize) -> ArrayD<T> {
    let mut sum = ArrayD::zeros(branches[k].raw_dim());
    for branch in branches {
        sum.zip_mut_with(branch, |sum: &mut T, f| *sum += f.abs());
    }
    let even = even(branches.len());
    sum.zip_mut_with(branches[k], |sum, f| *sum = if sum.is_zero() { even } else { f.abs() / *sum });
    sum
}

/// The sum of what several users of a value send back, in their order.
pub(super) fn sum<T: Element>(mut operands: impl Iterator<Item = Option<ArrayD<T>>>) -> Option<ArrayD<T>> {
    let first = operands.next()??;
    operands.try_fold(first, |mut sum, operand| {
        sum.zip_mut_with(&operand?, |sum, r| *sum += *r);
        Some(sum)
    })
}

/// Half of `r` to a product's signal and half to its gate, summed over the axes along which the gate is repeated;
/// `shapes` are those of both operands. `None` if they don't fit.
pub(super) fn halves<T: Element>(
    signal: usize,
    r: ArrayD<T>,
    shapes: &[Vec<usize>],
) -> Option<Propagated<T>> {
    let half = r.mapv(|r| r * T::narrow(0.5));
    let gate = shaping::unexpand(half.clone(), shapes.get(1 - signal.min(1))?)?;
    let mut outputs = vec![half, gate];
    outputs.rotate_left(signal.min(1));
    Some(Propagated { outputs, losses: Vec::new() })
}
