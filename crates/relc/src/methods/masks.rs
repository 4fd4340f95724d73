//! Methods of random masks: RISE, and random maps.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{Method, Runner};
use crate::error::ExplainError;
use crate::map::resize_linear;

type Result<T> = std::result::Result<T, ExplainError>;

/// RISE's options.
pub(super) struct Rise {
    pub masks: usize,
    pub cells: usize,
    pub keep: f64,
    pub seed: u64,
    pub black: Vec<f32>,
}

/// Mask `k`: a random grid, one cell larger than the input along each axis, enlarged linearly and shifted by less than a
/// cell.
fn mask(options: &Rise, k: usize, size: &[usize]) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(options.seed.wrapping_mul(0x9e37_79b9).wrapping_add(k as u64));
    let cells = options.cells;
    let cell: Vec<usize> = size.iter().map(|size| size.div_ceil(cells)).collect();
    let grid = ArrayD::from_shape_simple_fn(vec![cells + 1; size.len()], || {
        if rng.f64() < options.keep { 1.0 } else { 0.0 }
    });
    let enlarged: Vec<usize> = cell.iter().map(|cell| (cells + 1) * cell).collect();
    let large = resize_linear(grid.view(), &enlarged).unwrap_or_default(); // a grid has the size's axes
    let shift: Vec<usize> = cell.iter().map(|cell| rng.usize(0..*cell)).collect();
    let mut window = large.view();
    for (axis, (start, size)) in shift.into_iter().zip(size).enumerate() {
        window.slice_axis_inplace(Axis(axis), ndarray::Slice::from(start..start + size));
    }
    window.to_owned()
}

pub(super) fn rise(
    method: &Method,
    runner: &mut Runner<'_>,
    targets: &[usize],
    options: Rise,
) -> Result<ArrayD<f32>> {
    let size = method.grid(runner.explainer)?;
    let axis = runner.explainer.channel_axis();
    let input = runner.input.to_owned();
    let masks = options.masks;
    let masked = |job: usize| {
        let mask = mask(&options, job % masks, &size);
        let mut x = input.index_axis(Axis(0), job / masks).to_owned();
        for (channel, mut plane) in x.axis_iter_mut(Axis(axis - 1)).enumerate() {
            let black = options.black.get(channel).copied().unwrap_or(0.0);
            plane.iter_mut().zip(&mask).for_each(|(x, m)| *x = black + (*x - black) * m);
        }
        x
    };
    let mut sum = ArrayD::<f64>::zeros([&[runner.samples()], &size[..]].concat());
    // How much each pixel was shown, in place of its expectation `masks * keep`: few masks show some pixels more often.
    let mut shown = ArrayD::<f64>::zeros(IxDyn(&size));
    runner.predictions(runner.samples() * masks, masked, |job, _, probabilities, row| {
        let sample = job / masks;
        let target = targets.get(sample).copied().unwrap_or(0);
        let p = probabilities.get((row, target)).copied().unwrap_or(0.0);
        let mask = mask(&options, job % masks, &size);
        let mut map = sum.index_axis_mut(Axis(0), sample);
        map.zip_mut_with(&mask, |sum, m| *sum += p * f64::from(*m));
        if sample == 0 {
            shown.zip_mut_with(&mask, |sum, m| *sum += f64::from(*m));
        }
    })?;
    let shown = shown.insert_axis(Axis(0));
    Ok((sum / shown.mapv(|s| s.max(f64::MIN_POSITIVE))).mapv(|v| v as f32))
}

pub(super) fn random(method: &Method, runner: &Runner<'_>, seed: u64) -> Result<ArrayD<f32>> {
    let size = method.grid(runner.explainer)?;
    // Every sample has the same map, so that results don't depend on how samples are batched.
    let mut rng = fastrand::Rng::with_seed(seed);
    let map = ArrayD::from_shape_simple_fn(IxDyn(&size), || rng.f32());
    let maps = map.broadcast([&[runner.samples()], &size[..]].concat()).map(|m| m.to_owned());
    Ok(maps.unwrap_or_default())
}
