//! What is done with a finished row of a convolution, while it is in L1.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::conv::ConvError;
use crate::isa::Isa;
use crate::simd::{Simd, Work, bring, dispatch};
use crate::stats;
use relc_program::books::Stats;
use relc_program::layout::{Blocked, check};
use relc_program::op::{MAX_ADDENDS, MAX_SUMS};

/// A tensor of the same image and blocks as the output; its halo may differ.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Of the layout's length.
    pub data: &'a [f32],
    /// How it lies.
    pub layout: Blocked,
}

impl<'a> Operand<'a> {
    fn row(&self, row: Row, len: usize) -> &'a [f32] {
        let start = self.layout.offset(row.block, row.y, 0);
        self.data.get(start..start + len).unwrap_or(&[])
    }
}

/// Elementwise work on an output row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// `out = relu(out + bias[c] + residual)`, of which each part may be absent.
    ///
    /// With [`Beside::joined`], `out = out + bias[c]`, and what is joined is `relu(out + residual)`.
    Activate {
        /// One value per output channel.
        bias: Option<&'a [f32]>,
        /// What is added.
        residual: Option<Operand<'a>>,
        /// Whether negative values become zero.
        relu: bool,
    },
    /// `out = relevance / (out + offset[c] + addend)` where the magnitude of what divides is above `floor`, else 0:
    /// `s = R / den` from a denominator.
    Quotient {
        /// R.
        relevance: Operand<'a>,
        /// Added to the denominator: one value per output channel.
        offset: &'a [f32],
        /// Added to the denominator: what another convolution summed.
        addend: Option<Operand<'a>>,
        /// Denominators of at most this magnitude give 0.
        floor: f32,
        /// Set to true if that loses relevance: if there is some over such a denominator.
        vanished: Option<&'a AtomicBool>,
    },
    /// `out = factor * out + addends`, each rounded: `R = a * c`, and the meeting of relevances at a fork. With
    /// [`Beside::sums`], the sums of each row are taken before an addend, or after the last.
    Product {
        /// a; none where the sums are added as they are.
        factor: Option<Operand<'a>>,
        /// What is added, in this order.
        addends: [Option<Operand<'a>>; MAX_ADDENDS],
    },
}

/// What a convolution leaves besides its output; empty unless asked for.
#[derive(Debug, Default)]
pub struct Beside<'a> {
    /// A second output of [`Epilogue::Activate`], and how it lies: like the output, but for its halo.
    pub joined: Option<(&'a mut [f32], Blocked)>,
    /// Sums of each row of [`Epilogue::Product`] before each addend and after the last, `[blocks][H]`.
    pub sums: [Option<&'a mut [Stats]>; MAX_SUMS],
    /// The sums themselves, before the epilogue: for [`finish`]. They lie like the output.
    pub kept: Option<&'a mut [f32]>,
}

/// What is left besides the output, shared among tasks that finish different rows.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    joined: Option<(*mut f32, Blocked)>,
    sums: [Option<*mut Stats>; MAX_SUMS],
    kept: Option<(*mut f32, Blocked)>,
    height: usize,
    channels: usize,
}

// SAFETY: tasks finish different rows, of which each has elements of its own; the buffers are borrowed uniquely meanwhile.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The sums of a row before an addend or after the last, if they are asked for.
    ///
    /// # Safety
    /// Nobody else accesses those of this row.
    unsafe fn sums<'r>(self, place: usize, row: Row) -> Option<&'r mut Stats> {
        let sums = self.sums.get(place).copied().flatten();
        // SAFETY: `Beside::check` has found blocks times height of them; the rest is the contract of this function.
        sums.map(|sums| unsafe { &mut *sums.add(row.block * self.height + row.y) })
    }

    /// The row of the second output.
    ///
    /// # Safety
    /// Nobody else accesses this row.
    unsafe fn joined<'r>(self, row: Row, len: usize) -> Option<&'r mut [f32]> {
        let (data, layout) = self.joined?;
        // SAFETY: the interior of a row lies in the buffer, whose length was checked; the rest is the contract.
        Some(unsafe { std::slice::from_raw_parts_mut(data.add(layout.offset(row.block, row.y, 0)), len) })
    }

    /// Keeps a row of sums, if that is asked for.
    ///
    /// # Safety
    /// Nobody else accesses what is kept of this row.
    unsafe fn keep(self, row: Row, sums: &[f32]) {
        let Some((data, layout)) = self.kept else { return };
        // SAFETY: the interior of a row lies in the buffer, whose length was checked; the rest is the contract.
        let kept = unsafe {
            std::slice::from_raw_parts_mut(data.add(layout.offset(row.block, row.y, 0)), sums.len())
        };
        kept.copy_from_slice(sums);
    }
}

