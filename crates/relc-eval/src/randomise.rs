//! Models whose parameters were drawn again, from the top down (Adebayo et al., Sanity checks for saliency maps,
//! NeurIPS 2018: cascading randomisation).

use relc::unstable::ir::{Graph, NodeId, ValueId, Weight};

use crate::error::EvalError;
use crate::metric::{normal, rng};

/// The most models of a cascade.
const STAGES: usize = 6;

/// A graph with the weights of its last layer drawn again, with those of its last few, ..., with those of all.
///
/// Weights of two axes and more are drawn from a normal distribution of their own mean and standard deviation, so that
/// the network goes on to work in the range that it was trained in. Biases and normalisations stay.
///
/// # Errors
/// If the graph's weights have no values.
pub fn cascade(graph: &Graph, seed: u64) -> Result<Vec<Graph>, EvalError> {
    let layers: Vec<Vec<ValueId>> = graph
        .forward_order()
        .unwrap_or_default()
        .into_iter()
        .rev()
        .map(|node| kernels(graph, node))
        .filter(|kernels| !kernels.is_empty())
        .collect();
    let stages = STAGES.min(layers.len());
    let mut changed = graph.clone();
    let mut done = 0;
    let mut models = Vec::with_capacity(stages);
    for stage in 1..=stages {
        let until = layers.len() * stage / stages;
        for (i, kernels) in layers.iter().enumerate().take(until).skip(done) {
            for value in kernels {
                redraw(&mut changed, graph, *value, seed, i)?;
            }
        }
        done = until;
        models.push(changed.clone());
    }
    Ok(models)
}

/// The weights of a node that have two axes and more.
fn kernels(graph: &Graph, node: NodeId) -> Vec<ValueId> {
    let weights = graph.operands(node).into_iter().filter(|v| graph.is_weight(*v));
    if graph.data_operands(node).is_empty() {
        return Vec::new();
    }
    weights.filter(|v| graph.ty(*v).rank() >= 2 && graph.ty(*v).elements().is_some_and(|n| n > 1)).collect()
}

fn redraw(
    changed: &mut Graph,
    graph: &Graph,
    value: ValueId,
    seed: u64,
    layer: usize,
) -> Result<(), EvalError> {
    let wrong = |message: String| EvalError::Usage(format!("randomisation: {message}"));
    let Some(weight) = graph.weight(value) else { return Ok(()) };
    if changed.users(value).is_empty() {
        return Ok(()); // shared with a layer above, and drawn again there
    }
    let data = weight.data().ok_or_else(|| wrong(format!("the weight {} has no values", weight.name())))?;
    let n = data.len() as f64;
    let mean = data.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let deviation = (data.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut rng = rng(seed, "weights", layer);
    let drawn: Vec<f32> = data.iter().map(|_| (mean + deviation * normal(&mut rng)) as f32).collect();
    let name = changed.fresh_weight_name(weight.name());
    let new = Weight::new(name, weight.ty().clone(), drawn).map_err(wrong)?;
    let new = changed.add_weight(new).map_err(|e| wrong(e.to_string()))?;
    changed.replace_uses(value, new);
    Ok(())
}
