use std::sync::OnceLock;

use proptest::prelude::*;
use relc_codegen::interp::interpret;
use relc_codegen::jit::{Binding, compile};
use relc_codegen::kir::{Arg, Data, Kernel, KernelBuilder, Symbols};
use relc_codegen::tile::{PORTABLE, PORTABLE_PIXELS, PORTABLE_VECTOR, Part, Tile, compile_tiles, portable};

use crate::harness::{Dense, targets};

fn symbols() -> &'static [Symbols; 2] {
    static SYMBOLS: OnceLock<[Symbols; 2]> = OnceLock::new();
    SYMBOLS.get_or_init(|| targets().each_ref().map(|target| compile_tiles(portable(), target).unwrap()))
}

#[derive(Clone, Debug)]
struct Case {
    tile: Tile,
    taps: Vec<u32>,
    lanes: u64,
    stride: u64,
    accumulate: bool,
}

/// Two tasks of one tile each.
fn kernel(case: &Case) -> (Kernel, [usize; 3]) {
    let pixels = u64::from(case.tile.pixels);
    let reach =
        case.taps.iter().max().map_or(0, |&tap| u64::from(tap) + case.stride * (pixels - 1) + case.lanes);
    let vector = u64::from(case.tile.vector);
    let (pixel, weights) = (vector + 4, case.taps.len() as u64 * case.lanes * vector);
    let out = pixel * pixels;
    let lens = [2 * reach, weights, 2 * out].map(|len| len as usize);
    let mut k = KernelBuilder::new("conv");
    let (input, w, y) = (k.input("x", lens[0]), k.constant("w", lens[1]), k.inout("y", lens[2]));
    let taps = k.table("taps", case.taps.clone());
    let kernel = k.tasks([("t", 2)], |b, [t]| {
        let args = [
            ("input", input.at(t * reach as i64)),
            ("weights", w.at(0)),
            ("out", y.at(t * out as i64)),
            ("taps", Arg::Table(taps)),
            ("tap_count", Arg::Imm(case.taps.len() as u64)),
            ("lanes", Arg::Imm(case.lanes)),
            ("in_pixel_stride", Arg::Imm(case.stride)),
            ("out_pixel_stride", Arg::Imm(pixel)),
            ("out_block_stride", Arg::Imm(0)),
            ("accumulate", Arg::Imm(case.accumulate.into())),
        ];
        b.call(case.tile.name(PORTABLE), args);
    });
    (kernel, lens)
}

fn case() -> impl Strategy<Value = Case> {
    let part = prop_oneof![Just(Part::Raw), Just(Part::Positive), Just(Part::Negative)];
    let taps = proptest::collection::vec(0u32..50, 0..6);
    (1..=PORTABLE_PIXELS, part, taps, 1u64..=8, 1u64..20, any::<bool>()).prop_map(
        |(pixels, part, taps, lanes, stride, accumulate)| {
            let tile = Tile { vector: PORTABLE_VECTOR, pixels, blocks: 1, part };
            Case { tile, taps, lanes, stride, accumulate }
        },
    )
}

proptest! {
    /// Against the contract's own reference: to the bit with fused multiplication, to rounding without.
    #[test]
    fn portable_tiles_keep_the_contract(case in case(), seed in any::<u64>()) {
        let (kernel, lens) = kernel(&case);
        let random = |len: usize, salt| Dense::random([1, 1, len], seed ^ salt).data;
        let [x, w, y] = [(lens[0], 1), (lens[1], 2), (lens[2], 3)].map(|(len, salt)| random(len, salt));
        for (target, symbols) in targets().iter().zip(symbols()) {
            let mut expected = [x.clone(), w.clone(), y.clone()].map(Data::F32);
            interpret(&kernel, symbols, &mut expected, 0..2, true).unwrap();
            let mut got = y.clone();
            let compiled = compile(std::slice::from_ref(&kernel), symbols, target).unwrap();
            let mut buffers = [Binding::Read(&x), Binding::Read(&w), Binding::Write(&mut got)];
            compiled.get(0).unwrap().call(&mut buffers, 0..2).unwrap();
            let tolerance = if target.fuses() { 0.0 } else { 1e-2 };
            for (got, expected) in got.iter().zip(expected[2].f32s()) {
                prop_assert!((got - *expected).abs() <= tolerance, "{:?}: got {}, expected {}", target, got, expected);
            }
        }
    }
}

/// The verifier knows what a tile touches: one element less is refused.
#[test]
fn extents_are_exact() {
    let tile = Tile { vector: PORTABLE_VECTOR, pixels: 3, blocks: 1, part: Part::Raw };
    let case = Case { tile, taps: vec![4, 9], lanes: 8, stride: 8, accumulate: false };
    let (kernel, _) = kernel(&case);
    let symbols = &symbols()[0];
    relc_codegen::kir::verify(&kernel, symbols).unwrap();
    for buffer in 0..2 {
        let mut short = kernel.clone();
        short.buffers[buffer].len -= 1;
        let error = relc_codegen::kir::verify(&short, symbols).unwrap_err().to_string();
        assert!(error.contains("expected them within"), "{error}");
    }
    // A row of the output ends with a gap, which the last tile does not touch.
    let mut short = kernel;
    short.buffers[2].len -= 4;
    relc_codegen::kir::verify(&short, symbols).unwrap();
    short.buffers[2].len -= 1;
    relc_codegen::kir::verify(&short, symbols).unwrap_err();
}
