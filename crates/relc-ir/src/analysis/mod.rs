//! What holds for the values of a graph, whatever its input. Passes and executors ask here and decide nothing of the kind
//! themselves.

mod reversal;
mod sign;

pub use reversal::reversal;
pub use sign::{Sign, Signs};
