//! What holds for the values of a graph, whatever its input. Passes and executors ask here and decide nothing of the kind
//! themselves.

mod sign;

pub use sign::{Sign, Signs};