impl Beside<'_> {
    /// Checks that there is room for what is left, and lets tasks share it.
    pub(crate) fn check(self, output: &Blocked) -> Result<Shared, ConvError> {
        let (height, channels) = (output.height(), output.channels());
        let mut shared = Shared { joined: None, sums: [None; MAX_SUMS], kept: None, height, channels };
        if let Some((data, layout)) = self.joined {
            fits(output, [&layout])?;
            check("the joined output", data.len(), layout.len())?;
            shared.joined = Some((data.as_mut_ptr(), layout));
        }
        if let Some(data) = self.kept {
            check("the sums to keep", data.len(), output.len())?;
            shared.kept = Some((data.as_mut_ptr(), *output));
        }
        for (sums, place) in self.sums.into_iter().zip(&mut shared.sums) {
            if let Some(sums) = sums {
                check("the sums of rows", sums.len(), output.blocks() * height)?;
                *place = Some(sums.as_mut_ptr());
            }
        }
        Ok(shared)
    }
}

/// Checks that operands which lie like this can join an output.
///
/// # Errors
/// For the first that has other channels, blocks or another image size.
pub fn fits<'a>(output: &Blocked, operands: impl IntoIterator<Item = &'a Blocked>) -> Result<(), ConvError> {
    match operands.into_iter().find(|operand| !operand.same_image(output)) {
        Some(operand) if operand.block() != output.block() => {
            Err(ConvError::Blocks { what: "an operand", got: operand.block(), expected: output.block() })
        }
        Some(operand) => {
            Err(ConvError::Image { what: "an operand", got: operand.image(), expected: output.image() })
        }
        None => Ok(()),
    }
}

/// Which row: of a slice (y) and of the blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub isa: Isa,
    /// Among those of all slices.
    pub block: usize,
    /// Among those of its slice.
    pub of_slice: usize,
    pub y: usize,
    /// Of a block.
    pub channels: usize,
}

impl<'a> Epilogue<'a> {
    /// Checks that operands fit an output.
    pub(crate) fn check(&self, output: &Blocked) -> Result<(), ConvError> {
        for operand in self.operands() {
            fits(output, [&operand.layout])?;
            check("an operand", operand.data.len(), operand.layout.len())?;
        }
        match self {
            Epilogue::Activate { bias: Some(bias), .. } => check("the bias", bias.len(), output.channels())?,
            Epilogue::Quotient { offset, .. } => check("the offset", offset.len(), output.channels())?,
            _ => {}
        }
        Ok(())
    }

    /// The tensors that it reads.
    fn operands(&self) -> impl Iterator<Item = Operand<'a>> {
        let operands = match *self {
            Epilogue::None => [None; 3],
            Epilogue::Activate { residual, .. } => [residual, None, None],
            Epilogue::Quotient { relevance, addend, .. } => [Some(relevance), addend, None],
            Epilogue::Product { factor, addends: [first, second] } => [factor, first, second],
        };
        operands.into_iter().flatten()
    }

    /// Asks for what it will read of a row of a block: that comes from beyond L2, and is there when the row is finished.
    pub(crate) fn bring(&self, [block, y]: [usize; 2]) {
        for operand in self.operands() {
            let start = operand.layout.offset(block, y, 0);
            let len = operand.layout.width() * operand.layout.block();
            bring(operand.data.get(start..start + len).unwrap_or(&[]));
        }
    }

    /// Works on a row `f32[W][V]`.
    ///
    /// # Safety
    /// Nobody else accesses what is left of this row besides the output.
    pub(crate) unsafe fn apply(&self, row: Row, out: &mut [f32], beside: Shared) {
        // SAFETY: the contract of this function.
        unsafe { beside.keep(row, out) };
        if row.channels != row.isa.width() {
            // SAFETY: plain loops need no instruction set; the contract of this function.
            return unsafe { apply::<[f32; 1]>(self, row, out, beside) };
        }
        dispatch(row.isa, Apply { epilogue: self, row, out, beside })
    }
}

