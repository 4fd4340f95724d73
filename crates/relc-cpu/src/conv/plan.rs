//! Plans: tiles, taps and tasks of a convolution.

use std::ops::Range;

use super::build::Builder;
use super::channels::{Channels, Roles};
use super::{ConvError, Slices};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::tile::{Kernel, Kind, TileArgs};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::Blocked;

/// How one convolution is computed on one machine: tiles, taps, and the order of packed weights.
///
/// Results do not depend on how tasks are shared among threads: each output element is summed by one kernel
/// call, over taps and lanes in an order that the plan fixes.
#[derive(Clone, Debug)]
pub struct ConvPlan {
    pub(super) spec: ConvSpec,
    pub(super) roles: Roles,
    pub(super) isa: Isa,
    /// As the kernels see them: perhaps with several rows taken as one.
    pub(super) input: Blocked,
    pub(super) output: Blocked,
    /// The output as the caller sees it.
    pub(super) image: Blocked,
    /// Rows of the image that are one row of `output`.
    pub(super) widening: usize,
    pub(super) channels: Channels,
    pub(super) slices: Slices,
    /// Of a slice.
    pub(super) phases: Vec<Phase>,
    /// For each tile, for each variant of slices, for each phase.
    pub(super) panels: Vec<Vec<Panel>>,
    pub(super) taps: Vec<u32>,
    /// Parallel to `taps`.
    pub(super) sources: Vec<TapSource>,
    /// Input channels of one kernel position in a tap; a tap's lanes are a multiple.
    pub(super) position_lanes: usize,
    /// Lanes of a tap.
    pub(super) lanes: usize,
    pub(super) weights_len: usize,
    /// Whether tasks go tile by tile over all of the image, rather than row by row over all tiles.
    pub(super) streamed: bool,
    /// Rows (of each phase) of a task.
    pub(super) task_rows: usize,
    /// Rows of the phase that has most.
    pub(super) rows: usize,
}

/// Outputs at `origin + q * step`, a convolution of its own.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// y, x.
    pub origin: [usize; 2],
    pub rows: usize,
    pub columns: usize,
    /// Kernel positions with the offset of their input, in rows and columns.
    pub positions: Vec<Position>,
    /// Whether it is the last of those that write its rows.
    pub ends_row: bool,
}

/// A kernel position of a phase, or `merged` of them side by side, whose inputs are adjacent in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub ky: usize,
    pub kx: usize,
    pub y: i64,
    pub x: i64,
}

/// What a tap's lanes are: channels from `channel` on at `position` (`(kz * kH + ky) * kW + kx`), then those of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TapSource {
    pub channel: usize,
    pub position: usize,
}

/// A tile of channels in a phase.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// Into the plan's taps.
    pub taps: Range<usize>,
    /// Where its packed weights start.
    pub weights: usize,
    /// Whether they are a part of those of another panel.
    pub shares: bool,
    /// Of a row.
    pub segments: Vec<KernelSegment>,
    /// Of two rows at once; none where a row fills a kernel.
    pub pairs: Vec<KernelSegment>,
}

/// Some pixels of each row, and the kernel that computes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelSegment {
    pub first: usize,
    pub kernel: &'static Kernel,
}

