//! Methods that add up gradients.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, Zip};

use super::Runner;
use crate::compiler::Engine;
use crate::error::ExplainError;

type Result<T> = std::result::Result<T, ExplainError>;

/// The sample of the input without the batch axis.
fn sample(runner: &Runner<'_>, i: usize) -> ArrayD<f32> {
    runner.input.index_axis(Axis(0), i).to_owned()
}

/// `sum_k weight_k grad(make(sample, k))` for every sample, summed in f64 in the order of `k`.
fn weighted(
    runner: &mut Runner<'_>,
    targets: &[usize],
    weights: &[f64],
    make: impl Fn(&ArrayD<f32>, usize) -> ArrayD<f32>,
) -> Result<ArrayD<f64>> {
    weighted_and_seen(runner, targets, weights, make, |_, _, _| {})
}

/// As [`weighted`]; `see` gets each gradient with its sample's index and `k`.
fn weighted_and_seen(
    runner: &mut Runner<'_>,
    targets: &[usize],
    weights: &[f64],
    make: impl Fn(&ArrayD<f32>, usize) -> ArrayD<f32>,
    mut see: impl FnMut(usize, usize, ArrayViewD<'_, f32>),
) -> Result<ArrayD<f64>> {
    let steps = weights.len();
    let samples: Vec<ArrayD<f32>> = (0..runner.samples()).map(|i| sample(runner, i)).collect();
    let mut sum: ArrayD<f64> = ArrayD::zeros(runner.input.raw_dim());
    runner.gradients(
        samples.len() * steps,
        |job| make(&samples[job / steps], job % steps),
        |job| targets.get(job / steps).copied().unwrap_or(0),
        |job, gradient| {
            let weight = weights[job % steps];
            let mut sum = sum.index_axis_mut(Axis(0), job / steps);
            Zip::from(&mut sum).and(&gradient).for_each(|sum, g| *sum += weight * f64::from(*g));
            see(job / steps, job % steps, gradient);
        },
    )?;
    Ok(sum)
}

pub(super) fn input_x_gradient(runner: &mut Runner<'_>, targets: &[usize]) -> Result<ArrayD<f32>> {
    let gradient = weighted(runner, targets, &[1.0], |x, _| x.clone())?;
    Ok(times_difference(gradient, runner, 0.0))
}

/// `(x - baseline) * gradient`.
fn times_difference(gradient: ArrayD<f64>, runner: &Runner<'_>, baseline: f32) -> ArrayD<f32> {
    let mut out = gradient;
    Zip::from(&mut out).and(&runner.input).for_each(|g, x| *g *= f64::from(*x) - f64::from(baseline));
    out.mapv(|v| v as f32)
}

pub(super) fn integrated(
    runner: &mut Runner<'_>,
    targets: &[usize],
    steps: usize,
    baseline: f32,
) -> Result<ArrayD<f32>> {
    let (nodes, weights) = gauss_legendre(steps);
    let path = Path { nodes, weights, baseline };
    let gradient = match runner.explainer.engine() {
        Engine::InterpF64 => weighted(runner, targets, &path.weights, |x, k| path.at(x, path.nodes[k]))?,
        Engine::Jit | Engine::InterpF32 => path.beside_kinks(runner, targets)?,
    };
    Ok(times_difference(gradient, runner, baseline))
}

/// How far beside a point of the path the gradient is taken in f32, in units of the path: some roundings of a network.
const BESIDE: f64 = 1.0 / (1 << 19) as f64;
/// What points at kinks may add up to, as a fraction of the largest attribution.
const KINKS: f64 = 5e-4;

/// The path of integrated gradients: the quadrature's nodes `t` with their weights, and `b`.
struct Path {
    nodes: Vec<f64>,
    weights: Vec<f64>,
    baseline: f32,
}

impl Path {
    /// The point `b + t (x - b)`.
    fn at(&self, x: &ArrayD<f32>, t: f64) -> ArrayD<f32> {
        let from = f64::from(self.baseline);
        x.mapv(|x| (from + t * (f64::from(x) - from)) as f32)
    }

    /// The mean gradient along the path in f32, with the points that lie at a kink done again in f64.
    ///
    /// A Relu's or MaxPool's gradient jumps where two values meet, and f32 may have values that nearly meet in the
    /// other order. So the gradient is taken at `t - h` and at `t + h`. Where no kink lies between, both are that at
    /// `t`; else half the difference, weighted, is what the point may be off. The worst points are done again until
    /// the others add up to less than [`KINKS`]. If those are more than three quarters, all points are off alike, as in
    /// a network of millions of Relus, and the mean of so many small jumps stands.
    fn beside_kinks(&self, runner: &mut Runner<'_>, targets: &[usize]) -> Result<ArrayD<f64>> {
        let input = runner.input.clone();
        let mut spreads = vec![vec![0.0; self.nodes.len()]; runner.samples()];
        let mut lower: ArrayD<f64> = ArrayD::zeros(IxDyn(&input.shape()[1..]));
        let halves: Vec<f64> = self.weights.iter().flat_map(|w| [w / 2.0; 2]).collect();
        let beside = |x: &ArrayD<f32>, half| self.beside(x, half);
        let mut sum = weighted_and_seen(runner, targets, &halves, beside, |i, half, gradient| {
            let gradient = gradient.mapv(f64::from);
            if half.is_multiple_of(2) {
                lower = gradient;
            } else {
                let jump = self.largest((gradient - &lower).view(), input.index_axis(Axis(0), i));
                spreads[i][half / 2] = halves[half] * jump;
            }
        })?;
        for (i, spreads) in spreads.iter().enumerate() {
            let mut sum = sum.index_axis_mut(Axis(0), i);
            let largest = self.largest(sum.view(), input.index_axis(Axis(0), i));
            let kinks = at_kinks(spreads, KINKS * largest);
            if !kinks.is_empty() {
                sum += &self.correction(runner, i, targets.get(i).copied().unwrap_or(0), &kinks)?;
            }
        }
        Ok(sum)
    }

    /// The input of half a point: `half` is twice the node, and 1 more for the upper half.
    fn beside(&self, x: &ArrayD<f32>, half: usize) -> ArrayD<f32> {
        let side = if half.is_multiple_of(2) { -BESIDE } else { BESIDE };
        self.at(x, self.nodes[half / 2] + side)
    }

    /// The largest magnitude of `(x - b) * gradient`.
    fn largest(&self, gradient: ArrayViewD<'_, f64>, x: ArrayViewD<'_, f32>) -> f64 {
        let from = f64::from(self.baseline);
        Zip::from(gradient).and(x).fold(0.0, |max: f64, g, x| max.max((g * (f64::from(*x) - from)).abs()))
    }

    /// What a sample's sum lacks: the gradients in f64 at some points, less what f32 gave at both sides.
    fn correction(
        &self,
        runner: &mut Runner<'_>,
        sample: usize,
        target: usize,
        points: &[usize],
    ) -> Result<ArrayD<f64>> {
        let exact = runner.explainer.in_f64();
        let input = runner.input.clone();
        let input = input.slice_axis(Axis(0), Slice::from(sample..sample + 1));
        let halves: Vec<f64> = points.iter().flat_map(|k| [-0.5 * self.weights[*k]; 2]).collect();
        let mut one = Runner { input: input.view(), progress: &mut *runner.progress, ..*runner };
        let less = weighted(&mut one, &[target], &halves, |x, half| {
            self.beside(x, 2 * points[half / 2] + half % 2)
        })?;
        let whole: Vec<f64> = points.iter().map(|k| self.weights[*k]).collect();
        let mut one = Runner { explainer: &exact, input, batch: 1, progress: &mut *runner.progress };
        let more = weighted(&mut one, &[target], &whole, |x, k| self.at(x, self.nodes[points[k]]))?;
        Ok((more + less).index_axis_move(Axis(0), 0))
    }
}

/// The points to take out so that the spreads of the others add up to at most `bound`; none if those are more than
/// three quarters.
fn at_kinks(spreads: &[f64], bound: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..spreads.len()).collect();
    order.sort_by(|a, b| spreads[*a].total_cmp(&spreads[*b]));
    let mut rest = 0.0;
    let kept = order.iter().take_while(|k| {
        rest += spreads[**k];
        rest <= bound
    });
    let out = order.split_off(kept.count());
    if out.len() * 4 > spreads.len() * 3 { Vec::new() } else { out }
}

