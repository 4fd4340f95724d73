//! `Add` (of any number of operands), `Sub`, `Mul`, `Div`, and the elementwise activations.

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// An elementwise function of one operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `alpha * x`.
    LeakyRelu {
        /// The slope for negative inputs.
        alpha: f64,
    },
    /// `min(max(x, min), max)`; infinite where ONNX gives no bound.
    Clip {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x` unchanged.
    Identity,
    /// `x` unchanged: the layer only acts in training.
    Dropout,
}

impl Activation {
    pub(super) fn attrs(&self) -> Attrs {
        match *self {
            Activation::LeakyRelu { alpha } => vec![("alpha", Attr::Float(alpha))],
            Activation::Clip { min, max } => vec![("min", Attr::Float(min)), ("max", Attr::Float(max))],
            _ => Attrs::new(),
        }
    }

    pub(super) fn mnemonic(&self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::Clip { .. } => "clip",
            Activation::Sigmoid => "sigmoid",
            Activation::Identity => "identity",
            Activation::Dropout => "dropout",
        }
    }

    pub(super) fn from_text(mnemonic: &str, attrs: &mut AttrMap) -> Result<Option<Self>, String> {
        Ok(Some(match mnemonic {
            "relu" => Activation::Relu,
            "leaky_relu" => Activation::LeakyRelu { alpha: attrs.float("alpha")? },
            "clip" => Activation::Clip { min: attrs.float("min")?, max: attrs.float("max")? },
            "sigmoid" => Activation::Sigmoid,
            "identity" => Activation::Identity,
            "dropout" => Activation::Dropout,
            _ => return Ok(None),
        }))
    }
}

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
}

impl Arithmetic {
    pub(super) fn mnemonic(self) -> &'static str {
        match self {
            Arithmetic::Add => "add",
            Arithmetic::Sub => "sub",
            Arithmetic::Mul => "mul",
            Arithmetic::Div => "div",
        }
    }

    pub(super) fn from_text(mnemonic: &str) -> Option<Self> {
        [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div]
            .into_iter()
            .find(|a| a.mnemonic() == mnemonic)
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
