//! What messages advise works when it is followed.

mod support;

use ndarray::ArrayD;
use relc::files::write_npy_f32;
use support::{check_ok, demo, explain, folder, path, picture, relc, repository, stderr};

/// A failure that says something; what to do then must succeed.
#[track_caller]
fn check(fails: &[&str], code: i32, says: &str, followed: &[&str]) {
    let failed = relc(fails);
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "expected \"{says}\" in: {said}");
    assert!(!said.contains(" { "), "no debug output: {said}");
    check_ok(&relc(followed));
}

/// A failure that asks whether another word was meant: that word in its place must succeed.
#[track_caller]
fn check_hint(before: &[&str], wrong: &str, around: impl Fn(&str) -> String) {
    let with = |word: &str| relc(&[before, &[&around(word)]].concat());
    let failed = with(wrong);
    let said = stderr(&failed);
    assert!(!failed.status.success(), "{said}");
    let meant = said.split_once("did you mean \"").and_then(|(_, rest)| rest.split_once("\"?)"));
    let (meant, _) = meant.unwrap_or_else(|| panic!("expected a hint in: {said}"));
    check_ok(&with(meant));
}

fn same(word: &str) -> String {
    word.to_string()
}

#[test]
fn a_word_that_was_meant_is_taken() {
    let (model, labels, picture) = (demo("model.onnx"), demo("labels.txt"), picture());
    let preprocess = demo("preprocess.toml");
    let base = ["explain", &model, &picture, "--no-class-sensitivity"];
    let own = [&base[..], &["--preprocess", &preprocess]].concat();
    let with = |more: &[&'static str]| [&own[..], more].concat();
    check_hint(&[&base[..], &["--preprocess"]].concat(), "imagnet", same);
    check_hint(&with(&["--preset"]), "papr", same);
    check_hint(&with(&["--colormap"]), "seismik", same);
    check_hint(&[&own[..], &["--labels", &labels, "--target"]].concat(), "disk", same);
    check_hint(&with(&["--method"]), "gradcam", same);
    check_hint(&["preset", "show"], "epsilon_pluss", same);
    // Nodes and globs have the nearest name however far it is, or one that holds the word.
    for wrong in ["nope", "layer2.0/add", "/layer1/layer1.0/Adds"] {
        check_hint(&["dump", &model, "--asm"], wrong, same);
        check_hint(&with(&["--mask"]), wrong, |glob| format!("{glob}=0"));
    }
    let dir = folder();
    let (_, taps) = path(&dir, "taps.npz");
    check_hint(&[&own[..], &["--tap-npz", &taps, "--tap"]].concat(), "lyer1*", same);
    let (_, file) = path(&dir, "preset.toml");
    let preset = |lines: &str| std::fs::write(&file, format!("extends = \"conserve\"\n{lines}")).unwrap();
    for (key, wrong, lines) in [
        (
            "op",
            "Konv",
            "[[rule]]\nop = \"WORD\"\nrule = \"zplus\"\ninput = \"signed\"\nfallback = \"flat\"\n",
        ),
        (
            "rule",
            "zpluss",
            "[[rule]]\nop = \"Conv\"\nrule = \"WORD\"\ninput = \"signed\"\nfallback = \"flat\"\n",
        ),
        ("name", "layer1.0/add", "[[split_at]]\nname = \"WORD\"\npolicy = \"half\"\n"),
    ] {
        check_hint(&["check", &model, "--preset"], wrong, |word| {
            preset(&lines.replace("WORD", word));
            file.clone()
        });
        assert!(std::fs::read_to_string(&file).unwrap().contains(key));
    }
    let (_, file) = path(&dir, "preprocess.toml");
    check_hint(&[&base[..], &["--preprocess"]].concat(), "resise", |word| {
        std::fs::write(&file, format!("{word} = \"exact\"\n")).unwrap();
        file.clone()
    });
}

#[test]
fn numbers_and_lists_are_no_misspelt_labels() {
    let labels = demo("labels.txt");
    for (target, says) in
        [("-1", "an output's index"), ("argmax,1", "argmax stands alone"), ("1,top2", "top2 stands alone")]
    {
        let target = format!("--target={target}");
        let said = stderr(&explain(&[&picture()], &[&target, "--labels", &labels]));
        assert!(said.contains(says) && !said.contains("did you mean"), "{said}");
    }
    for target in ["0", "argmax", "top2", "0,1"] {
        check_ok(&explain(&[&picture()], &["--target", target, "--no-class-sensitivity"]));
    }
}

#[test]
fn options_that_do_nothing_are_left_out_or_given_to_what_takes_them() {
    let (model, picture, preprocess) = (demo("model.onnx"), picture(), demo("preprocess.toml"));
    let base = ["explain", &model, &picture, "--no-class-sensitivity", "--preprocess", &preprocess];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    for bias in ["include", "all"] {
        let says = format!("bias = {bias} would do nothing; leave it out, or use the preset \"paper\"");
        let follow = [&base[..], &["--preset", "paper", "--bias", bias]].concat();
        check(&[&base[..], &["--bias", bias]].concat(), 2, &says, &follow);
    }
    for (method, option, value) in [
        ("grad_cam", "--samples", "3"),
        ("grad_cam", "--sigma", "0.1"),
        ("rise", "--layer", "x"),
        ("grad_cam", "--rng-seed", "1"),
    ] {
        let fails = [&base[..], &["--method", method, option, value]].concat();
        let follow = with(if method == "rise" {
            &["--method", "rise", "--samples", "2"]
        } else {
            &["--method", "grad_cam"]
        });
        check(&fails, 2, &format!("({option}); leave it out"), &follow);
    }
    let (no, some) =
        (&["--method", "smoothgrad", "--samples", "0"], &["--method", "smoothgrad", "--samples", "1"]);
    check(&with(no), 2, "got 0 samples (--samples), expected 1 or more", &with(some));
    check(
        &["profile", &model, "--engine", "interp-f32"],
        2,
        "use --engine jit",
        &["profile", &model, "--engine", "jit", "--runs", "1"],
    );
    let report: serde_json::Value =
        serde_json::from_str(&check_ok(&relc(&["check", &model, "--json"]))).unwrap();
    let node = report["joins"][0]["join"].as_str().unwrap().to_string();
    let listing = ["dump", &model, "--asm", &node, "--format", "dot"];
    check(&listing, 2, "leave --format out", &listing[..4]);
    let dir = folder();
    let (seed, seed_text) = path(&dir, "seed.npy");
    write_npy_f32(&seed, ArrayD::from_elem(vec![8], 1.0).view()).unwrap();
    let seeded = [&base[..], &["--seed", &seed_text]].concat();
    check(&[&seeded[..], &["--target", "1"]].concat(), 2, "leave one of them out", &seeded);
}

#[test]
fn a_layer_that_is_named_instead_is_taken() {
    let said = stderr(&explain(&[&picture()], &["--method", "grad_cam", "--layer", "nope"]));
    let (_, layer) = said.trim_end().rsplit_once("such as ").unwrap_or_else(|| panic!("{said}"));
    check_ok(&explain(&[&picture()], &["--method", "grad_cam", "--layer", layer]));
}

#[test]
fn what_a_model_leaves_open_is_told_by_the_option_that_is_named() {
    let two = repository("tests/zoo/basic.two-outputs.onnx");
    let open = repository("tests/zoo/basic.ts-dynamic.onnx");
    check(&["check", &two], 1, "--output NAME", &["check", &two, "--output", "logits"]);
    let held = ["check", &two, "--output", "features", "--hold", "offset=0.5"];
    check(&held[..4], 1, "--hold NAME=VALUE", &held);
    check(&[&held[..4], &["--hold", "offset"]].concat(), 2, "NAME=NUMBER", &held);
    check(
        &["check", &open, "--input-shape", "3,wide"],
        2,
        "N,3,224,224",
        &["check", &open, "--input-shape", "N,3,224,224"],
    );
}

#[test]
fn a_box_is_given_by_the_options_that_are_named_and_check_agrees_with_explain() {
    let model = demo("model.onnx");
    check_ok(&relc(&["check", &model, "--preset", "epsilon_gamma_box"]));
    check_ok(&explain(&[&picture()], &["--preset", "epsilon_gamma_box"]));
    check_ok(&explain(&[&picture()], &["--preset", "epsilon_gamma_box", "--low", "-3", "--high", "3"]));
}

#[test]
fn a_size_before_the_crop_that_is_advised_is_taken() {
    let dir = folder();
    let (file, text) = path(&dir, "p.toml");
    let write = |to: &str| {
        std::fs::write(&file, format!("resize = \"shorter-side-then-centre-crop\"\nresize_to = {to}\n"))
            .unwrap();
    };
    let (model, picture) = (demo("model.onnx"), picture());
    let args = ["explain", &model, &picture, "--no-class-sensitivity", "--preprocess", &text];
    write("8");
    let said = stderr(&relc(&args));
    let (_, least) = said.trim_end().rsplit_once("give at least ").unwrap_or_else(|| panic!("{said}"));
    write(least);
    check_ok(&relc(&args));
}

#[test]
fn seeds_that_are_advised_do_what_is_promised() {
    let target = ["--target", "3", "--json", "-"];
    let report = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&check_ok(&explain(&[&picture()], &[&target[..], more].concat()))).unwrap()
    };
    let of = |report: &serde_json::Value| report["results"][0]["explanations"][0].clone();
    let negative = of(&report(&[]));
    assert!(negative["note"].as_str().unwrap().contains("--seed onehot"), "{negative}");
    assert!(of(&report(&["--seed", "onehot"]))["sums"]["relevance"].as_f64().unwrap() > 0.0);
    let hint = |more: &[&str]| {
        let conserve = [&["--preset", "conserve"], more].concat();
        let text = check_ok(&explain(&[&picture()], &conserve));
        text.contains("the seed contrast (--seed contrast)")
    };
    assert!(hint(&[]) && !hint(&["--seed", "contrast"]));
}
