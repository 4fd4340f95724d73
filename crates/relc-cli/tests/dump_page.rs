//! `relc dump --format html`.

mod support;

use support::{check_fails, check_ok, demo, relc, relc_on};

/// Every pass over the graph, and every one over the program.
const PASSES: [&str; 22] = [
    "import",
    "import-cleanup",
    "infer-shapes",
    "normalise-batchnorm",
    "find-residuals",
    "assign-rules",
    "insert-splits",
    "derive-relevance",
    "insert-readouts",
    "insert-masks",
    "check-conservation",
    "lower",
    "flatten-reshapes",
    "alias-moves",
    "fold-constants",
    "factor-ones",
    "fuse-epilogues",
    "choose-layouts",
    "choose-convolutions",
    "schedule",
    "share-kernels",
    "plan-memory",
];

#[test]
fn a_page_shows_every_pass_and_is_the_same_again() {
    let args = ["dump", &demo("model.onnx"), "--format", "html", "--no-profile"];
    let page = check_ok(&relc_on("portable", &args));
    assert!(page.starts_with("<!doctype html>"), "{}", &page[..200]);
    let mut rest = page.as_str();
    for pass in PASSES {
        let button = format!(">{pass}</button>");
        let Some((_, behind)) = rest.split_once(&button) else { panic!("expected {pass} in its order") };
        rest = behind;
    }
    assert!(page.contains("values of a sample share") && page.contains("--no-profile leaves out"));
    assert_eq!(page, check_ok(&relc_on("portable", &args)));
}

#[test]
fn a_page_shows_how_fast_each_step_is() {
    let page = check_ok(&relc(&["dump", &demo("model.onnx"), "--format", "html"]));
    for word in ["FLOP per byte", "arithmetic: ", "of 3 runs", "<path class=\"dot s0\"", ">ms</button>"] {
        assert!(page.contains(word), "expected {word}");
    }
}

#[test]
fn a_page_is_of_all_passes() {
    let model = demo("model.onnx");
    let fails = |more: &[&str], says: &str| {
        check_fails(&relc(&[&["dump", &model, "--format", "html"], more].concat()), 2, &[says]);
    };
    fails(&["--after", "lower"], "leave --after out");
    fails(&["--print-after-all"], "leave --print-after-all out");
    fails(&["--asm", "/Relu"], "leave --format out");
    fails(&["--json"], "cannot be used with");
    check_fails(&relc(&["dump", &model, "--no-profile"]), 2, &["--no-profile is for --format html"]);
}
