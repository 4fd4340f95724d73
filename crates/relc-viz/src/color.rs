//! Colour maps.

use std::fmt;
use std::str::FromStr;

use colorgrad::{BlendMode, Color, Gradient, GradientBuilder, LinearGradient, preset};
use image::Rgb;

use crate::VizError;

/// A colour map by its usual name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMap {
    /// Dark blue, blue, white, red, dark red: the usual one for signed relevance.
    Seismic,
    /// Blue, white, red.
    Bwr,
    /// Cool to warm through grey.
    Coolwarm,
    /// Black, red, yellow, white.
    Hot,
    /// matplotlib's inferno.
    Inferno,
    /// matplotlib's magma.
    Magma,
    /// matplotlib's viridis.
    Viridis,
    /// Google's turbo.
    Turbo,
}

impl ColorMap {
    /// Every colour map with its name.
    pub const ALL: [(&'static str, ColorMap); 8] = [
        ("seismic", ColorMap::Seismic),
        ("bwr", ColorMap::Bwr),
        ("coolwarm", ColorMap::Coolwarm),
        ("hot", ColorMap::Hot),
        ("inferno", ColorMap::Inferno),
        ("magma", ColorMap::Magma),
        ("viridis", ColorMap::Viridis),
        ("turbo", ColorMap::Turbo),
    ];

    /// Whether its middle stands for zero; else its beginning does.
    pub fn is_signed(self) -> bool {
        matches!(self, ColorMap::Seismic | ColorMap::Bwr | ColorMap::Coolwarm)
    }

    /// The colours from the map's beginning to its end: an odd number of them, so that one is exactly the middle.
    pub(crate) fn table(self) -> Vec<Rgb<u8>> {
        let stops = |colors: &[[u8; 3]]| {
            let colors: Vec<Color> =
                colors.iter().map(|[r, g, b]| Color::from_rgba8(*r, *g, *b, 255)).collect();
            let mut builder = GradientBuilder::new();
            let builder = builder.colors(&colors).mode(BlendMode::Rgb);
            builder
                .build::<LinearGradient>()
                .map(|g| sample(&g))
                .unwrap_or_else(|_| vec![Rgb([0; 3]); COLORS])
        };
        match self {
            ColorMap::Seismic => stops(&[[0, 0, 77], [0, 0, 255], [255, 255, 255], [255, 0, 0], [128, 0, 0]]),
            ColorMap::Bwr => stops(&[[0, 0, 255], [255, 255, 255], [255, 0, 0]]),
            ColorMap::Coolwarm => stops(&[[59, 76, 192], [221, 221, 221], [180, 4, 38]]),
            ColorMap::Hot => stops(&[[11, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]]),
            ColorMap::Inferno => sample(&preset::inferno()),
            ColorMap::Magma => sample(&preset::magma()),
            ColorMap::Viridis => sample(&preset::viridis()),
            ColorMap::Turbo => sample(&preset::turbo()),
        }
    }
}

/// How many colours [`ColorMap::table`] has.
const COLORS: usize = 257;

fn sample(gradient: &dyn Gradient) -> Vec<Rgb<u8>> {
    let color = |i: usize| {
        let [r, g, b, _] = gradient.at(i as f32 / (COLORS - 1) as f32).to_rgba8();
        Rgb([r, g, b])
    };
    (0..COLORS).map(color).collect()
}

impl fmt::Display for ColorMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, c)| c == self).map_or("?", |(name, _)| name))
    }
}

impl FromStr for ColorMap {
    type Err = VizError;

    fn from_str(name: &str) -> Result<Self, VizError> {
        if let Some((_, map)) = Self::ALL.iter().find(|(n, _)| *n == name) {
            return Ok(*map);
        }
        let known = Self::ALL.map(|(n, _)| n).join(", ");
        Err(VizError::UnknownColorMap { name: name.into(), known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lightness(c: &Rgb<u8>) -> f64 {
        0.2126 * f64::from(c[0]) + 0.7152 * f64::from(c[1]) + 0.0722 * f64::from(c[2])
    }

    #[test]
    fn names_parse_and_wrong_ones_are_told_which_there_are() {
        for (name, map) in ColorMap::ALL {
            assert_eq!(name.parse::<ColorMap>(), Ok(map));
            assert_eq!(map.to_string(), name);
        }
        let error = "sesmic".parse::<ColorMap>().unwrap_err().to_string();
        assert!(error.contains("expected one of seismic, bwr"), "{error}");
    }

    #[test]
    fn signed_maps_are_light_in_the_middle_and_others_grow_lighter() {
        for (name, map) in ColorMap::ALL {
            let table = map.table();
            if map.is_signed() {
                assert!(lightness(&table[128]) > lightness(&table[0]), "{name}");
                assert!(lightness(&table[128]) > lightness(&table[256]), "{name}");
            } else if map != ColorMap::Turbo {
                assert!(table.windows(2).all(|w| lightness(&w[1]) >= lightness(&w[0]) - 1.5), "{name}");
            }
        }
        assert_eq!(ColorMap::Bwr.table()[0], Rgb([0, 0, 255]));
        assert_eq!(ColorMap::Bwr.table()[256], Rgb([255, 0, 0]));
    }
}
