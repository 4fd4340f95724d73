//! `relc explain --report`: what is in the page. What a browser makes of it is tested by tools/pages.sh.

mod support;

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use support::{
    check_fails, check_ok, demo, explain, folder, path, picture, pictures, relc, repository, validator,
};

/// The data of a page, which keeps to its schema, as its report keeps to that of reports.
#[track_caller]
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    let schema = serde_json::to_value(relc_html::explanation_schema()).unwrap();
    let own = jsonschema::validator_for(&schema).unwrap();
    for (validator, value) in [(own, &data), (validator("WholeReport"), &data["report"])] {
        let errors: Vec<String> =
            validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    data
}

/// The data of the page that `relc explain` with these arguments writes.
#[track_caller]
fn page_of(run: impl FnOnce(&str) -> std::process::Output) -> Value {
    let dir = folder();
    let (file, name) = path(&dir, "page.html");
    check_ok(&run(&name));
    let page = std::fs::read_to_string(file).unwrap();
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http:") && !foreign.contains("https:"), "a page asks nothing of a network");
    data(&page)
}

#[test]
fn a_page_holds_every_target_with_the_way_of_its_relevance() {
    let pictures = pictures();
    let data = page_of(|name| {
        let more = ["--target", "top3", "--labels", &demo("labels.txt"), "--report", name];
        explain(&[&pictures[0], &pictures[1]], &more)
    });
    let results = data["report"]["results"].as_array().unwrap();
    assert_eq!((results.len(), data["inputs"].as_array().unwrap().len()), (2, 2));
    let nodes = data["network"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().filter(|node| !node["join"].is_null()).count(), 6);
    assert_eq!(nodes[0]["name"], "input");
    for (result, input) in results.iter().zip(data["inputs"].as_array().unwrap()) {
        assert!(input["picture"].as_str().unwrap().starts_with("data:image/png;base64,"));
        let reports = result["explanations"].as_array().unwrap();
        let explanations = input["explanations"].as_array().unwrap();
        assert_eq!((reports.len(), explanations.len()), (3, 3));
        for (report, explanation) in reports.iter().zip(explanations) {
            let expected = report["sums"]["relevance"].as_f64().unwrap();
            // The input is the first node; all that arrives anywhere has a map.
            let first = &explanation["nodes"][0];
            assert!((first["sum"].as_f64().unwrap() - expected).abs() < 1e-4 * expected.abs());
            assert_eq!(explanation["nodes"].as_array().unwrap().len(), nodes.len());
            assert!(
                explanation["edges"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|edge| edge.as_f64().is_some_and(|e| e >= 0.0))
            );
            let titles: Vec<&str> = explanation["stages"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|stage| stage["title"].as_str())
                .collect();
            assert!(titles[0].starts_with("Read-out at /layer3/layer3.1/Relu_1: 65.0 %"), "{titles:?}");
            assert!(
                explanation["words"][1]
                    .as_str()
                    .unwrap()
                    .starts_with("Nothing appeared and nothing vanished")
            );
        }
    }
    let rule = &data["rules"][nodes[1]["rule"].as_u64().unwrap() as usize];
    assert_eq!(rule["node"], nodes[1]["name"]);
}

/// The map of the second largest output, which every explanation is compared with, is there to be seen.
#[test]
fn a_page_shows_what_the_map_is_compared_with() {
    let data = page_of(|name| explain(&[&picture()], &["--report", name]));
    assert_eq!(data["inputs"][0]["explanations"].as_array().unwrap().len(), 2);
    let data =
        page_of(|name| explain(&[&picture()], &["--report", name, "--no-class-sensitivity", "--no-ledger"]));
    assert_eq!(data["inputs"][0]["explanations"].as_array().unwrap().len(), 1);
}

