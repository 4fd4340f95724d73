//! Videos: folders of frames and animations for models of three spatial axes.

mod support;

use std::fs;
use std::path::Path;

use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use relc::files::NpyFile;
use serde_json::{Value, json};

use support::{check_fails, check_ok, command, folder, names, path, relc, repository};

fn example(name: &str) -> String {
    repository("examples/volume/") + name
}

/// The report of some videos, whose files are written to `out`.
fn explain(inputs: &[&str], out: &str) -> Value {
    let [model, labels, preprocess] = ["model.onnx", "labels.txt", "frames.toml"].map(example);
    let options = ["--labels", &labels, "--preprocess", &preprocess, "--out", out, "--json", "-"];
    let args = [&["explain", &model][..], inputs, &options].concat();
    serde_json::from_str(&check_ok(&relc(&args))).unwrap()
}

fn frames(gif: &Path) -> Vec<image::RgbaImage> {
    let decoder = GifDecoder::new(std::io::BufReader::new(fs::File::open(gif).unwrap())).unwrap();
    decoder.into_frames().map(|frame| frame.unwrap().into_buffer()).collect()
}

fn map(folder: &Path) -> ndarray::ArrayD<f32> {
    NpyFile::open(&folder.join("map.npy")).unwrap().read().unwrap()
}

/// Writes the example's frames as pictures, whose names have no leading zeros.
fn write_frames(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (i, frame) in frames(example("ball.gif").as_ref()).into_iter().enumerate() {
        frame.save(folder.join(format!("frame{i}.png"))).unwrap();
    }
}

#[test]
fn an_animation_is_explained_frame_by_frame_in_one_scale() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let report = explain(&[&example("ball.gif")], &out_text);
    let result = &report["results"][0];
    let explanation = &result["explanations"][0];
    assert_eq!(explanation["target"]["label"], "ball");
    let even: Vec<usize> = (0..31).step_by(2).collect();
    assert_eq!(result["frames"], json!({ "held": 31, "chosen": even }));
    assert!(explanation["picture"]["high"].as_f64().unwrap() > 0.0);
    assert!(report["run"]["preprocess"]["description"].as_str().unwrap().starts_with("as it is, 24 x 28"));
    let ball = out.join("ball");
    assert_eq!(names(&ball), ["map.npy", "overlay.gif", "report.json", "sheet.png"]);
    let overlays = frames(&ball.join("overlay.gif"));
    assert_eq!((overlays.len(), overlays[0].dimensions()), (16, (28 * 11, 24 * 11)));
    // Red lies on the ball, which is about frame 8, and hardly in the first frame.
    let red = |frame: usize| overlays[frame].pixels().filter(|p| p.0[0] > p.0[2].saturating_add(90)).count();
    assert!(red(8) > 1000 && red(0) < 100, "{} {}", red(8), red(0));
    let sheet = image::load_from_memory(&fs::read(ball.join("sheet.png")).unwrap()).unwrap();
    assert!(sheet.width() > 4 * 28 * 11 && sheet.height() > 4 * 24 * 11);
    // The frames are the volume's slices to 1 in 60.
    let (scan, scan_text) = path(&dir, "scan");
    check_ok(&relc(&["explain", &example("model.onnx"), &example("ball.nii.gz"), "--out", &scan_text]));
    let (of_frames, of_scan) = (map(&ball), map(&scan.join("ball")));
    assert_eq!(of_frames.shape(), [16, 24, 28]);
    let flat = |map: &ndarray::ArrayD<f32>| map.iter().copied().collect::<Vec<f32>>();
    assert!(relc::map::cosine(&flat(&of_frames), &flat(&of_scan)) > 0.99);
}

#[test]
fn a_folder_of_pictures_is_one_video_and_one_of_folders_is_several() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let (clips, clips_text) = path(&dir, "clips");
    write_frames(&clips.join("a.1"));
    fs::copy(example("ball.gif"), clips.join("b.gif")).unwrap();
    let report = explain(&[&clips_text], &out_text);
    assert_eq!(report["results"].as_array().unwrap().len(), 2);
    assert_eq!(names(&out), ["a.1", "b"]);
    assert_eq!(map(&out.join("a.1")), map(&out.join("b")));
    let bytes: u64 =
        fs::read_dir(clips.join("a.1")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(report["results"][0]["file"]["bytes"], bytes);
}

#[test]
fn broken_videos_are_one_error_and_leave_nothing() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let preprocess = example("frames.toml");
    let check = |input: &str, says: &[&str]| {
        let output = relc(&[
            "explain",
            &example("model.onnx"),
            input,
            "--preprocess",
            &preprocess,
            "--out",
            &out_text,
        ]);
        check_fails(&output, 1, says);
        assert!(!out.exists(), "{input} left something");
    };
    let gif = fs::read(example("ball.gif")).unwrap();
    let (file, text) = path(&dir, "v.gif");
    let check_bytes = |bytes: &[u8], says: &[&str]| {
        fs::write(&file, bytes).unwrap();
        check(&text, &[&["v.gif"], says].concat());
    };
    check_bytes(&gif[..gif.len() / 2], &[]);
    check_bytes(&gif[..8], &[]);
    let mut screen = gif.clone();
    screen[6..10].copy_from_slice(&[0xff; 4]);
    check_bytes(&screen, &["can't read the picture", "limit"]);
    let (own, own_text) = path(&dir, "frames");
    write_frames(&own);
    fs::write(own.join("frame16.png"), &gif[..40]).unwrap();
    check(&own_text, &["frame16.png"]);
    image::RgbImage::new(9, 24).save(own.join("frame16.png")).unwrap();
    check(&own_text, &["frame16.png: got 9 x 24 pixels, expected 28 x 24 as in", "frame0.png"]);
    for i in 10..31 {
        fs::remove_file(own.join(format!("frame{i}.png"))).unwrap();
    }
    check(&own_text, &["got 10 frame(s), expected at least 16", "f32[N,1,16,24,28]"]);
    let (_, empty) = path(&dir, "empty");
    fs::create_dir(&empty).unwrap();
    check(&empty, &["got a folder without frames"]);
    let signal = repository("examples/signal/model.onnx");
    check_fails(
        &command(&["explain", &signal, &example("ball.gif")]).output().unwrap(),
        1,
        &["is no picture"],
    );
}
