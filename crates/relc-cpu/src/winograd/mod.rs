//! 3x3 convolutions of stride 1 with 2.25 or 4 times fewer multiplications, in each slice of a volume.
//!
//! F(MxM, 3x3) transforms tiles of (M+2)x(M+2) inputs, multiplies them elementwise with transformed weights,
//! summed over channels by the same tile kernels, and transforms sums back to M x M outputs. A kernel over several slices
//! adds up their products before that: each slice is transformed once.
//!
//! Transforms subtract, so that an output's error is relative to the largest terms of its *tile*, not to its
//! own: a sum of zeros next to large values comes out as small noise. That is fine for activations and for
//! relevance that is measured against a map's maximum, and wrong for denominators, whose zeros decide what is
//! divided: there a [`Repair`] computes small sums again.

mod cost;
mod repair;
mod run;
mod transform;

pub use repair::{ERROR, Repair};
pub use run::{WinogradArguments, WinogradRun};

use std::ops::Range;

use relc_ir::Values;

use self::transform::{LANES, Lanes, Transforms, kernels};
use crate::buffer::filled;
use crate::conv::{ConvError, ConvPlan, Slices};
use crate::isa::Isa;
use crate::machine::{Level, Machine};
use crate::tile::{Kernel, Kind, Part, Shape, find, max_pixels};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, check};

/// The share of L2 that products of some samples may take, beside the weights and the input of a position.
const PRODUCTS_SHARE: usize = 3;
/// Tiles of a chunk: their products of one tile of channels stay in L2.
const CHUNK_TILES: usize = 56;
/// Chunks times tiles of channels to aim at, so that a few threads share them evenly.
const TASKS: usize = 16;

/// M: the size of an output tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// F(2x2, 3x3): 2.25 times fewer multiplications, weights 16/9 as large.
    Two,
    /// F(4x4, 3x3): 4 times fewer multiplications, weights 4 times as large, and errors that for a few
    /// channels are about ten times those of a plain sum (of many, sums have as much).
    Four,
}

impl Form {
    /// M.
    pub fn outputs(self) -> usize {
        match self {
            Form::Two => 2,
            Form::Four => 4,
        }
    }

    /// N = M + 2.
    fn inputs(self) -> usize {
        self.outputs() + 2
    }
}

/// How one convolution is computed by Winograd's algorithm.
#[derive(Clone, Debug)]
pub struct WinogradPlan {
    spec: ConvSpec,
    direction: Direction,
    isa: Isa,
    form: Form,
    input: Blocked,
    output: Blocked,
    /// Of the kernel's first row and column from an output pixel, in the input: y, x.
    shift: [i64; 2],
    /// Output tiles: rows, columns.
    tiles: [usize; 2],
    /// Output blocks of each tile of channels.
    channels: Vec<Range<usize>>,
    /// Where the weights of each tile of channels start.
    weights: Vec<usize>,
    weights_len: usize,
    /// Rows of tiles of each task.
    chunk_rows: usize,
    /// Whether the weights exceed what stays in cache.
    streamed: bool,
    /// How many samples share a reading of the weights: as many as have their products in cache.
    together: usize,
    slices: Slices,
    /// What each variant of slices sums, in order.
    runs: Vec<Vec<Run>>,
    /// Offsets of blocks in the transformed input.
    taps: Vec<u32>,
    transforms: Transforms,
}

/// Kernel positions from slice to slice that follow one another: their weights lie side by side.
#[derive(Clone, Debug)]
struct Run {
    /// The first.
    k: usize,
    /// The blocks of the slices that they meet.
    taps: Range<usize>,
}

/// The transformed weights of one [`WinogradPlan`], of one part.
#[derive(Clone, Debug)]
pub struct WinogradWeights {
    data: Values,
}

impl WinogradWeights {
    /// The elements, shared.
    pub(crate) fn values(&self) -> &Values {
        &self.data
    }
}

impl WinogradPlan {
    /// Whether there is a plan: in each slice kernel 3x3, stride and dilation 1; one group.
    pub fn supports(spec: &ConvSpec) -> bool {
        spec.kernel[1..] == [3; 2]
            && spec.stride[1..] == [1; 2]
            && spec.dilation[1..] == [1; 2]
            && spec.groups == 1
    }

