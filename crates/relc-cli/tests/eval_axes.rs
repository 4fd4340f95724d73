//! `relc eval` on networks over one and three spatial axes.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use relc::files::write_npy_f32;

use support::{check_fails, check_ok, command, folder, path, repository, stderr};

/// Where the odd part of an example lies: positions of its map.
fn write_mask(path: &Path, shape: &[usize], inside: impl Fn(&[usize]) -> bool) {
    let mask = ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let at: Vec<usize> = (0..shape.len()).map(|axis| at[axis]).collect();
        f32::from(u8::from(inside(&at)))
    });
    write_npy_f32(path, mask.view()).unwrap();
}

/// The means of a run's table, by method and column.
fn means(dir: &Path, model: &str, dataset: &str, more: &[&str]) -> HashMap<(String, String), f64> {
    let args = ["eval", model, dataset, "--csv", "table.csv"];
    check_ok(&command(&[&args[..], more].concat()).current_dir(dir).output().unwrap());
    let text = fs::read_to_string(dir.join("table.csv")).unwrap();
    let cell = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        Some(((fields[0].to_string(), fields[1].to_string()), fields[3].parse().ok()?))
    };
    text.lines().skip(1).filter_map(cell).collect()
}

/// A data set of one input and its mask; every metric has a value, and relevance is better than chance.
#[track_caller]
fn check_every_metric(dir: &Path, example: &str, file: &str, label: usize) {
    let model = repository(&format!("examples/{example}/model.onnx"));
    let input = repository(&format!("examples/{example}/{file}"));
    fs::write(dir.join("set.csv"), format!("{input},{label},mask.npy\n")).unwrap();
    let run = |more: &[&str]| {
        let common = ["--methods", "two_level,rise:8", "--class", "label", "--orders", "1"];
        means(dir, &model, "set.csv", &[&common[..], more].concat())
    };
    let found = run(&["--metrics", "all", "--base", "mean"]);
    let of = |found: &HashMap<(String, String), f64>, method: &str, column: &str| {
        let value = found.get(&(method.to_string(), column.to_string()));
        *value.unwrap_or_else(|| panic!("{method} has no {column}"))
    };
    for column in COLUMNS {
        of(&found, "two_level", column);
    }
    for column in ["relevance_mass", "relevance_rank"] {
        assert!(of(&found, "two_level", column) > 2.0 * of(&found, "random", column), "{column}: {found:?}");
    }
    assert!(of(&found, "two_level", "conservation_error") < 1e-4);
    let black = run(&["--metrics", "id"]);
    for found in [found, black] {
        assert!(of(&found, "two_level", "id") > of(&found, "random", "id") + 0.05, "{found:?}");
    }
    // A blurred ball is a ball: that the base is another is all that can be asked for.
    let blur = run(&["--metrics", "deletion", "--base", "blur"]);
    assert!((0.0..=1.0).contains(&of(&blur, "two_level", "deletion")));
}

/// The columns that every metric has.
const COLUMNS: [&str; 14] = [
    "id",
    "road",
    "average_drop",
    "aopc",
    "sensitivity_n",
    "infidelity",
    "max_sensitivity",
    "pointing_game",
    "relevance_mass",
    "relevance_rank",
    "sparseness",
    "complexity",
    "randomisation",
    "class_cosine",
];

#[test]
fn signals_are_measured_by_every_metric() {
    let dir = folder();
    write_mask(&dir.path().join("mask.npy"), &[360], |at| (157..=201).contains(&at[0]));
    check_every_metric(dir.path(), "signal", "wide.csv", 1);
}

#[test]
fn volumes_are_measured_by_every_metric() {
    let dir = folder();
    let centre = [8.0, 7.3, 5.2];
    write_mask(&dir.path().join("mask.npy"), &[16, 24, 28], |at| {
        at.iter().zip(centre).map(|(a, c)| (*a as f64 - c).powi(2)).sum::<f64>() < 25.0
    });
    check_every_metric(dir.path(), "volume", "ball.nii.gz", 1);
}

#[test]
fn folders_of_signals_and_videos_are_data_sets() {
    let dir = folder();
    for name in ["regular", "wide", "pause"] {
        let class = dir
            .path()
            .join("set")
            .join(["regular", "wide", "pause"].iter().position(|n| *n == name).unwrap().to_string());
        fs::create_dir_all(&class).unwrap();
        fs::copy(repository(&format!("examples/signal/{name}.csv")), class.join(format!("{name}.csv")))
            .unwrap();
    }
    let model = repository("examples/signal/model.onnx");
    let more = ["--methods", "two_level", "--metrics", "id", "--class", "label"];
    let found = means(dir.path(), &model, "set", &more);
    assert!(found.contains_key(&("two_level".to_string(), "id".to_string())), "{found:?}");

    let (_, gifs) = path(&dir, "gifs");
    fs::create_dir(&gifs).unwrap();
    fs::copy(repository("examples/volume/ball.gif"), format!("{gifs}/ball.gif")).unwrap();
    let volumes = repository("examples/volume/model.onnx");
    let frames = repository("examples/volume/frames.toml");
    let found = means(
        dir.path(),
        &volumes,
        &gifs,
        &["--methods", "two_level", "--metrics", "id", "--base", "mean", "--preprocess", &frames],
    );
    assert!(found[&("two_level".to_string(), "id".to_string())] > 0.05, "{found:?}");
}

#[test]
fn a_page_of_signals_or_volumes_shows_their_maps_alone() {
    let dir = folder();
    let page = |example: &str, files: &[&str], size: [u64; 2]| {
        let paths = files.iter().map(|file| repository(&format!("examples/{example}/{file}")) + ",\n");
        fs::write(dir.path().join("set.csv"), paths.collect::<String>()).unwrap();
        let model = repository(&format!("examples/{example}/model.onnx"));
        let more = ["--methods", "two_level", "--base", "mean", "--orders", "1", "--report", "page.html"];
        means(dir.path(), &model, "set.csv", &more);
        let html = fs::read_to_string(dir.path().join("page.html")).unwrap();
        let (_, json) = html.split_once("id=\"data\">").unwrap();
        let data: serde_json::Value = serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap();
        let (shown, map) = (&data["shown"][0], &data["shown"][0]["maps"][0]);
        assert!(shown["picture"].is_null() && !html.contains("<img"), "{example}");
        assert_eq!(
            (map["height"].as_u64(), map["width"].as_u64()),
            (Some(size[0]), Some(size[1])),
            "{example}"
        );
    };
    page("signal", &["wide.csv", "regular.csv"], [1, 360]);
    page("volume", &["ball.nii.gz"], [4 * 24, 4 * 28]);
}

#[test]
fn what_has_no_meaning_for_an_input_is_said_first() {
    let dir = folder();
    let signal = repository("examples/signal/model.onnx");
    let set = repository("examples/signal");
    let run = |more: &[&str]| {
        command(&[&["eval", &signal, &set][..], more].concat()).current_dir(dir.path()).output().unwrap()
    };
    check_fails(&run(&["--grid", "sheet.png"]), 2, &["--grid: a sheet shows pictures"]);
    check_fails(&run(&["--metrics", "pointing_game"]), 2, &["pointing_game needs masks"]);
    let wrong = command(&["eval", &signal, "none"]).current_dir(dir.path()).output().unwrap();
    assert!(stderr(&wrong).contains("none: there is no such data set"), "{}", stderr(&wrong));
    let volume = repository("examples/volume/model.onnx");
    let other = command(&["eval", &volume, &set]).current_dir(dir.path()).output().unwrap();
    check_fails(&other, 1, &["is no signal and no table"]);
}
