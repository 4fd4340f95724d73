//! The instructions: f32 to three bf16, a part of the weights, and products of tiles.

use crate::isa::Isa;
use crate::tile::Part;

/// Rows of a tile: pixels of the input and of the sums, pairs of channels of the weights.
pub(super) const ROWS: usize = 16;
/// Bytes of a tile's row.
pub(super) const ROW_BYTES: usize = 64;
/// Bytes of a tile.
pub(super) const TILE_BYTES: usize = ROWS * ROW_BYTES;
/// Channels of a row of the input, which are summed over by one instruction.
pub(super) const CHANNELS: usize = ROW_BYTES / size_of::<u16>();
/// The bf16 that add up to an f32.
pub(super) const PLANES: usize = 3;
/// Elements of a row of weights: of two channels, for each output channel of a block.
pub(super) const WEIGHTS_ROW: usize = 32;
/// Bytes of a row of weights in all planes.
pub(super) const SPLIT_ROW: usize = PLANES * ROW_BYTES;
/// The products of planes that make up one of f32.
pub(super) const PRODUCTS: usize = 6;

/// A row of pixels to split, of two blocks of channels, which interleave.
#[derive(Clone, Copy, Debug)]
pub(super) struct SplitArgs {
    /// The vectors of the first block's pixels; null for zeros.
    pub first: *const f32,
    /// As `first`, of the second block; null where there is only one.
    pub second: *const f32,
    /// Elements from a pixel to the next.
    pub step: usize,
    /// How many there are.
    pub pixels: usize,
    /// How many are written: those beyond `pixels` are zeros.
    pub columns: usize,
    /// Where the first plane's row goes, [`ROW_BYTES`] for each pixel.
    pub out: *mut u8,
    /// Bytes from a plane to the next.
    pub plane: usize,
}

/// Products of some tiles of pixels with those of one or two blocks of output channels; and meanwhile, weights that are
/// multiplied later are split.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct MultiplyArgs {
    /// The input of the first pixel in the first plane, [`ROW_BYTES`] for each; steps count from here.
    pub input: *const u8,
    /// Bytes from a plane to the next.
    pub plane: usize,
    /// Bytes from `input`, for each step.
    pub steps: *const u32,
    /// How many steps.
    pub count: usize,
    /// Split weights: `[step][block][channels / 2][plane]` rows.
    pub weights: *const u8,
    /// The sums of the first pixel and block, `f32[pixels][16]`.
    pub out: *mut f32,
    /// Bytes from a block's sums to the next.
    pub block: usize,
    /// 0: the sums replace the output. Else they are added.
    pub accumulate: usize,
    /// What to split: [`WEIGHTS_ROW`] elements for a row of each plane. Moves on.
    pub from: *const f32,
    /// Where it ends.
    pub end: *const f32,
    /// Where its planes go. Moves on.
    pub to: *mut u8,
    /// Rows to split with each product of planes, as long as there are some.
    pub rows: usize,
}

/// Products of a fixed number of tiles. Calls follow [`Kernels::configure`] on the same thread.
///
/// # Safety
/// The machine has AMX with bf16, and the pointers are valid for what is read and written.
pub(super) type MultiplyFn = unsafe fn(&mut MultiplyArgs);

/// What a machine with AMX runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    /// `x = x1 + x2 + x3`: two bf16 rounded to the nearest of what is left, and the rest, which is one.
    pub split: unsafe fn(&SplitArgs),
    /// A part of weights as three bf16 each, of which each is what is left cut off after eight bits: together they are exact,
    /// and of one sign. For so many rows of [`WEIGHTS_ROW`].
    pub split_weights: unsafe fn(part: Part, from: *const f32, to: *mut u8, rows: usize),
    /// By part of the weights, one or two tiles of pixels, and one or two blocks.
    pub multiply: [[[MultiplyFn; 2]; 2]; 3],
    /// Three tiles of pixels by two blocks.
    pub multiply_3x2: [MultiplyFn; 3],
    /// Prepares a thread's tiles; [`Kernels::release`] gives them up.
    pub configure: unsafe fn(),
    /// See [`Kernels::configure`].
    pub release: unsafe fn(),
}

