//! The demo model and the command, for the tests of the command.
#![allow(dead_code)] // each test binary uses some of it

use std::path::PathBuf;
use std::process::{Command, Output};

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

pub fn relc(args: &[&str]) -> Output {
    command(args).output().expect("relc runs")
}

/// With an instruction set forced.
pub fn relc_on(isa: &str, args: &[&str]) -> Output {
    command(args).env("RELC_ISA", isa).output().expect("relc runs")
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
    explaining(inputs, more).output().expect("relc runs")
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
pub fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
