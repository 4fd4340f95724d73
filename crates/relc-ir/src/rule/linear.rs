//! The normal form of a rule for a linear layer: one formula for all of them.

use std::fmt;
use std::str::FromStr;

use super::{Fallback, Leak, Stabiliser};
use crate::attr::{Attr, AttrMap, Attrs};
use crate::names;
use crate::names::{UnknownName, name_of, named};

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
    /// Minus the rule's lower bound at every valid position ([`LinearRule::bounds`]); padding stays 0.
    MinusLow,
    /// Minus the rule's upper bound at every valid position; padding stays 0.
    MinusHigh,
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
    /// `w + g w+` with the rule's [`LinearRule::gamma`].
    GammaPositive,
    /// `w + g w-`.
    GammaNegative,
}

impl WeightPart {
    /// This form of the weight `w`.
    pub fn of(self, w: f64, gamma: f64) -> f64 {
        match self {
            WeightPart::Raw => w,
            WeightPart::Positive => w.max(0.0),
            WeightPart::Negative => w.min(0.0),
            WeightPart::Square => w * w,
            WeightPart::Ones => 1.0,
            WeightPart::GammaPositive => w + gamma * w.max(0.0),
            WeightPart::GammaNegative => w + gamma * w.min(0.0),
        }
    }

    /// The name: `w`, `w+`, `w^2`, ...
    pub fn name(self) -> &'static str {
        name_of(&WEIGHTS, self)
    }

    /// The form called `name`.
    ///
    /// # Errors
    /// If there is none; lists them.
    pub fn from_name(name: &str) -> Result<Self, UnknownName> {
        named("weight", &WEIGHTS, name)
    }
}

/// One product of a denominator: `a+*w+`, `1*w+`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// The input's form.
    pub input: InputPart,
    /// The weight's form.
    pub weight: WeightPart,
}

const INPUTS: [(&str, InputPart); 6] = [
    ("a", InputPart::Raw),
    ("a+", InputPart::Positive),
    ("a-", InputPart::Negative),
    ("1", InputPart::Ones),
    ("-l", InputPart::MinusLow),
    ("-h", InputPart::MinusHigh),
];
const WEIGHTS: [(&str, WeightPart); 7] = [
    ("w", WeightPart::Raw),
    ("w+", WeightPart::Positive),
    ("w-", WeightPart::Negative),
    ("w^2", WeightPart::Square),
    ("1", WeightPart::Ones),
    ("w+gw+", WeightPart::GammaPositive),
    ("w+gw-", WeightPart::GammaNegative),
];

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*{}", name_of(&INPUTS, self.input), name_of(&WEIGHTS, self.weight))
    }
}

/// A text that is no part of a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// An input, weight, bias or condition that there is not.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A term that is no product.
    #[error("got the term \"{0}\", expected INPUT*WEIGHT")]
    Term(String),
    /// A scale that is no number.
    #[error("got the scale \"{0}\", expected x2.0")]
    Scale(String),
    /// Something else.
    #[error("got \"{0}\" in a part, expected INPUT*WEIGHT, xSCALE, b.., z.., undivided")]
    Token(String),
    /// No term at all.
    #[error("got a part without a term, expected INPUT*WEIGHT")]
    Empty,
}

impl FromStr for Product {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let (input, weight) = text.split_once('*').ok_or_else(|| PartError::Term(text.into()))?;
        Ok(Product { input: named("input", &INPUTS, input)?, weight: named("weight", &WEIGHTS, weight)? })
    }
}

/// The products of a text like `a+*w+ a-*w-`.
///
/// # Errors
/// If one is malformed.
pub fn products(text: &str) -> Result<Vec<Product>, PartError> {
    text.split_whitespace().map(str::parse).collect()
}

/// Which form of the bias enters a part's denominator, where the rule's [`BiasPolicy`] lets it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BiasPart {
    /// `b`, the bias itself.
    Raw,
    /// `b+ = max(b, 0)`.
    Positive,
    /// `b- = min(b, 0)`.
    Negative,
    /// `b + g b+`.
    GammaPositive,
    /// `b + g b-`.
    GammaNegative,
}

