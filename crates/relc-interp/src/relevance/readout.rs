//! Read-outs at a cut, and what a rule does not pass on, given back in proportion.

use ndarray::{ArrayD, IxDyn};
use relc_ir::op::{bilinear_shares, matched_axes};

use super::Propagated;
use crate::element::Element;

/// `share * r`, which stops, and the rest, which goes on.
pub(super) fn readout<T: Element>(share: f64, r: ArrayD<T>) -> Propagated<T> {
    let stops = r.mapv(|r| r * T::narrow(share));
    let mut rest = r;
    rest.zip_mut_with(&stops, |rest, stops| *rest = *rest - *stops);
    Propagated { outputs: vec![stops, rest], losses: Vec::new() }
}

/// `r_i + |r_i| / sum |r| * sum lost`, sample by sample; evenly where `r` is 0 everywhere.
pub(super) fn proportional<T: Element>(
    mut r: ArrayD<T>,
    lost: &ArrayD<T>,
    batch: usize,
) -> Option<Propagated<T>> {
    let (inputs, outputs) = (r.len() / batch, lost.len() / batch);
    let rows = r.as_slice_mut()?.chunks_exact_mut(inputs).zip(lost.as_slice()?.chunks_exact(outputs));
    for (r, lost) in rows {
        let lost: f64 = lost.iter().map(|v| v.widen()).sum();
        let magnitude: f64 = r.iter().map(|v| v.widen().abs()).sum();
        let even = lost / inputs as f64;
        for r in r {
            let share = if magnitude > 0.0 { r.widen().abs() / magnitude * lost } else { even };
            *r += T::narrow(share);
        }
    }
    Some(r.into())
}

/// Spreads what `r` has, summed over its channels, over another grid of `shape`, both `[N,C,..]` of the same spatial axes,
/// those of size 1 aside.
pub(super) fn upsample<T: Element>(r: &ArrayD<T>, shape: &[usize]) -> Option<ArrayD<T>> {
    let (&[_, _, ref from @ ..], &[n, c, ref to @ ..]) = (r.shape(), shape) else { return None };
    let (from, to) = matched_axes(from, to)?;
    let shares: Vec<_> = from.iter().zip(&to).map(|(from, to)| bilinear_shares(*from, *to)).collect();
    let pixels: usize = from.iter().product();
    let mut out = Vec::with_capacity(shape.iter().product());
    for sample in r.as_slice()?.chunks_exact(r.len() / n) {
        let mut sums = vec![0.0; pixels];
        for plane in sample.chunks_exact(pixels) {
            sums.iter_mut().zip(plane).for_each(|(sum, r)| *sum += r.widen());
        }
        // Axis by axis, the innermost first: the weights are products of one for each axis.
        let mut stride = 1;
        for ((shares, from), to) in shares.iter().zip(&from).zip(&to).rev() {
            sums = sums.chunks_exact(from * stride).flat_map(|part| spread(shares, part, stride)).collect();
            stride *= to;
        }
        let plane: Vec<T> = sums.into_iter().map(|v| T::narrow(v / c as f64)).collect();
        (0..c).for_each(|_| out.extend_from_slice(&plane));
    }
    ArrayD::from_shape_vec(IxDyn(shape), out).ok()
}

/// What the pixels along one axis, of `stride` values each, give to those of another grid.
fn spread(shares: &[Vec<(usize, f64)>], values: &[f64], stride: usize) -> Vec<f64> {
    let mut out = vec![0.0; shares.len() * stride];
    for (to, taken) in out.chunks_exact_mut(stride).zip(shares) {
        for (p, weight) in taken {
            let from = &values[p * stride..(p + 1) * stride];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_relevance_returns_in_proportion() {
        let array =
            |values: &[f64], n| ArrayD::from_shape_vec(IxDyn(&[n, values.len() / n]), values.to_vec());
        let (r, lost) = (array(&[1.0, -3.0, 0.0, 0.0], 2).unwrap(), array(&[2.0, 4.0], 2).unwrap());
        let given = proportional(r, &lost, 2).unwrap();
        assert_eq!(given.outputs[0], array(&[1.5, -1.5, 2.0, 2.0], 2).unwrap());
    }
}
