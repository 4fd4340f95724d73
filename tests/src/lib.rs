//! What the cross-crate suites share.
#![forbid(unsafe_code)]

pub mod graphs;
pub mod shared;
pub mod zoo;
