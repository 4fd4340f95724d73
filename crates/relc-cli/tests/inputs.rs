//! What the command reads: broken, hostile and odd files.

mod support;

use std::fs;

use ndarray::Array4;
use relc::files::write_npy_f32;
use serde_json::Value;

use support::{check_fails, check_ok, demo, explain, folder, names, path, pictures, relc};

fn report(args: &[&str], inputs: &[&str]) -> Value {
    serde_json::from_str(&check_ok(&explain(inputs, &[args, &["--json", "-"]].concat()))).unwrap()
}

#[test]
fn one_broken_picture_leaves_the_others() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let (json, json_text) = path(&dir, "r.json");
    let (_, map) = path(&dir, "maps.npy");
    let (broken, broken_text) = path(&dir, "broken.png");
    let whole = fs::read(&pictures()[0]).unwrap();
    fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let mut inputs: Vec<String> = pictures().into_iter().take(5).collect();
    inputs.insert(2, broken_text.clone());
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let more = ["--out", &out_text, "--json", &json_text, "--map-npy", &map, "--target", "0"];
    let says = [&broken_text[..], "can't read the picture", "1 of 6 inputs could not be explained"];
    check_fails(&explain(&inputs, &more), 1, &says);
    assert_eq!(names(&out).len(), 5);
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["results"].as_array().unwrap().len(), 5);
    assert!(report["results"][2]["folder"].as_str().unwrap().ends_with("02_triangle"));
    assert_eq!(report["failures"].as_array().unwrap().len(), 1);
    assert_eq!(report["failures"][0]["input"], broken_text.as_str());
    // The maps keep their places: NaN where there is none.
    let maps = relc::files::NpyFile::open(map.as_ref()).unwrap();
    assert_eq!(maps.shape()[0], 6);
    assert!(maps.row(1).is_ok() && maps.row(3).is_ok());
    assert!(maps.row(2).unwrap_err().to_string().contains("NaN"));

    let (strict, strict_text) = path(&dir, "strict");
    let output = explain(&inputs, &["--out", &strict_text, "--strict", "--batch", "1"]);
    check_fails(&output, 1, &[&broken_text]);
    assert_eq!(names(&strict), ["00_disc", "01_square"]);
}

