//! `MaxPool`, `AveragePool`, `GlobalAveragePool` and `ReduceMean`.

use super::window::Window;
use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// ONNX's `MaxPool` on `f32[N,C,..]` of one to three spatial axes; padding never wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// The window.
    pub window: Window,
}

/// ONNX's `AveragePool` on `f32[N,C,..]` of one to three spatial axes.
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
    let out = window.output_dims(x)?;
    Ok(TensorType::new([&x.dims()[..2], &out].concat()))
}

fn window_attrs(window: &Window) -> Attrs {
    let mut attrs = window.attrs();
    if window.ceil {
        attrs.push(("ceil_mode", Attr::flag(true)));
    }
    attrs
}

fn window_from_attrs(attrs: &mut AttrMap) -> Result<Window, String> {
    let window = Window::from_attrs(attrs)?;
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

    /// The output type `f32[N,C,..]`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected; also if a window covers padding only (its maximum would be
    /// minus infinity).
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let out = pooled(&self.window, operands)?;
        if let Some(size) = operands.first().and_then(|x| x.spatial())
            && !self.window.always_covers_input(&size)
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

    /// The output type `f32[N,C,..]`.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        pooled(&self.window, operands)
    }

    /// What the window at these output coordinates divides its sum by, over an input of `size`.
    ///
    /// Pixels that `ceil_mode` adds behind the padding never count.
    pub fn divisor(&self, at: &[usize], size: &[usize]) -> usize {
        let axes = at.iter().zip(size).enumerate();
        axes.map(|(axis, (index, size))| self.counted(axis, *index, *size)).product::<usize>().max(1)
    }

    /// The taps along `axis` of window `index` that count, over `size` pixels: the divisor is the product of all axes'.
    pub fn counted(&self, axis: usize, index: usize, size: usize) -> usize {
        let axis = self.window.axes[axis];
        if !self.count_include_pad {
            return axis.taps(index, size).count();
        }
        let padded = size + axis.pads[0] + axis.pads[1];
        let start = index * axis.stride;
        (0..axis.kernel).filter(|tap| start + tap * axis.dilation < padded).count()
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

/// The output type of `GlobalAveragePool`: `f32[N,C,1,..]`.
pub(super) fn infer_global(operands: &[&TensorType]) -> Result<TensorType, String> {
    let [x] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let Some(size) = x.spatial() else {
        return Err(format!(
            "got an input {x}, expected f32[N,C,..] with one to three spatial axes of fixed sizes"
        ));
    };
    let ones = vec![Dim::Fixed(1); size.len()];
    Ok(TensorType::new([&x.dims()[..2], &ones].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_with_and_without_padding() {
        let window = Window::from_lists(&[3; 2], &[2; 2], &[1; 4], &[1; 2]).unwrap();
        let pool = AveragePool { window, count_include_pad: false };
        assert_eq!(pool.divisor(&[0, 0], &[4, 4]), 4);
        assert_eq!(pool.divisor(&[0, 1], &[4, 4]), 6);
        let pool = AveragePool { window, count_include_pad: true };
        assert_eq!(pool.divisor(&[0, 0], &[4, 4]), 9);
    }
}
