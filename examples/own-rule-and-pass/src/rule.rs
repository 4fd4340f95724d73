//! A rule: `R_i = a+_i sum_j w_ij^2 R_j / (sum_i a+_i w_ij^2)`.
//!
//! All products are at least 0, there is nothing else in the denominator, and where that is 0 the relevance is spread
//! evenly: the rule conserves, which relc finds out from its parts.

use relc::unstable::ir::rule::{Fallback, InputPart, LinearRule, Part, Product, Rule, WeightPart};
use relc::{Preset, PresetError};

/// The rule as a value.
pub fn square_share() -> Rule {
    let part = Part::new(vec![Product { input: InputPart::Positive, weight: WeightPart::Square }]);
    Rule::Linear(LinearRule { fallback: Fallback::Flat, ..LinearRule::new("square_share", vec![part]) })
}

/// The rule in a preset, for every convolution and fully connected layer.
///
/// # Errors
/// If the file is no preset.
pub fn preset() -> Result<Preset, PresetError> {
    Preset::parse(include_str!("../presets/square_share.toml"), "square_share.toml")
}
