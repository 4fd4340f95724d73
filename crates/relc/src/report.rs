//! Reports: what an explanation says, for people's programs. Everything here serialises to JSON as it stands.

mod file;
mod run;

use ndarray::Axis;
use relc_ir::ledger::{Account, Total};
use relc_ir::residual::Residual;
use relc_ir::rule::{AssignedRule, Rule};
use relc_ir::{Graph, Head, NodeId, Op};
use serde::Serialize;

use crate::explainer::{Explainer, Explanation, Explanations};
use crate::map::cosine;
use crate::methods::Method;
use crate::request::rank;

#[cfg(feature = "schema")]
pub use file::schema;
pub use file::{FailureReport, FolderReport, InputReport, WholeReport};
pub use run::{
    ArtifactReport, FileReport, FramesReport, MaskReport, PictureReport, PreprocessReport, RunReport,
    weights_xxh3,
};

/// A named tensor of the model.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type, as the IR writes it: `f32[N,3,224,224]`.
    pub shape: String,
}

/// A residual join.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinReport {
    /// The ONNX name of the Add.
    pub join: String,
    /// The ONNX name of the node where the branches part.
    pub fork: String,
    /// `identity`, `projection` or `unweighted`.
    pub skip: &'static str,
    /// Weighted layers of the main branch and of the skip.
    pub weighted_layers: [usize; 2],
    /// The share of the join's relevance (in magnitude) that took the skip; only in an explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_share: Option<f64>,
}

/// What the compiler can promise.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimReport {
    /// Whether every rule's contract is to conserve.
    pub conserving: bool,
    /// The nodes whose contract is another.
    pub leaks: Vec<LeakReport>,
}

/// A node that may lose relevance.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeakReport {
    /// The ONNX name of the forward node.
    pub node: String,
    /// The relevance op.
    pub op: String,
    /// `leaks-to-bias`, `leaks-to-stabiliser`, `leaks-to-padding` or `unbounded`.
    pub contract: String,
}

/// A rule and who gave it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleReport {
    /// The ONNX name of the node.
    pub node: String,
    /// Its op.
    pub op: &'static str,
    /// The rule with its parameters.
    pub rule: String,
    /// The line of the preset, or the option.
    pub origin: String,
    /// Why a BatchNormalization stays though the policy is to fold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfolded: Option<String>,
}

/// What the compiler made of a model.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelReport {
    /// The model's name in the file.
    pub name: String,
    /// The input.
    pub input: TensorReport,
    /// The explained output.
    pub output: TensorReport,
    /// The activation that relevance starts before: `mixture` for each of the softmaxes that the output is a mean of.
    pub stripped_head: Option<&'static str>,
    /// The preset, with "(modified)" behind its name if it computes something else than the one that comes with relc;
    /// none with a method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Whether the preset bears the name of one that comes with relc, and computes something else.
    pub preset_modified: bool,
    /// xxh3-64 of the preset's canonical text, options included, in 16 hexadecimal digits.
    pub preset_hash: String,
    /// The method, with its parameters, where it is not one backward pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The split policy.
    pub split: String,
    /// `keep`, `fold` or `fold-as-zennit`.
    pub batchnorm: &'static str,
    /// The BatchNormalizations that stay though the policy is to fold them.
    pub unfolded: Vec<UnfoldedReport>,
    /// `include`, `exclude` or `all`, for the rules that leave it open.
    pub bias: &'static str,
    /// The engine.
    pub engine: &'static str,
    /// The residual joins.
    pub joins: Vec<JoinReport>,
    /// What the rules promise.
    pub claim: ClaimReport,
}

/// A BatchNormalization that stays though the policy is to fold it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnfoldedReport {
    /// The node: ONNX name, label and op.
    pub node: String,
    /// Why it stays.
    pub reason: String,
}

/// One output with its value.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutputReport {
    /// The index.
    pub index: usize,
    /// Its label, if there are labels.
    pub label: Option<String>,
    /// The logit.
    pub logit: f64,
    /// The probability.
    pub probability: f64,
}

/// A line of the ledger.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerLine {
    /// The relevance value, as `relc dump` prints it: `%r42`.
    pub value: String,
    /// The forward node whose operands get the relevance: its ONNX name, or its label if it has none.
    pub node: String,
    /// The relevance op; `sum` adds up what the users of the node's output send back.
    pub op: String,
    /// The sums.
    #[serde(flatten)]
    pub account: Account,
}

