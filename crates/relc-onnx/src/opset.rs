//! The operators that relc imports, of the domains `ai.onnx` and `com.microsoft`.

use crate::call::{Call, Value};
use crate::convert::{
    activations, concat, constants, control, dynamic, einsum, elementwise, linear, local, microsoft, norm,
    pool, qoperator, quantize, reduce, resample, resize, scatter, select, shaping, slicing,
};
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
    OpSpec { op, min_opset, max_opset: *crate::OPSETS.end(), supported, convert }
}

/// One of a binary operator's forms.
const BINARY: &str = "floats that broadcast; integers in shape arithmetic";
/// An operator of one float tensor.
const UNARY: &str = "f32 tensors that depend on the model's input";
/// An operator of one float tensor, which weights are also computed with.
const FOLDED: &str = "f32 tensors; constants";
/// An operator on integers.
const QUANTISED: &str = "as the plain operator, of dequantised operands; the result is clipped, not rounded";
/// What quantises, or reads integers.
const INTEGERS: &str = "constants of 4 to 32 bits, by axes and blocks; tensors that QuantizeLinear made";
const QUANTISES: &str =
    "constants, by axes and blocks; tensors with one constant scale: clips, does not round";
/// An operator that only exists in shape arithmetic.
const SHAPES: &str = "constants and shape arithmetic";

