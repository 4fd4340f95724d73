//! How relevance passes through a node, as data: the part of a rule that the graph carries.
//!
//! What the rules are called, where they come from and which preset asks for them is `relc-rules`' business; here
//! is only what an executor must know to compute one.

use std::fmt;
use std::str::FromStr;

use crate::attr::{Attr, AttrMap, Attrs};

/// Which form of the layer's input enters a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputPart {
    /// `a`, the activation itself.
    Raw,
    /// `a+ = max(a, 0)`.
    Positive,
    /// `a- = min(a, 0)`.
    Negative,
    /// One at every valid position, whatever the activation; padding stays 0.
    Ones,
}

/// Which form of the weight enters a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightPart {
    /// `w`, the weight itself.
    Raw,
    /// `w+ = max(w, 0)`.
    Positive,
    /// `w- = min(w, 0)`.
    Negative,
    /// `w * w`.
    Square,
    /// One for every weight.
    Ones,
}

/// One product of a denominator: `a+*w+`, `1*w+`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// The input's form.
    pub input: InputPart,
    /// The weight's form.
    pub weight: WeightPart,
}

const INPUTS: [(&str, InputPart); 4] =
    [("a", InputPart::Raw), ("a+", InputPart::Positive), ("a-", InputPart::Negative), ("1", InputPart::Ones)];
const WEIGHTS: [(&str, WeightPart); 5] = [
    ("w", WeightPart::Raw),
    ("w+", WeightPart::Positive),
    ("w-", WeightPart::Negative),
    ("w^2", WeightPart::Square),
    ("1", WeightPart::Ones),
];

/// The name of `value` in a table of (name, value); the tables above are total.
fn name_of<T: PartialEq + Copy>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, v)| *v == value).map_or("?", |(name, _)| name)
}

/// The value called `name`, or an error that lists the names.
fn named<T: Copy>(what: &str, table: &[(&'static str, T)], name: &str) -> Result<T, String> {
    let names = || table.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let found = table.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    found.ok_or_else(|| format!("{what}: got \"{name}\", expected one of {}", names()))
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*{}", name_of(&INPUTS, self.input), name_of(&WEIGHTS, self.weight))
    }
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (input, weight) =
            text.split_once('*').ok_or_else(|| format!("got the term \"{text}\", expected INPUT*WEIGHT"))?;
        Ok(Product { input: named("input", &INPUTS, input)?, weight: named("weight", &WEIGHTS, weight)? })
    }
}

/// What is added to a denominator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stabiliser {
    /// Nothing.
    None,
    /// `z + eps`, whatever the sign of `z`.
    Plus(f64),
    /// `z + eps * (z >= 0 ? 1 : -1)`.
    Signed(f64),
}

impl Stabiliser {
    /// What is added to the denominator `z`.
    pub fn term(self, z: f64) -> f64 {
        match self {
            Stabiliser::None => 0.0,
            Stabiliser::Plus(eps) => eps,
            Stabiliser::Signed(eps) => eps.copysign(if z >= 0.0 { 1.0 } else { -1.0 }),
        }
    }
}

/// Whether the layer's bias enters the denominator (and so takes relevance away).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BiasPolicy {
    /// Never.
    Exclude,
    /// As it is, unless BatchNormalization folding made it.
    Include,
}

/// What happens to relevance that arrives where the denominator is too small to divide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Nothing: the quotient is taken as it comes.
    None,
    /// It is distributed evenly over the valid inputs of the receptive field (the flat rule), and counted.
    Flat,
}

/// Denominators of smaller magnitude take the fallback: `2^-126 / 2^-46`, about `8.3e-25`.
///
/// `2^-126` is the smallest normal f32 and `2^-23` its relative precision. A denominator above the threshold is at
/// least `2^46` times any product that was lost to underflow, so it has all its digits, and a relevance below
/// `2^48` divided by it does not overflow. The f64 interpreter uses the same number, so that every executor takes
/// the same branch.
pub const FALLBACK_THRESHOLD: f64 = f32::MIN_POSITIVE as f64 / (f32::EPSILON as f64 * f32::EPSILON as f64);

