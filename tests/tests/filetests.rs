//! Filetests: `tests/filetests/PASS/*.relc`, a folder for each pass.
//!
//! A file is a header of lines that start with `;`, a graph, a line `; ----`, the expected graph (or the expected
//! error), another `; ----`, and what the pass said. The header knows
//! `; preset: NAME`, `; split: POLICY`, `; gate: POLICY`, `; batchnorm: keep | fold | fold-as-zennit`,
//! `; mask: GLOB=CHANNELS`, `; readout: AT=SHARE`, and `; after: pipeline`, which runs the passes that come before. `RELC_BLESS=1` rewrites
//! the expectations.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use relc_passes::{PassError, PassManager, pass_list, pipeline};
use relc_rules::{BatchNormPolicy, Preset};

const RULER: &str = "; ----\n";

struct Case {
    preset: Preset,
    batchnorm: BatchNormPolicy,
    after_pipeline: bool,
    header: String,
    graph: String,
}

fn parse(text: &str) -> Case {
    let input = text.split(RULER).next().unwrap();
    let header: String = input.lines().take_while(|l| l.starts_with(';')).map(|l| format!("{l}\n")).collect();
    let graph = input[header.len()..].to_string();
    let option = |name: &str| {
        let line = header.lines().find_map(|l| l.strip_prefix("; ")?.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::trim).map(str::to_string)
    };
    let mut preset = Preset::named(&option("preset").unwrap_or("conserve".into())).unwrap();
    if let Some(split) = option("split") {
        preset = preset.with_split(split.parse().unwrap());
    }
    if let Some(gate) = option("gate") {
        preset = preset.with_gate(gate.parse().unwrap());
    }
    if let Some(mask) = option("mask") {
        preset = preset.with_mask(&mask).unwrap();
    }
    if let Some(readout) = option("readout") {
        preset = preset.with_readouts(&[readout]).unwrap();
    }
    let batchnorm = option("batchnorm").unwrap_or("keep".into());
    let named = BatchNormPolicy::ALL.into_iter().find(|(name, _)| *name == batchnorm);
    let batchnorm = named.unwrap_or_else(|| panic!("unknown: batchnorm: {batchnorm}")).1;
    let after_pipeline = match option("after").as_deref() {
        Some("pipeline") => true,
        Some(other) => panic!("unknown: after: {other}"),
        None => false,
    };
    Case { preset, batchnorm, after_pipeline, header, graph }
}

/// The graph (or error) and the remarks that `pass` leaves.
fn run(case: &Case, pass: &str) -> (String, String) {
    let mut graph = relc_ir::parse(&case.graph).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(graph.to_string(), case.graph, "the input is not in the printer's form");
    let mut passes = pipeline(&case.preset, case.batchnorm);
    let at = passes.iter().position(|p| p.name() == pass).unwrap_or_else(|| panic!("no pass {pass}"));
    let named = passes.remove(at);
    if case.after_pipeline {
        passes.truncate(at);
        PassManager::new(passes).run(&mut graph, |_, _| {}).unwrap();
    }
    match PassManager::new(vec![named]).run(&mut graph, |_, _| {}) {
        Ok(records) => {
            let remarks = records[0].remarks.iter().fold(String::new(), |mut text, r| {
                let _ = writeln!(text, "{r}");
                text
            });
            (graph.to_string(), remarks)
        }
        Err(error @ PassError::Verify { .. }) => panic!("{error}"),
        Err(error) => (format!("{error}\n"), String::new()),
    }
}

fn check(path: &Path, pass: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let case = parse(&text);
    let (graph, remarks) = run(&case, pass);
    let got = format!("{}{}{RULER}{graph}{RULER}{remarks}", case.header, case.graph);
    if got == text {
        return Ok(());
    }
    if std::env::var_os("RELC_BLESS").is_some() {
        std::fs::write(path, got).unwrap();
        return Ok(());
    }
    let differs = text.lines().zip(got.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| text.lines().count().min(got.lines().count()));
    let nth = |t: &str| t.lines().nth(line).unwrap_or("(the end)").to_string();
    Err(format!("{}:{}\n  expected {}\n  got      {}", path.display(), line + 1, nth(&text), nth(&got)))
}

#[test]
fn every_pass_does_what_its_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let mut failures = Vec::new();
    for (pass, _) in pass_list() {
        let folder = root.join(pass);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no file", folder.display());
        for file in files {
            let result = std::panic::catch_unwind(|| check(&file, pass));
            match result {
                Ok(Ok(())) => {}
                Ok(Err(difference)) => failures.push(difference),
                Err(_) => failures.push(format!("{}: panicked, see above", file.display())),
            }
        }
    }
    assert!(failures.is_empty(), "{} file(s) differ:\n{}", failures.len(), failures.join("\n"));
}
