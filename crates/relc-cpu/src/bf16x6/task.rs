//! What a task has: samples, a part of the work, and memory of its thread.

use std::ops::Range;

use super::Bf16x6Weights;
use crate::buffer::AlignedBuffer;
use crate::conv::Arguments;
use crate::epilogue::Shared as Left;

/// The output, which tasks share and of which they write different elements.
#[derive(Clone, Copy)]
pub(super) struct Output(pub *mut f32);

// SAFETY: tasks write disjoint elements (see [`super::Bf16x6Plan`]'s `run_task`), and the buffer is borrowed uniquely meanwhile.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A sample whose buffers have been checked.
#[derive(Clone, Copy)]
pub(super) struct Checked<'a> {
    pub arguments: Arguments<'a, Bf16x6Weights>,
    pub out: Output,
    pub left: Left,
}

/// Some rows of some tiles of channels.
pub(super) struct Task<'a> {
    /// Which run.
    pub run: u64,
    pub tiles: Range<usize>,
    /// Of each phase.
    pub rows: Range<usize>,
    /// Whether this thread will likely compute the rows after them next, of the same channels.
    pub goes_on: bool,
    /// They have the same weights.
    pub samples: &'a [Checked<'a>],
}

/// Memory of a thread.
#[derive(Default)]
pub(super) struct Workspace {
    /// The split input of the task that it is [`of`](Self::of).
    pub split: AlignedBuffer,
    /// The run, which of its samples, and the chunk.
    pub of: Option<[u64; 3]>,
    /// The split weights of some steps, and of those after them.
    pub slabs: [AlignedBuffer; 2],
    /// The run of which the first of `slabs` has the first steps of all.
    pub ready: Option<u64>,
    /// Sums `[block][pixel][V]`.
    pub sums: AlignedBuffer,
}

/// A buffer of at least so many elements.
pub(super) fn grown(buffer: &mut AlignedBuffer, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        *buffer = AlignedBuffer::zeroed(len);
    }
    buffer
}
