//! Convolutions as products of matrices of bf16, by AMX's tiles.
//!
//! A core with AMX multiplies bf16 sixteen times as fast as f32 by vectors, and adds the products up in f32. An f32 is a sum of
//! three bf16, so that six products of these are one of f32, exact to about 2^-23, at 2.7 times the speed of vectors: known as
//! BF16x6 (Henry, Tang, Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations,
//! 2019). Each sum depends on its own terms alone, and those of one sign lose nothing to each other.
//!
//! Rows of pixels are split into planes of bf16 with two blocks of channels side by side, and with zeros between rows of
//! pixels, which serve the end of one and the start of the next: output pixels lie in one long row then, a kernel position is a
//! distance in it, and a tile takes sixteen pixels of it wherever rows end. What a stride leaves between the pixels that it
//! takes lies in rows of its own; a transposed convolution of stride s is s*s convolutions that meet in the output.
//!
//! A task splits rows of its input into memory that stays in the second cache, and multiplies them with the weights of some
//! output channels, a few steps at a time for all of its pixels. Weights are kept as f32, so that they take no more memory
//! than others and all parts of them are read from one copy: while tiles multiply, vectors split what is needed next.

mod cost;
mod kernel;
mod products;
mod run;
mod task;
mod weights;

use std::ops::Range;

use relc_program::conv::{Axis, ConvSpec, Direction};
use relc_program::layout::Blocked;

use self::kernel::{CHANNELS, Kernels, PLANES, ROW_BYTES, ROWS, TILE_BYTES};
use crate::conv::{ConvError, ConvPlan, Roles};
use crate::isa::Isa;
use crate::machine::{Level, Machine};

pub use weights::Bf16x6Weights;

/// Blocks of output channels of a tile.
const TILE_BLOCKS: usize = 2;
/// Steps whose weights are split at a time: those of two times as many stay in L2 beside the input.
const SLAB: usize = 16;
/// Eighths of L2 that a task may keep in use.
const L2_SHARE: usize = 6;
/// Bytes of the split input of a row from which on it is too long: it would stay in no cache.
const MOST_BYTES: usize = 16 << 20;
/// Samples that one task computes at most: with more of them, weights are no longer what takes the time.
const MOST_TOGETHER: usize = 8;
/// Tasks for each thread to aim at, so that they share them evenly.
const TASKS: usize = 2;
/// The largest stride: each residue of a larger one would be too few pixels to be worth splitting.
const MOST_STRIDE: usize = 4;

/// How one convolution is computed by products of tiles.
#[derive(Clone, Debug)]
pub struct Bf16x6Plan {
    spec: ConvSpec,
    roles: Roles,
    isa: Isa,
    kernels: Kernels,
    input: Blocked,
    output: Blocked,
    /// From an output of a phase to its neighbour, and to its neighbour's input: y, x.
    out_step: [usize; 2],
    in_step: [usize; 2],
    /// Which inputs of each `in_step` are read: y, x.
    residues: Vec<[usize; 2]>,
    phases: Vec<Phase>,
    /// Offsets of the steps' inputs, in bytes.
    steps: Vec<u32>,
    /// Parallel to `steps`.
    sources: Vec<Source>,
    rows: Rows,
    /// Outputs' rows, of the phase that has most.
    grid_rows: usize,
    /// Of the outputs' rows, in a task.
    chunk_rows: usize,
    /// Samples that share a reading of the weights: where these exceed L2 and a task has all rows.
    together: usize,
    /// Output blocks of each tile of channels.
    tiles: Vec<Range<usize>>,
    weights_len: usize,
}

/// Outputs at `origin + q * out_step`, a convolution of its own.
#[derive(Clone, Debug)]
struct Phase {
    origin: [usize; 2],
    rows: usize,
    columns: usize,
    /// Into the plan's steps.
    steps: Range<usize>,
}

/// What a step multiplies: [`CHANNELS`] channels from `channel` on at a kernel position (`ky * kW + kx`).
#[derive(Clone, Copy, Debug)]
struct Source {
    channel: usize,
    position: usize,
    /// Which residue its inputs are of, and which pixel is that of the first output.
    residue: usize,
    pixel: usize,
}

/// How the split input of a task lies: `[blocks / 2][plane][residue][pixel][CHANNELS]`.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Pixels of a row that may have something in them.
    real: usize,
    /// Those with the zeros between a row and the next.
    pitch: usize,
    /// Pixels before the first row, which its outputs' kernels reach.
    lead: usize,
    /// Rows that are read above the first output's, and below the last's.
    above: usize,
    below: usize,
    /// Rows from a sample to the next, where a task has all of them: with zeros that serve both.
    sample: usize,
    /// Pixels of a residue.
    pixels: usize,
}

