//! The text form of programs.

mod ops;
mod parse;
mod print;

pub use parse::parse;

/// Constants of more values are never written out: a text would ask for the memory of as many.
const MOST: usize = 1 << 24;
