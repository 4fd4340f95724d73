//! A model of what a step takes: from counts of its work, and a [`Machine`]'s rates, to seconds.
//!
//! What is counted ([`Cost`]) follows from plans and layouts alone:
//! - multiply-adds that run: those of tails, padding lanes and transforms count, in a convolution by Winograd's algorithm
//!   only the products that are left;
//! - cycles of a core whose data are all in L1: of each call of a kernel the longest of its multiply-adds, its loads and
//!   its chains of additions, and what surrounds a call;
//! - bytes that come from L2, L3 and memory. Where something lies is told by how much is touched between two uses of it
//!   ([`Machine::level_of`]): within a convolution by its loop order, between steps by a [`Reuse`] of the program.
//!
//! Cycles overlap with loads of what is needed next, so that a step takes the longer of them, and what is exposed of the
//! shorter ([`Cost::seconds`]). Traffic from two levels does not overlap: a core has one queue of misses.
//!
//! The model serves for choices and for a second opinion beside measured times. **Invariant:** no result depends on it but by
//! the algorithm that `choose-convolutions` chooses, and that is for one thread, whatever there are.

mod elementwise;
mod reuse;

pub(crate) use elementwise::step_costs;
pub(crate) use reuse::Reuse;

use crate::machine::{Level, Machine};

/// Cycles around a call of a kernel: its arguments, the first loads, and what it stores.
pub(crate) const CALL_CYCLES: f64 = 24.0;
/// Cycles from a multiply-add to one that needs its result.
pub(crate) const LATENCY: f64 = 4.0;
/// Loads of one value for all lanes, and prefetches, in a cycle.
pub(crate) const LOADS: f64 = 2.0;
/// Cycles for each that is counted: what the order of a kernel's instructions costs.
const STALLS: f64 = 1.2;
/// The share of the shorter of cycles and traffic that the longer does not hide.
const EXPOSED: f64 = 0.3;
/// Seconds until a thread has found its next task, where several share them.
const TASK_SECONDS: f64 = 0.5e-6;
/// Seconds of a step apart from its work.
const STEP_SECONDS: f64 = 1e-6;
/// Cores that together take all that memory gives.
const MEMORY_CORES: usize = 4;

/// What a step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiply-adds that run.
    pub multiply_adds: f64,
    /// Cycles, if all data were in L1.
    pub cycles: f64,
    /// Bytes that come from L1, L2, L3 and memory, each byte from where it lies; L1's are in the cycles too.
    pub bytes: [f64; 4],
    /// Pieces that threads may share.
    pub tasks: f64,
}

/// What limits a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Multiply-adds.
    Arithmetic,
    /// Reading from, and writing to, a level.
    Traffic(Level),
}

impl Bound {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Arithmetic => "arithmetic",
            Bound::Traffic(level) => level.name(),
        }
    }
}

/// Where a convolution finds what it reads first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Homes {
    pub weights: Level,
    pub input: Level,
    pub output: Level,
}

impl Cost {
    /// Bytes that come from a level.
    pub(crate) fn add(&mut self, level: Level, bytes: f64) {
        self.bytes[level as usize] += bytes;
    }

    /// Bytes that are written: a line that is not in L1 or L2 is read before, and written back later.
    pub(crate) fn write(&mut self, level: Level, bytes: f64) {
        let lines = if level <= Level::L2 { 1.0 } else { 2.0 };
        self.add(level, lines * bytes);
    }

    /// Bytes from all levels beyond L1.
    pub fn traffic(&self) -> f64 {
        self.bytes[1..].iter().sum()
    }

    /// The least time that so many threads could take, and what sets it: of multiply-adds at the machine's peak, and of the
    /// traffic with each level.
    pub fn roofline(&self, machine: &Machine, threads: usize) -> (f64, Bound) {
        let threads = threads.max(1);
        let arithmetic = self.multiply_adds / machine.multiply_adds() / threads as f64;
        let mut longest = (arithmetic, Bound::Arithmetic);
        for level in Level::ALL {
            let cycles = self.bytes[level as usize] / machine.bytes(level) / cores(level, threads) as f64;
            if cycles > longest.0 {
                longest = (cycles, Bound::Traffic(level));
            }
        }
        (longest.0 / machine.clock(), longest.1)
    }

    /// The time that so many threads are predicted to take.
    pub fn seconds(&self, machine: &Machine, threads: usize) -> f64 {
        let (tasks, threads) = (self.tasks.max(1.0), threads.max(1));
        // The thread that has most tasks.
        let share = (tasks / threads as f64).ceil() / tasks;
        let beyond = Level::ALL.into_iter().skip(1).map(|level| {
            let share = share.max(1.0 / cores(level, threads) as f64);
            self.bytes[level as usize] / machine.bytes(level) * share
        });
        let (busy, beyond) = (self.cycles * STALLS * share, beyond.sum::<f64>());
        let cycles = busy.max(beyond) + EXPOSED * busy.min(beyond);
        let shared = if threads > 1 && tasks > 1.0 { share * tasks * TASK_SECONDS } else { 0.0 };
        let (least, _) = self.roofline(machine, threads);
        (cycles / machine.clock()).max(least) + shared + STEP_SECONDS
    }
}

