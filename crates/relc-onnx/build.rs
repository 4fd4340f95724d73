//! Compiles `proto/onnx.proto` with protox and prost, so that no `protoc` is needed.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", folder.join("onnx.proto").display());
    let descriptors = protox::compile(["onnx.proto"], [&folder])?;
    prost_build::Config::new()
        // The bytes of a weight stay where the file was read to.
        .bytes([".onnx.TensorProto.raw_data"])
        // Few attributes hold a tensor or a graph: boxed, they don't make all the others larger.
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .compile_fds(descriptors)?;
    Ok(())
}
