//! What the cross-crate suites share.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod cuts;
pub mod graphs;
pub mod nodes;
pub mod shared;
pub mod zoo;
