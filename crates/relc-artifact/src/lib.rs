//! Artifacts: compiled explainers as files (`.relc`).
//!
//! An artifact holds the program of the program IR with its weights as kernels read them, so that it runs without being
//! compiled again, and the graph that was imported, so that it can be compiled for another machine or with another preset.
//! It is made by [`write()`], mapped into memory by [`mapped`], and read by [`read`] or [`read_beside`].
//!
//! # The file
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 4 | the [`FORMAT`] |
//! | 4 | zeros |
//! | 8 | length of the message |
//! | 8 | its hash |
//! | 8 | length of all blocks |
//! | | the message: `Artifact` of `proto/artifact.proto` |
//! | | zeros up to a multiple of 64 |
//! | | blocks, each at a multiple of 64, with zeros between them |
//!
//! Hashes are xxh3-64. The message names each block, and has its hash. They find damage, not malice: whoever can write a
//! file can write its hashes.
//!
//! **Invariant:** a file is untrusted. Nothing here panics on it; what is read was verified against its hashes, and texts
//! are parsed by parsers of untrusted text.

mod error;
#[allow(unsafe_code)]
mod map;
mod message;
mod read;
mod write;

pub use error::ArtifactError;
pub use map::mapped;
pub use read::{Artifact, Summary, is_artifact, read, read_beside, sealed, summary};
pub use write::{Parts, write};

/// How a file begins: with a byte that no text has, and line ends that a transfer as text would change.
pub const MAGIC: [u8; 8] = *b"\x89RELC\r\n\x1a";

/// The version of the format that this relc writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// Bytes before the message.
const HEADER: usize = 40;

/// Where blocks may begin: a cache line.
const ALIGN: u64 = 64;

/// The least multiple of [`ALIGN`] that is no less; none if there is no such number.
fn aligned(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(ALIGN)
}

/// What an artifact was made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The name of its file, for people.
    pub file: String,
    /// What was stated of what the model leaves open; empty: nothing.
    pub options: String,
    /// The least and the largest value of the input, where the model has integers.
    pub input_limits: Option<(f64, f64)>,
    /// The length of its file in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file's content in hexadecimal digits; empty if it was no file.
    pub sha256: String,
}

/// The preset that it was compiled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresetText {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where it comes from.
    pub citation: String,
    /// Its canonical text.
    pub text: String,
}

/// What it was compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The back end.
    pub backend: String,
    /// The instruction set.
    pub isa: String,
    /// The class of machines.
    pub machine: String,
    /// Bytes of the caches, the nearest first.
    pub caches: Vec<u64>,
}
