//! The CPU back end: micro-kernels for blocked tensors, and the running of programs on them.
//!
//! [`Cpu`] is a [`Backend`](relc_program::Backend): behind the portable passes over a [`Program`](relc_program::Program) it
//! runs its own, and compiles what they leave to an [`Executable`]: convolutions, fully connected layers and average pools, forward
//! and in all three passes of a z+ rule, become tile convolutions ([`conv`]) with fused epilogues; pools, splits and
//! elementwise work become kernels that Cranelift compiles for the shape ([`relc_codegen`]); moves become tables.
//!
//! A tensor of one sample lies [blocked](relc_program::layout::Blocked): channels in vectors of V, with a halo of zeros, so
//! that no kernel looks at borders. The [tile kernels](tile) compute some pixels by some blocks of output channels in
//! registers; they are the one hot loop of forward, denominators and backward alike, and are written with intrinsics,
//! because Cranelift's x86 vectors have 128 bits. [`conv`] cuts a convolution into tiles, packs its weights in the order in
//! which the tiles read them, and runs it. [`winograd`] computes 3x3 convolutions with fewer multiplications.
//!
//! One executable runs batches of any size, from several threads at once; results depend neither on the batch nor on the
//! number of threads, to the bit.
//!
//! **Invariant:** what this computes is what the interpreter computes; it has no semantics of its own. It needs neither
//! graph passes nor presets.

#[forbid(unsafe_code)]
mod backend;
pub mod bf16x6;
mod buffer;
#[forbid(unsafe_code)]
mod choose_convolutions;
#[forbid(unsafe_code)]
mod compile;
pub mod conv;
#[forbid(unsafe_code)]
mod cost;
pub mod epilogue;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod flat;
mod isa;
#[forbid(unsafe_code)]
mod machine;
#[forbid(unsafe_code)]
mod map;
#[forbid(unsafe_code)]
mod moves;
pub mod peak;
#[forbid(unsafe_code)]
mod plan;
#[forbid(unsafe_code)]
mod relayout;
#[forbid(unsafe_code)]
mod run;
mod simd;
#[forbid(unsafe_code)]
mod standardise;
pub mod stats;
#[forbid(unsafe_code)]
mod step;
pub mod tile;
pub mod winograd;

pub use backend::{Cpu, NAME};
pub use buffer::AlignedBuffer;
pub use choose_convolutions::ChooseConvolutions;
pub use cost::{Bound, Cost};
pub use error::{EngineError, StepError};
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use machine::{Class, Level, MACHINE_VARIABLE, Machine, MachineError};
pub use peak::{bytes_per_second, flops_per_second};
pub use run::{Executable, StepTime};
