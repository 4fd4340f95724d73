//! Read-outs at a cut, and what a rule does not pass on, given back in proportion.

use ndarray::{ArrayD, IxDyn};

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

/// Spreads an image, summed over its channels, over another of `shape`.
pub(super) fn upsample<T: Element>(r: &ArrayD<T>, shape: &[usize]) -> Option<ArrayD<T>> {
    let (&[_, _, h, w], &[n, c, height, width]) = (r.shape(), shape) else { return None };
    let (rows, columns) = (Axis::new(h, height), Axis::new(w, width));
    let channels = c as f64;
    let mut out = Vec::with_capacity(n * c * height * width);
    for sample in r.as_slice()?.chunks_exact(r.len() / n) {
        let mut sums = vec![0.0; h * w];
        for plane in sample.chunks_exact(h * w) {
            sums.iter_mut().zip(plane).for_each(|(sum, r)| *sum += r.widen());
        }
        // First along the rows, then across them: the weights are products of one for each axis.
        let wide: Vec<f64> = sums.chunks_exact(w).flat_map(|row| columns.spread(row, 1)).collect();
        let image = rows.spread(&wide, width);
        let plane: Vec<T> = image.into_iter().map(|v| T::narrow(v / channels)).collect();
        (0..c).for_each(|_| out.extend_from_slice(&plane));
    }
    ArrayD::from_shape_vec(IxDyn(shape), out).ok()
}

/// How the pixels along one axis share what they have among the pixels of another grid.
struct Axis {
    /// For each pixel of the other grid, from which pixels it takes which share.
    taken: Vec<Vec<(usize, f64)>>,
}

impl Axis {
    /// From `from` to `to` pixels; each pixel's shares add up to 1.
    fn new(from: usize, to: usize) -> Self {
        let mut taken: Vec<Vec<(usize, f64)>> = (0..to)
            .map(|q| {
                let at = (q as f64 + 0.5) * from as f64 / to as f64 - 0.5;
                let at = at.clamp(0.0, (from - 1) as f64);
                let (low, part) = (at.floor() as usize, at.fract());
                let high = (low + 1).min(from - 1);
                if part > 0.0 { vec![(low, 1.0 - part), (high, part)] } else { vec![(low, 1.0)] }
            })
            .collect();
        let mut sums = vec![0.0; from];
        taken.iter().flatten().for_each(|(p, weight)| sums[*p] += weight);
        for (p, sum) in sums.iter_mut().enumerate().filter(|(_, sum)| **sum == 0.0) {
            // A coarser grid does not look at this pixel: the nearest one there takes all.
            let nearest = ((p as f64 + 0.5) * to as f64 / from as f64) as usize;
            taken[nearest.min(to - 1)].push((p, 1.0));
            *sum = 1.0;
        }
        taken.iter_mut().flatten().for_each(|(p, weight)| *weight /= sums[*p]);
        Axis { taken }
    }

    /// Spreads values of `stride` neighbours each.
    fn spread(&self, values: &[f64], stride: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.taken.len() * stride];
        for (to, taken) in out.chunks_exact_mut(stride).zip(&self.taken) {
            for (p, weight) in taken {
                let from = &values[p * stride..(p + 1) * stride];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: usize, to: usize) {
        let axis = Axis::new(from, to);
        let mut sums = vec![0.0; from];
        axis.taken.iter().flatten().for_each(|(p, weight)| sums[*p] += weight);
        sums.iter().for_each(|sum| assert!((sum - 1.0f64).abs() < 1e-12, "{from} -> {to}: {sums:?}"));
    }

    #[test]
    fn every_pixel_gives_all_it_has() {
        for from in 1..9 {
            for to in 1..20 {
                check(from, to);
            }
        }
    }

    #[test]
    fn twice_as_many_pixels_take_by_quarters() {
        // Bilinear upsampling of (a, b) to four pixels: a, (3a + b)/4, (a + 3b)/4, b; each column adds up to 2.
        assert_eq!(Axis::new(2, 4).spread(&[8.0, 0.0], 1), [4.0, 3.0, 1.0, 0.0]);
    }

    #[test]
    fn lost_relevance_returns_in_proportion() {
        let array =
            |values: &[f64], n| ArrayD::from_shape_vec(IxDyn(&[n, values.len() / n]), values.to_vec());
        let (r, lost) = (array(&[1.0, -3.0, 0.0, 0.0], 2).unwrap(), array(&[2.0, 4.0], 2).unwrap());
        let given = proportional(r, &lost, 2).unwrap();
        assert_eq!(given.outputs[0], array(&[1.5, -1.5, 2.0, 2.0], 2).unwrap());
    }
}
