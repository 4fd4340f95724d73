//! What commands print for people, they print for programs by `--json`: one document, and nothing else.

mod support;

use serde_json::Value;
use support::{check_fails, check_ok, command, demo, explain, folder, path, picture, relc, repository, run};

/// The document that a command prints.
#[track_caller]
fn json(args: &[&str]) -> Value {
    let text = check_ok(&relc(args));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Every key is in snake_case, but for those that are names of the user's or the model's.
#[track_caller]
fn check_keys(value: &Value) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(plain), "{key}");
        check_keys(value);
    }
    value.as_array().into_iter().flatten().for_each(check_keys);
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}: {value}"))
}

#[test]
fn explain_takes_no_file_as_standard_output_and_refuses_to_write_over_an_input() {
    let output = explain(&[&picture()], &["--no-class-sensitivity", "--json"]);
    let report: Value = serde_json::from_str(&check_ok(&output)).unwrap();
    check_keys(&report);
    assert_eq!(list(&report, "results").len(), 1);
    let before = std::fs::read(picture()).unwrap();
    let mut command = command(&["explain", &demo("model.onnx"), "--json", &picture(), &picture()]);
    check_fails(
        &command.output().unwrap(),
        2,
        &["00_disc.png", "write --json=- where a model or an input follows"],
    );
    assert_eq!(std::fs::read(picture()).unwrap(), before);
    let between = ["explain", &demo("model.onnx"), "--no-class-sensitivity", "--json=-", &picture()];
    assert_eq!(list(&json(&between), "results").len(), 1);
}

#[test]
fn eval_and_tune_print_tables_and_what_was_found() {
    let dir = folder();
    let (model, pictures, preprocess) = (demo("model.onnx"), demo("images"), demo("preprocess.toml"));
    let on = |name: &str, more: &[&str]| -> Value {
        let common = [name, &model, &pictures, "--preprocess", &preprocess, "--step", "1024", "--limit", "2"];
        let args = [&common, more, &["--json"]].concat();
        serde_json::from_str(&check_ok(&run(command(&args).current_dir(dir.path())))).unwrap()
    };
    let eval = on("eval", &["--methods", "conserve", "--time"]);
    check_keys(&eval);
    assert_eq!((&eval["pictures"], &eval["table"]["rows"][0]["method"]), (&2.into(), &"conserve".into()));
    assert_eq!(list(&eval, "seconds").len(), 4);
    let tune = on("tune", &["--budget", "2"]);
    check_keys(&tune);
    let tuned = &tune["tuned"];
    assert_eq!((&tuned["metric"], &tuned["tried"], &tuned["pictures"]), (&"id".into(), &2.into(), &1.into()));
    assert!(tuned["score"].is_f64() && tuned["best"].is_string(), "{tuned}");
    let file = dir.path().join(tuned["preset"].as_str().unwrap());
    assert!(std::fs::read_to_string(file).unwrap().contains(tuned["best"].as_str().unwrap()));
}

#[test]
fn check_names_the_file_and_what_should_be_known() {
    let (model, preset) = (demo("model.onnx"), "paper");
    let report = json(&["check", &model, "--preset", preset, "--json"]);
    check_keys(&report);
    assert_eq!((&report["model"], &report["preset"]), (&model.clone().into(), &preset.into()));
    assert_eq!(report["warnings"], serde_json::json!([]));
    assert!(!list(&report, "joins").is_empty() && report["claim"]["conserving"] == false);
    let bytes = json(&["check", &repository("tests/quantised/bytes.onnx"), "--json"]);
    assert!(bytes["warnings"][0].as_str().unwrap().contains("takes whole numbers from 0 to 255"), "{bytes}");
    check_fails(&relc(&["check", "no/such.onnx", "--json"]), 1, &["no/such.onnx"]);
    check_fails(&relc(&["check", &model, "--preset", "papr", "--json"]), 2, &["paper"]);
    assert!(relc(&["check", "no/such.onnx", "--json"]).stdout.is_empty());
}

