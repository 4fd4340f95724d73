//! What the command writes and prints.

mod support;

use std::fs;
use std::io::Read;
use std::process::Stdio;

use support::{
    check_fails, check_ok, command, demo, explain, explaining, folder, names, path, pictures, relc,
};

#[test]
fn folders_are_distinct_and_inside_out_whatever_inputs_are_called() {
    let dir = folder();
    let (out, out_text) = path(&dir, "o");
    let picture = fs::read(&pictures()[0]).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let inputs: Vec<String> = ["...png", "..png", "a.png", "sub/a.png", "A.png", "nul.png"]
        .map(|name| {
            let (file, text) = path(&dir, name);
            fs::write(file, &picture).unwrap();
            text
        })
        .into();
    let before = names(dir.path());
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stdout = check_ok(&explain(&inputs, &["--out", &out_text]));
    let mut after = names(dir.path());
    after.retain(|name| name != "o");
    assert_eq!(after, before);
    let folders = names(&out);
    assert_eq!(folders.len(), inputs.len(), "{folders:?}");
    for (input, name) in [(inputs[2], "a"), (inputs[3], "a-2")] {
        let line = format!("{input} -> {}", out.join(name).display());
        assert!(stdout.lines().any(|l| l == line), "expected {line} in {stdout}");
    }
    for folder in folders {
        assert!(out.join(&folder).join("heat.png").is_file(), "{folder}");
    }
}

#[test]
fn files_of_an_earlier_run_are_taken_away_and_folders_named() {
    let dir = folder();
    let (out, out_text) = path(&dir, "o");
    let pictures = pictures();
    check_ok(&explain(&[&pictures[0], &pictures[1]], &["--out", &out_text, "--target", "top2"]));
    let own = out.join("00_disc").join("mine.txt");
    fs::write(&own, "kept").unwrap();
    let earlier = names(&out.join("00_disc"));
    let output = explain(&[&pictures[0]], &["--out", &out_text]);
    check_ok(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("holds 1 folder(s) of earlier runs: 01_square"), "{stderr}");
    let now = names(&out.join("00_disc"));
    assert!(earlier.iter().any(|name| name.starts_with("heat.") && name != "heat.png"), "{earlier:?}");
    assert!(now.iter().all(|name| name.matches('.').count() == 1), "{now:?}");
    assert!(own.is_file() && out.join("01_square").join("report.json").is_file());
}

/// What `head` leaves unread does not keep the files from being written.
#[test]
fn a_reader_that_goes_away_ends_the_printing_and_not_the_work() {
    let dir = folder();
    let (out, out_text) = path(&dir, "o");
    let pictures = pictures();
    let inputs: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let mut child = explaining(&inputs, &["--out", &out_text, "--batch", "1", "--ledger"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&out).len(), inputs.len());
    for folder in names(&out) {
        assert!(out.join(&folder).join("report.json").is_file(), "{folder}");
    }
}