const BIASES: [(&str, BiasPart); 5] = [
    ("b", BiasPart::Raw),
    ("b+", BiasPart::Positive),
    ("b-", BiasPart::Negative),
    ("b+gb+", BiasPart::GammaPositive),
    ("b+gb-", BiasPart::GammaNegative),
];

impl BiasPart {
    /// The form of weights that is the same function.
    pub fn form(self) -> WeightPart {
        match self {
            BiasPart::Raw => WeightPart::Raw,
            BiasPart::Positive => WeightPart::Positive,
            BiasPart::Negative => WeightPart::Negative,
            BiasPart::GammaPositive => WeightPart::GammaPositive,
            BiasPart::GammaNegative => WeightPart::GammaNegative,
        }
    }

    /// This form of the bias `b`.
    pub fn of(self, b: f64, gamma: f64) -> f64 {
        self.form().of(b, gamma)
    }
}

/// For which outputs a part counts: a condition on the layer's own output `z` (with its bias).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Always.
    Always,
    /// Where `z > 0`.
    PositiveOutput,
    /// Where `z < 0`.
    NegativeOutput,
}

const CONDITIONS: [(&str, Condition); 3] =
    [("", Condition::Always), ("z>0", Condition::PositiveOutput), ("z<0", Condition::NegativeOutput)];

impl Condition {
    /// Whether it holds for the output `z`.
    pub fn holds(self, z: f64) -> bool {
        match self {
            Condition::Always => true,
            Condition::PositiveOutput => z > 0.0,
            Condition::NegativeOutput => z < 0.0,
        }
    }

    /// The name: empty, `z>0` or `z<0`.
    pub fn name(self) -> &'static str {
        name_of(&CONDITIONS, self)
    }

    /// The condition called `name`.
    ///
    /// # Errors
    /// If there is none; lists them.
    pub fn from_name(name: &str) -> Result<Self, UnknownName> {
        named("condition", &CONDITIONS, name)
    }
}

/// Whether the layer's bias enters the denominators (and so takes relevance away).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BiasPolicy {
    /// Never.
    Exclude,
    /// As it is, unless BatchNormalization folding made it.
    Include,
    /// As it is, also where BatchNormalization folding made it.
    All,
}

names!(BiasPolicy, "bias policy", ["exclude" => Exclude, "include" => Include, "all" => All]);

impl BiasPolicy {
    /// Whether a bias enters; `folded` says that folding made it.
    pub fn admits(self, folded: bool) -> bool {
        match self {
            BiasPolicy::Exclude => false,
            BiasPolicy::Include => !folded,
            BiasPolicy::All => true,
        }
    }
}

/// One part of a rule.
///
/// Its text is its products, then, where they are not the usual ones, the scale (`x2.0`), the bias (`b+`), the
/// condition (`z>0`) and `undivided`: `a+*w+ a-*w- x2.0 b+`. Read, it may have a `+` between products.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The products that make up the denominator.
    pub terms: Vec<Product>,
    /// Which form of the bias enters it.
    pub bias: BiasPart,
    /// What the part's relevance is multiplied by: 1, `alpha`, `-beta`.
    pub scale: f64,
    /// For which outputs it counts.
    pub on: Condition,
    /// Whether relevance is divided by the denominator; a derivative is not.
    pub divides: bool,
}

const UNDIVIDED: &str = "undivided";

impl Part {
    /// A part with the bias itself, scale 1, for all outputs.
    pub fn new(terms: Vec<Product>) -> Self {
        Part { terms, bias: BiasPart::Raw, scale: 1.0, on: Condition::Always, divides: true }
    }

