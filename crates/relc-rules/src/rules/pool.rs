//! MaxPool's rules: `winner` and `average`.
//!
//! ```text
//! winner:   R_i = sum of R_j over the windows j whose maximum is i
//! average:  the pool counts as an average pool with weights 1/k, and zplus applies
//! ```
//!
//! Source: `winner` is the gradient of the maximum, as in zennit's composites (a max is a linear layer that picks
//! one input; Bach et al., PLoS ONE 10 (2015), section "Pixel-wise decomposition for multilayer networks"). `average`
//! with `window = "paper"` (2x2, stride 2) is what the code of Otsuki et al., ECCV 2024, computes.
//!
//! Domain: `winner` any input; of equal values the first in row-major order wins. `average` as zplus.
//! At 0/0: `winner` never divides.

use super::Description;

/// What `relc` says about `winner`.
pub const WINNER: Description = Description {
    name: "winner",
    formula: "R_i = sum of R_j over the windows j whose maximum is i",
    citation: "Bach et al., PLoS ONE 10 (2015)",
    domain: "any input; of equal values the first in row-major order wins",
    contract: "conserves",
    at_zero: "never divides",
};

/// What `relc` says about `average`.
pub const AVERAGE: Description = Description {
    name: "average",
    formula: "R_i = a_i sum_j (1/k) R_j / (sum_i a_i / k)",
    citation: "Otsuki et al., ECCV 2024, arXiv:2407.09115, the authors' code",
    domain: "as zplus; window = \"own\" or \"paper\" (2x2, stride 2)",
    contract: "as zplus",
    at_zero: "as zplus",
};
