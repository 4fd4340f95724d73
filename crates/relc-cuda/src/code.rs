//! What a program becomes: CUDA C, and what is launched with which arguments.

use relc_ir::{NodeId, ValueId as GraphValue};
use relc_program::ValueId;
use relc_program::op::FlagId;

/// What a device compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// CUDA C; with `RELC_HOST` defined, C++ of the same kernels, for a host.
    pub source: String,
    /// The names of its kernels. Each takes pointers, and then the number of samples.
    pub kernels: Vec<String>,
}

/// Threads of every block.
pub const THREADS: u32 = 256;

/// Where an argument of a kernel is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A value, of all samples, one after the other.
    Value(ValueId),
    /// A constant, by its first element among all.
    Constant(usize),
    /// Sums of a step, by how many f64 of a sample come before.
    Sums(usize),
    /// A flag of each sample.
    Flag(FlagId),
    /// Memory to work in, of no value.
    Scratch,
}

/// How many blocks are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// For things of all samples in a row: so many of a sample, of which a block does so many; times rows, times layers.
    Flat {
        /// Things of a sample.
        items: u64,
        /// Things of a block.
        of: u32,
        /// Blocks along y.
        y: u32,
        /// Blocks along z.
        z: u32,
    },
    /// So many blocks along x for each sample, which is y.
    Sample {
        /// Blocks of a sample.
        x: u32,
    },
}

impl Grid {
    /// The blocks along x, y and z for so many samples; none if no device has so many.
    pub fn blocks(self, samples: usize) -> Option<[u32; 3]> {
        /// The limits of CUDA.
        const MOST: [u32; 3] = [(1 << 31) - 1, 65_535, 65_535];
        let samples = u64::try_from(samples).ok()?;
        let blocks = match self {
            Grid::Flat { items, of, y, z } => {
                [items.checked_mul(samples)?.div_ceil(u64::from(of)), u64::from(y), u64::from(z)]
            }
            Grid::Sample { x } => [u64::from(x), samples, 1],
        };
        let [x, y, z] = [0, 1, 2].map(|k| u32::try_from(blocks[k]).ok().filter(|n| *n <= MOST[k]));
        Some([x?, y?, z?])
    }
}

/// A thing to do, for all samples of a session.
#[derive(Clone, Debug)]
pub struct Action {
    /// The step of the program that it is for, by its number.
    pub step: usize,
    /// What it is for.
    pub purpose: Purpose,
    /// What is done.
    pub what: What,
}

/// What an action is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The relevance.
    Relevance,
    /// The ledger: it is left out where none is asked for.
    Ledger,
    /// The sums of the two ends: it is left out where a ledger is asked for, which has them.
    Ends,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum What {
    /// A kernel.
    Launch {
        /// Which.
        kernel: usize,
        /// The blocks.
        grid: Grid,
        /// Its pointers.
        arguments: Vec<Place>,
    },
    /// Every byte of a value becomes 0.
    Zero(ValueId),
    /// An op that no kernel is for, by the interpreter on the host.
    Interpret {
        /// The node.
        node: NodeId,
        /// Its data operands: their index, and the value.
        inputs: Vec<(usize, ValueId)>,
        /// What it gives.
        outputs: Vec<ValueId>,
    },
}

/// Sums that a launch leaves, `f64[N][parts][width]` at [`Place::Sums`].
#[derive(Clone, Debug)]
pub struct Booking {
    /// The f64 of a sample that come before.
    pub at: usize,
    /// Blocks that each left their own.
    pub parts: usize,
    /// Whether they are of an end, and left where no others are asked for.
    pub of_end: bool,
    /// What they mean.
    pub of: Booked,
}

/// What sums mean.
#[derive(Clone, Debug)]
pub enum Booked {
    /// Sum, sum of magnitudes, least and greatest of a relevance value.
    Stats(GraphValue),
    /// What quotients lose: to biases, to stabilisers, and to denominators that divide nothing, unless that is spread.
    Quotients {
        /// The node.
        node: NodeId,
        /// Whether the last is spread by a later step, which books it.
        spread: bool,
    },
    /// What a bias or a stabiliser took.
    Absorbed {
        /// The node.
        node: NodeId,
        /// Whether it was a bias.
        bias: bool,
    },
    /// What was spread and lost, the counts of what elements got, the counts of the output, and whether there was anything.
    Spread {
        /// The node.
        node: NodeId,
        /// The relevance value whose sums were taken before.
        joins: Option<GraphValue>,
        /// The relevance value whose sums are those of the output.
        whole: Option<GraphValue>,
    },
}

impl Booked {
    /// How many f64 each part leaves.
    pub fn width(&self) -> usize {
        match self {
            Booked::Stats(_) => 4,
            Booked::Quotients { .. } => 3,
            Booked::Absorbed { .. } => 1,
            Booked::Spread { .. } => 11,
        }
    }
}

/// A program as actions.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kernels.
    pub code: Code,
    /// The constants, one after the other.
    pub constants: Vec<f32>,
    /// The forward steps, behind a look at the input.
    pub forward: Vec<Action>,
    /// The backward steps.
    pub backward: Vec<Action>,
    /// The sums that they leave.
    pub bookings: Vec<Booking>,
    /// The f64 of all sums of a sample.
    pub sums: usize,
    /// Elements of a sample's memory to work in.
    pub scratch: usize,
    /// How many flags a sample has: those of the program, and one that says that its input is not finite.
    pub flags: usize,
}
