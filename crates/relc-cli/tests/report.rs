//! What reports say, and that docs/report.md says what it means.

mod support;

use std::collections::BTreeSet;

use relc::files::write_npy_f32;
use relc::report::FileReport;
use serde_json::Value;
use support::{check_ok, demo, explain, folder, path, picture, relc, repository, stderr};

/// A report for the picture of a disc.
fn report(more: &[&str]) -> Value {
    serde_json::from_str(&check_ok(&explain(&[&picture()], &[&["--json", "-"], more].concat()))).unwrap()
}

/// The paths of all values in a report: `results[].input`.
fn paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                paths(value, &path, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| paths(item, &format!("{path}[]"), into));
        }
        // An empty list says nothing of what would be in it.
        Value::Array(items) if items.is_empty() => {}
        _ => {
            into.insert(path.to_string());
        }
    }
}

/// The keys of docs/report.md, and whether each is there in every report.
fn documented() -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(repository("docs/report.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(key, meaning)| (key.to_string(), !meaning.trim_start().starts_with("Only"))).collect()
}

#[test]
fn every_key_of_a_report_is_documented_and_every_key_of_the_document_is_reported() {
    let dir = folder();
    let (seed, seed_text) = path(&dir, "seed.npy");
    write_npy_f32(&seed, ndarray::ArrayD::from_elem(vec![8], -0.5).view()).unwrap();
    let (_, out) = path(&dir, "out");
    let two = path(&dir, "two.txt");
    std::fs::write(&two.0, "one\ntwo\n").unwrap();
    let reports = [
        report(&["--out", &out, "--labels", &demo("labels.txt"), "--heat-quantization=4"]),
        report(&[
            "--preset",
            "paper",
            "--explain-rules",
            "--mask",
            "/layer1/layer1.0/Add=0,1,2,3",
            "--seed",
            &seed_text,
        ]),
        report(&["--preset", "epsilon_plus", "--labels", &two.1]),
        report(&["--method", "integrated_gradients", "--samples", "2"]),
        report(&["--method", "smoothgrad", "--samples", "2", "--rng-seed", "7"]),
        report(&["--method", "rise", "--samples", "2"]),
        report(&["--method", "grad_cam"]),
        report(&["--method", "random"]),
    ];
    let known = documented();
    let mut all = BTreeSet::new();
    for report in &reports {
        let mut there = BTreeSet::new();
        paths(report, "", &mut there);
        for key in &there {
            assert!(known.iter().any(|(k, _)| k == key), "docs/report.md lacks `{key}`");
        }
        all.extend(there);
    }
    for (key, always) in &known {
        assert!(all.contains(key) || !always, "no report has `{key}`");
    }
    assert!(known.len() > 100 && known.iter().filter(|(_, always)| *always).count() > 60);
}

#[test]
fn an_explanation_can_be_made_again_from_its_report() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let mask = "/layer1/layer1.0/Add=1,2,3";
    let whole = report(&["--mask", mask, "--out", &out_text, "--threads", "1"]);
    let run = &whole["run"];
    let model = FileReport::of(demo("model.onnx").as_ref()).unwrap();
    assert_eq!(run["model"], serde_json::to_value(&model).unwrap());
    assert_eq!((&run["threads"], &run["target"]), (&1.into(), &"argmax".into()));
    assert_eq!(run["masks"][0]["channels"], serde_json::json!([1, 2, 3]));
    assert!(run["command"].as_array().unwrap().contains(&mask.into()));
    assert!(relc::Isa::available().iter().any(|isa| run["isa"] == isa.name()), "{run}");
    assert_eq!(run["weights_xxh3"].as_str().unwrap().len(), 16);
    let values = &run["preprocess"]["values"];
    assert_eq!(values["size"], serde_json::json!([64, 64]));
    assert_eq!((&values["layout"], &values["channels"]), (&"NCHW".into(), &"RGB".into()));
    assert_eq!(run["preprocess"]["is_default"], false);
    let result = &whole["results"][0];
    let file = FileReport::of(picture().as_ref()).unwrap();
    assert_eq!(result["file"], serde_json::to_value(&file).unwrap());

    // The report of the folder says the same; the scale of the pictures is that of the map.
    let own: Value =
        serde_json::from_slice(&std::fs::read(out.join("00_disc/report.json")).unwrap()).unwrap();
    assert_eq!((&own["run"], &own["explanations"]), (run, &result["explanations"]));
    let drawn = &result["explanations"][0]["picture"];
    let map = relc::files::read_npy_f32(&out.join("00_disc/map.npy")).unwrap();
    // The report has the fewest digits that tell the f32 apart.
    let high = drawn["high"].as_f64().unwrap() as f32;
    let beyond = map.iter().filter(|v| v.abs() > high).count();
    assert_eq!(drawn["clipped"], beyond);
    assert_eq!((&drawn["colormap"], &drawn["percentile"]), (&"seismic".into(), &99.5.into()));
    assert_eq!(drawn["low"].as_f64().unwrap(), -drawn["high"].as_f64().unwrap());

    // The crop that the network saw, without a bar.
    let seen = image::open(out.join("00_disc/input.png")).unwrap();
    assert_eq!((seen.width(), seen.height()), (64, 64));
    let heat = image::open(out.join("00_disc/heat.png")).unwrap();
    assert!(heat.width() == 256 && heat.height() > 256, "a bar under it");
}

