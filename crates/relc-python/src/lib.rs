//! The native half of the Python package `relc`: compiles and runs with the interpreter's lock released, and gives
//! results to numpy without copying them.
//!
//! What a user sees is in `python/relc`; this module, `relc._relc`, takes arguments that are checked and converted
//! there. Nothing that Python code can pass it is trusted all the same: what does not fit is a `RelcError`.

#[forbid(unsafe_code)]
mod compile;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod explainer;
#[forbid(unsafe_code)]
mod explanation;
#[forbid(unsafe_code)]
mod picture;
#[cfg(feature = "cuda")]
mod tensor;

use pyo3::prelude::*;

/// The native half of the package `relc`.
#[pymodule]
mod _relc {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::compile::{compile, presets};
    #[pymodule_export]
    use crate::error::RelcError;
    #[pymodule_export]
    use crate::explainer::Explainer;
    #[pymodule_export]
    use crate::explanation::Explanation;
    #[pymodule_export]
    use crate::picture::{Preprocess, heat_png, read};
    #[cfg(feature = "cuda")]
    #[pymodule_export]
    use crate::tensor::Tensor;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
