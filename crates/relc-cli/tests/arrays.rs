//! Signals, volumes and tables: what the command reads of them and what it draws.

mod support;

use std::fs;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use relc::files::NpyFile;
use relc::volume::Volume;
use serde_json::Value;

use support::{check_fails, check_ok, folder, names, path, relc, repository};

/// The report of an example, whose files are written to `out`.
fn explain(example: &str, file: &str, out: &str) -> Value {
    let [model, labels] =
        ["model.onnx", "labels.txt"].map(|name| repository(&format!("examples/{example}/{name}")));
    let args = ["explain", &model, file, "--labels", &labels, "--out", out, "--json", "-"];
    serde_json::from_str(&check_ok(&relc(&args))).unwrap()
}

fn read(path: &Path) -> ArrayD<f32> {
    NpyFile::open(path).unwrap().read().unwrap()
}

/// The share of a map's positive relevance that lies within bounds along its axes.
fn within(map: &ArrayD<f32>, bounds: &[[usize; 2]]) -> f32 {
    let total: f32 = map.iter().map(|v| v.max(0.0)).sum();
    let inside = map.indexed_iter().filter(|(at, _)| {
        bounds.iter().enumerate().all(|(axis, [first, last])| (*first..=*last).contains(&at[axis]))
    });
    inside.map(|(_, v)| v.max(0.0)).sum::<f32>() / total
}

#[test]
fn a_signal_is_explained_from_csv_and_drawn() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let report = explain("signal", &repository("examples/signal/wide.csv"), &out_text);
    let explanation = &report["results"][0]["explanations"][0];
    assert_eq!(explanation["target"]["label"], "wide");
    assert!(explanation["picture"]["high"].as_f64().unwrap() > 0.0);
    let wide = out.join("wide");
    let files = ["map.npy", "plot.png", "plot.svg", "relevance.csv", "relevance.npy", "report.json"];
    assert_eq!(names(&wide), files);
    // The wide beat is at the positions 157 to 201.
    let (map, relevance) = (read(&wide.join("map.npy")), read(&wide.join("relevance.npy")));
    assert_eq!((map.shape(), relevance.shape()), (&[360][..], &[3, 360][..]));
    let share = within(&map, &[[145, 213]]);
    assert!(share > 0.8, "{share} of the relevance lies at the wide beat");
    assert!((&map - &relevance.sum_axis(Axis(0))).iter().all(|v| v.abs() < 1e-6));
    let csv = fs::read_to_string(wide.join("relevance.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("I,II,V5"));
    let first: Vec<f32> = lines.next().unwrap().split(',').map(|cell| cell.parse().unwrap()).collect();
    assert_eq!(first, [0, 1, 2].map(|channel| relevance[[channel, 0]]));
    assert_eq!(lines.count(), 359);
    assert!(fs::read_to_string(wide.join("plot.svg")).unwrap().contains("V5"));
}

#[test]
fn a_volume_is_explained_from_nifti_and_laid_over_it() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let scan = repository("examples/volume/ball.nii.gz");
    let report = explain("volume", &scan, &out_text);
    assert_eq!(report["results"][0]["explanations"][0]["target"]["label"], "ball");
    let ball = out.join("ball");
    assert_eq!(names(&ball), ["map.nii", "map.npy", "report.json", "slices.png"]);
    let map = read(&ball.join("map.npy"));
    assert_eq!(map.shape(), [16, 24, 28]);
    // The ball's centre is at 8.0, 7.3, 5.2, its radius at most 5.
    let share = within(&map, &[[2, 14], [1, 13], [0, 11]]);
    assert!(share > 0.6, "{share} of the relevance lies about the ball");
    let laid = Volume::read(&ball.join("map.nii"), |_| Ok(())).unwrap();
    assert_eq!(laid.values, map);
    // An array of the same voxels gives the same map, but for a file that lies in the world.
    let (npy, npy_text) = path(&dir, "ball.npy");
    let voxels = Volume::read(scan.as_ref(), |_| Ok(())).unwrap().values.insert_axis(Axis(0));
    relc::files::write_npy_f32(&npy, voxels.view()).unwrap();
    let (plain, plain_text) = path(&dir, "plain");
    explain("volume", &npy_text, &plain_text);
    assert_eq!(names(&plain.join("ball")), ["map.npy", "report.json", "slices.png"]);
    assert_eq!(read(&plain.join("ball/map.npy")), map);
}

