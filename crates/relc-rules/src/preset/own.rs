//! A rule of the user's own: a linear rule as its parts.

use std::fmt;

use relc_ir::rule::{BiasPart, InputPart, Part, WeightPart};
use relc_ir::spelling::did_you_mean;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::line::RawRule;
use crate::RULES;

/// What a line's `rule` says: a rule that comes with relc, or one of the user's own.
pub(super) struct Asked {
    pub rule: RawRule,
    pub own: Option<OwnRule>,
}

/// `{ name = "mine", parts = ["a+*w+ a-*w-"] }`: the parts are those of [`relc_ir::rule::LinearRule`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OwnRule {
    pub name: String,
    pub parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    parts: Vec<String>,
}

/// What the text of a graph calls other things than a linear rule.
const TAKEN: [&str; 3] = ["as_average", "gate", "derivative"];

impl OwnRule {
    fn new(raw: Raw) -> Result<OwnRule, String> {
        let Raw { name, parts } = raw;
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(format!("got the rule's name {name:?}, expected small letters, digits and _"));
        }
        if RULES.iter().any(|rule| rule.name == name) || TAKEN.contains(&name.as_str()) {
            return Err(format!(
                "got the rule's name \"{name}\", which is that of a rule of relc's; expected another name"
            ));
        }
        if parts.is_empty() {
            return Err("got no parts, expected one or more, such as \"a+*w+ a-*w-\"".into());
        }
        let parts = parts
            .iter()
            .map(|part| part.parse())
            .collect::<Result<Vec<Part>, _>>()
            .map_err(|e| e.to_string())?;
        if parts.len() > 1 && parts.iter().any(|part| !part.divides) {
            return Err("got several parts of which one is undivided, expected such a part alone".into());
        }
        Ok(OwnRule { name, parts })
    }

    /// Whether a part has gamma forms, of weights or biases.
    pub fn takes_gamma(&self) -> bool {
        let weights = [WeightPart::GammaPositive, WeightPart::GammaNegative];
        let biases = [BiasPart::GammaPositive, BiasPart::GammaNegative];
        let has = |part: &Part| {
            biases.contains(&part.bias) || part.terms.iter().any(|term| weights.contains(&term.weight))
        };
        self.parts.iter().any(has)
    }

    /// Whether relevance is divided by a denominator.
    pub fn divides(&self) -> bool {
        self.parts.iter().any(|part| part.divides)
    }

    /// Whether a part has the lowest or highest values of the input.
    pub fn takes_bounds(&self) -> bool {
        let forms = [InputPart::MinusLow, InputPart::MinusHigh];
        self.parts.iter().flat_map(|part| &part.terms).any(|term| forms.contains(&term.input))
    }
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Asked, D::Error> {
        deserializer.deserialize_any(AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule's name, or { name = \"mine\", parts = [\"a+*w+ a-*w-\"] }")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Asked, E> {
        let rule = RawRule::deserialize(StrDeserializer::<E>::new(name)).map_err(|error| {
            E::custom(format!("{error}{}", did_you_mean(name, RULES.iter().map(|rule| rule.name))))
        })?;
        Ok(Asked { rule, own: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Asked, A::Error> {
        let raw = Raw::deserialize(MapAccessDeserializer::new(map))?;
        let own = OwnRule::new(raw).map_err(A::Error::custom)?;
        Ok(Asked { rule: RawRule::Own, own: Some(own) })
    }
}