/// A rule for a linear layer (convolution, fully connected, average pool) in normal form.
///
/// With the products `(x_p, w_p)` of [`terms`](Self::terms):
/// `den_j = sum_p sum_i x_p,i w_p,ij (+ b_j) + stabiliser`, `s_j = R_j / den_j`,
/// `R_i = sum_p x_p,i sum_j w_p,ij s_j`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRule {
    /// The rule's name, as the user knows it: `zplus`, `epsilon`, ...
    pub name: String,
    /// The products that make up the denominator.
    pub terms: Vec<Product>,
    /// What is added to it.
    pub stabiliser: Stabiliser,
    /// Whether the bias enters.
    pub bias: BiasPolicy,
    /// What happens where it vanishes.
    pub fallback: Fallback,
}

impl LinearRule {
    /// The attributes, for the text form of the rule and of the node that carries it.
    pub fn attrs(&self) -> Attrs {
        let terms: Vec<String> = self.terms.iter().map(ToString::to_string).collect();
        let mut attrs = vec![("terms", Attr::Text(terms.join(" ")))];
        match self.stabiliser {
            Stabiliser::None => {}
            Stabiliser::Plus(eps) => attrs.push(("plus_eps", Attr::Float(eps))),
            Stabiliser::Signed(eps) => attrs.push(("signed_eps", Attr::Float(eps))),
        }
        if self.bias == BiasPolicy::Include {
            attrs.push(("bias", Attr::Word("include".into())));
        }
        if self.fallback == Fallback::Flat {
            attrs.push(("fallback", Attr::Word("flat".into())));
        }
        attrs
    }

    /// Takes the rule's attributes.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn from_attrs(name: &str, attrs: &mut AttrMap) -> Result<Self, String> {
        let terms = attrs.text("terms")?;
        let terms = terms.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        let stabiliser = match (attrs.float("plus_eps"), attrs.float("signed_eps")) {
            (Ok(eps), Err(_)) => Stabiliser::Plus(eps),
            (Err(_), Ok(eps)) => Stabiliser::Signed(eps),
            (Err(_), Err(_)) => Stabiliser::None,
            (Ok(_), Ok(_)) => return Err("got both plus_eps and signed_eps, expected one".into()),
        };
        let bias = match attrs.word("bias") {
            Ok(word) => {
                named("bias", &[("exclude", BiasPolicy::Exclude), ("include", BiasPolicy::Include)], &word)?
            }
            Err(_) => BiasPolicy::Exclude,
        };
        let fallback = match attrs.word("fallback") {
            Ok(word) => named("fallback", &[("none", Fallback::None), ("flat", Fallback::Flat)], &word)?,
            Err(_) => Fallback::None,
        };
        Ok(LinearRule { name: name.to_string(), terms, stabiliser, bias, fallback })
    }
}

/// How the relevance of a residual sum is shared among its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitPolicy {
    /// In proportion to the operands' magnitudes at every join: the proposed method of Otsuki et al.
    Ratio,
    /// Evenly at every join.
    Half,
    /// Evenly where the skip is a projection, else all to the main branch.
    HalfAtProjection,
    /// In proportion where the skip is a projection, else all to the main branch.
    RatioAtProjection,
}

impl SplitPolicy {
    /// Every policy with its name.
    pub const ALL: [(&'static str, SplitPolicy); 4] = [
        ("ratio", SplitPolicy::Ratio),
        ("half", SplitPolicy::Half),
        ("half-at-projection", SplitPolicy::HalfAtProjection),
        ("ratio-at-projection", SplitPolicy::RatioAtProjection),
    ];
}

impl fmt::Display for SplitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::ALL, *self))
    }
}

impl FromStr for SplitPolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named("split policy", &Self::ALL, name)
    }
}

/// The window of the average pool that stands for a MaxPool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolWindow {
    /// The pool's own.
    Own,
    /// 2x2 with stride 2 and no padding, as the authors' code has it; the pool's own where that does not give
    /// the pool's output size.
    Paper,
}

/// How relevance passes through one node.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// A linear layer's rule.
    Linear(LinearRule),
    /// A MaxPool treated as an average pool.
    AsAverage {
        /// The average pool's window.
        window: PoolWindow,
        /// The rule on it.
        rule: LinearRule,
    },
    /// A MaxPool whose winner takes all; of equal values the first in row-major order.
    Winner,
    /// Relevance is unchanged in value; shapes are undone.
    Pass,
    /// A product (or quotient, or difference) of a signal and a gate or statistic: the signal takes the relevance,
    /// the other counts as a constant.
    Gate {
        /// The signal's operand index.
        signal: usize,
    },
    /// A Pad: relevance on the padding is lost, or spread evenly over the sample's valid elements.
    Crop {
        /// Whether it is spread.
        spread: bool,
    },
    /// A residual sum.
    Split(SplitPolicy),
}

