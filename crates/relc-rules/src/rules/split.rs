//! `split`: how a residual join shares its relevance among its branches.
//!
//! ```text
//! ratio:  R_k = R |F_k| / sum_l |F_l|
//! half:   R_k = R / (number of branches)
//! half-at-projection, ratio-at-projection: as named where the skip has weighted layers, else all to the main branch
//! ```
//!
//! Source: Otsuki et al., ECCV 2024, arXiv:2407.09115, section 3 (`ratio` is the proposed method; the others are
//! the variants of the authors' code: `flows_skip_simple`, `simple` and `latest`).
//!
//! Domain: any input; the shares lie in `[0,1]` and add up to 1. At 0/0: even shares.

use super::Description;

/// What `relc` says about the split.
pub const DESCRIPTION: Description = Description {
    name: "split",
    formula: "R_k = R |F_k| / sum_l |F_l|",
    citation: "Otsuki et al., ECCV 2024, arXiv:2407.09115, section 3",
    domain: "residual joins",
    at_zero: "even shares",
};
