//! The CUDA back end: the same programs on a GPU.
//!
//! [`Cuda`] is a [`Backend`](relc_program::Backend). Behind the portable passes it runs its own ([`passes`]): values lie
//! row-major, convolutions get tiles, sums for the ledger become steps. What they leave is printed as CUDA C, one kernel for
//! each shape of a step, which a [`Device`] compiles and runs: [`driver`] is NVIDIA's, through cudarc, whose libraries are
//! loaded when they are asked for.
//!
//! Each output is one sum in one order and there are no atomic additions, so that results depend neither on the batch nor on
//! the run, to the bit.
//!
//! The text of the kernels is also C++, which tests compile and run on a CPU, block by block and phase by phase, behind a driver
//! that simulates NVIDIA's. So all of this is tested where there is no GPU.
//!
//! **Invariant:** what this computes is what the interpreter computes; it has no semantics of its own.

#[forbid(unsafe_code)]
mod backend;
#[forbid(unsafe_code)]
mod code;
#[forbid(unsafe_code)]
mod cost;
#[forbid(unsafe_code)]
mod device;
pub mod driver;
#[forbid(unsafe_code)]
mod emit;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod memory;
#[forbid(unsafe_code)]
pub mod passes;
#[forbid(unsafe_code)]
mod profile;
#[forbid(unsafe_code)]
mod session;

pub use backend::{Cuda, CudaModule};
pub use code::{Action, Booked, Booking, Code, Grid, Place, Plan, Purpose, What};
pub use cost::Cost;
pub use device::{Device, Peaks, Planned};
pub use emit::plan;
pub use error::CudaError;
pub use profile::StepTime;
pub use session::{CudaSession, OnGpu};
