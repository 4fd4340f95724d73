//! The compiled engine against the f64 interpreter under any preset, and what a program claims against what it does.

use std::path::Path;

use ndarray::{ArrayD, Axis};
use relc::unstable::ir::Graph;
use relc::unstable::ir::rule::Bounds;
use relc::{Account, Compiler, Engine, Explainer, Explanations, Ledger, Preset, Seed, SeedKind, Targets};

use crate::cuts::cuts;
use crate::shared::{max_abs, max_difference};
use crate::zoo::chain;

/// What f32 kernels must reach, of the maximum.
pub const AGREEMENT: f64 = 1e-4;
/// What a claim of conservation promises in f32 and in f64, of the relevance where it is largest: contributions of both
/// signs may make it thousands of times the seed before they cancel, and that is what arithmetic rounds.
const CONSERVATION: [f64; 2] = [1e-5, 1e-11];
/// What each sum of the ledger must reach, of what flows through its node.
const ACCOUNTS: f64 = 1e-3;
/// How much further than a plain f32 run, or a run in f64 from an input changed in its last digit, the compiled engine
/// may be off where a rule's denominators nearly cancel: it adds up in another order.
pub const SLACK: f64 = 10.0;
/// How many changed inputs are tried before a map is called off.
const NUDGES: u64 = 8;

/// Something that can be compiled: a file or a graph.
#[derive(Clone, Copy)]
pub enum Model<'a> {
    /// An ONNX file.
    File(&'a Path),
    /// A graph.
    Graph(&'a Graph),
}

impl Model<'_> {
    /// Compiles it.
    ///
    /// # Errors
    /// What relc says if it can't.
    pub fn compile(&self, compiler: &Compiler) -> Result<Explainer, String> {
        let compiled = match self {
            Model::File(path) => compiler.compile(path),
            Model::Graph(graph) => compiler.compile((*graph).clone()),
        };
        compiled.map_err(|e| chain(&e))
    }
}

/// Every preset that comes with relc, those that want bounds with bounds.
///
/// # Panics
/// Never: relc's own presets parse.
pub fn presets() -> Vec<(&'static str, Preset)> {
    let bounds = Bounds { low: vec![-3.0], high: vec![3.0] };
    let named = |name| (name, Preset::named(name).expect("a preset of relc's").with_bounds(bounds.clone()));
    Preset::names().into_iter().map(named).collect()
}

/// Explains the first and the last output.
fn explain(explainer: &Explainer, x: &ArrayD<f32>) -> Result<Explanations, String> {
    let last = explainer.outputs().saturating_sub(1);
    let targets = if last == 0 { vec![0] } else { vec![0, last] };
    let seed = Seed::Named(SeedKind::OneHot);
    explainer.explain(x.view(), &seed, &Targets::Outputs(targets)).map_err(|e| chain(&e))
}

/// How far the samples' relevance is off at most, in units of the sample's maximum.
pub fn off(got: &Explanations, expected: &Explanations) -> f64 {
    let explanations = got.explanations.iter().zip(&expected.explanations);
    let samples = explanations.flat_map(|(got, expected)| {
        got.relevance.axis_iter(Axis(0)).zip(expected.relevance.axis_iter(Axis(0)))
    });
    let worst = samples.map(|(got, expected)| {
        let (got, expected) = (got.to_owned(), expected.to_owned());
        max_difference(&got, &expected) / max_abs(&expected).max(f64::MIN_POSITIVE)
    });
    worst.fold(0.0, f64::max)
}

/// Books that are off. Where no conservation is claimed, relevance may grow far beyond the seed and cancel again at a fork,
/// which rounds it at the size that it had before: there the largest relevance of the sample is the measure.
fn unbalanced(ledger: &Ledger, tolerance: f64, conserving: bool) -> Option<String> {
    let error = ledger.check(tolerance).err()?;
    let samples = if conserving { 0 } else { ledger.totals.len() };
    let grown = (0..samples).all(|sample| {
        let largest = ledger.flow(sample).unwrap_or_default();
        let accounts = ledger.entries.iter().map(|e| &e.samples[sample]);
        accounts.map(|a| a.residue().abs()).all(|residue| residue <= tolerance * largest)
    });
    (conserving || !grown).then(|| error.to_string())
}