/// Nodes and weights of the Gauss-Legendre quadrature of `n` nodes on `[0,1]`, by Newton's method on the Legendre
/// polynomial from Tricomi's initial guesses.
pub(super) fn gauss_legendre(n: usize) -> (Vec<f64>, Vec<f64>) {
    let polynomial = |x: f64| {
        let (mut before, mut p) = (0.0, 1.0);
        for k in 0..n {
            (before, p) = (p, ((2 * k + 1) as f64 * x * p - k as f64 * before) / (k + 1) as f64);
        }
        (p, n as f64 * (x * p - before) / (x * x - 1.0)) // the polynomial and its derivative
    };
    let node = |i: usize| {
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        for _ in 0..100 {
            let (p, derivative) = polynomial(x);
            let step = p / derivative;
            x -= step;
            if step.abs() < 1e-16 {
                break;
            }
        }
        x
    };
    let nodes: Vec<f64> = (0..n).map(node).collect();
    let weight = |&x: &f64| 1.0 / ((1.0 - x * x) * polynomial(x).1.powi(2));
    let weights = nodes.iter().map(weight).collect();
    (nodes.iter().map(|x| 0.5 * (1.0 + x)).collect(), weights)
}

pub(super) fn smooth(
    runner: &mut Runner<'_>,
    targets: &[usize],
    samples: usize,
    sigma: f64,
    seed: u64,
) -> Result<ArrayD<f32>> {
    let noisy = |x: &ArrayD<f32>, k: usize| {
        // The noise depends on k alone, so that results don't depend on how samples are batched.
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(k as u64));
        let min = x.fold(f32::INFINITY, |m, v| m.min(*v));
        let max = x.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        let deviation = sigma * f64::from(max - min);
        x.mapv(|x| (f64::from(x) + deviation * normal(&mut rng)) as f32)
    };
    let weights = vec![1.0 / samples as f64; samples];
    Ok(weighted(runner, targets, &weights, noisy)?.mapv(|v| v as f32))
}

/// A number of the standard normal distribution, by Box and Muller.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::{at_kinks, gauss_legendre};

    #[test]
    fn the_worst_points_are_done_again() {
        assert_eq!(at_kinks(&[0.1, 3.0, 0.0, 0.2, 2.0], 0.4), [4, 1]);
        assert!(at_kinks(&[0.0; 4], 0.0).is_empty());
        assert!(at_kinks(&[1.0, 2.0, 1.0, 2.0], 0.5).is_empty(), "all of them are off");
    }

    #[test]
    fn the_quadrature_is_exact_for_polynomials() {
        for n in [1, 2, 5, 50] {
            let (nodes, weights) = gauss_legendre(n);
            for degree in 0..(2 * n).min(20) {
                let sum: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(degree as i32)).sum();
                let exact = 1.0 / (degree + 1) as f64;
                assert!((sum - exact).abs() < 1e-13, "{n} nodes, degree {degree}: {sum} for {exact}");
            }
        }
    }
}
