//! What steps do. Nothing here knows a machine: sizes are those of one sample, constants have names.

use relc_ir::op::{Activation, Arithmetic, AveragePool, MaxPool, Window};
use relc_ir::rule::{Condition, Surrogate, WeightPart};

use crate::conv::{ConvSpec, Direction};

/// A flag of a sample: raised where a quotient met a denominator that it can't divide by.
pub type FlagId = usize;

/// What a step does. Its operands are the step's: values that it reads and writes, and constants, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOp {
    /// A convolution with what is fused into it.
    Conv(Box<ConvOp>),
    /// `y = max` over windows of `x`. Reads x.
    MaxPool(MaxPool),
    /// `y = mean` over windows of `x`. Reads x.
    AveragePool(AveragePool),
    /// The relevance of a max pool goes to the winner of each window. Reads r, x.
    Winner(MaxPool),
    /// A function of each element. Reads x.
    Activation(Activation),
    /// `max(x, 0)` or `min(x, 0)`, kept beside `x`. Reads x.
    Part(Side),
    /// `y = x * scale[c] + shift[c]`, then the positive part with `relu`. Reads x; constants scale, shift.
    Affine {
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `y = a op b`, then the positive part with `relu`; one of both may be one pixel for all of a slice. Reads a, b.
    Binary {
        /// Add, Sub or Mul.
        op: Arithmetic,
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `y = x0 + x1 + ...` in this order, then the positive part with `relu`. Reads what is added.
    Sum {
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `y = factor x`. Reads x.
    Scale {
        /// The factor.
        factor: f32,
    },
    /// `y = x * factor[c] + addend`. Reads x, and the addend if there is one; constant factor.
    ScaleChannels {
        /// Whether something is added.
        addend: bool,
    },
    /// `y = x * factor[c,d,h,w]`. Reads x; constant factor.
    ScaleElements,
    /// `y[c,d,h,w] = weight s[c,d]`, times a factor, plus an addend: the transposed mean over a picture. Reads s, and the
    /// factor and the addend if they are there.
    Broadcast {
        /// The weight.
        weight: f32,
        /// Whether there is a factor.
        product: bool,
        /// Whether there is an addend, which comes with a factor alone.
        addend: bool,
    },
    /// `r_a = r |a| / (|a| + |b|)` and `r_b = r - r_a`; 1/2 each where both are 0. Reads a, b, r; writes r_a, r_b.
    SplitRatio,
    /// `y = share x` and `z = x - y`. Reads x; writes y, z.
    Share {
        /// The share.
        share: f32,
    },
    /// `s = R / den` of each part of a rule, and what the denominators lose.
    Quotients(Box<Quotients>),
    /// `eps = factor sqrt(mean x^2)`, one number. Reads x.
    Stabilise {
        /// The factor.
        factor: f64,
    },
    /// `y = (x - mean) / sqrt(variance + epsilon)`, with the mean and the variance of each of so many equal runs of the
    /// row-major elements. Reads x.
    Standardise {
        /// How many runs; a divisor of the elements.
        runs: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// The derivative of a Relu, or what stands for it. Reads r, x.
    Derivative(Surrogate),
    /// The same values in another layout. Reads x.
    Convert,
    /// Elements of one value become elements of another.
    Move(Move),
    /// What the step's node does, by the interpreter: an op that no step says otherwise. Reads the node's data
    /// operands, writes its outputs.
    Interpret,
    /// Relevance that no denominator could divide (where s is 0) goes evenly to the receptive field; nothing is done
    /// unless the flag is raised. Reads r, s; adds to what it writes.
    Flat(Flat),
    /// Raises a flag: a constant denominator vanishes.
    Raise {
        /// Which.
        flag: FlagId,
    },
    /// Sums of a relevance value, for the ledger. Reads it.
    Tally(Vec<String>),
    /// What a bias or a stabiliser took, for the ledger: the sum of `s * by[c]`. Reads s; constant by.
    Absorbed {
        /// Whether it was a bias.
        bias: bool,
    },
}

/// Which part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// `max(x, 0)`.
    Positive,
    /// `min(x, 0)`.
    Negative,
}

/// A convolution, or a fully connected layer or average pool as one, forward or transposed.
///
/// Reads its input, and then what its epilogue reads; constants: its weights, unless they are one number, and what the
/// epilogue takes. Writes its output; by Winograd's algorithm, also memory for the transformed input.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvOp {
    /// The geometry of the forward convolution.
    pub spec: ConvSpec,
    /// Which way it runs.
    pub direction: Direction,
    /// Its weights.
    pub weights: Weights,
    /// How exact its sums have to be.
    pub exactness: Exactness,
    /// The signs of the products that it sums.
    pub signs: ProductSigns,
    /// How it is computed; none until choose-convolutions has run.
    pub algorithm: Option<Algorithm>,
    /// What is done with its sums.
    pub epilogue: Epilogue,
}

/// The weights of a convolution: a form of a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Where they are.
    pub source: WeightSource,
    /// Which form of them is used.
    pub form: WeightPart,
    /// `g` of the gamma forms; 0 in others.
    pub gamma: f64,
}

