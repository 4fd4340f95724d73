//! What a run of a plan takes.

use super::ConvPlan;
use super::plan::{Panel, Phase};
use crate::cost::{CALL_CYCLES, Cost, Homes, LATENCY, LOADS, f32s, tile_cycles, vectors};
use crate::machine::{Level, Machine};
use crate::tile::{Kind, Shape};

/// Cycles to add up the lanes of a dot product.
const LANE_SUM: f64 = 8.0;

impl ConvPlan {
    /// What one run takes, its epilogue apart.
    pub(crate) fn cost(&self, machine: &Machine, homes: Homes) -> Cost {
        let mut cost = Cost { tasks: self.tasks() as f64, ..Cost::default() };
        for tile in 0..self.panels.len() {
            for slice in 0..self.slices.outputs.len() {
                for (number, (phase, panel)) in
                    self.phases.iter().zip(self.panels_of(tile, slice)).enumerate()
                {
                    self.add_panel(&mut cost, machine, homes, [tile, slice, number], (phase, panel));
                }
            }
        }
        cost.write(homes.output, f32s(self.image.len()));
        cost
    }

    /// Adds what the calls of a phase take for a tile and a slice.
    fn add_panel(
        &self,
        cost: &mut Cost,
        machine: &Machine,
        homes: Homes,
        [tile, slice, number]: [usize; 3],
        (phase, panel): (&Phase, &Panel),
    ) {
        let pairs = if panel.pairs.is_empty() { 0 } else { phase.rows / 2 };
        let two = panel.pairs.iter().map(|segment| (segment.kernel.shape, pairs));
        let one = panel.segments.iter().map(|segment| (segment.kernel.shape, phase.rows - 2 * pairs));
        let (mut calls, mut tap_weights) = (0.0, 0);
        for (shape, count) in two.chain(one) {
            let multiply_adds = shape.rows * shape.pixels * panel.taps.len();
            cost.multiply_adds +=
                (count * multiply_adds) as f64 * shape.tap_weights(self.lanes as u32) as f64;
            cost.cycles += count as f64 * self.call_cycles(machine, &shape, panel.taps.len());
            calls += count as f64;
            tap_weights = shape.tap_weights(self.lanes as u32) as usize;
        }
        // A row of outputs reads a window of rows, of which the row before left out some.
        let (top, bottom) = phase.positions.iter().fold((i64::MAX, i64::MIN), |(top, bottom), position| {
            (top.min(position.y), bottom.max(position.y))
        });
        let window = (bottom.saturating_sub(top).saturating_add(1)).max(0) as usize;
        let [step, _] = self.in_steps();
        let fresh = step.min(window);
        let blocks = self.channels.tiles[tile].sources.len().div_ceil(self.input.block());
        let slices = self.slices.variants[self.slices.outputs[slice].variant].len();
        let row = f32s(self.input.row_stride() * blocks * slices);
        let (band, chunk) = (window as f64 * row, (self.task_rows.min(phase.rows) * fresh) as f64 * row);
        let weights = f32s(panel.taps.len() * tap_weights);
        let keeps = |bytes: f64| machine.level_of(bytes as usize);
        // Between two uses: of the weights, by calls and by tasks; of the input, by rows and by tiles.
        let (between_calls, between_rows) = (keeps(weights + band), keeps(weights + band));
        let (between_tasks, between_tiles) = match self.streamed {
            true => (keeps(weights + f32s(self.input.len())), keeps(f32s(self.input.len()))),
            false => (keeps(f32s(self.weights_len) + chunk), keeps(chunk.max(band) + weights)),
        };
        let chunks = self.chunks() as f64;
        let first = if slice == 0 { 1.0 } else { 0.0 };
        cost.add(homes.weights, first * weights);
        cost.add(between_tasks, (chunks - first) * weights);
        cost.add(between_calls, (calls - chunks).max(0.0) * weights);
        let known = tile > 0 || number > 0;
        cost.add(if known { between_tiles } else { homes.input }, (phase.rows * fresh) as f64 * row);
        cost.add(between_rows.min(between_tiles), (phase.rows * (window - fresh)) as f64 * row);
    }

    /// Cycles of a call with all data in L1.
    fn call_cycles(&self, machine: &Machine, shape: &Shape, taps: usize) -> f64 {
        if shape.kind == Kind::Tile {
            return tile_cycles(machine, [shape.rows, shape.pixels, shape.blocks], taps * self.lanes);
        }
        // Vectors of inputs as well as of weights.
        let (pixels, blocks) = (shape.pixels as f64, shape.blocks as f64);
        let vector = (machine.isa.width() * size_of::<f32>()) as f64;
        let sums = pixels * blocks / vectors(machine);
        let loads = (pixels + blocks) * (vector / machine.bytes(Level::L1)).max(1.0 / LOADS);
        let ends = if shape.kind == Kind::Dot { pixels * blocks * LANE_SUM } else { pixels };
        taps as f64 * sums.max(loads).max(LATENCY) + ends + CALL_CYCLES
    }
}
