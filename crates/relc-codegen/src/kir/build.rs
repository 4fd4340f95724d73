//! Building kernels: closures for loops, operators for indices, methods for operations.

use std::collections::HashSet;

use super::{
    Binary, Buf, Buffer, BufferKind, Compare, Elem, For, Idx, Kernel, Op, Place, Stmt, TaskDim, Ty, Unary,
    Val, ValueDecl, Var,
};

/// Declares buffers; [`KernelBuilder::tasks`] then builds the body.
///
/// ```
/// use relc_codegen::kir::{KernelBuilder, verify};
///
/// let mut k = KernelBuilder::new("relu");
/// let (x, y) = (k.input("x", 64), k.output("y", 64));
/// let kernel = k.tasks([("t", 4)], |b, [t]| {
///     let zero = b.const4(0.0);
///     b.for_range("i", 0, 16, 4, |b, i| {
///         let v = b.load4(x, t * 16 + i);
///         let v = b.max(v, zero);
///         b.store(v, y, t * 16 + i);
///     });
/// });
/// verify(&kernel).unwrap();
/// ```
///
/// Building never fails: what is wrong with a kernel (types, bounds, names) the verifier reports.
#[derive(Debug)]
pub struct KernelBuilder {
    body: Body,
}

impl KernelBuilder {
    /// A kernel of this name: letters, digits, `_`, `.`, `/`, `-`.
    pub fn new(name: impl Into<String>) -> Self {
        let kernel = Kernel {
            name: name.into(),
            buffers: Vec::new(),
            tasks: Vec::new(),
            vars: Vec::new(),
            values: Vec::new(),
            body: Vec::new(),
        };
        KernelBuilder { body: Body { kernel, names: HashSet::new(), open: Vec::new() } }
    }

    /// Declares the next buffer.
    pub fn buffer(&mut self, name: &str, kind: BufferKind, elem: Elem, len: usize) -> Buf {
        let buffers = &mut self.body.kernel.buffers;
        buffers.push(Buffer { name: name.to_owned(), kind, elem, len });
        Buf(index(buffers.len()))
    }

    /// A buffer of f32 that is read.
    pub fn input(&mut self, name: &str, len: usize) -> Buf {
        self.buffer(name, BufferKind::In, Elem::F32, len)
    }

    /// A buffer of f32 that is written.
    pub fn output(&mut self, name: &str, len: usize) -> Buf {
        self.buffer(name, BufferKind::Out, Elem::F32, len)
    }

    /// A buffer of f32 that is read and written.
    pub fn inout(&mut self, name: &str, len: usize) -> Buf {
        self.buffer(name, BufferKind::InOut, Elem::F32, len)
    }

    /// A buffer of f32 that never changes while the kernel runs.
    pub fn constant(&mut self, name: &str, len: usize) -> Buf {
        self.buffer(name, BufferKind::Const, Elem::F32, len)
    }

    /// The kernel that runs `body` for every point of a grid of tasks, given by the name and extent of each
    /// dimension; the last varies fastest.
    pub fn tasks<const N: usize>(
        mut self,
        dims: [(&str, i64); N],
        body: impl FnOnce(&mut Body, [Var; N]),
    ) -> Kernel {
        let vars = dims.map(|(name, extent)| {
            let var = self.body.var_named(name);
            let extent = u64::try_from(extent).unwrap_or(0);
            self.body.kernel.tasks.push(TaskDim { var, extent });
            var
        });
        body(&mut self.body, vars);
        Kernel { body: self.body.open, ..self.body.kernel }
    }
}

