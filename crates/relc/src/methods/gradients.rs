//! Methods that add up gradients.

use ndarray::{ArrayD, Axis, Zip};

use super::Runner;
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
    let between = |x: &ArrayD<f32>, k: usize| {
        let from = f64::from(baseline);
        x.mapv(|x| (from + nodes[k] * (f64::from(x) - from)) as f32)
    };
    let gradient = weighted(runner, targets, &weights, between)?;
    Ok(times_difference(gradient, runner, baseline))
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
    use super::gauss_legendre;

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
