//! What a value is computed from.

use super::{Place, Ty, Val};

/// An operation of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `|a|`: f32, f32x4, f64, f64x2.
    Abs,
    /// `-a`: f32, f32x4, f64, f64x2.
    Neg,
    /// The square root, correctly rounded: f32, f32x4, f64, f64x2.
    Sqrt,
    /// f32 to all lanes of f32x4.
    Splat,
    /// f32x4 to f32, `(a0 + a1) + (a2 + a3)`; f64x2 to f64, `a0 + a1`.
    ReduceAdd,
    /// f32 to f64.
    Promote,
    /// Lanes 0 and 1 of f32x4 to f64x2.
    PromoteLow,
    /// Lanes 2 and 3 of f32x4 to f64x2.
    PromoteHigh,
    /// f64 to f32, to nearest even.
    Demote,
}

impl Unary {
    pub(crate) const ALL: [Unary; 9] = [
        Unary::Abs,
        Unary::Neg,
        Unary::Sqrt,
        Unary::Splat,
        Unary::ReduceAdd,
        Unary::Promote,
        Unary::PromoteLow,
        Unary::PromoteHigh,
        Unary::Demote,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Unary::Abs => "abs",
            Unary::Neg => "neg",
            Unary::Sqrt => "sqrt",
            Unary::Splat => "splat",
            Unary::ReduceAdd => "reduce_add",
            Unary::Promote => "promote",
            Unary::PromoteLow => "promote_low",
            Unary::PromoteHigh => "promote_high",
            Unary::Demote => "demote",
        }
    }

    /// The result's type for an operand; `None` if the operand cannot be.
    pub(crate) fn result(self, operand: Ty) -> Option<Ty> {
        match (self, operand) {
            (Unary::Abs | Unary::Neg | Unary::Sqrt, ty) if ty.in_memory().is_some() => Some(ty),
            (Unary::Splat, Ty::F32) => Some(Ty::F32x4),
            (Unary::ReduceAdd, Ty::F32x4) => Some(Ty::F32),
            (Unary::ReduceAdd, Ty::F64x2) => Some(Ty::F64),
            (Unary::Promote, Ty::F32) => Some(Ty::F64),
            (Unary::PromoteLow | Unary::PromoteHigh, Ty::F32x4) => Some(Ty::F64x2),
            (Unary::Demote, Ty::F64) => Some(Ty::F32),
            _ => None,
        }
    }

    /// The operands that it takes, in words.
    pub(crate) fn expects(self) -> &'static str {
        match self {
            Unary::Abs | Unary::Neg | Unary::Sqrt => "f32, f32x4, f64 or f64x2",
            Unary::Splat | Unary::Promote => "f32",
            Unary::ReduceAdd => "f32x4 or f64x2",
            Unary::PromoteLow | Unary::PromoteHigh => "f32x4",
            Unary::Demote => "f64",
        }
    }
}

/// An operation of two operands of one type: f32, f32x4, f64, f64x2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// `a < b ? b : a`: `a` where either is NaN, so that `max x, 0` keeps a NaN of `x`.
    Max,
    /// `b < a ? b : a`: `a` where either is NaN.
    Min,
}

impl Binary {
    pub(crate) const ALL: [Binary; 6] =
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Max => "max",
            Binary::Min => "min",
        }
    }
}

/// A comparison of two operands of one type: f32 or f64 gives bool, f32x4 gives boolx4. False where either is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `a < b`.
    Lt,
    /// `a <= b`.
    Le,
    /// `a > b`.
    Gt,
    /// `a >= b`.
    Ge,
    /// `a == b`.
    Eq,
}

impl Compare {
    pub(crate) const ALL: [Compare; 5] = [Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge, Compare::Eq];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Compare::Lt => "lt",
            Compare::Le => "le",
            Compare::Gt => "gt",
            Compare::Ge => "ge",
            Compare::Eq => "eq",
        }
    }

    /// The result's type for operands.
    pub(crate) fn result(operands: Ty) -> Option<Ty> {
        match operands {
            Ty::F32 | Ty::F64 => Some(Ty::Bool),
            Ty::F32x4 => Some(Ty::Boolx4),
            Ty::F64x2 | Ty::Bool | Ty::Boolx4 => None,
        }
    }
}

/// What a value is computed from. Floats follow IEEE 754, rounding to nearest even.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A constant in every lane, not NaN; for f32 and f32x4 a number that f32 holds.
    Const(f64),
    /// The element of a place; for f32x4 and f64x2 the elements from there on.
    Load(Place),
    /// One f32 in every lane of an f32x4.
    LoadSplat(Place),
    /// The content of another value at this point.
    Copy(Val),
    /// One operand.
    Unary(Unary, Val),
    /// Two operands.
    Binary(Binary, Val, Val),
    /// `a * b + c` of f32, f32x4, f64 or f64x2; rounded once where the target has a fused instruction, else twice.
    Fma(Val, Val, Val),
    /// A comparison.
    Compare(Compare, Val, Val),
    /// `mask ? a : b`: bool chooses between f32 or f64, boolx4 between the lanes of f32x4.
    Select(Val, Val, Val),
    /// Lane 0 to 3 of an f32x4.
    Extract(Val, u8),
}

impl Op {
    /// The operation's name in the text.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Const(_) => "const",
            Op::Load(_) => "load",
            Op::LoadSplat(_) => "load.splat",
            Op::Copy(_) => "copy",
            Op::Unary(op, _) => op.name(),
            Op::Binary(op, ..) => op.name(),
            Op::Fma(..) => "fma",
            Op::Compare(op, ..) => op.name(),
            Op::Select(..) => "select",
            Op::Extract(..) => "extract",
        }
    }

    /// The values that it reads.
    pub(crate) fn operands(&self) -> Vec<Val> {
        match *self {
            Op::Const(_) | Op::Load(_) | Op::LoadSplat(_) => Vec::new(),
            Op::Copy(a) | Op::Unary(_, a) | Op::Extract(a, _) => vec![a],
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => vec![a, b],
            Op::Fma(a, b, c) | Op::Select(a, b, c) => vec![a, b, c],
        }
    }
}