/// Where the weights of a convolution are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightSource {
    /// In the constant `f32[M,C/groups,kD,kH,kW]`, or `f32[M,C]` of a fully connected layer.
    Constant,
    /// In the constant `f32[C,M]` of a fully connected layer.
    Transposed,
    /// Every weight is this number.
    Tap(f32),
}

/// The signs of the products that a convolution sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProductSigns {
    /// Any: they may cancel, and a sum be far smaller than its products.
    #[default]
    Mixed,
    /// None is negative.
    NonNegative,
    /// None is positive.
    NonPositive,
}

impl ProductSigns {
    /// Whether nothing cancels, so that a plain sum is exact to a fraction of itself.
    pub fn agree(self) -> bool {
        self != ProductSigns::Mixed
    }
}

/// How exact the sums of a convolution have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// They are measured against the largest of them.
    Plain,
    /// Something is divided by them, so each has to be exact to a fraction of itself.
    Divisor,
    /// Something is divided by them, and nothing bounds how small they may be; or they add up terms of which some may be
    /// far larger than any sum. They are summed plainly: their zeros are zeros, and each depends on its own terms alone.
    Exact,
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// As sums of products.
    Direct,
    /// By Winograd's F(2x2, 3x3).
    Winograd2,
    /// By Winograd's F(4x4, 3x3).
    Winograd4,
    /// As sums of products, each of them six of bf16: [BF16x6](https://arxiv.org/abs/1904.06376).
    Bf16x6,
    /// As sums of products, whose inputs are looked up one by one: beyond the borders they are 0, and no frame is needed.
    Gather,
    /// As a product of matrices whose elements are gathered when they are needed, as by [`Gather`](Self::Gather), in square
    /// tiles.
    Gemm(Tile, Precision),
}

/// How many rows and columns of a product of matrices are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 32 by 32.
    Tile32,
    /// 64 by 64.
    Tile64,
    /// 128 by 128.
    Tile128,
}

impl Tile {
    /// Rows, and columns.
    pub fn side(self) -> u32 {
        match self {
            Tile::Tile32 => 32,
            Tile::Tile64 => 64,
            Tile::Tile128 => 128,
        }
    }
}

/// What the factors of a product are rounded to. Sums are of f32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// They are taken as they are, f32.
    #[default]
    F32,
    /// To TF32, of 11 significant bits: what tensor cores multiply.
    Tf32,
    /// To two numbers of TF32 that add up to 22 significant bits; three products of them are one of f32, but for its last
    /// bits ([3xTF32](https://github.com/NVIDIA/cutlass/tree/main/examples/28_ampere_3xtf32_fast_accurate_tensorop_fprop)).
    Tf32x3,
}

relc_ir::names!(Precision, "precision", ["fp32" => F32, "tf32" => Tf32, "tf32x3" => Tf32x3]);