const OPS: &[OpSpec] = &[
    spec("Abs", 7, activations::abs, FOLDED),
    spec("Add", 7, elementwise::add, BINARY),
    spec("And", 7, constants::and, SHAPES),
    spec("AveragePool", 7, pool::average_pool, "pooling over one to three axes of f32[N,C,..]; output 0"),
    spec(
        "BatchNormalization",
        7,
        norm::batch_normalization,
        "inference with constant parameters, output 0; constants",
    ),
    spec("Cast", 7, constants::cast, "floats to floats (no-op); any cast in shape arithmetic"),
    spec("CastLike", 15, constants::cast_like, "floats to floats (no-op); constants"),
    spec("Ceil", 7, activations::ceil, "constants"),
    spec("Celu", 12, activations::celu, UNARY),
    spec("Clip", 7, activations::clip, "constant bounds"),
    spec("Concat", 7, concat::concat, "any axis but the batch"),
    spec("Constant", 7, constants::constant, "value, value_float(s), value_int(s)"),
    spec(
        "ConstantOfShape",
        9,
        constants::constant_of_shape,
        "constants; the batch may be the first dimension",
    ),
    spec(
        "Conv",
        7,
        linear::conv,
        "convolution over one to three axes of f32[N,C,..], constant weight and bias",
    ),
    spec("ConvInteger", 10, dynamic::conv_integer, "as Conv, a scale behind it (Cast and Mul)"),
    spec(
        "ConvTranspose",
        7,
        resample::conv_transpose,
        "over one to three axes of f32[N,C,..], constant weight and bias",
    ),
    spec("DepthToSpace", 7, resample::depth_to_space, "f32[N,C,H,W]"),
    spec("DequantizeLinear", 10, quantize::dequantize, INTEGERS),
    spec("Div", 7, elementwise::div, BINARY),
    spec("Dropout", 7, elementwise::dropout, "inference, output 0"),
    spec(
        "DynamicQuantizeLinear",
        11,
        dynamic::dynamic_quantize,
        "of what a layer of integers reads; constants",
    ),
    spec("Einsum", 12, einsum::einsum, "products of two matrices: a sum over labels that both operands have"),
    spec("Elu", 7, activations::elu, UNARY),
    spec("Equal", 7, constants::equal, SHAPES),
    spec("Erf", 9, activations::erf, UNARY),
    spec("Exp", 7, activations::exp, FOLDED),
    spec("Expand", 8, constants::expand, "shapes that keep the batch as it is"),
    spec("Flatten", 7, shaping::flatten, "an axis that keeps the batch first"),
    spec("Floor", 7, activations::floor, "constants"),
    spec(
        "Gather",
        7,
        slicing::gather,
        "constant indices, at most 64 into a tensor, not of the batch; shape arithmetic",
    ),
    spec("Gelu", 20, activations::gelu, UNARY),
    spec("Gemm", 7, linear::gemm, "f32[N,K] times a constant, plus an optional constant f32[M], transA=0"),
    spec("GlobalAveragePool", 7, reduce::global_average_pool, "f32[N,C,..]"),
    spec("GlobalMaxPool", 7, reduce::global_max_pool, "f32[N,C,..]"),
    spec("Greater", 7, constants::greater, SHAPES),
    spec("GreaterOrEqual", 12, constants::greater_or_equal, SHAPES),
    spec("GroupNormalization", 18, norm::group_normalization, "f32[N,C,..] with constant parameters"),
    spec("HardSigmoid", 7, activations::hard_sigmoid, UNARY),
    spec("HardSwish", 14, activations::hard_swish, UNARY),
    spec("Identity", 7, elementwise::identity, "any value"),
    spec("If", 7, control::choose, "conditions that fold to a constant"),
    spec("InstanceNormalization", 7, norm::instance_normalization, "f32[N,C,..] with constant parameters"),
    spec("LRN", 7, local::lrn, "f32[N,C,..]"),
    spec(
        "LayerNormalization",
        17,
        norm::layer_normalization,
        "constant parameters, axes behind the batch, output 0",
    ),
    spec("LeakyRelu", 7, activations::leaky_relu, UNARY),
    spec("Less", 7, constants::less, SHAPES),
    spec("LessOrEqual", 12, constants::less_or_equal, SHAPES),
    spec("Log", 7, activations::log, FOLDED),
    spec("LogSoftmax", 7, norm::log_softmax, "one axis, not the batch"),
    spec(
        "MatMul",
        7,
        linear::matmul,
        "f32[..,K] times a constant f32[K,M]; two tensors, at most 2^24 products",
    ),
    spec("MatMulInteger", 10, dynamic::matmul_integer, "as MatMul, a scale behind it (Cast and Mul)"),
    spec("Max", 8, elementwise::max, BINARY),
    spec("MaxPool", 7, pool::max_pool, "pooling over one to three axes of f32[N,C,..]; output 0"),
    spec("Mean", 8, elementwise::mean, "floats that broadcast"),
    spec("MeanVarianceNormalization", 9, norm::mean_variance_normalization, "axes without the batch"),
    spec("Min", 8, elementwise::min, BINARY),
    spec("Mish", 18, activations::mish, UNARY),
    spec("Mod", 10, constants::modulo, SHAPES),
    spec("Mul", 7, elementwise::mul, BINARY),
    spec("Neg", 7, activations::neg, "floats; integers in shape arithmetic"),
    spec("Not", 7, constants::not, SHAPES),
    spec("Or", 7, constants::or, SHAPES),
    spec(
        "PRelu",
        7,
        elementwise::prelu,
        "f32 tensors that depend on the model's input; a constant slope for relevance",
    ),
    spec("Pad", 7, slicing::pad, "all modes; not the batch"),
    spec("Pow", 7, elementwise::pow, "floats that broadcast; a constant exponent for relevance"),
    spec("QLinearConv", 10, qoperator::conv, QUANTISED),
    spec("QLinearMatMul", 10, qoperator::matrix_product, QUANTISED),
    spec("QuantizeLinear", 10, quantize::quantize, QUANTISES),
    spec("Range", 11, constants::range, SHAPES),
    spec("Reciprocal", 7, activations::reciprocal, FOLDED),
    spec("ReduceL2", 7, reduce::l2, "constant axes, not the batch; constants"),
    spec("ReduceMax", 7, reduce::max, "constant axes, not the batch; constants"),
    spec("ReduceMean", 7, reduce::mean, "constant axes, not the batch; constants"),
    spec("ReduceProd", 7, reduce::product, "constants and shape arithmetic"),
    spec("ReduceSum", 7, reduce::sum, "constant axes, not the batch; constants"),
    spec("ReduceSumSquare", 7, reduce::sum_square, "constant axes, not the batch; constants"),
    spec("Relu", 7, activations::relu, FOLDED),
    spec("Reshape", 7, shaping::reshape, "constant shapes"),
    spec("Resize", 10, resize::resize, "nearest, linear and cubic, constant scales or sizes, not the batch"),
    spec("ScatterND", 11, scatter::scatter_nd, "constant indices of a block, in a tensor or in equal values"),
    spec("Selu", 7, activations::selu, UNARY),
    spec("Shape", 7, constants::shape, "any value"),
    spec("Sigmoid", 7, activations::sigmoid, FOLDED),
    spec("Size", 7, constants::size, "any value"),
    spec("Slice", 7, slicing::slice, "constant bounds, not the batch"),
    spec("Softmax", 7, norm::softmax, "one axis, not the batch"),
    spec("Softplus", 7, activations::softplus, UNARY),
    spec("Softsign", 7, activations::softsign, UNARY),
    spec("SpaceToDepth", 7, resample::space_to_depth, "f32[N,C,H,W]"),
    spec("Split", 7, slicing::split, "constant parts, not of the batch"),
    spec("Sqrt", 7, activations::sqrt, FOLDED),
    spec("Squeeze", 7, shaping::squeeze, "constant axes, not the batch"),
    spec("Sub", 7, elementwise::sub, BINARY),
    spec("Sum", 7, elementwise::sum, "floats that broadcast"),
    spec("Swish", 24, activations::swish, UNARY),
    spec("Tanh", 7, activations::tanh, FOLDED),
    spec("ThresholdedRelu", 10, activations::thresholded_relu, UNARY),
    spec("Transpose", 7, shaping::transpose, "any permutation"),
    spec("Unsqueeze", 7, shaping::unsqueeze, "constant axes"),
    spec("Upsample", 7, resize::upsample, "nearest and linear, constant scales, not the batch"),
    spec("Where", 9, select::where_, "a constant condition"),
];

