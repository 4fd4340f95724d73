//! The interpreter of kernels: slow, safe, and the oracle of the compiled code.

use std::ops::Range;

use crate::kir::{
    Binary, Compare, Elem, Idx, Kernel, Op, Place, Stmt, Ty, Unary, Val, Var, VerifyErrors, verify,
};

/// Why a kernel could not be interpreted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpError {
    /// The kernel is not valid.
    #[error(transparent)]
    Verify(#[from] VerifyErrors),
    /// The buffers or tasks do not fit the kernel.
    #[error("kernel @{kernel}: {message}")]
    Binding {
        /// The kernel's name.
        kernel: String,
        /// "got X, expected Y".
        message: String,
    },
}

/// The content of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32.
    F32(Vec<f32>),
    /// f64.
    F64(Vec<f64>),
}

impl Data {
    /// The f32 elements; empty for others.
    pub fn f32s(&mut self) -> &mut [f32] {
        match self {
            Data::F32(data) => data,
            Data::F64(_) => &mut [],
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(data) => data.len(),
            Data::F64(data) => data.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn elem(&self) -> Elem {
        match self {
            Data::F32(_) => Elem::F32,
            Data::F64(_) => Elem::F64,
        }
    }
}

/// Verifies a kernel and runs a range of its tasks, in order.
///
/// `fused` says whether `fma` rounds once, as on targets that have the instruction. The result then equals that of
/// the compiled kernel to the bit, NaN payloads aside.
///
/// # Errors
/// If the kernel is not valid, the buffers have other lengths or elements than it declares, or the tasks are not its
/// own.
pub fn interpret(
    kernel: &Kernel,
    buffers: &mut [Data],
    tasks: Range<usize>,
    fused: bool,
) -> Result<(), InterpError> {
    verify(kernel)?;
    let binding = |message| InterpError::Binding { kernel: kernel.name.clone(), message };
    let got: Vec<_> = buffers.iter().map(|data| (data.elem(), data.len())).collect();
    let expected: Vec<_> = kernel.buffers.iter().map(|buffer| (buffer.elem, buffer.len)).collect();
    if got != expected {
        return Err(binding(format!("got the buffers {got:?}, expected {expected:?}")));
    }
    if tasks.end > kernel.task_count() {
        return Err(binding(format!("got tasks {tasks:?}, expected them within 0..{}", kernel.task_count())));
    }
    let mut machine = Machine {
        kernel,
        buffers,
        fused,
        vars: vec![0; kernel.vars.len()],
        values: vec![Value::F32([0.0; 4]); kernel.values.len()],
    };
    for task in tasks {
        let mut rest = task as u64;
        for dim in kernel.tasks.iter().rev() {
            machine.vars[dim.var.0 as usize] = (rest % dim.extent) as i64;
            rest /= dim.extent;
        }
        machine.block(&kernel.body);
    }
    Ok(())
}

/// A value in lanes; scalars use the first.
#[derive(Clone, Copy, Debug)]
enum Value {
    F32([f32; 4]),
    F64([f64; 2]),
    Mask([bool; 4]),
}

/// The verified kernel at work: ids, types and indices are known to be right.
struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: &'a mut [Data],
    fused: bool,
    vars: Vec<i64>,
    values: Vec<Value>,
}

impl Machine<'_> {
    fn index(&self, idx: &Idx) -> usize {
        // The verified sum is in bounds; its parts may wrap.
        let add = |sum: i64, &(var, coefficient): &(Var, i64)| {
            sum.wrapping_add(self.vars[var.0 as usize].wrapping_mul(coefficient))
        };
        idx.terms().iter().fold(idx.constant(), add) as usize
    }

    fn get(&self, value: Val) -> Value {
        self.values[value.0 as usize]
    }