impl Algorithm {
    /// Whether it reads a frame of zeros around its input.
    pub fn reads_frame(self) -> bool {
        match self {
            Algorithm::Direct | Algorithm::Winograd2 | Algorithm::Winograd4 | Algorithm::Bf16x6 => true,
            Algorithm::Gather | Algorithm::Gemm(..) => false,
        }
    }
}

/// What is done with the sums of a convolution before they are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `y = sum + bias[c]`, then the positive part with `relu`. Constant bias if there is one.
    ///
    /// With `residual`, what is added to `y` before the positive part is read. With `joined`, `y` is kept as it is, and a
    /// second output is the sum (or `y` alone) with its positive part: a join that is split later by what its branches
    /// were, or an output that a rule divides by.
    Activate {
        /// Whether there is a bias.
        bias: bool,
        /// Whether something is added.
        residual: bool,
        /// Whether `y` itself is an output as well, the first of two.
        joined: bool,
        /// Whether negative values become 0.
        relu: bool,
    },
    /// `s = r / (sum + offset[c] + addend)`, 0 where the magnitude of that is at most `floor`; the flag is raised where
    /// that loses relevance. Reads r, and the addend if there is one; constant offset.
    Quotient {
        /// Whether something is added to the denominator: the sums of another product.
        addend: bool,
        /// The smallest denominator.
        floor: f32,
        /// Raised where a denominator vanishes under relevance.
        flag: Option<FlagId>,
    },
    /// `r = factor * sum + addends`, one after the other. Reads the factor if there is one, and then the addends.
    Product {
        /// Whether there is a factor.
        factor: bool,
        /// How many values are added, at most [`MAX_ADDENDS`].
        addends: usize,
        /// For each of them the relevance values whose sums are those of what it is added to, and then those whose sums are
        /// those of `r`, for the ledger; none if nobody asks.
        tallies: Vec<Vec<String>>,
    },
}

/// Values that the epilogue of a convolution adds at most.
pub const MAX_ADDENDS: usize = 2;

/// Sums for the ledger that the epilogue of a convolution takes at most: before each addend, and after the last.
pub const MAX_SUMS: usize = MAX_ADDENDS + 1;

/// `s = R / den` of each part of a rule.
///
/// Reads r; the layer's output z if a part asks for it; eps (one number) if the stabiliser is given; then the tensors of
/// each part. Constants: of each part, the constant and the bias that it has. Writes s of each part, and what is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Quotients {
    /// The parts.
    pub parts: Vec<QuotientPart>,
    /// What is added to denominators.
    pub stabiliser: QuotientStabiliser,
    /// What becomes of relevance that no denominator divides.
    pub vanishing: Vanishing,
    /// Whether z is read.
    pub output: bool,
    /// Whether what is not passed on is written, rather than booked.
    pub lost: bool,
}

/// A part: `s = scale R / (den + stabiliser)` where its condition holds, else 0.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotientPart {
    /// What R is multiplied by.
    pub scale: f32,
    /// For which outputs it counts.
    pub on: Condition,
    /// What it is divided by; none for a derivative.
    pub denominator: Option<Denominator>,
}

/// What a part divides by, before the stabiliser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denominator {
    /// The layer's output z.
    Output {
        /// Whether a bias is told from it.
        biased: bool,
    },
    /// A sum.
    Sum {
        /// How many tensors are added.
        tensors: usize,
        /// Whether a constant `[C,D,H,W]` is added.
        constant: bool,
        /// Whether a bias `[C]` is added.
        biased: bool,
    },
}

impl Denominator {
    /// The tensors that it reads.
    pub fn tensors(self) -> usize {
        match self {
            Denominator::Output { .. } => 0,
            Denominator::Sum { tensors, .. } => tensors,
        }
    }

    /// Whether it takes a constant, and whether it takes a bias.
    pub fn constants(self) -> [bool; 2] {
        match self {
            Denominator::Output { biased } => [false, biased],
            Denominator::Sum { constant, biased, .. } => [constant, biased],
        }
    }
}

