//! ONNX files to relc's graph.
//!
//! [`import_path`] and [`import_bytes`] read a model; what they give, a [`relc_ir::Graph`], holds only `f32`
//! tensors, the operators of [`relc_ir::Op`] and shapes that are known up to the batch. Integers, shape arithmetic
//! and old spellings of operators end here. One file per phase:
//!
//! 1. `proto`: bytes to messages ([`proto::decode`]), guarded against hostile files.
//! 2. `inline`: the model's functions and the branches of `If` to plain nodes.
//! 3. `names`: which values there are and who defines them; the order of the nodes; cycles, duplicates, what is
//!    missing.
//! 4. `tensor` and `external`: initialisers to constants, sizes checked first.
//! 5. `convert`: node by node, by the table in `opset` ([`supported_ops`]), with the folding of shapes (`sym`,
//!    `constant`), of all that depends on constants alone (`fold`), and of quantised tensors to the floats that they
//!    stand for (`quantised`).
//! 6. `assemble`: inputs and outputs, and all issues in one error.
//!
//! ```
//! # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
//! match relc_onnx::import_path(folder.join("no-such-model.onnx")) {
//!     Ok(imported) => println!("{}", imported.graph),
//!     Err(error) => assert!(error.to_string().starts_with("can't read")),
//! }
//! ```
//!
//! **Invariant:** a model is untrusted. Nothing here panics on it, and constants take no more memory than what its
//! files' size justifies and a limit allows ([`ImportOptions::constant_limit`]). What is not understood is an error, never a guess.
#![forbid(unsafe_code)]

mod assemble;
mod call;
mod constant;
mod convert;
mod declared;
mod error;
mod external;
mod fold;
mod held;
mod inline;
mod names;
mod opset;
pub mod proto;
mod quantised;
mod sym;
mod tensor;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use assemble::{ImportOptions, Imported};
pub use error::{ImportError, IssueKind, MixedBatch, NodeIssue, NodeIssues, OPSETS};
pub use held::Held;
pub use opset::{OpSpec, supported_microsoft_ops, supported_ops};

/// Protobuf's own limit on a message, in bytes.
const MAX_FILE: u64 = 1 << 31;

/// Imports a model from a file; external data is read from the file's folder, and if it is a link, from its target's.
///
/// # Errors
/// If the file can't be read, or as [`import_bytes`].
pub fn import_path(path: impl AsRef<Path>) -> Result<Imported, ImportError> {
    import_path_with(path.as_ref(), &ImportOptions::default())
}

/// As [`import_path`], with what the model leaves open.
///
/// # Errors
/// As [`import_path`], and if the options don't fit the model.
pub fn import_path_with(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let read = |source| ImportError::Read { path: path.to_path_buf(), source };
    let no_model = |got: String| ImportError::NoModelFile { path: path.to_path_buf(), got };
    // Asked before it is opened: opening a named pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(no_model(if metadata.is_dir() { "a folder".into() } else { "no regular file".into() }));
    }
    let too_long = |length| no_model(format!("a file of {length} bytes"));
    if metadata.len() > MAX_FILE {
        return Err(too_long(metadata.len()));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(metadata.len() as usize).map_err(|e| read(e.into()))?;
    File::open(path).map_err(read)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_long(bytes.len() as u64));
    }
    // A link's own folder first: what the model names lies beside the link.
    let target = path.canonicalize().map_err(read)?;
    let folders: Vec<PathBuf> = [path, &target].map(folder).into();
    import(bytes.into(), &folders, options)
}

/// The folder that a file lies in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Imports a model from memory. External data is read from `base_dir`; without one, it is refused.
///
/// # Errors
/// If the bytes are no ONNX model, the model is malformed, or it uses what relc does not import: then all such nodes
/// are in the one error ([`ImportError::Nodes`]).
pub fn import_bytes(bytes: impl Into<Bytes>, base_dir: Option<&Path>) -> Result<Imported, ImportError> {
    import_bytes_with(bytes, base_dir, &ImportOptions::default())
}

/// As [`import_bytes`], with what the model leaves open.
///
/// # Errors
/// As [`import_bytes`], and if the options don't fit the model.
pub fn import_bytes_with(
    bytes: impl Into<Bytes>,
    base_dir: Option<&Path>,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let folders: Vec<PathBuf> = base_dir.into_iter().map(Path::to_path_buf).collect();
    import(bytes.into(), &folders, options)
}

fn import(bytes: Bytes, folders: &[PathBuf], options: &ImportOptions) -> Result<Imported, ImportError> {
    let size = bytes.len();
    assemble::assemble(proto::decode(bytes)?, size, folders, options)
}
