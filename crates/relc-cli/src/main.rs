//! The command `relc`.
#![forbid(unsafe_code)]

fn main() {}