/// What is added to a denominator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuotientStabiliser {
    /// Nothing.
    None,
    /// `eps`.
    Plain(f64),
    /// `eps` where `den >= 0`, else `-eps`.
    Signed(f64),
    /// As `Signed`, with an eps that is read.
    Given,
}

/// What becomes of relevance that no denominator can divide; `s` is 0 there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vanishing {
    /// It is lost where the denominator is 0.
    Clipped,
    /// A later step spreads it evenly, where the denominator's magnitude is below `floor`.
    Flat {
        /// The smallest denominator.
        floor: f32,
        /// Raised where there is some.
        flag: FlagId,
    },
}

/// A move: for each index of a box, the element of the output at `to` is that of the input at `from`. Elements are
/// counted row-major in the dense `[C,D,H,W]` of a sample. Reads x.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The sizes of the box.
    pub dims: Vec<usize>,
    /// Where elements go.
    pub to: Strided,
    /// Where they come from.
    pub from: Strided,
    /// Whether every other element of the output becomes 0; else it stays what it is.
    pub fill: bool,
}

/// Elements at `base + sum_k index_k strides_k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// Of the box' first index.
    pub base: usize,
    /// From an index to the next, along each dimension; negative where the order is reversed.
    pub strides: Vec<isize>,
}

impl Strided {
    /// The row-major elements of these sizes.
    pub fn dense(dims: &[usize]) -> Strided {
        let mut strides = vec![1; dims.len()];
        for axis in (1..dims.len()).rev() {
            strides[axis - 1] = strides[axis] * dims[axis] as isize;
        }
        Strided { base: 0, strides }
    }

    /// The largest element of the box; none if that overflows, or if some would lie before the first.
    pub fn highest(&self, dims: &[usize]) -> Option<usize> {
        let (mut low, mut high) = (self.base, self.base);
        for (stride, size) in self.strides.iter().zip(dims) {
            let way = stride.checked_mul(isize::try_from(size.checked_sub(1)?).ok()?)?;
            let end = if way < 0 { &mut low } else { &mut high };
            *end = end.checked_add_signed(way)?;
        }
        Some(high)
    }

    /// The elements, in the order of the box' indices, which `highest` has found to be some.
    pub fn offsets(&self, dims: &[usize]) -> Vec<usize> {
        let mut offsets = vec![self.base];
        for (stride, size) in self.strides.iter().zip(dims) {
            let along = |at: usize| (0..*size as isize).map(move |i| at.wrapping_add_signed(i * stride));
            offsets = offsets.into_iter().flat_map(along).collect();
        }
        offsets
    }
}

/// The flat fallback of a linear layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// The layer's window.
    pub window: Window,
    /// Its groups.
    pub groups: usize,
    /// Whether there is anything to spread.
    pub flag: FlagId,
    /// The relevance values whose sums were taken before, and which what is spread joins, for the ledger.
    pub tally: Vec<String>,
    /// The relevance values whose sums are those of the output, and are taken again where something is spread.
    pub whole: Vec<String>,
}

impl StepOp {
    /// Whether the step is there for the ledger alone.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(self, StepOp::Tally(_) | StepOp::Absorbed { .. })
    }

    /// The relevance values whose sums the step takes: lists of those that have the same.
    pub fn tallies(&self) -> &[Vec<String>] {
        match self {
            StepOp::Tally(of) => std::slice::from_ref(of),
            StepOp::Conv(conv) => match &conv.epilogue {
                Epilogue::Product { tallies, .. } => tallies,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// The flag that the step may raise.
    pub fn raises(&self) -> Option<FlagId> {
        match self {
            StepOp::Raise { flag } => Some(*flag),
            StepOp::Quotients(quotients) => match quotients.vanishing {
                Vanishing::Flat { flag, .. } => Some(flag),
                Vanishing::Clipped => None,
            },
            StepOp::Conv(conv) => match conv.epilogue {
                Epilogue::Quotient { flag, .. } => flag,
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the step leaves something of what its output held.
    pub fn adds_to_output(&self) -> bool {
        matches!(self, StepOp::Flat(_)) || matches!(self, StepOp::Move(m) if !m.fill)
    }
}