    /// Whether the denominator is the layer's own `sum_i a_i w_ij`.
    pub fn is_layer(&self) -> bool {
        let raw = [Product { input: InputPart::Raw, weight: WeightPart::Raw }];
        self.divides && self.terms == raw && self.bias == BiasPart::Raw
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tokens: Vec<String> = self.terms.iter().map(ToString::to_string).collect();
        if self.scale != 1.0 {
            tokens.push(format!("x{:?}", self.scale));
        }
        if self.bias != BiasPart::Raw {
            tokens.push(name_of(&BIASES, self.bias).into());
        }
        if self.on != Condition::Always {
            tokens.push(name_of(&CONDITIONS, self.on).into());
        }
        if !self.divides {
            tokens.push(UNDIVIDED.into());
        }
        f.write_str(&tokens.join(" "))
    }
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let mut part = Part::new(Vec::new());
        for token in text.split_whitespace() {
            if token == "+" {
                continue; // products are added up, whether that is written or not
            } else if token.contains('*') {
                part.terms.push(token.parse()?);
            } else if let Some(scale) = token.strip_prefix('x') {
                let number = scale.parse().ok().filter(|v: &f64| v.is_finite());
                part.scale = number.ok_or_else(|| PartError::Scale(token.into()))?;
            } else if token.starts_with('b') {
                part.bias = named("bias", &BIASES, token)?;
            } else if token.starts_with('z') {
                part.on = named("condition", &CONDITIONS, token)?;
            } else if token == UNDIVIDED {
                part.divides = false;
            } else {
                return Err(PartError::Token(token.into()));
            }
        }
        if part.terms.is_empty() {
            return Err(PartError::Empty);
        }
        Ok(part)
    }
}

/// The box that inputs lie in: one value, or one per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// The lowest values.
    pub low: Vec<f64>,
    /// The highest values, as many.
    pub high: Vec<f64>,
}

fn numbers(values: &[f64]) -> Attr {
    Attr::Text(values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" "))
}

fn parse_numbers(name: &str, text: &str) -> Result<Vec<f64>, String> {
    let number = |t: &str| t.parse().ok().filter(|v: &f64| v.is_finite());
    let numbers = text.split_whitespace().map(number).collect::<Option<Vec<_>>>().filter(|n| !n.is_empty());
    numbers.ok_or_else(|| format!("attribute \"{name}\": got \"{text}\", expected numbers"))
}

/// A rule for a linear layer (convolution, fully connected, average pool) in normal form.
///
/// With the products `(x_q, w_q)` of each part `p` of [`parts`](Self::parts), and `z` the layer's own output:
/// ```text
/// den_pj = sum_q sum_i x_q,i w_q,ij (+ b_p,j), plus the stabiliser of that
/// s_pj   = scale_p R_j / den_pj where the part's condition holds for z_j, else 0   (undivided: scale_p R_j)
/// R_i    = sum_p sum_q x_q,i sum_j w_q,ij s_pj
/// ```
/// Relevance `scale_p R_j` goes nowhere and is booked as clipped where `den_pj` is exactly 0 and there is no
/// fallback, and so does `R_j` where no part's condition holds.
///
/// What the formula does not pass on is the rule's [`leak`](Self::leak): where that is not [`Leak::Lost`], the relevance
/// node has a second output, `lost_j`, which another node hands on, so that nothing is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRule {
    /// The rule's name, as the user knows it: `zplus`, `epsilon`, ...
    pub name: String,
    /// The parts whose relevance adds up.
    pub parts: Vec<Part>,
    /// What is added to every denominator.
    pub stabiliser: Stabiliser,
    /// Whether the bias enters.
    pub bias: BiasPolicy,
    /// What happens where a denominator vanishes.
    pub fallback: Fallback,
    /// `g` in the weight's and the bias' gamma forms; 0 where there are none.
    pub gamma: f64,
    /// The box of [`InputPart::MinusLow`] and [`InputPart::MinusHigh`].
    pub bounds: Option<Bounds>,
    /// Where what it does not pass on goes.
    pub leak: Leak,
}

