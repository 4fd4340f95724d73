//! What the cross-crate suites share.
#![forbid(unsafe_code)]

mod builder;
pub mod cuts;
pub mod graphs;
pub mod resnet;
pub mod shared;
