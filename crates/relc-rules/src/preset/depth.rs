//! How deep a rule line reaches.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::Place;

/// Between which depths a rule line holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Depth {
    /// From how many to how many weighted layers come before: `[0, 3]`.
    Layers([usize; 2]),
    /// From which fraction of the network's depth on, and below which: `"0.6.."`, `"0.2..0.6"`.
    Fractions([f64; 2]),
}

impl Depth {
    pub fn holds(self, place: Place) -> bool {
        match self {
            Depth::Layers([from, to]) => (from..=to).contains(&place.depth),
            Depth::Fractions([from, to]) => {
                let fraction = place.depth as f64 / place.layers.max(1) as f64;
                from <= fraction && fraction < to
            }
        }
    }

    fn fractions(text: &str) -> Option<Depth> {
        let (from, to) = text.split_once("..")?;
        let number = |text: &str, open: f64| match text.trim() {
            "" => Some(open),
            text => text.parse().ok().filter(|v| (0.0..=1.0).contains(v)),
        };
        let [from, to] = [number(from, 0.0)?, number(to, f64::INFINITY)?];
        (from < to).then_some(Depth::Fractions([from, to]))
    }
}

/// As a preset's file has it.
impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Depth::Layers(layers) => write!(f, "{layers:?}"),
            Depth::Fractions([from, to]) if to.is_infinite() => write!(f, "\"{from}..\""),
            Depth::Fractions([from, to]) => write!(f, "\"{from}..{to}\""),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Layers([usize; 2]),
    Fractions(String),
}

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected =
            "expected [from, to] in weighted layers or \"0.6..\", \"0.2..0.6\" in fractions of the depth";
        match Raw::deserialize(deserializer).map_err(|_| D::Error::custom(format!("depth: {expected}")))? {
            Raw::Layers([from, to]) if from > to => {
                Err(D::Error::custom(format!("got depth = [{from}, {to}], {expected}")))
            }
            Raw::Layers(layers) => Ok(Depth::Layers(layers)),
            Raw::Fractions(text) => Depth::fractions(&text)
                .ok_or_else(|| D::Error::custom(format!("got depth = \"{text}\", {expected}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_count_weighted_layers() {
        let at = |depth| Place { depth, layers: 10, last: false };
        let upper = Depth::fractions("0.6..").unwrap();
        assert_eq!([5, 6, 10].map(|depth| upper.holds(at(depth))), [false, true, true]);
        let middle = Depth::fractions("0.2..0.6").unwrap();
        assert_eq!([1, 2, 6].map(|depth| middle.holds(at(depth))), [false, true, false]);
        assert!(Depth::fractions("..").unwrap().holds(at(0)));
        for wrong in ["0.6", "0.6..0.2", "-1..", "a..b", "0..2"] {
            assert_eq!(Depth::fractions(wrong), None, "{wrong}");
        }
    }
}
