//! Linear layers: what convolution each is, and how that is computed.

use std::sync::Arc;

use relc_ir::op::{AveragePool, Conv, Gemm, LinearLayer, Window};
use relc_ir::{NodeId, Op, ValueId};
use relc_runtime::conv::{ConvError, ConvPlan, ConvSpec, Direction};
use relc_runtime::layout::{Blocked, Halo};
use relc_runtime::tile::Part;
use relc_runtime::winograd::{Form as WinogradForm, Repair, WinogradPlan};

use super::{Builder, Packed};
use crate::error::EngineError;
use crate::image::image;
use crate::step::{Action, Algorithm, BufferId, ConvStep, Finish};

/// Channels from which on Winograd's algorithm saves more than its transforms cost.
const WINOGRAD_CHANNELS: usize = 32;

/// A linear layer as a convolution.
pub(super) struct Layer {
    pub spec: ConvSpec,
    pub window: Window,
    /// A fully connected weight `f32[K,M]`, to be transposed to `f32[M,K]`.
    transposed: Option<[usize; 2]>,
    /// The one weight of an average pool.
    constant: Option<f32>,
    /// The pixels of the picture, if the layer is the mean over it: that is no matter for convolutions, whose cost
    /// would grow with the square of them.
    pub plane: Option<usize>,
}

impl Layer {
    fn conv(x: [usize; 3], m: usize, conv: &Conv) -> Layer {
        let w = conv.window;
        let spec = ConvSpec {
            channels_in: x[0],
            channels_out: m,
            groups: conv.group,
            kernel: w.kernel,
            stride: w.strides,
            dilation: w.dilations,
            pads: w.pads,
        };
        Layer { spec, window: w, transposed: None, constant: None, plane: None }
    }

    /// The weights as `f32[M,C/groups,kH,kW]`.
    pub fn oriented(&self, weights: &[f32]) -> Vec<f32> {
        match self.transposed {
            None => weights.to_vec(),
            Some([k, m]) => (0..m * k).map(|i| weights[i % k * m + i / k]).collect(),
        }
    }
}

/// A weight as a convolution uses it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighted {
    pub direction: Direction,
    pub part: Part,
    /// Which; none for weights that no value of the graph holds.
    pub weight: Option<ValueId>,
    /// What becomes of the sums.
    pub purpose: Purpose,
}

/// What becomes of the sums of a convolution: how exact they have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are measured against the largest of them.
    Plain,
    /// Something is divided by them, so each has to be exact to a fraction of itself.
    Divisor {
        /// Whether no product is negative: neither an input nor a weight of the part is.
        non_negative: bool,
    },
    /// Something is divided by them, and nothing bounds how small they may be: they are summed plainly.
    Exact,
}

