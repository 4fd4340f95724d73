//! The lowerings: compiled code against the interpreter, to the bit, and against plain Rust on dense tensors.

mod elementwise;
mod harness;
mod pool;
mod quotient;

use harness::Dense;
use proptest::prelude::*;
use relc_program::layout::{Halo, Image};

/// Frames of up to two pixels, uneven.
fn halo() -> impl Strategy<Value = Halo> {
    [0usize..3, 0..3, 0..3, 0..3].prop_map(|[top, bottom, left, right]| Halo { top, bottom, left, right })
}

/// Channels, slices, rows and columns, small and odd.
fn shape() -> impl Strategy<Value = Image> {
    [1usize..36, 1..4, 1..8, 1..12]
}

fn vector() -> impl Strategy<Value = u32> {
    prop_oneof![Just(4u32), Just(8), Just(16)]
}

fn dense(shape: Image) -> impl Strategy<Value = Dense> {
    any::<u64>().prop_map(move |seed| Dense::random(shape, seed))
}
