//! Elementwise functions of one operand.

use super::OpClass;
use crate::attr::{Attr, AttrMap, Attrs};

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
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        /// The slope.
        alpha: f64,
        /// The value at 0.
        beta: f64,
    },
    /// `x * min(max(x / 6 + 1 / 2, 0), 1)`.
    HardSwish,
    /// `x / (1 + exp(-alpha * x))`; SiLU with `alpha = 1`.
    Swish {
        /// The slope of the sigmoid.
        alpha: f64,
    },
    /// `x * (1 + erf(x / sqrt(2))) / 2`, or its approximation by `tanh`.
    Gelu {
        /// Whether it is `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2`.
        tanh: bool,
    },
    /// `x * tanh(ln(1 + exp(x)))`.
    Mish,
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu {
        /// The limit far below 0, negated.
        alpha: f64,
    },
    /// `x` where positive, else `alpha * (exp(x / alpha) - 1)`.
    Celu {
        /// The limit far below 0, negated.
        alpha: f64,
    },
    /// `gamma * x` where positive, else `gamma * alpha * (exp(x) - 1)`.
    Selu {
        /// The limit far below 0, negated, before `gamma`.
        alpha: f64,
        /// The slope for positive inputs.
        gamma: f64,
    },
    /// `x` where above `alpha`, else 0.
    ThresholdedRelu {
        /// The threshold.
        alpha: f64,
    },
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// `exp(x)`.
    Exp,
    /// The natural logarithm.
    Log,
    /// The square root.
    Sqrt,
    /// `1 / x`.
    Reciprocal,
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// `x` unchanged.
    Identity,
    /// `x` unchanged: the layer only acts in training.
    Dropout,
}

/// ONNX's names, the text form's, and the classes; the last two are gone before rules are asked for.
const NAMES: [(&str, &str, Option<OpClass>); 25] = [
    ("Relu", "relu", Some(OpClass::Activation)),
    ("LeakyRelu", "leaky_relu", Some(OpClass::Activation)),
    ("Clip", "clip", Some(OpClass::Activation)),
    ("Sigmoid", "sigmoid", Some(OpClass::Activation)),
    ("HardSigmoid", "hard_sigmoid", Some(OpClass::Activation)),
    ("HardSwish", "hard_swish", Some(OpClass::Activation)),
    ("Swish", "swish", Some(OpClass::Activation)),
    ("Gelu", "gelu", Some(OpClass::Activation)),
    ("Mish", "mish", Some(OpClass::Activation)),
    ("Elu", "elu", Some(OpClass::Activation)),
    ("Celu", "celu", Some(OpClass::Activation)),
    ("Selu", "selu", Some(OpClass::Activation)),
    ("ThresholdedRelu", "thresholded_relu", Some(OpClass::Activation)),
    ("Softplus", "softplus", Some(OpClass::Activation)),
    ("Softsign", "softsign", Some(OpClass::Activation)),
    ("Tanh", "tanh", Some(OpClass::Activation)),
    ("Erf", "erf", Some(OpClass::Activation)),
    ("Exp", "exp", Some(OpClass::Function)),
    ("Log", "log", Some(OpClass::Function)),
    ("Sqrt", "sqrt", Some(OpClass::Function)),
    ("Reciprocal", "reciprocal", Some(OpClass::Function)),
    ("Abs", "abs", Some(OpClass::Function)),
    ("Neg", "neg", Some(OpClass::Activation)),
    ("Identity", "identity", None),
    ("Dropout", "dropout", None),
];

impl Activation {
    pub(super) fn attrs(&self) -> Attrs {
        match *self {
            Activation::LeakyRelu { alpha }
            | Activation::Swish { alpha }
            | Activation::Elu { alpha }
            | Activation::Celu { alpha }
            | Activation::ThresholdedRelu { alpha } => vec![("alpha", Attr::Float(alpha))],
            Activation::Clip { min, max } => vec![("min", Attr::Float(min)), ("max", Attr::Float(max))],
            Activation::HardSigmoid { alpha, beta } => {
                vec![("alpha", Attr::Float(alpha)), ("beta", Attr::Float(beta))]
            }
            Activation::Selu { alpha, gamma } => {
                vec![("alpha", Attr::Float(alpha)), ("gamma", Attr::Float(gamma))]
            }
            Activation::Gelu { tanh } => vec![("tanh", Attr::flag(tanh))],
            _ => Attrs::new(),
        }
    }