/// What a seed on several outputs, a mask, quantised maps, and a target of one's own make of words, heading and maps.
#[test]
fn what_was_asked_for_is_what_the_page_says() {
    let dir = folder();
    let (file, name) = path(&dir, "page.html");
    let words = |more: &[&str]| {
        check_ok(&explain(
            &[&picture()],
            &[&["--labels", &demo("labels.txt"), "--report", &name], more].concat(),
        ));
        let page = std::fs::read_to_string(&file).unwrap();
        let heading = page.split_once("<h1>").unwrap().1.split_once("</h1>").unwrap().0.to_string();
        (heading, data(&page)["inputs"][0]["explanations"][0]["words"].to_string())
    };
    let (heading, said) = words(&["--target", "square"]);
    assert!(heading.starts_with("Why “square”?"), "{heading}");
    assert!(said.contains(" on “square”. At the input "), "{said}");
    let (_, said) = words(&["--seed", "contrast"]);
    assert!(said.contains("The seed contrast adds up to ") && said.contains("over all outputs"), "{said}");
    let (_, said) = words(&["--mask", "*layer2*=0,1"]);
    assert!(said.contains("masks took") && !said.contains("clipped where"), "{said}");
    let (_, said) = words(&["--split", "gradient"]);
    assert!(!said.contains("took"), "{said}");
    let (_, said) = words(&["--preset", "epsilon_plus", "--no-ledger"]);
    assert!(said.contains("explain without --no-ledger") && !said.contains("ledger below"), "{said}");
    check_ok(&explain(&[&picture()], &["--heat-quantization=2", "--report", &name]));
    let page = data(&std::fs::read_to_string(&file).unwrap());
    let map = &page["inputs"][0]["explanations"][0]["map"];
    let steps = BASE64_STANDARD.decode(map["steps"].as_str().unwrap()).unwrap();
    let levels: BTreeSet<&[u8]> = steps.chunks(2).collect();
    assert!((2..=3).contains(&levels.len()), "{levels:?}");
}

#[test]
fn what_leaks_is_said_in_words() {
    let data = page_of(|name| explain(&[&picture()], &["--report", name, "--preset", "epsilon_plus"]));
    let words = data["inputs"][0]["explanations"][0]["words"].to_string();
    assert!(words.contains("The ledger below says where it is") && words.contains("biases took"), "{words}");
}

#[test]
fn what_is_no_picture_and_what_passes_no_relevance_has_a_page() {
    let [signal, wide] = ["model.onnx", "wide.csv"].map(|file| repository("examples/signal/") + file);
    let data = page_of(|name| relc(&["explain", &signal, &wide, "--report", name]));
    let explanation = &data["inputs"][0]["explanations"][0];
    assert!(explanation["drawing"].as_str().unwrap().starts_with("data:image/svg+xml;base64,"));
    assert_eq!((&explanation["map"]["height"], &explanation["map"]["width"]), (&1.into(), &360.into()));
    assert!(data["inputs"][0]["picture"].is_null());
    let [volume, ball] = ["model.onnx", "ball.nii.gz"].map(|file| repository("examples/volume/") + file);
    let data = page_of(|name| relc(&["explain", &volume, &ball, "--report", name]));
    assert!(
        data["inputs"][0]["explanations"][0]["drawing"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,")
    );
    let data = page_of(|name| explain(&[&picture()], &["--report", name, "--method", "grad_cam"]));
    assert!(data["inputs"][0]["no_network"].as_str().unwrap().starts_with("grad_cam passes no relevance"));
    assert!(data["inputs"][0]["explanations"][0]["nodes"].as_array().unwrap().is_empty());
}

#[test]
fn what_a_page_can_t_be_is_said_before_the_work() {
    let pictures = pictures();
    let all: Vec<&str> = pictures.iter().map(String::as_str).collect();
    check_fails(&explain(&all, &["--report", "x.html"]), 2, &["a page shows 12 inputs at most, got 16"]);
    let many = explain(
        &[&pictures[0], &pictures[1]],
        &["--report", "x.html", "--target", "0,1,2,3,4,5,6,7", "--batch", "1"],
    );
    check_ok(&many);
    std::fs::remove_file("x.html").unwrap();
    let too_many = [all.as_slice().split_at(5).0, &["--target", "top8", "--report", "x.html"]].concat();
    check_fails(
        &explain(&too_many, &[]),
        2,
        &["36 explanations at most, got 5 input(s) with 8 targets each"],
    );
    check_fails(
        &explain(&[&picture()], &["--report", "-"]),
        2,
        &["expected a file whose name ends in .html"],
    );
    let nowhere = demo("nowhere/x.html");
    check_fails(
        &explain(&[&picture()], &["--report", &nowhere]),
        1,
        &["can't write", "check that its folder exists"],
    );
    assert!(!std::path::Path::new("x.html").exists());
}
