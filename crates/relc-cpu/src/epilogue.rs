//! What is done with a finished row of a convolution, while it is in L1.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::conv::{ConvError, image};
use crate::isa::Isa;
use crate::tile::simd::Simd;
use relc_program::layout::{Blocked, check};

/// A tensor of the same channels, block and image size as the output; its halo may differ.
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
    Activate {
        /// One value per output channel.
        bias: Option<&'a [f32]>,
        /// What is added.
        residual: Option<Operand<'a>>,
        /// Whether negative values become zero.
        relu: bool,
    },
    /// `out = relevance / (out + offset[c])` where `|out + offset[c]| > floor`, else 0: `s = R / den` from a
    /// denominator.
    Quotient {
        /// R.
        relevance: Operand<'a>,
        /// Added to the denominator: one value per output channel.
        offset: &'a [f32],
        /// Denominators of at most this magnitude give 0.
        floor: f32,
        /// Set to true if that loses relevance: if there is some over such a denominator.
        vanished: Option<&'a AtomicBool>,
    },
    /// `out = factor * out + addend`: `R = a * c`, and the meeting of relevances at a fork.
    Product {
        /// a.
        factor: Operand<'a>,
        /// What is added.
        addend: Option<Operand<'a>>,
    },
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
            Err(ConvError::Image { what: "an operand", got: image(operand), expected: image(output) })
        }
        None => Ok(()),
    }
}

/// Which row: of the image (y) and of the blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub isa: Isa,
    pub block: usize,
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
            Epilogue::None => [None, None],
            Epilogue::Activate { residual, .. } => [residual, None],
            Epilogue::Quotient { relevance, .. } => [Some(relevance), None],
            Epilogue::Product { factor, addend } => [Some(factor), addend],
        };
        operands.into_iter().flatten()
    }

    /// Works on a row `f32[W][V]`.
    pub(crate) fn apply(&self, row: Row, out: &mut [f32]) {
        if row.channels != row.isa.width() {
            // SAFETY: plain loops need no instruction set.
            return unsafe { apply::<[f32; 1]>(self, row, out) };
        }
        match row.isa {
            // SAFETY: a plan exists only for instruction sets that the machine has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { apply_avx512(self, row, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { apply_avx2(self, row, out) },
            // SAFETY: arrays need no instruction set.
            _ => unsafe { apply::<[f32; 8]>(self, row, out) },
        }
    }
}

/// [`apply`] with wide registers.
///
/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn apply_avx512(epilogue: &Epilogue<'_>, row: Row, out: &mut [f32]) {
    // SAFETY: the contract of this function.
    unsafe { apply::<std::arch::x86_64::__m512>(epilogue, row, out) }
}

/// [`apply`] with wide registers.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn apply_avx2(epilogue: &Epilogue<'_>, row: Row, out: &mut [f32]) {
    // SAFETY: the contract of this function.
    unsafe { apply::<std::arch::x86_64::__m256>(epilogue, row, out) }
}

/// Vector by vector; a row that is no multiple of the vector is cut there, and an operand that is shorter ends it.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn apply<S: Simd>(epilogue: &Epilogue<'_>, row: Row, out: &mut [f32]) {
    let len = out.len();
    // SAFETY: each loop stays in the shortest of its slices; the rest is the contract of this function.
    unsafe {
        match epilogue {
            Epilogue::None => {}
            Epilogue::Activate { bias, residual, relu } => {
                if let Some(bias) = bias {
                    add_channels::<S>(row, bias, out);
                }
                if let Some(residual) = residual {
                    map::<S, 1>(out, [residual.row(row, len)], |out, [value]| out.add(value));
                }
                if *relu {
                    map::<S, 0>(out, [], |out, []| out.max(S::zero()));
                }
            }
            Epilogue::Quotient { relevance, offset, floor, vanished } => {
                add_channels::<S>(row, offset, out);
                let floor = S::splat(*floor);
                let mut lost = S::zero();
                map::<S, 1>(out, [relevance.row(row, len)], |denominator, [relevance]| {
                    let size = denominator.abs();
                    lost = lost.max(S::zero().where_greater(size, floor, relevance.abs()));
                    relevance.div(denominator).where_greater(size, floor, S::zero())
                });
                if let (Some(vanished), true) = (vanished, lost.sum() > 0.0) {
                    vanished.store(true, Ordering::Relaxed);
                }
            }
            Epilogue::Product { factor, addend: None } => {
                map::<S, 1>(out, [factor.row(row, len)], |out, [factor]| out.mul(factor));
            }
            Epilogue::Product { factor, addend: Some(addend) } => {
                let operands = [factor.row(row, len), addend.row(row, len)];
                map::<S, 2>(out, operands, |out, [factor, addend]| out.mul_add(factor, addend));
            }
        }
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

/// Adds each channel's value; channels beyond the last get none.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn add_channels<S: Simd>(row: Row, values: &[f32], out: &mut [f32]) {
    const MOST: usize = 16;
    let channels = row.channels.min(MOST);
    let known = values.get(row.block * channels..).unwrap_or(&[]);
    let mut values = [0.0; MOST];
    values.iter_mut().zip(&known[..known.len().min(channels)]).for_each(|(value, known)| *value = *known);
    if S::WIDTH == channels {
        // SAFETY: `values` has at least as many elements; the rest is the contract of this function.
        unsafe {
            let values = S::load(values.as_ptr());
            map::<S, 0>(out, [], |out, []| out.add(values));
        }
    } else {
        let pixels = out.chunks_exact_mut(channels);
        pixels.for_each(|pixel| pixel.iter_mut().zip(&values).for_each(|(out, value)| *out += value));
    }
}
