//! Relevance as pictures: colour maps, heat maps, overlays, colour bars, contact sheets of maps `f32[H,W]`, charts of signals
//! and tables, slices of volumes, overlays of videos.
//!
//! A map `f32[H,W]` is scaled to `[-1, 1]` by its largest magnitude, or by a percentile of the magnitudes
//! ([`Style::clip`]; [`scale()`] says which value that is), so that zero always has exactly the colour map's middle colour. Colour maps for maps without
//! negative values ([`ColorMap::is_signed`] is false) start at zero and end at the largest value, or at a percentile;
//! they draw values below zero as zero.
#![forbid(unsafe_code)]

mod bar;
mod chart;
mod color;
mod frames;
mod numbers;
mod render;
mod slices;
mod stretch;

pub use bar::with_color_bar;
pub use chart::{BarChart, Drawing, SignalChart, register_fonts};
pub use color::ColorMap;
pub use frames::FrameOverlays;
pub use numbers::{fixed, percent, significant};
pub use slices::{centre, slices};

pub use render::{Scale, Style, contact_sheet, heat_map, limits, overlay, scale};

/// A picture that can't be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VizError {
    /// There is no colour map of that name.
    #[error("there is no colour map \"{name}\"; expected one of {known}")]
    UnknownColorMap {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The map holds an infinity or a NaN.
    #[error("the map is {value} at row {row}, column {column}; expected finite values")]
    NonFinite {
        /// The value.
        value: f32,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// A chart can't be drawn.
    #[error("can't draw the chart: {message}")]
    Drawing {
        /// Why not.
        message: String,
    },
    /// The map or picture has no pixel, or more than a picture can have.
    #[error("got a size of {width} x {height} pixels, expected 1 to 16384 each way")]
    Size {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
}
