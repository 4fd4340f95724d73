//! Methods that weigh a layer's channels: Grad-CAM, LayerCAM, Grad-CAM++ and Score-CAM.

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc_ir::NodeId;
use relc_ir::analysis::reversal;
use relc_ir::spelling::nearest_node;

use super::{Method, Runner, method_error};
use crate::error::ExplainError;
use crate::explainer::Explainer;
use crate::map::resize_linear;
use crate::request::Seed;
use crate::tap::Tap;

type Result<T> = std::result::Result<T, ExplainError>;

/// The node of a layer's name; else the last one before the head whose output has the input's spatial axes, in their order,
/// and more than one pixel.
fn layer(method: &Method, explainer: &Explainer, name: Option<&str>) -> Result<NodeId> {
    let graph = explainer.graph();
    let axes = method.grid(explainer)?.len();
    let has_axes = |n: &NodeId| {
        let size = graph.node(*n).types().first().and_then(|ty| ty.spatial()).unwrap_or_default();
        size.len() == axes && size.iter().any(|side| *side > 1)
    };
    let is_layer = |n: &NodeId| has_axes(n) && !graph.data_operands(*n).is_empty();
    let order = graph.forward_order().unwrap_or_default();
    let turned = |n: NodeId| graph.inputs().iter().find_map(|input| reversal(graph, *input, n));
    let found = match name {
        Some(name) => order.iter().rev().find(|n| graph.node(**n).name == name && is_layer(n)),
        None => order.iter().rev().find(|n| is_layer(n) && turned(**n).is_none()),
    };
    if let Some(node) = found.and_then(|n| turned(*n)) {
        let got = format!(
            "the layer \"{}\", whose pixels are reversed by {}",
            name.unwrap_or_default(),
            graph.describe(node)
        );
        return Err(method_error(method, got, "a layer whose pixels lie as the input's do"));
    }
    found.copied().ok_or_else(|| {
        let names = order.iter().filter(|n| is_layer(n)).map(|n| graph.node(*n).name.as_str());
        let wanted = name.unwrap_or("");
        let nearest = nearest_node(wanted, names).unwrap_or("there is none in this model");
        method_error(
            method,
            format!("the layer \"{wanted}\""),
            &format!("a node with an output f32[N,C,..], such as {nearest}"),
        )
    })
}

/// The activations of a layer, `f32[N,C,..]`, and their gradients.
fn tapped(method: &Method, runner: &Runner<'_>, targets: &[usize], name: Option<&str>) -> Result<Tap> {
    let node = layer(method, runner.explainer, name)?;
    let mut seed = ArrayD::zeros(vec![targets.len(), runner.explainer.outputs()]);
    for (i, &target) in targets.iter().enumerate() {
        if let Some(slot) = seed.get_mut([i, target].as_slice()) {
            *slot = 1.0;
        }
    }
    let taps = runner.explainer.tap_nodes(runner.input.view(), &Seed::Tensor(seed), targets, &[node])?;
    let got = || method_error(method, "a layer that the target does not depend on".into(), "another layer");
    taps.into_iter().next().ok_or_else(got)
}

/// `ReLU(sum_k w_k A_k)` of one sample, enlarged.
fn weigh(activation: &ArrayD<f32>, sample: usize, weights: &[f64], size: &[usize]) -> ArrayD<f32> {
    let channels = activation.index_axis(Axis(0), sample);
    let mut sum = ArrayD::<f64>::zeros(&channels.shape()[1..]);
    for (channel, weight) in channels.axis_iter(Axis(0)).zip(weights) {
        sum.iter_mut().zip(channel.iter()).for_each(|(sum, a)| *sum += weight * f64::from(*a));
    }
    resize_linear(sum.mapv(|v| v.max(0.0) as f32).view(), size).unwrap_or_default() // a layer has the input's axes
}

fn stack(maps: &[ArrayD<f32>]) -> ArrayD<f32> {
    let views: Vec<ArrayViewD<'_, f32>> = maps.iter().map(|m| m.view()).collect();
    ndarray::stack(Axis(0), &views).unwrap_or_default() // maps of one size always stack
}

pub(super) fn grad_cam(
    method: &Method,
    runner: &mut Runner<'_>,
    targets: &[usize],
    name: Option<&str>,
) -> Result<ArrayD<f32>> {
    let mean = |_: ArrayViewD<'_, f32>, g: ArrayViewD<'_, f32>| {
        g.iter().map(|v| f64::from(*v)).sum::<f64>() / g.len().max(1) as f64
    };
    weighted(method, runner, targets, name, mean)
}