impl Builder<'_> {
    pub(super) fn conv_error(&self, node: NodeId, source: ConvError) -> EngineError {
        EngineError::Conv { node: self.graph.describe(node), source: Box::new(source) }
    }

    /// The layer of a forward convolution or fully connected node.
    pub(super) fn layer_of(&self, node: NodeId) -> Result<Layer, EngineError> {
        let layer = match &self.graph.node(node).op {
            Op::Conv(conv) => LinearLayer::Conv(*conv),
            Op::Gemm(gemm) => LinearLayer::Gemm(*gemm),
            _ => return Err(self.unsupported(node, "it is no linear layer")),
        };
        let operands = self.graph.operands(node);
        let layer = self.layer_with(node, &layer, operands[0], operands.get(1).copied())?;
        layer.ok_or_else(|| self.unsupported(node, "it is no linear layer"))
    }

    /// The layer of a relevance node; none if it is no convolution.
    pub(super) fn layer(&self, node: NodeId, layer: &LinearLayer) -> Result<Option<Layer>, EngineError> {
        let operands = self.graph.operands(node);
        self.layer_with(node, layer, operands[1], operands.get(2).copied())
    }

    fn layer_with(
        &self,
        node: NodeId,
        layer: &LinearLayer,
        x: ValueId,
        weight: Option<ValueId>,
    ) -> Result<Option<Layer>, EngineError> {
        let x = image(self.graph.ty(x));
        let dims = weight.and_then(|w| self.graph.ty(w).fixed_dims()).unwrap_or_default();
        Ok(match layer {
            LinearLayer::Conv(conv) => Some(Layer::conv(x, dims.first().copied().unwrap_or(0), conv)),
            LinearLayer::Gemm(Gemm { trans_b, .. }) => {
                let [rows, columns] = dims[..] else {
                    return Err(self.unsupported(node, "its weight is no matrix"));
                };
                let (m, transposed) = if *trans_b { (rows, None) } else { (columns, Some([rows, columns])) };
                let window = Window::new([1, 1], [1, 1]);
                Some(Layer { spec: ConvSpec::gemm(x[0], m), window, transposed, constant: None, plane: None })
            }
            LinearLayer::AveragePool(AveragePool { window, count_include_pad }) => {
                // Windows that count their taps differently are no convolution.
                let uniform = (window.pads == [0; 4] || *count_include_pad) && !window.ceil;
                uniform.then(|| pool_layer(x, *window))
            }
            LinearLayer::GlobalAveragePool => Some(pool_layer(x, Window::new([x[1], x[2]], [1, 1]))),
        })
    }

    pub(super) fn layer_weights(&self, node: NodeId, layer: &Layer) -> Result<Vec<f32>, EngineError> {
        if let Some(constant) = layer.constant {
            // All taps over a whole picture have one.
            let count = if layer.plane.is_some() { Some(1) } else { layer.spec.weights_len() };
            return Ok(vec![constant; count.unwrap_or(0)]);
        }
        let weight = self.graph.operands(node).get(2).copied();
        let weight = weight.ok_or_else(|| self.unsupported(node, "it has no weight"))?;
        Ok(layer.oriented(&self.weight(node, weight)?))
    }

    /// A convolution of one buffer into another.
    pub(super) fn convolve(
        &mut self,
        node: NodeId,
        spec: &ConvSpec,
        weighted: Weighted,
        weights: &[f32],
        buffers: [BufferId; 2],
        finish: Finish,
    ) -> Result<(), EngineError> {
        let describe = self.graph.describe(node);
        let error = |source| EngineError::Conv { node: describe.clone(), source };
        let [from, to] = buffers.map(|id| self.layouts[id]);
        let plan = match weighted.direction {
            Direction::Forward => ConvPlan::forward(spec, self.isa, &from, &to),
            Direction::Transposed => ConvPlan::transposed(spec, self.isa, &from, &to),
        };
        let plan = plan.map_err(|e| error(Box::new(e)))?;
        let flops = plan.flops();
        let algorithm = match self.winograd(spec, weighted, [from, to]).map_err(error)? {
            Some(winograd) => self.transformed(winograd, plan, weighted, weights).map_err(error)?,
            None => {
                let (plan, weights) = self.packed(plan, weighted, weights).map_err(error)?;
                Algorithm::Direct { plan, weights, part: weighted.part }
            }
        };
        let [input, output] = buffers;
        self.push(Action::Conv(Box::new(ConvStep { algorithm, flops, input, output, finish })));
        Ok(())
    }

    /// A direct plan with its weights, which are packed once for all plans that pack alike.
    fn packed(
        &mut self,
        plan: ConvPlan,
        weighted: Weighted,
        weights: &[f32],
    ) -> Result<Packed, Box<ConvError>> {
        let known = weighted.weight.and_then(|w| self.packed.get(&w)).into_iter().flatten();
        let known =
            known.filter(|(other, _)| other.packs_like(&plan)).map(|(_, packed)| packed.clone()).next();
        let packed = match known {
            Some(packed) => packed,
            None => Arc::new(plan.pack(weights)?),
        };
        let plan = Arc::new(plan);
        if let Some(weight) = weighted.weight {
            self.packed.entry(weight).or_default().push((plan.clone(), packed.clone()));
        }
        Ok((plan, packed))
    }

    /// The plan of Winograd's algorithm, where it is faster and exact enough: sums without cancellation that something is
    /// divided by need a repair of small values.
    fn winograd(
        &self,
        spec: &ConvSpec,
        weighted: Weighted,
        [from, to]: [Blocked; 2],
    ) -> Result<Option<WinogradPlan>, Box<ConvError>> {
        let wide =
            from.channels().min(to.channels()) >= WINOGRAD_CHANNELS && from.block().min(to.block()) >= 4;
        let best = WinogradForm::for_image([to.height(), to.width()]);
        let (form, worth) = match weighted.purpose {
            Purpose::Plain => (best, true),
            // It has direct weights besides: for few pixels, a third copy is not worth its memory.
            Purpose::Divisor { non_negative: true } => (best, to.height() * to.width() >= 64),
            // Where terms cancel, the sum's own rounding is as large as that of the smaller form.
            Purpose::Divisor { non_negative: false } => (WinogradForm::Two, true),
            Purpose::Exact => return Ok(None),
        };
        if !worth || !wide || !WinogradPlan::supports(spec) {
            return Ok(None);
        }
        Ok(WinogradPlan::new(spec, weighted.direction, self.isa, form, &from, &to)?)
    }

    /// Winograd's algorithm, with the direct plan of the same convolution for repairs.
    fn transformed(
        &mut self,
        plan: WinogradPlan,
        direct: ConvPlan,
        weighted: Weighted,
        weights: &[f32],
    ) -> Result<Algorithm, Box<ConvError>> {
        let memory = Blocked::new(1, 1, 1, plan.scratch_len(), Halo::NONE).map_err(ConvError::from)?;
        let scratch = match self.winograd {
            Some(id) => id,
            None => {
                let id = self.scratch(memory);
                self.winograd = Some(id);
                id
            }
        };
        if self.layouts[scratch].len() < memory.len() {
            self.layouts[scratch] = memory;
        }
        let repair = match weighted.purpose {
            Purpose::Divisor { non_negative: true } => {
                let (direct, packed) = self.packed(direct, weighted, weights)?;
                Some(Arc::new(Repair::new(&plan, direct, packed, weights, weighted.part)?))
            }
            Purpose::Plain | Purpose::Exact | Purpose::Divisor { non_negative: false } => None,
        };
        let weights = Arc::new(plan.pack(weights, weighted.part)?);
        Ok(Algorithm::Winograd { plan: Arc::new(plan), weights, scratch, repair })
    }
}