/// The cores whose traffic with a level adds up.
fn cores(level: Level, threads: usize) -> usize {
    if level == Level::Memory { threads.min(MEMORY_CORES) } else { threads }
}

/// Bytes of so many f32.
pub(crate) fn f32s(elements: usize) -> f64 {
    elements as f64 * size_of::<f32>() as f64
}

/// Vectors of f32 multiply-adds in a cycle.
pub(crate) fn vectors(machine: &Machine) -> f64 {
    machine.multiply_adds() / machine.isa.width() as f64
}

/// Cycles of a call of a tile kernel of `[rows, pixels, blocks]` over so many lanes, of all taps: the longest of multiply-adds,
/// loads (a broadcast for each pixel, a vector for each block, two prefetches) and the chain of additions.
pub(crate) fn tile_cycles(machine: &Machine, [rows, pixels, blocks]: [usize; 3], lanes: usize) -> f64 {
    let pixels = (rows * pixels) as f64;
    let vector = (machine.isa.width() * size_of::<f32>()) as f64;
    let sums = pixels * blocks as f64 / vectors(machine);
    let loads = (pixels + 2.0) / LOADS + blocks as f64 * vector / machine.bytes(Level::L1);
    lanes as f64 * sums.max(loads).max(LATENCY) + pixels * blocks as f64 + CALL_CYCLES
}

#[cfg(test)]
mod tests {
    use relc_program::conv::{ConvSpec, Direction};
    use relc_program::layout::Blocked;

    use super::*;
    use crate::conv::ConvPlan;
    use crate::isa::Isa;
    use crate::machine::Class;
    use crate::winograd::{Form, WinogradPlan};

    const MACHINE: Machine =
        Machine { class: Class::Zen4, isa: Isa::Portable, caches: [32 << 10, 1 << 20, 32 << 20] };
    const HOMES: Homes = Homes { weights: Level::Memory, input: Level::L2, output: Level::L2 };

    /// The layouts of a convolution of stride 1 that keeps the size, and itself.
    fn case(channels: [usize; 2], kernel: usize, size: usize) -> (ConvSpec, [Blocked; 2]) {
        let spec = ConvSpec::square(channels[0], channels[1], kernel, 1, kernel / 2);
        let halo = spec.forward_halo([1, size, size]).unwrap();
        let input = Blocked::new(channels[0], 8, size, size, halo).unwrap();
        (spec, [input, Blocked::new(channels[1], 8, size, size, relc_program::layout::Halo::NONE).unwrap()])
    }

    fn direct(channels: [usize; 2], kernel: usize, size: usize) -> Cost {
        let (spec, [input, output]) = case(channels, kernel, size);
        ConvPlan::forward(&spec, &MACHINE, &input, &output).unwrap().cost(&MACHINE, HOMES)
    }

    #[test]
    fn padding_lanes_count_and_pixels_do_not() {
        let products = (16 * 16 * 9 * 13 * 13) as f64;
        assert_eq!(direct([16, 16], 3, 13).multiply_adds, products);
        // Three of four lanes of the second block are padding.
        assert_eq!(direct([16, 10], 3, 13).multiply_adds, products);
    }

    #[test]
    fn winograd_multiplies_less() {
        let (spec, [input, output]) = case([64, 64], 3, 32);
        let plain = direct([64, 64], 3, 32).multiply_adds;
        for (form, fewer) in [(Form::Two, 2.25), (Form::Four, 4.0)] {
            let plan = WinogradPlan::new(&spec, Direction::Forward, &MACHINE, form, &input, &output);
            let cost = plan.unwrap().unwrap().cost(&MACHINE, HOMES, false);
            assert_eq!(plain / cost.multiply_adds, fewer);
        }
    }

    #[test]
    fn weights_come_from_memory_once() {
        let weights = f32s(512 * 512 * 9);
        // Streamed, and row by row with weights that fit.
        assert_eq!(direct([512, 512], 3, 7).bytes[Level::Memory as usize], weights);
        assert_eq!(direct([16, 16], 3, 56).bytes[Level::Memory as usize], f32s(16 * 16 * 9));
    }

    #[test]
    fn no_step_beats_the_roofline_and_threads_help() {
        for cost in [direct([64, 64], 3, 56), direct([512, 512], 3, 7), direct([64, 64], 1, 1)] {
            for threads in [1, 2, 8] {
                assert!(cost.roofline(&MACHINE, threads).0 < cost.seconds(&MACHINE, threads));
            }
        }
        let large = direct([64, 64], 3, 56);
        assert!(large.seconds(&MACHINE, 2) < 0.6 * large.seconds(&MACHINE, 1));
        assert_eq!(large.roofline(&MACHINE, 1).1, Bound::Arithmetic);
        assert_eq!(direct([512, 512], 1, 1).roofline(&MACHINE, 1).1, Bound::Traffic(Level::Memory));
    }
}
