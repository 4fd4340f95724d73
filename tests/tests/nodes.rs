//! Some of ONNX's backend node tests; `docs/operators.md` has the results of all.

use std::path::Path;

use relc_tests::nodes::{cases, run};

#[test]
fn node_tests() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/nodes"));
    let cases = cases(folder);
    assert!(cases.len() >= 80, "got {} tests", cases.len());
    let mut report = String::new();
    for name in cases.keys() {
        if let Err(reason) = run(folder, name) {
            report.push_str(&format!("{name}: {reason}\n"));
        }
    }
    assert!(report.is_empty(), "{report}");
}