    fn ty(&self, value: Val) -> Ty {
        self.kernel.values[value.0 as usize].ty
    }

    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For(inner) => {
                    for trip in 0..inner.trips() {
                        // Below `end`; only the product may wrap.
                        let value = inner.start.wrapping_add(inner.step.wrapping_mul(trip as i64));
                        self.vars[inner.var.0 as usize] = value;
                        self.block(&inner.body);
                    }
                }
                Stmt::Let { value, op } => {
                    self.values[value.0 as usize] = self.op(op, self.ty(*value));
                }
                Stmt::Set { value, from } => self.values[value.0 as usize] = self.get(*from),
                Stmt::Store { value, at } => self.store(*value, at),
            }
        }
    }

    fn load(&self, place: &Place, lanes: usize) -> Value {
        let at = self.index(&place.index);
        match &self.buffers[place.buffer.0 as usize] {
            Data::F32(data) => {
                let mut value = [0.0; 4];
                value[..lanes].copy_from_slice(&data[at..at + lanes]);
                Value::F32(value)
            }
            Data::F64(data) => {
                let mut value = [0.0; 2];
                value[..lanes].copy_from_slice(&data[at..at + lanes]);
                Value::F64(value)
            }
        }
    }

    fn store(&mut self, value: Val, place: &Place) {
        let at = self.index(&place.index);
        let lanes = lanes(self.ty(value));
        match (self.get(value), &mut self.buffers[place.buffer.0 as usize]) {
            (Value::F32(value), Data::F32(data)) => data[at..at + lanes].copy_from_slice(&value[..lanes]),
            (Value::F64(value), Data::F64(data)) => data[at..at + lanes].copy_from_slice(&value[..lanes]),
            (value, _) => unreachable!("the verifier refuses a store of {value:?}"),
        }
    }

    fn op(&self, op: &Op, ty: Ty) -> Value {
        match *op {
            Op::Const(number) => match ty {
                Ty::F64 | Ty::F64x2 => Value::F64([number; 2]),
                _ => Value::F32([number as f32; 4]),
            },
            Op::Load(ref place) => self.load(place, lanes(ty)),
            Op::LoadSplat(ref place) => unary(Unary::Splat, self.load(place, 1)),
            Op::Copy(a) => self.get(a),
            Op::Unary(op, a) => unary(op, self.get(a)),
            Op::Binary(op, a, b) => binary(op, self.get(a), self.get(b)),
            Op::Fma(a, b, c) if self.fused => fma(self.get(a), self.get(b), self.get(c)),
            Op::Fma(a, b, c) => {
                binary(Binary::Add, binary(Binary::Mul, self.get(a), self.get(b)), self.get(c))
            }
            Op::Compare(op, a, b) => compare(op, self.get(a), self.get(b)),
            Op::Select(mask, a, b) => select(self.get(mask), self.get(a), self.get(b)),
            Op::Extract(a, lane) => match self.get(a) {
                Value::F32(a) => Value::F32([a[usize::from(lane)]; 4]),
                other => other,
            },
        }
    }
}

fn lanes(ty: Ty) -> usize {
    ty.in_memory().map_or(1, |(_, lanes)| lanes)
}

fn map<T: Copy, const N: usize>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> T) -> [T; N] {
    std::array::from_fn(|k| f(a[k], b[k]))
}

fn unary(op: Unary, a: Value) -> Value {
    match (op, a) {
        (Unary::Abs, Value::F32(a)) => Value::F32(a.map(f32::abs)),
        (Unary::Abs, Value::F64(a)) => Value::F64(a.map(f64::abs)),
        (Unary::Neg, Value::F32(a)) => Value::F32(a.map(|a| -a)),
        (Unary::Neg, Value::F64(a)) => Value::F64(a.map(|a| -a)),
        (Unary::Sqrt, Value::F32(a)) => Value::F32(a.map(f32::sqrt)),
        (Unary::Sqrt, Value::F64(a)) => Value::F64(a.map(f64::sqrt)),
        (Unary::Splat, Value::F32(a)) => Value::F32([a[0]; 4]),
        (Unary::ReduceAdd, Value::F32([a, b, c, d])) => Value::F32([(a + b) + (c + d); 4]),
        (Unary::ReduceAdd, Value::F64([a, b])) => Value::F64([a + b; 2]),
        (Unary::Promote | Unary::PromoteLow, Value::F32([a, b, ..])) => Value::F64([a.into(), b.into()]),
        (Unary::PromoteHigh, Value::F32([.., c, d])) => Value::F64([c.into(), d.into()]),
        (Unary::Demote, Value::F64(a)) => Value::F32([a[0] as f32; 4]),
        (op, a) => unreachable!("the verifier refuses {op:?} of {a:?}"),
    }
}