impl LinearRule {
    /// A rule of these parts, with no stabiliser, no bias and no fallback.
    pub fn new(name: impl Into<String>, parts: Vec<Part>) -> Self {
        LinearRule {
            name: name.into(),
            parts,
            stabiliser: Stabiliser::None,
            bias: BiasPolicy::Exclude,
            fallback: Fallback::None,
            gamma: 0.0,
            bounds: None,
            leak: Leak::Lost,
        }
    }

    /// The products of the only part, if it is one that divides, with scale 1, the bias itself, and for all
    /// outputs: the form that most rules have.
    pub fn single(&self) -> Option<&[Product]> {
        match &self.parts[..] {
            [part] if *part == Part { terms: part.terms.clone(), ..Part::new(vec![]) } => Some(&part.terms),
            _ => None,
        }
    }

    /// Whether the rule reads the layer's output `z`: its relevance node then has it as its last operand.
    ///
    /// It does so for conditions, and where a denominator is `z` itself (the epsilon rule with every bias).
    pub fn reads_output(&self) -> bool {
        self.parts.iter().any(|p| p.on != Condition::Always || self.is_output(p))
    }

    /// Whether a part's denominator, before the stabiliser, is the layer's output.
    pub fn is_output(&self, part: &Part) -> bool {
        part.is_layer() && self.bias == BiasPolicy::All
    }

    /// Whether any part is a derivative.
    pub fn is_derivative(&self) -> bool {
        self.parts.iter().any(|p| !p.divides)
    }

    /// The products of all parts, one after the other.
    pub fn terms(&self) -> impl Iterator<Item = &Product> {
        self.parts.iter().flat_map(|p| &p.terms)
    }

    /// The attributes, for the text form of the rule and of the node that carries it.
    pub fn attrs(&self) -> Attrs {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        let mut attrs = vec![("terms", Attr::Text(parts.join(" | ")))];
        match self.stabiliser {
            Stabiliser::None => {}
            Stabiliser::Plus(eps) => attrs.push(("plus_eps", Attr::Float(eps))),
            Stabiliser::Signed(eps) => attrs.push(("signed_eps", Attr::Float(eps))),
            Stabiliser::Relative(k) => attrs.push(("relative_eps", Attr::Float(k))),
        }
        if self.bias != BiasPolicy::Exclude {
            attrs.push(("bias", Attr::Word(self.bias.name().into())));
        }
        if self.fallback == Fallback::Flat {
            attrs.push(("fallback", Attr::Word("flat".into())));
        }
        if self.gamma != 0.0 {
            attrs.push(("gamma", Attr::Float(self.gamma)));
        }
        if let Some(bounds) = &self.bounds {
            attrs.push(("low", numbers(&bounds.low)));
            attrs.push(("high", numbers(&bounds.high)));
        }
        if self.leak != Leak::Lost {
            attrs.push(("leak", Attr::Word(self.leak.name().into())));
        }
        attrs
    }