#[test]
fn dump_prints_graphs_programs_and_kernels_with_what_the_passes_said() {
    let model = demo("model.onnx");
    let one = json(&["dump", &model, "--after", "find-residuals", "--json"]);
    let graphs = list(&one, "graphs");
    assert_eq!((graphs.len(), &graphs[0]["after"]), (1, &"find-residuals".into()));
    assert!(!list(&graphs[0]["graph"], "residuals").is_empty());
    let passes = list(&one, "passes");
    let finder = passes.iter().find(|p| p["pass"] == "find-residuals").unwrap();
    let remark = &finder["remarks"][0];
    assert_eq!(remark["kind"], "applied");
    assert!(remark["message"].as_str().unwrap().contains("joins a branch") && finder["ms"].is_number());
    let all = json(&["dump", &model, "--print-after-all", "--json"]);
    assert_eq!(list(&all, "graphs").len(), 11);
    let programs = list(&all, "programs");
    assert_eq!((programs.len(), &programs[0]["after"]), (11, &"lower".into()));
    assert!(list(&all, "passes").iter().any(|pass| pass["pass"] == "plan-memory"));
    let lowered = json(&["dump", &model, "--after", "lower", "--json"]);
    let program = &list(&lowered, "programs")[0]["program"];
    assert_eq!(program, &programs[0]["program"]);
    assert_eq!(program, &json(&["dump", &model, "--after", "lower", "--format", "json"]));
    let join = list(&json(&["check", &model, "--json"]), "joins")[0]["join"].as_str().unwrap().to_string();
    let kernels = json(&["dump", &model, "--asm", &join, "--json"]);
    assert!(list(&kernels, "kernels")[0]["node"].as_str().unwrap().contains(&join));
    assert!(!list(&kernels, "passes").is_empty());
    for both in [["--format", "dot"], ["--format", "text"]] {
        check_fails(&relc(&["dump", &model, "--json", both[0], both[1]]), 2, &["cannot be used with"]);
    }
    check_fails(&relc(&["dump", &model, "--after", "find-residual", "--json"]), 2, &["there is no pass"]);
}

#[test]
fn presets_are_listed_and_shown_as_values() {
    let all = json(&["preset", "list", "--json"]);
    check_keys(&all);
    let default: Vec<&Value> = list(&all, "presets").iter().filter(|p| p["is_default"] == true).collect();
    assert!(default.len() == 1 && default[0]["name"] == "two_level", "{default:?}");
    let text = check_ok(&relc(&["preset", "list"]));
    assert!(list(&all, "presets").iter().all(|p| text.contains(p["description"].as_str().unwrap())));
    let paper = json(&["preset", "show", "paper", "--json"]);
    check_keys(&paper);
    assert_eq!((&paper["name"], &paper["values"]["name"]), (&"paper".into(), &"paper".into()));
    assert!(!list(&paper["values"], "rule").is_empty() && paper["hash"].as_str().unwrap().len() == 16);
    // What a preset inherits is among its values.
    let extended = json(&["preset", "show", "epsilon_gamma_box", "--json"]);
    assert_eq!(extended["values"]["seed"], "onehot");
    assert!(list(&extended["values"], "rule").iter().any(|rule| rule["rule"] == "winner"), "{extended}");
    let text = check_ok(&relc(&["preset", "show", "paper"]));
    assert_eq!(paper["text"].as_str().unwrap().trim_end(), text.trim_end());
    check_fails(&relc(&["preset", "show", "papr", "--json"]), 2, &["paper"]);
}

#[test]
fn bench_and_profile_print_their_times() {
    let model = demo("model.onnx");
    let bench = json(&["bench", &model, "--runs", "1", "--json"]);
    check_keys(&bench);
    assert_eq!((list(&bench, "explain_ms").len(), &bench["preset"]), (1, &"two_level".into()));
    let profile = json(&["profile", &model, "--runs", "1", "--json"]);
    check_keys(&profile);
    assert!(profile["total_us"].as_f64().unwrap() > 0.0 && !list(&profile, "steps").is_empty());
}

/// Names that would act on a terminal are escaped as JSON does, and come back whole.
#[cfg(unix)]
#[test]
fn names_that_act_are_escaped_as_json() {
    let dir = folder();
    let name = "a\u{202e}b\u{9b}c\n.onnx";
    let (model, text) = path(&dir, name);
    std::fs::copy(demo("model.onnx"), &model).unwrap();
    for args in [&["check", &text, "--json"][..], &["bench", &text, "--runs", "1", "--json"]] {
        let printed = check_ok(&relc(args));
        assert!(!printed.contains(['\u{202e}', '\u{9b}']), "{printed}");
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(report["model"], text);
    }
}
