//! From a convolution's geometry to tiles, taps and tasks.

use std::collections::HashMap;
use std::ops::Range;

use super::channels::{ChannelTile, Channels, Roles};
use super::columns::{balanced, best_blocks, best_widening, fills_pairs};
use super::{ConvError, Slices};
use crate::isa::Isa;
use crate::tile::{Kernel, Kind, Shape, TileArgs, find, most_pixels};
use relc_program::conv::{Axis, AxisPhase, ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo, Image};

/// Channels that may lie in one narrow block: the most that a dot kernel computes.
const NARROW: usize = 4;
/// Bytes of input rows that a task goes over for each of its tiles: they should stay in L2 beside the
/// weights.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of weights above which they are read once, tile by tile, from beyond L2.
const STREAMED_BYTES: usize = 512 << 10;
/// Bytes of what is read of the input up to which it then stays in L2.
const KEPT_BYTES: usize = 1 << 20;
/// Tiles from which on they are tasks enough for a few threads.
const STREAMED_TILES: usize = 8;
/// Tasks to aim at, so that a few threads share them evenly.
const TASKS: usize = 64;
/// Multiply-adds below which a task is not worth a thread.
const TASK_WORK: usize = 1 << 19;

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
        isa: Isa,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<ConvPlan, ConvError> {
        Builder::new(spec, Direction::Forward, isa, input, output)?.build()
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
        isa: Isa,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<ConvPlan, ConvError> {
        Builder::new(spec, Direction::Transposed, isa, input, output)?.build()
    }

    /// The convolution.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
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

    /// The tile, the slice and the chunk of its rows of a task.
    pub(super) fn task(&self, task: usize) -> [usize; 3] {
        let (tiles, chunks) = (self.channels.tiles.len(), self.chunks());
        let slices = self.slices.outputs.len();
        match self.streamed {
            true => [task / chunks / slices, task / chunks % slices, task % chunks],
            false => [task % tiles, task / tiles / chunks, task / tiles % chunks],
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

    /// Where a pixel of a tile and phase lies in a slice of the output.
    pub(super) fn output_offset(
        &self,
        tile: usize,
        slice: usize,
        phase: &Phase,
        [row, column]: [usize; 2],
    ) -> usize {
        let [y, x] = self.out_steps();
        let block = self.blocks_of(tile, slice).start;
        self.output.offset(block, phase.origin[0] + row * y, phase.origin[1] + column * x)
    }

    /// Proves that no kernel call leaves its buffers: the last row's calls reach furthest.
    fn check_extents(&self) -> Result<(), ConvError> {
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
                    let output = self.output_offset(tile, slice, phase, [last, segment.first]);
                    let fits = inside(input, extents.input, self.input.len())
                        && inside(output, extents.out, self.output.len())
                        && inside(panel.weights, extents.weights, self.weights_len);
                    if !fits {
                        return Err(ConvError::TooLarge { spec: self.spec });
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is known before tiles are chosen.
struct Builder {
    spec: ConvSpec,
    roles: Roles,
    isa: Isa,
    kind: Kind,
    input: Blocked,
    output: Blocked,
    axes: [Axis; 3],
}

impl Builder {
    fn new(
        spec: &ConvSpec,
        direction: Direction,
        isa: Isa,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<Builder, ConvError> {
        spec.validate()?;
        if !isa.is_available() {
            return Err(ConvError::Unavailable { isa });
        }
        let roles = Roles::new(spec, direction);
        let picture = match direction {
            Direction::Forward => input,
            Direction::Transposed => output,
        };
        let [_, d, h, w] = picture.image();
        let picture = [d, h, w];
        let size = spec.output_size(picture)?;
        let (from, to) = match direction {
            Direction::Forward => (picture, size),
            Direction::Transposed => (size, picture),
        };
        expect_image("input", input, [roles.reduced, from[0], from[1], from[2]])?;
        expect_image("output", output, [roles.produced, to[0], to[1], to[2]])?;
        let kind = kind(&roles, isa, input, output)?;
        let halo = match direction {
            Direction::Forward => spec.forward_halo(picture)?,
            Direction::Transposed => spec.transposed_halo(picture)?,
        };
        if !input.halo().covers(halo) {
            return Err(ConvError::Halo { got: input.halo(), expected: halo });
        }
        let axes = spec.axes(direction, picture)?;
        Ok(Builder { spec: *spec, roles, isa, kind, input: *input, output: *output, axes })
    }

    fn build(mut self) -> Result<ConvPlan, ConvError> {
        let choices = Channels::choices(&self.roles, self.isa);
        let total = self.roles.produced_group.div_ceil(self.isa.width());
        let image = self.output;
        let widening = self.widen(total, &choices)?;
        let mut phases = self.phases();
        let columns = phases.iter().map(|phase| phase.columns).max().unwrap_or(1);
        let rows = phases.iter().map(|phase| phase.rows).max().unwrap_or(1);
        let blocks = best_blocks(self.isa, [rows, columns], total, &choices);
        let channels = Channels::new(&self.roles, self.isa, self.kind, &self.input, blocks);
        let merged = self.merge_positions(&channels, &mut phases);
        let mut plan = ConvPlan {
            spec: self.spec,
            roles: self.roles,
            isa: self.isa,
            input: self.input,
            output: self.output,
            image,
            widening,
            slices: Slices::new(&self.axes[0]),
            phases,
            panels: Vec::new(),
            taps: Vec::new(),
            sources: Vec::new(),
            position_lanes: channels.lanes,
            lanes: channels.lanes * merged,
            channels,
            weights_len: 0,
            streamed: false,
            task_rows: 1,
            rows,
        };
        self.panels(&mut plan)?;
        plan.streamed = is_streamed(&plan);
        plan.task_rows = if plan.streamed { plan.rows } else { task_rows(&plan) };
        plan.check_extents()?;
        Ok(plan)
    }

    /// Takes several rows as one, if no pixel meets another and there is nothing between rows.
    fn widen(&mut self, total: usize, choices: &[usize]) -> Result<usize, ConvError> {
        let plain = self.axes.iter().all(Axis::is_pointwise);
        if !plain
            || self.input.halo() != Halo::NONE
            || self.output.halo() != Halo::NONE
            || self.kind == Kind::Dot
        {
            return Ok(1);
        }
        let factor = best_widening(self.isa, self.output.height(), self.output.width(), total, choices);
        if let (Some(input), Some(output)) = (self.input.widened(factor), self.output.widened(factor)) {
            (self.input, self.output) = (input, output);
            self.axes = ConvSpec { kernel: [1; 3], stride: [1; 3], pads: [0; 6], ..self.spec }
                .axes(self.roles.direction, [input.depth(), input.height(), input.width()])?;
            return Ok(factor);
        }
        Ok(1)
    }

    /// The products of the axes' phases, those of one row together.
    fn phases(&self) -> Vec<Phase> {
        let [_, vertical, horizontal] = &self.axes;
        let positions = |rows: &AxisPhase, columns: &AxisPhase| -> Vec<Position> {
            let cross = rows.taps.iter().flat_map(|row| columns.taps.iter().map(move |column| (row, column)));
            cross
                .map(|(row, column)| Position { ky: row.k, kx: column.k, y: row.offset, x: column.offset })
                .collect()
        };
        let mut phases = Vec::new();
        for rows in &vertical.phases {
            for (index, columns) in horizontal.phases.iter().enumerate() {
                phases.push(Phase {
                    origin: [rows.origin, columns.origin],
                    rows: rows.count,
                    columns: columns.count,
                    positions: positions(rows, columns),
                    ends_row: index + 1 == horizontal.phases.len(),
                });
            }
        }
        phases
    }

    /// Makes one tap of the kernel positions of a row, where a narrow input has their channels side by side.
    /// Returns how many.
    fn merge_positions(&self, channels: &Channels, phases: &mut [Phase]) -> usize {
        let width = self.spec.kernel[2];
        let adjacent = self.roles.direction == Direction::Forward
            && channels.kind == Kind::Tile
            && channels.lanes == self.input.block()
            && self.input.slice_blocks() == 1
            && self.spec.dilation[2] == 1;
        if !adjacent {
            return 1;
        }
        phases.iter_mut().for_each(|phase| phase.positions.retain(|position| position.kx == 0));
        width
    }

    /// Taps and places of weights, for each tile, variant and phase. Tiles of the same sources share taps, variants of which
    /// one has the kernel positions of the other side by side share weights.
    fn panels(&self, plan: &mut ConvPlan) -> Result<(), ConvError> {
        let too_large = ConvError::TooLarge { spec: self.spec };
        let mut known: HashMap<([usize; 2], Range<usize>), Range<usize>> = HashMap::new();
        let mut weights: usize = 0;
        let phases = plan.phases.len();
        for tile in plan.channels.tiles.clone() {
            let mut panels: Vec<Panel> = Vec::with_capacity(plan.slices.variants.len() * phases);
            for (variant, phase) in
                (0..plan.slices.variants.len()).flat_map(|v| (0..phases).map(move |phase| (v, phase)))
            {
                let key = ([variant, phase], tile.sources.clone());
                let taps =
                    known.entry(key).or_insert_with(|| self.taps(plan, [variant, phase], &tile)).clone();
                let (rows, columns) = (plan.phases[phase].rows, plan.phases[phase].columns);
                let segments = self.segments(columns, [1, tile.blocks.len()]).ok_or(too_large.clone())?;
                let pairs = self.pairs([rows, columns], tile.blocks.len());
                let shape = segments[0].kernel.shape;
                let tap = usize::try_from(shape.tap_weights(plan.lanes as u32)).ok();
                let len = |taps: usize| tap.and_then(|tap| tap.checked_mul(taps)).ok_or(too_large.clone());
                let (owner, place) = plan.slices.packed_with(variant);
                let panel = match panels.get(owner * phases + phase) {
                    Some(owner) => {
                        let each = taps.len() / plan.slices.variants[variant].len().max(1);
                        {
                            let weights = owner.weights + len(place * each)?;
                            Panel { taps, weights, shares: true, segments, pairs }
                        }
                    }
                    None => {
                        let start = weights;
                        weights = weights.checked_add(len(taps.len())?).ok_or(too_large.clone())?;
                        Panel { taps, weights: start, shares: false, segments, pairs }
                    }
                };
                panels.push(panel);
            }
            plan.panels.push(panels);
        }
        plan.weights_len = weights;
        Ok(())
    }

    /// Appends the taps of a tile, variant and phase. Their order is that of the sums: slices, then blocks, then kernel
    /// positions, then parts of blocks, so that neighbouring taps meet neighbouring memory.
    fn taps(&self, plan: &mut ConvPlan, [variant, phase]: [usize; 2], tile: &ChannelTile) -> Range<usize> {
        let start = plan.taps.len();
        let halo = self.input.halo();
        let block = self.input.block();
        let lanes = plan.position_lanes;
        let [_, height, width] = self.spec.kernel;
        for slice in &plan.slices.variants[variant] {
            for first in tile.sources.clone().step_by(block.max(lanes)) {
                let last = tile.sources.end.min(first + block.max(lanes));
                for position in &plan.phases[phase].positions {
                    // Not negative: the halo covers what is read.
                    let y = (position.y + halo.top as i64) as usize;
                    let x = (position.x + halo.left as i64) as usize;
                    for channel in (first..last).step_by(lanes) {
                        let vector = slice.slice * self.input.slice_stride()
                            + channel / block * self.input.block_stride()
                            + y * self.input.row_stride()
                            + x * block;
                        plan.taps.push((vector + channel % block) as u32);
                        let position = (slice.k * height + position.ky) * width + position.kx;
                        plan.sources.push(TapSource { channel, position });
                    }
                }
            }
        }
        start..plan.taps.len()
    }

    /// The kernels of so many rows with tiles of so many blocks.
    fn segments(&self, columns: usize, [rows, blocks]: [usize; 2]) -> Option<Vec<KernelSegment>> {
        let Builder { kind, isa, .. } = *self;
        let segments = balanced(columns, most_pixels(isa, kind, [rows, blocks])).into_iter();
        let kernels = segments.map(|segment| {
            let kernel = find(Shape { kind, isa, rows, pixels: segment.pixels, blocks })?;
            Some(KernelSegment { first: segment.first, kernel })
        });
        kernels.collect::<Option<Vec<_>>>().filter(|segments| !segments.is_empty())
    }

    /// The kernel of two rows, if it takes them whole.
    fn pairs(&self, size: [usize; 2], blocks: usize) -> Vec<KernelSegment> {
        match fills_pairs(self.isa, self.kind, size, blocks) {
            true => self.segments(size[1], [2, blocks]).unwrap_or_default(),
            false => Vec::new(),
        }
    }
}

/// The kind of kernel for these layouts.
fn kind(roles: &Roles, isa: Isa, input: &Blocked, output: &Blocked) -> Result<Kind, ConvError> {
    let width = isa.width();
    let narrow = |layout: &Blocked| layout.block() == layout.channels() && layout.channels() <= NARROW;
    let refuse = |what, layout: &Blocked, few| Err(ConvError::Block { what, got: layout.block(), isa, few });
    let few_in = "an input of at most 4 channels, one group, and an output in whole vectors";
    let few_out = "an output of at most 4 channels, one group, and an input in whole vectors";
    if input.block() != width && !(narrow(input) && roles.groups() == 1) {
        return refuse("the input", input, few_in);
    }
    if output.block() == width {
        let vectors = input.block() == width && roles.is_depthwise();
        return Ok(if vectors { Kind::Depthwise } else { Kind::Tile });
    }
    if narrow(output) && roles.groups() == 1 && input.block() == width {
        return Ok(Kind::Dot);
    }
    refuse("the output", output, few_out)
}

fn expect_image(what: &'static str, layout: &Blocked, expected: Image) -> Result<(), ConvError> {
    let got = layout.image();
    if got == expected { Ok(()) } else { Err(ConvError::Image { what, got, expected }) }
}

/// Whether weights are better read once, while all that is read of the input stays in L2.
fn is_streamed(plan: &ConvPlan) -> bool {
    let bytes = |elements: usize| elements.saturating_mul(size_of::<f32>());
    // Strides beyond the kernel leave rows and pixels out.
    let [_, kernel_y, kernel_x] = plan.spec.kernel;
    let [y, x] = plan.in_steps();
    let skipped = (y / kernel_y).max(1) * (x / kernel_x).max(1);
    bytes(plan.weights_len) > STREAMED_BYTES
        && bytes(plan.input.len() / skipped) <= KEPT_BYTES
        && plan.channels.tiles.len() >= STREAMED_TILES
}

/// Rows of a task: as many as keep their input in L2, but few enough that there are [`TASKS`] worth a thread.
fn task_rows(plan: &ConvPlan) -> usize {
    let [step, _] = plan.in_steps();
    let slices = plan.slices.variants.first().map_or(1, |taps| taps.len().max(1));
    let row_bytes = plan.input.row_stride() * plan.input.slice_blocks() * slices * step * size_of::<f32>();
    let cached = (CHUNK_BYTES / row_bytes).max(1);
    let columns: usize = plan.phases.iter().map(|phase| phase.columns).max().unwrap_or(1);
    let row_work = (plan.weights_len / plan.channels.tiles.len()).saturating_mul(columns).max(1);
    let rows = plan.slices.outputs.len() * plan.rows * plan.channels.tiles.len();
    let shared = rows.div_ceil(TASKS).max(TASK_WORK / row_work);
    let paired = plan.panels.iter().flatten().any(|panel| !panel.pairs.is_empty());
    let rows = cached.min(shared).max(1);
    if paired { rows.next_multiple_of(2) } else { rows }.min(plan.rows)
}