/// A model, labels, a picture's name, a preset and an array that would clear the screen.
#[test]
fn control_characters_are_shown_and_never_sent() {
    let dir = folder();
    let (model, model_text) = path(&dir, "m.onnx");
    let mut bytes = fs::read(demo("model.onnx")).unwrap();
    for (from, to) in
        [(&b"logits"[..], &b"\x1b[2J\r\n"[..]), (b"/conv1/conv1.0/Conv", b"/conv1/\x1b[31m\nx/Conv")]
    {
        assert_eq!(from.len(), to.len());
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place..place + from.len()].copy_from_slice(to);
        }
    }
    fs::write(&model, bytes).unwrap();
    let (labels, labels_text) = path(&dir, "l.txt");
    fs::write(&labels, "di\x1b[31msc\nb\u{9b}\nc\u{202e}\nd\ne\nf\ng\n\x07h\n").unwrap();
    let (picture, picture_text) = path(&dir, "p\x1b]0;t\x07\n.png");
    fs::copy(&pictures()[0], picture).unwrap();
    let (preset, preset_text) = path(&dir, "p.toml");
    fs::write(&preset, "extends = \"conserve\"\nname = \"\\u001b[2J\"\nseed = \"\\u001b[2J\"\n").unwrap();
    let (npy, npy_text) = path(&dir, "x.npy");
    fs::write(&npy, b"\x93NUMPY\x01\x00\x10\x00{'descr': '\x1b[2J'").unwrap();
    let (missing, dot) = (dir.path().join("\x1b[2J.onnx"), ["dump", &model_text, "--format", "dot"]);
    let missing = missing.to_string_lossy();
    let preprocess = ["--preprocess", &demo("preprocess.toml")];
    let explained =
        ["explain", &model_text, &picture_text, "--labels", &labels_text, "--ledger", "--explain-rules"];
    for args in [
        &["check", &model_text][..],
        &[&explained[..], &preprocess].concat(),
        &["explain", &model_text, &picture_text, "--labels", &labels_text, "--target", "x"],
        &["check", &model_text, "--preset", &preset_text],
        &["explain", &model_text, &npy_text],
        &["check", &missing],
        &["dump", &model_text],
        &["dump", &model_text, "--after", "lower", "--remarks"],
        &["dump", &model_text, "--format", "html"],
        &dot,
    ] {
        let output = relc(args);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(acts), "{args:?}: {:?}", text.lines().find(|l| l.contains(acts)));
            assert!(!text.contains("panicked"), "{text}");
        }
    }
    let stdout = check_ok(&relc(&[&explained[..], &preprocess].concat()));
    assert!(stdout.contains("di\\u{1b}[31msc") && stdout.contains("\\n.png"), "{stdout}");
}

#[test]
fn tables_fit_the_terminal_and_the_locale() {
    let picture = pictures().remove(0);
    let ledger = |columns: &str, locale: &str| {
        let mut command = explaining(&[&picture], &["--ledger", "--preset", "paper"]);
        check_ok(&command.env("COLUMNS", columns).env("LC_ALL", locale).output().unwrap())
    };
    let wide = ledger("400", "en_US.UTF-8");
    assert!(wide.contains('│'), "{wide}");
    let plain = ledger("400", "C");
    assert!(plain.is_ascii() && plain.contains("| node "), "{plain}");
    let narrow = ledger("60", "C.UTF-8");
    for table_line in narrow.lines().filter(|line| line.contains('│')) {
        assert!(table_line.chars().count() <= 60, "{table_line}");
    }
    assert!(narrow.contains("\n  stabiliser: "), "{narrow}");
}

#[test]
fn the_log_is_relcs_own_and_without_colours_where_nobody_wants_them() {
    let model = demo("model.onnx");
    let log = |said: &str| {
        let output = command(&["dump", &model, "--after", "lower"]).env("RELC_LOG", said).output().unwrap();
        check_ok(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    let debug = log("debug");
    assert!(!debug.contains("cranelift") && !debug.contains('\x1b'), "{}", &debug[..debug.len().min(2000)]);
    assert!(debug.contains("DEBUG"), "{debug}");
    assert_eq!(log(""), "");
    assert!(log("relc_passes=loud").contains("which is no filter"));
}

/// Arrays that are written as samples come are whole at the end or not there.
#[test]
fn a_run_that_fails_leaves_no_part_of_an_array() {
    let dir = folder();
    let (_, relevance) = path(&dir, "r.npy");
    let (_, npz) = path(&dir, "t.npz");
    let (broken, broken_text) = path(&dir, "b.png");
    fs::write(&broken, "none").unwrap();
    let picture = pictures().remove(0);
    let more = ["--relevance-npy", &relevance, "--tap", "*", "--tap-npz", &npz, "--strict", "--batch", "1"];
    check_fails(&explain(&[&picture, &broken_text], &more), 1, &["b.png"]);
    assert_eq!(names(dir.path()), ["b.png"]);
    check_fails(&explain(&[&broken_text], &more[..6]), 1, &["b.png"]);
    assert_eq!(names(dir.path()), ["b.png"]);
}
