//! `relc compile`, and every command with what it wrote in place of the model.

mod support;

use serde_json::Value;
use support::{check_fails, check_ok, command, demo, folder, path, pictures, relc, run};

/// The demo, compiled.
fn compiled(dir: &tempfile::TempDir, more: &[&str]) -> String {
    let (_, file) = path(dir, "demo.relc");
    let said = check_ok(&relc(&[&["compile", &demo("model.onnx"), "-o", &file], more].concat()));
    assert!(said.contains("demo.relc: ") && said.contains("loads in"), "{said}");
    file
}

#[test]
fn every_command_takes_the_file_and_says_the_same() {
    let dir = folder();
    let (artifact, model) = (compiled(&dir, &[]), demo("model.onnx"));
    let picture = pictures().remove(0);
    let preprocess = demo("preprocess.toml");
    let set = format!("{}/../../examples/demo/images", env!("CARGO_MANIFEST_DIR"));
    let (_, onnx) = path(&dir, "explainer.onnx");
    let commands: [&[&str]; 6] = [
        &["explain", "", &picture, "--preprocess", &preprocess],
        &["explain", "", &picture, "--preprocess", &preprocess, "--preset", "paper", "--target", "2"],
        &["explain", "", &picture, "--preprocess", &preprocess, "--method", "grad_cam"],
        &["export", "", "-o", &onnx],
        &["dump", "", "--after", "plan-memory"],
        &[
            "eval",
            "",
            &set,
            "--preprocess",
            &preprocess,
            "--methods",
            "two_level,grad_cam",
            "--metrics",
            "id",
            "--step",
            "1024",
            "--limit",
            "2",
            "--json",
            "-",
        ],
    ];
    for args in commands {
        let with = |model: &str| {
            let args: Vec<&str> = args.iter().map(|arg| if arg.is_empty() { model } else { arg }).collect();
            // In a folder of its own: an evaluation keeps its results there.
            check_ok(&run(command(&args).current_dir(folder().path())))
        };
        let [expected, got] = [with(&model), with(&artifact)];
        // What was timed, and where a report was made, differs.
        let same = |text: &str| -> Vec<String> {
            let lines =
                text.lines().filter(|l| !l.contains("ms") && !l.contains("seconds") && !l.contains("demo"));
            lines.map(str::to_string).collect()
        };
        assert_eq!(same(&got), same(&expected), "{args:?}");
    }
    for command in ["check", "bench", "profile"] {
        let timed: &[&str] = if command == "check" { &[] } else { &["--runs", "1"] };
        check_ok(&relc(&[&[command, &artifact], timed].concat()));
    }
}

#[test]
fn its_own_preset_is_the_default_and_reports_say_what_it_is() {
    let dir = folder();
    let artifact = compiled(&dir, &["--preset", "paper", "--split", "half"]);
    let json = check_ok(&relc(&[
        "explain",
        &artifact,
        &pictures().remove(0),
        "--preprocess",
        &demo("preprocess.toml"),
        "--json",
        "-",
    ]));
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["compiled"]["preset"], "paper (modified)");
    let run = &report["run"];
    assert_eq!(
        (&run["model"]["path"], &run["artifact"]["path"]),
        (&Value::from("model.onnx"), &Value::from(artifact))
    );
    assert_eq!(run["artifact"]["relc"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["model"]["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn what_can_not_be_compiled_or_loaded_is_refused() {
    let dir = folder();
    let (out_path, out) = path(&dir, "out.relc");
    check_fails(&relc(&["compile", &demo("labels.txt"), "-o", &out]), 1, &["not an ONNX model"]);
    assert!(!out_path.exists(), "nothing is left");
    check_fails(
        &relc(&["compile", &demo("model.onnx"), "-o", "no/such/out.relc"]),
        1,
        &["can't write no/such/out.relc"],
    );
    let artifact = compiled(&dir, &[]);
    let bytes = std::fs::read(&artifact).unwrap();
    std::fs::write(&out_path, &bytes[..bytes.len() / 2]).unwrap();
    check_fails(
        &relc(&["check", &out]),
        1,
        &["can't load", "out.relc", "a damaged artifact", "make it again from the model"],
    );
    let mut newer = bytes;
    newer[8] += 1;
    std::fs::write(&out_path, &newer).unwrap();
    check_fails(&relc(&["check", &out]), 1, &["an artifact of format 2, expected 1", "relc compile"]);
    check_fails(&relc(&["check", &artifact, "--output", "logits"]), 1, &["compiled with nothing stated"]);
}
