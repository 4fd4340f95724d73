//! `Conv`: a convolution over one to three spatial axes.

use super::window::Window;
use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// ONNX's `Conv` on `x: f32[N,C,..]`, `w: f32[M,C/group,k..]` and an optional bias `f32[M]`, of one to three spatial
/// axes.
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
        let mut attrs = self.window.attrs();
        attrs.push(("group", Attr::Int(self.group as i64)));
        if self.folded_bias {
            attrs.push(("folded_bias", Attr::flag(true)));
        }
        attrs
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        let window = Window::from_attrs(attrs)?;
        let group = attrs.size("group")?;
        Ok(Conv { window, group, folded_bias: attrs.flag("folded_bias").unwrap_or(false) })
    }

    /// The output type `f32[N,M,..]`.
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
            return Err(format!("got an input {x}, expected f32[N,C,..]"));
        };
        let dims = w.fixed_dims().unwrap_or_default();
        let &[m, c_per_group, ref kernel @ ..] = &dims[..] else {
            return Err(format!("got a weight {w}, expected f32[M,C/group,k..]"));
        };
        let g = self.group;
        if g == 0 || c % g != 0 || m % g != 0 || c / g != c_per_group {
            return Err(format!(
                "got {c} input channels, a weight {w} and group={g}, which don't fit together"
            ));
        }
        if kernel != self.window.kernel() {
            return Err(format!(
                "got kernel={:?} and a weight {w}, expected the same size",
                self.window.kernel()
            ));
        }
        if let Some(b) = bias
            && b.dims() != [Dim::Fixed(m)]
        {
            return Err(format!("got a bias {b}, expected f32[{m}]"));
        }
        let out = self.window.output_dims(x)?;
        Ok(TensorType::new([&[n, Dim::Fixed(m)], &out[..]].concat()))
    }
}
