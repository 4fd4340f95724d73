//! The compiled engine: a graph becomes a list of steps over blocked buffers, and runs.
//!
//! [`Executable::compile`] lowers a derived graph: convolutions, fully connected layers and average pools, forward and
//! in all three passes of a z+ rule, become tile convolutions ([`relc_runtime::conv`]) with fused epilogues; pools,
//! splits and elementwise work become kernels that Cranelift compiles for the shape ([`relc_codegen`]); moves become
//! tables. Buffers are planned by liveness.
//!
//! One executable runs batches of any size, from several threads at once; results depend neither on the batch nor on
//! the number of threads, to the bit.
//!
//! **Invariant:** what this computes is what the interpreter computes; it has no semantics of its own.
#![forbid(unsafe_code)]

mod build;
mod error;
mod image;
mod map;
mod plan;
mod program;
mod relayout;
mod run;
mod spread;
mod step;

pub use error::{EngineError, StepError};
pub use program::Program;
pub use relc_runtime::peak::flops_per_second;
pub use relc_runtime::{ISA_VARIABLE, Isa, IsaError};
pub use run::{BackwardOutput, Executable, Outputs, StepTime};
