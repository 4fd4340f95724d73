//! Every ONNX file at hand: decoded as `onnx-protobuf` decodes it, imported, and true to the shapes that it states.
//!
//! The models lie in `examples/`, `tests/zoo/`, and the folders `models` and `refs` of the one that `RELC_SHARED` names,
//! by default `../shared` beside the workspace. A folder that is not there is skipped; one that can't be read fails.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use onnx_protobuf::Message as _;
use relc_ir::{Dim, Graph};
use relc_onnx::ImportOptions;
use relc_onnx::proto::tensor_shape_proto::dimension;
use relc_onnx::proto::{self, GraphProto, ModelProto, TensorProto, type_proto};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All ONNX files below `folder`.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
}

fn models() -> Vec<PathBuf> {
    let shared = std::env::var_os("RELC_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let mut found = Vec::new();
    let own = ["examples", "tests/zoo"].map(|folder| workspace().join(folder));
    for folder in own.into_iter().chain(["models", "refs"].map(|folder| shared.join(folder))) {
        if folder.is_dir() {
            let before = found.len();
            collect(&folder, &mut found);
            assert!(found.len() > before, "{} holds no model: it is incomplete", folder.display());
        } else {
            // Past libtest's capture.
            let _ = writeln!(std::io::stderr(), "skipped: there is no folder {}", folder.display());
        }
    }
    // Models of volumes and of attention, which relc refuses.
    found.retain(|path| !["volume10.onnx", "attnpool.onnx"].iter().any(|name| path.ends_with(name)));
    found.sort();
    found
}

#[test]
fn every_model_imports_and_keeps_its_text_and_shapes() {
    for path in models() {
        // The models that leave something open need it: height and width, or which output.
        let output = path.ends_with("basic.two-outputs.onnx").then(|| "logits".to_string());
        let open = path.ends_with("basic.ts-dynamic.onnx");
        let sizes = [Dim::Batch, Dim::Fixed(3), Dim::Fixed(32), Dim::Fixed(40)];
        let options =
            ImportOptions { input_shape: open.then(|| sizes.to_vec()), output, ..ImportOptions::default() };
        let imported = relc_onnx::import_path_with(&path, &options)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let graph = imported.graph;
        relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(relc_ir::parse(&graph.to_string()).as_ref(), Ok(&graph), "{}", path.display());
        let bytes = std::fs::read(&path).expect("it was read before");
        let model = proto::decode(bytes.into()).expect("it was decoded before");
        let checked = compare_shapes(&graph, model.graph.as_ref().expect("it has a graph"));
        println!("{}: {checked} shapes compared", path.display());
    }
}

/// Compares the inferred shapes with those that the file states for outputs and values in between. Returns how many.
fn compare_shapes(graph: &Graph, onnx: &GraphProto) -> usize {
    let producers: HashMap<&str, &str> =
        onnx.node.iter().flat_map(|n| n.output.iter().map(|o| (o.as_str(), n.name()))).collect();
    let mut compared = 0;
    for info in onnx.value_info.iter().chain(&onnx.output) {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            continue;
        };
        let (Some(shape), Some(producer)) = (&tensor.shape, producers.get(info.name())) else { continue };
        let Some(node) = graph.node_ids().find(|n| graph.node(*n).name == *producer) else { continue };
        let inferred = &graph.node(node).types()[0];
        assert_eq!(inferred.rank(), shape.dim.len(), "{}: {inferred}", info.name());
        for (got, stated) in inferred.dims().iter().zip(&shape.dim) {
            if let Some(dimension::Value::DimValue(stated)) = stated.value {
                assert_eq!(*got, Dim::Fixed(stated as usize), "{}: {inferred}", info.name());
            }
        }
        compared += 1;
    }
    compared
}

/// Bytes of the models' structure (nodes come before weights) changed at random, by a fixed sequence.
#[test]
fn changed_models_are_errors_or_graphs() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for path in models() {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let structure = bytes.len().min(1 << 16);
        // Copies of large models take their time.
        for _ in 0..(100_000_000 / bytes.len()).min(200) {
            let mut changed = bytes.clone();
            for _ in 0..=random(3) {
                let at = random(structure);
                changed[at] = random(256) as u8;
            }
            if let Ok(imported) = relc_onnx::import_bytes(changed, None) {
                relc_ir::verify(&imported.graph).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        }
    }
}

#[test]
fn both_decoders_agree() {
    for path in models() {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&bytes).expect("onnx-protobuf decodes it");
        let ours = proto::decode(bytes.into()).expect("relc decodes it");
        compare_models(&ours, &theirs);
    }
}

fn compare_models(ours: &ModelProto, theirs: &onnx_protobuf::ModelProto) {
    assert_eq!(ours.ir_version(), theirs.ir_version);
    assert_eq!(ours.producer_name(), theirs.producer_name);
    assert_eq!(ours.producer_version(), theirs.producer_version);
    assert_eq!(ours.domain(), theirs.domain);
    assert_eq!(ours.model_version(), theirs.model_version);
    zip(&ours.opset_import, &theirs.opset_import, |a, b| {
        assert_eq!((a.domain(), a.version()), (&*b.domain, b.version));
    });
    zip(&ours.metadata_props, &theirs.metadata_props, compare_entries);
    zip(&ours.functions, &theirs.functions, |a, b| {
        assert_eq!((a.domain(), a.name()), (&*b.domain, &*b.name));
    });
    compare_graphs(ours.graph.as_ref().expect("a graph"), theirs.graph.as_ref().expect("a graph"));
}

