//! The small model zoo: every family and exporter, as ONNX Runtime computes it, conserved, with the joins that it has.
//!
//! `tools/make_zoo.py` makes the models; `docs/models.md` has the results on the full-size ones.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;
use relc::unstable::ir::rule::{Bounds, GatePolicy};
use relc::{Compiler, Engine, Preset, Seed, SeedKind, Targets};
use relc_ir::content_hash;
use relc_tests::shared::{max_abs, max_difference};
use relc_tests::zoo::{Model, Outcome, map_difference, models};

/// The most that logits may be off, in units of their range, and a map, in units of its maximum: both runs are in f32,
/// and sum in another order.
const TOLERANCE: f64 = 1e-4;

fn small() -> Vec<Model> {
    models(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/zoo")))
}

/// All that is off about a model.
fn check(model: &Model, outcomes: &BTreeMap<String, Result<Outcome, String>>) -> Vec<String> {
    let outcome = match &outcomes[&model.name] {
        Ok(outcome) => outcome,
        Err(error) => return vec![error.clone()],
    };
    let mut off = Vec::new();
    if outcome.joins != model.entry.joins {
        off.push(format!("found {} joins, expected {}", outcome.joins, model.entry.joins));
    }
    if outcome.parity > TOLERANCE {
        off.push(format!("logits off by {:e} of their range", outcome.parity));
    }
    if !outcome.claimed || outcome.conservation > 1e-5 {
        off.push(format!("claims {}, conserves to {:e}", outcome.claimed, outcome.conservation));
    }
    if let Some(Ok(other)) = model.entry.same_as.as_ref().map(|name| &outcomes[name]) {
        let difference = map_difference(&outcome.map, &other.map);
        if difference > TOLERANCE {
            off.push(format!("map off by {difference:e} of its maximum"));
        }
    }
    off
}

#[test]
fn every_small_model_is_explained() {
    let models = small();
    assert!(models.len() >= 40, "got {} models", models.len());
    let outcomes: BTreeMap<String, Result<Outcome, String>> =
        models.iter().map(|m| (m.name.clone(), m.run())).collect();
    let mut report = String::new();
    for model in &models {
        for problem in check(model, &outcomes) {
            report.push_str(&format!("{}: {problem}\n", model.name));
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// What was packed of a weight gives it back, to the bit, whatever layer it is of.
#[test]
fn weights_are_given_back_as_they_were() {
    let mut made = 0;
    for model in small() {
        for preset in ["conserve", "two_level"] {
            let explainer = model.compile(&Compiler::new(Preset::named(preset).unwrap())).unwrap();
            for weight in explainer.graph().weights() {
                let data = weight.data().unwrap();
                made += usize::from(!data.is_made());
                let hash = content_hash(data, f32::to_le_bytes);
                assert_eq!(hash, weight.hash(), "{} {preset}: @{}", model.name, weight.name());
            }
        }
    }
    assert!(made >= 40, "{made} weights were given back");
}

/// Runs a preset on an engine.
fn relevance(model: &Model, preset: &Preset, engine: Engine) -> Result<ArrayD<f32>, String> {
    let explainer = model.compile(&Compiler::new(preset.clone()).engine(engine))?;
    let (x, _) = model.arrays(&explainer)?;
    let result = explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::Argmax);
    result.map(|r| r.explanations[0].relevance.clone()).map_err(|e| e.to_string())
}

/// Each preset has a rule for each op of each architecture, and the compiled engine is about as exact as f32 can be.
/// Denominators of `paper` and of the epsilon presets nearly cancel in some of these random networks: there the order of
/// f32 sums alone makes 6e-4, and the f32 interpreter, too, is off by up to 3e-3.
#[test]
fn every_preset_takes_every_architecture() {
    let mut report = String::new();
    for model in small().iter().filter(|m| !m.name.starts_with("basic.")) {
        for name in Preset::names() {
            let preset = Preset::named(name).unwrap();
            let preset = preset.with_bounds(Bounds { low: vec![-3.0], high: vec![3.0] });
            let [exact, plain, compiled] = [Engine::InterpF64, Engine::InterpF32, Engine::Jit]
                .map(|engine| relevance(model, &preset, engine));
            let (exact, plain, compiled) = match (exact, plain, compiled) {
                (Ok(exact), Ok(plain), Ok(compiled)) => (exact, plain, compiled),
                (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
                    report.push_str(&format!("{} {name}: {error}\n", model.name));
                    continue;
                }
            };
            let off = |got| max_difference(got, &exact) / max_abs(&exact);
            let (got, allowed) = (off(&compiled), (5.0 * off(&plain)).max(1e-3));
            if got.is_nan() || got > allowed {
                report.push_str(&format!("{} {name}: off by {got:e}, not {allowed:e}\n", model.name));
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// A gate that takes half of its product's relevance conserves too, and the compiled engine agrees.
#[test]
fn gates_may_take_half() {
    let conserve = Preset::named("conserve").unwrap();
    let half = conserve.clone().with_gate(GatePolicy::Half);
    for name in ["se", "eca", "silu-se", "hardswish-se", "gelu-se"] {
        let models = small();
        let model = models.iter().find(|m| m.name == name).unwrap();
        let explainer = model.compile(&Compiler::new(half.clone())).unwrap();
        assert!(explainer.is_conserving(), "{name}");
        let (x, _) = model.arrays(&explainer).unwrap();
        let result = explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::Argmax).unwrap();
        assert!(result.explanations[0].conservation_error(0) < 1e-5, "{name}");
        result.explanations[0].ledger.check(1e-5).unwrap();
        let exact = relevance(model, &half, Engine::InterpF64).unwrap();
        let off = max_difference(&result.explanations[0].relevance, &exact) / max_abs(&exact);
        assert!(off < TOLERANCE, "{name}: off by {off:e}");
        let signal = relevance(model, &conserve, Engine::InterpF64).unwrap();
        assert!(max_difference(&signal, &exact) > 1e-3 * max_abs(&exact), "{name}: the gate took nothing");
    }
}

/// The suite above can fail: another network's logits are off.
#[test]
fn a_wrong_model_is_noticed() {
    let models = small();
    let find = |name: &str| models.iter().find(|m| m.name == name).unwrap();
    let mut wrong = find("basic").clone();
    wrong.entry.logits = find("se").entry.logits.clone();
    wrong.entry.joins += 1;
    let outcomes = BTreeMap::from([(wrong.name.clone(), wrong.run())]);
    assert_eq!(check(&wrong, &outcomes).len(), 2);
}