#[test]
fn arrays_are_normalised_if_the_preprocessing_says_so() {
    let dir = folder();
    let columns = relc::columns::Columns::read(repository("examples/signal/wide.csv").as_ref()).unwrap();
    let rows = columns.values.rows();
    let text: String = rows
        .into_iter()
        .map(|r| format!("{},{},{}\n", 4.0 * r[0], 4.0 * r[1] + 1.0, 4.0 * r[2] + 2.0))
        .collect();
    let (csv, csv_text) = path(&dir, "raw.csv");
    fs::write(&csv, text).unwrap();
    let (toml, toml_text) = path(&dir, "own.toml");
    let model = repository("examples/signal/model.onnx");
    let run = |input: &str, preprocess: &str, out: &str| {
        fs::write(&toml, preprocess).unwrap();
        relc(&["explain", &model, input, "--preprocess", &toml_text, "--out", out])
    };
    let map = |output: std::process::Output, out: &Path, stem: &str| {
        let said = check_ok(&output);
        (read(&out.join(stem).join("map.npy")), said)
    };
    let (out, out_text) = path(&dir, "out");
    // Quarters are exact, and so are values of four decimals but for the last bit.
    let own = "arrays = true\nmean = [0.0, 1.0, 2.0]\nstd = [4.0]\n";
    let (normalised, said) = map(run(&csv_text, own, &out_text), &out, "raw");
    assert!(said.contains("own.toml: values, mean [0, 1, 2], std [4]"), "{said}");
    let idle = run(&repository("examples/signal/wide.csv"), "mean = [7.0]\n", &out_text);
    assert!(
        support::stderr(&idle).contains("does nothing: no input is a picture"),
        "{}",
        support::stderr(&idle)
    );
    let (plain, _) = map(idle, &out, "wide");
    let most = plain.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!((&normalised - &plain).iter().all(|v| v.abs() < 1e-3 * most));
    let two = run(&csv_text, "arrays = true\nmean = [0.0, 1.0]\n", &out_text);
    check_fails(
        &two,
        1,
        &["raw.csv: the preprocessing has 2 values of mean and std", "takes 3 channels; expected 1 or 3"],
    );
}

#[test]
fn what_fits_no_model_is_a_sentence_and_writes_nothing() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let check = |example: &str, name: &str, content: &[u8], says: &[&str]| {
        let (file, text) = path(&dir, name);
        fs::write(&file, content).unwrap();
        let model = repository(&format!("examples/{example}/model.onnx"));
        check_fails(&relc(&["explain", &model, &text, "--out", &out_text]), 1, says);
        assert!(!out.exists(), "{name} left something");
    };
    check("signal", "short.csv", b"I,II,V5\n1,2,3\n", &["got 3 columns of 1 rows", "f32[N,3,360]"]);
    check("signal", "text.csv", b"I,II,V5\n1,2,abc\n", &["line 2: got \"abc\" in column \"V5\""]);
    check("signal", "gap.csv", b"1,2,3\n1,,3\n", &["line 2: the cell of column 2 is empty"]);
    check("signal", "ragged.csv", b"1,2,3\n1,2\n", &["line 2: got 2 cells, expected 3"]);
    check("signal", "scan.nii", &[0; 400], &["is no volume; give what it takes"]);
    check("volume", "x.csv", b"1,2\n", &["is no signal and no table"]);
    let scan = fs::read(repository("examples/volume/ball.nii.gz")).unwrap();
    check("volume", "cut.nii.gz", &scan[..scan.len() / 2], &["cut.nii.gz: got no NIfTI-1 file"]);
    check("volume", "plain.nii", &scan, &["plain.nii: got no NIfTI-1 file"]);
    let mut header = vec![0; 400];
    header[..4].copy_from_slice(&348i32.to_le_bytes());
    header[40..48].copy_from_slice(&[3, 0, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f]);
    header[70..72].copy_from_slice(&16i16.to_le_bytes());
    header[344..348].copy_from_slice(b"n+1\0");
    check(
        "volume",
        "huge.nii",
        &header,
        &["the header says [32767, 32767, 32767] voxels", "f32[N,1,16,24,28]"],
    );
}