/// Does to sums that were [kept](Beside::kept) what the run that kept them did: to the bit the same, but for what the
/// epilogue reads. Both lie like `layout`.
///
/// # Errors
/// If a slice is not of its length, or an operand does not fit.
pub fn finish(
    isa: Isa,
    layout: &Blocked,
    kept: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    parallel: bool,
) -> Result<(), ConvError> {
    check("the kept sums", kept.len(), layout.len())?;
    check("the output", out.len(), layout.len())?;
    epilogue.check(layout)?;
    let beside = Beside::default().check(layout)?;
    let len = layout.width() * layout.block();
    let block = |(block, (out, kept)): (usize, (&mut [f32], &[f32]))| {
        for y in 0..layout.height() {
            let start = layout.offset(0, y, 0);
            let (Some(out), Some(kept)) = (out.get_mut(start..start + len), kept.get(start..start + len))
            else {
                continue;
            };
            out.copy_from_slice(kept);
            let row =
                Row { isa, block, of_slice: block % layout.slice_blocks(), y, channels: layout.block() };
            // SAFETY: nothing is left besides the output.
            unsafe { epilogue.apply(row, out, beside) };
        }
    };
    let stride = layout.block_stride();
    if parallel {
        out.par_chunks_mut(stride).zip(kept.par_chunks(stride)).enumerate().for_each(block);
    } else {
        out.chunks_mut(stride).zip(kept.chunks(stride)).enumerate().for_each(block);
    }
    Ok(())
}

/// [`apply`] to one row, of which nobody else accesses what is left.
struct Apply<'e, 'o> {
    epilogue: &'e Epilogue<'e>,
    row: Row,
    out: &'o mut [f32],
    beside: Shared,
}

impl Work for Apply<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the contract of this function; who makes an `Apply` vouches for that of [`Epilogue::apply`].
        unsafe { apply::<S>(self.epilogue, self.row, self.out, self.beside) }
    }
}

/// Vector by vector; a row that is no multiple of the vector is cut there, and an operand that is shorter ends it.
///
/// # Safety
/// The machine has the instruction set of `S`; and the contract of [`Epilogue::apply`].
#[inline(always)]
unsafe fn apply<S: Simd>(epilogue: &Epilogue<'_>, row: Row, out: &mut [f32], beside: Shared) {
    let len = out.len();
    // SAFETY: each loop stays in the shortest of its slices; the rest is the contract of this function.
    unsafe {
        match epilogue {
            Epilogue::None => {}
            Epilogue::Activate { bias, residual, relu } => {
                let bias = bias.and_then(|bias| channels::<S>(row, bias, out));
                let biased = |out: S| bias.map_or(out, |bias| out.add(bias));
                let raised = |sum: S| if *relu { sum.max(S::zero()) } else { sum };
                let residual = residual.map(|residual| residual.row(row, len));
                if let Some(joined) = beside.joined(row, len) {
                    return join::<S>(out, residual, joined, biased, raised);
                }
                match residual {
                    Some(residual) => {
                        map::<S, 1>(out, [residual], |out, [value]| raised(biased(out).add(value)))
                    }
                    None if bias.is_some() || *relu => map::<S, 0>(out, [], |out, []| raised(biased(out))),
                    None => {}
                }
            }
            Epilogue::Quotient { relevance, offset, addend, floor, vanished } => {
                let offset = channels::<S>(row, offset, out);
                let floor = S::splat(*floor);
                let mut lost = S::zero();
                let relevance = relevance.row(row, len);
                match addend.map(|addend| addend.row(row, len)) {
                    Some(addend) => map::<S, 2>(out, [relevance, addend], |out, [relevance, addend]| {
                        divide::<S>(relevance, out.add(addend), offset, floor, &mut lost)
                    }),
                    None => map::<S, 1>(out, [relevance], |out, [relevance]| {
                        divide::<S>(relevance, out, offset, floor, &mut lost)
                    }),
                }
                if let (Some(vanished), true) = (vanished, lost.sum() > 0.0) {
                    vanished.store(true, Ordering::Relaxed);
                }
            }
            Epilogue::Product { factor, addends } => {
                let factor = factor.map(|factor| factor.row(row, len));
                let addends = addends.map(|addend| addend.map(|addend| addend.row(row, len)));
                let last = addends.iter().flatten().count();
                // The first addend in the same sweep, where nobody asks for what is between.
                let [first, rest] = match (factor, addends, beside.sums) {
                    (Some(factor), [Some(addend), rest], [None, ..]) => {
                        map::<S, 2>(out, [factor, addend], |out, [factor, addend]| {
                            out.mul(factor).add(addend)
                        });
                        [None, rest]
                    }
                    (Some(factor), addends, _) => {
                        map::<S, 1>(out, [factor], |out, [factor]| out.mul(factor));
                        addends
                    }
                    (None, addends, _) => addends,
                };
                let channels = row.channels.min(beside.channels - row.of_slice * row.channels);
                let take = |place: usize, out: &[f32]| {
                    if let Some(sums) = beside.sums(place, row) {
                        *sums = stats::of_row(row.isa, [channels, row.channels], out);
                    }
                };
                for (place, addend) in [first, rest].into_iter().enumerate() {
                    let Some(addend) = addend else { continue };
                    take(place, out);
                    map::<S, 1>(out, [addend], |out, [addend]| out.add(addend));
                }
                take(last, out);
            }
        }
    }
}

