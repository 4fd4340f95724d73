//! Any text: the parser gives a graph or an error, and what it gives prints and parses back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(graph) = relc_ir::parse(text) else { return };
    let printed = graph.to_string();
    let again = relc_ir::parse(&printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed);
    let _ = relc_ir::verify(&graph);
});
