//! `split`: how a residual join shares its relevance among its branches.
//!
//! ```text
//! ratio:  R_k = R |F_k| / sum_l |F_l|
//! half:   R_k = R / (number of branches)
//! half-at-projection, ratio-at-projection: as named where the skip has weighted layers, else all to the main branch
//! signed: R_k = F_k R / (sum_l F_l + eps sign)     (the norm rule on the sum)
//! main-only, skip-only: all to one branch
//! gradient: R_k = R for every branch               (the derivative of the sum, which is no share)
//! ```
//!
//! Source: Otsuki et al., ECCV 2024, arXiv:2407.09115, section 3 (`ratio` is the proposed method; the others are
//! the variants of the authors' code: `flows_skip_simple`, `simple` and `latest`); `signed` is zennit's Norm on its
//! Sum, with the stabiliser 1e-6.
//!
//! Domain: any input. Contract: the shares lie in `[0,1]` and add up to 1, but for `signed`, which is unbounded where
//! the branches cancel, and `gradient`. At 0/0: even shares; `signed`: the stabiliser takes it.

use super::Description;

/// What `relc` says about the split.
pub const DESCRIPTION: Description = Description {
    name: "split",
    formula: "R_k = R |F_k| / sum_l |F_l|",
    citation: "Otsuki et al., ECCV 2024, arXiv:2407.09115, section 3",
    domain: "residual joins",
    contract: "conserves; signed: unbounded where branches cancel; gradient: conserves nothing",
    at_zero: "even shares; signed: the stabiliser takes it",
};
