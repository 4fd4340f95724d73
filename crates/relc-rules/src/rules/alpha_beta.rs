//! `alpha_beta`: positive and negative contributions are normalised apart, and weighed.
//!
//! ```text
//! p_j = sum_i (a+_i w+_ij + a-_i w-_ij) + b+_j        n_j = sum_i (a+_i w-_ij + a-_i w+_ij) + b-_j
//! R_i = alpha sum_j (a+_i w+_ij + a-_i w-_ij) R_j / p_j - beta sum_j (a+_i w-_ij + a-_i w+_ij) R_j / n_j
//! ```
//!
//! Source: Bach et al., PLoS ONE 10 (2015), eq. 60, with `alpha - beta = 1`; zennit's AlphaBeta.
//!
//! Domain: any input. Contract: what leaves is at most `alpha + beta` times what arrives, but where one side has no
//! contributions its share is lost, so that more can leave than arrived: unbounded as far as conservation goes.
//! At 0/0: the stabiliser takes that part's share.

use relc_ir::rule::{BiasPart, Part, products};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "alpha_beta",
    formula: "R_i = alpha sum_j (a_i w_ij)+ R_j / sum_i (a_i w_ij)+ - beta sum_j (a_i w_ij)- R_j / sum_i (a_i w_ij)-",
    citation: "Bach et al., PLoS ONE 10 (2015), eq. 60",
    domain: "any input; alpha - beta = 1",
    contract: "does not conserve where one of the two sides has no contributions",
    at_zero: "the stabiliser takes that side's share",
};

/// The parts of the rule; `beta = alpha - 1`.
pub fn parts(alpha: f64) -> Vec<Part> {
    let part = |terms: &str, bias, scale| Part {
        bias,
        scale,
        ..Part::new(products(terms).unwrap_or_default()) // the two texts below always parse
    };
    let positive = part("a+*w+ a-*w-", BiasPart::Positive, alpha);
    let negative = part("a+*w- a-*w+", BiasPart::Negative, 1.0 - alpha);
    if alpha > 1.0 { vec![positive, negative] } else { vec![positive] }
}
