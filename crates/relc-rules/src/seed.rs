//! Seeds: the relevance that the user puts on the output.

use std::fmt;
use std::str::FromStr;

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

impl SeedKind {
    /// Every seed with its name.
    pub const ALL: [(&'static str, SeedKind); 4] = [
        ("prob", SeedKind::Prob),
        ("logit", SeedKind::Logit),
        ("onehot", SeedKind::OneHot),
        ("contrast", SeedKind::Contrast),
    ];
}

impl fmt::Display for SeedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SeedKind::Prob => "prob",
            SeedKind::Logit => "logit",
            SeedKind::OneHot => "onehot",
            SeedKind::Contrast => "contrast",
        })
    }
}

impl FromStr for SeedKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, seed)| *seed);
        found.ok_or_else(|| {
            format!("got the seed \"{name}\", expected prob, logit, onehot, contrast or a .npy file")
        })
    }
}
