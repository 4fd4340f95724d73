//! The ONNX messages, as prost generates them from `proto/onnx.proto` (a test compares), and the decoder that guards
//! them.
//!
//! A file is untrusted. Before prost builds anything, [`decode`] walks the wire format once: every length must lie
//! inside its message, and the number of messages and strings is bounded by [`MAX_FIELDS`] (an empty message takes
//! two bytes in the file and a hundred times as many in memory). Nesting is bounded by [`MAX_SUBGRAPHS`] for what is
//! built, and by prost's recursion limit for what is skipped.
//!
//! **Invariant:** this module knows nothing of the IR.

use bytes::Bytes;
use prost::Message;
use prost::encoding::decode_varint;

use crate::error::ImportError;

mod generated {
    #![allow(missing_docs)]
    include!("proto/onnx.rs");
}

pub use generated::*;

/// The most messages and strings that a file may hold (2^20); ResNet-152 has about ten thousand.
pub const MAX_FIELDS: usize = 1 << 20;

/// The most subgraphs inside each other.
pub const MAX_SUBGRAPHS: usize = 16;

/// Decodes a whole ONNX file. The raw bytes of its tensors share the memory of `bytes`.
///
/// # Errors
/// [`ImportError::Decode`] if the bytes are no protobuf message of this kind: a length beyond the end, a nesting
/// beyond the limits, a string that is not UTF-8, or more than [`MAX_FIELDS`] messages and strings.
pub fn decode(bytes: Bytes) -> Result<ModelProto, ImportError> {
    let mut fields = 0;
    walk(&bytes, Kind::Model, 0, &mut fields).map_err(ImportError::Decode)?;
    ModelProto::decode(bytes).map_err(|e| ImportError::Decode(e.to_string()))
}

/// The messages that hold repeated messages or strings; [`Kind::Leaf`] stands for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Leaf,
}

/// What the length-delimited field `number` of a message holds.
fn child(kind: Kind, number: u64) -> Kind {
    match (kind, number) {
        (Kind::Model, 7) | (Kind::Attribute, 6) => Kind::Graph,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph | Kind::Attribute, 5) | (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
        (Kind::Graph, 15) => Kind::SparseTensor,
        (Kind::Graph, 11..=13) => Kind::ValueInfo,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::ValueInfo, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        _ => Kind::Leaf,
    }
}

/// Counts the length-delimited fields of a message and of those in it.
///
/// The fields of a group are counted as if they were the message's own: relc reads no groups, and counting too
/// many of them is harmless.
fn walk(mut buf: &[u8], kind: Kind, subgraphs: usize, fields: &mut usize) -> Result<(), String> {
    if subgraphs > MAX_SUBGRAPHS {
        return Err(format!("got more than {MAX_SUBGRAPHS} subgraphs inside each other"));
    }
    while !buf.is_empty() {
        let key = decode_varint(&mut buf).map_err(|e| e.to_string())?;
        let skipped = match key & 7 {
            0 => decode_varint(&mut buf).map(|_| 0).map_err(|e| e.to_string())?,
            1 => 8,
            5 => 4,
            3 | 4 => 0,
            2 => {
                *fields += 1;
                if *fields > MAX_FIELDS {
                    return Err(format!("got more than {MAX_FIELDS} messages and strings"));
                }
                let length = decode_varint(&mut buf).map_err(|e| e.to_string())?;
                let length = usize::try_from(length).map_err(|e| e.to_string())?;
                let content = buf.get(..length).ok_or_else(|| beyond(length, buf.len()))?;
                let inner = child(kind, key >> 3);
                let deeper = usize::from((kind, inner) == (Kind::Attribute, Kind::Graph));
                if inner != Kind::Leaf {
                    walk(content, inner, subgraphs + deeper, fields)?;
                }
                length
            }
            wire => return Err(format!("got wire type {wire}, expected 0 to 5")),
        };
        buf = buf.get(skipped..).ok_or_else(|| beyond(skipped, buf.len()))?;
    }
    Ok(())
}

fn beyond(length: usize, left: usize) -> String {
    format!("got a field of {length} bytes where {left} are left; the file may be truncated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(bytes: Vec<u8>, expected: &str) {
        let error = decode(bytes.into()).expect_err("the bytes are no model").to_string();
        assert!(error.contains(expected), "got {error}");
    }

    /// A length-delimited field of the given number around `content`.
    fn wrap(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn deep_groups_are_refused() {
        // Unknown field 31: prost skips it, however deep it nests, up to its limit.
        let start = [0xfb, 0x01];
        let end = [0xfc, 0x01];
        refused([start.repeat(2_000_000), end.repeat(2_000_000)].concat(), "recursion limit");
        refused(start.repeat(2_000_000), "recursion limit");
        refused(vec![0xfc, 0x01], "tag");
        assert!(decode([start.repeat(50), end.repeat(50)].concat().into()).is_ok());
    }

    #[test]
    fn deep_subgraphs_are_refused() {
        // graph { node { attribute { g { node { attribute { g ... : the innermost of many subgraphs.
        let nested = |depth: usize| {
            let graph = (0..depth).fold(Vec::new(), |inner, _| wrap(1, &wrap(5, &wrap(6, &inner))));
            wrap(7, &graph)
        };
        let model = decode(nested(MAX_SUBGRAPHS).into()).expect("few enough");
        assert!(model.graph.expect("there is a graph").node[0].attribute[0].g.is_some());
        refused(nested(MAX_SUBGRAPHS + 1), "inside each other");
        refused(nested(10_000), "inside each other");
    }

    #[test]
    fn lengths_beyond_the_file_are_refused() {
        refused(vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0x07], "are left");
        refused(vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "are left");
        refused(vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "varint");
        refused(vec![0x3a, 0x05, 0x0a], "are left");
        refused(vec![0x09, 0x00], "are left");
        refused(vec![0x0f], "wire type 7");
    }

    #[test]
    fn a_million_empty_messages_are_refused() {
        refused(wrap(7, &[0x0a, 0x00].repeat(MAX_FIELDS)), "messages and strings");
        let dims = wrap(2, &wrap(1, &wrap(2, &[0x0a, 0x00].repeat(MAX_FIELDS))));
        refused(wrap(7, &wrap(11, &dims)), "messages and strings");
    }

    #[test]
    fn strings_are_utf8() {
        refused(wrap(7, &wrap(2, &[0xff, 0xfe])), "UTF-8");
    }

    #[test]
    fn raw_data_is_not_copied() {
        let tensor = TensorProto { raw_data: Some(Bytes::from(vec![7; 4096])), ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let bytes = Bytes::from(ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec());
        let model = decode(bytes.clone()).expect("it is a model");
        let raw = model.graph.unwrap().initializer[0].raw_data.clone().unwrap();
        assert!(bytes.as_ptr_range().contains(&raw.as_ptr()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_crash(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode(bytes.into());
        }

        #[test]
        fn random_graphs_never_crash(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode(wrap(7, &bytes).into());
            let _ = decode(wrap(7, &wrap(1, &wrap(5, &bytes))).into());
            let _ = decode(wrap(7, &wrap(5, &bytes)).into());
        }
    }
}
