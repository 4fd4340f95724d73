//! The operators that relc imports, of the domain `ai.onnx`.

use crate::call::{Call, Value};
use crate::convert::{constants, elementwise, linear, norm, pool, shaping, slicing};
use crate::error::Fault;

/// Turns a node into a value: a node of the graph, or a folded constant.
type Converter = fn(&mut Call) -> Result<Value, Fault>;

/// An operator that relc imports.
#[derive(Clone, Copy, Debug)]
pub struct OpSpec {
    /// The operator's name.
    pub op: &'static str,
    /// The first opset that has it, or the first that relc reads.
    pub min_opset: i64,
    /// The last opset whose form of it relc knows.
    pub max_opset: i64,
    /// What of it is supported.
    pub supported: &'static str,
    pub(crate) convert: Converter,
}

const fn spec(op: &'static str, min_opset: i64, convert: Converter, supported: &'static str) -> OpSpec {
    OpSpec { op, min_opset, max_opset: 23, supported, convert }
}

/// One of a binary operator's forms.
const BINARY: &str = "floats that broadcast; integers in shape arithmetic";
/// An operator of one float tensor.
const UNARY: &str = "f32 tensors that depend on the model's input";
/// An operator that only exists in shape arithmetic.
const SHAPES: &str = "constants and shape arithmetic";

const OPS: &[OpSpec] = &[
    spec("Add", 7, elementwise::add, BINARY),
    spec("AveragePool", 7, pool::average_pool, "2-D pooling of f32[N,C,H,W], output 0"),
    spec("BatchNormalization", 7, norm::batch_normalization, "inference with constant parameters, output 0"),
    spec("Cast", 7, constants::cast, "floats to floats (no-op); any cast in shape arithmetic"),
    spec("Clip", 7, elementwise::clip, "constant bounds"),
    spec("Concat", 7, slicing::concat, "any axis but the batch"),
    spec("Constant", 7, constants::constant, "value, value_float(s), value_int(s)"),
    spec("ConstantOfShape", 9, constants::constant_of_shape, "shapes without the batch"),
    spec("Conv", 7, linear::conv, "2-D convolution of f32[N,C,H,W] with constant weight and bias"),
    spec("Div", 7, elementwise::div, BINARY),
    spec("Dropout", 7, elementwise::dropout, "inference, output 0"),
    spec("Equal", 7, constants::equal, SHAPES),
    spec("Expand", 8, constants::expand, "constants; tensors whose shape does not change"),
    spec("Flatten", 7, shaping::flatten, "an axis that keeps the batch first"),
    spec("Gather", 7, slicing::gather, SHAPES),
    spec("Gemm", 7, linear::gemm, "f32[N,K] times a constant, plus an optional constant f32[M], transA=0"),
    spec("GlobalAveragePool", 7, pool::global_average_pool, "f32[N,C,H,W]"),
    spec("Identity", 7, elementwise::identity, "any value"),
    spec("LeakyRelu", 7, elementwise::leaky_relu, UNARY),
    spec("LogSoftmax", 7, norm::log_softmax, "one axis, not the batch"),
    spec("MatMul", 7, linear::matmul, "f32[..,K] times a constant f32[K,M]"),
    spec("Max", 8, constants::max, SHAPES),
    spec("MaxPool", 7, pool::max_pool, "2-D pooling of f32[N,C,H,W], output 0"),
    spec("Min", 8, constants::min, SHAPES),
    spec("Mul", 7, elementwise::mul, BINARY),
    spec("Pad", 7, slicing::pad, "mode=constant, no negative pads, not the batch"),
    spec("Range", 11, constants::range, SHAPES),
    spec("ReduceMean", 7, pool::reduce_mean, "constant axes, not the batch"),
    spec("Relu", 7, elementwise::relu, UNARY),
    spec("Reshape", 7, shaping::reshape, "constant shapes that keep the batch first"),
    spec("Shape", 7, constants::shape, "any value"),
    spec("Sigmoid", 7, elementwise::sigmoid, UNARY),
    spec("Size", 7, constants::size, "any value"),
    spec("Slice", 7, slicing::slice, "constant bounds and positive steps, not the batch"),
    spec("Softmax", 7, norm::softmax, "one axis, not the batch"),
    spec("Sqrt", 7, constants::sqrt, "constants"),
    spec("Squeeze", 7, shaping::squeeze, "constant axes, not the batch"),
    spec("Sub", 7, elementwise::sub, BINARY),
    spec("Sum", 7, elementwise::sum, "floats that broadcast"),
    spec("Transpose", 7, shaping::transpose, "permutations that keep the batch first"),
    spec("Unsqueeze", 7, shaping::unsqueeze, "constant axes, not before the batch"),
    spec("Where", 9, constants::where_, SHAPES),
];

/// The operators that relc imports, by name.
pub fn supported_ops() -> &'static [OpSpec] {
    OPS
}

/// The operator of that name.
pub(crate) fn find(op: &str) -> Option<&'static OpSpec> {
    OPS.binary_search_by(|spec| spec.op.cmp(op)).ok().and_then(|i| OPS.get(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_inside_the_opsets() {
        assert!(OPS.is_sorted_by(|a, b| a.op < b.op));
        assert!(
            OPS.iter().all(|o| *crate::OPSETS.start() <= o.min_opset && o.max_opset == *crate::OPSETS.end())
        );
        assert!(find("Conv").is_some() && find("conv").is_none());
    }
}
