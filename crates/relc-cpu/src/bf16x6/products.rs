//! The products of a task, and its finished rows.

use std::ops::Range;

use super::Bf16x6Plan;
use super::cost::calls;
use super::kernel::{MultiplyArgs, PRODUCTS, ROW_BYTES, ROWS, SPLIT_ROW, WEIGHTS_ROW};
use super::task::{Checked, Task, Workspace, grown};
use super::{SLAB, TILE_BLOCKS};
use crate::epilogue::Row;
use crate::tile::Part;

/// Steps of a phase for a tile of channels, and where their weights lie.
struct Slab {
    tile: usize,
    phase: usize,
    steps: Range<usize>,
    weights: Range<usize>,
}

impl Bf16x6Plan {
    /// Computes and finishes a task whose input has been split.
    ///
    /// # Safety
    /// As of [`Bf16x6Plan::run_task`].
    pub(super) unsafe fn multiply(&self, task: &Task<'_>, workspace: &mut Workspace) {
        let slabs = self.slabs(task.tiles.clone());
        let Some(Checked { arguments, .. }) = task.samples.first() else { return };
        let (weights, part) = (&arguments.weights.data, arguments.part);
        let longest = self.panel_len(SLAB, TILE_BLOCKS) / WEIGHTS_ROW * SPLIT_ROW / size_of::<f32>();
        workspace.slabs.iter_mut().for_each(|slab| {
            grown(slab, longest);
        });
        // SAFETY: the contract of this function.
        unsafe { (self.kernels.configure)() };
        let first = slabs.first().map_or(0..0, |slab| slab.weights.clone());
        if workspace.ready != Some(task.run) {
            let (from, to) = (&weights[first.clone()], workspace.slabs[0].as_mut_ptr());
            // SAFETY: a slab's buffer has room for the longest.
            unsafe { (self.kernels.split_weights)(part, from.as_ptr(), to.cast(), from.len() / WEIGHTS_ROW) };
        }
        workspace.ready = task.goes_on.then_some(task.run);
        let last = if task.goes_on { first } else { 0..0 };
        let mut slabs = slabs.iter().peekable();
        for tile in task.tiles.clone() {
            for (number, phase) in self.phases.iter().enumerate() {
                let count = phase.rows.min(task.rows.end).saturating_sub(task.rows.start);
                let pixel_tiles =
                    if count == 0 { 0 } else { self.pixel_tiles(phase, task.rows.len(), task.samples.len()) };
                let len = self.tiles[tile].len() * pixel_tiles * ROWS * self.isa.width();
                let sums = grown(&mut workspace.sums, len);
                if phase.steps.is_empty() {
                    sums[..len].fill(0.0);
                }
                while let Some(slab) = slabs.next_if(|slab| (slab.tile, slab.phase) == (tile, number)) {
                    let next = slabs.peek().map_or(last.clone(), |slab| slab.weights.clone());
                    // SAFETY: the contract of this function.
                    unsafe { self.multiply_slab(slab, &weights[next], (pixel_tiles, part), workspace) };
                }
                // SAFETY: the contract of this function.
                unsafe { self.store([tile, number, pixel_tiles], count, task, &mut workspace.sums) };
            }
            if self.out_step[1] > 1 {
                // SAFETY: the contract of this function.
                unsafe { self.finish(self.tiles[tile].clone(), task) };
            }
        }
        // SAFETY: the contract of this function.
        unsafe { (self.kernels.release)() };
    }

    /// Adds the products of some steps to the sums, and splits the weights of the next.
    ///
    /// # Safety
    /// As of [`Bf16x6Plan::run_task`]; the first of the workspace's slabs has this one's weights.
    unsafe fn multiply_slab(
        &self,
        slab: &Slab,
        next: &[f32],
        (pixel_tiles, part): (usize, Part),
        workspace: &mut Workspace,
    ) {
        let blocks = self.tiles[slab.tile].len();
        let [now, later] = &mut workspace.slabs;
        let calls = calls(pixel_tiles, blocks);
        let places = (calls.clone().count() * slab.steps.len() * PRODUCTS).max(1);
        let mut args = MultiplyArgs {
            input: workspace.split.as_ptr().cast(),
            plane: self.plane_bytes(),
            steps: self.steps[slab.steps.clone()].as_ptr(),
            count: slab.steps.len(),
            weights: now.as_ptr().cast(),
            out: workspace.sums.as_mut_ptr(),
            block: pixel_tiles * ROWS * ROW_BYTES,
            accumulate: usize::from(slab.steps.start > self.phases[slab.phase].steps.start),
            from: next.as_ptr(),
            end: next.as_ptr_range().end,
            to: later.as_mut_ptr().cast(),
            rows: (next.len() / WEIGHTS_ROW).div_ceil(places),
        };
        for tiles in calls {
            let kernel = match tiles {
                3 => self.kernels.multiply_3x2[part as usize],
                tiles => self.kernels.multiply[part as usize][tiles - 1][blocks - 1],
            };
            // SAFETY: the sums have `pixel_tiles` tiles of pixels for each block; the pixels that steps reach from there on lie
            // in the split input, which has room for all tiles of the rows of a task. What is split ends with the next slab,
            // for which `later` has room.
            unsafe {
                kernel(&mut args);
                args.input = args.input.add(tiles * ROWS * ROW_BYTES);
                args.out = args.out.add(tiles * ROWS * self.isa.width());
            }
        }
        if pixel_tiles == 0 {
            // SAFETY: as above.
            unsafe {
                (self.kernels.split_weights)(part, args.from, args.to, next.len() / WEIGHTS_ROW);
            }
        }
        workspace.slabs.swap(0, 1);
    }

