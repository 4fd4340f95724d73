//! `relc export`; what the files compute is compared with ONNX Runtime in the tests' suite `export`.

mod support;

use support::{check_ok, demo, folder, path, relc, stderr};

#[test]
fn an_explainer_is_written_and_said_what_it_is() {
    let out = folder();
    let (file_path, file) = path(&out, "explainer.onnx");
    let output = check_ok(&relc(&["export", &demo("model.onnx"), "--target", "input", "-o", &file]));
    for part in ["two_level", "target input", "logits, relevance, map", "conserved"] {
        assert!(output.contains(part), "expected \"{part}\" in: {output}");
    }
    // The network in it is the model, under its own names.
    let network = check_ok(&relc(&["check", &file, "--output", "logits", "--hold", "target=0"]));
    assert!(
        network.contains("6 residual join(s)") && network.contains(" /layer1/layer1.0/Add "),
        "{network}"
    );
    let json = check_ok(&relc(&["export", &demo("model.onnx"), "--preset", "paper", "--json", "-o", &file]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let size = file_path.metadata().unwrap().len();
    assert_eq!((json["bytes"].as_u64(), json["conserving"].as_bool()), (Some(size), Some(false)));
    // Each weight is stored once.
    assert!(size as f64 <= 1.3 * json["model_bytes"].as_f64().unwrap(), "{json}");
}

#[track_caller]
fn check_refused(args: &[&str], code: i32, says: &str) {
    let out = folder();
    let (file_path, file) = path(&out, "explainer.onnx");
    let output = relc(&[&["export"], args, &["-o", &file]].concat());
    let said = stderr(&output);
    assert!(output.status.code() == Some(code) && said.contains(says), "{said}");
    assert!(!file_path.exists(), "nothing is left");
}

#[test]
fn targets_and_models_that_there_are_not_are_refused() {
    let model = demo("model.onnx");
    check_refused(&[&model, "--target", "8"], 2, "expected one of the outputs 0 to 7");
    check_refused(&[&model, "--target", "best"], 2, "expected argmax");
    check_refused(&[&demo("labels.txt")], 1, "not an ONNX model");
}
