//! The text form of programs.

mod ops;
mod parse;
mod print;

pub use parse::parse;

/// A text has at most so many values of constants written out: it would ask for the memory of as many.
const MOST: usize = 1 << 24;
