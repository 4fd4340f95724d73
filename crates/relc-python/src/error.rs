//! Errors of the compiler as Python's.

use std::error::Error;

use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;

create_exception!(
    relc,
    RelcError,
    PyValueError,
    "A model, input or request that relc can't use; the text says what was got and what is expected."
);

/// A `RelcError` with the message and the chain of its causes, each on its line; a cause that its parent's message
/// already holds is left out.
pub fn raise(error: impl Into<Box<dyn Error + Send + Sync>>) -> PyErr {
    RelcError::new_err(relc::messages(error.into().as_ref()).join("\nbecause: "))
}
