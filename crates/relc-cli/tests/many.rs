//! Many inputs: what is read ahead and written behind comes out in the order of the inputs, however they are batched.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;

use support::{command, demo, names, repository};

/// Pictures of a folder `in`, the sixth of which is broken; every third has the second size.
fn write_pictures(folder: &Path, count: u32, sizes: [(u32, u32); 2]) {
    fs::create_dir(folder.join("in")).unwrap();
    for i in 0..count {
        let (width, height) = sizes[usize::from(i % 3 == 2)];
        let shade = |x: u32, y: u32, k: u32| ((x * k + y * i) % 256) as u8;
        let picture = RgbImage::from_fn(width, height, |x, y| Rgb([1, 3, 7].map(|k| shade(x, y, k))));
        picture.save(folder.join(format!("in/{i:02}.png"))).unwrap();
    }
    fs::write(folder.join("in/05.png"), b"no picture").unwrap();
}

/// What a run says and writes: exit code, streams, and each file under `out`; of reports all but how they were asked for.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    files: BTreeMap<String, Vec<u8>>,
}

fn explain(folder: &Path, model: &[&str], more: &[&str]) -> Said {
    let _ = fs::remove_dir_all(folder.join("out"));
    fs::create_dir(folder.join("out")).unwrap();
    let args =
        [&["explain"], model, &["in", "--out", "out/folders", "--json", "out/all.json"], more].concat();
    let output = command(&args).current_dir(folder).output().unwrap();
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.join("out")];
    while let Some(next) = folders.pop() {
        for path in names(&next).iter().map(|name| next.join(name)) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|ending| ending == "json") {
                let mut report: Value = serde_json::from_slice(&bytes).unwrap();
                let run = report["run"].as_object_mut().unwrap();
                assert!(run.remove("command").is_some() && run.remove("threads").is_some());
                bytes = report.to_string().into_bytes();
            }
            files.insert(path.strip_prefix(folder).unwrap().display().to_string(), bytes);
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr), files }
}

/// Holds that a run says and writes the same however inputs are batched; gives what it said.
#[track_caller]
fn check(folder: &Path, model: &[&str], code: i32) -> Said {
    let one = explain(folder, model, &["--batch", "1", "--threads", "1"]);
    assert_eq!(one.code, Some(code), "{}", one.stderr);
    for more in [&["--batch", "1"][..], &["--batch", "3"], &["--batch", "4"], &["--batch", "64"]] {
        let several = explain(folder, model, more);
        assert!(several.files.keys().eq(one.files.keys()), "{more:?}: {:?}", several.files.keys());
        for (name, bytes) in &one.files {
            assert!(several.files.get(name) == Some(bytes), "{more:?}: {name}");
        }
        assert_eq!((&several.stdout, several.code), (&one.stdout, one.code), "{more:?}");
        // A picture that can't be read is told before the batch that it would have been in.
        assert_eq!(sorted(&several.stderr), sorted(&one.stderr), "{more:?}");
    }
    one
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// The pictures that are told of, in their order.
fn order(stdout: &str) -> Vec<&str> {
    stdout
        .lines()
        .filter_map(|line| line.strip_prefix("in/")?.split_once(".png -> "))
        .map(|(n, _)| n)
        .collect()
}

#[test]
fn a_broken_picture_among_many_is_left_out_and_the_others_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), 11, [(64, 64), (90, 70)]);
    let (model, preprocess) = (demo("model.onnx"), demo("preprocess.toml"));
    let said = check(folder.path(), &[&model, "--preprocess", &preprocess, "--map-npy", "out/maps.npy"], 1);
    assert_eq!(order(&said.stdout), ["00", "01", "02", "03", "04", "06", "07", "08", "09", "10"]);
    assert!(said.stderr.contains("1 of 11 inputs could not be explained"), "{}", said.stderr);
    // Ten folders of five files, the report and the maps.
    assert_eq!(said.files.len(), 52, "{:?}", said.files.keys());
}

#[test]
fn pictures_of_several_sizes_come_in_their_order_too() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), 9, [(32, 40), (33, 32)]);
    let model = repository("tests/zoo/basic.ts-dynamic.onnx");
    let said = check(folder.path(), &[&model, "--preprocess", "none", "--target", "1"], 1);
    assert_eq!(order(&said.stdout), ["00", "01", "02", "03", "04", "06", "07", "08"]);
    // Maps of several sizes are no array, and the run ends where the second comes.
    let maps = ["--preprocess", "none", "--map-npy", "out/maps.npy"];
    let said = explain(folder.path(), &[&model], &maps);
    assert!(said.stderr.contains("maps.npy") && !said.stderr.contains("panicked"), "{}", said.stderr);
    assert_eq!((said.code, order(&said.stdout)), (Some(1), vec!["00", "01"]));
}

/// Under `--strict` a failure ends the run: all that comes before it is there, what was read ahead is not.
#[test]
fn a_strict_run_ends_at_the_first_failure() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), 11, [(64, 64), (90, 70)]);
    let (model, preprocess) = (demo("model.onnx"), demo("preprocess.toml"));
    for batch in ["1", "4"] {
        let more = ["--preprocess", &preprocess, "--strict", "--batch", batch];
        let said = explain(folder.path(), &[&model], &more);
        assert_eq!(said.code, Some(1));
        assert_eq!(order(&said.stdout), ["00", "01", "02", "03", "04"]);
        assert_eq!(names(&folder.path().join("out")), ["folders"]);
        assert_eq!(names(&folder.path().join("out/folders")).len(), 5);
        assert!(said.stderr.contains("in/05.png") && !said.stderr.contains("panicked"), "{}", said.stderr);
    }
}

/// A folder of a result that can't be made: the run ends there, with what came before it, and does not hang.
#[test]
fn a_run_ends_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), 11, [(64, 64), (90, 70)]);
    let (model, preprocess) = (demo("model.onnx"), demo("preprocess.toml"));
    for batch in ["1", "4"] {
        let out = folder.path().join(batch);
        fs::create_dir(&out).unwrap();
        fs::write(out.join("03"), b"no folder").unwrap();
        let args = ["explain", &model, "in", "--preprocess", &preprocess, "--batch", batch, "--out", batch];
        let output = command(&args).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("can't make the folder") && stderr.contains("03"), "{stderr}");
        assert_eq!(order(&String::from_utf8_lossy(&output.stdout)), ["00", "01", "02"]);
    }
}
