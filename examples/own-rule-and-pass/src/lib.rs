//! What can be added to relc from outside: a rule, a pass, a back end, and a service over one explainer.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod give_rule;
mod rule;
mod service;
mod trace;

pub use give_rule::GiveRule;
pub use rule::{preset, square_share};
pub use service::{Answer, Service};
pub use trace::{Count, Trace, Traced};
