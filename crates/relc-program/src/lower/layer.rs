//! Linear layers: what convolution each is.

use relc_ir::op::{AveragePool, Gemm, LinearLayer, Window};
use relc_ir::rule::WeightPart;
use relc_ir::{NodeId, ValueId as GraphValue};

use super::{Builder, image, whole};
use crate::conv::ConvSpec;
use crate::error::LowerError;
use crate::layout::Image;
use crate::op::{WeightSource, Weights};

/// A linear layer as a convolution.
pub(super) struct Layer {
    pub spec: ConvSpec,
    pub window: Window,
    source: WeightSource,
    /// The pixels of the image, if the layer is the mean over it: that is no matter for convolutions, whose cost would
    /// grow with the square of them.
    pub pixels: Option<usize>,
}

impl Layer {
    /// A convolution with a window over an image.
    fn conv(x: Image, m: usize, window: Window, groups: usize) -> Layer {
        let axes = window.over_volume();
        let [[front, back], [top, bottom], [left, right]] = axes.map(|axis| axis.pads);
        let spec = ConvSpec {
            channels_in: x[0],
            channels_out: m,
            groups,
            kernel: axes.map(|axis| axis.kernel),
            stride: axes.map(|axis| axis.stride),
            dilation: axes.map(|axis| axis.dilation),
            pads: [front, top, left, back, bottom, right],
        };
        Layer { spec, window, source: WeightSource::Constant, pixels: None }
    }

    /// An average pool as a depthwise convolution.
    fn pool(x: Image, window: Window) -> Layer {
        let tap = 1.0 / window.taps() as f32;
        let layer = Layer::conv(x, x[0], window, x[0]);
        let is_whole = layer.spec.kernel == x[1..] && !window.is_padded();
        let pixels = is_whole.then(|| window.taps());
        Layer { source: WeightSource::Tap(tap), pixels, ..layer }
    }

    /// The one weight of an average pool.
    pub fn tap(&self) -> Option<f32> {
        match self.source {
            WeightSource::Tap(tap) => Some(tap),
            _ => None,
        }
    }

    /// A form of its weights, as a step names them.
    pub fn weights(&self, form: WeightPart, gamma: f64) -> Weights {
        let form = match (self.source, form) {
            // A pool's weights are positive.
            (WeightSource::Tap(_), WeightPart::Positive) => WeightPart::Raw,
            (_, form) => form,
        };
        let gamma =
            if matches!(form, WeightPart::GammaPositive | WeightPart::GammaNegative) { gamma } else { 0.0 };
        Weights { source: self.source, form, gamma }
    }

    /// The layer's sums over an input that has one value per channel at every valid position, `f64[M,OD,OH,OW]`;
    /// padding counts as 0. `weight` gives element `i` of `f32[M,C/groups,kD,kH,kW]`, `size` is the input's D, H, W and the
    /// last the output's.
    pub fn constant_sums(
        &self,
        weight: impl Fn(usize) -> f64,
        channel: impl Fn(usize) -> f64,
        size: [usize; 3],
        [od, oh, ow]: [usize; 3],
    ) -> Vec<f64> {
        if let Some(pixels) = self.pixels {
            let taps = pixels as f64 * weight(0);
            return (0..self.spec.channels_out).map(|c| channel(c) * taps).collect();
        }
        let [kd, kh, kw] = self.spec.kernel;
        let inputs = self.spec.channels_in / self.spec.groups;
        let outputs = self.spec.channels_out / self.spec.groups;
        let [slices, rows, columns] = self.window.over_volume();
        let positions = kd * kh * kw;
        let mut sums = Vec::with_capacity(self.spec.channels_out * od * oh * ow);
        for m in 0..self.spec.channels_out {
            // The sum over input channels of each tap.
            let mut taps = vec![0.0; positions];
            for c in 0..inputs {
                let (value, first) = (channel(m / outputs * inputs + c), (m * inputs + c) * positions);
                for (t, tap) in taps.iter_mut().enumerate() {
                    *tap += value * weight(first + t);
                }
            }
            for z in 0..od {
                for y in 0..oh {
                    for x in 0..ow {
                        let row = |kz: usize, ky: usize| -> f64 {
                            let first = (kz * kh + ky) * kw;
                            columns.taps(x, size[2]).map(|(kx, _)| taps[first + kx]).sum()
                        };
                        let slice =
                            |kz: usize| -> f64 { rows.taps(y, size[1]).map(|(ky, _)| row(kz, ky)).sum() };
                        sums.push(slices.taps(z, size[0]).map(|(kz, _)| slice(kz)).sum());
                    }
                }
            }
        }
        sums
    }

    /// Where element `i` of `f32[M,C/groups,kD,kH,kW]` is in the weight as it is stored.
    pub fn stored(&self, i: usize) -> usize {
        match self.source {
            WeightSource::Transposed => {
                let (k, m) = (self.spec.channels_in, self.spec.channels_out);
                i % k * m + i / k
            }
            _ => i,
        }
    }
}

impl Builder<'_> {
    /// The layer of a relevance node; none if it is no convolution.
    pub(super) fn layer(&self, node: NodeId, layer: &LinearLayer) -> Result<Option<Layer>, LowerError> {
        let operands = self.graph.operands(node);
        self.layer_with(node, layer, operands[1], operands.get(2).copied())
    }

    pub(super) fn layer_with(
        &self,
        node: NodeId,
        layer: &LinearLayer,
        x: GraphValue,
        weight: Option<GraphValue>,
    ) -> Result<Option<Layer>, LowerError> {
        let operand = x;
        let x = image(self.graph.ty(operand));
        let dims = weight.and_then(|w| self.graph.ty(w).fixed_dims()).unwrap_or_default();
        Ok(match layer {
            LinearLayer::Conv(conv) => {
                let m = dims.first().copied().unwrap_or(0);
                Some(Layer::conv(x, m, conv.window, conv.group))
            }
            LinearLayer::Gemm(Gemm { trans_b, .. }) => {
                let [rows, columns] = dims[..] else {
                    return Err(self.unsupported(node, "its weight is no matrix"));
                };
                let (m, source) = match trans_b {
                    true => (rows, WeightSource::Constant),
                    false => (columns, WeightSource::Transposed),
                };
                let window = Window::new([1, 1], [1, 1]);
                Some(Layer { spec: ConvSpec::gemm(x[0], m), window, source, pixels: None })
            }
            LinearLayer::AveragePool(AveragePool { window, count_include_pad }) => {
                // Windows that count their taps differently are no convolution.
                let size = self.graph.ty(operand).spatial().unwrap_or_default();
                let exact = window.without_ceil(&size).filter(|plain| plain.axes == window.axes);
                let uniform = !window.is_padded() || *count_include_pad;
                exact.filter(|_| uniform).map(|plain| Layer::pool(x, plain))
            }
            LinearLayer::GlobalAveragePool => Some(Layer::pool(x, whole(x))),
        })
    }
}
