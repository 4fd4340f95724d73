//! Convolutions of one sample by tile kernels: what to compute ([`ConvSpec`]), how ([`ConvPlan`]), and doing it.
//!
//! A plan is made once for a geometry, the layouts of input and output, and an instruction set. Forward,
//! transposed (stride 1 and, by residues, any other), grouped and depthwise convolutions and matrix products
//! become the same loops over tiles; only taps and the order of packed weights differ.

mod build;
mod channels;
mod columns;
mod cost;
mod plan;
mod run;
mod slices;
mod weights;

pub(crate) use channels::Roles;
pub(crate) use columns::balanced;
pub use plan::ConvPlan;
pub use run::{Arguments, Run};
pub(crate) use slices::{OutputSlice, SliceTap, Slices};
pub use weights::PackedWeights;

use relc_program::conv::{ConvSpec, SpecError};
use relc_program::layout::{Halo, Image, LayoutError};

use crate::isa::Isa;

/// Why there is no plan for a convolution, or a call was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvError {
    /// There is no such convolution.
    #[error(transparent)]
    Spec(Box<SpecError>),
    /// A layout of the wrong channels or size.
    #[error("convolution: {what} is laid out as [C,D,H,W] = {got:?}, expected {expected:?}")]
    Image {
        /// Input, output or an operand.
        what: &'static str,
        /// Its sizes.
        got: Image,
        /// What they should be.
        expected: Image,
    },
    /// An operand in blocks of another size.
    #[error("convolution: {what} is laid out in blocks of {got} channels, expected {expected}")]
    Blocks {
        /// Which.
        what: &'static str,
        /// Its block.
        got: usize,
        /// The output's.
        expected: usize,
    },
    /// A block that the kernels can't read or write.
    #[error(
        "convolution: {what} is laid out in blocks of {got} channels; {isa} kernels need blocks of {}, or of all \
         channels for {few}",
        .isa.width()
    )]
    Block {
        /// Input or output.
        what: &'static str,
        /// Its block.
        got: usize,
        /// The instruction set.
        isa: Isa,
        /// When blocks of all channels will do.
        few: &'static str,
    },
    /// A halo that is too small.
    #[error("convolution: the input has the halo {got:?}, the kernel reads {expected:?}")]
    Halo {
        /// The layout's.
        got: Halo,
        /// What is read.
        expected: Halo,
    },
    /// An instruction set that the machine does not have.
    #[error("convolution: this machine lacks {isa}")]
    Unavailable {
        /// Which.
        isa: Isa,
    },
    /// More packed weights or offsets than memory can have.
    #[error("{spec}: too large")]
    TooLarge {
        /// The convolution.
        spec: Box<ConvSpec>,
    },
    /// A slice of another length than its layout's.
    #[error("convolution: {0}")]
    Length(#[from] LayoutError),
}

impl From<SpecError> for ConvError {
    fn from(error: SpecError) -> Self {
        ConvError::Spec(Box::new(error))
    }
}
