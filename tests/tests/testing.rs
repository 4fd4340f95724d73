//! `relc::testing` itself: what files choose, and what is said of those that differ.

use std::fs;

use relc::testing::{FiletestError, Filetests, Header};
use relc::unstable::ir::Graph;
use relc::{Pass, PassError, Remarks};

/// Does what the option `do` of its file says.
struct Odd(String);

impl Pass for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn description(&self) -> &'static str {
        "do what the file says"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        match self.0.as_str() {
            "count" => remarks.applied("", format!("{} joins", graph.residuals.len())),
            "refuse" => return Err(PassError::Malformed { pass: "odd", message: "refused".into() }),
            "spoil" => graph.relevance_outputs.extend(graph.outputs().first().map(|(_, v)| (v.node, *v))),
            what => panic!("asked for {what}"),
        }
        Ok(())
    }
}

fn odd() -> Filetests {
    Filetests::made_by(|header: &Header| {
        let what = header.get("do").ok_or("the file has no line \"; do: WHAT\"")?;
        Ok(Box::new(Odd(what.into())))
    })
}

const GRAPH: &str = "graph @t (%x: f32[N,4]) -> (%2 \"y\") {\n  %1 = relu %x : f32[N,4] ; \"relu\"\n  %2 = add %1, %x : f32[N,4] ; \"join\"\n}\n";

/// What the runner says to a file of these options.
#[track_caller]
fn check(header: &str, expected: Result<&str, &str>) {
    match (odd().run(&format!("{header}{GRAPH}")), expected) {
        (Ok(text), Ok(end)) => assert!(text.ends_with(end), "{text}"),
        (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
        (got, _) => panic!("{got:?}"),
    }
}

#[test]
fn files_choose_what_runs_before_and_what_a_pass_does() {
    check("; do: count\n", Ok("}\n; ----\napplied: 0 joins\n"));
    check("; do: count\n; after: find-residuals\n", Ok("; ----\napplied: 1 joins\n"));
    check("; do: count\n; after: pipeline\n", Ok("; ----\napplied: 1 joins\n"));
    check("; do: refuse\n", Ok("}\n; ----\npass odd: refused\n; ----\n"));
    check("; do: spoil\n", Err("a defect of the pass"));
    check("", Err("; do: WHAT"));
    check("; do: count\n; after: find-residual\n", Err("did you mean \"find-residuals\"?"));
    check("; do: count\n; preset: conserv\n", Err("conserve"));
    check("; do: count\n; split: hal\n", Err("half"));
    check("; do: count\n; batchnorm: kept\n", Err("expected one of"));
    let error = odd().run("; do: count\ngraph").unwrap_err();
    assert!(matches!(error, FiletestError::Graph(_)) && error.to_string().contains("line 2"), "{error}");
}

#[test]
fn what_differs_is_shown_as_a_diff_and_blessed_files_pass() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.relc");
    let text = |joins| format!("; do: count\n{GRAPH}; ----\n{GRAPH}; ----\napplied: {joins} joins\n");
    fs::write(&file, text(1)).unwrap();
    fs::write(folder.path().join("b.relc"), format!("; do: explode\n{GRAPH}")).unwrap();
    fs::write(folder.path().join("notes.txt"), "no filetest").unwrap();
    let failures = odd().failures(folder.path());
    let [diff, panic] = &failures[..] else { panic!("{failures:?}") };
    for line in ["--- expected\n", "+++ got\n", "\n-applied: 1 joins\n", "\n+applied: 0 joins\n"] {
        assert!(diff.contains(line), "{diff}");
    }
    assert!(diff.lines().count() < 12, "only what lies around the difference: {diff}");
    assert!(panic.contains("b.relc: the pass panicked: asked for explode"), "{panic}");
    fs::write(&file, text(0)).unwrap();
    odd().check(&file);
    // A file need not be in the printer's form to be read, but to pass.
    fs::write(&file, text(0).replacen("  %1 = relu", "    %1 = relu", 1)).unwrap();
    assert_eq!(odd().failures(&file).len(), 1);
    assert!(odd().failures(folder.path().join("none"))[0].contains("none"));
}

#[test]
#[should_panic(expected = "1 filetest(s) failed; RELC_BLESS=1")]
fn a_folder_without_files_fails() {
    odd().check(tempfile::tempdir().unwrap().path());
}
