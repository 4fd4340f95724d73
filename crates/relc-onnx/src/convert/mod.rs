//! The converters, by group of operators. Each reads one node and gives one value.

pub(crate) mod activations;
pub(crate) mod concat;
pub(crate) mod constants;
pub(crate) mod control;
pub(crate) mod dynamic;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod folded;
pub(crate) mod linear;
pub(crate) mod local;
pub(crate) mod microsoft;
pub(crate) mod norm;
pub(crate) mod pool;
mod product;
pub(crate) mod qoperator;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod resize;
pub(crate) mod scatter;
pub(crate) mod select;
pub(crate) mod shaping;
pub(crate) mod slicing;
mod window;