/// The ledger of one sample.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerReport {
    /// The seed, the input's relevance, and what all nodes lost.
    pub total: Total,
    /// The nodes, from the output to the input.
    pub nodes: Vec<LedgerLine>,
}

/// Sums that should be equal.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SumsReport {
    /// The sum of the seed.
    pub seed: f64,
    /// The sum of the seed's magnitudes.
    pub seed_magnitude: f64,
    /// The sum of the input's relevance.
    pub relevance: f64,
    /// `|relevance - seed| / sum |seed|`.
    pub conservation_error: f64,
    /// The relevance where it was largest on its way, `max sum |R|` over what nodes received and passed on: where it is
    /// far larger than the seed, contributions of both signs cancel, and rounding shows in `conservation_error`. None
    /// without a ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<f64>,
}

/// What a method's map adds up to.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttributionReport {
    /// The sum of what the input's values got.
    pub sum: f64,
    /// The target's logit for the input that the method measures from: all its values are the method's baseline, or 0.
    /// None if the method promises no sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_logit: Option<f64>,
    /// `|sum - (logit - baseline_logit)| / |logit - baseline_logit|`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completeness_error: Option<f64>,
}

/// The explanation of one target of one sample.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExplanationReport {
    /// The explained output.
    pub target: OutputReport,
    /// The seed: its name, or the file.
    pub seed: String,
    /// What was put in and what came out; none with a method, which conserves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sums: Option<SumsReport>,
    /// What a method's map adds up to; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<AttributionReport>,
    /// How to read a map that is turned around.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// The colours of the pictures, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureReport>,
    /// By how much of its maximum the map changes where the input changes in its last digits (by 1e-6 of each value);
    /// measured where a rule's contract is `unbounded`. `null`: the changed input has no finite map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<f64>,
    /// What keeps the map from being an explanation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The residual joins, with the skip's shares.
    pub joins: Vec<JoinReport>,
    /// Where the relevance went; none with a method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerReport>,
}

/// The five largest outputs, and the explanations, of one sample.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SampleReport {
    /// Which input: the file, and for a file of several samples which of them.
    pub input: String,
    /// That file, by its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileReport>,
    /// Of a video, which of its frames were explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<FramesReport>,
    /// The five largest outputs.
    pub predictions: Vec<OutputReport>,
    /// One explanation per target.
    pub explanations: Vec<ExplanationReport>,
    /// How alike the maps of the first two targets are, if there are two; with `top2`, those of the two
    /// largest outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_sensitivity: Option<SensitivityReport>,
}

/// How alike the maps of two targets are.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SensitivityReport {
    /// The targets.
    pub targets: [OutputReport; 2],
    /// The cosine between their maps.
    pub cosine: f64,
    /// What to do about maps that hardly differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

/// From which magnitude of the cosine on the maps of two targets count as the same, and the hint is given; the seed
/// `logit` turns the map of a negative logit around.
pub const SAME_MAP: f64 = 0.95;

const SAME: &str = "the maps hardly depend on the class; the seed contrast (--seed contrast) shows what speaks for \
                    one class against the others";
const OPPOSITE: &str = "the maps are opposite: the same pixels with the other sign, as one of the two seeds is \
                        negative; the seed contrast (--seed contrast) shows what speaks for one class against the \
                        others";
const NEGATIVE: &str = "the seed is negative and the relevance adds up to it, so the map is negative (blue) where the \
                        network looked; the seed onehot (--seed onehot) turns it around";

/// Says what the compiler made of a model, for its preset or for `method`.
pub fn model_report(explainer: &Explainer, method: Option<&Method>) -> ModelReport {
    let graph = explainer.graph();
    let tensor = |name: &str, node: NodeId| TensorReport {
        name: name.to_string(),
        shape: graph.node(node).types().first().map(ToString::to_string).unwrap_or_default(),
    };
    let empty = || TensorReport { name: String::new(), shape: String::new() };
    ModelReport {
        name: graph.name().to_string(),
        input: graph.inputs().first().map_or_else(empty, |i| tensor(&graph.node(*i).name, *i)),
        output: graph.outputs().first().map_or_else(empty, |(name, v)| tensor(name, v.node)),
        stripped_head: starts_before(graph).then(|| graph.head.name()),
        preset: method.is_none().then(|| explainer.preset().title()),
        preset_modified: explainer.preset().is_modified(),
        preset_hash: format!("{:016x}", explainer.preset().hash()),
        method: method.cloned(),
        split: explainer.preset().split.to_string(),
        batchnorm: explainer.batchnorm().name(),
        unfolded: unfolded(explainer),
        bias: explainer.preset().bias().name(),
        engine: explainer.engine_name(),
        joins: graph.residuals.iter().map(|r| join_report(graph, r)).collect(),
        claim: claim_report(explainer),
    }
}

