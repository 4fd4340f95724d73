//! Running a plan: all inputs are transformed, then tasks multiply and transform back.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::repair::RowOf;
use super::transform::{InputRow, OutputRow};
use super::{Repair, Run, WinogradPlan, WinogradWeights};
use crate::buffer::AlignedBuffer;
use crate::conv::{ConvError, OutputSlice, SliceTap, balanced};
use crate::epilogue::{Beside, Epilogue, Row, Shared as Left};
use crate::tile::{LINE, Part, TileArgs, TileFn};
use relc_program::layout::check;

/// What one run over one sample takes.
#[derive(Clone, Copy, Debug)]
pub struct WinogradArguments<'a> {
    /// The weights, transformed by the same plan.
    pub weights: &'a WinogradWeights,
    /// In the plan's input layout, with zeros in halo and padding channels.
    pub input: &'a [f32],
    /// What is done with each finished row while it is in L1.
    pub epilogue: Epilogue<'a>,
    /// How small outputs are computed again, before the epilogue; for outputs that are divided by.
    pub repair: Option<&'a Repair>,
}

/// Memory that tasks share and of which they write different elements.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write disjoint elements (see `WinogradPlan::transform_row` and `WinogradPlan::run_task`), and
// the buffer is borrowed uniquely meanwhile.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

thread_local! {
    /// Products of one task, `[position][OB][tile][V]`.
    static PRODUCTS: RefCell<AlignedBuffer> = RefCell::new(AlignedBuffer::zeroed(0));
}

/// A sample of a run.
#[derive(Debug)]
pub struct WinogradRun<'a> {
    /// What it takes.
    pub arguments: WinogradArguments<'a>,
    /// Of [`WinogradPlan::scratch_len`]; overwritten.
    pub scratch: &'a mut [f32],
    /// Its output: the interior is written, the halo left as it is.
    pub out: &'a mut [f32],
    /// What is left besides the output.
    pub beside: Beside<'a>,
}

/// A sample whose buffers have been checked.
#[derive(Clone, Copy)]
struct Checked<'a> {
    arguments: WinogradArguments<'a>,
    scratch: Shared,
    out: Shared,
    left: Left,
}

impl WinogradPlan {
    /// Computes the output's interior on this thread. `scratch` is overwritten.
    ///
    /// # Errors
    /// As of [`crate::conv::ConvPlan::run`], and if `scratch` has not [`WinogradPlan::scratch_len`] elements.
    pub fn run(
        &self,
        arguments: &WinogradArguments<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
    ) -> Result<(), ConvError> {
        let run = WinogradRun { arguments: *arguments, scratch, out, beside: Beside::default() };
        self.run_all([run], false)
    }

