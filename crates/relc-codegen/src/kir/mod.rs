//! The kernel IR (KIR): loop nests with static bounds over flat buffers.
//!
//! A kernel works on one sample. Its outermost loop runs over *tasks*, the unit of parallel work: the executor
//! passes a range of them, in any order and from any thread. Inside are counted loops, single assignments, mutable
//! accumulators, loads and stores. Every bound is a constant and every index is affine in the loop variables, so that
//! [`verify`] proves each access in bounds before anything runs.
//!
//! ```text
//! kernel @relu (in @x: f32[64], out @y: f32[64]) tasks=[4] {
//!   for %t in tasks {
//!     for %i in 0..16 step 4 {
//!       let %load0: f32x4 = load @x[%t*16 + %i]
//!       let %const1: f32x4 = const 0.0
//!       let %max2: f32x4 = max %load0, %const1
//!       store %max2, @y[%t*16 + %i]
//!     }
//!   }
//! }
//! ```
//!
//! That no task touches what another one writes has a simple proof ([`unproven_disjoint`] names the buffers where it
//! fails): kernels that have it may run in parallel. The author of a kernel vouches for one thing that is not proved: an
//! `out` buffer is read only where the same task has written before.

mod build;
mod disjoint;
mod index;
mod lex;
mod op;
mod parse;
mod print;
mod verify;

pub use build::{Body, KernelBuilder};
pub use disjoint::unproven_disjoint;
pub use index::{Idx, Var};
pub use op::{Binary, Compare, Op, Unary};
pub use parse::{ParseError, parse};
pub use verify::{MAX_BUFFERS, MAX_DEPTH, MAX_STATEMENTS, VerifyError, VerifyErrors, verify};

/// The element type of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// 4 bytes.
    F32,
    /// 8 bytes: the ledger's sums.
    F64,
}

impl Elem {
    /// Bytes of one element, which is also its alignment.
    pub fn bytes(self) -> usize {
        match self {
            Elem::F32 => 4,
            Elem::F64 => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F64 => "f64",
        }
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// One f32.
    F32,
    /// Four f32.
    F32x4,
    /// One f64.
    F64,
    /// Two f64.
    F64x2,
    /// The outcome of comparing f32 or f64.
    Bool,
    /// The outcome of comparing f32x4, per lane.
    Boolx4,
}

impl Ty {
    /// All types.
    pub(crate) const ALL: [Ty; 6] = [Ty::F32, Ty::F32x4, Ty::F64, Ty::F64x2, Ty::Bool, Ty::Boolx4];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Ty::F32 => "f32",
            Ty::F32x4 => "f32x4",
            Ty::F64 => "f64",
            Ty::F64x2 => "f64x2",
            Ty::Bool => "bool",
            Ty::Boolx4 => "boolx4",
        }
    }

    /// The element and the number of lanes of a type that buffers can hold.
    pub(crate) fn in_memory(self) -> Option<(Elem, usize)> {
        match self {
            Ty::F32 => Some((Elem::F32, 1)),
            Ty::F32x4 => Some((Elem::F32, 4)),
            Ty::F64 => Some((Elem::F64, 1)),
            Ty::F64x2 => Some((Elem::F64, 2)),
            Ty::Bool | Ty::Boolx4 => None,
        }
    }
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// Read. The executor may bind the memory of an output too (in place), if the kernel's author allows it.
    In,
    /// Written; what it held before is not used.
    Out,
    /// Read and written.
    InOut,
    /// Read, and unchanged while the kernel runs: weights. Loads of it may move out of loops.
    Const,
}

impl BufferKind {
    pub(crate) const ALL: [BufferKind; 4] =
        [BufferKind::In, BufferKind::Out, BufferKind::InOut, BufferKind::Const];

    /// Whether stores are allowed.
    pub fn is_written(self) -> bool {
        matches!(self, BufferKind::Out | BufferKind::InOut)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            BufferKind::In => "in",
            BufferKind::Out => "out",
            BufferKind::InOut => "inout",
            BufferKind::Const => "const",
        }
    }
}

/// A flat array that the caller binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Unique among buffers.
    pub name: String,
    /// How it is used.
    pub kind: BufferKind,
    /// Its elements.
    pub elem: Elem,
    /// Its length in elements.
    pub len: usize,
}

/// A buffer of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buf(pub(crate) u32);

/// A value of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Val(pub(crate) u32);

/// An element of a buffer, by index; an access of several lanes starts there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The buffer.
    pub buffer: Buf,
    /// The element.
    pub index: Idx,
}

/// Name and type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueDecl {
    /// Unique among values and variables.
    pub name: String,
    /// Its type.
    pub ty: Ty,
    /// Whether `set` may change it.
    pub mutable: bool,
}

/// A dimension of the task grid. Tasks are numbered row-major: the last dimension varies fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskDim {
    /// The variable that holds the coordinate, from 0.
    pub var: Var,
    /// Coordinates; at least 1.
    pub extent: u64,
}

/// A counted loop: `start, start + step, ..` below `end`.
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    /// Its variable.
    pub var: Var,
    /// The first value.
    pub start: i64,
    /// Every value is below.
    pub end: i64,
    /// At least 1.
    pub step: i64,
    /// Whether the compiled code repeats the body instead of looping.
    pub unroll: bool,
    /// The body.
    pub body: Vec<Stmt>,
}

impl For {
    /// How often the body runs; 0 where the bounds or the step make no sense.
    pub fn trips(&self) -> u64 {
        let span = i128::from(self.end) - i128::from(self.start);
        let step = i128::from(self.step);
        if span <= 0 || step <= 0 { 0 } else { u64::try_from((span + step - 1) / step).unwrap_or(u64::MAX) }
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// A loop.
    For(For),
    /// Defines a value.
    Let {
        /// The new value.
        value: Val,
        /// How it is computed.
        op: Op,
    },
    /// Gives a mutable value a new content.
    Set {
        /// Defined by a `let mut`.
        value: Val,
        /// Of the same type.
        from: Val,
    },
    /// Writes a value.
    Store {
        /// What is written.
        value: Val,
        /// Where its first lane goes.
        at: Place,
    },
}

/// A kernel. Built by [`KernelBuilder`] or [`parse`]; [`std::fmt::Display`] prints its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Names the compiled function.
    pub name: String,
    /// Bound by the caller in this order.
    pub buffers: Vec<Buffer>,
    /// The task grid.
    pub tasks: Vec<TaskDim>,
    /// The names of the variables.
    pub vars: Vec<String>,
    /// The values.
    pub values: Vec<ValueDecl>,
    /// What one task does.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// The number of tasks; saturates.
    pub fn task_count(&self) -> usize {
        let count = self.tasks.iter().fold(1, |count: u64, dim| count.saturating_mul(dim.extent));
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

/// Runs `visit` on every statement, outer before inner.
pub(crate) fn walk<'a>(body: &'a [Stmt], visit: &mut impl FnMut(&'a Stmt)) {
    for stmt in body {
        visit(stmt);
        if let Stmt::For(inner) = stmt {
            walk(&inner.body, visit);
        }
    }
}

/// The places that a statement itself names.
pub(crate) fn places(stmt: &Stmt) -> Vec<&Place> {
    match stmt {
        Stmt::Let { op: Op::Load(place) | Op::LoadSplat(place), .. } => vec![place],
        Stmt::Store { at, .. } => vec![at],
        Stmt::For(_) | Stmt::Let { .. } | Stmt::Set { .. } => Vec::new(),
    }
}
