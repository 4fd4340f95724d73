//! What compiled explanations run on: blocked layouts, packed weights, and the micro-kernels of each
//! instruction set.
//!
//! A tensor of one sample lies [blocked](layout::Blocked): channels in vectors of V, with a halo of zeros, so
//! that no kernel looks at borders. The [tile kernels](tile) compute some pixels by some blocks of output
//! channels in registers; they are the one hot loop of forward, denominators and backward alike, and are
//! written with intrinsics, because Cranelift's x86 vectors have 128 bits. [`conv`] cuts a convolution into
//! tiles, packs its weights in the order in which the tiles read them, and runs it. [`winograd`] computes 3x3 convolutions with fewer multiplications.
//!
//! **Invariant:** no graph here, and no rule: this crate knows sums of products, not relevance.

mod buffer;
pub mod conv;
pub mod epilogue;
mod isa;
pub mod layout;
pub mod peak;
mod stats;
pub mod tile;
pub mod winograd;

pub use buffer::AlignedBuffer;
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use stats::Stats;