impl Kernels {
    /// Those of an instruction set; none if it has no tiles.
    pub fn of(isa: Isa) -> Option<Kernels> {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Amx {
            return Some(amx::KERNELS);
        }
        let _ = isa;
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::*;

    pub(super) const KERNELS: Kernels = Kernels {
        split,
        split_weights,
        multiply: [raw::MULTIPLY, positive::MULTIPLY, negative::MULTIPLY],
        multiply_3x2: [raw::multiply_3x2, positive::multiply_3x2, negative::multiply_3x2],
        configure,
        release,
    };

    /// The bits of an f32 that are a bf16.
    const UPPER: i32 = 0xffff << 16;

    /// A tile configuration: palette 1, and rows of [`ROW_BYTES`] for all eight tiles.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIGURATION: Configuration = {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            (row_bytes[tile], rows[tile]) = (ROW_BYTES as u16, ROWS as u8);
            tile += 1;
        }
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };

    unsafe fn configure() {
        // SAFETY: the configuration is a valid one; the caller vouches for AMX.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) }
    }

    unsafe fn release() {
        // SAFETY: the caller vouches for AMX.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }

    /// What is left of a vector when its upper halves, rounded, are taken; and those, as f32.
    #[target_feature(enable = "avx512f")]
    fn round(vector: __m512) -> (__m512i, __m512) {
        let bits = _mm512_add_epi32(_mm512_castps_si512(vector), _mm512_set1_epi32(0x8000));
        let upper = _mm512_and_si512(bits, _mm512_set1_epi32(UPPER));
        (upper, _mm512_sub_ps(vector, _mm512_castsi512_ps(upper)))
    }

    /// The upper halves of two vectors side by side, the first's below.
    #[target_feature(enable = "avx512f")]
    fn interleave(first: __m512i, second: __m512i) -> __m512i {
        _mm512_or_si512(_mm512_srli_epi32::<16>(first), _mm512_and_si512(second, _mm512_set1_epi32(UPPER)))
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn split(args: &SplitArgs) {
        let pixels = if args.first.is_null() { 0 } else { args.pixels };
        for pixel in 0..args.columns {
            let vector = |from: *const f32| match pixel < pixels && !from.is_null() {
                // SAFETY: the caller vouches for that many vectors.
                true => unsafe { _mm512_loadu_ps(from.add(pixel * args.step)) },
                false => _mm512_setzero_ps(),
            };
            let ((first, a), (second, b)) = (round(vector(args.first)), round(vector(args.second)));
            let ((third, a), (fourth, b)) = (round(a), round(b));
            let rows = [
                interleave(first, second),
                interleave(third, fourth),
                interleave(_mm512_castps_si512(a), _mm512_castps_si512(b)),
            ];
            for (plane, row) in rows.into_iter().enumerate() {
                // SAFETY: the caller vouches for rows of `columns` pixels in each plane.
                unsafe {
                    _mm512_storeu_si512(args.out.add(plane * args.plane + pixel * ROW_BYTES).cast(), row)
                };
            }
        }
    }

    /// Splits weights, as the kernels do while they multiply: `rows` of [`WEIGHTS_ROW`] elements.
    #[target_feature(enable = "avx512f")]
    unsafe fn split_weights(part: Part, from: *const f32, to: *mut u8, rows: usize) {
        let upper = _mm512_set1_epi32(UPPER);
        for row in 0..rows {
            // SAFETY: the caller vouches for so many rows in both.
            let (from, to) = unsafe { (from.add(row * WEIGHTS_ROW), to.add(row * SPLIT_ROW)) };
            // SAFETY: as above.
            let vectors = [0, WEIGHTS_ROW / 2].map(|at| unsafe { _mm512_loadu_ps(from.add(at)) });
            let mut rest = vectors.map(|vector| match part {
                Part::Raw => vector,
                Part::Positive => _mm512_max_ps(_mm512_setzero_ps(), vector),
                Part::Negative => _mm512_min_ps(_mm512_setzero_ps(), vector),
            });
            for plane in 0..PLANES {
                let bits = rest.map(|vector| _mm512_castps_si512(vector));
                let [first, second] = bits.map(|bits| _mm512_and_si512(bits, upper));
                // SAFETY: as above.
                unsafe { _mm512_storeu_si512(to.add(plane * ROW_BYTES).cast(), interleave(first, second)) };
                rest = [
                    _mm512_sub_ps(rest[0], _mm512_castsi512_ps(first)),
                    _mm512_sub_ps(rest[1], _mm512_castsi512_ps(second)),
                ];
            }
        }
    }

    /// The products that make up one of f32: of nine, `x2 w3`, `x3 w2` and `x3 w3` are left out, at most 2^-23 of it, and
    /// as often more as less, since those of the input are rounded to nearest. With each, some weights are split.
    macro_rules! products {
        ($input:ident, $weights:ident, $multiply:ident, $part:ident) => {
            concat!(
                $input!("x0"),
                $weights!("2"),
                $multiply!("x0", "2"),
                ahead!($part),
                $weights!("1"),
                $multiply!("x0", "1"),
                ahead!($part),
                $input!("x1"),
                $multiply!("x1", "1"),
                ahead!($part),
                $weights!("0"),
                $multiply!("x1", "0"),
                ahead!($part),
                $input!("x2"),
                $multiply!("x2", "0"),
                ahead!($part),
                $input!("x0"),
                $multiply!("x0", "0"),
                ahead!($part),
            )
        };
    }

    /// Splits some rows of weights: `zmm16` and `zmm17` are those of two channels, whose upper halves interleave to bf16.
    macro_rules! ahead {
        ($part:ident) => {
            concat!(
                "mov {n}, [{args} + {rows}]\n",
                "5:\n",
                "cmp {from}, [{args} + {end}]\n",
                "jae 6f\n",
                "prefetcht1 [{from} + 4096]\n",
                "prefetcht1 [{from} + 4160]\n",
                $part!("zmm16", "[{from}]"),
                $part!("zmm17", "[{from} + 64]"),
                interleave!("0"),
                rest!("zmm16"),
                rest!("zmm17"),
                interleave!("64"),
                rest!("zmm16"),
                rest!("zmm17"),
                interleave!("128"),
                "add {from}, 128\n",
                "add {to}, 192\n",
                "dec {n}\n",
                "jnz 5b\n",
                "6:\n",
            )
        };
    }

    /// Stores the upper halves of `zmm16` and `zmm17` side by side.
    macro_rules! interleave {
        ($plane:literal) => {
            concat!(
                "vpsrld zmm20, zmm16, 16\n",
                "vpternlogd zmm20, zmm17, zmm18, 0xf8\n",
                "vmovups [{to} + ",
                $plane,
                "], zmm20\n",
            )
        };
    }

    /// What is left of a vector without its upper halves.
    macro_rules! rest {
        ($vector:literal) => {
            concat!("vpandd zmm21, ", $vector, ", zmm18\n", "vsubps ", $vector, ", ", $vector, ", zmm21\n")
        };
    }

    /// Loads a tile of a plane of the input.
    macro_rules! input {
        ($tile:literal, $plane:literal, $pixels:literal) => {
            concat!("tileloadd ", $tile, ", [{", $plane, "} + {row}*1 + ", $pixels, "*1024]\n")
        };
    }

    /// Loads a tile of a plane of the weights, whose rows have those of the other planes between them.
    macro_rules! weights {
        ($tile:literal, $plane:literal, $block:literal) => {
            concat!("tileloadd ", $tile, ", [{w} + {w_row}*1 + ", $plane, "*64 + ", $block, "*3072]\n")
        };
    }

    macro_rules! multiply {
        ($sums:literal, $input:literal, $weights:literal) => {
            concat!("tdpbf16ps ", $sums, ", ", $input, ", ", $weights, "\n")
        };
    }

    /// For each tile of sums, its number and where it lies: block and pixels.
    macro_rules! each_sum {
        ($what:ident: $($sums:literal at $block:literal $pixels:literal),*) => {
            concat!($($what!($sums, $block, $pixels)),*)
        };
    }

    macro_rules! clear {
        ($sums:literal, $block:literal, $pixels:literal) => {
            concat!("tilezero ", $sums, "\n")
        };
    }

    macro_rules! load {
        ($sums:literal, $block:literal, $pixels:literal) => {
            concat!("tileloadd ", $sums, ", [{", $block, "} + {row}*1 + ", $pixels, "*1024]\n")
        };
    }

    macro_rules! store {
        ($sums:literal, $block:literal, $pixels:literal) => {
            concat!("tilestored [{", $block, "} + {row}*1 + ", $pixels, "*1024], ", $sums, "\n")
        };
    }

    /// A kernel of some tiles of pixels by some blocks, of a part of the weights; there is at least one step.
    macro_rules! kernel {
        ($name:ident, $blocks:literal, [$($sums:tt)*], $input:ident, $weights:ident, $multiply:ident, $part:ident) => {
            #[target_feature(enable = "avx512f")]
            pub(super) unsafe fn $name(args: &mut MultiplyArgs) {
                // SAFETY: the caller vouches for the machine, for configured tiles and for what is read and written; only
                // registers that are named are changed.
                unsafe {
                    asm!(
                        "vpternlogd zmm18, zmm18, zmm18, 0xff",
                        "vpslld zmm18, zmm18, 16",
                        "vpxord zmm19, zmm19, zmm19",
                        "mov {x0}, [{args} + {out}]",
                        "mov {x1}, {x0}",
                        "add {x1}, [{args} + {block}]",
                        "cmp qword ptr [{args} + {accumulate}], 0",
                        "je 3f",
                        each_sum!(load: $($sums)*),
                        "jmp 2f",
                        "3:",
                        each_sum!(clear: $($sums)*),
                        "2:",
                        "mov {x0:e}, dword ptr [{steps}]",
                        "add {x0}, [{args} + {input}]",
                        "mov {x2}, [{args} + {plane}]",
                        "lea {x1}, [{x0} + {x2}]",
                        "add {x2}, {x1}",
                        products!($input, $weights, $multiply, $part),
                        "add {steps}, 4",
                        concat!("add {w}, 3072*", $blocks),
                        "dec {count}",
                        "jnz 2b",
                        "mov {x0}, [{args} + {out}]",
                        "mov {x1}, {x0}",
                        "add {x1}, [{args} + {block}]",
                        each_sum!(store: $($sums)*),
                        args = in(reg) &raw const *args,
                        steps = inout(reg) args.steps => _,
                        count = inout(reg) args.count => _,
                        w = inout(reg) args.weights => _,
                        row = in(reg) ROW_BYTES,
                        w_row = in(reg) SPLIT_ROW,
                        from = inout(reg) args.from,
                        to = inout(reg) args.to,
                        x0 = out(reg) _, x1 = out(reg) _, x2 = out(reg) _, n = out(reg) _,
                        input = const offset_of!(MultiplyArgs, input),
                        plane = const offset_of!(MultiplyArgs, plane),
                        out = const offset_of!(MultiplyArgs, out),
                        block = const offset_of!(MultiplyArgs, block),
                        accumulate = const offset_of!(MultiplyArgs, accumulate),
                        end = const offset_of!(MultiplyArgs, end),
                        rows = const offset_of!(MultiplyArgs, rows),
                        out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack)
                    );
                }
            }
        };
    }

    // Two tiles of pixels (4 and 5) and of blocks (6 and 7) stay in registers for what they are multiplied with.
    macro_rules! input_1 {
        ($plane:literal) => {
            input!("tmm4", $plane, "0")
        };
    }
    macro_rules! input_2 {
        ($plane:literal) => {
            concat!(input!("tmm4", $plane, "0"), input!("tmm5", $plane, "1"))
        };
    }
    macro_rules! weights_1 {
        ($plane:literal) => {
            weights!("tmm6", $plane, "0")
        };
    }
    macro_rules! weights_2 {
        ($plane:literal) => {
            concat!(weights!("tmm6", $plane, "0"), weights!("tmm7", $plane, "1"))
        };
    }
    macro_rules! multiply_1x1 {
        ($x:literal, $w:literal) => {
            multiply!("tmm0", "tmm4", "tmm6")
        };
    }
    macro_rules! multiply_1x2 {
        ($x:literal, $w:literal) => {
            concat!(multiply!("tmm0", "tmm4", "tmm6"), multiply!("tmm1", "tmm4", "tmm7"))
        };
    }
    macro_rules! multiply_2x1 {
        ($x:literal, $w:literal) => {
            concat!(multiply!("tmm0", "tmm4", "tmm6"), multiply!("tmm1", "tmm5", "tmm6"))
        };
    }
    macro_rules! multiply_2x2 {
        ($x:literal, $w:literal) => {
            concat!(
                multiply!("tmm0", "tmm4", "tmm6"),
                multiply!("tmm1", "tmm4", "tmm7"),
                multiply!("tmm2", "tmm5", "tmm6"),
                multiply!("tmm3", "tmm5", "tmm7"),
            )
        };
    }

    // Six sums leave one register for pixels and one for a block, loaded as they are needed.
    macro_rules! nothing {
        ($plane:literal) => {
            ""
        };
    }
    macro_rules! multiply_3x2 {
        ($x:literal, $w:literal) => {
            concat!(
                weights!("tmm7", $w, "0"),
                input!("tmm6", $x, "0"),
                multiply!("tmm0", "tmm6", "tmm7"),
                input!("tmm6", $x, "1"),
                multiply!("tmm2", "tmm6", "tmm7"),
                input!("tmm6", $x, "2"),
                multiply!("tmm4", "tmm6", "tmm7"),
                weights!("tmm7", $w, "1"),
                multiply!("tmm5", "tmm6", "tmm7"),
                input!("tmm6", $x, "1"),
                multiply!("tmm3", "tmm6", "tmm7"),
                input!("tmm6", $x, "0"),
                multiply!("tmm1", "tmm6", "tmm7"),
            )
        };
    }

    // The parts of weights.
    macro_rules! load_raw {
        ($to:literal, $from:literal) => {
            concat!("vmovups ", $to, ", ", $from, "\n")
        };
    }
    macro_rules! load_positive {
        ($to:literal, $from:literal) => {
            concat!("vmaxps ", $to, ", zmm19, ", $from, "\n")
        };
    }
    macro_rules! load_negative {
        ($to:literal, $from:literal) => {
            concat!("vminps ", $to, ", zmm19, ", $from, "\n")
        };
    }

    macro_rules! kernels {
        ($part:ident, $load:ident) => {
            mod $part {
                use std::arch::asm;
                use std::mem::offset_of;

                use super::super::{MultiplyArgs, MultiplyFn, ROW_BYTES, SPLIT_ROW};

                pub(super) const MULTIPLY: [[MultiplyFn; 2]; 2] =
                    [[multiply_1x1, multiply_1x2], [multiply_2x1, multiply_2x2]];

                kernel!(multiply_1x1, "1", ["tmm0" at "x0" "0"], input_1, weights_1, multiply_1x1, $load);
                kernel!(multiply_1x2, "2", [
                    "tmm0" at "x0" "0", "tmm1" at "x1" "0"
                ], input_1, weights_2, multiply_1x2, $load);
                kernel!(multiply_2x1, "1", [
                    "tmm0" at "x0" "0", "tmm1" at "x0" "1"
                ], input_2, weights_1, multiply_2x1, $load);
                kernel!(multiply_2x2, "2", [
                    "tmm0" at "x0" "0", "tmm1" at "x1" "0", "tmm2" at "x0" "1", "tmm3" at "x1" "1"
                ], input_2, weights_2, multiply_2x2, $load);
                kernel!(multiply_3x2, "2", [
                    "tmm0" at "x0" "0", "tmm1" at "x1" "0", "tmm2" at "x0" "1", "tmm3" at "x1" "1",
                    "tmm4" at "x0" "2", "tmm5" at "x1" "2"
                ], nothing, nothing, multiply_3x2, $load);
            }
        };
    }

    kernels!(raw, load_raw);
    kernels!(positive, load_positive);
    kernels!(negative, load_negative);
}
