//! The ops: one enum, one file per family, each with its attributes, text form and shape inference.

mod activation;
mod bilinear;
mod class;
mod conv;
mod elementwise;
mod gemm;
mod norm;
mod pool;
mod relevance;
mod shaping;
mod window;

pub use activation::Activation;
pub use bilinear::{bilinear_shares, matched_axes};
pub use class::OpClass;
pub use conv::Conv;
pub use elementwise::Arithmetic;
pub use gemm::Gemm;
pub use norm::{BatchNormalization, MeanVarianceNormalization, Softmax};
pub use pool::{AveragePool, MaxPool, ReduceMean};
pub use relevance::{LinearLayer, Relevance, SIGNED_EPS, SplitKind};
pub use shaping::{Concat, Expand, Pad, Reshape, Slice, Transpose};
pub use window::{MAX_SPATIAL, Window, WindowAxis};

use crate::attr::{AttrMap, Attrs};
use crate::types::TensorType;

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A graph input; the node's name is the input's.
    Input,
    /// A weight; the node's name is the weight's.
    Constant,
    /// A convolution.
    Conv(Conv),
    /// A fully connected layer.
    Gemm(Gemm),
    /// A matrix product that import-cleanup did not turn into a `Gemm`.
    MatMul,
    /// A batch normalisation in inference form.
    BatchNormalization(BatchNormalization),
    /// A normalisation by the operand's own mean and variance.
    MeanVarianceNormalization(MeanVarianceNormalization),
    /// An elementwise function of one operand.
    Activation(Activation),
    /// An elementwise function of several operands.
    Arithmetic(Arithmetic),
    /// A maximum over windows.
    MaxPool(MaxPool),
    /// A mean over windows.
    AveragePool(AveragePool),
    /// A mean over all spatial axes.
    GlobalAveragePool,
    /// A mean over axes.
    ReduceMean(ReduceMean),
    /// `Softmax` or `LogSoftmax`.
    Softmax(Softmax),
    /// A change of shape.
    Reshape(Reshape),
    /// A repetition along axes of size 1.
    Expand(Expand),
    /// A permutation of axes.
    Transpose(Transpose),
    /// Constant padding.
    Pad(Pad),
    /// A strided part.
    Slice(Slice),
    /// Operands side by side.
    Concat(Concat),
    /// A relevance op.
    Relevance(Relevance),
}

impl Op {
    /// The name in the text form: `conv`, `add`, `conv.zplus`, ...
    pub fn mnemonic(&self) -> String {
        let name = match self {
            Op::Input => "input",
            Op::Constant => "constant",
            Op::Conv(_) => "conv",
            Op::Gemm(_) => "gemm",
            Op::MatMul => "matmul",
            Op::BatchNormalization(_) => "batch_normalization",
            Op::MeanVarianceNormalization(_) => "mean_variance_normalization",
            Op::Activation(activation) => activation.mnemonic(),
            Op::Arithmetic(arithmetic) => arithmetic.mnemonic(),
            Op::MaxPool(_) => "max_pool",
            Op::AveragePool(_) => "average_pool",
            Op::GlobalAveragePool => "global_average_pool",
            Op::ReduceMean(_) => "reduce_mean",
            Op::Softmax(Softmax { log: false, .. }) => "softmax",
            Op::Softmax(Softmax { log: true, .. }) => "log_softmax",
            Op::Reshape(_) => "reshape",
            Op::Expand(_) => "expand",
            Op::Transpose(_) => "transpose",
            Op::Pad(_) => "pad",
            Op::Slice(_) => "slice",
            Op::Concat(_) => "concat",
            Op::Relevance(relevance) => return relevance.mnemonic(),
        };
        name.to_string()
    }

    /// The attributes in the order in which they are printed.
    pub fn attrs(&self) -> Attrs {
        match self {
            Op::Input | Op::Constant | Op::MatMul | Op::GlobalAveragePool | Op::Arithmetic(_) => Attrs::new(),
            Op::Conv(op) => op.attrs(),
            Op::Gemm(op) => op.attrs(),
            Op::BatchNormalization(op) => op.attrs(),
            Op::MeanVarianceNormalization(op) => op.attrs(),
            Op::Activation(op) => op.attrs(),
            Op::MaxPool(op) => op.attrs(),
            Op::AveragePool(op) => op.attrs(),
            Op::ReduceMean(op) => op.attrs(),
            Op::Softmax(op) => op.attrs(),
            Op::Reshape(op) => op.attrs(),
            Op::Expand(op) => op.attrs(),
            Op::Transpose(op) => op.attrs(),
            Op::Pad(op) => op.attrs(),
            Op::Slice(op) => op.attrs(),
            Op::Concat(op) => op.attrs(),
            Op::Relevance(op) => op.attrs(),
        }
    }

