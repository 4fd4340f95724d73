//! `Gemm` and `MatMul`.

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// A fully connected layer: `x: f32[N,K]` times a weight, plus an optional bias `f32[M]`.
///
/// ONNX's `alpha`, `beta` and `transA` are folded into the weights by the importer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Whether the weight is `f32[M,K]` (`transB=1`) instead of `f32[K,M]`.
    pub trans_b: bool,
    /// Whether the bias was made by folding a BatchNormalization.
    pub folded_bias: bool,
}

impl Gemm {
    pub(super) fn attrs(&self) -> Attrs {
        let mut attrs = vec![("trans_b", Attr::flag(self.trans_b))];
        if self.folded_bias {
            attrs.push(("folded_bias", Attr::flag(true)));
        }
        attrs
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Gemm { trans_b: attrs.flag("trans_b")?, folded_bias: attrs.flag("folded_bias").unwrap_or(false) })
    }

    /// The output type `f32[N,M]`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let (x, w, bias) = match operands {
            [x, w] => (x, w, None),
            [x, w, b] => (x, w, Some(b)),
            _ => return Err(format!("got {} operands, expected 2 or 3", operands.len())),
        };
        let &[n, Dim::Fixed(k)] = x.dims() else {
            return Err(format!("got an input {x}, expected f32[N,K]"));
        };
        let Some(&[rows, columns]) = w.fixed_dims().as_deref() else {
            return Err(format!("got a weight {w}, expected f32[K,M] or, with trans_b, f32[M,K]"));
        };
        let (inner, m) = if self.trans_b { (columns, rows) } else { (rows, columns) };
        if inner != k {
            return Err(format!(
                "got an input {x} and a weight {w} (trans_b={}), expected {k} inputs",
                self.trans_b
            ));
        }
        if let Some(b) = bias
            && b.dims() != [Dim::Fixed(m)]
        {
            return Err(format!("got a bias {b}, expected f32[{m}]"));
        }
        Ok(TensorType::new([n, Dim::Fixed(m)]))
    }
}

/// The output type of a `MatMul` of `f32[..,K]` and `f32[K,M]`.
pub(super) fn infer_matmul(operands: &[&TensorType]) -> Result<TensorType, String> {
    let [a, b] = operands else { return Err(format!("got {} operands, expected 2", operands.len())) };
    match (a.dims(), b.dims()) {
        ([rest @ .., k], &[k2, m]) if *k == k2 && k.fixed().is_some() && !rest.is_empty() => {
            Ok(TensorType::new(rest.iter().copied().chain([m])))
        }
        _ => Err(format!("got {a} and {b}, expected f32[..,K] and f32[K,M]")),
    }
}
