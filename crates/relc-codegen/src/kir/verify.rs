//! The verifier.

use std::collections::HashSet;
use std::fmt;

use super::lex::is_name;
use super::print::Names;
use super::{Compare, Elem, For, Kernel, Op, Place, Stmt, Ty, Val, Var};

/// Loops deeper than this are refused.
pub const MAX_DEPTH: usize = 32;

/// Kernels with more buffers than this are refused.
pub const MAX_BUFFERS: usize = 256;

/// Kernels with more statements than this, after unrolling, are refused.
pub const MAX_STATEMENTS: u64 = 1 << 16;

/// One thing that is wrong with a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyError {
    /// The statement or declaration, as text.
    pub at: String,
    /// "got X, expected Y".
    pub message: String,
}

/// All that is wrong with a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyErrors {
    /// The kernel's name.
    pub kernel: String,
    /// At least one.
    pub errors: Vec<VerifyError>,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel @{}: {} verifier error(s)", self.kernel, self.errors.len())?;
        for error in &self.errors {
            write!(f, "\n  at `{}`: {}", error.at, error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// Checks a kernel. A kernel that passes touches no memory outside its buffers, whatever they hold.
///
/// Declarations:
/// - names consist of letters, digits, `_`, `.`, `/`, `-` and are not empty; no two buffers share one, no two variables or
///   values;
/// - there are at most [`MAX_BUFFERS`] buffers;
/// - a buffer's size in bytes fits in `isize`;
/// - there is at least one task dimension, each has at least one task, all together at most 2^32.
///
/// Structure:
/// - a loop runs at least once and its step is at least 1;
/// - loops nest at most [`MAX_DEPTH`] deep; unrolled, a kernel has at most [`MAX_STATEMENTS`] statements;
/// - a variable belongs to one loop and is used only in it;
/// - a value is defined once, before and in the scope of every use; only mutable ones are `set`.
///
/// Types:
/// - as the documentation of [`Op`] and its operands says; the type of a place is that of its buffer's elements;
/// - constants are not NaN and f32 holds them where the type is f32 or f32x4.
///
/// Memory:
/// - over all iterations, every element that a load or a store may touch lies in its buffer; where arithmetic overflows,
///   nothing is known, and the kernel is refused;
/// - only `out` and `inout` buffers are written.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn verify(kernel: &Kernel) -> Result<(), VerifyErrors> {
    let mut verifier = Verifier {
        kernel,
        ranges: Ranges(vec![None; kernel.vars.len()]),
        defined: vec![false; kernel.values.len()],
        vars: vec![false; kernel.vars.len()],
        values: vec![false; kernel.values.len()],
        open: Vec::new(),
        errors: Vec::new(),
    };
    verifier.declarations();
    if verifier.errors.is_empty() {
        verifier.block(&kernel.body, 0);
    }
    if expanded(&kernel.body) > MAX_STATEMENTS {
        let message = format!("got more than {MAX_STATEMENTS} statements after unrolling, expected fewer");
        verifier.report(format!("kernel @{}", kernel.name), message);
    }
    match verifier.errors {
        errors if errors.is_empty() => Ok(()),
        errors => Err(VerifyErrors { kernel: kernel.name.clone(), errors }),
    }
}

/// Statements after unrolling; saturates.
fn expanded(body: &[Stmt]) -> u64 {
    body.iter().fold(0, |sum: u64, stmt| {
        sum.saturating_add(match stmt {
            Stmt::For(inner) => {
                let copies = if inner.unroll { inner.trips() } else { 1 };
                expanded(&inner.body).saturating_add(1).saturating_mul(copies)
            }
            _ => 1,
        })
    })
}

/// First and last value of each variable that a loop binds.
pub(super) struct Ranges(Vec<Option<(i128, i128)>>);

impl Ranges {
    /// The ranges of all variables of a kernel.
    pub fn of(kernel: &Kernel) -> Self {
        let mut ranges = Ranges(vec![None; kernel.vars.len()]);
        for dim in &kernel.tasks {
            ranges.bind(dim.var, (0, i128::from(dim.extent) - 1));
        }
        super::walk(&kernel.body, &mut |stmt| {
            if let Stmt::For(inner) = stmt {
                ranges.bind(inner.var, bounds(inner));
            }
        });
        ranges
    }

    /// The range of a variable; 0 alone if no loop binds it.
    pub fn range(&self, var: Var) -> (i128, i128) {
        self.0.get(var.0 as usize).copied().flatten().unwrap_or((0, 0))
    }

    /// Whether the variable exists and was not bound before.
    fn bind(&mut self, var: Var, range: (i128, i128)) -> bool {
        match self.0.get_mut(var.0 as usize) {
            Some(slot) => slot.replace(range).is_none(),
            None => false,
        }
    }
}

fn bounds(inner: &For) -> (i128, i128) {
    let start = i128::from(inner.start);
    (start, start + (i128::from(inner.trips()) - 1) * i128::from(inner.step))
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    ranges: Ranges,
    /// Whether a value's definition was seen.
    defined: Vec<bool>,
    /// Whether a variable is in scope.
    vars: Vec<bool>,
    /// Whether a value is in scope.
    values: Vec<bool>,
    /// The values in scope, innermost last.
    open: Vec<Val>,
    errors: Vec<VerifyError>,
}

fn is_set(flags: &[bool], index: u32) -> bool {
    flags.get(index as usize).copied().unwrap_or(false)
}

fn flag(flags: &mut [bool], index: u32, value: bool) {
    if let Some(flag) = flags.get_mut(index as usize) {
        *flag = value;
    }
}

/// A sentence about the statement at hand.
type Checked<T = ()> = Result<T, String>;

impl Verifier<'_> {
    fn report(&mut self, at: String, message: String) {
        self.errors.push(VerifyError { at, message });
    }

    fn declarations(&mut self) {
        let kernel = self.kernel;
        self.name("kernel", &kernel.name);
        if kernel.buffers.len() > MAX_BUFFERS {
            let message = format!("got {} buffers, expected at most {MAX_BUFFERS}", kernel.buffers.len());
            self.report(format!("kernel @{}", kernel.name), message);
        }
        let mut globals = HashSet::new();
        for buffer in &kernel.buffers {
            self.declared(&mut globals, "buffer", &buffer.name);
            let bytes = buffer.len.checked_mul(buffer.elem.bytes()).and_then(|b| isize::try_from(b).ok());
            if bytes.is_none() {
                let message = format!("got {} elements, expected a size that fits in isize", buffer.len);
                self.report(format!("buffer @{}", buffer.name), message);
            }
        }
        let mut locals = HashSet::new();
        for name in &kernel.vars {
            self.declared(&mut locals, "variable", name);
        }
        for value in &kernel.values {
            self.declared(&mut locals, "value", &value.name);
        }
        self.tasks();
    }

    fn declared<'n>(&mut self, seen: &mut HashSet<&'n str>, what: &str, name: &'n str) {
        self.name(what, name);
        if !seen.insert(name) {
            self.report(format!("{what} {name}"), "got a second declaration, expected one".to_owned());
        }
    }

    fn name(&mut self, what: &str, name: &str) {
        if name.is_empty() || !name.chars().all(is_name) {
            let message = format!("got the name `{name}`, expected letters, digits, `_`, `.`, `/`, `-`");
            self.report(format!("{what} {name}"), message);
        }
    }

    fn tasks(&mut self) {
        let at = || "tasks".to_owned();
        if self.kernel.tasks.is_empty() {
            self.report(at(), "got no task dimension, expected at least one".to_owned());
        }
        if self.kernel.task_count() > 1 << 32 {
            self.report(at(), "got more than 2^32 tasks, expected fewer".to_owned());
        }
        for dim in &self.kernel.tasks {
            if dim.extent == 0 {
                self.report(at(), "got a dimension of 0 tasks, expected at least 1".to_owned());
            } else if !self.ranges.bind(dim.var, (0, i128::from(dim.extent) - 1)) {
                self.report(at(), "got a variable that is bound already, expected a new one".to_owned());
            }
            flag(&mut self.vars, dim.var.0, true);
        }
    }

    fn block(&mut self, body: &[Stmt], depth: usize) {
        let scope = self.open.len();
        for stmt in body {
            if let Err(message) = self.statement(stmt, depth) {
                self.report(Names(self.kernel).line(stmt), message);
            }
        }
        for value in self.open.drain(scope..) {
            flag(&mut self.values, value.0, false);
        }
    }

    fn statement(&mut self, stmt: &Stmt, depth: usize) -> Checked {
        match stmt {
            Stmt::For(inner) => self.for_loop(inner, depth),
            Stmt::Let { value, op } => {
                // Defined also if the operation is wrong, so that its uses are not reported too.
                let checked = self.op(*value, op);
                let defined = self.define(*value);
                checked.and(defined)
            }
            Stmt::Set { value, from } => {
                let (ty, got) = (self.used(*value)?, self.used(*from)?);
                if !self.kernel.values.get(value.0 as usize).is_some_and(|decl| decl.mutable) {
                    return Err("got an immutable value, expected one defined by `let mut`".to_owned());
                }
                expect(got, ty)
            }
            Stmt::Store { value, at } => {
                let ty = self.used(*value)?;
                self.access(at, ty)?;
                self.writable(at)
            }
        }
    }

    fn for_loop(&mut self, inner: &For, depth: usize) -> Checked {
        if depth >= MAX_DEPTH {
            return Err(format!("got more than {MAX_DEPTH} nested loops, expected fewer"));
        }
        if inner.step < 1 {
            return Err(format!("got step {}, expected at least 1", inner.step));
        }
        if inner.trips() == 0 {
            return Err("got an empty loop, expected at least one iteration".to_owned());
        }
        if !self.ranges.bind(inner.var, bounds(inner)) {
            return Err("got a variable that is bound already, expected a new one".to_owned());
        }
        flag(&mut self.vars, inner.var.0, true);
        self.block(&inner.body, depth + 1);
        flag(&mut self.vars, inner.var.0, false);
        Ok(())
    }

    fn define(&mut self, value: Val) -> Checked {
        let Some(defined) = self.defined.get_mut(value.0 as usize) else {
            return Err("got a value that is not declared, expected one of this kernel".to_owned());
        };
        self.open.push(value);
        flag(&mut self.values, value.0, true);
        if std::mem::replace(defined, true) {
            return Err("got a second definition, expected one".to_owned());
        }
        Ok(())
    }

    /// The type of a value that is in scope.
    fn used(&self, value: Val) -> Checked<Ty> {
        let decl = self.kernel.values.get(value.0 as usize);
        match decl.filter(|_| is_set(&self.values, value.0)) {
            Some(decl) => Ok(decl.ty),
            None => Err(format!(
                "got {}, which is not defined here, expected a value in scope",
                Names(self.kernel).val(value)
            )),
        }
    }

    fn op(&mut self, value: Val, op: &Op) -> Checked {
        let Some(decl) = self.kernel.values.get(value.0 as usize) else { return Ok(()) };
        let ty = decl.ty;
        let result = match *op {
            Op::Const(number) => return constant(number, ty),
            Op::Load(ref place) => return self.access(place, ty),
            Op::LoadSplat(ref place) => {
                self.access(place, Ty::F32)?;
                Ty::F32x4
            }
            Op::Copy(a) => self.used(a)?,
            Op::Unary(op, a) => {
                let operand = self.used(a)?;
                op.result(operand).ok_or_else(|| {
                    format!("got an operand of type {}, expected {}", operand.name(), op.expects())
                })?
            }
            Op::Binary(_, a, b) => self.same(&[a, b])?,
            Op::Fma(a, b, c) => self.same(&[a, b, c])?,
            Op::Compare(_, a, b) => {
                let operands = self.same(&[a, b])?;
                Compare::result(operands).ok_or_else(|| {
                    format!("got operands of type {}, expected f32, f32x4 or f64", operands.name())
                })?
            }
            Op::Select(mask, a, b) => {
                let operands = self.same(&[a, b])?;
                let Some(needed) = Compare::result(operands) else {
                    return Err(format!("got {}, expected f32, f32x4 or f64", operands.name()));
                };
                expect(self.used(mask)?, needed)?;
                operands
            }
            Op::Extract(_, lane) if lane > 3 => return Err(format!("got lane {lane}, expected 0 to 3")),
            Op::Extract(a, _) => {
                expect(self.used(a)?, Ty::F32x4)?;
                Ty::F32
            }
        };
        expect(result, ty).map_err(|message| format!("the result: {message}"))
    }

    /// The common type of operands that do arithmetic.
    fn same(&self, operands: &[Val]) -> Checked<Ty> {
        let mut common = None;
        for &operand in operands {
            let ty = self.used(operand)?;
            expect(ty, *common.get_or_insert(ty))?;
        }
        match common {
            Some(ty) if ty.in_memory().is_some() => Ok(ty),
            _ => Err("got masks, expected f32, f32x4, f64 or f64x2".to_owned()),
        }
    }

    fn access(&self, place: &Place, ty: Ty) -> Checked {
        match ty.in_memory() {
            Some((elem, lanes)) => self.span(place, elem, lanes as u64),
            None => Err(format!("got {}, expected a type that memory holds", ty.name())),
        }
    }

    /// Checks that `len` elements from a place on lie in the buffer, in every iteration.
    fn span(&self, place: &Place, elem: Elem, len: u64) -> Checked {
        let Some(buffer) = self.kernel.buffers.get(place.buffer.0 as usize) else {
            return Err("got a buffer that is not declared, expected one of this kernel".to_owned());
        };
        if buffer.elem != elem {
            let (got, expected) = (elem.name(), buffer.elem.name());
            return Err(format!("@{}: got an access of type {got}, expected {expected}", buffer.name));
        }
        for &(var, _) in place.index.terms() {
            if !is_set(&self.vars, var.0) {
                let var = Names(self.kernel).var(var);
                return Err(format!("got {var} outside its loop, expected a variable in scope"));
            }
        }
        let interval = place.index.interval(|var| self.ranges.range(var));
        let end = |last: i128| last.checked_add(i128::from(len));
        let got = match interval.and_then(|(first, last)| Some((first, end(last)?))) {
            Some((first, end)) if first >= 0 && end <= buffer.len as i128 => return Ok(()),
            Some((first, end)) => format!("elements {first}..{end}"),
            None => "elements beyond all bounds".to_owned(),
        };
        Err(format!("@{}: got {got}, expected them within 0..{}", buffer.name, buffer.len))
    }

    fn writable(&self, place: &Place) -> Checked {
        match self.kernel.buffers.get(place.buffer.0 as usize) {
            Some(buffer) if !buffer.kind.is_written() => {
                Err(format!("got a write to {} @{}, expected out or inout", buffer.kind.name(), buffer.name))
            }
            _ => Ok(()),
        }
    }
}

fn expect(got: Ty, expected: Ty) -> Checked {
    if got == expected { Ok(()) } else { Err(format!("got {}, expected {}", got.name(), expected.name())) }
}

fn constant(number: f64, ty: Ty) -> Checked {
    let exact = match ty {
        Ty::F32 | Ty::F32x4 => f64::from(number as f32) == number,
        Ty::F64 | Ty::F64x2 => !number.is_nan(),
        Ty::Bool | Ty::Boolx4 => return Err(format!("got a constant {}, expected a number", ty.name())),
    };
    if exact { Ok(()) } else { Err(format!("got {number:?}, expected a number that {} holds", ty.name())) }
}
