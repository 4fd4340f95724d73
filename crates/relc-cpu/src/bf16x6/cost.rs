//! What a run of a plan takes.

use super::kernel::{CHANNELS, PLANES, PRODUCTS, ROWS, TILE_BYTES};
use super::{Bf16x6Plan, L2_SHARE, SLAB};
use crate::cost::{CALL_CYCLES, Cost, Homes, f32s};
use crate::machine::{Level, Machine};

/// Cycles of an instruction that multiplies tiles.
const TILE_CYCLES: f64 = 16.0;
/// Cycles to load and to store a tile of sums.
const SUMS_CYCLES: f64 = 24.0;
/// Cycles to split a vector of f32, and to copy a vector of sums.
const SPLIT_CYCLES: f64 = 8.0;
const COPY_CYCLES: f64 = 2.0;
/// Multiply-adds by vectors that take as long as those of a tile in a cycle.
const PER_CYCLE: f64 = (ROWS * ROWS * CHANNELS) as f64 / TILE_CYCLES / PRODUCTS as f64;

/// How many tiles of pixels each call takes: two, and three where one would be left.
pub(super) fn calls(tiles: usize, blocks: usize) -> impl Iterator<Item = usize> + Clone {
    let three = usize::from(blocks == 2 && tiles % 2 == 1 && tiles > 1);
    let rest = tiles - 3 * three;
    std::iter::repeat_n(3, three)
        .chain(std::iter::repeat_n(2, rest / 2))
        .chain(std::iter::repeat_n(1, rest % 2))
}

impl Bf16x6Plan {
    /// Rows of a task's outputs that take the fewest cycles for all, of those whose split input stays in L2.
    pub(super) fn best_rows(&self, machine: &Machine) -> usize {
        let [_, l2, _] = machine.caches;
        let cached = |rows: &usize| *rows == 1 || self.kept_bytes(*rows, 1) <= l2 / 8 * L2_SHARE;
        let total = |rows: usize| {
            let chunks = self.chunk_sizes(rows);
            chunks.map(|(count, rows)| count as f64 * self.chunk_cycles(machine, rows)).sum::<f64>()
        };
        let choices = (1..=self.grid_rows).take_while(cached);
        choices.min_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(1)
    }

    /// How many tasks have how many rows.
    fn chunk_sizes(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        [(self.grid_rows / rows, rows), (1, self.grid_rows % rows)].into_iter().filter(|(_, rows)| *rows > 0)
    }

    /// Cycles of the products of some rows, with what comes from beyond L2.
    fn chunk_cycles(&self, machine: &Machine, rows: usize) -> f64 {
        let weights = self.weights_bytes();
        let streamed = if machine.level_of(weights) > Level::L2 { weights as f64 } else { 0.0 };
        // What is read for each tile of channels, and the share of it that half of L2 does not hold.
        let read = self.multiplied(rows) * PLANES * TILE_BYTES * self.tiles.len();
        let [_, l2, _] = machine.caches;
        let missed = (1.0 - l2 as f64 / 2.0 / self.kept_bytes(rows, 1) as f64).max(0.0) * read as f64;
        self.split_cycles(rows) + self.product_cycles(rows) + (streamed + missed) / machine.bytes(Level::L3)
    }

    /// Tiles of pixels that are multiplied for a block, in all steps.
    fn multiplied(&self, rows: usize) -> usize {
        self.phases.iter().map(|phase| self.pixel_tiles(phase, rows, 1) * phase.steps.len()).sum()
    }

    fn split_cycles(&self, rows: usize) -> f64 {
        let lines = self.residues.len() * (rows + self.rows.above + self.rows.below);
        (lines * self.rows.pitch * self.input.slice_blocks()) as f64 * SPLIT_CYCLES
    }

    fn product_cycles(&self, rows: usize) -> f64 {
        let mut cycles = 0.0;
        for phase in &self.phases {
            let tiles = self.pixel_tiles(phase, rows, 1);
            let steps = phase.steps.len() as f64;
            for blocks in &self.tiles {
                let blocks = blocks.len();
                let call = |tiles: usize| {
                    let sums = (tiles * blocks) as f64;
                    let products = PRODUCTS as f64 * sums * TILE_CYCLES;
                    let slabs = phase.steps.len().div_ceil(SLAB) as f64;
                    steps * products + slabs * (sums * SUMS_CYCLES + CALL_CYCLES)
                };
                cycles += calls(tiles, blocks).map(call).sum::<f64>();
                cycles += (tiles * ROWS * blocks) as f64 * COPY_CYCLES;
            }
        }
        cycles
    }

    /// What one run takes, its epilogue apart. Multiply-adds are those by vectors that take as long as the tiles'.
    pub(crate) fn cost(&self, machine: &Machine, homes: Homes) -> Cost {
        let mut cost = Cost { tasks: (self.chunks() * self.groups(1)) as f64, ..Cost::default() };
        let keeps = |bytes: f64| machine.level_of(bytes as usize);
        let weights = f32s(self.weights_len);
        for (count, rows) in self.chunk_sizes(self.chunk_rows) {
            let count = count as f64;
            let tiles = self.multiplied(rows);
            let multiplied = (tiles * self.output.slice_blocks()) as f64;
            let products = multiplied * (ROWS * ROWS * CHANNELS) as f64;
            cost.multiply_adds += count * products * machine.multiply_adds() / PER_CYCLE;
            cost.cycles += count * (self.split_cycles(rows) + self.product_cycles(rows));
            // Split once, read for each tile of channels.
            let split = self.split_bytes(rows, 1) as f64;
            cost.add(Level::L2, count * split);
            let read = (tiles * PLANES * TILE_BYTES * self.tiles.len()) as f64;
            cost.add(Level::L2, count * read);
        }
        let chunks = self.chunks() as f64;
        cost.add(homes.input, f32s(self.input.len()));
        cost.add(homes.weights, weights);
        cost.add(keeps(weights + self.split_bytes(self.chunk_rows, 1) as f64), (chunks - 1.0) * weights);
        cost.write(homes.output, f32s(self.output.len()));
        cost
    }
}
