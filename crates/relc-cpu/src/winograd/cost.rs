//! What a run of a plan takes.

use super::{Form, WinogradPlan};
use crate::conv::balanced;
use crate::cost::{Cost, Homes, f32s, tile_cycles, vectors};
use crate::machine::Machine;

/// Operations on vectors that a transform of a tile takes, there and back; and the loads and stores around them.
impl Form {
    fn input_work(self) -> [f64; 2] {
        match self {
            Form::Two => [32.0, 32.0],
            Form::Four => [144.0, 144.0],
        }
    }

    fn output_work(self) -> [f64; 2] {
        match self {
            Form::Two => [30.0, 20.0],
            Form::Four => [100.0, 90.0],
        }
    }
}

/// Cycles of a vector of outputs that is compared with what its tile could sum to.
const REPAIR_CYCLES: f64 = 6.0;

impl WinogradPlan {
    /// What one run takes, its epilogue apart; `repaired` with a [`super::Repair`] that finds nothing to do.
    pub(crate) fn cost(&self, machine: &Machine, homes: Homes, repaired: bool) -> Cost {
        let width = self.isa.width();
        let per_row = self.tiles[1] as f64;
        let tasks = self.tasks() as f64;
        let mut cost = Cost { tasks, ..Cost::default() };
        let keeps = |bytes: f64| machine.level_of(bytes as usize);
        let transform = |[operations, accesses]: [f64; 2]| operations / vectors(machine) + accesses;
        // There: rows of tiles overlap, and find what they share near.
        let rows = self.transform_tasks() as f64;
        cost.cycles += rows * per_row * transform(self.form.input_work());
        cost.add(homes.input, f32s(self.input.len()));
        let scratch = f32s(self.positions() * self.position_stride());
        cost.write(keeps(scratch), scratch);
        // Products.
        let position_weights =
            |blocks: usize| f32s(self.spec.kernel[0] * self.input.slice_blocks() * width * blocks * width);
        for blocks in &self.channels {
            let weights = self.positions() as f64 * position_weights(blocks.len());
            for (index, slice) in self.slices.outputs.iter().enumerate() {
                let runs = &self.runs[slice.variant];
                for first in (0..self.tiles[0]).step_by(self.chunk_rows) {
                    let tiles = self.chunk_rows.min(self.tiles[0] - first) * self.tiles[1];
                    let segments = balanced(tiles, self.most(blocks.len()));
                    let calls = self.positions() as f64;
                    for run in runs {
                        let lanes = run.taps.len() * width;
                        for segment in &segments {
                            let shape = [1, segment.pixels, blocks.len()];
                            cost.cycles += calls * tile_cycles(machine, shape, lanes);
                            let vector = segment.pixels * blocks.len() * width;
                            cost.multiply_adds += calls * (lanes * vector) as f64;
                        }
                    }
                    let new = index == 0 && first == 0;
                    let own = f32s(tiles * self.input.slice_blocks() * width) * calls;
                    cost.add(if new { homes.weights } else { keeps(weights + own) }, weights);
                    let again = weights * (segments.len() as f64 - 1.0).max(0.0);
                    cost.add(keeps(position_weights(blocks.len())), again);
                    cost.add(keeps(scratch + weights), own);
                    let products = f32s(tiles * blocks.len() * width) * calls;
                    cost.add(keeps(products), 2.0 * products);
                }
            }
        }
        // Back.
        let rows = (self.output.blocks() * self.tiles[0]) as f64;
        cost.cycles += rows * per_row * transform(self.form.output_work());
        if repaired {
            let outputs = (self.output.len() / width) as f64;
            cost.cycles += outputs * REPAIR_CYCLES + (self.input.len() / width) as f64;
            cost.add(keeps(f32s(self.input.len())), f32s(self.input.len()));
        }
        cost.write(homes.output, f32s(self.output.len()));
        cost
    }
}