impl ConvPlan {
    /// The plan of `z = conv(a, w)` from a layout of `f32[C,D,H,W]` to one of `f32[M,OD,OH,OW]`.
    ///
    /// Blocks are of V channels; an input of one block may be narrow, with a block of exactly C channels.
    ///
    /// # Errors
    /// If the spec or a layout does not fit, or the input's halo is smaller than [`ConvSpec::forward_halo`].
    pub fn forward(
        spec: &ConvSpec,
        machine: &Machine,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<ConvPlan, ConvError> {
        ConvPlan::new(spec, Direction::Forward, machine, input, output)
    }

    /// The plan of the transposition `c = convT(s, w)` from a layout of `f32[M,OD,OH,OW]` to one of
    /// `f32[C,D,H,W]`.
    ///
    /// Blocks are of V channels; an output of at most 4 channels and one group may be narrow.
    ///
    /// # Errors
    /// As of [`ConvPlan::forward`], with [`ConvSpec::transposed_halo`].
    pub fn transposed(
        spec: &ConvSpec,
        machine: &Machine,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<ConvPlan, ConvError> {
        ConvPlan::new(spec, Direction::Transposed, machine, input, output)
    }

    /// [`ConvPlan::forward`] or [`ConvPlan::transposed`], by the direction.
    ///
    /// # Errors
    /// As of these.
    pub fn new(
        spec: &ConvSpec,
        direction: Direction,
        machine: &Machine,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<ConvPlan, ConvError> {
        Builder::new(spec, direction, machine, input, output)?.build()
    }

    /// What [`ConvPlan::new`] checks, without making a plan.
    pub(crate) fn validate(
        spec: &ConvSpec,
        direction: Direction,
        machine: &Machine,
        [input, output]: [&Blocked; 2],
    ) -> Result<(), ConvError> {
        Builder::new(spec, direction, machine, input, output).map(drop)
    }

    /// The convolution.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Which slices of the input each slice of the output meets.
    pub(crate) fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Elements of an input buffer.
    pub fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Elements of an output buffer.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.weights_len
    }

    /// Whether both plans pack the same weights alike.
    pub fn packs_like(&self, other: &ConvPlan) -> bool {
        let same_panel = |a: &Panel, b: &Panel| {
            (&a.taps, a.weights) == (&b.taps, b.weights)
                && a.segments.first().map(|s| s.kernel.shape.blocks)
                    == b.segments.first().map(|s| s.kernel.shape.blocks)
        };
        let same_panels = |a: &Vec<Panel>, b: &Vec<Panel>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_panel(a, b))
        };
        self.spec == other.spec
            && self.isa == other.isa
            && self.roles.direction == other.roles.direction
            && (self.lanes, self.position_lanes) == (other.lanes, other.position_lanes)
            && (self.channels.kind, &self.channels.tiles) == (other.channels.kind, &other.channels.tiles)
            && self.sources == other.sources
            && self.panels.len() == other.panels.len()
            && self.panels.iter().zip(&other.panels).all(|(a, b)| same_panels(a, b))
    }

    /// Floating-point operations of one pass, two per product; those with padding count.
    pub fn flops(&self) -> u64 {
        let (outputs, inputs) = match self.roles.direction {
            Direction::Forward => (self.image.dense_len(), self.roles.reduced_group),
            Direction::Transposed => {
                let strided = self.spec.stride.iter().product::<usize>();
                (self.image.dense_len().div_ceil(strided), self.roles.reduced_group)
            }
        };
        2 * (outputs as u64) * (inputs as u64) * (self.roles.positions as u64)
    }

    /// How many tasks there are; each writes elements of its own.
    pub fn tasks(&self) -> usize {
        self.slices.outputs.len() * self.chunks() * self.channels.tiles.len()
    }

    /// Whether weights are read once, tile by tile, for all of a sample or of several: they exceed what stays in cache.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// The sample of a task of several; and its tile, its slice and the chunk of its rows.
    ///
    /// Tasks go over the rows of one chunk for all tiles, then to the next chunk, then to the next slice, so that input rows
    /// stay in cache, sample by sample; where weights are streamed, over all of the image of all samples for a tile, then to
    /// the next tile.
    pub(super) fn task_of(&self, task: usize, samples: usize) -> (usize, [usize; 3]) {
        let (tiles, chunks) = (self.channels.tiles.len(), self.chunks());
        let slices = self.slices.outputs.len();
        if self.streamed {
            let (task, chunk) = (task / chunks, task % chunks);
            let (task, slice) = (task / slices, task % slices);
            (task % samples, [task / samples, slice, chunk])
        } else {
            let (sample, task) = (task / self.tasks(), task % self.tasks());
            (sample, [task % tiles, task / tiles / chunks, task / tiles % chunks])
        }
    }

    /// The packed weights of a tile.
    pub(super) fn weights_of(&self, tile: usize) -> Range<usize> {
        let start = |tile: usize| self.panels.get(tile).and_then(|panels| panels.first()).map(|p| p.weights);
        start(tile).unwrap_or(self.weights_len)..start(tile + 1).unwrap_or(self.weights_len)
    }

    /// How many tasks share the rows of a slice.
    pub(super) fn chunks(&self) -> usize {
        self.rows.div_ceil(self.task_rows)
    }

