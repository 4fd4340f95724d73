//! The forward ops.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod pool;
pub(crate) mod shaping;

use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use relc_ir::Op;
use relc_ir::op::{AveragePool, Conv};
use relc_ir::rule::WeightPart;

use crate::element::Element;
use crate::layer::Layer;
use conv::ConvLayer;
use gemm::GemmLayer;
use pool::AverageLayer;

/// The output of a forward op, of the shape that inference gives it. `None` if the operands don't fit, which the
/// verifier rules out.
pub(crate) fn evaluate<T: Element>(op: &Op, operands: &[&ArrayD<T>], shape: &[usize]) -> Option<ArrayD<T>> {
    let zeros = || ArrayD::zeros(IxDyn(shape));
    Some(match (op, operands) {
        (Op::Conv(op), [x, w, bias @ ..]) => convolution(op, x, w, bias.first().copied(), zeros())?,
        (Op::Gemm(op), [x, w, bias @ ..]) => {
            product(x, gemm::rows_of(w, op.trans_b), bias.first().copied(), zeros())?
        }
        (Op::MatMul, [x, w]) => product(x, gemm::rows_of(w, false), None, zeros())?,
        (Op::BatchNormalization(op), [x, scale, bias, mean, var]) => {
            elementwise::batch_normalization(op, x, [scale, bias, mean, var])
        }
        (Op::MeanVarianceNormalization(op), [x]) => elementwise::mean_variance_normalization(op, x)?,
        (Op::Activation(op), [x]) => x.mapv(|x| activation::activation(op, x)),
        (Op::Arithmetic(op), operands) => elementwise::arithmetic(*op, operands, zeros())?,
        (Op::MaxPool(op), [x]) => pool::max_pool(&op.window, x, zeros()),
        (Op::AveragePool(op), [x]) => average(op, x, zeros())?,
        (Op::GlobalAveragePool, [x]) => average(&pool::global(x.shape()), x, zeros())?,
        (Op::ReduceMean(op), [x]) => elementwise::reduce_mean(op, x, zeros())?,
        (Op::Softmax(op), [x]) => elementwise::softmax(op, x),
        (Op::Reshape(_), [x]) => shaping::reshape((*x).clone(), shape)?,
        (Op::Expand(_), [x]) => x.broadcast(IxDyn(shape))?.as_standard_layout().into_owned(),
        (Op::Transpose(op), [x]) => shaping::transpose(op, x),
        (Op::Pad(op), [x]) => shaping::pad(op, x, zeros()),
        (Op::Slice(op), [x]) => shaping::slice(op, x, shape),
        (Op::Concat(op), operands) => shaping::concat(*op, operands)?,
        _ => return None,
    })
}

/// A layer on every entry of the first axis of `x`, added to what `out` holds.
fn on_rows<T: Element>(layer: &dyn Layer<T>, x: &ArrayD<T>, out: &mut ArrayD<T>) -> Option<()> {
    let (inputs, outputs) = (row_len(x), row_len(out));
    let rows = x.as_slice()?.par_chunks_exact(inputs).zip(out.as_slice_mut()?.par_chunks_exact_mut(outputs));
    rows.for_each(|(x, out)| layer.apply(0, x, out));
    Some(())
}

/// Elements in one entry of the first axis.
pub(crate) fn row_len<T>(x: &ArrayD<T>) -> usize {
    x.shape().iter().skip(1).product()
}

fn convolution<T: Element>(
    op: &Conv,
    x: &ArrayD<T>,
    w: &ArrayD<T>,
    bias: Option<&ArrayD<T>>,
    mut out: ArrayD<T>,
) -> Option<ArrayD<T>> {
    let layer = ConvLayer::new(op, x.shape(), out.shape(), vec![Cow::Borrowed(w.as_slice()?)]);
    on_rows(&layer, x, &mut out)?;
    if let Some(bias) = bias {
        let pixels = out.shape()[2..].iter().product();
        let planes = out.as_slice_mut()?.chunks_exact_mut(pixels);
        planes.zip(bias.iter().cycle()).for_each(|(plane, bias)| plane.iter_mut().for_each(|y| *y += *bias));
    }
    Some(out)
}

/// `x: [..,K]` times rows of `K`, plus a bias.
fn product<T: Element>(
    x: &ArrayD<T>,
    rows: Cow<'_, [T]>,
    bias: Option<&ArrayD<T>>,
    mut out: ArrayD<T>,
) -> Option<ArrayD<T>> {
    let (k, m) = (*x.shape().last()?, *out.shape().last()?);
    let layer = GemmLayer::new(k, vec![rows]);
    for (x, out) in x.as_slice()?.chunks_exact(k).zip(out.as_slice_mut()?.chunks_exact_mut(m)) {
        layer.apply(0, x, out);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(y, bias)| *y += *bias);
        }
    }
    Some(out)
}

fn average<T: Element>(op: &AveragePool, x: &ArrayD<T>, mut out: ArrayD<T>) -> Option<ArrayD<T>> {
    let layer = AverageLayer::new(op, x.shape(), out.shape(), &[WeightPart::Raw], 0.0);
    on_rows(&layer, x, &mut out)?;
    Some(out)
}
