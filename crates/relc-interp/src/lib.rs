//! The reference executor: runs a verified graph forward, then its relevance graph, in f32 or f64.
//!
//! It is the oracle of every later kernel, so each op is written from its definition and nothing is fused. Two
//! properties hold to the bit, and tests rely on them: results do not depend on the number of threads (work is cut
//! into fixed pieces, and each element is summed in a fixed order), and a batch gives what its samples give one by
//! one.
//!
//! - [`forward`] computes the activations that relevance needs; one forward pass serves any number of
//!   explanations.
//! - [`backward`] takes a seed on the explained output back to the inputs and keeps the double-entry
//!   [`Ledger`](relc_ir::ledger::Ledger): for each relevance node what arrived, what was passed on, and where the difference went. Each loss
//!   is computed from its own definition, never as the remainder, so [`Ledger::check`](relc_ir::ledger::Ledger::check) is a real check.
//!
//! Sums of relevance are taken in f64, also in f32 runs. A value that is not finite is an error that names the
//! first node in execution order ([`InterpError::NonFinite`]), never a silent NaN.
//!
//! **Invariant:** every array here is in standard (row-major) layout.
#![forbid(unsafe_code)]

mod backend;
mod backward;
mod element;
mod error;
mod forward;
mod layer;
mod node;
mod ops;
mod relevance;
mod span;

pub use backend::Interpreter;
pub use backward::{Backward, Options, backward};
pub use element::Element;
pub use error::{Expected, InterpError, Quantity};
pub use forward::{Forward, forward, forward_all};
pub use node::{DataOperands, evaluate_node, propagate_node};
pub use ops::activation::activation;
