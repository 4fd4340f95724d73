//! The demo model and the command, for the tests of the command.
#![allow(dead_code)] // each test binary uses some of it

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// A file of the repository.
pub fn repository(file: &str) -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../").to_string() + file
}

pub fn demo(file: &str) -> String {
    repository("examples/demo/") + file
}

/// The demo's first picture, which is of a disc.
pub fn picture() -> String {
    demo("images/00_disc.png")
}

pub fn pictures() -> Vec<String> {
    let folder = std::fs::read_dir(demo("images")).expect("the demo has pictures");
    let mut files: Vec<String> =
        folder.map(|e| e.expect("a file").path().to_string_lossy().into_owned()).collect();
    files.sort();
    files
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relc"));
    command.args(args);
    command
}

/// Runs the command, and holds every report that it writes against the schema.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("relc runs");
    let args: Vec<&OsStr> = command.get_args().collect();
    if args.first().is_none_or(|first| *first != "explain") {
        return output;
    }
    let value =
        |name: &str| args.iter().position(|a| *a == name).map(|at| args.get(at + 1).map(PathBuf::from));
    let folders =
        value("--out").flatten().into_iter().filter_map(|out| std::fs::read_dir(out).ok()).flatten();
    let own = folders.map(|folder| folder.expect("a folder").path().join("report.json"));
    let all = value("--json").flatten();
    for report in own.chain(all).filter(|report| report.is_file()) {
        check_report(&std::fs::read(report).expect("a report"));
    }
    let prints = value("--json").is_some_and(|file| file.is_none_or(|file| file == Path::new("-")));
    if prints && !output.stdout.is_empty() {
        check_report(&output.stdout);
    }
    output
}

/// The schema, without what later versions may add: a key that it does not know is a defect of the schema.
pub fn closed_schema() -> Value {
    let text = std::fs::read_to_string(repository("docs/relc.schema.json")).expect("the schema");
    let mut schema: Value = serde_json::from_str(&text).expect("JSON");
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.values_mut().for_each(close);
        if object.get("properties").is_some_and(Value::is_object) {
            object.insert("additionalProperties".into(), false.into());
        }
    }
    schema.as_array_mut().into_iter().flatten().for_each(close);
}

/// A validator of one of the schema's two reports.
pub fn validator(definition: &str) -> Validator {
    let mut schema = closed_schema();
    let object = schema.as_object_mut().expect("an object");
    object.remove("anyOf");
    object.insert("$ref".into(), json!(format!("#/$defs/{definition}")));
    jsonschema::draft202012::new(&schema).expect("a schema")
}

#[track_caller]
fn check_report(bytes: &[u8]) {
    static VALIDATORS: OnceLock<[Validator; 2]> = OnceLock::new();
    let [whole, folder] = VALIDATORS.get_or_init(|| ["WholeReport", "FolderReport"].map(validator));
    let report: Value = serde_json::from_slice(bytes).expect("JSON");
    let validator = if report.get("results").is_some() { whole } else { folder };
    let errors: Vec<String> =
        validator.iter_errors(&report).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "not as the schema says:\n{}", errors.join("\n"));
}

pub fn relc(args: &[&str]) -> Output {
    run(&mut command(args))
}

/// With an instruction set forced.
pub fn relc_on(isa: &str, args: &[&str]) -> Output {
    run(command(args).env("RELC_ISA", isa))
}

/// `relc explain` with the demo model and its preprocessing.
pub fn explaining(inputs: &[&str], more: &[&str]) -> Command {
    let (model, preprocess) = (demo("model.onnx"), demo("preprocess.toml"));
    let mut args = vec!["explain", &model, "--preprocess", &preprocess];
    args.extend(inputs);
    args.extend(more);
    command(&args)
}

pub fn explain(inputs: &[&str], more: &[&str]) -> Output {
    run(&mut explaining(inputs, more))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn check_ok(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A failure: its exit code, what it must say, and no panic.
#[track_caller]
pub fn check_fails(output: &Output, code: i32, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for text in says {
        assert!(stderr.contains(text), "expected \"{text}\" in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn path(folder: &tempfile::TempDir, name: &str) -> (PathBuf, String) {
    let path = folder.path().join(name);
    let text = path.to_string_lossy().into_owned();
    (path, text)
}

/// The names in a folder, in their order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
