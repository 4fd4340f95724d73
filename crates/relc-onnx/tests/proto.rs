//! The messages in `src/proto/onnx.rs` are those that protox and prost make of `proto/onnx.proto`: checked in, so that
//! whoever builds relc builds neither of the two.
//!
//! `RELC_BLESS=1 cargo test -p relc-onnx --test proto` writes the file.

use std::fs;
use std::path::Path;

#[test]
fn the_generated_messages_are_up_to_date() {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["onnx.proto"], [krate.join("../../proto")]).expect("it compiles");
    let folder = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .out_dir(folder.path())
        // The bytes of a weight stay where the file was read to.
        .bytes([".onnx.TensorProto.raw_data"])
        // Few attributes hold a tensor or a graph: boxed, they don't make all the others larger.
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .compile_fds(descriptors)
        .expect("prost makes Rust of it");
    let made = fs::read_to_string(folder.path().join("onnx.rs")).expect("it is written");
    let path = krate.join("src/proto/onnx.rs");
    if std::env::var_os("RELC_BLESS").is_some() {
        fs::write(&path, &made).expect("the source can be written");
    }
    let listed = fs::read_to_string(&path).expect("the source can be read");
    assert!(listed == made, "src/proto/onnx.rs is not what proto/onnx.proto says; RELC_BLESS=1 writes it");
}