impl Rule {
    /// The name before the bracket of the text form.
    pub fn name(&self) -> &str {
        match self {
            Rule::Linear(rule) => &rule.name,
            Rule::AsAverage { .. } => "as_average",
            Rule::Winner => "winner",
            Rule::Pass => "pass",
            Rule::Gate { .. } => "gate",
            Rule::Crop { .. } => "crop",
            Rule::Split(_) => "split",
        }
    }

    /// The attributes of the text form.
    pub fn attrs(&self) -> Attrs {
        match self {
            Rule::Linear(rule) => rule.attrs(),
            Rule::AsAverage { window, rule } => {
                let window = if *window == PoolWindow::Own { "own" } else { "paper" };
                let mut attrs =
                    vec![("window", Attr::Word(window.into())), ("rule", Attr::Word(rule.name.clone()))];
                attrs.extend(rule.attrs());
                attrs
            }
            Rule::Winner | Rule::Pass => Attrs::new(),
            Rule::Gate { signal } => vec![("signal", Attr::Int(*signal as i64))],
            Rule::Crop { spread } => vec![("spread", Attr::flag(*spread))],
            Rule::Split(policy) => vec![("policy", Attr::Word(policy.to_string()))],
        }
    }

    /// The rule called `name` with its attributes.
    ///
    /// # Errors
    /// If an attribute is missing, malformed or left over.
    pub fn from_text(name: &str, mut attrs: AttrMap) -> Result<Self, String> {
        let rule = match name {
            "as_average" => {
                let window = attrs.word("window")?;
                let window =
                    named("window", &[("own", PoolWindow::Own), ("paper", PoolWindow::Paper)], &window)?;
                let inner = attrs.word("rule")?;
                Rule::AsAverage { window, rule: LinearRule::from_attrs(&inner, &mut attrs)? }
            }
            "winner" => Rule::Winner,
            "pass" => Rule::Pass,
            "gate" => Rule::Gate { signal: attrs.size("signal")? },
            "crop" => Rule::Crop { spread: attrs.flag("spread")? },
            "split" => Rule::Split(attrs.word("policy")?.parse()?),
            _ => Rule::Linear(LinearRule::from_attrs(name, &mut attrs)?),
        };
        attrs.finish()?;
        Ok(rule)
    }
}

/// A rule and why the node has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedRule {
    /// The rule.
    pub rule: Rule,
    /// The line of the preset, or the override, that decided: `preset paper, line 12`.
    pub origin: String,
}

/// What a relevance node promises about conservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contract {
    /// What leaves is what arrives, to rounding.
    Conserving,
    /// Biases in denominators take relevance away.
    LeaksToBias,
    /// Stabilisers in denominators take relevance away.
    LeaksToStabiliser,
    /// Relevance on padding is lost.
    LeaksToPadding,
    /// What leaves can exceed what arrives without bound.
    Unbounded,
}

impl Contract {
    /// Every contract with its name.
    pub const ALL: [(&'static str, Contract); 5] = [
        ("conserving", Contract::Conserving),
        ("leaks-to-bias", Contract::LeaksToBias),
        ("leaks-to-stabiliser", Contract::LeaksToStabiliser),
        ("leaks-to-padding", Contract::LeaksToPadding),
        ("unbounded", Contract::Unbounded),
    ];
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::ALL, *self))
    }
}

impl FromStr for Contract {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named("contract", &Self::ALL, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_print_and_parse() {
        for (i, input) in INPUTS {
            for (w, weight) in WEIGHTS {
                let text = format!("{i}*{w}");
                assert_eq!(text.parse(), Ok(Product { input, weight }));
                assert_eq!(Product { input, weight }.to_string(), text);
            }
        }
        assert!("a*w++".parse::<Product>().unwrap_err().contains("expected one of w, w+"));
    }

    #[test]
    fn the_signed_stabiliser_moves_away_from_zero() {
        assert_eq!(Stabiliser::Signed(0.5).term(-1.0), -0.5);
        assert_eq!(Stabiliser::Signed(0.5).term(0.0), 0.5);
        assert_eq!(Stabiliser::Plus(0.5).term(-1.0), 0.5);
    }
}
