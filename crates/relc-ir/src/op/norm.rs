//! `BatchNormalization` (inference), normalisation by the operand's own statistics, and the heads `Softmax` and
//! `LogSoftmax`.

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// ONNX's `BatchNormalization` in inference form:
/// `(x - mean) / sqrt(var + epsilon) * scale + bias` per channel of `f32[N,C,..]`, operands in ONNX's order
/// `x, scale, bias, mean, var`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNormalization {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("epsilon", Attr::Float(self.epsilon))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(BatchNormalization { epsilon: attrs.float("epsilon")? })
    }

    /// The output type, that of `x`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x, parameters @ ..] = operands else { return Err("got no operands, expected 5".into()) };
        if parameters.len() != 4 {
            return Err(format!("got {} operands, expected 5", operands.len()));
        }
        let &[_, Dim::Fixed(c), ..] = x.dims() else {
            return Err(format!("got an input {x}, expected f32[N,C,..]"));
        };
        match parameters.iter().find(|p| p.dims() != [Dim::Fixed(c)]) {
            Some(p) => Err(format!("got a parameter {p}, expected f32[{c}]")),
            None => Ok((*x).clone()),
        }
    }
}

/// `(x - mean) / sqrt(var + epsilon)`, mean and (biased) variance of `x` itself over some axes.
///
/// `InstanceNormalization`, `GroupNormalization` and `LayerNormalization` are this one, between changes of shape and
/// with a `Mul` and an `Add` behind.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanVarianceNormalization {
    /// The axes, not the batch, ascending.
    pub axes: Vec<usize>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl MeanVarianceNormalization {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("axes", Attr::sizes(&self.axes)), ("epsilon", Attr::Float(self.epsilon))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(MeanVarianceNormalization { axes: attrs.sizes("axes")?, epsilon: attrs.float("epsilon")? })
    }

    /// The output type, that of the operand.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
        let fixed = |a: &usize| x.dims().get(*a).is_some_and(|d| *d != Dim::Batch);
        if self.axes.is_empty() || !self.axes.iter().all(fixed) || !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(format!("got axes={:?} on {x}, expected ascending axes, not the batch", self.axes));
        }
        Ok((*x).clone())
    }
}

/// `Softmax` or `LogSoftmax` along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// The axis, not the batch.
    pub axis: usize,
    /// Whether the logarithm is taken (`LogSoftmax`).
    pub log: bool,
}

impl Softmax {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as i64))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap, log: bool) -> Result<Self, String> {
        Ok(Softmax { axis: attrs.size("axis")?, log })
    }

    /// The output type, that of the operand.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
        match x.dims().get(self.axis) {
            Some(Dim::Fixed(_)) => Ok((*x).clone()),
            _ => Err(format!("got axis={} on {x}, expected an axis of fixed size", self.axis)),
        }
    }
}
