//! `wsquare`: relevance follows the squared weights.
//!
//! ```text
//! R_i = sum_j w_ij^2 R_j / (sum_i w_ij^2)
//! ```
//!
//! Source: Montavon et al., Pattern Recognition 65 (2017), eq. 12 (the w^2 rule).
//!
//! Domain: any input; its values don't enter. At 0/0 (all weights of an output are 0): the fallback.

use relc_ir::rule::{InputPart, Part, Product, WeightPart};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "wsquare",
    formula: "R_i = sum_j w_ij^2 R_j / (sum_i w_ij^2)",
    citation: "Montavon et al., Pattern Recognition 65 (2017), eq. 12",
    domain: "any input; ignores its values",
    contract: "conserves with fallback = \"flat\"; a stabiliser takes its share",
    at_zero: "fallback = \"flat\" spreads evenly; otherwise the stabiliser takes it",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    vec![Part::new(vec![Product { input: InputPart::Ones, weight: WeightPart::Square }])]
}
