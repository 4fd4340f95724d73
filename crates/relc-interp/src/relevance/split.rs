//! Residual joins split, forks add.

use ndarray::ArrayD;
use relc_ir::op::SplitKind;

use crate::element::Element;

/// The relevance of each branch of a join. The branch `skip` takes what the others leave, so that what leaves is
/// what arrives.
pub(super) fn split<T: Element>(
    kind: SplitKind,
    skip: usize,
    branches: &[&ArrayD<T>],
    r: &ArrayD<T>,
) -> Vec<ArrayD<T>> {
    let ratio = |k: usize| -> Option<ArrayD<T>> {
        (k != skip).then(|| match kind {
            SplitKind::Ratio => ratio(branches, k),
            SplitKind::Half => ArrayD::from_elem(r.raw_dim(), even(branches.len())),
            SplitKind::Only(only) if only == k => ArrayD::ones(r.raw_dim()),
            SplitKind::Only(_) => ArrayD::zeros(r.raw_dim()),
        })
    };
    let mut rest = r.clone();
    let mut shares: Vec<ArrayD<T>> = Vec::with_capacity(branches.len());
    for k in 0..branches.len() {
        let share = ratio(k).map(|ratio| ratio * r);
        if let Some(share) = &share {
            rest.zip_mut_with(share, |rest, share| *rest = *rest - *share);
        }
        shares.push(share.unwrap_or_else(|| ArrayD::zeros(r.raw_dim())));
    }
    shares[skip] = rest;
    shares
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