    /// The op called `mnemonic` with its attributes.
    ///
    /// # Errors
    /// If there is no such op, or an attribute is missing, malformed or left over.
    pub fn from_text(mnemonic: &str, mut attrs: AttrMap) -> Result<Op, String> {
        let a = &mut attrs;
        let op = match mnemonic {
            "conv" => Op::Conv(Conv::from_attrs(a)?),
            "gemm" => Op::Gemm(Gemm::from_attrs(a)?),
            "matmul" => Op::MatMul,
            "batch_normalization" => Op::BatchNormalization(BatchNormalization::from_attrs(a)?),
            "mean_variance_normalization" => {
                Op::MeanVarianceNormalization(MeanVarianceNormalization::from_attrs(a)?)
            }
            "max_pool" => Op::MaxPool(MaxPool::from_attrs(a)?),
            "average_pool" => Op::AveragePool(AveragePool::from_attrs(a)?),
            "global_average_pool" => Op::GlobalAveragePool,
            "reduce_mean" => Op::ReduceMean(ReduceMean::from_attrs(a)?),
            "softmax" => Op::Softmax(Softmax::from_attrs(a, false)?),
            "log_softmax" => Op::Softmax(Softmax::from_attrs(a, true)?),
            "reshape" => Op::Reshape(Reshape::from_attrs(a)?),
            "expand" => Op::Expand(Expand::from_attrs(a)?),
            "transpose" => Op::Transpose(Transpose::from_attrs(a)?),
            "pad" => Op::Pad(Pad::from_attrs(a)?),
            "slice" => Op::Slice(Slice::from_attrs(a)?),
            "concat" => Op::Concat(Concat::from_attrs(a)?),
            _ => {
                if let Some(arithmetic) = Arithmetic::from_text(mnemonic) {
                    Op::Arithmetic(arithmetic)
                } else if let Some(activation) = Activation::from_text(mnemonic, a)? {
                    Op::Activation(activation)
                } else if let Some(relevance) = Relevance::from_text(mnemonic, a)? {
                    Op::Relevance(relevance)
                } else {
                    return Err(format!("unknown op \"{mnemonic}\""));
                }
            }
        };
        attrs.finish()?;
        Ok(op)
    }

    /// The types of the outputs, from those of the operands. Inputs and constants have none to infer from.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
        let one = match self {
            Op::Input | Op::Constant => return Err("inputs and constants carry their type".into()),
            Op::Conv(op) => op.infer(operands)?,
            Op::Gemm(op) => op.infer(operands)?,
            Op::MatMul => gemm::infer_matmul(operands)?,
            Op::BatchNormalization(op) => op.infer(operands)?,
            Op::MeanVarianceNormalization(op) => op.infer(operands)?,
            Op::Activation(_) => match operands {
                [x] => (*x).clone(),
                _ => return Err(format!("got {} operands, expected 1", operands.len())),
            },
            Op::Arithmetic(op) => op.infer(operands)?,
            Op::MaxPool(op) => op.infer(operands)?,
            Op::AveragePool(op) => op.infer(operands)?,
            Op::GlobalAveragePool => pool::infer_global(operands)?,
            Op::ReduceMean(op) => op.infer(operands)?,
            Op::Softmax(op) => op.infer(operands)?,
            Op::Reshape(op) => op.infer(operands)?,
            Op::Expand(op) => op.infer(operands)?,
            Op::Transpose(op) => op.infer(operands)?,
            Op::Pad(op) => op.infer(operands)?,
            Op::Slice(op) => op.infer(operands)?,
            Op::Concat(op) => op.infer(operands)?,
            Op::Relevance(op) => return op.infer(operands),
        };
        one.check()?;
        Ok(vec![one])
    }

    /// ONNX's name of a forward op, as presets and messages use it; a relevance op's is `Relevance`.
    pub fn onnx_name(&self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::Constant => "Constant",
            Op::Conv(_) => "Conv",
            Op::Gemm(_) => "Gemm",
            Op::MatMul => "MatMul",
            Op::BatchNormalization(_) => "BatchNormalization",
            Op::MeanVarianceNormalization(_) => "MeanVarianceNormalization",
            Op::Activation(activation) => activation.onnx_name(),
            Op::Arithmetic(arithmetic) => arithmetic.onnx_name(),
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool(_) => "AveragePool",
            Op::GlobalAveragePool => "GlobalAveragePool",
            Op::ReduceMean(_) => "ReduceMean",
            Op::Softmax(Softmax { log: false, .. }) => "Softmax",
            Op::Softmax(Softmax { log: true, .. }) => "LogSoftmax",
            Op::Reshape(_) => "Reshape",
            Op::Expand(_) => "Expand",
            Op::Transpose(_) => "Transpose",
            Op::Pad(_) => "Pad",
            Op::Slice(_) => "Slice",
            Op::Concat(_) => "Concat",
            Op::Relevance(_) => "Relevance",
        }
    }

    /// Whether this is a relevance op.
    pub fn is_relevance(&self) -> bool {
        matches!(self, Op::Relevance(_))
    }

    /// Whether the op has trained weights of its own: what tells a residual branch from its skip.
    pub fn is_weighted(&self) -> bool {
        matches!(self, Op::Conv(_) | Op::Gemm(_) | Op::MatMul)
    }
}