fn compare_graphs(ours: &GraphProto, theirs: &onnx_protobuf::GraphProto) {
    assert_eq!(ours.name(), theirs.name);
    assert_eq!(ours.sparse_initializer.len(), theirs.sparse_initializer.len());
    zip(&ours.node, &theirs.node, compare_nodes);
    zip(&ours.initializer, &theirs.initializer, compare_tensors);
    zip(&ours.input, &theirs.input, compare_infos);
    zip(&ours.output, &theirs.output, compare_infos);
    zip(&ours.value_info, &theirs.value_info, compare_infos);
}

fn compare_nodes(ours: &proto::NodeProto, theirs: &onnx_protobuf::NodeProto) {
    assert_eq!((&ours.input, &ours.output), (&theirs.input, &theirs.output));
    assert_eq!((ours.name(), ours.op_type()), (&*theirs.name, &*theirs.op_type));
    assert_eq!((ours.domain(), ours.overload()), (&*theirs.domain, &*theirs.overload));
    zip(&ours.attribute, &theirs.attribute, compare_attributes);
}

fn compare_attributes(ours: &proto::AttributeProto, theirs: &onnx_protobuf::AttributeProto) {
    assert_eq!((ours.name(), ours.ref_attr_name()), (&*theirs.name, &*theirs.ref_attr_name));
    assert_eq!(ours.r#type.unwrap_or_default(), theirs.type_.value());
    assert_eq!((ours.f().to_bits(), ours.i(), ours.s()), (theirs.f.to_bits(), theirs.i, &*theirs.s));
    assert_eq!((&ours.floats, &ours.ints), (&theirs.floats, &theirs.ints));
    assert_eq!(ours.strings, theirs.strings);
    assert_eq!((ours.g.is_some(), ours.tp.is_some()), (theirs.g.is_some(), theirs.tp.is_some()));
    assert_eq!(ours.sparse_tensor.is_some(), theirs.sparse_tensor.is_some());
    assert_eq!((ours.tensors.len(), ours.graphs.len()), (theirs.tensors.len(), theirs.graphs.len()));
    assert_eq!(ours.type_protos.len(), theirs.type_protos.len());
    assert_eq!(ours.sparse_tensors.len(), theirs.sparse_tensors.len());
    assert_eq!(ours.t.is_some(), theirs.t.is_some());
    if let (Some(a), Some(b)) = (&ours.t, theirs.t.as_ref()) {
        compare_tensors(a, b);
    }
}

fn compare_tensors(ours: &TensorProto, theirs: &onnx_protobuf::TensorProto) {
    assert_eq!((ours.name(), &ours.dims, ours.data_type()), (&*theirs.name, &theirs.dims, theirs.data_type));
    assert_eq!(ours.segment.is_some(), theirs.segment.is_some());
    assert_eq!((&ours.float_data, &ours.double_data), (&theirs.float_data, &theirs.double_data));
    assert_eq!((&ours.int32_data, &ours.int64_data), (&theirs.int32_data, &theirs.int64_data));
    assert_eq!(ours.raw_data(), theirs.raw_data);
    assert_eq!(ours.data_location.unwrap_or_default(), theirs.data_location.value());
    zip(&ours.external_data, &theirs.external_data, compare_entries);
}

fn compare_entries(ours: &proto::StringStringEntryProto, theirs: &onnx_protobuf::StringStringEntryProto) {
    assert_eq!((ours.key(), ours.value()), (&*theirs.key, &*theirs.value));
}

fn compare_infos(ours: &proto::ValueInfoProto, theirs: &onnx_protobuf::ValueInfoProto) {
    use onnx_protobuf::tensor_shape_proto::dimension::Value as TheirDim;
    use onnx_protobuf::type_proto::Value as Theirs;
    use proto::type_proto::Value as Ours;
    assert_eq!(ours.name(), theirs.name);
    assert_eq!(ours.r#type.is_some(), theirs.type_.is_some());
    let value = theirs.type_.as_ref().and_then(|t| t.value.as_ref());
    match (ours.r#type.as_ref().and_then(|t| t.value.as_ref()), value) {
        (Some(Ours::TensorType(a)), Some(Theirs::TensorType(b))) => {
            assert_eq!(a.elem_type(), b.elem_type);
            assert_eq!(a.shape.is_some(), b.shape.is_some());
            let dims = |s: &proto::TensorShapeProto| s.dim.clone();
            let their_dims = |s: &onnx_protobuf::TensorShapeProto| s.dim.clone();
            let (a, b) = (a.shape.as_ref().map(dims), b.shape.as_ref().map(their_dims));
            zip(&a.unwrap_or_default(), &b.unwrap_or_default(), |a, b| match (&a.value, &b.value) {
                (Some(dimension::Value::DimValue(a)), Some(TheirDim::DimValue(b))) => assert_eq!(a, b),
                (Some(dimension::Value::DimParam(a)), Some(TheirDim::DimParam(b))) => assert_eq!(a, b),
                (a, b) => assert!(a.is_none() && b.is_none(), "got {a:?} and {b:?}"),
            });
        }
        (a, b) => assert!(a.is_none() && b.is_none(), "{}: no model at hand has other types", ours.name()),
    }
}

#[track_caller]
fn zip<A, B>(ours: &[A], theirs: &[B], compare: impl Fn(&A, &B)) {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).for_each(|(a, b)| compare(a, b));
}
