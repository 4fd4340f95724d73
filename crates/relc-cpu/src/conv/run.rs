//! Running a plan.

use std::ops::Range;

use rayon::prelude::*;

use super::{ConvError, ConvPlan, PackedWeights};
use crate::epilogue::{Beside, Epilogue, Row, Shared};
use crate::tile::{Kind, LINE, Part, Shape, TileArgs, find};
use relc_program::layout::check;

/// What one run over one sample takes; W are the packed weights of a kind of plan.
#[derive(Debug)]
pub struct Arguments<'a, W = PackedWeights> {
    /// The weights, packed by the same plan.
    pub weights: &'a W,
    /// The part of them to use.
    pub part: Part,
    /// In the plan's input layout, with zeros in halo and padding channels.
    pub input: &'a [f32],
    /// What is done with each finished row while it is in L1.
    pub epilogue: Epilogue<'a>,
}

impl<W> Copy for Arguments<'_, W> {}

impl<W> Clone for Arguments<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The output and what is left besides it, shared among tasks that write different elements.
#[derive(Clone, Copy)]
struct Output(*mut f32, Shared);

// SAFETY: tasks write disjoint elements (see `ConvPlan::run_task`), and the buffer is borrowed uniquely
// meanwhile.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A sample of a run.
#[derive(Debug)]
pub struct Run<'a, W = PackedWeights> {
    /// What it takes.
    pub arguments: Arguments<'a, W>,
    /// Its output: the interior is written, the halo left as it is.
    pub out: &'a mut [f32],
    /// What is left besides the output.
    pub beside: Beside<'a>,
}

impl ConvPlan {
    /// Computes the output's interior on this thread; the halo is left as it is.
    ///
    /// # Errors
    /// If a slice is not of its layout's length, weights are not this plan's, or an operand of the
    /// epilogue is not laid out like the output (halos may differ).
    pub fn run(&self, arguments: &Arguments<'_>, out: &mut [f32]) -> Result<(), ConvError> {
        self.run_all([Run { arguments: *arguments, out, beside: Beside::default() }], false)
    }

