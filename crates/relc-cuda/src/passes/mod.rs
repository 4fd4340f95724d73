//! Passes of the back end, behind the portable ones.

mod choose_tiles;
mod dense_layouts;
mod split_tallies;

pub use choose_tiles::ChooseTiles;
pub use dense_layouts::DenseLayouts;
pub use split_tallies::SplitTallies;
