//! `epsilon`: relevance follows the contributions, positive and negative.
//!
//! ```text
//! R_i = a_i sum_j w_ij R_j / (z_j + eps sign(z_j)),   z_j = sum_i a_i w_ij + b_j
//! ```
//!
//! Source: Bach et al., PLoS ONE 10 (2015), eq. 58; zennit's Epsilon.
//!
//! Domain: any input. With every bias (`bias = "all"`) the denominator is the layer's own output, which the forward
//! pass has already.
//! Contract: unbounded, since contributions of both signs can cancel in `z`; the bias and the stabiliser take their
//! shares.
//! At 0/0: the stabiliser takes it.

use relc_ir::rule::{InputPart, Part, Product, WeightPart};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "epsilon",
    formula: "R_i = a_i sum_j w_ij R_j / (z_j + eps sign(z_j))",
    citation: "Bach et al., PLoS ONE 10 (2015), eq. 58",
    domain: "any input",
    contract: "unbounded where contributions cancel; bias and stabiliser take their shares",
    at_zero: "the stabiliser takes it",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    vec![Part::new(vec![Product { input: InputPart::Raw, weight: WeightPart::Raw }])]
}
