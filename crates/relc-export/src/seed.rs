//! What the backward pass starts from.

use relc_ir::{Dim, Graph, Head, NodeId, ValueId};
use relc_rules::SeedKind;

use crate::writer::{Writer, int};
use crate::{ExportError, ExportOptions, ExportTarget};

/// The dimensions of the logits, `[N,K]`: samples are counted by the input, and K is what each has of the explained output.
pub(crate) fn logits_dims(graph: &Graph, input: NodeId, explained: ValueId) -> [Dim; 2] {
    let batch = graph.ty(ValueId { node: input, port: 0 }).dims().first().copied().unwrap_or(Dim::Fixed(1));
    let outputs = graph.ty(explained).elements().unwrap_or(0) / batch.bind(1).max(1);
    [batch, Dim::Fixed(outputs)]
}

/// The logits and the seed, both `f32[N,K]`.
pub(crate) fn write(
    w: &mut Writer<'_>,
    input: NodeId,
    explained: ValueId,
    options: &ExportOptions,
) -> Result<(String, String), ExportError> {
    let graph = w.graph;
    let [batch, k] = logits_dims(graph, input, explained);
    let outputs = k.bind(1);
    let head = graph.head;
    let explained = w.value(explained)?;
    w.scope_of("seed");
    let logits = w.reshape(&explained, &[Dim::Batch, outputs.into()]);
    let chosen = match options.target {
        ExportTarget::Argmax => w.op_with("ArgMax", &[&logits], vec![int("axis", 1), int("keepdims", 0)]),
        ExportTarget::Output(target) if target >= outputs => {
            return Err(ExportError::Target { target, outputs });
        }
        ExportTarget::Output(target) => w.sizes(&[target]),
        ExportTarget::Input => w.input_of_integers("target", batch),
    };
    let (depth, values) = (w.sizes(&[outputs]), w.numbers(&[2], &[0.0, 1.0]));
    let mut one_hot = w.op("OneHot", &[&chosen, &depth, &values]);
    if options.target == ExportTarget::Input {
        // An error where a target names no output: a one-hot of it would be 0, and so would the map. What is negative
        // would count from the end.
        let (zero, none) = (w.integers(&[0]), w.sizes(&[outputs]));
        let negative = w.op("Less", &[&chosen, &zero]);
        let checked = w.choose(&negative, &none, &chosen);
        let rows = w.reshape(&checked, &[Dim::Batch, 1.into()]);
        let there = w.op_with("GatherElements", &[&one_hot, &rows], vec![int("axis", 1)]);
        one_hot = w.op("Mul", &[&one_hot, &there]);
    }
    let shape = w.op("Shape", &[&logits]);
    let one_hot = w.op("Expand", &[&one_hot, &shape]);
    let seed = match options.seed {
        SeedKind::OneHot => one_hot,
        SeedKind::Logit => w.op("Mul", &[&one_hot, &logits]),
        SeedKind::Prob => {
            let p = probabilities(w, &logits, head, outputs);
            w.op("Mul", &[&one_hot, &p])
        }
        SeedKind::Contrast => contrast(w, &logits, head, outputs, &one_hot),
    };
    Ok((logits, seed))
}

/// `f32[N,K]` so that the outputs which a softmax normalises together lie along axis 2.
fn grouped(head: Head, outputs: usize) -> [Dim; 4] {
    let (size, stride) = head.groups().map_or((outputs, 1), |g| (g.size.max(1), g.stride.max(1)));
    [Dim::Batch, (outputs / (size * stride).max(1)).into(), size.into(), stride.into()]
}

/// The probabilities that belong to the logits.
fn probabilities(w: &mut Writer<'_>, logits: &str, head: Head, outputs: usize) -> String {
    if head == Head::Sigmoid {
        return w.op("Sigmoid", &[logits]);
    }
    let groups = w.reshape(logits, &grouped(head, outputs));
    let p = shares(w, &groups, head);
    w.reshape(&p, &[Dim::Batch, outputs.into()])
}

/// The probabilities along axis 2 of groups of outputs.
fn shares(w: &mut Writer<'_>, groups: &str, head: Head) -> String {
    if head == Head::Mixture {
        let sum = w.reduce_sum(groups, &[2], true);
        return w.op("Div", &[groups, &sum]);
    }
    w.op_with("Softmax", &[groups], vec![int("axis", 2)])
}

/// `onehot - softmax` over the outputs that the target is normalised with. The target's `1 - p` is the sum of the
/// others' `p`, which keeps its digits where the model is sure.
fn contrast(w: &mut Writer<'_>, logits: &str, head: Head, outputs: usize, one_hot: &str) -> String {
    let head = if head == Head::Sigmoid { Head::None } else { head };
    let groups = grouped(head, outputs);
    let logits = w.reshape(logits, &groups);
    let p = shares(w, &logits, head);
    let target = w.reshape(one_hot, &groups);
    let group = w.reduce_sum(&target, &[2], true);
    let one = w.scalar(1.0);
    let not_target = w.op("Sub", &[&one, &target]);
    let others = w.op("Mul", &[&p, &not_target]);
    let others = w.op("Mul", &[&others, &group]);
    let sum = w.reduce_sum(&others, &[2], true);
    let at_target = w.op("Mul", &[&target, &sum]);
    let seed = w.op("Sub", &[&at_target, &others]);
    w.reshape(&seed, &[Dim::Batch, outputs.into()])
}