pub(super) fn grad_cam_plus_plus(
    method: &Method,
    runner: &mut Runner<'_>,
    targets: &[usize],
    name: Option<&str>,
) -> Result<ArrayD<f32>> {
    let weight = |a: ArrayViewD<'_, f32>, g: ArrayViewD<'_, f32>| {
        let sum: f64 = a.iter().map(|v| f64::from(*v)).sum();
        let place = |g: &f32| {
            let g = f64::from(*g);
            // `g^2 / (2 g^2 + g^3 sum A)`, which has no value where the gradient is 0 and none is needed.
            let denominator = 2.0 + g * sum;
            if g > 0.0 && denominator != 0.0 { g / denominator } else { 0.0 }
        };
        g.iter().map(place).sum()
    };
    weighted(method, runner, targets, name, weight)
}

/// Channels by a weight that is a function of the channel's activation and gradient.
fn weighted(
    method: &Method,
    runner: &Runner<'_>,
    targets: &[usize],
    name: Option<&str>,
    weight: impl Fn(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> f64,
) -> Result<ArrayD<f32>> {
    let size = method.grid(runner.explainer)?;
    let tap = tapped(method, runner, targets, name)?;
    let maps: Vec<ArrayD<f32>> = (0..runner.samples())
        .map(|i| {
            let activation = tap.activation.index_axis(Axis(0), i);
            let gradient = tap.relevance.index_axis(Axis(0), i);
            let channels = activation.axis_iter(Axis(0)).zip(gradient.axis_iter(Axis(0)));
            let weights: Vec<f64> = channels.map(|(a, g)| weight(a, g)).collect();
            weigh(&tap.activation, i, &weights, &size)
        })
        .collect();
    Ok(stack(&maps))
}

pub(super) fn layer_cam(
    method: &Method,
    runner: &mut Runner<'_>,
    targets: &[usize],
    name: Option<&str>,
) -> Result<ArrayD<f32>> {
    let size = method.grid(runner.explainer)?;
    let mut tap = tapped(method, runner, targets, name)?;
    tap.activation.zip_mut_with(&tap.relevance, |a, g| *a *= g.max(0.0));
    let ones = vec![1.0; tap.activation.shape()[1]];
    let maps: Vec<ArrayD<f32>> =
        (0..runner.samples()).map(|i| weigh(&tap.activation, i, &ones, &size)).collect();
    Ok(stack(&maps))
}

pub(super) fn score_cam(
    method: &Method,
    runner: &mut Runner<'_>,
    targets: &[usize],
    name: Option<&str>,
) -> Result<ArrayD<f32>> {
    let size = method.grid(runner.explainer)?;
    let tap = tapped(method, runner, targets, name)?;
    let channels = tap.activation.shape()[1];
    let axis = runner.explainer.channel_axis();
    let input = runner.input.to_owned();
    let activation = &tap.activation;
    // Job `sample * (channels + 1) + k`: the input masked by channel k, and by nothing but zeros at the end.
    let masked = |job: usize| {
        let (sample, k) = (job / (channels + 1), job % (channels + 1));
        let mut x = input.index_axis(Axis(0), sample).to_owned();
        if k == channels {
            x.fill(0.0);
            return x;
        }
        let channel = activation.index_axis(Axis(0), sample).index_axis_move(Axis(0), k);
        let mask = unit_range(resize_linear(channel, &size).unwrap_or_default());
        for mut plane in x.axis_iter_mut(Axis(axis - 1)) {
            plane.iter_mut().zip(&mask).for_each(|(x, m)| *x *= m);
        }
        x
    };
    let mut scores = vec![vec![0.0; channels + 1]; runner.samples()];
    let jobs = runner.samples() * (channels + 1);
    runner.predictions(jobs, masked, |job, logits, _, row| {
        let (sample, k) = (job / (channels + 1), job % (channels + 1));
        let target = targets.get(sample).copied().unwrap_or(0);
        scores[sample][k] = logits.get((row, target)).copied().unwrap_or(0.0);
    })?;
    let maps: Vec<ArrayD<f32>> = scores
        .iter()
        .enumerate()
        .map(|(sample, scores)| {
            let baseline = scores[channels];
            let gains: Vec<f64> = scores[..channels].iter().map(|s| s - baseline).collect();
            let max = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = gains.iter().map(|g| (g - max).exp()).sum();
            let weights: Vec<f64> = gains.iter().map(|g| (g - max).exp() / sum).collect();
            weigh(activation, sample, &weights, &size)
        })
        .collect();
    Ok(stack(&maps))
}

/// A map scaled to `[0,1]`; all 0 if it is constant.
fn unit_range(mut map: ArrayD<f32>) -> ArrayD<f32> {
    let min = map.fold(f32::INFINITY, |m, v| m.min(*v));
    let max = map.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    let span = max - min;
    map.mapv_inplace(|v| if span > 0.0 { (v - min) / span } else { 0.0 });
    map
}
