//! `MaxPool`, `AveragePool`, `GlobalAveragePool` and `ReduceMean`.

use super::window::Window;
use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// ONNX's `MaxPool` on `f32[N,C,H,W]`; padding never wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// The window.
    pub window: Window,
}

/// ONNX's `AveragePool` on `f32[N,C,H,W]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AveragePool {
    /// The window.
    pub window: Window,
    /// Whether padding counts in the divisor (`count_include_pad`).
    pub count_include_pad: bool,
}

/// ONNX's `ReduceMean` over fixed axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReduceMean {
    /// The axes, not negative, ascending.
    pub axes: Vec<usize>,
    /// Whether the reduced axes stay with size 1.
    pub keepdims: bool,
}

fn pooled(window: &Window, operands: &[&TensorType]) -> Result<TensorType, String> {
    let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let [h, w] = window.output_dims(x)?;
    Ok(TensorType::new([x.dims()[0], x.dims()[1], h, w]))
}

fn window_attrs(window: &Window) -> Attrs {
    let mut attrs = window.attrs(true);
    if window.ceil {
        attrs.push(("ceil_mode", Attr::flag(true)));
    }
    attrs
}

fn window_from_attrs(attrs: &mut AttrMap) -> Result<Window, String> {
    let window = Window::from_attrs(attrs, None)?;
    Ok(Window { ceil: attrs.flag("ceil_mode").unwrap_or(false), ..window })
}

impl MaxPool {
    /// The attributes, for a text form.
    pub fn attrs(&self) -> Attrs {
        window_attrs(&self.window)
    }

    /// Takes the attributes.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(MaxPool { window: window_from_attrs(attrs)? })
    }

    /// The output type `f32[N,C,H',W']`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected; also if a window covers padding only (its maximum would be
    /// minus infinity).
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let out = pooled(&self.window, operands)?;
        if let Some(&[_, _, Dim::Fixed(h), Dim::Fixed(w)]) = operands.first().map(|x| x.dims())
            && !self.window.always_covers_input([h, w])
        {
            return Err(
                "got a window that covers padding only, expected every window to cover the input".into()
            );
        }
        Ok(out)
    }
}

impl AveragePool {
    /// The attributes, for a text form.
    pub fn attrs(&self) -> Attrs {
        let mut attrs = window_attrs(&self.window);
        attrs.push(("count_include_pad", Attr::flag(self.count_include_pad)));
        attrs
    }

    /// Takes the attributes.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        let window = window_from_attrs(attrs)?;
        Ok(AveragePool { window, count_include_pad: attrs.flag("count_include_pad")? })
    }

    /// The output type `f32[N,C,H',W']`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        pooled(&self.window, operands)
    }

    /// What the window at output row `y`, column `x` divides its sum by, over an input of `size` pixels.
    ///
    /// Pixels that `ceil_mode` adds behind the padding never count.
    pub fn divisor(&self, y: usize, x: usize, size: [usize; 2]) -> usize {
        (self.counted(0, y, size[0]) * self.counted(1, x, size[1])).max(1)
    }

    /// The taps along `axis` of window `index` that count, over `size` pixels: the divisor is the product of both axes'.
    pub fn counted(&self, axis: usize, index: usize, size: usize) -> usize {
        if !self.count_include_pad {
            return self.window.taps(axis, index, size).count();
        }
        let padded = size + self.window.pads[axis] + self.window.pads[axis + 2];
        let start = index * self.window.strides[axis];
        let dilation = self.window.dilations[axis];
        (0..self.window.kernel[axis]).filter(|tap| start + tap * dilation < padded).count()
    }
}

impl ReduceMean {
    /// The attributes, for a text form.
    pub fn attrs(&self) -> Attrs {
        vec![("axes", Attr::sizes(&self.axes)), ("keepdims", Attr::flag(self.keepdims))]
    }

    /// Takes the attributes.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(ReduceMean { axes: attrs.sizes("axes")?, keepdims: attrs.flag("keepdims")? })
    }

    /// The output type: the reduced axes are 1 or gone.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
        if self.axes.iter().any(|&a| a >= x.rank()) || self.axes.is_empty() {
            return Err(format!("got axes={:?} on {x}, expected axes below {}", self.axes, x.rank()));
        }
        if self.axes.iter().any(|&a| x.dims()[a] == Dim::Batch) {
            return Err(format!("got axes={:?} on {x}, expected no mean over the batch", self.axes));
        }
        let keep = |(i, d): (usize, &Dim)| match (self.axes.contains(&i), self.keepdims) {
            (false, _) => Some(*d),
            (true, true) => Some(Dim::Fixed(1)),
            (true, false) => None,
        };
        Ok(TensorType::new(x.dims().iter().enumerate().filter_map(keep).collect::<Vec<_>>()))
    }
}

/// The output type of `GlobalAveragePool`: `f32[N,C,1,1]`.
pub(super) fn infer_global(operands: &[&TensorType]) -> Result<TensorType, String> {
    let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let &[n, c, Dim::Fixed(_), Dim::Fixed(_)] = x.dims() else {
        return Err(format!("got an input {x}, expected f32[N,C,H,W] with fixed height and width"));
    };
    Ok(TensorType::new([n, c, Dim::Fixed(1), Dim::Fixed(1)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_with_and_without_padding() {
        let window = Window { pads: [1, 1, 1, 1], ..Window::new([3, 3], [2, 2]) };
        let pool = AveragePool { window, count_include_pad: false };
        assert_eq!(pool.divisor(0, 0, [4, 4]), 4);
        assert_eq!(pool.divisor(0, 1, [4, 4]), 6);
        let pool = AveragePool { window, count_include_pad: true };
        assert_eq!(pool.divisor(0, 0, [4, 4]), 9);
    }
}
