//! The tile micro-kernel: its contract for every instruction set, and the portable one that Cranelift makes.
//!
//! A tile is `pixels` output pixels of a row by `blocks` blocks of `vector` output channels, all in registers:
//!
//! ```text
//! out[px * out_pixel_stride + ob * out_block_stride + v] (+)= sum over taps t, lanes l, in this order, of
//!     input[taps[t] + l + px * in_pixel_stride] * part(weights[((t * lanes + l) * blocks + ob) * vector + v])
//! ```
//!
//! `part` is the identity, `max(w, 0)` or `min(w, 0)`. With `accumulate != 0` the sum starts from what `out` holds.

use std::sync::Arc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::types::{F32, F32X4, I32, I64};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value};
use cranelift_frontend::{FunctionBuilder, Variable};

use crate::jit::{CompileError, Session, Target, fma, max, min, plain};
use crate::kir::{Access, CallArgs, Callee, Data, Elem, Field, FieldKind, Symbol, Symbols, field_offsets};

/// The fields of the struct of arguments, which lies in memory as
/// `#[repr(C)] { input: *const f32, weights: *const f32, out: *mut f32, taps: *const u32, tap_count: u32, .. }`.
pub const FIELDS: [Field; 10] = [
    Field { name: "input", kind: FieldKind::Pointer(Access::Read, Elem::F32) },
    Field { name: "weights", kind: FieldKind::Pointer(Access::Read, Elem::F32) },
    Field { name: "out", kind: FieldKind::Pointer(Access::Write, Elem::F32) },
    Field { name: "taps", kind: FieldKind::Table },
    Field { name: "tap_count", kind: FieldKind::U32 },
    Field { name: "lanes", kind: FieldKind::U32 },
    Field { name: "in_pixel_stride", kind: FieldKind::U32 },
    Field { name: "out_pixel_stride", kind: FieldKind::U32 },
    Field { name: "out_block_stride", kind: FieldKind::U32 },
    Field { name: "accumulate", kind: FieldKind::U32 },
];

/// The part of each weight that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `w`.
    Raw,
    /// `max(w, 0)`.
    Positive,
    /// `min(w, 0)`.
    Negative,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Raw, Part::Positive, Part::Negative];

    /// Its name in that of a tile.
    pub fn name(self) -> &'static str {
        match self {
            Part::Raw => "raw",
            Part::Positive => "pos",
            Part::Negative => "neg",
        }
    }

    fn of(self, weight: f32) -> f32 {
        match self {
            Part::Raw => weight,
            Part::Positive => weight.max(0.0),
            Part::Negative => weight.min(0.0),
        }
    }
}

/// A tile's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output channels of a block.
    pub vector: u32,
    /// Output pixels.
    pub pixels: u32,
    /// Blocks of output channels.
    pub blocks: u32,
    /// The part of the weights.
    pub part: Part,
}

impl Tile {
    /// `tile.<isa>.<pixels>x<blocks>.<part>`.
    pub fn name(self, isa: &str) -> String {
        format!("tile.{isa}.{}x{}.{}", self.pixels, self.blocks, self.part.name())
    }

    /// The contract of a tile of this shape for an instruction set, as [`Symbols`] takes it.
    pub fn callee(self, isa: &str) -> Arc<dyn Callee> {
        Arc::new(TileCallee { name: self.name(isa), tile: self })
    }
}

struct TileCallee {
    name: String,
    tile: Tile,
}

impl Callee for TileCallee {
    fn name(&self) -> &str {
        &self.name
    }

    fn fields(&self) -> &[Field] {
        &FIELDS
    }