/// The input with every value changed in its last digit, up or down as `seed` has it.
pub fn nudged(x: &ArrayD<f32>, seed: u64) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    x.mapv(|v| v * if rng.bool() { 1.0 + f32::EPSILON } else { 1.0 - f32::EPSILON })
}

/// Compares a preset's compiled program with the f64 interpreter on `x`, checks the books of both, what crosses each
/// cut where the program claims to conserve, and that the compiled batch is what its samples give one by one.
///
/// # Errors
/// All that is off, a line each.
pub fn check(model: Model<'_>, preset: &Preset, x: &ArrayD<f32>) -> Result<(), String> {
    check_on(model, preset, x, |compiler| compiler.engine(Engine::Jit))
}

/// As [`check`], with what `engine` makes of the compiler in place of the compiled engine.
///
/// # Errors
/// As of [`check`].
pub fn check_on(
    model: Model<'_>,
    preset: &Preset,
    x: &ArrayD<f32>,
    engine: impl Fn(Compiler) -> Compiler,
) -> Result<(), String> {
    let compile = |engine| model.compile(&Compiler::new(preset.clone()).engine(engine));
    let (oracle, plain) = (compile(Engine::InterpF64)?, compile(Engine::InterpF32)?);
    let compiled = model.compile(&engine(Compiler::new(preset.clone())))?;
    let expected = explain(&oracle, x).map_err(|e| format!("interp-f64: {e}"))?;
    let (plain, got) = match (explain(&plain, x), explain(&compiled, x)) {
        (Ok(plain), Ok(got)) => (plain, got),
        // Relevance that f32 can't hold.
        (Err(_), Err(_)) => return Ok(()),
        (Err(error), _) => return Err(format!("interp-f32 alone: {error}")),
        (_, Err(error)) => return Err(format!("jit alone: {error}")),
    };
    let mut wrong = Vec::new();
    let scale = expected.logits.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let logits = got.logits.iter().zip(&expected.logits).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    if logits > AGREEMENT * scale {
        wrong.push(format!("logits off by {logits:e} of {scale:e}"));
    }
    let difference = off(&got, &expected);
    // How far other roundings of the same input lie from it; more of them where the first leave a doubt.
    let mut rounding = off(&plain, &expected);
    let mut allowed = AGREEMENT;
    for seed in 0..NUDGES {
        rounding = rounding.max(off(&explain(&oracle, &nudged(x, seed))?, &expected));
        allowed = (SLACK * rounding).max(AGREEMENT);
        if difference <= allowed {
            break;
        }
    }
    if difference.is_nan() || difference > allowed {
        wrong.push(format!("relevance off by {difference:e}, not {allowed:e}"));
    }
    let [single, double] = CONSERVATION;
    for (result, tolerance, engine) in [(&got, single, "jit"), (&expected, double, "interp-f64")] {
        for explanation in &result.explanations {
            let error = unbalanced(&explanation.ledger, tolerance, oracle.is_conserving());
            wrong.extend(error.map(|error| format!("{engine}: {error}")));
            for sample in (0..x.shape()[0]).filter(|_| oracle.is_conserving()) {
                let total = explanation.ledger.totals[sample];
                let flow = explanation.ledger.flow(sample).expect("a complete ledger");
                let error = (total.inputs - total.seed).abs();
                if error.is_nan() || error > tolerance * flow {
                    wrong.push(format!("{engine}, sample {sample}: conserves to {error:e} of {flow:e}"));
                }
            }
        }
    }
    if oracle.is_conserving() {
        let cut = cuts(oracle.graph(), x.mapv(f64::from), |logits| logits.mapv(|v| v.abs() + 0.5));
        if cut.error.is_nan() || cut.error > CONSERVATION[1] {
            wrong.push(format!("a cut has {:e} of the seed too much, behind {}", cut.error, cut.behind));
        }
    }
    wrong.extend(batch_is_no_loop(&compiled, x, &got)?);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The samples whose result in the batch is another than alone; none where the model fixes its batch.
fn batch_is_no_loop(
    explainer: &Explainer,
    x: &ArrayD<f32>,
    whole: &Explanations,
) -> Result<Vec<String>, String> {
    let (_, ty) = explainer.input().map_err(|e| chain(&e))?;
    if ty.dims().first().is_some_and(|d| d.fixed().is_some()) {
        return Ok(Vec::new());
    }
    let mut wrong = Vec::new();
    for (sample, one) in x.axis_chunks_iter(Axis(0), 1).enumerate() {
        let single = explain(explainer, &one.to_owned())?;
        let pairs = whole.explanations.iter().zip(&single.explanations);
        let mut same =
            pairs.map(|(a, b)| a.relevance.index_axis(Axis(0), sample) == b.relevance.index_axis(Axis(0), 0));
        if !same.all(|same| same) {
            wrong.push(format!("sample {sample} of the batch is not what it is alone"));
        }
    }
    Ok(wrong)
}

/// Compares every account and every join: each sum, measured against the seed and what flows through the node.
///
/// # Panics
/// At the first that is off.
#[track_caller]
pub fn check_accounts(what: &str, got: &Ledger, expected: &Ledger) {
    assert_eq!(got.entries.len(), expected.entries.len());
    for (entry, oracle) in got.entries.iter().zip(&expected.entries) {
        let node = &entry.label;
        assert_eq!((node, &entry.op), (&oracle.label, &oracle.op), "{what}");
        for (sample, (a, b)) in entry.samples.iter().zip(&oracle.samples).enumerate() {
            let sums = |a: &Account| {
                [
                    ("in", a.incoming),
                    ("out", a.outgoing),
                    ("bias", a.bias),
                    ("stabiliser", a.stabiliser),
                    ("clipped", a.clipped),
                    ("padding", a.padding),
                    ("flat_fallback", a.flat_fallback),
                    ("derivative", a.derivative),
                    ("magnitude_in", a.magnitude_in),
                    ("magnitude_out", a.magnitude_out),
                ]
            };
            let scale = b.magnitude_in.max(b.magnitude_out).max(expected.totals[sample].seed_magnitude);
            for ((field, got), (_, wanted)) in sums(a).into_iter().zip(sums(b)) {
                let off = (got - wanted).abs() / scale.max(f64::MIN_POSITIVE);
                assert!(
                    off <= ACCOUNTS,
                    "{what}, {node} {}, sample {sample}: {field} is {got}, expected {wanted}",
                    entry.op
                );
            }
        }
    }
    assert_eq!(got.joins.len(), expected.joins.len(), "{what}");
    for (join, oracle) in got.joins.iter().zip(&expected.joins) {
        assert_eq!((&join.label, join.skip), (&oracle.label, oracle.skip), "{what}");
        let arrived = expected.entries.iter().find(|entry| entry.label == oracle.label).unwrap();
        for (sample, (got, wanted)) in join.share.iter().zip(&oracle.share).enumerate() {
            // A share of what hardly flows is hardly known.
            let flows = arrived.samples[sample].magnitude_in / expected.totals[sample].seed_magnitude;
            let off = (got - wanted).abs() * flows.min(1.0);
            assert!(off <= ACCOUNTS, "{what}, join {}: {got}, expected {wanted}", join.label);
        }
    }
}

/// All that is off under any preset, a line each.
pub fn problems(model: Model<'_>, x: &ArrayD<f32>) -> Vec<String> {
    let problem = |(name, preset): (&str, Preset)| {
        check(model, &preset, x).err().map(|error| format!("{name}: {error}"))
    };
    presets().into_iter().filter_map(problem).collect()
}
