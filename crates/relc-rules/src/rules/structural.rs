//! Rules of nodes that don't mix values: `pass` and `crop`.
//!
//! ```text
//! pass:  R_i = R_j; changes of shape are undone, a sum or product with a constant is as if it were not there
//! crop:  R_i = R_j inside; on the padding lost, or with spread = true shared evenly by the sample's elements
//! ```
//!
//! Source: `pass` is zennit's `Pass`, used there for activations; Otsuki et al. pass BatchNormalization too.
//! A normalisation by its own statistics (GroupNormalization, InstanceNormalization, LayerNormalization) passes too, as
//! the identity rule of Achtibat et al., AttnLRP, ICML 2024, arXiv:2402.05602, section 3.3.2, has it: the statistics
//! count as constants, and the shift takes nothing.
//! A product of a signal and a gate (a Mul by a Sigmoid, as in squeeze-and-excitation) passes to the signal: Arras et
//! al., Explaining and interpreting LSTMs, 2019, arXiv:1909.12114 (signal-take-all).
//!
//! Domain: any input. At 0/0: never divides.

use super::Description;

/// What `relc` says about `pass`.
pub const PASS: Description = Description {
    name: "pass",
    formula: "R_i = R_j",
    citation: "Otsuki et al., ECCV 2024, arXiv:2407.09115; zennit's Pass",
    domain: "any input",
    contract: "conserves",
    at_zero: "never divides",
};

/// What `relc` says about `crop`.
pub const CROP: Description = Description {
    name: "crop",
    formula: "R_i = R_j inside; the padding's share is lost, or spread evenly over the sample",
    citation: "relc",
    domain: "Pad only",
    contract: "conserves with spread = true; otherwise the padding's share is lost",
    at_zero: "never divides",
};