    fn extents(&self, args: &CallArgs<'_>) -> Result<Vec<u64>, String> {
        let [vector, pixels, blocks] = [self.tile.vector, self.tile.pixels, self.tile.blocks].map(u64::from);
        let (count, lanes) = (args.imm("tap_count")?, args.imm("lanes")?);
        if lanes == 0 {
            return Err("got lanes=0, expected at least 1".to_owned());
        }
        let taps = args.table("taps")?;
        let used = usize::try_from(count).ok().and_then(|count| taps.get(..count));
        let used = used.ok_or_else(|| format!("got tap_count={count}, expected at most {}", taps.len()))?;
        let across = |stride: &str, count: u64| {
            Ok::<_, String>(args.imm(stride)?.saturating_mul(count.saturating_sub(1)))
        };
        let row = across("in_pixel_stride", pixels)?;
        let input =
            used.iter().max().map_or(0, |&tap| u64::from(tap).saturating_add(row).saturating_add(lanes));
        let weights =
            [lanes, blocks, vector].iter().fold(count, |product, &factor| product.saturating_mul(factor));
        // Of what several outputs share, the machine and the interpreter would keep different ones.
        let (by_pixel, by_block) = (args.imm("out_pixel_stride")?, args.imm("out_block_stride")?);
        let holds = |count: u64, stride: u64, within: u64| count == 1 || stride >= within;
        let row = across("out_pixel_stride", pixels)?.saturating_add(vector);
        let column = across("out_block_stride", blocks)?.saturating_add(vector);
        let apart = holds(blocks, by_block, vector) && holds(pixels, by_pixel, column)
            || holds(pixels, by_pixel, vector) && holds(blocks, by_block, row);
        if !apart {
            return Err(format!(
                "got out_pixel_stride={by_pixel}, out_block_stride={by_block}, expected a pixel's blocks, or a block's pixels, side by side without overlap"
            ));
        }
        let out = row.saturating_add(column).saturating_sub(vector);
        Ok(vec![input, weights, out, count, 0, 0, 0, 0, 0, 0])
    }

    fn interpret(&self, args: &CallArgs<'_>, operands: &mut [Data]) -> Result<(), String> {
        let imm = |name: &str| args.imm(name).map(|value| value as usize);
        let [vector, pixels, blocks] =
            [self.tile.vector, self.tile.pixels, self.tile.blocks].map(|size| size as usize);
        let [Data::F32(input), Data::F32(weights), Data::F32(out)] = operands else {
            return Err("got other operands than input, weights and out".to_owned());
        };
        let (lanes, stride) = (imm("lanes")?, imm("in_pixel_stride")?);
        let (out_pixel, out_block) = (imm("out_pixel_stride")?, imm("out_block_stride")?);
        let taps = &args.table("taps")?[..imm("tap_count")?];
        for (px, ob, v) in cube(pixels, blocks, vector) {
            let out = &mut out[px * out_pixel + ob * out_block + v];
            let mut sum = if imm("accumulate")? == 0 { 0.0 } else { *out };
            for (t, &tap) in taps.iter().enumerate() {
                for lane in 0..lanes {
                    let weight = self.tile.part.of(weights[((t * lanes + lane) * blocks + ob) * vector + v]);
                    sum = input[tap as usize + lane + px * stride].mul_add(weight, sum);
                }
            }
            *out = sum;
        }
        Ok(())
    }
}

