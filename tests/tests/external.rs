//! The crate outside the workspace that uses relc as its users do: it builds, and its tests pass.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATE: &str = "examples/own-rule-and-pass";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The packages of a lock file that come from a registry: `name version`.
fn locked(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lock: toml::Table = toml::from_str(&text).unwrap();
    let packages = lock["package"].as_array().unwrap().iter().filter(|p| p.get("source").is_some());
    packages.map(|p| format!("{} {}", p["name"].as_str().unwrap(), p["version"].as_str().unwrap())).collect()
}

/// So that there is nothing to download where the workspace was built.
#[test]
fn its_packages_are_those_of_the_workspace() {
    let [own, all] = [root().join(CRATE), root()].map(|folder| locked(&folder.join("Cargo.lock")));
    let others: Vec<&String> = own.difference(&all).collect();
    assert!(
        others.is_empty(),
        "{CRATE}/Cargo.lock has other packages than the workspace: {others:?}; copy Cargo.lock there and run \
         cargo metadata --offline in the folder, which drops what is not needed"
    );
}

#[test]
fn its_tests_pass() {
    // The workspace's folder: macros and build scripts are compiled there already.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--offline", "--locked"]).current_dir(root().join(CRATE));
    cargo.env("CARGO_TARGET_DIR", target).env("INSTA_UPDATE", "no").env_remove("RELC_BLESS");
    let output = cargo.output().expect("cargo runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    // The filetests, the snapshot, and the five of the demo.
    for passed in ["1 passed", "5 passed"] {
        assert!(stdout.contains(&format!("test result: ok. {passed}; 0 failed")), "{stdout}");
    }
}