/// How far a phase's taps reach along an axis: the least and the greatest input of output 0, in steps.
fn reach(axis: &Axis) -> [i64; 2] {
    let offsets = || axis.phases.iter().flat_map(|phase| &phase.taps).map(|tap| tap.offset);
    let step = axis.in_step as i64;
    let least = offsets().map(|offset| offset.div_euclid(step)).min().unwrap_or(0);
    let most = offsets().map(|offset| offset.div_euclid(step)).max().unwrap_or(0);
    [least.min(0), most.max(0)]
}

impl Bf16x6Plan {
    /// Whether there may be a plan: a convolution of one group over one slice, of strides of at most 4.
    pub fn supports(spec: &ConvSpec, isa: Isa) -> bool {
        Kernels::of(isa).is_some()
            && spec.groups == 1
            && spec.kernel[0] == 1
            && (spec.pads[0], spec.pads[3]) == (0, 0)
            && spec.stride.iter().all(|&stride| stride <= MOST_STRIDE)
    }

    /// The plan for a convolution in either direction; layouts as for [`ConvPlan`], none of them narrow, of one slice. None if
    /// [`Bf16x6Plan::supports`] says so, or a row is too long to be split.
    ///
    /// # Errors
    /// As of [`ConvPlan::forward`].
    pub fn new(
        spec: &ConvSpec,
        direction: Direction,
        machine: &Machine,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<Option<Bf16x6Plan>, ConvError> {
        // What a direct convolution requires of layouts and machine is what this does.
        ConvPlan::validate(spec, direction, machine, [input, output])?;
        let isa = machine.isa;
        let whole = |layout: &Blocked| layout.block() == isa.width() && layout.depth() == 1;
        let kernels = match Kernels::of(isa) {
            Some(kernels) if Bf16x6Plan::supports(spec, isa) && whole(input) && whole(output) => kernels,
            _ => return Ok(None),
        };
        let picture = match direction {
            Direction::Forward => input,
            Direction::Transposed => output,
        };
        let [_, vertical, horizontal] = spec.axes(direction, [1, picture.height(), picture.width()])?;
        let most = |axis: &Axis| axis.phases.iter().map(|phase| phase.count).max().unwrap_or(1);
        let (grid_rows, columns) = (most(&vertical), most(&horizontal));
        let [first, last] = reach(&horizontal);
        let (left, right) = (-first as usize, last as usize);
        // Columns that may have something in them, and as many zeros as the ends of two rows need.
        let real =
            |axis: &Axis, outputs, after| axis.input.div_ceil(axis.in_step).clamp(outputs, outputs + after);
        let zeros = |real: usize, before: usize, reached: usize| before.max(reached - real);
        let real_columns = real(&horizontal, columns, right);
        let [first, last] = reach(&vertical);
        let (above, below) = (-first as usize, last as usize);
        let real_rows = real(&vertical, grid_rows, below);
        let rows = Rows {
            real: real_columns,
            pitch: real_columns + zeros(real_columns, left, columns + right),
            lead: left,
            above,
            below,
            sample: real_rows + zeros(real_rows, above, grid_rows + below),
            pixels: 0,
        };
        let blocks = output.slice_blocks();
        let tiles = (0..blocks).step_by(TILE_BLOCKS).map(|first| first..(first + TILE_BLOCKS).min(blocks));
        let mut plan = Bf16x6Plan {
            spec: *spec,
            roles: Roles::new(spec, direction),
            isa,
            kernels,
            input: *input,
            output: *output,
            out_step: [vertical.out_step, horizontal.out_step],
            in_step: [vertical.in_step, horizontal.in_step],
            residues: Vec::new(),
            phases: Vec::new(),
            steps: Vec::new(),
            sources: Vec::new(),
            rows,
            grid_rows,
            chunk_rows: 1,
            together: 1,
            tiles: tiles.collect(),
            weights_len: 0,
        };
        plan.residues = plan.residues(&vertical, &horizontal);
        plan.add_phases(&vertical, &horizontal);
        plan.chunk_rows = plan.best_rows(machine);
        let streamed = machine.level_of(plan.weights_bytes()) > Level::L2;
        if streamed && plan.chunk_rows == plan.grid_rows {
            let fits = |samples: &usize| {
                plan.kept_bytes(plan.chunk_rows, *samples) <= machine.caches[1] / 8 * L2_SHARE
            };
            plan.together = (1..=MOST_TOGETHER).take_while(fits).last().unwrap_or(1);
        }
        plan.rows.pixels = plan.pixels(plan.chunk_rows, plan.together);
        // Now that it is known how many pixels a residue has.
        plan.steps = plan.sources.iter().map(|source| plan.offset(source)).collect();
        let Some(weights_len) = plan.panel_len(plan.sources.len(), 1).checked_mul(blocks) else {
            return Ok(None);
        };
        plan.weights_len = weights_len;
        let fits =
            plan.split_bytes(plan.chunk_rows, plan.together) <= MOST_BYTES && weights_len <= Blocked::MAX_LEN;
        Ok(fits.then_some(plan))
    }

    /// The residues that any tap meets.
    fn residues(&self, vertical: &Axis, horizontal: &Axis) -> Vec<[usize; 2]> {
        let of = |axis: &Axis| {
            let taps = axis.phases.iter().flat_map(|phase| &phase.taps);
            let mut all: Vec<usize> =
                taps.map(|tap| tap.offset.rem_euclid(axis.in_step as i64) as usize).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let columns = of(horizontal);
        of(vertical).into_iter().flat_map(|y| columns.iter().map(move |&x| [y, x])).collect()
    }

    /// Where the input of a step lies, in bytes.
    fn offset(&self, &Source { channel, residue, pixel, .. }: &Source) -> u32 {
        let plane = channel / CHANNELS * PLANES * self.residues.len();
        (((plane + residue) * self.rows.pixels + pixel) * ROW_BYTES) as u32
    }

    /// The products of the axes' phases, with what they sum in the order of sums: channels, then kernel positions.
    fn add_phases(&mut self, vertical: &Axis, horizontal: &Axis) {
        let place = |axis: &Axis, offset: i64| {
            let step = axis.in_step as i64;
            (offset.rem_euclid(step) as usize, offset.div_euclid(step))
        };
        for (rows, columns) in vertical
            .phases
            .iter()
            .flat_map(|rows| horizontal.phases.iter().map(move |columns| (rows, columns)))
        {
            let start = self.sources.len();
            for pair in 0..self.pairs() {
                for (row, column) in
                    rows.taps.iter().flat_map(|row| columns.taps.iter().map(move |column| (row, column)))
                {
                    let ((ry, y), (rx, x)) = (place(vertical, row.offset), place(horizontal, column.offset));
                    let residue = self.residues.iter().position(|&residue| residue == [ry, rx]).unwrap_or(0);
                    // Not negative: rows above the first and pixels before it are those that are reached.
                    let y = (y + self.rows.above as i64) as usize;
                    let x = (x + self.rows.lead as i64) as usize;
                    let pixel = y * self.rows.pitch + x;
                    let position = row.k * self.spec.kernel[2] + column.k;
                    self.sources.push(Source { channel: pair * CHANNELS, position, residue, pixel });
                }
            }
            self.phases.push(Phase {
                origin: [rows.origin, columns.origin],
                rows: rows.count,
                columns: columns.count,
                steps: start..self.sources.len(),
            });
        }
    }

    /// Pairs of input blocks.
    fn pairs(&self) -> usize {
        self.input.slice_blocks().div_ceil(2)
    }

    /// Pixels of a residue for so many rows of outputs, of so many samples: all that tiles reach.
    fn pixels(&self, rows: usize, samples: usize) -> usize {
        let Rows { pitch, lead, above, below, .. } = self.rows;
        let outputs = ((samples - 1) * self.rows.sample + rows) * pitch;
        lead + outputs.next_multiple_of(ROWS) + (above + below + 1) * pitch
    }

    /// Bytes of the split input for so many rows of outputs, of so many samples.
    fn split_bytes(&self, rows: usize, samples: usize) -> usize {
        self.pairs() * PLANES * self.residues.len() * self.pixels(rows, samples) * ROW_BYTES
    }

    /// Bytes that a task goes over for each of its tiles of channels: split input, sums and weights of some steps.
    fn kept_bytes(&self, rows: usize, samples: usize) -> usize {
        let tiles = self.phases.iter().map(|phase| self.pixel_tiles(phase, rows, samples)).max().unwrap_or(0);
        self.split_bytes(rows, samples) + TILE_BLOCKS * (tiles + 2 * SLAB * PLANES) * TILE_BYTES
    }

    fn weights_bytes(&self) -> usize {
        self.panel_len(self.sources.len(), self.output.slice_blocks()) * size_of::<f32>()
    }

    /// Elements of the packed weights of some steps for some blocks.
    fn panel_len(&self, steps: usize, blocks: usize) -> usize {
        steps * blocks * CHANNELS * self.isa.width()
    }

    /// Tiles of pixels of so many rows of a phase, of so many samples.
    fn pixel_tiles(&self, phase: &Phase, rows: usize, samples: usize) -> usize {
        match phase.rows.min(rows) {
            0 => 0,
            own => {
                let rows = (samples - 1) * self.rows.sample + own - 1;
                (rows * self.rows.pitch + phase.columns).div_ceil(ROWS)
            }
        }
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.weights_len
    }

    /// Whether samples had better share a reading of the weights.
    pub fn is_streamed(&self) -> bool {
        self.together > 1
    }

    fn chunks(&self) -> usize {
        self.grid_rows.div_ceil(self.chunk_rows)
    }

    /// How many tasks share the channels of a chunk. Each of them splits its input, and its first weights by themselves: as
    /// few as keep so many threads busy.
    fn groups(&self, threads: usize) -> usize {
        (TASKS * threads).div_ceil(self.chunks()).min(self.tiles.len())
    }
}
