//! Ops that only move elements: `Reshape`, `Flatten`, `Expand`, `Transpose`, `Pad`, `Slice`, `Concat`.

use crate::attr::{Attr, AttrMap, Attrs};
use crate::types::{Dim, TensorType};

/// `Reshape` to a resolved shape (ONNX's 0 and -1 are resolved by the importer); also `Squeeze`, `Unsqueeze` and
/// `Flatten`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The output's dimensions.
    pub shape: Vec<Dim>,
}

/// `Expand`: repetition along axes of size 1, and along new leading axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expand {
    /// The output's dimensions.
    pub shape: Vec<Dim>,
}

/// `Transpose`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transpose {
    /// Output axis `i` is input axis `perm[i]`.
    pub perm: Vec<usize>,
}

/// `Pad` with a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements added before, then behind, each axis (ONNX's order: all begins, then all ends).
    pub pads: Vec<usize>,
    /// The value of the added elements.
    pub value: f64,
}

/// `Slice` with resolved, in-range bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// First index, per axis of the input.
    pub starts: Vec<usize>,
    /// Number of elements taken, per axis; `N` along an untouched batch.
    pub sizes: Vec<Dim>,
    /// From one element to the next, per axis; negative where the order is reversed.
    pub steps: Vec<isize>,
}

/// `Concat` along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// The axis, not the batch.
    pub axis: usize,
}

fn one<'a>(operands: &[&'a TensorType]) -> Result<&'a TensorType, String> {
    match operands {
        [x] => Ok(x),
        _ => Err(format!("got {} operands, expected 1", operands.len())),
    }
}

impl Reshape {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("shape", Attr::dims(&self.shape))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Reshape { shape: attrs.dims("shape")? })
    }

    /// The output type.
    ///
    /// # Errors
    /// If the number of elements would change, or the batch would mix with other dimensions.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let x = one(operands)?;
        let out = TensorType::new(self.shape.iter().copied());
        if out.elements() != x.elements() || out.is_batched() != x.is_batched() {
            return Err(format!("got {x} and shape {out}, expected the same number of elements per sample"));
        }
        Ok(out)
    }
}

impl Expand {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("shape", Attr::dims(&self.shape))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Expand { shape: attrs.dims("shape")? })
    }

    /// The output type.
    ///
    /// # Errors
    /// If the operand does not broadcast to the shape.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let x = one(operands)?;
        let out = TensorType::new(self.shape.iter().copied());
        let fits = |(from, to): (&Dim, &Dim)| from == to || *from == Dim::Fixed(1);
        // New leading axes would move the batch.
        let leads = x.rank() == out.rank() || !x.is_batched();
        if x.rank() > out.rank() || !leads || !x.dims().iter().rev().zip(out.dims().iter().rev()).all(fits) {
            return Err(format!("got {x} and shape {out}, expected a shape that it broadcasts to"));
        }
        Ok(out)
    }
}

impl Transpose {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("perm", Attr::sizes(&self.perm))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Transpose { perm: attrs.sizes("perm")? })
    }

    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Transpose {
        let mut perm = vec![0; self.perm.len()];
        for (out, &axis) in self.perm.iter().enumerate() {
            if let Some(slot) = perm.get_mut(axis) {
                *slot = out;
            }
        }
        Transpose { perm }
    }

    /// The output type.
    ///
    /// # Errors
    /// If `perm` is no permutation of the input's axes or moves the batch.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let x = one(operands)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<_>>() {
            return Err(format!("got perm={:?} on {x}, expected a permutation of its axes", self.perm));
        }
        if x.is_batched() && self.perm.first() != Some(&0) {
            return Err(format!("got perm={:?} on {x}, expected the batch to stay first", self.perm));
        }
        Ok(TensorType::new(self.perm.iter().map(|&axis| x.dims()[axis])))
    }
}

