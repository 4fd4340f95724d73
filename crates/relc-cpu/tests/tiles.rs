//! Every kernel of every instruction set that this machine has, against the plain reference, between guard
//! zones.

use relc_cpu::Isa;
use relc_cpu::tile::{Kernel, Kind, Part, Shape, TileCall, TileError, kernels};

#[path = "support/guard.rs"]
mod guard;
use guard::guard;

/// NaN around inputs shows reads, this value around outputs writes.
const CANARY: f32 = 12345.0;

/// A slice in the middle of guards.
struct Guarded {
    memory: Vec<f32>,
    /// What lies before and after it.
    around: f32,
}

impl Guarded {
    fn new(len: usize, around: f32, mut value: impl FnMut(usize) -> f32) -> Guarded {
        let mut memory = vec![around; len + 2 * guard()];
        memory[guard()..guard() + len].iter_mut().enumerate().for_each(|(i, element)| *element = value(i));
        Guarded { memory, around }
    }

    fn get(&mut self) -> &mut [f32] {
        let len = self.memory.len();
        &mut self.memory[guard()..len - guard()]
    }

    fn is_intact(&self) -> bool {
        let (before, rest) = self.memory.split_at(guard());
        let after = &rest[rest.len() - guard()..];
        before.iter().chain(after).all(|value| value.to_bits() == self.around.to_bits())
    }
}

/// Values of both signs without a pattern that kernels share.
fn value(i: usize) -> f32 {
    (i * 2654435761 % 4093) as f32 / 2048.0 - 1.0
}

/// Strides, taps and lanes of a call.
struct Case {
    in_stride: u32,
    lanes: u32,
    taps: Vec<u32>,
    gap: usize,
    accumulate: bool,
}

#[track_caller]
fn check(shape: Shape, part: Part, case: &Case) {
    let width = shape.isa.width();
    let lanes = if shape.kind == Kind::Tile { case.lanes } else { width as u32 };
    let vector = if shape.kind == Kind::Dot { 1 } else { width };
    let out_pixel = if shape.kind == Kind::Dot { shape.blocks + case.gap } else { width * (1 + case.gap) };
    let (in_row, out_row) = (shape.pixels * case.in_stride as usize + 5, shape.pixels * out_pixel + 2);
    let out_block = if shape.kind == Kind::Dot { 1 } else { shape.rows * out_row + 3 };
    let max_tap = case.taps.iter().copied().max().unwrap_or(0) as usize;
    let last_row = shape.rows - 1;
    let input_len =
        max_tap + last_row * in_row + (shape.pixels - 1) * case.in_stride as usize + lanes as usize;
    let out_len =
        last_row * out_row + (shape.pixels - 1) * out_pixel + (shape.blocks - 1) * out_block + vector;
    let weights_len = case.taps.len() * shape.tap_weights(lanes) as usize;

    let mut input = Guarded::new(input_len, f32::NAN, value);
    let mut weights = Guarded::new(weights_len, f32::NAN, |i| value(i + 7));
    let mut out = Guarded::new(out_len, CANARY, |i| value(i + 3));
    let mut expected = out.get().to_vec();
    let call = TileCall {
        shape,
        part,
        taps: &case.taps,
        lanes,
        input: input.get(),
        in_pixel_stride: case.in_stride,
        weights: weights.get(),
        out_pixel_stride: out_pixel as u32,
        in_row_stride: in_row as u32,
        out_row_stride: out_row as u32,
        out_block_stride: out_block as u32,
        accumulate: case.accumulate,
    };
    call.run(out.get()).unwrap();
    call.run_reference(&mut expected);
    assert!(out.is_intact(), "{}: wrote outside", shape.symbol(part));
    // Sums of n products of at most 1, in f32: well below n eps; elements between the vectors are untouched.
    let tolerance = 1e-6 * (case.taps.len() * lanes as usize + 1) as f32;
    for (i, (got, expected)) in out.get().iter().zip(&expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance,
            "{} at {i}: got {got}, expected {expected}",
            shape.symbol(part)
        );
    }
    // One element less is refused.
    let shorter = TileCall { input: &call.input[..input_len.saturating_sub(1)], ..call };
    if !case.taps.is_empty() {
        assert!(matches!(shorter.run(out.get()), Err(TileError::TooShort { what: "input", .. })));
    }
    let less = &mut out.get()[..out_len - 1];
    assert!(matches!(call.run(less), Err(TileError::TooShort { what: "out", .. })));
}

#[test]
fn every_kernel_computes_what_the_reference_does() {
    let cases = [
        Case { in_stride: 16, lanes: 16, taps: vec![0, 16, 32, 160, 7], gap: 0, accumulate: false },
        Case { in_stride: 3, lanes: 3, taps: vec![5, 0, 9], gap: 1, accumulate: true },
        Case { in_stride: 37, lanes: 1, taps: vec![2], gap: 2, accumulate: false },
        Case { in_stride: 8, lanes: 21, taps: vec![0, 40], gap: 0, accumulate: true },
        Case { in_stride: 1, lanes: 4, taps: vec![], gap: 0, accumulate: false },
        Case { in_stride: 1, lanes: 4, taps: vec![], gap: 1, accumulate: true },
    ];
    for isa in Isa::available() {
        for Kernel { shape, .. } in kernels(isa) {
            for part in Part::ALL {
                cases.iter().for_each(|case| check(*shape, part, case));
            }
        }
    }
}

#[test]
fn a_pixel_does_not_depend_on_the_tile_that_computes_it() {
    for isa in Isa::available() {
        let width = isa.width();
        let taps: Vec<u32> = (0..9).map(|tap| tap * 5).collect();
        let input: Vec<f32> = (0..2000).map(value).collect();
        for kind in [Kind::Tile, Kind::Depthwise, Kind::Dot] {
            let mut first: Option<Vec<f32>> = None;
            let shapes = kernels(isa).iter().map(|kernel| kernel.shape);
            for shape in shapes.filter(|shape| shape.kind == kind && shape.blocks == 1) {
                let weights: Vec<f32> = (0..9 * width * width).map(value).collect();
                let call = TileCall {
                    shape,
                    part: Part::Positive,
                    taps: &taps,
                    lanes: width as u32,
                    input: &input,
                    in_pixel_stride: width as u32,
                    weights: &weights,
                    out_pixel_stride: width as u32,
                    in_row_stride: 3 * width as u32,
                    out_row_stride: 14 * width as u32,
                    out_block_stride: 0,
                    accumulate: false,
                };
                let mut out = vec![0.0; 28 * width];
                call.run(&mut out).unwrap();
                let pixel = first.get_or_insert_with(|| out[..width].to_vec());
                assert_eq!(&out[..width], &pixel[..], "{}", shape.symbol(Part::Positive));
            }
        }
    }
}

#[test]
fn unknown_shapes_are_refused() {
    let shape = Shape { kind: Kind::Tile, isa: Isa::Portable, rows: 1, pixels: 99, blocks: 1 };
    let call = TileCall {
        shape,
        part: Part::Raw,
        taps: &[],
        lanes: 1,
        input: &[],
        in_pixel_stride: 1,
        weights: &[],
        out_pixel_stride: 8,
        in_row_stride: 0,
        out_row_stride: 0,
        out_block_stride: 8,
        accumulate: false,
    };
    let error = call.run(&mut []).unwrap_err();
    assert_eq!(error, TileError::NoKernel { symbol: "tile.portable.99x1.raw".to_owned() });
}
