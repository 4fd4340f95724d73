//! `flat`: relevance is spread evenly over the receptive field.
//!
//! ```text
//! R_i = sum_j R_j / (number of valid inputs of j)
//! ```
//!
//! Source: Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines really learn, Nature
//! Communications 10 (2019), supplement; the `Flat` rule of zennit.
//!
//! Domain: any input; its values don't enter. The denominator is never 0 where a window covers a valid input.

use relc_ir::rule::{InputPart, Part, Product, WeightPart};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "flat",
    formula: "R_i = sum_j R_j / (number of valid inputs of j)",
    citation: "Lapuschkin et al., Nature Communications 10 (2019), supplement",
    domain: "any input; ignores its values and the weights",
    contract: "conserves with fallback = \"flat\"; a stabiliser takes its share",
    at_zero: "never 0 where a window covers a valid input",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    vec![Part::new(vec![Product { input: InputPart::Ones, weight: WeightPart::Ones }])]
}
