//! The C library from C: the header is what cbindgen writes, and `examples/c/explain.c`, compiled by `cc` and linked with
//! nothing but the library and the system's own, gives what the library in Rust gives, to the bit.
//!
//! `RELC_BLESS=1 cargo test -p relc-capi` writes the header.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use relc::ndarray::ArrayD;
use relc::{Compiler, Explainer, Preset, Seed, Targets};

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

#[test]
fn the_header_is_up_to_date() {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(krate.join("cbindgen.toml")).unwrap();
    let source = krate.join("src/lib.rs");
    let bindings = cbindgen::Builder::new().with_src(source).with_config(config).generate().unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = krate.join("include/relc.h");
    if std::env::var_os("RELC_BLESS").is_some() {
        fs::create_dir_all(krate.join("include")).unwrap();
        fs::write(&path, &made).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    assert!(listed == made, "include/relc.h is not what src/lib.rs says; RELC_BLESS=1 writes it");
}

/// The static library, which cargo builds for this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let places = [deps.join("librelc_capi.a"), deps.join("../librelc_capi.a")];
    let found = places.iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("none of {places:?} is there")).clone()
}

/// Compiles a program in C with some options more.
fn program(folder: &Path, source: &Path, options: &[&str]) -> PathBuf {
    let program = folder.join(format!("program{}", options.len()));
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]).args(options);
    cc.arg("-I").arg(repository("crates/relc-capi/include")).arg(source).arg(library());
    cc.args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&program);
    let output = cc.output().expect("cc is there: relc's own build needs a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// An artifact of the demo, and an input of three samples.
fn compiled(folder: &Path) -> (PathBuf, ArrayD<f32>) {
    let artifact = folder.join("demo.relc");
    let model = repository("examples/demo/model.onnx");
    Compiler::new(Preset::named("two_level").unwrap()).save(&model, &artifact).unwrap();
    let wave = |at: usize| (at as f32 * 0.37).sin();
    (artifact, ArrayD::from_shape_vec(vec![3, 3, 64, 64], (0..3 * 3 * 64 * 64).map(wave).collect()).unwrap())
}

#[track_caller]
fn check(options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (artifact, x) = compiled(folder.path());
    let example = program(folder.path(), &repository("examples/c/explain.c"), options);
    let [input, out] = ["in.f32", "out.f32"].map(|name| folder.path().join(name));
    fs::write(&input, bytes(x.as_slice().unwrap())).unwrap();
    let run = |model: &Path, more: &[&str]| {
        Command::new(&example).args([model, &input, &out]).args(more).output().unwrap()
    };
    let explainer = Explainer::load(&artifact).unwrap();
    let seed = Seed::Named(explainer.preset().seed);
    for (more, targets) in [(&[][..], Targets::Argmax), (&["5"], Targets::Outputs(vec![5]))] {
        let output = run(&artifact, more);
        assert!(output.status.success(), "{}", said(&output));
        let expected = explainer.explain(x.view(), &seed, &targets).unwrap();
        let relevance = &expected.explanations[0].relevance;
        assert!(fs::read(&out).unwrap() == bytes(relevance.as_slice().unwrap()), "{}", said(&output));
        for (n, target) in expected.explanations[0].targets.iter().enumerate() {
            let line = format!("sample {n}: output {target}, logit ");
            assert!(said(&output).contains(&line), "expected \"{line}\" in {}", said(&output));
        }
    }
    for (model, more, says) in [
        (artifact.as_path(), "8", "target 8 is out of range"),
        (Path::new("no/such.relc"), "0", "error: no/such.relc: can't import no/such.relc"),
        (input.as_path(), "0", "not an ONNX model"),
    ] {
        let output = run(model, &[more]);
        assert!(output.status.code() == Some(1) && said(&output).contains(says), "{}", said(&output));
    }
}

#[test]
fn the_example_explains_to_the_bit() {
    check(&[]);
}

/// What C allocates and relc frees, and the other way around, is freed once and not used afterwards.
#[test]
#[cfg(target_os = "linux")]
fn the_example_runs_under_address_sanitizer() {
    check(&["-g", "-fsanitize=address"]);
}

/// Calls that a careless caller makes, and many at once.
#[test]
fn mistakes_are_errors_and_threads_share_an_explainer() {
    let folder = tempfile::tempdir().unwrap();
    let (artifact, _) = compiled(folder.path());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes.c");
    let output = Command::new(program(folder.path(), &source, &[])).arg(&artifact).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}
