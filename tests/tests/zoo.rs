//! The small model zoo: every family and exporter, as ONNX Runtime computes it, conserved, with the joins that it has.
//!
//! `tools/make_zoo.py` makes the models; `docs/models.md` has the results on the full-size ones.

use std::collections::BTreeMap;
use std::path::Path;

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
