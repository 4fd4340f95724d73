//! What the fuzz targets do with an input; the corpus test does it with every seed.

use relc::passes::{PassManager, pipeline};
use relc::{BatchNormPolicy, Preset};
use relc_ir::op::{Conv, Window};
use relc_ir::{Op, verify};
use relc_rules::Place;

/// Imports bytes; what imports is well-formed, and the passes take it or refuse it.
///
/// # Panics
/// If relc does, or gives a malformed graph.
pub fn import(bytes: &[u8]) {
    let Ok(imported) = relc_onnx::import_bytes(bytes.to_vec(), None) else { return };
    let mut graph = imported.graph;
    verify(&graph).expect("the importer gives well-formed graphs");
    let preset = Preset::named("conserve").expect("the preset is there");
    let _ = PassManager::new(pipeline(&preset, BatchNormPolicy::Fold)).run(&mut graph, |_, _| {});
}

/// Parses the text form; what parses prints and parses back.
///
/// # Panics
/// If relc does, or what was printed reads otherwise.
pub fn parse_ir(text: &str) {
    let Ok(graph) = relc_ir::parse(text) else { return };
    let printed = graph.to_string();
    let again = relc_ir::parse(&printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed);
    let _ = verify(&graph);
}

/// Parses a preset; what parses answers for a node.
///
/// # Panics
/// If relc does, or an error does not name the file.
pub fn preset(text: &str) {
    match Preset::parse(text, "fuzzed.toml") {
        Ok(preset) => {
            let conv = Conv { window: Window::new([3, 3], [1, 1]), group: 1, folded_bias: false };
            for op in [Op::Conv(conv), Op::GlobalAveragePool] {
                let _ = preset.rule(&op, "layer1/conv", Place::default());
            }
        }
        Err(error) => assert!(error.to_string().contains("fuzzed.toml"), "{error}"),
    }
}

/// Reads an `.npy` array; its values are finite.
///
/// # Panics
/// If relc does, or gives another array.
pub fn npy(bytes: &[u8]) {
    if let Ok(array) = relc::artifact::parse_npy_f32(bytes) {
        assert!(array.iter().all(|v| v.is_finite()));
    }
}
