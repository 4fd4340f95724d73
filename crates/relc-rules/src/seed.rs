//! Seeds: the relevance that the user puts on the output.

use relc_ir::names;
use serde::{Deserialize, Serialize};

/// A named seed. A tensor of the output's shape, given by the user, takes its place where one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedKind {
    /// The target's probability: softmax over the logits (sigmoid if the model ends in one).
    Prob,
    /// The target's logit.
    Logit,
    /// One at the target.
    OneHot,
    /// What speaks for the target against the others: `onehot - softmax`, the gradient of the target's log
    /// probability. It sums to 0.
    Contrast,
}

names!(SeedKind, "seed", ["prob" => Prob, "logit" => Logit, "onehot" => OneHot, "contrast" => Contrast]);
