//! The messages of a file, as prost generates them from `proto/artifact.proto` (a test compares).

#![allow(missing_docs)]

include!("proto/artifact.rs");
