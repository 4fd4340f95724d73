//! The element types that the executor is generic over.

use std::fmt::{Debug, Display};
use std::ops::AddAssign;

use ndarray::LinalgScalar;
use num_traits::Float;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`.
pub trait Element:
    Float + LinalgScalar + AddAssign + Default + Debug + Display + Send + Sync + sealed::Sealed
{
    /// The element nearest to `value`.
    fn narrow(value: f64) -> Self;

    /// The exact value in f64.
    fn widen(self) -> f64;
}

impl Element for f32 {
    fn narrow(value: f64) -> Self {
        value as f32
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn narrow(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }
}
