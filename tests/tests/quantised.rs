//! One network in every style of quantisation that ONNX Runtime has: relc's logits are ONNX Runtime's but for the
//! rounding of activations, which relc leaves out, and the maps are those of the network of floats.
//!
//! `tools/make_quantised.py` makes the models.

use std::collections::BTreeMap;
use std::path::Path;

use relc_tests::zoo::{Outcome, models};

/// The most that logits may be off, in units of their range. Integers of 16 bits are steps of 2e-5 of a range, those
/// of 8 bits of 4e-3, and a dozen layers round one after another.
fn tolerance(name: &str) -> f64 {
    match name {
        "float" => 1e-5,
        "qdq-16-contrib" | "qdq-4-weights" => 2e-4,
        _ => 1e-2,
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn every_style_of_quantisation_is_explained() {
    let models = models(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/quantised")));
    let outcomes: BTreeMap<&str, Outcome> = models
        .iter()
        .map(|m| (m.name.as_str(), m.run().unwrap_or_else(|e| panic!("{}: {e}", m.name))))
        .collect();
    let floats = &outcomes["float"];
    let mut off = String::new();
    for (name, outcome) in &outcomes {
        // Weights of four bits are another network.
        let least = if *name == "qdq-4-weights" { 0.9 } else { 0.995 };
        let likeness = cosine(&outcome.map, &floats.map);
        println!("{name}: logits off by {:.1e}, map {likeness:.5} as that of floats", outcome.parity);
        if outcome.parity > tolerance(name)
            || likeness < least
            || outcome.joins != 2
            || outcome.conservation > 1e-5
        {
            off.push_str(&format!("{name}: {outcome:?}, likeness {likeness}\n"));
        }
    }
    assert_eq!(outcomes.len(), 9);
    assert!(off.is_empty(), "{off}");
}