/// The operators of `com.microsoft`, whose one version is 1.
const MICROSOFT: &[OpSpec] = &[
    spec("BiasGelu", 7, microsoft::bias_gelu, UNARY),
    spec("DequantizeLinear", 7, quantize::dequantize, INTEGERS),
    spec(
        "DynamicQuantizeMatMul",
        7,
        qoperator::dynamic_matmul,
        "f32[..,K] times a constant, plus a constant",
    ),
    spec("FastGelu", 7, microsoft::fast_gelu, UNARY),
    spec("FusedConv", 7, microsoft::fused_conv, "as Conv, a sum and an activation behind it"),
    spec("FusedGemm", 7, microsoft::fused_gemm, "as Gemm, an activation behind it"),
    spec("Gelu", 7, activations::gelu, UNARY),
    spec(
        "MatMulIntegerToFloat",
        7,
        qoperator::matmul_integer_to_float,
        "f32[..,K] times a constant, plus a constant",
    ),
    spec(
        "MatMulNBits",
        7,
        microsoft::matmul_bits,
        "f32[..,K] times a constant of 4 or 8 bits, plus a constant",
    ),
    spec("QGemm", 7, qoperator::gemm, QUANTISED),
    spec("QLinearAdd", 7, qoperator::add, QUANTISED),
    spec("QLinearAveragePool", 7, qoperator::average_pool, QUANTISED),
    spec("QLinearConcat", 7, qoperator::concat, QUANTISED),
    spec("QLinearConv", 7, qoperator::conv, QUANTISED),
    spec("QLinearGlobalAveragePool", 7, qoperator::global_average_pool, QUANTISED),
    spec("QLinearLeakyRelu", 7, qoperator::leaky_relu, QUANTISED),
    spec("QLinearMul", 7, qoperator::mul, QUANTISED),
    spec("QLinearReduceMean", 7, qoperator::mean, QUANTISED),
    spec("QLinearSigmoid", 7, qoperator::sigmoid, QUANTISED),
    spec("QLinearSoftmax", 7, qoperator::softmax, QUANTISED),
    spec("QuantizeLinear", 7, quantize::quantize, QUANTISES),
    spec("QuickGelu", 7, activations::quick_gelu, UNARY),
];

/// The operators of `ai.onnx` that relc imports, by name.
pub fn supported_ops() -> &'static [OpSpec] {
    OPS
}

/// The operators of `com.microsoft` that relc imports, by name.
pub fn supported_microsoft_ops() -> &'static [OpSpec] {
    MICROSOFT
}

/// Where else to look for an operator that the domain lacks: the same name in the other domain, or one like it.
pub(crate) fn hint(op: &str, is_microsoft: bool) -> Option<String> {
    let (other, domain) = if is_microsoft { (OPS, "ai.onnx") } else { (MICROSOFT, "com.microsoft") };
    if by_name(other, op).is_some() {
        return Some(format!("it knows that of the domain {domain}"));
    }
    nearest(if is_microsoft { MICROSOFT } else { OPS }, op).map(|n| format!("did you mean \"{n}\"?"))
}

/// The operator whose name is most like a misspelt one, if it is like it.
fn nearest(ops: &[OpSpec], op: &str) -> Option<&'static str> {
    const LONGEST: usize = 40; // no operator's name is longer, and a file's may be
    if op.len() > LONGEST {
        return None;
    }
    let lower = op.to_lowercase();
    let likeness = |o: &OpSpec| strsim::jaro_winkler(&o.op.to_lowercase(), &lower);
    let near = ops.iter().map(|o| (likeness(o), o.op)).filter(|(likeness, _)| *likeness > 0.86);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, op)| op)
}

/// The operator of that name.
pub(crate) fn find(op: &str) -> Option<&'static OpSpec> {
    by_name(OPS, op)
}

/// The operator of that name of `com.microsoft`.
pub(crate) fn find_microsoft(op: &str) -> Option<&'static OpSpec> {
    by_name(MICROSOFT, op)
}

fn by_name(ops: &'static [OpSpec], op: &str) -> Option<&'static OpSpec> {
    ops.binary_search_by(|spec| spec.op.cmp(op)).ok().and_then(|i| ops.get(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_inside_the_opsets() {
        assert!([OPS, MICROSOFT].iter().all(|ops| ops.is_sorted_by(|a, b| a.op < b.op)));
        assert!(
            OPS.iter().all(|o| *crate::OPSETS.start() <= o.min_opset && o.max_opset == *crate::OPSETS.end())
        );
        assert!(find("Conv").is_some() && find("conv").is_none());
        for (got, expected) in
            [("relu", "Relu"), ("Convolution", "Conv"), ("BatchNorm", "BatchNormalization")]
        {
            assert_eq!(nearest(OPS, got), Some(expected), "{got}");
        }
        assert_eq!(["Det", "LSTM", "Attention"].map(|op| nearest(OPS, op)), [None; 3]);
    }

    /// A hint never names the very operator that is not known.
    #[test]
    fn hints_name_another_operator_or_domain() {
        assert_eq!(hint("Conv", true).as_deref(), Some("it knows that of the domain ai.onnx"));
        assert_eq!(hint("QLinearAdd", false).as_deref(), Some("it knows that of the domain com.microsoft"));
        assert_eq!(hint("QLinearAd", true).as_deref(), Some("did you mean \"QLinearAdd\"?"));
    }
}
