//! `norm`: the epsilon rule of a linear op without parameters, such as an average pool.
//!
//! ```text
//! R_i = a_i sum_j w_ij R_j / (z_j + eps sign(z_j)),   z_j = sum_i a_i w_ij
//! ```
//!
//! Source: zennit's Norm. On a residual sum it is the split policy `signed`: `R_F = F R / stab(F + S)`.
//!
//! Domain: any input. Contract: the stabiliser takes its share where no input is negative, else unbounded.
//! At 0/0: the stabiliser takes it.

use relc_ir::rule::Part;

use super::{Description, epsilon};

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "norm",
    formula: "R_i = a_i sum_j w_ij R_j / (z_j + eps sign(z_j)), z_j = sum_i a_i w_ij",
    citation: "zennit's Norm; Bach et al., PLoS ONE 10 (2015)",
    domain: "average pools (residual sums: the split policy signed)",
    contract: "the stabiliser takes its share; unbounded where inputs of both signs cancel",
    at_zero: "the stabiliser takes it",
};

/// The parts of the rule.
pub fn parts() -> Vec<Part> {
    epsilon::parts()
}