impl Pad {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("pads", Attr::sizes(&self.pads)), ("value", Attr::Float(self.value))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Pad { pads: attrs.sizes("pads")?, value: attrs.float("value")? })
    }

    /// The output type.
    ///
    /// # Errors
    /// If the number of pads is not twice the rank, the batch would be padded, or a size overflows.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let x = one(operands)?;
        let rank = x.rank();
        if self.pads.len() != 2 * rank {
            return Err(format!("got {} pads on {x}, expected {}", self.pads.len(), 2 * rank));
        }
        let padded = |(axis, dim): (usize, &Dim)| {
            let (begin, end) = (self.pads[axis], self.pads[axis + rank]);
            match *dim {
                Dim::Batch if (begin, end) == (0, 0) => Ok(Dim::Batch),
                Dim::Batch => Err(format!("got pads={:?} on {x}, expected none along the batch", self.pads)),
                Dim::Fixed(n) => begin
                    .checked_add(end)
                    .and_then(|p| p.checked_add(n))
                    .map(Dim::Fixed)
                    .ok_or_else(|| "the padded size overflows".to_string()),
            }
        };
        Ok(TensorType::new(x.dims().iter().enumerate().map(padded).collect::<Result<Vec<_>, _>>()?))
    }
}

impl Slice {
    pub(super) fn attrs(&self) -> Attrs {
        vec![
            ("starts", Attr::sizes(&self.starts)),
            ("sizes", Attr::dims(&self.sizes)),
            ("steps", Attr::ints(&self.steps.iter().map(|s| *s as i64).collect::<Vec<_>>())),
        ]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        let steps = attrs.ints("steps")?.into_iter().map(isize::try_from).collect::<Result<_, _>>();
        Ok(Slice {
            starts: attrs.sizes("starts")?,
            sizes: attrs.dims("sizes")?,
            steps: steps.map_err(|_| "attribute \"steps\": got a step that overflows".to_string())?,
        })
    }

    /// The last index that is taken along an axis; none if it lies before the first element or overflows.
    pub fn last(&self, axis: usize) -> Option<usize> {
        let (start, step) = (*self.starts.get(axis)?, *self.steps.get(axis)?);
        let further = isize::try_from(self.sizes.get(axis)?.fixed()?.checked_sub(1)?).ok()?;
        start.checked_add_signed(step.checked_mul(further)?)
    }

    /// Whether the elements along an axis come in reverse order.
    pub fn reverses(&self, axis: usize) -> bool {
        self.steps.get(axis).is_some_and(|step| *step < 0)
    }

    /// The output type.
    ///
    /// # Errors
    /// If a bound lies outside the input or the batch would be cut.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let x = one(operands)?;
        let rank = x.rank();
        if self.starts.len() != rank || self.sizes.len() != rank || self.steps.len() != rank {
            return Err(format!("got a slice of {} axes on {x}, expected {rank}", self.starts.len()));
        }
        for (axis, dim) in x.dims().iter().enumerate() {
            let (start, step) = (self.starts[axis], self.steps[axis]);
            let fits = match (*dim, self.sizes[axis]) {
                (Dim::Batch, Dim::Batch) => start == 0 && step == 1,
                (Dim::Fixed(n), Dim::Fixed(size)) => {
                    size > 0 && step != 0 && start < n && self.last(axis).is_some_and(|last| last < n)
                }
                _ => false,
            };
            if !fits {
                return Err(format!(
                    "got start {start}, size {}, step {step} along axis {axis} of {x}, expected a range inside it",
                    self.sizes[axis]
                ));
            }
        }
        Ok(TensorType::new(self.sizes.iter().copied()))
    }
}

impl Concat {
    pub(super) fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as i64))]
    }

    pub(super) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(Concat { axis: attrs.size("axis")? })
    }

    /// The output type.
    ///
    /// # Errors
    /// If the operands differ along another axis, or the axis is the batch.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let [first, rest @ ..] = operands else { return Err("got no operands, expected at least 1".into()) };
        let axis = self.axis;
        let mut dims = first.dims().to_vec();
        let Some(Dim::Fixed(mut total)) = dims.get(axis).copied() else {
            return Err(format!("got axis={axis} on {first}, expected an axis of fixed size"));
        };
        for ty in rest {
            let same = ty.rank() == dims.len()
                && ty.dims().iter().zip(&dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
            let size = ty.dims().get(axis).and_then(|d| d.fixed());
            match (same, size.and_then(|s| total.checked_add(s))) {
                (true, Some(sum)) => total = sum,
                _ => {
                    return Err(format!(
                        "got {first} and {ty}, expected them to differ only along axis {axis}"
                    ));
                }
            }
        }
        dims[axis] = Dim::Fixed(total);
        Ok(TensorType::new(dims))
    }
}
