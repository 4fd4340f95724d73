//! `gamma`: contributions of the output's sign are favoured, but the others still count.
//!
//! ```text
//! z_j > 0:  den_j = sum_i (a+_i (w + g w+)_ij + a-_i (w + g w-)_ij) + (b + g b+)_j
//! z_j < 0:  den_j = sum_i (a+_i (w + g w-)_ij + a-_i (w + g w+)_ij) + (b + g b-)_j
//! R_i = the same products, each times R_j / den_j
//! ```
//!
//! Source: Montavon et al., Layer-wise relevance propagation: an overview, LNCS 11700 (2019); for inputs and outputs
//! of any sign Andeol et al., Learning domain invariant representations by joint Wasserstein distance minimization
//! (2021); zennit's Gamma.
//!
//! Domain: any input. `z` is the layer's output with its bias, whatever the bias policy.
//! Contract: unbounded, as epsilon; less so the larger `g`.
//! At 0/0: the stabiliser takes it; where `z` is exactly 0 no part counts, and what arrives is clipped.

use relc_ir::rule::{BiasPart, Condition, Part, products};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "gamma",
    formula: "R_i = sum_j (a_i w_ij + g (a_i w_ij)^s) R_j / (z_j + g z_j^s), s the sign of z_j",
    citation: "Montavon et al., LNCS 11700 (2019); Andeol et al. (2021)",
    domain: "any input",
    contract: "unbounded where contributions cancel; bias and stabiliser take their shares",
    at_zero: "the stabiliser takes it; where the output is exactly 0 it is clipped",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    let part = |terms: &str, bias, on| Part {
        bias,
        on,
        ..Part::new(products(terms).unwrap_or_default()) // the two texts below always parse
    };
    vec![
        part("a+*w+gw+ a-*w+gw-", BiasPart::GammaPositive, Condition::PositiveOutput),
        part("a+*w+gw- a-*w+gw+", BiasPart::GammaNegative, Condition::NegativeOutput),
    ]
}
