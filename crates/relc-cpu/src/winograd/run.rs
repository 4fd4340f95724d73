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
        self.run_beside(arguments, scratch, out, Beside::default())
    }

    /// As [`WinogradPlan::run`], and what is left besides the output.
    ///
    /// # Errors
    /// As of [`WinogradPlan::run`], and if there is not room for what is left.
    pub fn run_beside(
        &self,
        arguments: &WinogradArguments<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
        beside: Beside<'_>,
    ) -> Result<(), ConvError> {
        let (scratch, out, left) = self.check(arguments, scratch, out, beside)?;
        // SAFETY: checked; all buffers are borrowed uniquely, and all of the input is transformed before it
        // is read.
        (0..self.transform_tasks()).for_each(|task| unsafe { self.transform_row(task, arguments, scratch) });
        // SAFETY: as above.
        (0..self.sum_tasks(arguments)).for_each(|task| unsafe { self.sum_row(task, arguments, scratch) });
        // SAFETY: as above.
        (0..self.tasks()).for_each(|task| unsafe { self.run_task(task, arguments, scratch, (out, left)) });
        Ok(())
    }

    /// Computes the same, to the bit, on the current rayon pool.
    ///
    /// # Errors
    /// As of [`WinogradPlan::run_beside`].
    pub fn run_parallel(
        &self,
        arguments: &WinogradArguments<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
        beside: Beside<'_>,
    ) -> Result<(), ConvError> {
        let (scratch, out, left) = self.check(arguments, scratch, out, beside)?;
        let share = self.transform_tasks().div_ceil(rayon::current_num_threads() * 4).max(1);
        let transforms = (0..self.transform_tasks()).into_par_iter().with_min_len(share);
        // SAFETY: checked; both buffers are borrowed uniquely, tasks write different elements, and all of the
        // input is transformed before it is read.
        transforms.for_each(|task| unsafe { self.transform_row(task, arguments, scratch) });
        // SAFETY: as above.
        (0..self.sum_tasks(arguments))
            .into_par_iter()
            .for_each(|task| unsafe { self.sum_row(task, arguments, scratch) });
        // SAFETY: as above.
        (0..self.tasks())
            .into_par_iter()
            .for_each(|task| unsafe { self.run_task(task, arguments, scratch, (out, left)) });
        Ok(())
    }

    fn check(
        &self,
        arguments: &WinogradArguments<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
        beside: Beside<'_>,
    ) -> Result<(Shared, Shared, Left), ConvError> {
        check("the input", arguments.input.len(), self.input.len())?;
        check("the output", out.len(), self.output.len())?;
        check("the scratch memory", scratch.len(), self.scratch_len())?;
        check("the transformed weights", arguments.weights.data.len(), self.weights_len)?;
        arguments.epilogue.check(&self.output)?;
        let left = beside.check(&self.output)?;
        Ok((Shared(scratch.as_mut_ptr()), Shared(out.as_mut_ptr()), left))
    }

    fn transform_tasks(&self) -> usize {
        self.input.blocks() * self.tiles[0]
    }

    /// Rows of tiles, of all slices, whose inputs are summed, for the repair of small outputs.
    fn sum_tasks(&self, arguments: &WinogradArguments<'_>) -> usize {
        if arguments.repair.is_some() { self.input.depth() * self.tiles[0] } else { 0 }
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
    unsafe fn sum_row(&self, tile_row: usize, arguments: &WinogradArguments<'_>, scratch: Shared) {
        // SAFETY: the sums lie behind the transformed input, and this task alone accesses those of its row.
        let sums = unsafe {
            std::slice::from_raw_parts_mut(scratch.0.add(self.sums_offset(tile_row)), self.tiles[1])
        };
        let at = [tile_row / self.tiles[0], tile_row % self.tiles[0]];
        // SAFETY: the plan's instruction set is the machine's, and the input has been checked.
        unsafe { (self.transforms.sums)(self, arguments.input, at, sums) }
    }

    fn tasks(&self) -> usize {
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
    unsafe fn transform_row(&self, task: usize, arguments: &WinogradArguments<'_>, scratch: Shared) {
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

    /// Computes some rows of tiles of some blocks of a slice; different tasks write different rows or blocks.
    ///
    /// # Safety
    /// The buffers have been checked, the scratch memory holds the transformed input, and nothing
    /// else accesses this task's elements of the output.
    unsafe fn run_task(
        &self,
        task: usize,
        arguments: &WinogradArguments<'_>,
        scratch: Shared,
        out: (Shared, Left),
    ) {
        // Neighbouring tasks share weights.
        let (task, chunk) = (task / self.chunks(), task % self.chunks());
        let (channel_tile, slice) = (task / self.slices.outputs.len(), task % self.slices.outputs.len());
        let first = chunk * self.chunk_rows;
        let rows = first..(first + self.chunk_rows).min(self.tiles[0]);
        PRODUCTS.with_borrow_mut(|products| {
            let blocks = &self.channels[channel_tile];
            let len = self.positions() * blocks.len() * rows.len() * self.tiles[1] * self.isa.width();
            if products.len() < len {
                *products = AlignedBuffer::zeroed(len);
            }
            // SAFETY: the contract of this function; `products` has the elements of this task.
            unsafe {
                self.multiply([channel_tile, slice], rows.clone(), arguments, scratch, products);
                self.transform_back((blocks.clone(), slice), rows, arguments, (products, scratch), out);
            }
        });
    }

    /// Sums over slices and channels: for each position products of matrices, tiles x C by C x OB V.
    ///
    /// # Safety
    /// As of [`WinogradPlan::run_task`]; `products` has `[position][OB][tile][V]` of these rows.
    unsafe fn multiply(
        &self,
        [channel_tile, slice]: [usize; 2],
        rows: Range<usize>,
        arguments: &WinogradArguments<'_>,
        scratch: Shared,
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
            for (&(segment, function), (number, run)) in
                segments.iter().flat_map(|segment| runs.iter().enumerate().map(move |run| (segment, run)))
            {
                let first = rows.start * self.tiles[1] + segment;
                let next = arguments.weights.data.as_ptr().wrapping_add(ahead);
                ahead += run.taps.len() * width * LINE;
                // SAFETY: the segment's tiles lie in the position's part of the scratch memory, for each
                // block (tap); its weights and products in theirs: the sizes are those that the plan
                // computed.
                unsafe {
                    let args = TileArgs {
                        input: scratch.0.add(position * self.position_stride() + slice_input + first * width),
                        weights: arguments.weights.data.as_ptr().add(weights + run.k * slice_weights),
                        out: products.as_mut_ptr().add((position * blocks * tiles + segment) * width),
                        taps: self.taps.as_ptr().add(run.taps.start),
                        next,
                        tap_count: run.taps.len() as u32,
                        lanes: width as u32,
                        in_pixel_stride: width as u32,
                        out_pixel_stride: width as u32,
                        in_row_stride: 0,
                        out_row_stride: 0,
                        out_block_stride: (tiles * width) as u32,
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
        (blocks, slice): (Range<usize>, usize),
        rows: Range<usize>,
        arguments: &WinogradArguments<'_>,
        (products, scratch): (&[f32], Shared),
        (out, left): (Shared, Left),
    ) {
        let width = self.isa.width();
        let tiles = rows.len() * self.tiles[1];
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
                        products: products.as_ptr().add((ob * tiles + index * self.tiles[1]) * width),
                        position_stride: blocks.len() * tiles * width,
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
