//! The schema of reports is what the types say, and refuses what is no report. That every report that the tests write is
//! one is held in `support`.

mod support;

use serde_json::{Value, json};
use support::{check_ok, explain, picture, relc, repository, validator};

#[test]
fn the_schema_in_the_documentation_is_that_of_the_command() {
    let file = repository("docs/relc.schema.json");
    let printed = check_ok(&relc(&["schema"]));
    if std::env::var_os("RELC_BLESS").is_some() {
        std::fs::write(&file, &printed).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == printed,
        "docs/relc.schema.json is not what relc schema prints; RELC_BLESS=1 renews it"
    );
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "no schema");
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let report: Value =
        serde_json::from_str(&check_ok(&explain(&[&picture()], &["--json", "--explain-rules"]))).unwrap();
    let open: Value = serde_json::from_str(&check_ok(&relc(&["schema"]))).unwrap();
    let (open, closed) = (jsonschema::draft202012::new(&open).unwrap(), validator("WholeReport"));
    assert!(open.is_valid(&report) && closed.is_valid(&report));
    for (place, wrong) in [
        ("/results/0/explanations/0/sums/seed", json!("3")),
        ("/results/0/explanations/0/joins/0/weighted_layers", json!([1, 2, 3])),
        ("/results/0/predictions/0/index", json!(-1)),
        ("/run/preprocess/values/layout", json!("NCWH")),
        ("/compiled/claim", json!({})),
        ("/rules/0", json!({"node": "a"})),
        ("/failures", Value::Null),
    ] {
        let mut broken = report.clone();
        *broken.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = wrong;
        assert!(!open.is_valid(&broken), "{place}");
    }
    // Later versions may add keys; a key of today that the schema does not know is a defect.
    let mut more = report;
    more["compiled"]["later"] = json!(1);
    assert!(open.is_valid(&more) && !closed.is_valid(&more));
}
