//! Convolution as matrix products over unfolded patches.
//!
//! For one sample and group, with `K = C/group * kH * kW` and `P = H' * W'`: `Y[M/group,P] = W[M/group,K] U[K,P]`,
//! where column `p` of `U` holds the patch under window `p`, zero where it reaches into the padding. The transposed
//! convolution is `fold(W^T S)`. Work is cut into tiles of fixed size, so the order of every sum is fixed.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use relc_ir::op::{Conv, MAX_SPATIAL};

use crate::element::Element;
use crate::layer::{Layer, columns, matrix, matrix_mut, rows};
use crate::span::{Span, valid_taps};

/// Output channels in a tile of the forward product.
const TILE_ROWS: usize = 128;
/// Output pixels in a tile, about: whole output rows.
const TILE_COLUMNS: usize = 1024;
/// Input channels in a tile of the transposed product.
const TILE_CHANNELS: usize = 32;

/// A convolution of `f32[C,..]` to `f32[M,..]`, of one to three spatial axes.
pub(crate) struct ConvLayer<'a, T: Clone> {
    /// Depth, vertical and horizontal axis.
    spans: [Span; MAX_SPATIAL],
    /// Input and output channels of one group.
    channels: [usize; 2],
    /// Forms of the weight, each `f32[M,C/group,k..]`.
    weights: Vec<Cow<'a, [T]>>,
    fan_in: Vec<usize>,
}

/// A tile of the output: a group, rows of its matrix, output rows, and the place.
struct Tile<'a, T> {
    group: usize,
    rows: Range<usize>,
    lines: Range<usize>,
    out: ArrayViewMut2<'a, T>,
}

impl<'a, T: Element> ConvLayer<'a, T> {
    /// A convolution from the shapes `[N,C,..]` and `[N,M,..]` of its input and output.
    pub fn new(conv: &Conv, input: &[usize], output: &[usize], weights: Vec<Cow<'a, [T]>>) -> Self {
        let spans = Span::of(&conv.window, &input[2..], &output[2..]);
        let channels = [input[1] / conv.group, output[1] / conv.group];
        let fan_in = valid_taps(&spans).into_iter().map(|taps| taps * channels[0]).collect();
        ConvLayer { spans, channels, weights, fan_in }
    }

    fn taps(&self) -> usize {
        self.spans.iter().map(|span| span.kernel).product()
    }

    /// Pixels of the input and of the output.
    fn pixels(&self) -> [usize; 2] {
        let product = |of: fn(&Span) -> usize| self.spans.iter().map(of).product();
        [product(|span| span.size), product(|span| span.windows)]
    }

    fn is_pointwise(&self) -> bool {
        self.spans.iter().all(Span::is_pointwise)
    }

    /// Output rows, those of all slices one after another.
    fn lines(&self) -> usize {
        let [z, y, _] = &self.spans;
        z.windows * y.windows
    }

    /// The output rows, cut into stripes of about [`TILE_COLUMNS`] pixels.
    fn stripes(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let ([.., x], all) = (self.spans, self.lines());
        let lines = (TILE_COLUMNS / x.windows).max(1);
        (0..all).step_by(lines).map(move |begin| begin..(begin + lines).min(all))
    }

    /// The matrix `[M/group, K]` of a group's weights.
    fn weight(&self, form: usize, group: usize) -> ArrayView2<'_, T> {
        let (rows, columns) = (self.channels[1], self.channels[0] * self.taps());
        matrix(rows, columns, &self.weights[form][group * rows * columns..][..rows * columns])
    }

    /// Visits each tap's valid output rows: `(tap, output row, input row)`, the horizontal range following from the
    /// tap.
    fn visit(&self, tap: usize, lines: &Range<usize>, mut f: impl FnMut(usize, usize, Range<usize>, usize)) {
        let [z, y, x] = &self.spans;
        let (tap_z, tap_y, tap_x) = (tap / x.kernel / y.kernel, tap / x.kernel % y.kernel, tap % x.kernel);
        let columns = x.windows_of(tap_x);
        if columns.is_empty() {
            return;
        }
        let first = x.position(columns.start, tap_x);
        let (slices, rows) = (z.windows_of(tap_z), y.windows_of(tap_y));
        // The slices that the lines are of.
        let (begin, end) = (lines.start / y.windows, lines.end.div_ceil(y.windows));
        for slice in slices.start.max(begin)..slices.end.min(end) {
            let above = slice * y.windows;
            let (begin, end) = (lines.start.saturating_sub(above), lines.end - above);
            for row in rows.start.max(begin)..rows.end.min(end) {
                let line_in = z.position(slice, tap_z) * y.size + y.position(row, tap_y);
                f(above + row, line_in, columns.clone(), first);
            }
        }
    }

    /// The patches under the windows of some output rows, one per column: `[K, lines * W']`.
    fn unfold(&self, x: &[T], lines: &Range<usize>) -> Array2<T> {
        let [pixels, _] = self.pixels();
        let (width_in, width_out) = (self.spans[2].size, self.spans[2].windows);
        let (taps, stride) = (self.taps(), self.spans[2].stride);
        let mut patches = Array2::zeros((self.channels[0] * taps, lines.len() * width_out));
        for (row, mut patch) in patches.outer_iter_mut().enumerate() {
            let plane = &x[row / taps * pixels..][..pixels];
            let Some(patch) = patch.as_slice_mut() else { continue };
            self.visit(row % taps, lines, |line, line_in, columns, first| {
                let to = &mut patch[(line - lines.start) * width_out..][columns];
                let from = &plane[line_in * width_in + first..(line_in + 1) * width_in];
                if stride == 1 {
                    to.copy_from_slice(&from[..to.len()]);
                } else {
                    to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
                }
            });
        }
        patches
    }

    /// Adds patches back to where [`unfold`](Self::unfold) took them from.
    fn fold(&self, patches: &ArrayView2<'_, T>, lines: &Range<usize>, out: &mut [T]) {
        let [pixels, _] = self.pixels();
        let (width_in, width_out) = (self.spans[2].size, self.spans[2].windows);
        let (taps, stride) = (self.taps(), self.spans[2].stride);
        for (row, patch) in patches.outer_iter().enumerate() {
            let plane = &mut out[row / taps * pixels..][..pixels];
            let Some(patch) = patch.to_slice() else { continue };
            self.visit(row % taps, lines, |line, line_in, columns, first| {
                let from = &patch[(line - lines.start) * width_out..][columns];
                let to = &mut plane[line_in * width_in + first..(line_in + 1) * width_in];
                if stride == 1 {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
                } else {
                    to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += *from);
                }
            });
        }
    }

    /// Cuts the output `[M, P]` into tiles.
    fn tiles<'o>(&self, out: &'o mut [T]) -> Vec<Tile<'o, T>> {
        let ([_, pixels], rows, width) = (self.pixels(), self.channels[1], self.spans[2].windows);
        let mut tiles = Vec::new();
        for (group, part) in out.chunks_exact_mut(rows * pixels).enumerate() {
            for (block, part) in part.chunks_mut(TILE_ROWS * pixels).enumerate() {
                let begin = block * TILE_ROWS;
                let end = (begin + TILE_ROWS).min(rows);
                let mut rest = matrix_mut(end - begin, pixels, part);
                for lines in self.stripes() {
                    let (out, behind) = rest.split_at(Axis(1), lines.len() * width);
                    tiles.push(Tile { group, rows: begin..end, lines, out });
                    rest = behind;
                }
            }
        }
        tiles
    }
}

