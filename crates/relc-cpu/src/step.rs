//! What a module consists of: steps with everything that they need to run.

use std::sync::Arc;

use relc_ir::{NodeId, ValueId, Values};
use relc_program::op::FlagId;

use crate::bf16x6::{Bf16x6Plan, Bf16x6Weights};
use crate::conv::{ConvPlan, PackedWeights};
use crate::tile::Part;
use crate::winograd::{Repair, WinogradPlan, WinogradWeights};

use crate::flat::Flat;
use crate::map::Function;
use crate::moves::Run;

/// A slot of a sample's memory.
pub type Slot = usize;

/// What a kernel's argument is bound to.
#[derive(Clone, Debug)]
pub enum Bind {
    /// A buffer that is read.
    Read(Slot),
    /// A buffer that is written (and perhaps read).
    Write(Slot),
    /// A constant.
    Constant(Values),
}

/// An epilogue, with its operands by name.
#[derive(Clone, Debug)]
pub enum Finish {
    /// Nothing.
    None,
    /// A bias per channel, a residual, and the positive part.
    Activate {
        /// The bias.
        bias: Option<Values>,
        /// What is added.
        residual: Option<Slot>,
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `s = R / (out + offset + addend)` with an offset per channel, 0 where the magnitude is at most `floor`; the flag is raised where that loses relevance.
    Quotient {
        /// R.
        relevance: Slot,
        /// The bias and the stabiliser.
        offset: Values,
        /// The sums of another product, if there is one.
        addend: Option<Slot>,
        /// The smallest denominator.
        floor: f32,
        /// Raised where a denominator vanishes under relevance.
        flag: Option<FlagId>,
    },
    /// `R = factor * out`, and what else arrives at a fork.
    Product {
        /// The activation, if there is one.
        factor: Option<Slot>,
        /// What is added.
        addends: Vec<Slot>,
    },
}

impl Finish {
    /// The slots that it reads.
    pub fn reads(&self) -> Vec<Slot> {
        match self {
            Finish::None => Vec::new(),
            Finish::Activate { residual, .. } => residual.iter().copied().collect(),
            Finish::Quotient { relevance, addend, .. } => [*relevance].into_iter().chain(*addend).collect(),
            Finish::Product { factor, addends } => factor.iter().chain(addends).copied().collect(),
        }
    }
}

/// How a convolution is computed.
#[derive(Clone, Debug)]
pub enum Algorithm {
    /// As sums of products.
    Direct {
        /// Tiles and taps.
        plan: Arc<ConvPlan>,
        /// The weights; all parts of them in one copy.
        weights: Arc<PackedWeights>,
        /// The part of them.
        part: Part,
    },
    /// By Winograd's algorithm; the weights are those of one part.
    Winograd {
        /// Tiles and transforms.
        plan: Arc<WinogradPlan>,
        /// The weights.
        weights: Arc<WinogradWeights>,
        /// The transformed input.
        scratch: Slot,
        /// How small outputs that are divided by are computed again.
        repair: Option<Arc<Repair>>,
    },
    /// As sums of products of bf16.
    Bf16x6 {
        /// Tiles and steps.
        plan: Arc<Bf16x6Plan>,
        /// The weights; all parts of them in one copy.
        weights: Arc<Bf16x6Weights>,
        /// The part of them.
        part: Part,
    },
}

impl Algorithm {
    /// The memory that it works in.
    pub fn scratch(&self) -> Option<Slot> {
        match self {
            Algorithm::Direct { .. } | Algorithm::Bf16x6 { .. } => None,
            Algorithm::Winograd { scratch, .. } => Some(*scratch),
        }
    }

    /// Where the packed weights are, which tells them from others, and how many elements they have.
    pub fn weights(&self) -> (usize, usize) {
        match self {
            Algorithm::Direct { plan, weights, .. } => (Arc::as_ptr(weights).addr(), plan.packed_len()),
            Algorithm::Winograd { plan, weights, .. } => (Arc::as_ptr(weights).addr(), plan.packed_len()),
            Algorithm::Bf16x6 { plan, weights, .. } => (Arc::as_ptr(weights).addr(), plan.packed_len()),
        }
    }