/// An average pool as a depthwise convolution.
fn pool_layer(x: [usize; 3], window: Window) -> Layer {
    let conv = Conv { window, group: x[0], folded_bias: false };
    let constant = Some(1.0 / (window.kernel[0] * window.kernel[1]) as f32);
    let is_whole = window.kernel == [x[1], x[2]] && window.pads == [0; 4];
    Layer { constant, plane: is_whole.then_some(x[1] * x[2]), ..Layer::conv(x, x[0], &conv) }
}

impl Layer {
    /// The layer's sums over an input that has one value per channel at every valid position, `f32[M,OH,OW]`; padding
    /// counts as 0. `weights` is `f32[M,C/groups,kH,kW]`, `size` the input's H, W and `out` the output's.
    pub fn constant_sums(
        &self,
        weights: &[f32],
        channel: impl Fn(usize) -> f64,
        size: [usize; 2],
        [oh, ow]: [usize; 2],
    ) -> Vec<f64> {
        if let (Some(pixels), Some(weight)) = (self.plane, weights.first()) {
            let taps = pixels as f64 * f64::from(*weight);
            return (0..self.spec.channels_out).map(|c| channel(c) * taps).collect();
        }
        let [kh, kw] = self.spec.kernel;
        let inputs = self.spec.channels_in / self.spec.groups;
        let outputs = self.spec.channels_out / self.spec.groups;
        let mut sums = Vec::with_capacity(self.spec.channels_out * oh * ow);
        for m in 0..self.spec.channels_out {
            // The sum over input channels of each tap.
            let tap = |t: usize| -> f64 {
                let weight = |c: usize| weights.get((m * inputs + c) * kh * kw + t).copied().unwrap_or(0.0);
                (0..inputs).map(|c| channel(m / outputs * inputs + c) * f64::from(weight(c))).sum()
            };
            let taps: Vec<f64> = (0..kh * kw).map(tap).collect();
            for y in 0..oh {
                for x in 0..ow {
                    let rows = self.window.taps(0, y, size[0]);
                    let row = |ky: usize| -> f64 {
                        self.window.taps(1, x, size[1]).map(|(kx, _)| taps[ky * kw + kx]).sum()
                    };
                    sums.push(rows.map(|(ky, _)| row(ky)).sum());
                }
            }
        }
        sums
    }
}
