//! The colours of maps.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use relc_viz::ColorMap;
use schemars::JsonSchema;
use serde::Serialize;

/// A colour map as scripts read it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Colours {
    /// Its name.
    pub name: String,
    /// Whether its middle stands for zero; else its beginning does.
    pub signed: bool,
    /// Its colours from the beginning to the end: bytes of red, green and blue, in base64.
    pub colours: String,
}

impl Colours {
    /// Those of a colour map.
    pub fn of(map: ColorMap) -> Colours {
        let bytes: Vec<u8> = map.table().into_iter().flat_map(|colour| colour.0).collect();
        Colours { name: map.to_string(), signed: map.is_signed(), colours: BASE64_STANDARD.encode(bytes) }
    }

    /// For maps of both signs: symmetric about zero, even in lightness, and told apart by the colour-blind.
    pub fn signed() -> Colours {
        Colours::of(ColorMap::BlueRed)
    }

    /// For what is above zero.
    pub fn positive() -> Colours {
        Colours::of(ColorMap::Inferno)
    }
}
