//! Tensor types: an element type and a shape with a symbolic batch.

use std::fmt;

use crate::op::MAX_SPATIAL;

/// The most elements that one sample of a tensor may have (2^32; 2^28 where addresses have 32 bits): larger shapes are refused
/// by [`TensorType::check`], so that no later product of dimensions can overflow or be allocated by mistake.
pub const MAX_ELEMENTS: usize = if usize::BITS > 32 { (1u64 << 32) as usize } else { 1 << 28 };

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// The symbolic batch size, printed `N`.
    Batch,
    /// A number known at compile time.
    Fixed(usize),
}

impl Dim {
    /// The number, if the dimension is not the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Batch => None,
            Dim::Fixed(n) => Some(n),
        }
    }

    /// The dimension with `batch` put for the symbol.
    pub fn bind(self, batch: usize) -> usize {
        self.fixed().unwrap_or(batch)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Batch => f.write_str("N"),
            Dim::Fixed(n) => write!(f, "{n}"),
        }
    }
}

/// The type of a tensor: `f32` elements (every tensor of the graph; integers exist only in the importer)
/// and a shape, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    dims: Vec<Dim>,
}

impl TensorType {
    /// A type of the given dimensions.
    pub fn new(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        TensorType { dims: dims.into_iter().map(Into::into).collect() }
    }

    /// A type whose first dimension is the batch: `f32[N, rest...]`.
    pub fn batched(rest: &[usize]) -> Self {
        TensorType { dims: std::iter::once(Dim::Batch).chain(rest.iter().copied().map(Dim::Fixed)).collect() }
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.dims
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Whether the first dimension is the symbolic batch.
    pub fn is_batched(&self) -> bool {
        self.dims.first() == Some(&Dim::Batch)
    }

    /// The shape with `batch` put for the symbol.
    pub fn bind(&self, batch: usize) -> Vec<usize> {
        self.dims.iter().map(|d| d.bind(batch)).collect()
    }

    /// The number of elements of one sample (the symbol counts as 1); `None` if it overflows.
    pub fn elements(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.bind(1)))
    }

    /// The dimensions as plain numbers, if none is symbolic.
    pub fn fixed_dims(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(|d| d.fixed()).collect()
    }

    /// The sizes of the axes behind the batch and the channels, if there are one to three of them and all are fixed:
    /// the length of a signal, height and width of a picture, depth, height and width of a volume.
    pub fn spatial(&self) -> Option<Vec<usize>> {
        let [_, _, spatial @ ..] = &self.dims[..] else { return None };
        let sizes: Option<Vec<usize>> = spatial.iter().map(|d| d.fixed()).collect();
        sizes.filter(|sizes| (1..=MAX_SPATIAL).contains(&sizes.len()))
    }

    /// Refuses a shape that no tensor can have: a zero dimension, more than [`MAX_ELEMENTS`] elements per
    /// sample, or a batch symbol behind the first dimension.
    ///
    /// # Errors
    /// A sentence that says what was got and what is expected.
    pub fn check(&self) -> Result<(), String> {
        if self.dims.iter().skip(1).any(|d| *d == Dim::Batch) {
            return Err(format!("got {self}, expected the batch N only as the first dimension"));
        }
        if self.dims.contains(&Dim::Fixed(0)) {
            return Err(format!("got {self}, expected no dimension of 0"));
        }
        match self.elements() {
            Some(n) if n <= MAX_ELEMENTS => Ok(()),
            _ => Err(format!("got {self}, expected at most {MAX_ELEMENTS} elements per sample")),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("f32[")?;
        for (i, d) in self.dims.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_no_tensor_has_are_refused() {
        let check = |dims: Vec<Dim>| TensorType::new(dims).check();
        assert!(check(vec![Dim::Batch, 3.into()]).is_ok());
        assert!(check(vec![3.into(), Dim::Batch]).unwrap_err().contains("only as the first"));
        assert!(check(vec![0.into()]).unwrap_err().contains("no dimension of 0"));
        assert!(check(vec![usize::MAX.into(), 2.into()]).unwrap_err().contains("at most"));
        assert!(check(vec![(1 << 20).into(), (1 << 20).into()]).unwrap_err().contains("at most"));
    }
}