    /// Computes some samples, each of which gets what it gets alone, to the bit; on the current rayon pool or on this
    /// thread. Samples whose products stay in cache together share a reading of the weights, where these don't.
    ///
    /// # Errors
    /// As of [`WinogradPlan::run`], and if there is not room for what is left besides.
    pub fn run_all<'a>(
        &self,
        runs: impl IntoIterator<Item = WinogradRun<'a>>,
        parallel: bool,
    ) -> Result<(), ConvError> {
        let samples = runs.into_iter().map(|run| self.check(run)).collect::<Result<Vec<_>, ConvError>>()?;
        let each = |tasks: usize, run: &(dyn Fn(usize) + Sync)| {
            if parallel {
                let share = tasks.div_ceil(rayon::current_num_threads() * 4).max(1);
                (0..tasks).into_par_iter().with_min_len(share).for_each(run);
            } else {
                (0..tasks).for_each(run);
            }
        };
        let transforms = self.transform_tasks();
        // SAFETY: checked; all buffers are borrowed uniquely, tasks write different elements, and all of the input is
        // transformed before it is read.
        each(transforms * samples.len(), &|task| unsafe {
            self.transform_row(task % transforms, samples[task / transforms]);
        });
        let sums = self.input.depth() * self.tiles[0];
        let repaired: Vec<Checked<'_>> =
            samples.iter().filter(|s| s.arguments.repair.is_some()).copied().collect();
        // SAFETY: as above.
        each(sums * repaired.len(), &|task| unsafe { self.sum_row(task % sums, repaired[task / sums]) });
        let groups: Vec<&[Checked<'_>]> = samples.chunks(self.together).collect();
        let tasks = self.tasks();
        let multiply = |task: usize| {
            // SAFETY: as above.
            unsafe { self.run_task(task % tasks, groups[task / tasks]) }
        };
        if parallel {
            (0..tasks * groups.len()).into_par_iter().for_each(multiply);
        } else {
            (0..tasks * groups.len()).for_each(multiply);
        }
        Ok(())
    }

    /// Whether the weights exceed what stays in cache, so that samples had better share a reading of them.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    fn check<'a>(&self, run: WinogradRun<'a>) -> Result<Checked<'a>, ConvError> {
        let WinogradRun { arguments, scratch, out, beside } = run;
        check("the input", arguments.input.len(), self.input.len())?;
        check("the output", out.len(), self.output.len())?;
        check("the scratch memory", scratch.len(), self.scratch_len())?;
        check("the transformed weights", arguments.weights.data.len(), self.weights_len)?;
        arguments.epilogue.check(&self.output)?;
        let left = beside.check(&self.output)?;
        let (scratch, out) = (Shared(scratch.as_mut_ptr()), Shared(out.as_mut_ptr()));
        Ok(Checked { arguments, scratch, out, left })
    }

    pub(super) fn transform_tasks(&self) -> usize {
        self.input.blocks() * self.tiles[0]
    }

    /// The place of the sums of a row of tiles, counted through all slices, in the scratch memory.
    fn sums_offset(&self, tile_row: usize) -> usize {
        self.positions() * self.position_stride() + tile_row * self.tiles[1]
    }

    /// The sums of the inputs of a row of tiles, from all slices that a slice of the output meets.
    ///
    /// # Safety
    /// The sums lie in the scratch memory, and nothing writes them any more.
    unsafe fn tile_sums_of<'s>(
        &self,
        slice: OutputSlice,
        tile_row: usize,
        scratch: Shared,
    ) -> Cow<'s, [f32]> {
        let own = |tap: &SliceTap| {
            let row = (slice.first + tap.slice) * self.tiles[0] + tile_row;
            // SAFETY: the contract of this function.
            unsafe { std::slice::from_raw_parts(scratch.0.add(self.sums_offset(row)), self.tiles[1]) }
        };
        let taps = &self.slices.variants[slice.variant][..];
        if let [tap] = taps {
            return Cow::Borrowed(own(tap));
        }
        let mut sums = vec![0.0f32; self.tiles[1]];
        for tap in taps {
            sums.iter_mut().zip(own(tap)).for_each(|(sum, own)| *sum += own);
        }
        Cow::Owned(sums)
    }

    /// Sums the inputs of each tile of a row; different tasks write different rows.
    ///
    /// # Safety
    /// As of [`WinogradPlan::transform_row`].
    unsafe fn sum_row(&self, tile_row: usize, Checked { arguments, scratch, .. }: Checked<'_>) {
        // SAFETY: the sums lie behind the transformed input, and this task alone accesses those of its row.
        let sums = unsafe {
            std::slice::from_raw_parts_mut(scratch.0.add(self.sums_offset(tile_row)), self.tiles[1])
        };
        let at = [tile_row / self.tiles[0], tile_row % self.tiles[0]];
        // SAFETY: the plan's instruction set is the machine's, and the input has been checked.
        unsafe { (self.transforms.sums)(self, arguments.input, at, sums) }
    }

    pub(super) fn tasks(&self) -> usize {
        self.chunks() * self.slices.outputs.len() * self.channels.len()
    }

    /// How many tasks share the rows of tiles of a slice.
    fn chunks(&self) -> usize {
        self.tiles[0].div_ceil(self.chunk_rows)
    }

    /// Transforms a row of tiles of an input block; different tasks write different blocks or tiles.
    ///
    /// # Safety
    /// The buffers have been checked, and nothing else accesses this task's elements of the scratch memory.
    unsafe fn transform_row(&self, task: usize, Checked { arguments, scratch, .. }: Checked<'_>) {
        let width = self.isa.width();
        let halo = self.input.halo();
        let (block, tile_row) = (task / self.tiles[0], task % self.tiles[0]);
        // Not negative: the halo covers the kernel.
        let y = (tile_row * self.form.outputs()) as i64 + self.shift[0] + halo.top as i64;
        let x = self.shift[1] + halo.left as i64;
        let (y, x) = (y as usize, x as usize);
        let [rows, columns] =
            [self.input.block_stride() / self.input.row_stride(), self.input.row_stride() / width];
        let offset = block * self.input.block_stride() + y * self.input.row_stride() + x * width;
        let target = (block * self.tiles[0] + tile_row) * self.tiles[1] * width;
        // SAFETY: `rows` and `columns` are those that the layout, halo included, has from the corner on; the
        // corner lies in it, as the tile has an output. N * N positions of this row's tiles lie in the
        // scratch memory. The plan's instruction set is the machine's.
        unsafe {
            (self.transforms.input)(&InputRow {
                input: arguments.input.as_ptr().add(offset),
                row_stride: self.input.row_stride(),
                tiles: self.tiles[1],
                rows: rows - y,
                columns: columns - x,
                out: scratch.0.add(target),
                position_stride: self.position_stride(),
            });
        }
    }

    /// Computes some rows of tiles of some blocks of a slice, of some samples; different tasks write different rows or
    /// blocks.
    ///
    /// # Safety
    /// The buffers have been checked, the scratch memory holds the transformed input, and nothing
    /// else accesses this task's elements of the outputs.
    unsafe fn run_task(&self, task: usize, samples: &[Checked<'_>]) {
        // Neighbouring tasks share weights.
        let (task, chunk) = (task / self.chunks(), task % self.chunks());
        let (channel_tile, slice) = (task / self.slices.outputs.len(), task % self.slices.outputs.len());
        let first = chunk * self.chunk_rows;
        let rows = first..(first + self.chunk_rows).min(self.tiles[0]);
        PRODUCTS.with_borrow_mut(|products| {
            let blocks = self.channels[channel_tile].len();
            let tiles = rows.len() * self.tiles[1] * samples.len();
            let len = self.positions() * blocks * tiles * self.isa.width();
            if products.len() < len {
                *products = AlignedBuffer::zeroed(len);
            }
            // SAFETY: the contract of this function; `products` has the elements of this task.
            unsafe {
                self.multiply([channel_tile, slice], rows.clone(), samples, products);
                for number in 0..samples.len() {
                    self.transform_back([channel_tile, slice], rows.clone(), (samples, number), products);
                }
            }
        });
    }

    /// Sums over slices and channels: for each position products of matrices, tiles x C by C x OB V.
    ///
    /// # Safety
    /// As of [`WinogradPlan::run_task`]; `products` has `[position][OB][sample][tile][V]` of these rows.
    unsafe fn multiply(
        &self,
        [channel_tile, slice]: [usize; 2],
        rows: Range<usize>,
        samples: &[Checked<'_>],
        products: &mut [f32],
    ) {
        let OutputSlice { first, variant } = self.slices.outputs[slice];
        let slice_input =
            first * self.input.slice_blocks() * self.tiles[0] * self.tiles[1] * self.isa.width();
        // An output that meets no slice sums nothing.
        let nothing = [Run { k: 0, taps: 0..0 }];
        let runs = match &self.runs[variant][..] {
            [] => &nothing[..],
            runs => runs,
        };
        let width = self.isa.width();
        let blocks = self.channels[channel_tile].len();
        let tiles = rows.len() * self.tiles[1];
        let all_tiles = tiles * samples.len();
        let segments: Vec<(usize, TileFn)> = balanced(tiles, self.most(blocks))
            .into_iter()
            .filter_map(|segment| {
                Some((segment.first, self.kernel(segment.pixels, blocks)?.function(Part::Raw)))
            })
            .collect();
        let slice_weights = self.input.slice_blocks() * width * blocks * width;
        let position_weights = self.spec.kernel[0] * slice_weights;
        for position in 0..self.positions() {
            let weights = self.weights[channel_tile] + position * position_weights;
            // The weights of the next position, a part for each of the calls.
            let mut ahead = weights + position_weights;
            let calls = samples.iter().enumerate().flat_map(|sample| {
                let segments = segments.iter();
                segments
                    .flat_map(move |segment| runs.iter().enumerate().map(move |run| (sample, segment, run)))
            });
            for ((sample, &Checked { arguments, scratch, .. }), &(segment, function), (number, run)) in calls
            {
                let first = rows.start * self.tiles[1] + segment;
                let product = position * blocks * all_tiles + sample * tiles + segment;
                let next = arguments.weights.data.as_ptr().wrapping_add(ahead);
                ahead += run.taps.len() * width * LINE;
                // SAFETY: the segment's tiles lie in the position's part of the scratch memory, for each
                // block (tap); its weights and products in theirs: the sizes are those that the plan
                // computed.
                unsafe {
                    let args = TileArgs {
                        input: scratch.0.add(position * self.position_stride() + slice_input + first * width),
                        weights: arguments.weights.data.as_ptr().add(weights + run.k * slice_weights),
                        out: products.as_mut_ptr().add(product * width),
                        taps: self.taps.as_ptr().add(run.taps.start),
                        next,
                        tap_count: run.taps.len() as u32,
                        lanes: width as u32,
                        in_pixel_stride: width as u32,
                        out_pixel_stride: width as u32,
                        in_row_stride: 0,
                        out_row_stride: 0,
                        out_block_stride: (all_tiles * width) as u32,
                        accumulate: u32::from(number > 0),
                    };
                    function(&args);
                }
            }
        }
    }

    /// Transforms products to outputs and applies the epilogue to their rows.
    ///
    /// # Safety
    /// As of [`WinogradPlan::run_task`]; `products` holds the products of these rows.
    unsafe fn transform_back(
        &self,
        [channel_tile, slice]: [usize; 2],
        rows: Range<usize>,
        (samples, number): (&[Checked<'_>], usize),
        products: &[f32],
    ) {
        let Checked { arguments, scratch, out, left } = samples[number];
        let blocks = &self.channels[channel_tile];
        let width = self.isa.width();
        let tiles = rows.len() * self.tiles[1];
        let all_tiles = tiles * samples.len();
        let before = slice * self.output.slice_blocks();
        for (ob, of_slice) in blocks.clone().enumerate() {
            let block = before + of_slice;
            for (index, tile_row) in rows.clone().enumerate() {
                let top = tile_row * self.form.outputs();
                let height = (self.output.height() - top).min(self.form.outputs());
                // SAFETY: the rows and columns given are those of the image; the products of this row of
                // tiles are in `products`. The plan's instruction set is the machine's.
                unsafe {
                    (self.transforms.output)(&OutputRow {
                        products: products
                            .as_ptr()
                            .add((ob * all_tiles + number * tiles + index * self.tiles[1]) * width),
                        position_stride: blocks.len() * all_tiles * width,
                        tiles: self.tiles[1],
                        out: out.0.add(self.output.offset(block, top, 0)),
                        row_stride: self.output.row_stride(),
                        rows: height,
                        columns: self.output.width(),
                    });
                }
                if matches!(arguments.epilogue, Epilogue::None) && arguments.repair.is_none() {
                    continue;
                }
                let sums = arguments.repair.map(|repair| {
                    // SAFETY: the sums of the row lie in the scratch memory, which nothing writes any more.
                    (repair, unsafe { self.tile_sums_of(self.slices.outputs[slice], tile_row, scratch) })
                });
                for y in top..top + height {
                    let len = self.output.width() * width;
                    // SAFETY: the interior of a row lies in the buffer, and this task alone accesses it.
                    let out = unsafe {
                        std::slice::from_raw_parts_mut(out.0.add(self.output.offset(block, y, 0)), len)
                    };
                    if let Some((repair, sums)) = &sums {
                        let row = RowOf { block, of_slice, y, outputs: self.form.outputs(), tiles: sums };
                        // SAFETY: the plan's instruction set is the machine's.
                        unsafe { (self.transforms.repair)(repair, arguments.input, row, out) };
                    }
                    let row = Row { isa: self.isa, block, of_slice, y, channels: width };
                    // SAFETY: this task alone finishes the row.
                    unsafe { arguments.epilogue.apply(row, out, left) };
                }
            }
        }
    }
}
