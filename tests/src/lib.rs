//! What the cross-crate suites share.
#![forbid(unsafe_code)]

pub mod agreement;
pub mod builder;
pub mod corpus;
pub mod cuts;
pub mod every;
pub mod gpu;
pub mod graphs;
pub mod mutations;
pub mod nodes;
pub mod npz;
pub mod odd;
pub mod parts;
pub mod resnet;
pub mod shared;
pub mod soup;
pub mod twins;
pub mod zoo;
