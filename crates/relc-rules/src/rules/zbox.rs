//! `zbox`: for inputs that lie in a box, such as pixels.
//!
//! ```text
//! den_j = sum_i (a_i w_ij - low_i w+_ij - high_i w-_ij)
//! R_i = a_i sum_j w_ij s_j - low_i sum_j w+_ij s_j - high_i sum_j w-_ij s_j,   s_j = R_j / den_j
//! ```
//!
//! Source: Montavon et al., Pattern Recognition 65 (2017), eq. 14 (the z^B rule); zennit's ZBox, whose bias cancels
//! (`b - b+ - b-`). The box holds at valid positions; padding stays 0.
//!
//! Domain: inputs between `low` and `high`, where every product is at least 0; one bound for all channels or one per
//! channel. Contract: as zplus for such inputs; nothing checks them, so none is claimed.
//! At 0/0: `fallback = "flat"` spreads evenly; otherwise the stabiliser takes it.

use relc_ir::rule::{Part, products};

use super::Description;

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "zbox",
    formula: "R_i = sum_j (a_i w_ij - low_i w+_ij - high_i w-_ij) R_j / sum_i (a_i w_ij - low_i w+_ij - high_i w-_ij)",
    citation: "Montavon et al., Pattern Recognition 65 (2017), eq. 14",
    domain: "inputs between low and high: the first layer",
    contract: "shares in [0,1] for inputs in the box; unbounded outside of it",
    at_zero: "fallback = \"flat\" spreads evenly; otherwise the stabiliser takes it",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    vec![Part::new(products("a*w -l*w+ -h*w-").unwrap_or_default())] // the text always parses
}
