//! The rules, one file each: formula, citation, domain, and what happens at 0/0.

pub mod alpha_beta;
pub mod epsilon;
pub mod flat;
pub mod gamma;
pub mod gradient;
pub mod leak;
pub mod norm;
pub mod pool;
pub mod split;
pub mod structural;
pub mod wsquare;
pub mod zbox;
pub mod zplus;

use serde::{Deserialize, Serialize};

/// What `relc` says about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name that presets use.
    pub name: &'static str,
    /// The formula, in one line.
    pub formula: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// Which inputs it is meant for.
    pub domain: &'static str,
    /// What it promises about conservation.
    pub contract: &'static str,
    /// What happens where the denominator vanishes.
    pub at_zero: &'static str,
}

/// Every rule.
pub const RULES: [Description; 16] = [
    epsilon::DESCRIPTION,
    zplus::DESCRIPTION,
    alpha_beta::DESCRIPTION,
    gamma::DESCRIPTION,
    zbox::DESCRIPTION,
    wsquare::DESCRIPTION,
    flat::DESCRIPTION,
    norm::DESCRIPTION,
    gradient::GRADIENT,
    gradient::GUIDED,
    gradient::DECONV,
    pool::WINNER,
    pool::AVERAGE,
    structural::PASS,
    structural::CROP,
    split::DESCRIPTION,
];

/// Which form of its input a z+ rule uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputForm {
    /// The two-sided form, right for inputs of any sign.
    Signed,
    /// The input as it is.
    Raw,
    /// Ones at every valid position.
    Ones,
}