fn cube(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

/// The instruction set's name in the names of the portable tiles.
pub const PORTABLE: &str = "portable";

/// Output channels of a block of the portable tiles.
pub const PORTABLE_VECTOR: u32 = 8;

/// The widest portable tile. Its sums, a block of weights, a broadcast and the copy of it that a multiplication
/// overwrites take 14 of 16 registers.
pub const PORTABLE_PIXELS: u32 = 5;

/// All portable tiles: 1 to [`PORTABLE_PIXELS`] pixels by one block, for each part.
pub fn portable() -> impl Iterator<Item = Tile> {
    let of = |pixels| Part::ALL.map(|part| Tile { vector: PORTABLE_VECTOR, pixels, blocks: 1, part });
    (1..=PORTABLE_PIXELS).flat_map(of)
}

/// Compiles tiles, whose vector is a multiple of 4, to f32x4 code, under the names that they have for [`PORTABLE`].
///
/// # Errors
/// If Cranelift fails.
pub fn compile_tiles(
    tiles: impl IntoIterator<Item = Tile>,
    target: &Target,
) -> Result<Symbols, CompileError> {
    let tiles: Vec<Tile> = tiles.into_iter().collect();
    let none = Symbols::new();
    // The order of the emitter needs the fewest registers; the optimiser would compute one sum after the other.
    let mut session = Session::in_order(&none, target);
    let compile = |tile: &Tile| {
        session.function(&tile.name(PORTABLE), 1, |fb, fuses| Emitter::new(fb, *tile, fuses).emit())
    };
    let ids = tiles.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
    let (code, memory) = session.finish(&ids)?;
    let mut symbols = Symbols::new();
    for (tile, code) in tiles.into_iter().zip(code) {
        let (callee, address) = (tile.callee(PORTABLE), Some(code as usize));
        symbols.insert(Symbol { callee, address, owner: Some(memory.clone()) });
    }
    Ok(symbols)
}

/// Lanes that one iteration covers: each ends with moving the sums back to the registers that it starts with.
const GROUP: i64 = 4;

/// Generates one tile function.
struct Emitter<'a, 'f> {
    fb: &'a mut FunctionBuilder<'f>,
    tile: Tile,
    fuses: bool,
    /// `[pixel][block][quarter]`: four of the sums each.
    sums: Vec<Variable>,
    zero: Value,
    /// The address of the arguments.
    args: Value,
}

impl<'a, 'f> Emitter<'a, 'f> {
    /// Opens the entry block.
    fn new(fb: &'a mut FunctionBuilder<'f>, tile: Tile, fuses: bool) -> Self {
        let count = tile.pixels * tile.blocks * (tile.vector / 4);
        let sums = (0..count).map(|_| fb.declare_var(F32X4)).collect();
        let entry = fb.create_block();
        fb.append_block_params_for_function_params(entry);
        fb.switch_to_block(entry);
        let zero = fb.ins().f32const(0.0);
        let zero = fb.ins().splat(F32X4, zero);
        let args = fb.block_params(entry)[0];
        Emitter { fb, tile, fuses, sums, zero, args }
    }

    /// `count * bytes`, both small.
    fn scaled(&mut self, count: Value, bytes: i64) -> Value {
        let bytes = self.fb.ins().iconst(I64, bytes);
        self.fb.ins().imul(count, bytes)
    }

    fn plus(&mut self, value: Value, addend: i64) -> Value {
        let addend = self.fb.ins().iconst(I64, addend);
        self.fb.ins().iadd(value, addend)
    }

    fn field(&mut self, name: &str) -> Value {
        let (offsets, _) = field_offsets(&FIELDS);
        let found = FIELDS.iter().zip(offsets).find(|(field, _)| field.name == name);
        let (kind, offset) = found.map_or((FieldKind::U64, 0), |(field, offset)| (field.kind, offset as i32));
        match kind {
            FieldKind::U32 => {
                let value = self.fb.ins().load(I32, plain(), self.args, offset);
                self.fb.ins().uextend(I64, value)
            }
            _ => self.fb.ins().load(I64, plain(), self.args, offset),
        }
    }

    /// Each sum's address: a pointer and an offset from it.
    fn outputs(&mut self) -> Vec<(Value, Offset32)> {
        let out = self.field("out");
        let (pixel, block) = (self.field("out_pixel_stride"), self.field("out_block_stride"));
        let mut addresses = Vec::new();
        for px in 0..self.tile.pixels {
            for ob in 0..self.tile.blocks {
                let (across, down) =
                    (self.scaled(pixel, i64::from(px) * 4), self.scaled(block, i64::from(ob) * 4));
                let pointer = self.fb.ins().iadd(out, across);
                let pointer = self.fb.ins().iadd(pointer, down);
                addresses.extend((0..self.tile.vector as i32 / 4).map(|q| (pointer, Offset32::new(q * 16))));
            }
        }
        addresses
    }

    /// The rest of the function.
    fn emit(mut self) {
        self.start();
        self.taps();
        for (k, (pointer, offset)) in self.outputs().into_iter().enumerate() {
            let sum = self.fb.use_var(self.sums[k]);
            self.fb.ins().store(plain(), sum, pointer, offset);
        }
        self.fb.ins().return_(&[]);
    }

    /// Starts the sums from zero or from what `out` holds.
    fn start(&mut self) {
        let [from_out, from_zero, ready] = [(); 3].map(|()| self.fb.create_block());
        let accumulate = self.field("accumulate");
        self.fb.ins().brif(accumulate, from_out, &[], from_zero, &[]);
        self.fb.switch_to_block(from_out);
        for (k, (pointer, offset)) in self.outputs().into_iter().enumerate() {
            let sum = self.fb.ins().load(F32X4, plain(), pointer, offset);
            self.fb.def_var(self.sums[k], sum);
        }
        self.fb.ins().jump(ready, &[]);
        self.fb.switch_to_block(from_zero);
        for &sum in &self.sums {
            self.fb.def_var(sum, self.zero);
        }
        self.fb.ins().jump(ready, &[]);
        self.fb.switch_to_block(ready);
    }

    /// The loop over taps, and in it one over groups of [`GROUP`] lanes and one over the lanes that are left.
    fn taps(&mut self) {
        let [input, weights, taps] = ["input", "weights", "taps"].map(|name| self.field(name));
        let [count, lanes] = ["tap_count", "lanes"].map(|name| self.field(name));
        let stride = self.field("in_pixel_stride");
        let pixels: Vec<Value> =
            (0..i64::from(self.tile.pixels)).map(|px| self.scaled(stride, px * 4)).collect();
        let group = self.fb.ins().iconst(I64, GROUP);
        let groups = self.fb.ins().udiv(lanes, group);
        let rest = self.fb.ins().urem(lanes, group);
        let [head, body, done] = [(); 3].map(|()| self.fb.create_block());
        let [tap, tap_weights] = [(); 2].map(|()| self.fb.append_block_param(head, I64));

        let bytes = self.scaled(count, 4);
        let taps_end = self.fb.ins().iadd(taps, bytes);
        self.fb.ins().jump(head, &[taps.into(), weights.into()]);
        self.fb.switch_to_block(head);
        let more = self.fb.ins().icmp(IntCC::NotEqual, tap, taps_end);
        self.fb.ins().brif(more, body, &[], done, &[]);

        self.fb.switch_to_block(body);
        let offset = self.fb.ins().load(I32, plain(), tap, 0);
        let offset = self.fb.ins().uextend(I64, offset);
        let offset = self.scaled(offset, 4);
        let start = self.fb.ins().iadd(input, offset);
        let ends = self.lanes(groups, GROUP, [start, tap_weights], &pixels);
        let [_, weights_end] = self.lanes(rest, 1, ends, &pixels);
        let next = self.plus(tap, 4);
        self.fb.ins().jump(head, &[next.into(), weights_end.into()]);
        self.fb.switch_to_block(done);
    }

    /// A loop over `trips` groups of lanes from the given input and weights on; the pointers behind them.
    fn lanes(&mut self, trips: Value, group: i64, start: [Value; 2], pixels: &[Value]) -> [Value; 2] {
        let [body, exit] = [(); 2].map(|()| self.fb.create_block());
        let [left, input, weights] = [(); 3].map(|()| self.fb.append_block_param(body, I64));
        let ends = [(); 2].map(|()| self.fb.append_block_param(exit, I64));
        let start = start.map(BlockArg::from);
        let [first_input, first_weights] = start;
        self.fb.ins().brif(trips, body, &[trips.into(), first_input, first_weights], exit, &start);
        self.fb.switch_to_block(body);
        let vectors = i64::from(self.tile.blocks * self.tile.vector) * 4;
        for lane in 0..group {
            self.lane([input, weights], [lane * 4, lane * vectors].map(|bytes| bytes as i32), pixels);
        }
        let left = self.plus(left, -1);
        let next = [self.plus(input, group * 4), self.plus(weights, group * vectors)].map(BlockArg::from);
        let [next_input, next_weights] = next;
        self.fb.ins().brif(left, body, &[left.into(), next_input, next_weights], exit, &next);
        self.fb.switch_to_block(exit);
        ends
    }

    /// One input channel: a broadcast per pixel times the block's weights.
    fn lane(&mut self, [input, weights]: [Value; 2], [shift, weight_shift]: [i32; 2], pixels: &[Value]) {
        let quarters = (self.tile.blocks * self.tile.vector / 4) as usize;
        let vectors: Vec<Value> = (0..quarters as i32)
            .map(|q| {
                let weight = self.fb.ins().load(F32X4, plain(), weights, weight_shift + q * 16);
                match self.tile.part {
                    Part::Raw => weight,
                    Part::Positive => max(self.fb, weight, self.zero),
                    Part::Negative => min(self.fb, weight, self.zero),
                }
            })
            .collect();
        for (px, offset) in pixels.iter().enumerate() {
            let pointer = if px == 0 { input } else { self.fb.ins().iadd(input, *offset) };
            let value = self.fb.ins().load(F32, plain(), pointer, shift);
            let value = self.fb.ins().splat(F32X4, value);
            for (q, vector) in vectors.iter().enumerate() {
                let variable = self.sums[px * quarters + q];
                let sum = self.fb.use_var(variable);
                let sum = fma(self.fb, self.fuses, [value, *vector, sum]);
                self.fb.def_var(variable, sum);
            }
        }
    }
}
