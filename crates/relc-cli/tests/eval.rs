//! `relc eval` as a user runs it, on the demo model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn demo(file: &str) -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo/").to_string() + file
}

fn eval(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relc"));
    command.current_dir(folder).args(["eval", &demo("model.onnx"), &demo("images")]);
    command.args(["--preprocess", &demo("preprocess.toml"), "--step", "1024"]).args(more);
    command
}

#[track_caller]
fn check_ok(output: &Output) -> (String, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    (String::from_utf8(output.stdout.clone()).unwrap(), stderr)
}

#[track_caller]
fn run(folder: &Path, more: &[&str]) -> (String, String) {
    check_ok(&eval(folder, more).output().expect("relc runs"))
}

#[track_caller]
fn check_fails(folder: &Path, more: &[&str], code: i32, says: &str) {
    let output = eval(folder, more).output().expect("relc runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(says) && !stderr.contains("panicked"), "expected \"{says}\" in: {stderr}");
}

fn lines(path: &PathBuf) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_in_the_same_table() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let more = ["--methods", "conserve,grad_cam", "--limit", "4", "--baseline", "grad_cam", "--csv", "t.csv"];
    let (table, _) = run(whole.path(), &more);
    let results = killed.path().join("relc-eval.jsonl");
    for kill_at in [2, 7, 13] {
        let mut child =
            eval(killed.path(), &more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while lines(&results) < kill_at && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    // What a write that was cut off leaves.
    let mut bytes = std::fs::read(&results).unwrap();
    bytes.extend(b"{\"key\":\"00");
    std::fs::write(&results, bytes).unwrap();
    let (again, stderr) = run(killed.path(), &more);
    assert!(stderr.contains("the last line is not complete"), "{stderr}");
    assert_eq!(again, table);
    assert_eq!(lines(&results), 4 * 5);
    let csv = |folder: &Path| std::fs::read(folder.join("t.csv")).unwrap();
    assert_eq!(csv(killed.path()), csv(whole.path()));
    // With everything there, nothing is added.
    assert_eq!(run(killed.path(), &more).0, table);
    assert_eq!(lines(&results), 4 * 5);
}

#[test]
fn controls_stand_in_every_table_and_a_constant_map_wins_where_ties_enter_together() {
    let dir = tempfile::tempdir().unwrap();
    let table = |more: &[&str]| -> (Value, String) {
        let common = ["--methods", "conserve,rise:8", "--limit", "3", "--json", "-"];
        let (stdout, stderr) = run(dir.path(), &[&common, more].concat());
        (serde_json::from_str(&stdout).unwrap(), stderr)
    };
    let id = |report: &Value, method: &str| -> f64 {
        let rows = report["table"]["rows"].as_array().unwrap();
        let row = rows.iter().find(|r| r["method"] == method).unwrap();
        row["cells"][2]["mean"].as_f64().unwrap()
    };
    let (strict, _) = table(&[]);
    let names: Vec<&str> =
        strict["table"]["rows"].as_array().unwrap().iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["conserve", "rise:8", "random", "constant", "centre"]);
    assert!(id(&strict, "conserve") > id(&strict, "constant") + 0.1);
    assert_eq!(strict["notes"].as_array().unwrap().len(), 0);
    let (together, stderr) = table(&["--ties", "together"]);
    assert!(names.iter().all(|name| id(&together, "constant") >= id(&together, name)));
    assert!(together["notes"][0].as_str().unwrap().contains("a constant map"));
    assert!(stderr.contains("15 record(s) of another"), "{stderr}");
}

#[test]
fn masks_many_metrics_and_a_sheet() {
    let dir = tempfile::tempdir().unwrap();
    let masks = demo("masks");
    let metrics = "id,road,average_drop,infidelity,pointing_game,relevance_mass,randomisation,class_contrast,conservation";
    let more = ["--metrics", metrics, "--methods", "conserve,layer_cam", "--limit", "1"];
    let (table, stderr) = run(dir.path(), &[&more[..], &["--masks", &masks, "--grid", "g.png"]].concat());
    let columns = ["id", "road_lerf", "increase", "relevance_mass", "randomisation", "class_cosine"];
    assert!(columns.iter().all(|c| table.contains(c)), "{table}");
    // One picture has neither an error nor an interval.
    assert!(!["±", "+-", " to "].iter().any(|text| table.contains(text)), "{table}");
    assert!(stderr.contains("time per picture: conserve "), "{stderr}");
    let sheet = image::open(dir.path().join("g.png")).unwrap();
    assert!(sheet.width() > 6 * 64 && sheet.height() > 64);
}