    /// What is split at a time for some tiles of channels, in the order in which their weights lie.
    fn slabs(&self, tiles: Range<usize>) -> Vec<Slab> {
        let mut slabs = Vec::new();
        for tile in tiles {
            let blocks = &self.tiles[tile];
            let start = self.panel_len(self.steps.len(), blocks.start);
            let place = |step: usize| start + self.panel_len(step, blocks.len());
            for (phase, steps) in self.phases.iter().map(|phase| &phase.steps).enumerate() {
                for first in steps.clone().step_by(SLAB) {
                    let end = steps.end.min(first + SLAB);
                    slabs.push(Slab { tile, phase, steps: first..end, weights: place(first)..place(end) });
                }
            }
        }
        slabs
    }

    /// Stores the sums of so many rows of a phase, `[block][pixel][V]`, where they belong: finished, where a phase has whole
    /// rows.
    ///
    /// # Safety
    /// As of [`Bf16x6Plan::run_task`].
    unsafe fn store(
        &self,
        [tile, phase, pixel_tiles]: [usize; 3],
        count: usize,
        task: &Task<'_>,
        sums: &mut [f32],
    ) {
        let phase = &self.phases[phase];
        let width = self.isa.width();
        let [step_y, step_x] = self.out_step;
        let places = self.tiles[tile].clone().enumerate();
        let rows = places.flat_map(|place| (0..count).map(move |row| (place, row)));
        for (number, Checked { arguments, out, left }) in task.samples.iter().enumerate() {
            let first = number * self.rows.sample;
            for ((at, block), row) in rows.clone() {
                let pixel = at * pixel_tiles * ROWS + (first + row) * self.rows.pitch;
                let vectors = &mut sums[pixel * width..(pixel + phase.columns) * width];
                let y = phase.origin[0] + (task.rows.start + row) * step_y;
                // SAFETY: the pixels of a phase lie in the row, which is this task's, and which it alone finishes.
                unsafe {
                    let out = out.0.add(self.output.offset(block, y, phase.origin[1]));
                    if step_x == 1 {
                        arguments.epilogue.apply(self.row(block, y), vectors, *left);
                        out.copy_from_nonoverlapping(vectors.as_ptr(), vectors.len());
                        continue;
                    }
                    for (column, vector) in vectors.chunks_exact(width).enumerate() {
                        out.add(column * step_x * width).copy_from_nonoverlapping(vector.as_ptr(), width);
                    }
                }
            }
        }
    }

    /// Applies the epilogue to a task's rows of some blocks, which several phases have written.
    ///
    /// # Safety
    /// As of [`Bf16x6Plan::run_task`].
    unsafe fn finish(&self, blocks: Range<usize>, task: &Task<'_>) {
        let [step, _] = self.out_step;
        let rows = task.rows.start * step..self.output.height().min(task.rows.end * step);
        let rows = blocks.flat_map(|block| rows.clone().map(move |y| (block, y)));
        for Checked { arguments, out, left } in task.samples {
            for (block, y) in rows.clone() {
                // SAFETY: the interior of a row lies in the buffer, and this task alone accesses and finishes it.
                unsafe {
                    let out = out.0.add(self.output.offset(block, y, 0));
                    let out = std::slice::from_raw_parts_mut(out, self.output.width() * self.output.block());
                    arguments.epilogue.apply(self.row(block, y), out, *left);
                }
            }
        }
    }

    fn row(&self, block: usize, y: usize) -> Row {
        Row { isa: self.isa, block, of_slice: block, y, channels: self.output.block() }
    }
}