    /// ONNX's name.
    pub fn onnx_name(&self) -> &'static str {
        match self {
            Activation::Relu => "Relu",
            Activation::LeakyRelu { .. } => "LeakyRelu",
            Activation::Clip { .. } => "Clip",
            Activation::Sigmoid => "Sigmoid",
            Activation::HardSigmoid { .. } => "HardSigmoid",
            Activation::HardSwish => "HardSwish",
            Activation::Swish { .. } => "Swish",
            Activation::Gelu { .. } => "Gelu",
            Activation::Mish => "Mish",
            Activation::Elu { .. } => "Elu",
            Activation::Celu { .. } => "Celu",
            Activation::Selu { .. } => "Selu",
            Activation::ThresholdedRelu { .. } => "ThresholdedRelu",
            Activation::Softplus => "Softplus",
            Activation::Softsign => "Softsign",
            Activation::Tanh => "Tanh",
            Activation::Erf => "Erf",
            Activation::Exp => "Exp",
            Activation::Log => "Log",
            Activation::Sqrt => "Sqrt",
            Activation::Reciprocal => "Reciprocal",
            Activation::Abs => "Abs",
            Activation::Neg => "Neg",
            Activation::Identity => "Identity",
            Activation::Dropout => "Dropout",
        }
    }

    /// Those that a rule line may name, with their classes.
    pub(super) fn classes() -> impl Iterator<Item = (&'static str, OpClass)> {
        NAMES.into_iter().filter_map(|(name, _, class)| Some((name, class?)))
    }

    pub(super) fn mnemonic(&self) -> &'static str {
        let name = self.onnx_name();
        NAMES.iter().find(|(onnx, ..)| *onnx == name).map_or("?", |(_, mnemonic, _)| mnemonic)
    }

    pub(super) fn from_text(mnemonic: &str, attrs: &mut AttrMap) -> Result<Option<Self>, String> {
        let Some((name, ..)) = NAMES.iter().find(|(_, m, _)| *m == mnemonic) else { return Ok(None) };
        Ok(Some(match *name {
            "Relu" => Activation::Relu,
            "LeakyRelu" => Activation::LeakyRelu { alpha: attrs.float("alpha")? },
            "Clip" => Activation::Clip { min: attrs.float("min")?, max: attrs.float("max")? },
            "Sigmoid" => Activation::Sigmoid,
            "HardSigmoid" => {
                Activation::HardSigmoid { alpha: attrs.float("alpha")?, beta: attrs.float("beta")? }
            }
            "HardSwish" => Activation::HardSwish,
            "Swish" => Activation::Swish { alpha: attrs.float("alpha")? },
            "Gelu" => Activation::Gelu { tanh: attrs.flag("tanh")? },
            "Mish" => Activation::Mish,
            "Elu" => Activation::Elu { alpha: attrs.float("alpha")? },
            "Celu" => Activation::Celu { alpha: attrs.float("alpha")? },
            "Selu" => Activation::Selu { alpha: attrs.float("alpha")?, gamma: attrs.float("gamma")? },
            "ThresholdedRelu" => Activation::ThresholdedRelu { alpha: attrs.float("alpha")? },
            "Softplus" => Activation::Softplus,
            "Softsign" => Activation::Softsign,
            "Tanh" => Activation::Tanh,
            "Erf" => Activation::Erf,
            "Exp" => Activation::Exp,
            "Log" => Activation::Log,
            "Sqrt" => Activation::Sqrt,
            "Reciprocal" => Activation::Reciprocal,
            "Abs" => Activation::Abs,
            "Neg" => Activation::Neg,
            "Identity" => Activation::Identity,
            "Dropout" => Activation::Dropout,
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::AttrMap;

    #[test]
    fn every_name_reads_back() {
        for (onnx, mnemonic, _) in NAMES {
            let mut attrs = AttrMap::default();
            for name in ["alpha", "beta", "gamma", "min", "max"] {
                attrs.insert(name.into(), Attr::Float(0.5)).unwrap();
            }
            attrs.insert("tanh".into(), Attr::flag(true)).unwrap();
            let activation = Activation::from_text(mnemonic, &mut attrs).unwrap().unwrap();
            assert_eq!((activation.onnx_name(), activation.mnemonic()), (onnx, mnemonic));
        }
    }
}
