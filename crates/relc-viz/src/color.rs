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
    /// Dark blue, white, dark red: equal steps are equally far apart to the eye (in OKLab), and as light on either side. Who
    /// tells no red from green tells these.
    BlueRed,
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
    pub const ALL: [(&'static str, ColorMap); 9] = [
        ("seismic", ColorMap::Seismic),
        ("bwr", ColorMap::Bwr),
        ("coolwarm", ColorMap::Coolwarm),
        ("bluered", ColorMap::BlueRed),
        ("hot", ColorMap::Hot),
        ("inferno", ColorMap::Inferno),
        ("magma", ColorMap::Magma),
        ("viridis", ColorMap::Viridis),
        ("turbo", ColorMap::Turbo),
    ];

    /// Whether its middle stands for zero; else its beginning does.
    pub fn is_signed(self) -> bool {
        matches!(self, ColorMap::Seismic | ColorMap::Bwr | ColorMap::Coolwarm | ColorMap::BlueRed)
    }

    /// The colours from the map's beginning to its end: an odd number of them, so that one is exactly the middle.
    pub fn table(self) -> Vec<Rgb<u8>> {
        let blended = |colors: &[Color], mode: BlendMode| {
            let mut builder = GradientBuilder::new();
            let builder = builder.colors(colors).mode(mode);
            builder
                .build::<LinearGradient>()
                .map(|g| sample(&g))
                .unwrap_or_else(|_| vec![Rgb([0; 3]); COLORS])
        };
        let stops = |colors: &[[u8; 3]]| {
            let colors: Vec<Color> =
                colors.iter().map(|[r, g, b]| Color::from_rgba8(*r, *g, *b, 255)).collect();
            blended(&colors, BlendMode::Rgb)
        };
        match self {
            ColorMap::Seismic => stops(&[[0, 0, 77], [0, 0, 255], [255, 255, 255], [255, 0, 0], [128, 0, 0]]),
            ColorMap::Bwr => stops(&[[0, 0, 255], [255, 255, 255], [255, 0, 0]]),
            ColorMap::Coolwarm => stops(&[[59, 76, 192], [221, 221, 221], [180, 4, 38]]),
            ColorMap::BlueRed => {
                // Blue and red of one lightness and one chroma.
                let [a, b] = [250.0f32, 27.0].map(|degrees| degrees.to_radians().sin_cos());
                let end = |(sin, cos): (f32, f32)| Color::from_oklaba(0.38, 0.12 * cos, 0.12 * sin, 1.0);
                blended(&[end(a), Color::from_oklaba(0.98, 0.0, 0.0, 1.0), end(b)], BlendMode::Oklab)
            }
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
        // Even, and as light on either side.
        let light = |i: usize| {
            let [r, g, b] = ColorMap::BlueRed.table()[i].0;
            Color::from_rgba8(r, g, b, 255).to_oklaba()[0]
        };
        for i in 0..=128 {
            let expected = 0.38 + 0.6 * i as f32 / 128.0;
            assert!((light(i) - expected).abs() < 0.01, "{i}: {} {expected}", light(i));
            assert!((light(256 - i) - expected).abs() < 0.01, "{i}: {} {expected}", light(256 - i));
        }
        assert_eq!(ColorMap::Bwr.table()[0], Rgb([0, 0, 255]));
        assert_eq!(ColorMap::Bwr.table()[256], Rgb([255, 0, 0]));
    }
}