    /// Takes the rule's attributes.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn from_attrs(name: &str, attrs: &mut AttrMap) -> Result<Self, String> {
        let text = attrs.text("terms")?;
        let parts =
            text.split('|').map(str::parse).collect::<Result<Vec<Part>, _>>().map_err(|e| e.to_string())?;
        let mut rule = LinearRule::new(name, parts);
        let [plus, signed, relative] =
            ["plus_eps", "signed_eps", "relative_eps"].map(|name| attrs.float(name).ok());
        rule.stabiliser = Stabiliser::of(plus, signed, relative)?;
        if let Ok(word) = attrs.word("bias") {
            rule.bias = word.parse()?;
        }
        if let Ok(word) = attrs.word("fallback") {
            rule.fallback = named("fallback", &[("none", Fallback::None), ("flat", Fallback::Flat)], &word)?;
        }
        rule.gamma = attrs.float("gamma").unwrap_or(0.0);
        rule.bounds = match (attrs.text("low"), attrs.text("high")) {
            (Ok(low), Ok(high)) => {
                Some(Bounds { low: parse_numbers("low", &low)?, high: parse_numbers("high", &high)? })
            }
            (Err(_), Err(_)) => None,
            _ => return Err("got one of low and high, expected both or none".into()),
        };
        if let Ok(word) = attrs.word("leak") {
            rule.leak = word.parse()?;
        }
        rule.check()?;
        Ok(rule)
    }

    /// Whether the rule's parts fit together.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let boxed = self.terms().any(|t| matches!(t.input, InputPart::MinusLow | InputPart::MinusHigh));
        match &self.bounds {
            None if boxed => return Err("got the terms -l or -h, expected low and high".into()),
            Some(b) if b.low.len() != b.high.len() || b.low.iter().zip(&b.high).any(|(l, h)| l > h) => {
                return Err(format!("got low {:?} and high {:?}, expected low <= high", b.low, b.high));
            }
            _ => {}
        }
        if !(self.gamma.is_finite() && self.gamma >= 0.0) {
            return Err(format!("got gamma {}, expected a number that is not negative", self.gamma));
        }
        if self.is_derivative() && (self.leak != Leak::Lost || self.parts.len() > 1) {
            return Err("got a derivative with other parts or a leak, expected it alone".into());
        }
        if self.leak != Leak::Lost && self.fallback != Fallback::None {
            return Err(format!(
                "got leak = \"{}\" with a fallback, expected one of them: the leak takes what the fallback would",
                self.leak.name()
            ));
        }
        Ok(())
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
        assert!("a*w++".parse::<Product>().unwrap_err().to_string().contains("expected one of w, w+"));
    }

    #[test]
    fn parts_print_and_parse() {
        let plain = Part::new(products("a+*w+ a-*w-").unwrap());
        assert_eq!(plain.to_string(), "a+*w+ a-*w-");
        for (_, bias) in BIASES {
            for (_, on) in CONDITIONS {
                for (scale, divides) in [(1.0, true), (-1.5, true), (1e-300, false)] {
                    let part = Part { bias, on, scale, divides, ..plain.clone() };
                    assert_eq!(part.to_string().parse(), Ok(part));
                }
            }
        }
        assert!("a*w y".parse::<Part>().unwrap_err().to_string().contains("expected INPUT*WEIGHT"));
        assert_eq!("b+".parse::<Part>(), Err(PartError::Empty));
    }

    #[test]
    fn rules_print_and_parse() {
        let rule = LinearRule {
            stabiliser: Stabiliser::Signed(1e-6),
            bias: BiasPolicy::All,
            fallback: Fallback::Flat,
            gamma: 0.25,
            bounds: Some(Bounds { low: vec![-1.5, -3.0], high: vec![1.0, 2.0] }),
            leak: Leak::Lost,
            ..LinearRule::new(
                "mixed",
                vec!["a*w -l*w+ -h*w-".parse().unwrap(), "a+*w+gw+ z>0 b+gb+".parse().unwrap()],
            )
        };
        let mut attrs = AttrMap::default();
        for (name, value) in rule.attrs() {
            attrs.insert(name.into(), value).unwrap();
        }
        assert_eq!(LinearRule::from_attrs("mixed", &mut attrs), Ok(rule));
        attrs.finish().unwrap();
    }

    #[test]
    fn leaks_and_relative_stabilisers_print_and_parse() {
        for (_, leak) in Leak::ALL {
            let stabiliser = Stabiliser::Relative(0.25);
            let rule = LinearRule { stabiliser, leak, ..LinearRule::new("e", vec!["a*w".parse().unwrap()]) };
            let mut attrs = AttrMap::default();
            rule.attrs().into_iter().for_each(|(name, value)| attrs.insert(name.into(), value).unwrap());
            assert_eq!(LinearRule::from_attrs("e", &mut attrs), Ok(rule));
        }
        let both = LinearRule {
            leak: Leak::Zplus,
            fallback: Fallback::Flat,
            ..LinearRule::new("e", vec!["a*w".parse().unwrap()])
        };
        assert!(both.check().unwrap_err().contains("expected one of them"));
    }
}
