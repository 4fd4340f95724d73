//! Classes of ops: what a preset's line names in one word, so that a new op needs no line.

use super::{Activation, Arithmetic};
use crate::names;

/// What a rule sees in an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpClass {
    /// An elementwise function that bends its operand: relevance may pass it unchanged.
    Activation,
    /// An elementwise function that says nothing of how its operand counts: only its derivative does.
    Function,
    /// Arithmetic of a value with a constant; of two computed values it is a join or a gate.
    Constant,
    /// A normalisation.
    Normalization,
    /// A change of shape or order that keeps the values.
    Shape,
    /// A sum over a window or a layer, and whatever needs a rule of its own.
    Layer,
}

names!(OpClass, "class of ops", [
    "@activation" => Activation,
    "@function" => Function,
    "@constant" => Constant,
    "@normalization" => Normalization,
    "@shape" => Shape,
    "@layer" => Layer,
]);

/// The ops that are no elementwise functions, with their classes.
const OTHERS: [(&str, OpClass); 15] = [
    ("Conv", OpClass::Layer),
    ("Gemm", OpClass::Layer),
    ("AveragePool", OpClass::Layer),
    ("GlobalAveragePool", OpClass::Layer),
    ("MaxPool", OpClass::Layer),
    ("Pad", OpClass::Layer),
    ("Softmax", OpClass::Layer),
    ("LogSoftmax", OpClass::Layer),
    ("BatchNormalization", OpClass::Normalization),
    ("MeanVarianceNormalization", OpClass::Normalization),
    ("Reshape", OpClass::Shape),
    ("Expand", OpClass::Shape),
    ("Transpose", OpClass::Shape),
    ("Slice", OpClass::Shape),
    ("Concat", OpClass::Shape),
];

impl OpClass {
    /// ONNX's names of the ops that a rule line may name, with their classes.
    pub fn ops() -> impl Iterator<Item = (&'static str, OpClass)> {
        OTHERS.into_iter().chain(Activation::classes()).chain(Arithmetic::classes())
    }

    /// ONNX's names of its ops.
    pub fn members(self) -> impl Iterator<Item = &'static str> {
        OpClass::ops().filter(move |(_, class)| *class == self).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Op, Softmax};
    use super::*;

    #[test]
    fn ops_are_listed_once_under_their_names() {
        for (op, expected) in [
            (Op::GlobalAveragePool, Some(OpClass::Layer)),
            (Op::Activation(Activation::Neg), Some(OpClass::Activation)),
            (Op::Activation(Activation::Softsign), Some(OpClass::Activation)),
            (Op::Activation(Activation::Sqrt), Some(OpClass::Function)),
            (Op::Activation(Activation::Identity), None),
            (Op::Arithmetic(Arithmetic::Max), Some(OpClass::Activation)),
            (Op::Arithmetic(Arithmetic::Pow), Some(OpClass::Constant)),
            (Op::Softmax(Softmax { axis: 1, log: true }), Some(OpClass::Layer)),
            (Op::MatMul, None),
        ] {
            let listed = OpClass::ops().find(|(name, _)| *name == op.onnx_name());
            assert_eq!(listed.map(|(_, class)| class), expected, "{}", op.onnx_name());
        }
        let names: std::collections::BTreeSet<_> = OpClass::ops().map(|(name, _)| name).collect();
        assert_eq!(names.len(), OpClass::ops().count(), "a name stands twice");
        assert!(OpClass::ALL.iter().all(|(_, class)| class.members().count() > 1));
    }
}
