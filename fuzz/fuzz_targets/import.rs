//! Any bytes: the importer gives a graph or an error, and the passes take any graph that it gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relc::passes::{PassManager, pipeline};
use relc::{BatchNormPolicy, Preset};

fuzz_target!(|data: &[u8]| {
    let Ok(imported) = relc_onnx::import_bytes(data.to_vec(), None) else { return };
    let mut graph = imported.graph;
    relc_ir::verify(&graph).expect("the importer gives well-formed graphs");
    let preset = Preset::named("conserve").expect("the preset is there");
    let _ = PassManager::new(pipeline(&preset, BatchNormPolicy::Fold)).run(&mut graph, |_, _| {});
});
