//! Running a plan: tasks, and how they split their input.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::kernel::{PLANES, ROW_BYTES, SplitArgs};
use super::task::{Checked, Output, Task, Workspace, grown};
use super::{Bf16x6Plan, Bf16x6Weights, Rows};
use crate::buffer::AlignedBuffer;
use crate::conv::{ConvError, Run};
use relc_program::layout::check;

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Tells one run from another.
static RUNS: AtomicU64 = AtomicU64::new(0);

impl Bf16x6Plan {
    /// Computes some samples, each of which gets what it gets alone, to the bit; on the current rayon pool or on this thread.
    ///
    /// # Errors
    /// As of [`crate::conv::ConvPlan::run_all`].
    pub fn run_all<'a>(
        &self,
        runs: impl IntoIterator<Item = Run<'a, Bf16x6Weights>>,
        parallel: bool,
    ) -> Result<(), ConvError> {
        let samples = runs.into_iter().map(|run| self.check(run)).collect::<Result<Vec<_>, ConvError>>()?;
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let shared: Vec<&[Checked<'_>]> = samples.chunks(self.together).collect();
        let groups = if parallel { self.groups(rayon::current_num_threads()) } else { 1 };
        let tasks = self.chunks() * groups;
        let run = |task: usize| {
            let samples = &shared[task / tasks];
            let id = [number, (task / tasks) as u64];
            // SAFETY: checked; tasks write different elements, outputs and what is left besides are borrowed uniquely. The
            // plan's instruction set is the machine's.
            unsafe { self.run_task([task % tasks, groups], id, samples) };
        };
        if parallel {
            (0..tasks * shared.len()).into_par_iter().for_each(run);
        } else {
            (0..tasks * shared.len()).for_each(run);
        }
        Ok(())
    }

    fn check<'a>(&self, run: Run<'a, Bf16x6Weights>) -> Result<Checked<'a>, ConvError> {
        let Run { arguments, out, beside } = run;
        check("the input", arguments.input.len(), self.input.len())?;
        check("the output", out.len(), self.output.len())?;
        check("the packed weights", arguments.weights.data.len(), self.weights_len)?;
        arguments.epilogue.check(&self.output)?;
        let left = beside.check(&self.output)?;
        Ok(Checked { arguments, out: Output(out.as_mut_ptr()), left })
    }

    /// Computes some rows of one of so many groups of tiles of channels, of some samples; different tasks write different rows
    /// or channels.
    ///
    /// # Safety
    /// The buffers have been checked, the machine has the plan's instruction set, and nothing else accesses this task's
    /// elements of the output.
    unsafe fn run_task(&self, [task, groups]: [usize; 2], [run, number]: [u64; 2], samples: &[Checked<'_>]) {
        let (chunk, group) = (task / groups, task % groups);
        let rows = chunk * self.chunk_rows..self.grid_rows.min((chunk + 1) * self.chunk_rows);
        let tiles = self.tiles.len() * group / groups..self.tiles.len() * (group + 1) / groups;
        WORKSPACE.with_borrow_mut(|workspace| {
            // SAFETY: the contract of this function.
            unsafe {
                let of = Some([run, number, chunk as u64]);
                if workspace.of != of {
                    // Not of anything, should the splitting not end.
                    workspace.of = None;
                    self.split(rows.clone(), samples, &mut workspace.split);
                    workspace.of = of;
                }
                self.multiply(&Task { run, tiles, goes_on: groups == 1, rows, samples }, workspace);
            }
        });
    }

    /// Splits the input of some rows of outputs, of some samples.
    ///
    /// # Safety
    /// The inputs have the layout's length, and the machine the plan's instruction set.
    unsafe fn split(&self, outputs: Range<usize>, samples: &[Checked<'_>], split: &mut AlignedBuffer) {
        let len = self.split_bytes(self.chunk_rows, self.together) / size_of::<f32>();
        let split = grown(split, len).as_mut_ptr().cast::<u8>();
        let [step_y, step_x] = self.in_step;
        let Rows { lead, above, below, pitch, sample, .. } = self.rows;
        let lines = above + (samples.len() - 1) * sample + outputs.len() + below;
        for pair in 0..self.pairs() {
            for (residue, &[ry, rx]) in self.residues.iter().enumerate() {
                let real = self.input.width().saturating_sub(rx).div_ceil(step_x).min(self.rows.real);
                let start = pair * PLANES * self.plane_bytes() + residue * self.rows.pixels * ROW_BYTES;
                let row = |[first, second]: [*const f32; 2], pixels, columns, pixel: usize| {
                    // SAFETY: `pixels` of the plan has room for the lead, all lines and more; the vectors are those of a row.
                    unsafe {
                        (self.kernels.split)(&SplitArgs {
                            first,
                            second,
                            step: step_x * self.input.block(),
                            pixels,
                            columns,
                            out: split.add(start + pixel * ROW_BYTES),
                            plane: self.plane_bytes(),
                        });
                    }
                };
                let nothing = [std::ptr::null(); 2];
                // The end of a row of zeros.
                row(nothing, 0, lead, 0);
                for line in 0..lines {
                    // Of the sample whose outputs meet it; between two samples it is in neither's picture.
                    let number = (line / sample).min(samples.len() - 1);
                    let inside = (outputs.start + line - number * sample).checked_sub(above);
                    let y =
                        inside.map(|row| row * step_y + ry).filter(|&y| y < self.input.height() && real > 0);
                    let input = samples[number].arguments.input;
                    let vectors = [2 * pair, 2 * pair + 1].map(|block| match y {
                        Some(y) if block < self.input.slice_blocks() => {
                            input[self.input.offset(block, y, rx)..].as_ptr()
                        }
                        _ => std::ptr::null(),
                    });
                    row(vectors, real, pitch, lead + line * pitch);
                }
            }
        }
    }

    /// Bytes from a plane of the split input to the next.
    pub(super) fn plane_bytes(&self) -> usize {
        self.residues.len() * self.rows.pixels * ROW_BYTES
    }
}
