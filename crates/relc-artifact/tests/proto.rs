//! The messages in `src/proto/artifact.rs` are those that protox and prost make of `proto/artifact.proto`: checked in, so
//! that whoever builds relc builds neither of the two.
//!
//! `RELC_BLESS=1 cargo test -p relc-artifact --test proto` writes the file.

use std::fs;
use std::path::Path;

#[test]
fn the_generated_messages_are_up_to_date() {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["artifact.proto"], [krate.join("../../proto")]).expect("it compiles");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = prost_build::Config::new();
    config.out_dir(folder.path()).compile_fds(descriptors).expect("prost makes Rust of it");
    let made = fs::read_to_string(folder.path().join("artifact.rs")).expect("it is written");
    let path = krate.join("src/proto/artifact.rs");
    if std::env::var_os("RELC_BLESS").is_some() {
        fs::write(&path, &made).expect("the source can be written");
    }
    let listed = fs::read_to_string(&path).expect("the source can be read");
    assert!(
        listed == made,
        "src/proto/artifact.rs is not what proto/artifact.proto says; RELC_BLESS=1 writes it"
    );
}