    /// Computes some samples, each of which gets what it gets alone, to the bit; on the current rayon pool or on this
    /// thread. Where the weights are streamed, they are read once for all.
    ///
    /// # Errors
    /// As of [`ConvPlan::run`], and if there is not room for what is left besides.
    pub fn run_all<'a>(
        &self,
        runs: impl IntoIterator<Item = Run<'a>>,
        parallel: bool,
    ) -> Result<(), ConvError> {
        let checked = |run: Run<'a>| {
            let out = self.check(&run.arguments, run.out, run.beside)?;
            Ok((run.arguments, out))
        };
        let runs = runs.into_iter().map(checked).collect::<Result<Vec<_>, ConvError>>()?;
        let run = |task: usize| {
            let (sample, task) = self.task_of(task, runs.len());
            if let Some((arguments, out)) = runs.get(sample) {
                // SAFETY: checked; tasks write different elements, outputs and what is left besides are borrowed uniquely.
                unsafe { self.run_task(task, arguments, *out) };
            }
        };
        let tasks = 0..self.tasks() * runs.len();
        if parallel {
            // Rayon halves the range, and again for threads that are idle: neighbours, which share rows or weights, stay
            // together.
            tasks.into_par_iter().for_each(run);
        } else {
            tasks.for_each(run);
        }
        Ok(())
    }

    /// One vector of the output, for plans of stride 1 of whole vectors: `at` is its block, of all slices, row and column.
    /// Does nothing if a buffer is not of its layout's length, or there is no such vector.
    pub(crate) fn pixel(
        &self,
        weights: &PackedWeights,
        part: Part,
        input: &[f32],
        [block, y, x]: [usize; 3],
        out: &mut [f32],
    ) {
        const MOST: usize = 8 * 16;
        let width = self.isa.width();
        let fits = input.len() == self.input.len()
            && weights.as_slice().len() == self.weights_len
            && self.phases.len() == 1
            && self.channels.kind == Kind::Tile
            && y < self.rows
            && self.widening == 1
            && out.len() == width
            && x < self.phases[0].columns;
        let (slice, block) = (block / self.output.slice_blocks(), block % self.output.slice_blocks());
        let tile = self.channels.tiles.iter().position(|tile| tile.blocks.contains(&block));
        let (true, Some(tile)) = (fits && slice < self.slices.outputs.len(), tile) else { return };
        let (panel, blocks) = (&self.panels_of(tile, slice)[0], &self.channels.tiles[tile].blocks);
        let kernel =
            find(Shape { kind: Kind::Tile, isa: self.isa, rows: 1, pixels: 1, blocks: blocks.len() });
        let (Some(kernel), true) = (kernel, blocks.len() * width <= MOST) else { return };
        let mut sums = [0.0f32; MOST];
        // SAFETY: `check_extents` has proved that what the kernels of the pixel's row read lies in buffers of these
        // lengths, and a pixel reads no more; the output has the tile's blocks, one after the other.
        unsafe {
            kernel.function(part)(&TileArgs {
                input: input.as_ptr().add(self.input_offset(slice, y, x)),
                weights: weights.as_slice().as_ptr().add(panel.weights),
                out: sums.as_mut_ptr(),
                taps: self.taps.as_ptr().add(panel.taps.start),
                next: weights.as_slice().as_ptr(),
                out_block_stride: width as u32,
                ..self.args(panel)
            });
        }
        let first = (block - blocks.start) * width;
        out.copy_from_slice(&sums[first..first + width]);
    }

    fn check(
        &self,
        arguments: &Arguments<'_>,
        out: &mut [f32],
        beside: Beside<'_>,
    ) -> Result<Output, ConvError> {
        check("the input", arguments.input.len(), self.input.len())?;
        check("the output", out.len(), self.output.len())?;
        check("the packed weights", arguments.weights.as_slice().len(), self.weights_len)?;
        arguments.epilogue.check(&self.image)?;
        Ok(Output(out.as_mut_ptr(), beside.check(&self.image)?))
    }

    /// Computes rows of a tile's channels in a slice; different tasks write different elements.
    ///
    /// # Safety
    /// The arguments and the output have been checked, and nothing else accesses the elements that this task writes.
    unsafe fn run_task(&self, [tile, slice, chunk]: [usize; 3], arguments: &Arguments<'_>, out: Output) {
        let start = chunk * self.task_rows;
        let rows = start..self.rows.min(start + self.task_rows);
        let [step, _] = self.out_steps();
        let blocks = self.blocks_of(tile, slice);
        let before = slice * self.output.slice_blocks();
        let weights = arguments.weights.as_slice().as_ptr();
        // The weights of the next tile, which come from beyond L2 when they are first read.
        let mut ahead = self.weights_of(tile + 1);
        let mut first = rows.start;
        while first < rows.end {
            let together = (rows.end - first).min(2);
            for (phase, panel) in self.phases.iter().zip(self.panels_of(tile, slice)) {
                let args = self.args(panel);
                let count = phase.rows.saturating_sub(first).min(together);
                let pair = count == 2 && !panel.pairs.is_empty();
                let segments = if pair { &panel.pairs } else { &panel.segments };
                let each = if pair { 2 } else { 1 };
                for row in (first..first + count).step_by(each) {
                    if phase.ends_row {
                        for row in row..row + each {
                            let y = (phase.origin[0] + row * step) * self.widening;
                            blocks.clone().for_each(|block| arguments.epilogue.bring([block, y]));
                        }
                    }
                    for segment in segments {
                        let input = self.input_offset(slice, row, segment.first);
                        let output = self.output_offset(blocks.start, phase, [row, segment.first]);
                        let next = if ahead.is_empty() { panel.weights } else { ahead.start };
                        ahead.start += args.tap_count as usize * self.lanes * LINE;
                        // SAFETY: `check_extents` has proved that these offsets and what the kernel accesses from
                        // there on lie in buffers of the checked lengths; the instruction set was checked by the
                        // plan.
                        unsafe {
                            let args = TileArgs {
                                input: arguments.input.as_ptr().add(input),
                                weights: weights.add(panel.weights),
                                out: out.0.add(output),
                                taps: self.taps.as_ptr().add(panel.taps.start),
                                next: weights.wrapping_add(next),
                                ..args
                            };
                            segment.kernel.function(arguments.part)(&args);
                        }
                    }
                }
                if phase.ends_row {
                    for row in first..first + count {
                        let y = phase.origin[0] + row * step;
                        // SAFETY: the row belongs to this task.
                        unsafe { self.finish_row((blocks.clone(), before), y, arguments, out) };
                    }
                }
            }
            first += together;
        }
    }

    /// Applies the epilogue to a finished row of some blocks, which come behind so many of other slices.
    ///
    /// # Safety
    /// As of [`ConvPlan::run_task`]; the row is one of this task.
    unsafe fn finish_row(
        &self,
        (blocks, before): (Range<usize>, usize),
        y: usize,
        arguments: &Arguments<'_>,
        out: Output,
    ) {
        if matches!(arguments.epilogue, Epilogue::None) {
            return;
        }
        let len = self.image.width() * self.image.block();
        for block in blocks {
            for part in 0..self.widening {
                let y = y * self.widening + part;
                let offset = self.image.offset(block, y, 0);
                let channels = self.image.block();
                let row = Row { isa: self.isa, block, of_slice: block - before, y, channels };
                // SAFETY: the interior of a row lies in the buffer, and this task alone finishes it.
                unsafe {
                    let data = std::slice::from_raw_parts_mut(out.0.add(offset), len);
                    arguments.epilogue.apply(row, data, out.1);
                }
            }
        }
    }
}
