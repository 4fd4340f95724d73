//! What an executable consists of.

use std::sync::Arc;

use relc_ir::{NodeId, ValueId};
use relc_runtime::conv::{ConvPlan, PackedWeights};
use relc_runtime::tile::Part;
use relc_runtime::winograd::{Repair, WinogradPlan, WinogradWeights};

use crate::map::Function;
use crate::spread::Spread;

/// A buffer of a sample: first a logical one, after planning a slot.
pub type BufferId = usize;

/// A flag of a sample: raised where a quotient met a denominator that it can't divide by.
pub type FlagId = usize;

/// What a kernel's argument is bound to.
#[derive(Clone, Debug)]
pub enum Bind {
    /// A buffer that is read.
    Read(BufferId),
    /// A buffer that is written (and perhaps read).
    Write(BufferId),
    /// A constant.
    Constant(Arc<[f32]>),
}

/// An epilogue, with its operands by name.
#[derive(Clone, Debug)]
pub enum Finish {
    /// Nothing.
    None,
    /// A bias per channel, a residual, and the positive part.
    Activate {
        /// The bias.
        bias: Option<Arc<[f32]>>,
        /// What is added.
        residual: Option<BufferId>,
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `s = R / (out + offset)` with an offset per channel, 0 where the magnitude is at most `floor`; the flag is raised where that loses relevance.
    Quotient {
        /// R.
        relevance: BufferId,
        /// The bias and the stabiliser.
        offset: Arc<[f32]>,
        /// The smallest denominator.
        floor: f32,
        /// Raised where a denominator vanishes under relevance.
        flag: FlagId,
    },
    /// `R = factor * out`, and what else arrives at a fork.
    Product {
        /// The activation.
        factor: BufferId,
        /// What is added.
        addend: Option<BufferId>,
    },
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
        scratch: BufferId,
        /// How small outputs that are divided by are computed again.
        repair: Option<Arc<Repair>>,
    },
}

/// A convolution, forward or transposed, with what is fused into it.
#[derive(Clone, Debug)]
pub struct ConvStep {
    /// How it runs.
    pub algorithm: Algorithm,
    /// Floating-point operations of the plain sums: two per product.
    pub flops: u64,
    /// What it reads.
    pub input: BufferId,
    /// What it writes.
    pub output: BufferId,
    /// What is done with finished rows.
    pub finish: Finish,
}

/// An op without a kernel, run by the interpreter's own function on dense copies.
#[derive(Clone, Debug)]
pub struct InterpretStep {
    /// Its data operands: their index and buffer.
    pub inputs: Vec<(usize, BufferId)>,
    /// Its outputs.
    pub outputs: Vec<BufferId>,
}

/// The flat fallback of a linear layer.
#[derive(Clone, Debug)]
pub struct SpreadStep {
    /// How it spreads.
    pub spread: Spread,
    /// Whether there is anything to spread.
    pub flag: FlagId,
    /// R, which arrived.
    pub relevance: BufferId,
    /// `s`: 0 where the fallback applies.
    pub quotient: BufferId,
    /// The relevance of the input, which is added to.
    pub output: BufferId,
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
        input: BufferId,
        /// One element.
        output: BufferId,
        /// By what their root mean square is multiplied.
        factor: f64,
    },
    /// A function of each element.
    Map {
        /// What is read.
        input: BufferId,
        /// What is written.
        output: BufferId,
        /// Which.
        function: Function,
    },
    /// The same tensor in blocks of another size.
    Relayout {
        /// What is read.
        input: BufferId,
        /// What is written.
        output: BufferId,
    },
    /// `out[to] = in[from]`, or 0 where `from` is [`NOWHERE`].
    Move {
        /// The pairs (to, from).
        table: Arc<[(u32, u32)]>,
        /// What is read.
        input: BufferId,
        /// What is written.
        output: BufferId,
    },
    /// An op without a kernel.
    Interpret(Box<InterpretStep>),
    /// Spreads what a quotient could not divide; does nothing where there is none.
    Spread(Box<SpreadStep>),
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
        buffer: BufferId,
    },
    /// What a bias or the stabiliser of a node took, for the ledger: the sum of `s` times a value per channel.
    Absorbed {
        /// `s`.
        quotient: BufferId,
        /// The value of each channel.
        by: Arc<[f32]>,
        /// Whether it is a bias.
        bias: bool,
    },
}

/// No source.
pub const NOWHERE: u32 = u32::MAX;

/// An action and the node that it is for.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// What is done.
    pub action: Action,
}

/// How a step uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It reads it.
    Read,
    /// It writes it, and perhaps reads what it held.
    Write,
}

impl Step {
    /// Calls `f` for every buffer that the step uses; what `f` leaves is the buffer from then on.
    pub fn for_buffers(&mut self, mut f: impl FnMut(Use, &mut BufferId)) {
        match &mut self.action {
            Action::Conv(conv) => {
                f(Use::Read, &mut conv.input);
                match &mut conv.finish {
                    Finish::Quotient { relevance, .. } => f(Use::Read, relevance),
                    Finish::Product { factor, addend } => {
                        f(Use::Read, factor);
                        addend.iter_mut().for_each(|id| f(Use::Read, id));
                    }
                    Finish::Activate { residual, .. } => residual.iter_mut().for_each(|id| f(Use::Read, id)),
                    Finish::None => {}
                }
                if let Algorithm::Winograd { scratch, .. } = &mut conv.algorithm {
                    f(Use::Write, scratch);
                }
                f(Use::Write, &mut conv.output);
            }
            Action::Kernel { binds, .. } | Action::Quotients { binds, .. } => {
                for bind in binds {
                    match bind {
                        Bind::Read(id) => f(Use::Read, id),
                        Bind::Write(id) => f(Use::Write, id),
                        Bind::Constant(_) => {}
                    }
                }
            }
            Action::Move { input, output, .. }
            | Action::Map { input, output, .. }
            | Action::Relayout { input, output }
            | Action::Stabilise { input, output, .. } => {
                f(Use::Read, input);
                f(Use::Write, output);
            }
            Action::Interpret(step) => {
                step.inputs.iter_mut().for_each(|(_, id)| f(Use::Read, id));
                step.outputs.iter_mut().for_each(|id| f(Use::Write, id));
            }
            Action::Spread(spread) => {
                f(Use::Read, &mut spread.relevance);
                f(Use::Read, &mut spread.quotient);
                f(Use::Write, &mut spread.output);
            }
            Action::Raise { .. } => {}
            Action::Tally { buffer, .. } => f(Use::Read, buffer),
            Action::Absorbed { quotient, .. } => f(Use::Read, quotient),
        }
    }

    /// The buffers that the step uses, in the order of [`Step::for_buffers`].
    pub fn buffers(&self) -> Vec<(Use, BufferId)> {
        let mut uses = Vec::new();
        self.clone().for_buffers(|usage, id| uses.push((usage, *id)));
        uses
    }

    /// Whether the step is there for the ledger alone.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(self.action, Action::Tally { .. } | Action::Absorbed { .. })
    }
}