macro_rules! arithmetic {
    ($op:expr, $a:expr, $b:expr) => {
        match $op {
            Binary::Add => map($a, $b, |a, b| a + b),
            Binary::Sub => map($a, $b, |a, b| a - b),
            Binary::Mul => map($a, $b, |a, b| a * b),
            Binary::Div => map($a, $b, |a, b| a / b),
            Binary::Max => map($a, $b, |a, b| if a < b { b } else { a }),
            Binary::Min => map($a, $b, |a, b| if b < a { b } else { a }),
        }
    };
}

fn binary(op: Binary, a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => Value::F32(arithmetic!(op, a, b)),
        (Value::F64(a), Value::F64(b)) => Value::F64(arithmetic!(op, a, b)),
        (a, b) => unreachable!("the verifier refuses {op:?} of {a:?} and {b:?}"),
    }
}

fn fma(a: Value, b: Value, c: Value) -> Value {
    match (a, b, c) {
        (Value::F32(a), Value::F32(b), Value::F32(c)) => {
            Value::F32(std::array::from_fn(|k| a[k].mul_add(b[k], c[k])))
        }
        (Value::F64(a), Value::F64(b), Value::F64(c)) => {
            Value::F64(std::array::from_fn(|k| a[k].mul_add(b[k], c[k])))
        }
        (a, b, c) => unreachable!("the verifier refuses fma of {a:?}, {b:?} and {c:?}"),
    }
}

fn compare(op: Compare, a: Value, b: Value) -> Value {
    // Every f32 is an f64, so that the comparison is the same.
    let widen = |value| match value {
        Value::F32(a) => a.map(f64::from),
        Value::F64([a, b]) => [a, b, 0.0, 0.0],
        Value::Mask(_) => [0.0; 4],
    };
    let (a, b) = (widen(a), widen(b));
    Value::Mask(std::array::from_fn(|k| match op {
        Compare::Lt => a[k] < b[k],
        Compare::Le => a[k] <= b[k],
        Compare::Gt => a[k] > b[k],
        Compare::Ge => a[k] >= b[k],
        Compare::Eq => a[k] == b[k],
    }))
}

fn select(mask: Value, a: Value, b: Value) -> Value {
    match (mask, a, b) {
        (Value::Mask(mask), Value::F32(a), Value::F32(b)) => {
            Value::F32(std::array::from_fn(|k| if mask[k] { a[k] } else { b[k] }))
        }
        (Value::Mask(mask), Value::F64(a), Value::F64(b)) => {
            Value::F64(std::array::from_fn(|k| if mask[k] { a[k] } else { b[k] }))
        }
        (mask, a, b) => unreachable!("the verifier refuses a choice by {mask:?} of {a:?} and {b:?}"),
    }
}

/// A buffer of zeros for each that the kernel declares.
pub fn zeroed(kernel: &Kernel) -> Vec<Data> {
    let zeros = |buffer: &crate::kir::Buffer| match buffer.elem {
        Elem::F32 => Data::F32(vec![0.0; buffer.len]),
        Elem::F64 => Data::F64(vec![0.0; buffer.len]),
    };
    kernel.buffers.iter().map(zeros).collect()
}