/// Whether relevance starts before the head: always if it was stripped, and not if a derivative goes through it.
fn starts_before(graph: &Graph) -> bool {
    let passes = |(node, rule): (&NodeId, &AssignedRule)| {
        matches!(graph.node(*node).op, Op::Softmax(_)) && rule.rule == Rule::Pass
    };
    match graph.head {
        Head::None => false,
        Head::Mixture => graph.rules.iter().any(passes),
        Head::Softmax(_) | Head::LogSoftmax(_) | Head::Sigmoid => true,
    }
}

/// What `normalise-batchnorm` left, and why, where it was to fold.
fn unfolded(explainer: &Explainer) -> Vec<UnfoldedReport> {
    let left = relc_passes::unfolded(&explainer.compiled().passes, explainer.batchnorm());
    left.map(|r| UnfoldedReport { node: r.node.clone(), reason: r.message.clone() }).collect()
}

fn join_report(graph: &Graph, residual: &Residual) -> JoinReport {
    let layers = |i: usize| residual.branches.get(i).map_or(0, |b| b.weighted_layers);
    JoinReport {
        join: graph.node(residual.join).name.clone(),
        fork: graph.node(residual.fork).name.clone(),
        skip: residual.skip_name(),
        weighted_layers: [layers(residual.main()), layers(residual.skip)],
        skip_share: None,
    }
}

fn claim_report(explainer: &Explainer) -> ClaimReport {
    let graph = explainer.graph();
    let leak = |(node, contract): &(NodeId, relc_ir::rule::Contract)| LeakReport {
        node: graph.node(*node).name.clone(),
        op: graph.node(*node).op.mnemonic(),
        contract: contract.to_string(),
    };
    ClaimReport { conserving: explainer.is_conserving(), leaks: explainer.leaks().iter().map(leak).collect() }
}

/// Says which rule each node got, in forward order, and which line gave it.
pub fn rule_report(explainer: &Explainer) -> Vec<RuleReport> {
    let graph = explainer.graph();
    let left = unfolded(explainer);
    let reason = |node: &str| left.iter().find(|u| u.node == node).map(|u| u.reason.clone());
    let order = graph.forward_order().unwrap_or_default();
    let assigned = order.into_iter().filter_map(|n| graph.rules.get(&n).map(|a| (n, a)));
    assigned
        .map(|(node, a)| RuleReport {
            node: graph.node(node).name.clone(),
            op: graph.node(node).op.onnx_name(),
            rule: describe_rule(&a.rule),
            origin: a.origin.clone(),
            unfolded: reason(&graph.describe(node)),
        })
        .collect()
}

fn describe_rule(rule: &Rule) -> String {
    let attrs: Vec<String> =
        rule.attrs().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    if attrs.is_empty() { rule.name().to_string() } else { format!("{}({})", rule.name(), attrs.join(", ")) }
}

/// Says what a batch gave for its sample `sample`, called `input`.
///
/// `labels` names the outputs; `seed` is what the report calls the seed.
pub fn sample_report(
    explainer: &Explainer,
    result: &Explanations,
    sample: usize,
    input: &str,
    seed: &str,
    labels: Option<&[String]>,
) -> SampleReport {
    let output = |index: usize| output_report(result, sample, index, labels);
    let top = rank(&result.logits, 5.min(result.logits.ncols()));
    let predictions = top.iter().filter_map(|best| best.get(sample)).map(|&i| output(i)).collect();
    let passed = result.method.is_none();
    let explain = |e: &Explanation| ExplanationReport {
        target: output(e.targets.get(sample).copied().unwrap_or(0)),
        seed: seed.to_string(),
        sums: passed.then(|| sums(e, sample)),
        attribution: (!passed).then(|| attribution(result, e, sample)),
        note: (passed && sums(e, sample).seed < 0.0 && seed != "contrast").then_some(NEGATIVE),
        picture: None,
        sensitivity: e.sensitivity.as_ref().and_then(|all| all.get(sample).copied()),
        warnings: e.warnings.get(sample).into_iter().flatten().map(ToString::to_string).collect(),
        joins: if passed { joins(explainer.graph(), e, sample) } else { Vec::new() },
        ledger: passed.then(|| ledger(explainer.graph(), e, sample)),
    };
    SampleReport {
        input: input.to_string(),
        file: None,
        frames: None,
        predictions,
        explanations: result.explanations.iter().map(explain).collect(),
        class_sensitivity: class_sensitivity(result, sample, seed, labels),
    }
}

