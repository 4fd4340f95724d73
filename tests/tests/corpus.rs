//! The fuzz targets on their corpus: every seed, and what was found once.

use std::path::PathBuf;

use relc_tests::corpus;

/// The files of a target's folder.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let paths = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let paths = paths.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[track_caller]
fn check(target: &str, run: impl Fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for (path, bytes) in seeds {
        eprintln!("{}", path.display()); // names the seed that panics
        run(&bytes);
        // Every truncation, and every byte changed, of what is small.
        for at in 0..bytes.len().min(400) {
            run(&bytes[..at]);
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            run(&changed);
        }
    }
}

#[test]
fn import() {
    check("import", corpus::import);
}

#[test]
fn parse_ir() {
    check("parse_ir", |bytes| corpus::parse_ir(&String::from_utf8_lossy(bytes)));
}

#[test]
fn preset() {
    check("preset", |bytes| corpus::preset(&String::from_utf8_lossy(bytes)));
}

#[test]
fn npy() {
    check("npy", corpus::npy);
}

#[test]
fn preprocess() {
    check("preprocess", corpus::preprocess);
}

#[test]
fn picture() {
    check("picture", corpus::picture);
}

#[test]
fn kernel() {
    check("kernel", |bytes| corpus::kernel(&String::from_utf8_lossy(bytes)));
}