    /// The plan for a convolution in either direction; layouts as for [`ConvPlan`], none of them narrow. None
    /// if
    /// [`WinogradPlan::supports`] says so, or there are more elements than offsets can say.
    ///
    /// # Errors
    /// As of [`ConvPlan::forward`].
    pub fn new(
        spec: &ConvSpec,
        direction: Direction,
        machine: &Machine,
        form: Form,
        input: &Blocked,
        output: &Blocked,
    ) -> Result<Option<WinogradPlan>, ConvError> {
        // What a direct convolution requires of layouts and machine is what this does.
        let direct = ConvPlan::new(spec, direction, machine, input, output)?;
        let isa = machine.isa;
        let width = isa.width();
        if !WinogradPlan::supports(spec) || input.block() != width || output.block() != width {
            return Ok(None);
        }
        let (m, n) = (form.outputs(), form.inputs());
        let tiles = [output.height().div_ceil(m), output.width().div_ceil(m)];
        let block_stride = tiles[0] * tiles[1] * width;
        let (blocks, depth) = (output.slice_blocks(), spec.kernel[0]);
        let channels: Vec<Range<usize>> =
            (0..blocks).step_by(2).map(|first| first..(first + 2).min(blocks)).collect();
        let block_weights = depth * n * n * input.slice_blocks() * width * width;
        let weights: Vec<usize> = channels.iter().map(|blocks| blocks.start * block_weights).collect();
        let Some(weights_len) = block_weights.checked_mul(blocks) else { return Ok(None) };
        let scratch = input.blocks().checked_mul(block_stride).and_then(|len| len.checked_mul(n * n + 1));
        if scratch.is_none_or(|len| len > Blocked::MAX_LEN) {
            return Ok(None);
        }
        let [top, left] = [spec.pads[1] as i64, spec.pads[2] as i64];
        let slices = direct.slices().clone();
        let mut taps = Vec::new();
        let mut blocks_of = |variant: usize, run: Range<usize>| {
            let start = taps.len();
            for tap in &slices.variants[variant][run] {
                let first = tap.slice * input.slice_blocks();
                let blocks = first..first + input.slice_blocks();
                taps.extend(blocks.map(|block| (block * block_stride) as u32));
            }
            start..taps.len()
        };
        let variants = 0..slices.variants.len();
        let runs = variants.map(|variant| {
            let runs = slices.runs(variant).into_iter();
            runs.map(|run| Run { k: slices.variants[variant][run.start].k, taps: blocks_of(variant, run) })
                .collect()
        });
        let runs: Vec<Vec<Run>> = runs.collect();
        let chunk_rows = chunk_rows(tiles, slices.outputs.len() * channels.len());
        let streamed = machine.level_of(weights_len.saturating_mul(size_of::<f32>())) > Level::L2;
        let [_, l2, _] = machine.caches;
        let products = n * n * blocks.min(2) * chunk_rows * tiles[1] * width * size_of::<f32>();
        let together = if streamed { (l2 / PRODUCTS_SHARE / products).max(1) } else { 1 };
        Ok(Some(WinogradPlan {
            spec: *spec,
            direction,
            isa,
            form,
            input: *input,
            output: *output,
            shift: match direction {
                Direction::Forward => [-top, -left],
                Direction::Transposed => [top - 2, left - 2],
            },
            tiles,
            chunk_rows,
            streamed,
            together,
            channels,
            weights,
            weights_len,
            slices,
            runs,
            taps,
            transforms: Transforms::new(isa, m),
        }))
    }

    /// Elements of the scratch memory that a pass needs: the transformed input, and a sum for each tile.
    pub fn scratch_len(&self) -> usize {
        self.positions() * self.position_stride() + self.input.depth() * self.tiles[0] * self.tiles[1]
    }

    /// Elements of the transformed weights.
    pub fn packed_len(&self) -> usize {
        self.weights_len
    }

    /// Elements of an input buffer.
    pub fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Elements of an output buffer.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// N * N.
    fn positions(&self) -> usize {
        self.form.inputs() * self.form.inputs()
    }

    /// From a position of the transformed input to the next.
    fn position_stride(&self) -> usize {
        self.input.blocks() * self.tiles[0] * self.tiles[1] * self.isa.width()
    }