/// A sample whose values overflow is found among those of its batch.
#[test]
fn one_sample_that_overflows_leaves_the_others() {
    let dir = folder();
    let (x, x_text) = path(&dir, "x.npy");
    let input = Array4::from_shape_fn((3, 3, 64, 64), |(n, _, y, x)| {
        let value = ((y * x) as f32 * 0.37).sin();
        if n == 1 { value * 3e38 } else { value }
    });
    write_npy_f32(&x, input.view().into_dyn()).unwrap();
    let output = explain(&[&x_text], &["--json", "-"]);
    check_fails(&output, 1, &["x.npy[1]", "1 of 3 inputs"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let good: Vec<_> = report["results"].as_array().unwrap().iter().map(|r| r["input"].clone()).collect();
    assert_eq!(good, [format!("{x_text}[0]"), format!("{x_text}[2]")]);
}

#[test]
fn folders_stand_for_the_pictures_in_them_and_globs_for_what_matches() {
    let dir = folder();
    for (i, from) in pictures().iter().take(3).enumerate() {
        fs::copy(from, dir.path().join(format!("p{i}.png"))).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
    let folder_text = dir.path().to_string_lossy().into_owned();
    let output = explain(&[&folder_text], &["--json", "-"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("3 pictures"));
    let all: Value = serde_json::from_str(&check_ok(&output)).unwrap();
    let some = report(&[], &[&format!("{folder_text}/p[01].*"), &format!("{folder_text}/*2.png")]);
    let inputs = |r: &Value| -> Vec<String> {
        r["results"].as_array().unwrap().iter().map(|r| r["input"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(inputs(&all).len(), 3);
    assert_eq!(inputs(&all), inputs(&some));
    check_fails(&explain(&[&format!("{folder_text}/q*.png")], &[]), 1, &["no file matches"]);
    let empty = folder();
    check_fails(&explain(&[&empty.path().to_string_lossy()], &[]), 1, &["a folder without pictures"]);
}

#[test]
fn arrays_of_every_number_with_and_without_the_batch_are_one_input() {
    let dir = folder();
    let (x, x_text) = path(&dir, "x.npy");
    let logit = |header: &str, data: &[u8]| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        fs::write(&x, bytes).unwrap();
        report(&[], &[&x_text])["results"][0]["predictions"][0]["logit"].as_f64().unwrap()
    };
    let header = |descr: &str, order: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    };
    let values: Vec<u8> = (0..3 * 64 * 64u32).map(|i| (i * i % 5) as u8).collect();
    let wide =
        |convert: &dyn Fn(u8) -> Vec<u8>| -> Vec<u8> { values.iter().flat_map(|v| convert(*v)).collect() };
    let expected = logit(&header("|u1", "False", "(1, 3, 64, 64)"), &values);
    // What 0 to 4 are as float16.
    let halves = [0x0000u16, 0x3c00, 0x4000, 0x4200, 0x4400];
    let cases = [
        header("<f2", "False", "(3, 64, 64)"),
        header(">f4", "False", "(3, 64, 64)"),
        header(">i2", "False", "(1, 3, 64, 64)"),
    ];
    let data = [
        wide(&|v| halves[usize::from(v)].to_le_bytes().to_vec()),
        wide(&|v| f32::from(v).to_be_bytes().to_vec()),
        wide(&|v| i16::from(v).to_be_bytes().to_vec()),
    ];
    for (header, data) in cases.iter().zip(&data) {
        assert_eq!(logit(header, data), expected, "{header}");
    }
    let fortran: Vec<u8> =
        (0..values.len()).map(|i| values[(i % 3) * 4096 + (i / 3 % 64) * 64 + i / 192]).collect();
    assert_eq!(logit(&header("|u1", "True", "(3, 64, 64)"), &fortran), expected);
}

#[test]
fn labels_are_read_as_editors_save_them() {
    let dir = folder();
    let (file, text) = path(&dir, "labels.txt");
    let picture = pictures().remove(0);
    let labels = fs::read_to_string(demo("labels.txt")).unwrap();
    let windows = format!("\u{feff}{}\r\n\r\n", labels.trim().replace('\n', "\r\n"));
    fs::write(&file, windows).unwrap();
    let output = explain(&[&picture], &["--labels", &text, "--target", "disc,heart", "--json", "-"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("the labels are"), "{output:?}");
    let report: Value = serde_json::from_str(&check_ok(&output)).unwrap();
    assert_eq!(report["results"][0]["explanations"][1]["target"]["label"], "heart");

    fs::write(&file, "crane\nb\nc\nd\ncrane\nf\n3\nh\n").unwrap();
    check_fails(&explain(&[&picture], &["--labels", &text, "--target", "crane"]), 2, &["outputs 0 and 4"]);
    let index = explain(&[&picture], &["--labels", &text, "--target", "3", "--json", "-"]);
    assert!(String::from_utf8_lossy(&index.stderr).contains("label:3"));
    let report: Value = serde_json::from_str(&check_ok(&index)).unwrap();
    assert_eq!(report["results"][0]["explanations"][0]["target"]["index"], 3);
    let long = format!("{}\nb\n", "a".repeat(2000));
    fs::write(&file, long).unwrap();
    check_fails(&explain(&[&picture], &["--labels", &text]), 1, &["line 1", "2000 characters"]);
}

#[test]
fn files_that_are_too_large_are_refused_before_they_are_read() {
    let dir = folder();
    let picture = pictures().remove(0);
    let model = demo("model.onnx");
    // Holes: nothing on the disk.
    let sparse = |name: &str, bytes: u64| {
        let (file, text) = path(&dir, name);
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        text
    };
    let tera = 1 << 40;
    let labels = sparse("l.txt", 1 << 30);
    check_fails(&explain(&[&picture], &["--labels", &labels]), 1, &["expected at most 4194304"]);
    let preset = sparse("p.toml", tera);
    check_fails(&relc(&["check", &model, "--preset", &preset]), 1, &["expected at most 1048576"]);
    check_fails(&relc(&["explain", &model, &picture, "--preprocess", &preset]), 1, &["at most 1048576"]);
    check_fails(&explain(&[&sparse("p.png", tera)], &[]), 1, &["expected at most 268435456"]);
    check_fails(&explain(&[&sparse("x.npy", tera)], &[]), 1, &["is no .npy file"]);
    check_fails(&explain(&[&picture], &["--seed", &sparse("s.npy", tera)]), 1, &["is no .npy file"]);
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let dir = folder();
    let picture = pictures().remove(0);
    let model = demo("model.onnx");
    let pipe = |name: &str| {
        let (_, text) = path(&dir, name);
        let made = std::process::Command::new("mkfifo").arg(&text).status();
        assert!(made.unwrap().success());
        text
    };
    let (npy, toml, png, txt) = (pipe("x.npy"), pipe("p.toml"), pipe("p.png"), pipe("l.txt"));
    let says = ["got a named pipe, expected a regular file"];
    check_fails(&explain(&[&npy], &[]), 1, &says);
    check_fails(&explain(&[&png], &[]), 1, &says);
    check_fails(&explain(&[&picture], &["--labels", &txt]), 1, &says);
    check_fails(&explain(&[&picture], &["--seed", &npy]), 1, &says);
    check_fails(&relc(&["check", &model, "--preset", &toml]), 1, &says);
    check_fails(&relc(&["check", &model, "--hold", &format!("a={npy}")]), 1, &says);
    check_fails(&relc(&["explain", &model, &picture, "--preprocess", &toml]), 1, &says);
    check_fails(&explain(&[&picture], &["--labels", "/dev/zero"]), 1, &["got a device"]);
}

#[test]
fn huge_globs_are_refused() {
    let dir = folder();
    let (file, text) = path(&dir, "p.toml");
    let (stars, model) = ("*".repeat(100_000), demo("model.onnx"));
    let says = ["100000 characters, expected at most 4096"];
    fs::write(&file, format!("extends = \"conserve\"\n[[rule]]\nname = \"{stars}\"\nrule = \"pass\"\n"))
        .unwrap();
    check_fails(&relc(&["check", &model, "--preset", &text]), 1, &says);
    check_fails(&relc(&["check", &model, "--mask", &format!("{stars}=1")]), 2, &says);
    let (_, npz) = path(&dir, "t.npz");
    check_fails(&explain(&[&pictures().remove(0)], &["--tap", &stars, "--tap-npz", &npz]), 1, &says);
}
