//! Devices: what compiles [`Code`], and what it is asked to do.

use std::fmt::Debug;
use std::sync::Arc;

use crate::code::Code;
use crate::driver::Loaded;
use crate::error::CudaError;

/// A machine that runs kernels: one of relc's, which alone know what its plans promise to kernels.
pub trait Device: Load {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Its multiprocessors.
    fn multiprocessors(&self) -> usize;

    /// Whether it has tensor cores that multiply TF32.
    fn has_tf32(&self) -> bool;

    /// From how many samples on a batch is worth two queues, of which one copies while the other computes; 2 at least.
    fn overlapping_samples(&self) -> usize;

    /// What it can do at most; none if that is not known.
    fn peaks(&self) -> Option<Peaks>;
}

/// What a device can do at most, in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Operations on f32, of which a multiply-add is two.
    pub fp32: f64,
    /// Operations of tensor cores on TF32.
    pub tf32: f64,
    /// Bytes from its memory.
    pub bandwidth: f64,
}

impl Peaks {
    /// NVIDIA's data sheet of the H200 (SXM).
    pub const H200: Peaks = Peaks { fp32: 67e12, tf32: 495e12, bandwidth: 4.8e12 };
}

/// The part of a device that nobody else can implement or call.
pub trait Load: Send + Sync + Debug {
    /// Compiles kernels, and puts constants into its memory.
    ///
    /// # Errors
    /// If they don't compile, or there is no memory.
    fn load(&self, code: &Code, constants: &[f32]) -> Result<Arc<Loaded>, CudaError>;
}

/// A device that is only planned for: what is there to be looked at, on machines without a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The multiprocessors that tiles are chosen for.
    pub multiprocessors: usize,
}

impl Planned {
    /// An H200.
    pub const HOPPER: Planned = Planned { multiprocessors: 132 };
}

impl Device for Planned {
    fn name(&self) -> String {
        format!("a GPU of {} multiprocessors", self.multiprocessors)
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn has_tf32(&self) -> bool {
        true
    }

    fn overlapping_samples(&self) -> usize {
        usize::MAX
    }

    fn peaks(&self) -> Option<Peaks> {
        (*self == Planned::HOPPER).then_some(Peaks::H200)
    }
}

impl Load for Planned {
    fn load(&self, _: &Code, _: &[f32]) -> Result<Arc<Loaded>, CudaError> {
        Err(CudaError::Missing(format!("{} is only planned for: nothing runs on it", self.name())))
    }
}

/// A command; addresses have been found to lie in the memory, and to have room for what a kernel accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Launches a kernel.
    Launch {
        /// Which.
        kernel: usize,
        /// Blocks along x, y and z.
        blocks: [u32; 3],
        /// Its pointers.
        addresses: Vec<Address>,
        /// Its last argument.
        samples: i32,
    },
    /// Sets bytes to 0.
    Zero {
        /// The first.
        at: usize,
        /// How many.
        bytes: usize,
    },
}

/// Where a pointer points: a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Of the queue's memory.
    Memory(usize),
    /// Of the constants.
    Constant(usize),
}