    /// The kernel of some tiles by some blocks: there is one up to [`WinogradPlan::most`] tiles and 2 blocks.
    fn kernel(&self, pixels: usize, blocks: usize) -> Option<&'static Kernel> {
        find(Shape { kind: Kind::Tile, isa: self.isa, rows: 1, pixels, blocks })
    }

    /// The most tiles of a kernel of some blocks.
    fn most(&self, blocks: usize) -> usize {
        max_pixels(self.isa, Kind::Tile, blocks)
    }

    /// Transforms weights `f32[M,C,kD,3,3]` of one part, `G g G^T`, in f64, and packs them: for each tile of output channels
    /// `[position][kD][block][lane][OB][V]`.
    ///
    /// # Errors
    /// If `weights` has another length.
    pub fn pack(&self, weights: &[f32], part: Part) -> Result<WinogradWeights, ConvError> {
        let expected = self.spec.weights_len().ok_or(ConvError::TooLarge { spec: Box::new(self.spec) })?;
        check("weights", weights.len(), expected)?;
        let block = self.weights_len / self.output.slice_blocks();
        let parts = self.channels.iter().map(|blocks| (block * blocks.len(), blocks.clone()));
        let fill = |blocks, panel: &mut [f32]| self.pack_panel(blocks, panel, weights, part);
        Ok(WinogradWeights { data: filled(self.weights_len, parts, fill) })
    }

    /// Weights that [`pack`](Self::pack) packed at another time.
    ///
    /// # Errors
    /// If there are more or fewer than that gives.
    pub fn adopt(&self, packed: Values) -> Result<WinogradWeights, ConvError> {
        check("packed weights", packed.len(), self.weights_len)?;
        Ok(WinogradWeights { data: packed })
    }

    fn pack_panel(&self, blocks: Range<usize>, panel: &mut [f32], weights: &[f32], part: Part) {
        let width = self.isa.width();
        let n = self.form.inputs();
        let position_len = panel.len() / self.positions();
        let depth = self.spec.kernel[0];
        for (reduced, k) in (0..self.input.channels()).flat_map(|c| (0..depth).map(move |k| (c, k))) {
            for (row, block) in blocks.clone().enumerate() {
                let lanes = block * width..((block + 1) * width).min(self.output.channels());
                let transformed = kernels(n, self.kernels_of([reduced, k], lanes.clone(), weights, part));
                let place = k * self.input.slice_blocks() * width + reduced;
                let offset = (place * blocks.len() + row) * width;
                for (i, row) in transformed.iter().enumerate().take(n) {
                    for (j, values) in row.iter().enumerate().take(n) {
                        let start = (i * n + j) * position_len + offset;
                        for (packed, value) in panel[start..][..lanes.len()].iter_mut().zip(values) {
                            *packed = *value as f32;
                        }
                    }
                }
            }
        }
    }

    /// The 3x3 kernels between two channels, one for each slice, as the layer has them.
    fn kernel_of<'a>(&self, reduced: usize, produced: usize, weights: &'a [f32]) -> &'a [f32] {
        let len = 9 * self.spec.kernel[0];
        let index = match self.direction {
            Direction::Forward => produced * self.spec.channels_in + reduced,
            Direction::Transposed => reduced * self.spec.channels_in + produced,
        };
        &weights[len * index..][..len]
    }

    /// The 3x3 kernels between an input channel and the output channels of a block at position k of a kernel from slice to
    /// slice, in the order of input rows and columns.
    fn kernels_of(
        &self,
        [reduced, k]: [usize; 2],
        lanes: Range<usize>,
        weights: &[f32],
        part: Part,
    ) -> [[Lanes; 3]; 3] {
        let mut kernels = [[[0.0; LANES]; 3]; 3];
        for (lane, produced) in lanes.enumerate() {
            let kernel = self.kernel_of(reduced, produced, weights)[9 * k..][..9].iter();
            for (place, &weight) in kernel.enumerate() {
                let place = match self.direction {
                    Direction::Forward => place,
                    Direction::Transposed => 8 - place,
                };
                kernels[place / 3][place % 3][lane] = f64::from(part.of(weight));
            }
        }
        kernels
    }
}

/// Rows of tiles of a task: as many as keep its products in L2, but few enough that there are [`TASKS`].
fn chunk_rows([rows, columns]: [usize; 2], channels: usize) -> usize {
    let cached = CHUNK_TILES / columns;
    let shared = (rows * channels).div_ceil(TASKS);
    // Fewer tiles than a kernel takes at once would read the weights more often.
    let filled = 14_usize.div_ceil(columns);
    cached.min(shared.max(filled)).clamp(1, rows)
}