#[test]
fn weights_and_options_change_the_hashes() {
    let hash = |more: &[&str]| {
        let report = report(more);
        let text = |v: &Value| v.as_str().unwrap().to_string();
        (text(&report["run"]["weights_xxh3"]), text(&report["compiled"]["preset_hash"]))
    };
    let plain = hash(&[]);
    assert_eq!(plain, hash(&[]));
    assert_ne!(plain.1, hash(&["--split", "half"]).1);
}

#[test]
fn methods_say_what_their_maps_add_up_to() {
    let of = |method: &[&str]| report(method)["results"][0]["explanations"][0].clone();
    let ig = of(&["--method", "integrated_gradients"]);
    let attribution = &ig["attribution"];
    let number = |v: &Value| v.as_f64().unwrap();
    let difference = number(&ig["target"]["logit"]) - number(&attribution["baseline_logit"]);
    assert!((number(&attribution["sum"]) - difference).abs() < 0.05 * difference.abs(), "{ig}");
    assert!(number(&attribution["completeness_error"]) < 0.05, "{ig}");
    let cam = of(&["--method", "grad_cam"]);
    assert!(number(&cam["attribution"]["sum"]) > 0.0);
    assert!(cam["attribution"].get("completeness_error").is_none(), "{cam}");
    for key in ["sums", "ledger"] {
        assert!(cam.get(key).is_none(), "{key}: {cam}");
    }
    let printed = |method: &str| check_ok(&explain(&[&picture()], &["--method", method, "--samples", "4"]));
    let text = printed("integrated_gradients");
    assert!(text.contains("completeness error") && text.contains("the map adds up to"), "{text}");
    assert!(printed("rise").contains("does not promise"), "{}", printed("rise"));
}

#[test]
fn the_preprocessing_is_named_and_a_default_that_can_not_be_right_is_warned_of() {
    let keras = repository("tests/zoo/basic.keras.onnx");
    let output = relc(&["explain", &keras, &picture(), "--no-class-sensitivity"]);
    let text = check_ok(&output);
    assert!(
        text.contains(
            "preprocessing imagenet (the default): shorter side to 40 (bilinear), centre crop 32 x 40, NHWC"
        ),
        "{text}"
    );
    assert!(text.contains("mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]"), "{text}");
    let said = stderr(&output);
    for reason in ["NHWC", "the model takes 32 x 40 pixels", "--preprocess FILE.toml"] {
        assert!(said.contains(reason), "expected \"{reason}\" in: {said}");
    }
    let stated = relc(&["explain", &keras, &picture(), "--no-class-sensitivity", "--preprocess", "imagenet"]);
    assert!(!stderr(&stated).contains("as for ImageNet"), "{}", stderr(&stated));
    let own = explain(&[&picture()], &[]);
    assert!(check_ok(&own).contains("preprocess.toml: resized to 64 x 64 (bilinear), NCHW, RGB"));
    assert!(!stderr(&own).contains("preprocessing"), "{}", stderr(&own));
    // Pixels times zero are no pictures.
    let dir = folder();
    let (file, blank) = path(&dir, "blank.toml");
    std::fs::write(&file, "scale = 1e-9\n").unwrap();
    let output = relc(&["explain", &demo("model.onnx"), &picture(), "--preprocess", &blank]);
    assert!(stderr(&output).contains("from that of an empty input"), "{}", stderr(&output));
}

#[test]
fn maps_that_are_turned_around_are_called_so() {
    let text = check_ok(&explain(&[&picture()], &["--preset", "conserve"]));
    assert!(text.contains("the maps are opposite"), "{text}");
    assert!(!text.contains("hardly depend"), "{text}");
    let text = check_ok(&explain(&[&picture()], &["--target", "3"]));
    assert!(text.contains("the seed is negative") && text.contains("blue"), "{text}");
    let text = check_ok(&explain(&[&picture()], &["--target", "3", "--seed", "onehot"]));
    assert!(!text.contains("the seed is negative"), "{text}");
}

/// Numbers that are not 0 don't look like it, and nobody reads seventeen digits.
#[test]
fn printed_numbers_have_significant_digits() {
    for more in
        [&["--preset", "paper", "--ledger"][..], &[], &["--method", "integrated_gradients", "--samples", "3"]]
    {
        let text = check_ok(&explain(&[&picture()], more));
        for word in text.split([' ', ',']).filter(|w| w.parse::<f64>().is_ok()) {
            assert!(
                !word.contains("0.0000") || word.parse::<f64>().is_ok_and(|v| v != 0.0),
                "{word} in {text}"
            );
            assert!(word.trim_start_matches(['0', '.', '-']).len() < 12, "{word} in {text}");
        }
    }
    // What only rounding lost is no loss.
    let text = check_ok(&explain(&[&picture()], &["--no-class-sensitivity", "--bias", "exclude"]));
    assert!(!text.contains("0.0000 %"), "{text}");
}

#[test]
fn help_of_every_command_has_examples() {
    for command in [
        &["explain"][..],
        &["check"],
        &["dump"],
        &["preset"],
        &["bench"],
        &["profile"],
        &["preset", "list"],
        &["preset", "show"],
        &[],
    ] {
        let text = check_ok(&relc(&[command, &["--help"]].concat()));
        assert!(text.contains("Example") && text.contains("  relc "), "{command:?}: {text}");
    }
}