/// The index of the last of `count` things.
fn index(count: usize) -> u32 {
    u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Collects the statements of a loop body.
#[derive(Debug)]
pub struct Body {
    kernel: Kernel,
    /// Taken by variables and values.
    names: HashSet<String>,
    /// The statements of the innermost open loop.
    open: Vec<Stmt>,
}

impl Body {
    fn unique(&mut self, name: String, id: usize) -> String {
        let mut name = name;
        while !self.names.insert(name.clone()) {
            name = format!("{name}_{id}");
        }
        name
    }

    fn var_named(&mut self, name: &str) -> Var {
        let name = self.unique(name.to_owned(), self.kernel.vars.len());
        self.kernel.vars.push(name);
        Var(index(self.kernel.vars.len()))
    }

    fn value(&mut self, stem: &str, ty: Ty, mutable: bool) -> Val {
        let id = self.kernel.values.len();
        let name = self.unique(format!("{}{id}", stem.replace('.', "_")), id);
        self.kernel.values.push(ValueDecl { name, ty, mutable });
        Val(index(id + 1))
    }

    fn bind(&mut self, ty: Ty, op: Op) -> Val {
        let value = self.value(op.name(), ty, false);
        self.open.push(Stmt::Let { value, op });
        value
    }

    /// The type of a value of this kernel.
    pub fn ty(&self, value: Val) -> Ty {
        // A value of another kernel gets any type here; the verifier refuses it.
        self.kernel.values.get(value.0 as usize).map_or(Ty::F32, |decl| decl.ty)
    }

    fn range(
        &mut self,
        (name, unroll): (&str, bool),
        [start, end, step]: [i64; 3],
        body: impl FnOnce(&mut Body, Var),
    ) {
        if start >= end {
            return;
        }
        let var = self.var_named(name);
        let outer = std::mem::take(&mut self.open);
        body(self, var);
        let body = std::mem::replace(&mut self.open, outer);
        self.open.push(Stmt::For(For { var, start, end, step, unroll, body }));
    }

    /// A loop over `start, start + step, ..` below `end`; nothing if that is empty.
    pub fn for_range(
        &mut self,
        name: &str,
        start: i64,
        end: i64,
        step: i64,
        body: impl FnOnce(&mut Body, Var),
    ) {
        self.range((name, false), [start, end, step], body);
    }

    /// The same loop with the body repeated in the compiled code; for few iterations.
    pub fn unrolled(
        &mut self,
        name: &str,
        start: i64,
        end: i64,
        step: i64,
        body: impl FnOnce(&mut Body, Var),
    ) {
        self.range((name, true), [start, end, step], body);
    }

    /// A load of any type that memory holds.
    pub fn load(&mut self, ty: Ty, buffer: Buf, index: impl Into<Idx>) -> Val {
        self.bind(ty, Op::Load(Place { buffer, index: index.into() }))
    }

    /// Four f32.
    pub fn load4(&mut self, buffer: Buf, index: impl Into<Idx>) -> Val {
        self.load(Ty::F32x4, buffer, index)
    }

    /// One f32.
    pub fn load1(&mut self, buffer: Buf, index: impl Into<Idx>) -> Val {
        self.load(Ty::F32, buffer, index)
    }

    /// One f32 in all lanes of an f32x4.
    pub fn load_splat(&mut self, buffer: Buf, index: impl Into<Idx>) -> Val {
        self.bind(Ty::F32x4, Op::LoadSplat(Place { buffer, index: index.into() }))
    }

    /// A constant of any type but the masks.
    pub fn constant(&mut self, ty: Ty, value: f64) -> Val {
        self.bind(ty, Op::Const(value))
    }

    /// A constant in all lanes of an f32x4.
    pub fn const4(&mut self, value: f32) -> Val {
        self.constant(Ty::F32x4, f64::from(value))
    }

    /// A constant f32.
    pub fn const1(&mut self, value: f32) -> Val {
        self.constant(Ty::F32, f64::from(value))
    }

    /// A new mutable value that starts as `init`.
    pub fn var(&mut self, init: Val) -> Val {
        let value = self.value("acc", self.ty(init), true);
        self.open.push(Stmt::Let { value, op: Op::Copy(init) });
        value
    }

    /// Gives a mutable value a new content.
    pub fn set(&mut self, value: Val, from: Val) {
        self.open.push(Stmt::Set { value, from });
    }

    /// What a value holds now; for a mutable one that changes later.
    pub fn copy(&mut self, a: Val) -> Val {
        self.bind(self.ty(a), Op::Copy(a))
    }

    /// An operation of one operand.
    pub fn unary(&mut self, op: Unary, a: Val) -> Val {
        let operand = self.ty(a);
        self.bind(op.result(operand).unwrap_or(operand), Op::Unary(op, a))
    }

    /// An operation of two operands.
    pub fn binary(&mut self, op: Binary, a: Val, b: Val) -> Val {
        self.bind(self.ty(a), Op::Binary(op, a, b))
    }

    /// `a + b`.
    pub fn add(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Div, a, b)
    }

    /// The larger; see [`Binary::Max`].
    pub fn max(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Max, a, b)
    }

    /// The smaller; see [`Binary::Min`].
    pub fn min(&mut self, a: Val, b: Val) -> Val {
        self.binary(Binary::Min, a, b)
    }

    /// `|a|`.
    pub fn abs(&mut self, a: Val) -> Val {
        self.unary(Unary::Abs, a)
    }

    /// `a * b + c`; see [`Op::Fma`].
    pub fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        self.bind(self.ty(c), Op::Fma(a, b, c))
    }

    /// A comparison.
    pub fn compare(&mut self, op: Compare, a: Val, b: Val) -> Val {
        let operands = self.ty(a);
        self.bind(Compare::result(operands).unwrap_or(operands), Op::Compare(op, a, b))
    }

    /// `mask ? a : b`.
    pub fn select(&mut self, mask: Val, a: Val, b: Val) -> Val {
        self.bind(self.ty(a), Op::Select(mask, a, b))
    }

    /// A lane of an f32x4.
    pub fn extract(&mut self, a: Val, lane: u8) -> Val {
        self.bind(Ty::F32, Op::Extract(a, lane))
    }

    /// Writes a value.
    pub fn store(&mut self, value: Val, buffer: Buf, index: impl Into<Idx>) {
        self.open.push(Stmt::Store { value, at: Place { buffer, index: index.into() } });
    }
}