    /// Whether samples had better share a reading of the weights.
    pub fn is_streamed(&self) -> bool {
        match self {
            Algorithm::Direct { plan, .. } => plan.is_streamed(),
            Algorithm::Winograd { plan, .. } => plan.is_streamed(),
            Algorithm::Bf16x6 { plan, .. } => plan.is_streamed(),
        }
    }
}

/// A convolution, forward or transposed, with what is fused into it.
#[derive(Clone, Debug)]
pub struct ConvStep {
    /// How it runs.
    pub algorithm: Algorithm,
    /// Floating-point operations of the plain sums: two per product.
    pub flops: u64,
    /// What it reads.
    pub input: Slot,
    /// What it writes.
    pub output: Slot,
    /// What is done with finished rows.
    pub finish: Finish,
    /// The second output, where a skip connection joins.
    pub joined: Option<Slot>,
    /// The relevance values whose sums the ledger takes before each addend.
    pub tallies: Vec<Option<ValueId>>,
}

/// An op without a kernel, run by the interpreter's own function on dense copies.
#[derive(Clone, Debug)]
pub struct InterpretStep {
    /// Its data operands: their index and buffer.
    pub inputs: Vec<(usize, Slot)>,
    /// Its outputs.
    pub outputs: Vec<Slot>,
}

/// The flat fallback of a linear layer.
#[derive(Clone, Debug)]
pub struct FlatStep {
    /// How it spreads.
    pub flat: Flat,
    /// Whether there is anything to spread.
    pub flag: FlagId,
    /// R, which arrived.
    pub relevance: Slot,
    /// `s`: 0 where the fallback applies.
    pub quotient: Slot,
    /// The relevance of the input, which is added to.
    pub output: Slot,
    /// The relevance value whose sums were taken before, and which what is spread joins.
    pub tally: Option<ValueId>,
    /// The relevance value whose sums are those of the output.
    pub whole: Option<ValueId>,
}

/// One thing to do for a sample.
#[derive(Clone, Debug)]
pub enum Action {
    /// A convolution.
    Conv(Box<ConvStep>),
    /// A kernel compiled by Cranelift, by its index.
    Kernel {
        /// Which.
        kernel: usize,
        /// Its arguments.
        binds: Vec<Bind>,
    },
    /// A kernel of [`relc_codegen::kernels::quotients`], whose last argument is a ledger of what its node loses.
    Quotients {
        /// Which.
        kernel: usize,
        /// Its other arguments.
        binds: Vec<Bind>,
        /// The flag that it raises where something is left to spread.
        flag: Option<usize>,
    },
    /// The stabiliser of a layer whose denominators measure it: `factor` times the root of their mean square.
    Stabilise {
        /// The denominators.
        input: Slot,
        /// One element.
        output: Slot,
        /// By what their root mean square is multiplied.
        factor: f64,
    },
    /// A function of each element.
    Map {
        /// What is read.
        input: Slot,
        /// What is written.
        output: Slot,
        /// Which.
        function: Function,
    },
    /// Runs of whole channels, standardised.
    Standardise {
        /// What is read.
        input: Slot,
        /// What is written.
        output: Slot,
        /// How many runs.
        runs: usize,
        /// Added to variances.
        epsilon: f64,
    },
    /// The same tensor in blocks of another size.
    Relayout {
        /// What is read.
        input: Slot,
        /// What is written.
        output: Slot,
    },
    /// Elements of one value become elements of another.
    Move {
        /// Which, in ascending order of where they go.
        table: Arc<[Run]>,
        /// What is read.
        input: Slot,
        /// What is written.
        output: Slot,
    },
    /// An op without a kernel.
    Interpret(Box<InterpretStep>),
    /// Spreads what a quotient could not divide; does nothing where there is none.
    Flat(Box<FlatStep>),
    /// Raises a flag: a constant denominator vanishes.
    Raise {
        /// Which.
        flag: FlagId,
    },
    /// Sums of a relevance value, for the ledger.
    Tally {
        /// The value.
        value: ValueId,
        /// Where it is.
        buffer: Slot,
    },
    /// What a bias or the stabiliser of a node took, for the ledger: the sum of `s` times a value per channel.
    Absorbed {
        /// `s`.
        quotient: Slot,
        /// The value of each channel.
        by: Values,
        /// Whether it is a bias.
        bias: bool,
    },
}

impl Action {
    /// The slots that it writes, without memory that it works in.
    pub fn outputs(&self) -> Vec<Slot> {
        match self {
            Action::Conv(conv) => [Some(conv.output), conv.joined].into_iter().flatten().collect(),
            Action::Kernel { binds, .. } | Action::Quotients { binds, .. } => {
                let written = |bind: &Bind| if let Bind::Write(slot) = bind { Some(*slot) } else { None };
                binds.iter().filter_map(written).collect()
            }
            Action::Stabilise { output, .. }
            | Action::Map { output, .. }
            | Action::Standardise { output, .. }
            | Action::Relayout { output, .. }
            | Action::Move { output, .. } => vec![*output],
            Action::Interpret(interpret) => interpret.outputs.clone(),
            Action::Flat(flat) => vec![flat.output],
            Action::Raise { .. } | Action::Tally { .. } | Action::Absorbed { .. } => Vec::new(),
        }
    }
}

/// An action and the node that it is for.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// What is done.
    pub action: Action,
}

impl Step {
    /// Whether the step is there for the ledger alone.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(self.action, Action::Tally { .. } | Action::Absorbed { .. })
    }
}