    /// The panels of a tile for a slice of the output, one for each phase.
    pub(super) fn panels_of(&self, tile: usize, slice: usize) -> &[Panel] {
        let first = self.slices.outputs[slice].variant * self.phases.len();
        &self.panels[tile][first..first + self.phases.len()]
    }

    /// The arguments of the kernel calls of a panel, but for pointers.
    pub(super) fn args(&self, panel: &Panel) -> TileArgs {
        let [in_row, in_step] = self.in_steps();
        let [out_row, out_step] = self.out_steps();
        let stride = if self.channels.kind == Kind::Dot { 1 } else { self.output.block_stride() };
        TileArgs {
            input: std::ptr::null(),
            weights: std::ptr::null(),
            out: std::ptr::null_mut(),
            taps: std::ptr::null(),
            next: std::ptr::null(),
            tap_count: panel.taps.len() as u32,
            lanes: self.lanes as u32,
            in_pixel_stride: (in_step * self.input.block()) as u32,
            out_pixel_stride: (out_step * self.output.block()) as u32,
            in_row_stride: (in_row * self.input.row_stride()) as u32,
            out_row_stride: (out_row * self.output.row_stride()) as u32,
            out_block_stride: stride as u32,
            accumulate: 0,
        }
    }

    /// From an output of a phase to its neighbour's input: y, x.
    pub(super) fn in_steps(&self) -> [usize; 2] {
        let [_, y, x] = self.spec.stride;
        match self.roles.direction {
            Direction::Forward => [y, x],
            Direction::Transposed => [1; 2],
        }
    }

    /// From an output of a phase to its neighbour: y, x.
    pub(super) fn out_steps(&self) -> [usize; 2] {
        let [_, y, x] = self.spec.stride;
        match self.roles.direction {
            Direction::Forward => [1; 2],
            Direction::Transposed => [y, x],
        }
    }

    /// Where the input of a phase's pixel lies that taps count from: for pixel (0, 0) the corner of the halo of the first
    /// slice that its own slice meets.
    pub(super) fn input_offset(&self, slice: usize, row: usize, column: usize) -> usize {
        let [y, x] = self.in_steps();
        self.slices.outputs[slice].first * self.input.slice_stride()
            + row * y * self.input.row_stride()
            + column * x * self.input.block()
    }

    /// The blocks of a tile in a slice of the output.
    pub(super) fn blocks_of(&self, tile: usize, slice: usize) -> Range<usize> {
        let first = slice * self.output.slice_blocks();
        match self.channels.kind {
            Kind::Dot => first..first + 1,
            _ => {
                let Range { start, end } = self.channels.tiles[tile].blocks;
                first + start..first + end
            }
        }
    }

    /// Where a pixel of a phase lies in a block of the output.
    pub(super) fn output_offset(&self, block: usize, phase: &Phase, [row, column]: [usize; 2]) -> usize {
        let [y, x] = self.out_steps();
        self.output.offset(block, phase.origin[0] + row * y, phase.origin[1] + column * x)
    }

    /// Proves that no kernel call leaves its buffers: the last row's calls reach furthest.
    pub(super) fn check_extents(&self) -> Result<(), ConvError> {
        let inside = |start: usize, extent: u64, len: usize| start as u64 + extent <= len as u64;
        let tiles = 0..self.panels.len();
        for (tile, slice) in
            tiles.flat_map(|tile| (0..self.slices.outputs.len()).map(move |slice| (tile, slice)))
        {
            for (phase, panel) in self.phases.iter().zip(self.panels_of(tile, slice)) {
                let max_tap = self.taps[panel.taps.clone()].iter().copied().max().unwrap_or(0);
                for segment in panel.segments.iter().chain(&panel.pairs) {
                    let last = phase.rows - segment.kernel.shape.rows;
                    let extents = segment.kernel.shape.extents(&self.args(panel), max_tap);
                    let input = self.input_offset(slice, last, segment.first);
                    let output =
                        self.output_offset(self.blocks_of(tile, slice).start, phase, [last, segment.first]);
                    let fits = inside(input, extents.input, self.input.len())
                        && inside(output, extents.out, self.output.len())
                        && inside(panel.weights, extents.weights, self.weights_len);
                    if !fits {
                        return Err(ConvError::TooLarge { spec: Box::new(self.spec) });
                    }
                }
            }
        }
        Ok(())
    }
}
