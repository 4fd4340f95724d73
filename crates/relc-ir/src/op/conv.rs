//! `Conv`: a two-dimensional convolution.

use super::window::Window;
use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// ONNX's `Conv` on `x: f32[N,C,H,W]`, `w: f32[M,C/group,kH,kW]` and an optional bias `f32[M]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// The window; its kernel is the weight's.
    pub window: Window,
    /// The number of groups.
    pub group: usize,
    /// Whether the bias was made by folding a BatchNormalization: it then enters a denominator only
    /// where a rule asks for all biases.
    pub folded_bias: bool,
}

impl Conv {
    pub(super) fn attrs(&self) -> Attrs {
        let mut attrs = self.window.attrs(true);
        attrs.push(("group", Attr::Int(self.group as i64)));
        if self.folded_bias {
            attrs.push(("folded_bias", Attr::flag(true)));
        }
        attrs
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        let window = Window::from_attrs(attrs, None)?;
        let group = attrs.size("group")?;
        Ok(Conv { window, group, folded_bias: attrs.flag("folded_bias").unwrap_or(false) })
    }

    /// The output type `f32[N,M,H',W']`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let (x, w, bias) = match operands {
            [x, w] => (x, w, None),
            [x, w, b] => (x, w, Some(b)),
            _ => return Err(format!("got {} operands, expected 2 or 3", operands.len())),
        };
        let &[n, Dim::Fixed(c), ..] = x.dims() else {
            return Err(format!("got an input {x}, expected f32[N,C,H,W]"));
        };
        let Some(&[m, c_per_group, kh, kw]) = w.fixed_dims().as_deref() else {
            return Err(format!("got a weight {w}, expected f32[M,C/group,kH,kW]"));
        };
        let g = self.group;
        if g == 0 || c % g != 0 || m % g != 0 || c / g != c_per_group {
            return Err(format!(
                "got {c} input channels, a weight {w} and group={g}, which don't fit together"
            ));
        }
        if [kh, kw] != self.window.kernel {
            return Err(format!(
                "got kernel={:?} and a weight {w}, expected the same size",
                self.window.kernel
            ));
        }
        if let Some(b) = bias
            && b.dims() != [Dim::Fixed(m)]
        {
            return Err(format!("got a bias {b}, expected f32[{m}]"));
        }
        let [h, w] = self.window.output_dims(x)?;
        Ok(TensorType::new([n, Dim::Fixed(m), h, w]))
    }
}
