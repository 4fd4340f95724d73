//! `Add` (of any number of operands), `Sub`, `Mul`, `Div`, `Pow`, `PRelu`, `Max`, `Min`.

use super::OpClass;
use crate::types::{Dim, TensorType};

/// An elementwise function of two or more operands, with ONNX's (numpy's) broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The sum of all operands (ONNX's `Add` and `Sum`).
    Add,
    /// The first minus the second.
    Sub,
    /// The product of two.
    Mul,
    /// The first over the second.
    Div,
    /// The first to the power of the second.
    Pow,
    /// The first where positive, else the product of both.
    PRelu,
    /// The larger of two.
    Max,
    /// The smaller of two.
    Min,
}

/// Every one with its name in the text form, ONNX's, and its class.
const NAMES: [(Arithmetic, &str, &str, OpClass); 8] = [
    (Arithmetic::Add, "add", "Add", OpClass::Constant),
    (Arithmetic::Sub, "sub", "Sub", OpClass::Constant),
    (Arithmetic::Mul, "mul", "Mul", OpClass::Constant),
    (Arithmetic::Div, "div", "Div", OpClass::Constant),
    (Arithmetic::Pow, "pow", "Pow", OpClass::Constant),
    (Arithmetic::PRelu, "prelu", "PRelu", OpClass::Activation),
    (Arithmetic::Max, "max", "Max", OpClass::Activation),
    (Arithmetic::Min, "min", "Min", OpClass::Activation),
];

impl Arithmetic {
    pub(super) fn mnemonic(self) -> &'static str {
        NAMES.iter().find(|(a, ..)| *a == self).map_or("?", |(_, mnemonic, ..)| mnemonic)
    }

    /// ONNX's name.
    pub fn onnx_name(self) -> &'static str {
        NAMES.iter().find(|(a, ..)| *a == self).map_or("?", |(_, _, onnx, _)| onnx)
    }

    /// All with their classes.
    pub(super) fn classes() -> impl Iterator<Item = (&'static str, OpClass)> {
        NAMES.into_iter().map(|(_, _, onnx, class)| (onnx, class))
    }

    pub(super) fn from_text(mnemonic: &str) -> Option<Self> {
        NAMES.iter().find(|(_, m, ..)| *m == mnemonic).map(|(a, ..)| *a)
    }

    /// The broadcast type of all operands.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let count = operands.len();
        if count < 2 || (count > 2 && self != Arithmetic::Add) {
            return Err(format!("got {count} operands, expected 2"));
        }
        let rank = operands.iter().map(|t| t.rank()).max().unwrap_or(0);
        let mut dims = vec![Dim::Fixed(1); rank];
        for ty in operands {
            for (out, &d) in dims.iter_mut().rev().zip(ty.dims().iter().rev()) {
                *out = match (*out, d) {
                    (a, b) if a == b => a,
                    (Dim::Fixed(1), b) => b,
                    (a, Dim::Fixed(1)) => a,
                    _ => {
                        let all: Vec<String> = operands.iter().map(ToString::to_string).collect();
                        return Err(format!("got {}, expected shapes that broadcast", all.join(" and ")));
                    }
                };
            }
        }
        Ok(TensorType::new(dims))
    }
}
