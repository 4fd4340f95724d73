//! `zplus`: relevance follows positive contributions only.
//!
//! ```text
//! signed:  den_j = sum_i (a+_i w+_ij + a-_i w-_ij) (+ b+_j) + eps    R_i = a+_i sum_j w+_ij R_j/den_j + a-_i sum_j w-_ij R_j/den_j
//! raw:     den_j = sum_i a_i w+_ij (+ b_j) + eps      R_i = a_i sum_j w+_ij R_j/den_j
//! ones:    den_j = sum_i w+_ij (+ b_j) + eps          R_i = sum_j w+_ij R_j/den_j
//! ```
//!
//! Source: Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition, Pattern
//! Recognition 65 (2017), eq. 17 (the z+ rule); the raw and ones forms are what the code of Otsuki et al., ECCV
//! 2024, computes for convolutions and for the first one.
//!
//! Domain: `signed` any input (every term is at least 0, so the shares lie in `[0,1]`); `raw` inputs that are not
//! negative; `ones` ignores the input's values. The stabiliser is added whatever the denominator's sign.
//! Contract: conserves with fallback = "flat" and no bias; raw: unbounded for negative inputs.
//! At 0/0: with `fallback = "flat"` the relevance is spread evenly over the receptive field; with a stabiliser it
//! is lost to it.

use relc_ir::rule::{BiasPart, BiasPolicy, InputPart, Part, Product, WeightPart};

use super::{Description, InputForm};

/// What `relc` says about the rule.
pub const DESCRIPTION: Description = Description {
    name: "zplus",
    formula: "R_i = a_i sum_j w+_ij R_j / (sum_i a_i w+_ij)",
    citation: "Montavon et al., Pattern Recognition 65 (2017), eq. 17",
    domain: "signed: any input; raw: inputs that are not negative; ones: ignores the input",
    contract: "conserves with fallback = \"flat\" and no bias; raw: unbounded for negative inputs",
    at_zero: "fallback = \"flat\" spreads evenly; otherwise the stabiliser takes it",
};

/// The parts of the rule. The signed form takes in only the positive part of a bias, as zennit's ZPlus; the other
/// forms take it as it is, as the authors' code.
pub fn parts(input: InputForm, bias: BiasPolicy) -> Vec<Part> {
    let product = |input, weight| Product { input, weight };
    let mut part = Part::new(match input {
        InputForm::Signed => vec![
            product(InputPart::Positive, WeightPart::Positive),
            product(InputPart::Negative, WeightPart::Negative),
        ],
        InputForm::Raw => vec![product(InputPart::Raw, WeightPart::Positive)],
        InputForm::Ones => vec![product(InputPart::Ones, WeightPart::Positive)],
    });
    if input == InputForm::Signed && bias != BiasPolicy::Exclude {
        part.bias = BiasPart::Positive;
    }
    vec![part]
}
