//! A plan as data, for code that calls the kernels itself.

use std::ops::Range;

use super::ConvPlan;
use crate::tile::Shape;

/// One kernel and the rows for which it is called: `for row in 0..rows`, with `input + row * in_row_stride`
/// and
/// `out + row * out_row_stride`. Offsets and strides are in elements of f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCalls {
    /// The kernel; its name is [`Shape::symbol`] of the part of the weights.
    pub shape: Shape,
    /// The tile of output channels, from 0 on: different tiles write different blocks.
    pub tile: usize,
    /// Rows.
    pub rows: usize,
    /// Of the first row's input in the input buffer.
    pub input: usize,
    /// From a row's input to the next one's.
    pub in_row_stride: usize,
    /// In the packed weights.
    pub weights: usize,
    /// Of the first row's output in the output buffer.
    pub out: usize,
    /// From a row's output to the next one's.
    pub out_row_stride: usize,
    /// In [`ConvPlan::taps`].
    pub taps: Range<usize>,
    /// Input channels of a tap.
    pub lanes: u32,
    /// From a pixel's input to the next one's.
    pub in_pixel_stride: u32,
    /// From a pixel's output to the next one's.
    pub out_pixel_stride: u32,
    /// From a block's output to the next one's.
    pub out_block_stride: u32,
}

impl ConvPlan {
    /// All calls that compute one sample, none of which accumulates: by tiles of channels, then by what is
    /// left of a row. Each output vector of the interior is written by one of them, once.
    pub fn calls(&self) -> impl Iterator<Item = KernelCalls> {
        let [in_step, _] = self.in_steps();
        let [out_step, _] = self.out_steps();
        let panels = self.panels.iter().enumerate();
        let panels =
            panels.flat_map(|(tile, panels)| self.phases.iter().zip(panels).map(move |pair| (tile, pair)));
        panels.flat_map(move |(tile, (phase, panel))| {
            let args = self.args(panel);
            panel.segments.iter().map(move |segment| KernelCalls {
                shape: segment.kernel.shape,
                tile,
                rows: phase.rows,
                input: self.input_offset(0, segment.first),
                in_row_stride: in_step * self.input.row_stride(),
                weights: panel.weights,
                out: self.output_offset(tile, phase, 0, segment.first),
                out_row_stride: out_step * self.output.row_stride(),
                taps: panel.taps.clone(),
                lanes: args.lanes,
                in_pixel_stride: args.in_pixel_stride,
                out_pixel_stride: args.out_pixel_stride,
                out_block_stride: args.out_block_stride,
            })
        })
    }

    /// The offsets of all taps; calls use ranges of them.
    pub fn taps(&self) -> &[u32] {
        &self.taps
    }
}
