//! Runs relc on ONNX's backend node tests, and writes `docs/operators.md`: what is supported of each operator, and every
//! test that fails, with its reason.
//!
//! ```sh
//! python tools/make_node_tests.py NODES
//! cargo run --release -p relc-tests --example operators -- NODES docs/operators.md
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use relc_onnx::{OpSpec, supported_microsoft_ops, supported_ops};
use relc_tests::nodes::{cases, run};

/// How an operator's tests went.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, document] = &arguments[..] else {
        eprintln!("usage: operators FOLDER docs/operators.md");
        return ExitCode::from(2);
    };
    let folder = Path::new(folder);
    let known = |op: &str| supported_ops().iter().any(|o| o.op == op);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut not_asked: BTreeMap<String, usize> = BTreeMap::new();
    for (name, case) in cases(folder) {
        if !case.ops.iter().all(|op| known(op)) {
            continue;
        }
        if let Some(reason) = case.skip {
            *not_asked.entry(reason).or_default() += 1;
            continue;
        }
        let result = run(folder, &name);
        let tally = tallies.entry(case.op).or_default();
        match result {
            Ok(()) => tally.passed += 1,
            Err(reason) => tally.failed.push((name, shortened(&reason))),
        }
    }
    let passed: usize = tallies.values().map(|t| t.passed).sum();
    let failed: usize = tallies.values().map(|t| t.failed.len()).sum();
    println!("{passed} passed, {failed} not");
    match std::fs::write(document, text(&tallies, &not_asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("can't write {document}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The reason itself, without the file's and the node's names.
fn shortened(reason: &str) -> String {
    let line = reason.lines().find(|l| l.contains("unsupported: node") || l.contains("invalid: node"));
    let text = line.and_then(|l| l.split_once("): ")).map_or(reason, |(_, rest)| rest);
    let text = text.split("; supported:").next().unwrap_or(text);
    let text = text.rsplit_once(".onnx: ").map_or(text, |(_, rest)| rest);
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('_', "\\_")
}

fn text(tallies: &BTreeMap<String, Tally>, not_asked: &BTreeMap<String, usize>) -> String {
    let mut text = String::from(HEAD);
    text.push_str("| operator | from opset | supported | node tests |\n|---|---|---|---|\n");
    for spec in supported_ops() {
        let tests = tallies
            .get(spec.op)
            .map_or_else(String::new, |t| format!("{} of {}", t.passed, t.passed + t.failed.len()));
        row(&mut text, spec, &tests);
    }
    text.push_str("\n## com.microsoft\n\nWhat ONNX Runtime writes into graphs that it optimised.\n\n");
    text.push_str("| operator | from opset | supported | node tests |\n|---|---|---|---|\n");
    supported_microsoft_ops().iter().for_each(|spec| row(&mut text, spec, ""));
    text.push_str("\n## Node tests that can't be asked\n\n| reason | tests |\n|---|---|\n");
    for (reason, count) in not_asked {
        let _ = writeln!(text, "| {reason} | {count} |");
    }
    text.push_str("\n## Node tests that fail\n\n| operator | test | reason |\n|---|---|---|\n");
    for (op, tally) in tallies {
        for (name, reason) in &tally.failed {
            let _ = writeln!(text, "| {op} | `{name}` | {reason} |");
        }
    }
    text
}

fn row(text: &mut String, spec: &OpSpec, tests: &str) {
    let supported = spec.supported.replace('|', "\\|");
    let _ = writeln!(text, "| {} | {} | {supported} | {tests} |", spec.op, spec.min_opset);
}

const HEAD: &str = "# Operators

Generated; don't edit. `tools/make_node_tests.py` writes ONNX's backend node tests, `cargo run --release -p relc-tests
--example operators -- NODES docs/operators.md` runs relc on those whose operators it knows. The first input of floats
is the model's input, all others are constants; a test passes if the output is within 1e-3 of each value (and 1e-5).

## ai.onnx

";
