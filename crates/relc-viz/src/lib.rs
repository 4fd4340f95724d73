//! Colour maps, heat maps and overlays.