fn output_report(
    result: &Explanations,
    sample: usize,
    index: usize,
    labels: Option<&[String]>,
) -> OutputReport {
    OutputReport {
        index,
        label: labels.and_then(|l| l.get(index)).cloned(),
        logit: result.logits.get((sample, index)).copied().unwrap_or(f64::NAN),
        probability: result.probabilities.get((sample, index)).copied().unwrap_or(f64::NAN),
    }
}

/// Says how alike the maps (without one, the relevance) of a sample's first two targets are: with `top2`, those of the
/// two largest outputs. `None` for one target.
fn class_sensitivity(
    result: &Explanations,
    sample: usize,
    seed: &str,
    labels: Option<&[String]>,
) -> Option<SensitivityReport> {
    let [a, b, ..] = &result.explanations[..] else { return None };
    let of =
        |e: &Explanation| output_report(result, sample, e.targets.get(sample).copied().unwrap_or(0), labels);
    let values = |e: &Explanation| match &e.map {
        Some(map) => map.index_axis(Axis(0), sample).iter().copied().collect(),
        None => e.relevance.index_axis(Axis(0), sample).iter().copied().collect::<Vec<f32>>(),
    };
    let cosine = cosine(&values(a), &values(b));
    let alike = cosine.abs() >= SAME_MAP && seed != "contrast";
    let hint = alike.then_some(if cosine > 0.0 { SAME } else { OPPOSITE });
    Some(SensitivityReport { targets: [of(a), of(b)], cosine, hint })
}

fn attribution(result: &Explanations, explanation: &Explanation, sample: usize) -> AttributionReport {
    let sum = explanation.relevance.index_axis(Axis(0), sample).iter().map(|v| f64::from(*v)).sum();
    let target = explanation.targets.get(sample).copied().unwrap_or(0);
    let logit = result.logits.get((sample, target)).copied();
    let baseline_logit = result.baseline.as_ref().and_then(|logits| logits.get(target)).copied();
    let error = |logit: f64, baseline: f64| {
        let difference = logit - baseline;
        if sum == difference { 0.0 } else { f64::abs(sum - difference) / difference.abs() }
    };
    let completeness_error = logit.zip(baseline_logit).map(|(logit, baseline)| error(logit, baseline));
    AttributionReport { sum, baseline_logit, completeness_error }
}

fn sums(explanation: &Explanation, sample: usize) -> SumsReport {
    let total = explanation.ledger.totals.get(sample).copied().unwrap_or_default();
    SumsReport {
        seed: total.seed,
        seed_magnitude: total.seed_magnitude,
        relevance: total.inputs,
        conservation_error: total.conservation_error(),
        flow: explanation.ledger.flow(sample),
    }
}

fn joins(graph: &Graph, explanation: &Explanation, sample: usize) -> Vec<JoinReport> {
    let share = |r: &Residual| {
        let join = explanation.ledger.joins.iter().find(|j| graph.node(j.node).of == Some(r.join))?;
        join.share.get(sample).copied()
    };
    graph.residuals.iter().map(|r| JoinReport { skip_share: share(r), ..join_report(graph, r) }).collect()
}

/// How the forward node of a ledger's line is called.
fn node_name(graph: &Graph, entry: &relc_ir::ledger::Entry) -> String {
    match graph.node(entry.node).of {
        Some(of) if entry.name.is_empty() => graph.node_label(of),
        _ => entry.name.clone(),
    }
}

fn ledger(graph: &Graph, explanation: &Explanation, sample: usize) -> LedgerReport {
    let ledger = &explanation.ledger;
    let line = |entry: &relc_ir::ledger::Entry| LedgerLine {
        value: entry.label.clone(),
        node: node_name(graph, entry),
        op: entry.op.clone(),
        account: entry.samples.get(sample).copied().unwrap_or_default(),
    };
    LedgerReport {
        total: ledger.totals.get(sample).copied().unwrap_or_default(),
        nodes: ledger.entries.iter().map(line).collect(),
    }
}
