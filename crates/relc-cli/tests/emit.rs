//! `relc compile --emit obj | staticlib`: `examples/c/explain.c`, compiled by `cc` and linked with nothing but what the command
//! wrote, gives what the library gives, to the bit.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use relc::ndarray::ArrayD;
use relc::{Compiler, Isa, Preset, Seed, Targets};
// Cargo makes the library for C because of this.
use relc_capi as _;
use support::{check_fails, check_ok, demo, folder, path, relc, repository};

/// relc's library for C, which cargo made for this test.
fn library() -> String {
    let test = std::env::current_exe().unwrap();
    let found = test.parent().unwrap().join("librelc_capi.a");
    assert!(found.is_file(), "{} is not there", found.display());
    found.to_string_lossy().into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The example with a model that is linked in.
#[track_caller]
fn program(dir: &Path, symbol: &str, linked: &[&str]) -> PathBuf {
    let program = dir.join(format!("explain_{symbol}"));
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-Wl,--fatal-warnings"]);
    cc.arg(format!("-DMODEL={symbol}")).args(["-include", &format!("{symbol}.h"), "-I", "."]);
    cc.arg(fs::canonicalize(repository("examples/c/explain.c")).unwrap()).args(linked);
    cc.args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&program);
    let output = cc.current_dir(dir).output().expect("cc is there: relc's own build needs a C compiler");
    assert!(output.status.success(), "{}", said(&output));
    program
}

fn input() -> ArrayD<f32> {
    let wave = |at: usize| (at as f32 * 0.37).sin();
    ArrayD::from_shape_vec(vec![2, 3, 64, 64], (0..2 * 3 * 64 * 64).map(wave).collect()).unwrap()
}

fn bytes(values: &ArrayD<f32>) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Runs the program on the instructions of `isa`; it compiles kernels only if it has to.
#[track_caller]
fn check_explains(program: &Path, preset: &str, isa: Isa, compiles: bool) {
    let dir = program.parent().unwrap();
    fs::write(dir.join("in.f32"), bytes(&input())).unwrap();
    let mut run = Command::new(program);
    run.args(["in.f32", "out.f32", "5"]).env("RELC_ISA", isa.name()).current_dir(dir);
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output).starts_with("0 kernels compiled"), !compiles, "{}", said(&output));
    let compiler = Compiler::new(Preset::named(preset).unwrap()).isa(isa);
    let explainer = compiler.compile(demo("model.onnx")).unwrap();
    let seed = Seed::Named(explainer.preset().seed);
    let expected = explainer.explain(input().view(), &seed, &Targets::Outputs(vec![5])).unwrap();
    assert!(fs::read(dir.join("out.f32")).unwrap() == bytes(&expected.explanations[0].relevance), "{isa}");
}

#[test]
fn a_library_is_all_that_a_program_needs() {
    let dir = folder();
    let (_, out) = path(&dir, "libdemo.a");
    let text = check_ok(&relc(&[
        "compile",
        &demo("model.onnx"),
        "--emit",
        "staticlib",
        "--library",
        &library(),
        "-o",
        &out,
    ]));
    assert!(text.contains("symbol demo, preset two_level") && text.contains("demo.h declares it"), "{text}");
    let program = program(dir.path(), "demo", &["libdemo.a"]);
    let best = Isa::detect().unwrap();
    for isa in Isa::available() {
        // Kernels are those of the layout, whatever instructions the tiles have.
        check_explains(&program, "two_level", isa, isa.width() != best.width());
    }
}

#[test]
fn objects_have_their_own_symbols_and_presets() {
    let dir = folder();
    for (symbol, preset) in [("first", "conserve"), ("second", "paper")] {
        let (_, out) = path(&dir, &format!("{symbol}.o"));
        let args = ["compile", &demo("model.onnx"), "--emit", "obj", "--preset", preset, "-o", &out];
        check_ok(&relc(&args));
    }
    let library = library();
    for (symbol, preset) in [("first", "conserve"), ("second", "paper")] {
        let program = program(dir.path(), symbol, &["first.o", "second.o", &library]);
        check_explains(&program, preset, Isa::detect().unwrap(), false);
    }
}

#[test]
fn what_can_not_be_written_is_refused() {
    let dir = folder();
    let (out_path, out) = path(&dir, "out.o");
    let (_, text) = path(&dir, "text.a");
    fs::write(&text, "no archive").unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--emit", "obj", "--name", "9x"], 1, "got the name \"9x\", expected an identifier of C"),
        (&["--name", "x"], 2, "--name and --library are of --emit obj and --emit staticlib"),
        (&["--emit", "obj", "--library", "x"], 2, "--library is of --emit staticlib"),
        (&["--emit", "staticlib", "--library", "no/such.a"], 1, "no/such.a: No such file"),
        (&["--emit", "staticlib", "--library", &text], 1, "text.a: it is no static library"),
    ];
    for (args, code, says) in cases {
        let model = demo("model.onnx");
        let all = [&["compile", &model, "-o", &out], args].concat();
        check_fails(&relc(&all), code, &[says]);
        assert!(!out_path.exists(), "nothing is left");
    }
    // What is no library is refused before the model is even read.
    let all = ["compile", "no/model.onnx", "-o", &out, "--emit", "staticlib", "--library", &text];
    check_fails(&relc(&all), 1, &["text.a: it is no static library"]);
}
