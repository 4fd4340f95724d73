//! What the cross-crate suites share.
#![forbid(unsafe_code)]

pub mod cuts;
pub mod graphs;
pub mod shared;