#[test]
fn a_page_shows_methods_curves_and_maps_and_says_where_curves_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let common = ["--methods", "conserve,grad_cam", "--baseline", "grad_cam", "--report", "r.html"];
    let page = |more: &[&str]| {
        run(dir.path(), &[&common[..], more].concat());
        std::fs::read_to_string(dir.path().join("r.html")).unwrap()
    };
    let data = |page: &str| -> Value {
        let (_, json) = page.split_once("id=\"data\">").unwrap();
        serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap()
    };
    let html = page(&["--limit", "10", "--grid-pictures", "2", "--controls", "1"]);
    let shown = data(&html);
    let methods = ["conserve", "grad_cam", "random", "constant", "centre"];
    assert_eq!(shown["methods"], serde_json::json!(methods));
    assert!(html.contains("insertion minus grad_cam") && html.contains("--grid-pictures 2"), "{html}");
    let curves = |series: usize| html.matches(&format!("data-series=\"{series}\"")).count();
    assert!((0..5).all(|series| curves(series) == 2), "{html}");
    assert!(!html.contains("another --results file"), "{html}");
    // Of ten pictures, eight are at the ends of a column; each has its map.
    let ends = &shown["extremes"][0][0];
    for end in ["best", "worst"] {
        let list = ends[end].as_array().unwrap();
        assert_eq!(list.len(), 4);
        for example in list {
            let picture = &shown["shown"][example["shown"].as_u64().unwrap() as usize];
            assert_eq!((&picture["name"], &picture["maps"][0]["width"]), (&example["picture"], &64.into()));
        }
    }
    // Controls ran on one picture, and stand beside the others in the table of maps.
    assert_eq!(shown["extremes"][2][0]["best"].as_array().unwrap().len(), 1);
    assert!(shown["shown"][1]["maps"][2].is_object() && shown["shown"].as_array().unwrap().len() <= 10);
    assert!(html.len() < 2_000_000, "{}", html.len());
    // A file that knows no curves is read on, and the page says so.
    let results = dir.path().join("relc-eval.jsonl");
    let text = std::fs::read_to_string(&results).unwrap();
    let old: String = text.lines().map(without_curves).collect();
    std::fs::write(&results, &old).unwrap();
    let html = page(&["--limit", "10", "--controls", "1"]);
    assert!(html.contains("another --results file") && !html.contains("<path class=\"line"), "{html}");
    assert_eq!(std::fs::read_to_string(&results).unwrap(), old);
}

/// A line of results as it was before records had curves.
fn without_curves(line: &str) -> String {
    let (values, rest) = line.split_once(",\"curves\":").unwrap();
    assert!(rest.contains("\"check\":"));
    format!(
        "{values},\"check\":\"{:016x}\"}}\n",
        xxhash_rust::xxh3::xxh3_64(format!("{values}}}").as_bytes())
    )
}

#[test]
fn wrong_requests_say_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    check_fails(dir.path(), &["--methods", "grad_cma"], 2, "did you mean \"grad_cam\"?");
    check_fails(dir.path(), &["--metrics", "inserton"], 2, "did you mean \"insertion\"?");
    check_fails(dir.path(), &["--metrics", "pointing_game"], 2, "needs masks");
    check_fails(dir.path(), &["--class", "label"], 2, "without a label");
    check_fails(dir.path(), &["--report", "no/such/folder.html"], 1, "no/such/folder.html");
    check_fails(dir.path(), &["--grid-pictures", "2"], 2, "--report <FILE.html>");
    std::fs::write(dir.path().join("photo.jpg"), b"\xff\xd8 no results").unwrap();
    check_fails(dir.path(), &["--limit", "1", "--results", "photo.jpg"], 1, "give another file");
}

#[test]
fn a_search_that_is_killed_finds_the_same_preset() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tune = |folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relc"));
        command.current_dir(folder).args(["tune", &demo("model.onnx"), &demo("images"), "--limit", "4"]);
        command.args(["--preprocess", &demo("preprocess.toml"), "--step", "1024", "--budget", "5"]);
        command
    };
    let (found, _) = check_ok(&tune(whole.path()).output().unwrap());
    assert!(found.contains("the best of 5 presets") && found.contains("minus grad_cam"), "{found}");
    let results = killed.path().join("relc-eval.jsonl");
    let mut child = tune(killed.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while lines(&results) < 3 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(check_ok(&tune(killed.path()).output().unwrap()).0, found);
    let written = |folder: &Path| std::fs::read_to_string(folder.join("tuned.toml")).unwrap();
    assert_eq!(written(killed.path()), written(whole.path()));
    // The winner is a preset like any other.
    let (table, _) = run(whole.path(), &["--methods", "tuned.toml", "--limit", "1"]);
    assert!(table.contains("tuned.toml"), "{table}");
}
