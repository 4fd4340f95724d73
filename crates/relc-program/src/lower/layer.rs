//! Linear layers: what convolution each is.

use relc_ir::op::{AveragePool, Gemm, LinearLayer, Window, WindowAxis};
use relc_ir::rule::WeightPart;
use relc_ir::{NodeId, ValueId as GraphValue};

use super::{Builder, image, plane};
use crate::conv::ConvSpec;
use crate::error::LowerError;
use crate::op::{WeightSource, Weights};

/// A linear layer as a convolution.
pub(super) struct Layer {
    pub spec: ConvSpec,
    pub window: Window,
    source: WeightSource,
    /// The pixels of the picture, if the layer is the mean over it: that is no matter for convolutions, whose cost
    /// would grow with the square of them.
    pub plane: Option<usize>,
}

impl Layer {
    /// A convolution with a window over an image, which has two axes.
    fn conv(x: [usize; 3], m: usize, window: Window, groups: usize) -> Layer {
        let of = |f: fn(&WindowAxis) -> usize| [0, 1].map(|axis| window.axes.get(axis).map_or(1, f));
        let [top, left] = of(|axis| axis.pads[0]);
        let [bottom, right] = of(|axis| axis.pads[1]);
        let spec = ConvSpec {
            channels_in: x[0],
            channels_out: m,
            groups,
            kernel: of(|axis| axis.kernel),
            stride: of(|axis| axis.stride),
            dilation: of(|axis| axis.dilation),
            pads: [top, left, bottom, right],
        };
        Layer { spec, window, source: WeightSource::Constant, plane: None }
    }

    /// An average pool as a depthwise convolution.
    fn pool(x: [usize; 3], window: Window) -> Layer {
        let tap = 1.0 / window.taps() as f32;
        let is_whole = window.kernel() == x[1..] && !window.is_padded();
        let plane = is_whole.then_some(x[1] * x[2]);
        Layer { source: WeightSource::Tap(tap), plane, ..Layer::conv(x, x[0], window, x[0]) }
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

    /// The layer's sums over an input that has one value per channel at every valid position, `f64[M,OH,OW]`; padding
    /// counts as 0. `weight` gives element `i` of `f32[M,C/groups,kH,kW]`, `size` is the input's H, W and `out` the
    /// output's.
    pub fn constant_sums(
        &self,
        weight: impl Fn(usize) -> f64,
        channel: impl Fn(usize) -> f64,
        size: [usize; 2],
        [oh, ow]: [usize; 2],
    ) -> Vec<f64> {
        if let Some(pixels) = self.plane {
            let taps = pixels as f64 * weight(0);
            return (0..self.spec.channels_out).map(|c| channel(c) * taps).collect();
        }
        let [kh, kw] = self.spec.kernel;
        let inputs = self.spec.channels_in / self.spec.groups;
        let outputs = self.spec.channels_out / self.spec.groups;
        let mut sums = Vec::with_capacity(self.spec.channels_out * oh * ow);
        for m in 0..self.spec.channels_out {
            // The sum over input channels of each tap.
            let mut taps = vec![0.0; kh * kw];
            for c in 0..inputs {
                let (value, first) = (channel(m / outputs * inputs + c), (m * inputs + c) * kh * kw);
                for (t, tap) in taps.iter_mut().enumerate() {
                    *tap += value * weight(first + t);
                }
            }
            for y in 0..oh {
                for x in 0..ow {
                    let rows = self.window.axes[0].taps(y, size[0]);
                    let row = |ky: usize| -> f64 {
                        self.window.axes[1].taps(x, size[1]).map(|(kx, _)| taps[ky * kw + kx]).sum()
                    };
                    sums.push(rows.map(|(ky, _)| row(ky)).sum());
                }
            }
        }
        sums
    }

    /// Where element `i` of `f32[M,C/groups,kH,kW]` is in the weight as it is stored.
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
        let ty = self.graph.ty(x);
        let x = image(ty);
        let dims = weight.and_then(|w| self.graph.ty(w).fixed_dims()).unwrap_or_default();
        Ok(match layer {
            LinearLayer::Conv(conv) => {
                let m = dims.first().copied().unwrap_or(0);
                plane(&conv.window, ty).map(|window| Layer::conv(x, m, window, conv.group))
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
                Some(Layer { spec: ConvSpec::gemm(x[0], m), window, source, plane: None })
            }
            LinearLayer::AveragePool(AveragePool { window, count_include_pad }) => {
                // Windows that count their taps differently are no convolution.
                let uniform = (!window.is_padded() || *count_include_pad) && !window.ceil;
                plane(window, ty).filter(|_| uniform).map(|window| Layer::pool(x, window))
            }
            LinearLayer::GlobalAveragePool => Some(Layer::pool(x, Window::whole(&x[1..]))),
        })
    }
}
