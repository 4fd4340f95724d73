//! From a convolution's geometry to a plan.

use std::collections::HashMap;
use std::ops::Range;

use super::channels::{ChannelTile, Channels, Roles};
use super::columns::{balanced, best_blocks, best_widening, fills_pairs};
use super::plan::{KernelSegment, Panel, Phase, Position, TapSource};
use super::{ConvError, ConvPlan, Slices};
use crate::isa::Isa;
use crate::machine::{Level, Machine};
use crate::tile::{Kind, Shape, find, most_pixels};
use relc_program::conv::{Axis, AxisPhase, ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo, Image};

/// Channels that may lie in one narrow block: the most that a dot kernel computes.
const NARROW: usize = 4;
/// The share of L2 that the input rows may take that a task goes over for each of its tiles: they should stay there beside
/// the weights.
const CHUNK_SHARE: usize = 4;
/// Tiles from which on they are tasks enough for a few threads.
const STREAMED_TILES: usize = 8;
/// Tasks to aim at, so that a few threads share them evenly.
const TASKS: usize = 64;
/// Multiply-adds below which a task is not worth a thread.
const TASK_WORK: usize = 1 << 19;

/// What is known before tiles are chosen.
pub(super) struct Builder {
    spec: ConvSpec,
    roles: Roles,
    machine: Machine,
    isa: Isa,
    kind: Kind,
    input: Blocked,
    output: Blocked,
    axes: [Axis; 3],
}

impl Builder {
    pub fn new(
        spec: &ConvSpec,
        direction: Direction,
        machine: &Machine,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<Builder, ConvError> {
        spec.validate()?;
        let isa = machine.isa;
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
        Ok(Builder { spec: *spec, roles, machine: *machine, isa, kind, input: *input, output: *output, axes })
    }

    pub fn build(mut self) -> Result<ConvPlan, ConvError> {
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
        plan.streamed = is_streamed(&plan, &self.machine);
        plan.task_rows = if plan.streamed { plan.rows } else { task_rows(&plan, &self.machine) };
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
        let too_large = ConvError::TooLarge { spec: Box::new(self.spec) };
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
fn is_streamed(plan: &ConvPlan, machine: &Machine) -> bool {
    let bytes = |elements: usize| elements.saturating_mul(size_of::<f32>());
    // Strides beyond the kernel leave rows and pixels out.
    let [_, kernel_y, kernel_x] = plan.spec.kernel;
    let [y, x] = plan.in_steps();
    let skipped = (y / kernel_y).max(1) * (x / kernel_x).max(1);
    let [_, l2, _] = machine.caches;
    machine.level_of(bytes(plan.weights_len)) > Level::L2
        && bytes(plan.input.len() / skipped) <= l2
        && plan.channels.tiles.len() >= STREAMED_TILES
}

/// Rows of a task: as many as keep their input in L2, but few enough that there are [`TASKS`] worth a thread.
fn task_rows(plan: &ConvPlan, machine: &Machine) -> usize {
    let [step, _] = plan.in_steps();
    let slices = plan.slices.variants.first().map_or(1, |taps| taps.len().max(1));
    let row_bytes = plan.input.row_stride() * plan.input.slice_blocks() * slices * step * size_of::<f32>();
    let [_, l2, _] = machine.caches;
    let cached = (l2 / CHUNK_SHARE / row_bytes).max(1);
    let columns: usize = plan.phases.iter().map(|phase| phase.columns).max().unwrap_or(1);
    let row_work = (plan.weights_len / plan.channels.tiles.len()).saturating_mul(columns).max(1);
    let rows = plan.slices.outputs.len() * plan.rows * plan.channels.tiles.len();
    let shared = rows.div_ceil(TASKS).max(TASK_WORK / row_work);
    let paired = plan.panels.iter().flatten().any(|panel| !panel.pairs.is_empty());
    let rows = cached.min(shared).max(1);
    if paired { rows.next_multiple_of(2) } else { rows }.min(plan.rows)
}