/// `relevance / (sum + offset)`, 0 where the magnitude of that is at most `floor`; `lost` becomes the largest magnitude
/// of what that loses.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn divide<S: Simd>(relevance: S, sum: S, offset: Option<S>, floor: S, lost: &mut S) -> S {
    // SAFETY: the contract of this function.
    unsafe {
        let denominator = offset.map_or(sum, |offset| sum.add(offset));
        let size = denominator.abs();
        *lost = lost.max(S::zero().where_greater(size, floor, relevance.abs()));
        relevance.div(denominator).where_greater(size, floor, S::zero())
    }
}

/// `out = f(out, operands)`, vector by vector.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn map<S: Simd, const N: usize>(
    out: &mut [f32],
    operands: [&[f32]; N],
    mut f: impl FnMut(S, [S; N]) -> S,
) {
    let len = operands.iter().fold(out.len(), |len, operand| len.min(operand.len()));
    for at in (0..len / S::WIDTH * S::WIDTH).step_by(S::WIDTH) {
        // SAFETY: the vector from `at` on lies in each slice; the instruction set is the caller's contract.
        unsafe {
            let to = out.as_mut_ptr().add(at);
            f(S::load(to), operands.map(|operand| S::load(operand.as_ptr().add(at)))).store(to);
        }
    }
}

/// `out = biased(out)` and `joined = raised(out + residual)`, vector by vector.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn join<S: Simd>(
    out: &mut [f32],
    residual: Option<&[f32]>,
    joined: &mut [f32],
    biased: impl Fn(S) -> S,
    raised: impl Fn(S) -> S,
) {
    let len = out.len().min(joined.len()).min(residual.map_or(usize::MAX, <[f32]>::len));
    for at in (0..len / S::WIDTH * S::WIDTH).step_by(S::WIDTH) {
        // SAFETY: the vector from `at` on lies in each slice; the instruction set is the caller's contract.
        unsafe {
            let own = biased(S::load(out.as_ptr().add(at)));
            own.store(out.as_mut_ptr().add(at));
            let sum = residual.map_or(own, |residual| own.add(S::load(residual.as_ptr().add(at))));
            raised(sum).store(joined.as_mut_ptr().add(at));
        }
    }
}

/// What is to be added to each vector of a row: each channel's value, 0 beyond the last. Where vectors are no pixels, it is
/// added at once, and nothing is left to add.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn channels<S: Simd>(row: Row, values: &[f32], out: &mut [f32]) -> Option<S> {
    const MOST: usize = 16;
    let channels = row.channels.min(MOST);
    let known = values.get(row.of_slice * channels..).unwrap_or(&[]);
    let mut values = [0.0; MOST];
    values.iter_mut().zip(&known[..known.len().min(channels)]).for_each(|(value, known)| *value = *known);
    if S::WIDTH == channels {
        // SAFETY: `values` has at least as many elements; the rest is the contract of this function.
        return Some(unsafe { S::load(values.as_ptr()) });
    }
    let pixels = out.chunks_exact_mut(channels);
    pixels.for_each(|pixel| pixel.iter_mut().zip(&values).for_each(|(out, value)| *out += value));
    None
}