impl<T: Element> Layer<T> for ConvLayer<'_, T> {
    fn apply(&self, form: usize, x: &[T], out: &mut [T]) {
        let ([pixels, _], width, channels) = (self.pixels(), self.spans[2].windows, self.channels[0]);
        self.tiles(out).into_par_iter().for_each(|mut tile| {
            let input = &x[tile.group * channels * pixels..][..channels * pixels];
            let weight = rows(self.weight(form, tile.group), tile.rows);
            if self.is_pointwise() {
                let patches = matrix(channels, pixels, input);
                let patches = columns(patches, tile.lines.start * width..tile.lines.end * width);
                general_mat_mul(T::one(), &weight, &patches, T::one(), &mut tile.out);
            } else {
                let patches = self.unfold(input, &tile.lines);
                general_mat_mul(T::one(), &weight, &patches, T::one(), &mut tile.out);
            }
        });
    }

    fn transpose(&self, form: usize, s: &[T], out: &mut [T]) {
        let ([pixels, windows], width, taps) = (self.pixels(), self.spans[2].windows, self.taps());
        let [inputs, outputs] = self.channels;
        let tiles: Vec<(usize, usize, &mut [T])> = out
            .chunks_exact_mut(inputs * pixels)
            .enumerate()
            .flat_map(|(group, part)| {
                let blocks = part.chunks_mut(TILE_CHANNELS * pixels).enumerate();
                blocks.map(move |(block, part)| (group, block * TILE_CHANNELS, part))
            })
            .collect();
        tiles.into_par_iter().for_each(|(group, begin, out)| {
            let channels = out.len() / pixels;
            let weight = columns(self.weight(form, group), begin * taps..(begin + channels) * taps);
            let s = matrix(outputs, windows, &s[group * outputs * windows..][..outputs * windows]);
            if self.is_pointwise() {
                let mut out = matrix_mut(channels, pixels, out);
                general_mat_mul(T::one(), &weight.t(), &s, T::one(), &mut out);
                return;
            }
            for lines in self.stripes() {
                let s = columns(s, lines.start * width..lines.end * width);
                let mut patches = Array2::zeros((channels * taps, lines.len() * width));
                general_mat_mul(T::one(), &weight.t(), &s, T::zero(), &mut patches);
                self.fold(&patches.view(), &lines, out);
            }
        });
    }

    fn fan_in(&self) -> &[usize] {
        &self.fan_in
    }

    fn spread(&self, share: &[T], out: &mut [T]) {
        let ([pixels, windows], [inputs, outputs]) = (self.pixels(), self.channels);
        let lines = 0..self.lines();
        let groups = out.chunks_exact_mut(inputs * pixels).zip(share.chunks_exact(outputs * windows));
        for (out, share) in groups {
            let mut sum = vec![T::zero(); windows];
            for plane in share.chunks_exact(windows) {
                sum.iter_mut().zip(plane).for_each(|(sum, share)| *sum += *share);
            }
            let mut plane = vec![T::zero(); pixels];
            // One patch row per tap, all alike: the weights are one.
            let patches = matrix(1, windows, &sum);
            let patches = patches.broadcast((self.taps(), windows));
            if let Some(patches) = patches {
                self.fold(&patches, &lines, &mut plane);
            }
            for out in out.chunks_exact_mut(pixels) {
                out.iter_mut().zip(&plane).for_each(|(out, share)| *out += *share);
            }
        }
    }
}
