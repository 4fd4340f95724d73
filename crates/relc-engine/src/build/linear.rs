//! Linear layers: what convolution each is, forward and in the passes of a rule.

use std::sync::Arc;

use relc_codegen::kernels;
use relc_ir::op::{AveragePool, Conv, Gemm, LinearLayer, Relevance, Window};
use relc_ir::rule::{
    BiasPolicy, FALLBACK_THRESHOLD, Fallback, InputPart, LinearRule, Stabiliser, WeightPart,
};
use relc_ir::{NodeId, Op, ValueId};
use relc_runtime::conv::{ConvError, ConvPlan, ConvSpec, Direction};
use relc_runtime::layout::{Blocked, Halo};
use relc_runtime::tile::Part;
use relc_runtime::winograd::{Form as WinogradForm, Repair, WinogradPlan};

use super::{Builder, Packed};
use crate::error::EngineError;
use crate::image::image;
use crate::spread::Spread;
use crate::step::{Action, Algorithm, Bind, BufferId, ConvStep, Finish, SpreadStep};

/// Channels from which on Winograd's algorithm saves more than its transforms cost.
const WINOGRAD_CHANNELS: usize = 32;

/// A linear layer as a convolution.
pub(super) struct Layer {
    pub spec: ConvSpec,
    pub window: Window,
    /// A fully connected weight f32[K,M], to be transposed to f32[M,K].
    transposed: Option<[usize; 2]>,
    /// The one weight of an average pool.
    constant: Option<f32>,
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
        Layer { spec, window: w, transposed: None, constant: None }
    }

    /// The weights as f32[M,C/groups,kH,kW].
    pub fn oriented(&self, weights: &[f32]) -> Vec<f32> {
        match self.transposed {
            None => weights.to_vec(),
            Some([k, m]) => (0..m * k).map(|i| weights[i % k * m + i / k]).collect(),
        }
    }
}

/// How a rule on a layer is compiled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One product of the activation and a part of the weight, over a denominator of the same.
    Quotient(Part),
    /// Ones instead of the activation: the denominator is a constant.
    Ones(WeightPart),
}

/// A weight as a convolution uses it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighted {
    pub direction: Direction,
    pub part: Part,
    /// Which; none for weights that no value of the graph holds.
    pub weight: Option<ValueId>,
    /// Whether no product is negative: neither an input nor a weight of the part is.
    pub non_negative: bool,
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
                Some(Layer { spec: ConvSpec::gemm(x[0], m), window, transposed, constant: None })
            }
            LinearLayer::AveragePool(AveragePool { window, count_include_pad }) => {
                // Windows that count their taps differently are no convolution.
                let uniform = (window.pads == [0; 4] || *count_include_pad) && !window.ceil;
                uniform.then(|| pool_layer(x, *window))
            }
            LinearLayer::GlobalAveragePool => Some(pool_layer(x, Window::new([x[1], x[2]], [1, 1]))),
        })
    }

    fn layer_weights(&self, node: NodeId, layer: &Layer) -> Result<Vec<f32>, EngineError> {
        if let Some(constant) = layer.constant {
            return Ok(vec![constant; layer.spec.weights_len().unwrap_or(0)]);
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
        let algorithm = match self.winograd(spec, weighted, [from, to], &finish).map_err(error)? {
            Some(winograd) => self.transformed(winograd, plan, weighted, weights, &finish).map_err(error)?,
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

    /// The plan of Winograd's algorithm, where it is faster and exact enough: what is divided by needs a repair of small
    /// values, which only sums without cancellation have.
    fn winograd(
        &self,
        spec: &ConvSpec,
        weighted: Weighted,
        [from, to]: [Blocked; 2],
        finish: &Finish,
    ) -> Result<Option<WinogradPlan>, Box<ConvError>> {
        let divides = matches!(finish, Finish::Quotient { .. });
        let wide =
            from.channels().min(to.channels()) >= WINOGRAD_CHANNELS && from.block().min(to.block()) >= 4;
        // A denominator has direct weights besides: for few pixels, a third copy is not worth its memory.
        let small = divides && to.height() * to.width() < 64;
        if (divides && !weighted.non_negative) || small || !wide || !WinogradPlan::supports(spec) {
            return Ok(None);
        }
        let form = WinogradForm::for_image([to.height(), to.width()]);
        Ok(WinogradPlan::new(spec, weighted.direction, self.isa, form, &from, &to)?)
    }

    /// Winograd's algorithm, with the direct plan of the same convolution for repairs.
    fn transformed(
        &mut self,
        plan: WinogradPlan,
        direct: ConvPlan,
        weighted: Weighted,
        weights: &[f32],
        finish: &Finish,
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
        let repair = match finish {
            Finish::Quotient { .. } => {
                let (direct, packed) = self.packed(direct, weighted, weights)?;
                Some(Arc::new(Repair::new(&plan, direct, packed, weights, weighted.part)?))
            }
            _ => None,
        };
        let weights = Arc::new(plan.pack(weights, weighted.part)?);
        Ok(Algorithm::Winograd { plan: Arc::new(plan), weights, scratch, repair })
    }

    /// How a rule on a layer is compiled; none if the interpreter runs it.
    pub(super) fn form(&self, node: NodeId, rule: &LinearRule) -> Option<Form> {
        let operands = self.graph.operands(node);
        let act = *operands.get(1)?;
        let terms = rule.single().filter(|_| !rule.reads_output())?;
        let has_bias = rule.bias != BiasPolicy::Exclude && operands.len() > 3;
        let divides =
            rule.fallback == Fallback::Flat || matches!(rule.stabiliser, Stabiliser::Plus(eps) if eps > 0.0);
        if has_bias || !divides || matches!(rule.stabiliser, Stabiliser::Signed(_)) {
            return None;
        }
        let non_negative = self.non_negative.contains(&act.node);
        let mut live = terms.iter().filter(|t| !(non_negative && t.input == InputPart::Negative));
        let (term, None) = (live.next()?, live.next()) else { return None };
        let is_pool = matches!(
            &self.graph.node(node).op,
            Op::Relevance(Relevance::Linear {
                layer: LinearLayer::AveragePool(_) | LinearLayer::GlobalAveragePool,
                ..
            })
        );
        match (term.input, term.weight) {
            (InputPart::MinusLow | InputPart::MinusHigh, _)
            | (_, WeightPart::GammaPositive | WeightPart::GammaNegative) => None,
            (InputPart::Ones, weight) => Some(Form::Ones(weight)),
            (InputPart::Positive, _) if !non_negative => None,
            (InputPart::Negative, _) => None,
            (_, WeightPart::Raw) => Some(Form::Quotient(Part::Raw)),
            // The weights of a pool are positive.
            (_, WeightPart::Positive) if is_pool => Some(Form::Quotient(Part::Raw)),
            (_, WeightPart::Positive) => Some(Form::Quotient(Part::Positive)),
            (_, WeightPart::Negative) => Some(Form::Quotient(Part::Negative)),
            (_, WeightPart::Square | WeightPart::Ones) => None,
        }
    }

    /// A rule on a linear layer: the denominator, `s = R / den`, and `R_i = a_i sum_j w_ij s_j`.
    pub(super) fn linear(
        &mut self,
        node: NodeId,
        layer: &LinearLayer,
        rule: &LinearRule,
    ) -> Result<(), EngineError> {
        let (Some(layer), Some(form)) = (self.layer(node, layer)?, self.form(node, rule)) else {
            return self.interpret(node);
        };
        let operands = self.graph.operands(node);
        let (r, act) = (operands[0], operands[1]);
        let weights = self.layer_weights(node, &layer)?;
        let (relevance, out) = (self.buffer(r)?, self.buffer(ValueId { node, port: 0 })?);
        // s lies in whole vectors, with the frame that the transposed convolution reads.
        let [_, h, w] = image(self.graph.ty(act));
        let halo = layer.spec.transposed_halo([h, w]).map_err(|e| self.conv_error(node, e))?;
        let [c, oh, ow] = image(self.graph.ty(r));
        let s = self.scratch(Blocked::new(c, self.isa.width(), oh, ow, halo)?);
        let flag = self.flag();
        let weight = operands.get(2).copied();
        let positive = self.non_negative.contains(&act.node);
        let weighted = |direction, part| {
            let non_negative = part == Part::Positive && positive;
            Weighted { direction, part, weight, non_negative }
        };
        match form {
            Form::Quotient(part) => {
                let a = self.buffer(act)?;
                let offset = rule.stabiliser.term(0.0) as f32;
                let floor = if rule.fallback == Fallback::Flat { FALLBACK_THRESHOLD as f32 } else { 0.0 };
                let quotient = Finish::Quotient { relevance, offset, floor, flag };
                self.convolve(
                    node,
                    &layer.spec,
                    weighted(Direction::Forward, part),
                    &weights,
                    [a, s],
                    quotient,
                )?;
                let product = Finish::Product { factor: a, addend: None };
                self.convolve(
                    node,
                    &layer.spec,
                    weighted(Direction::Transposed, part),
                    &weights,
                    [s, out],
                    product,
                )?;
            }
            Form::Ones(part) => {
                let weights: Vec<f32> = weights.iter().map(|w| formed(*w, part)).collect();
                let inverse = ones_denominator(&layer, &weights, [h, w], [oh, ow], rule);
                let vanishes = inverse.contains(&0.0);
                let constant = self.blocked_constant(&self.layouts[s], &inverse);
                self.multiply_constant(node, relevance, constant, s)?;
                let own = Weighted {
                    direction: Direction::Transposed,
                    part: Part::Raw,
                    weight: None,
                    non_negative: false,
                };
                self.convolve(node, &layer.spec, own, &weights, [s, out], Finish::None)?;
                if vanishes {
                    self.push(Action::Raise { flag });
                }
            }
        }
        if rule.fallback == Fallback::Flat {
            let spread = Spread {
                window: layer.window,
                groups: layer.spec.groups,
                relevance: self.layouts[relevance],
                quotient: self.layouts[s],
                output: self.layouts[out],
            };
            let step = SpreadStep { spread, flag, relevance, quotient: s, output: out };
            self.push(Action::Spread(Box::new(step)));
        }
        if let Stabiliser::Plus(eps) = rule.stabiliser {
            self.push(Action::Stabiliser { quotient: s, eps });
        }
        Ok(())
    }

    /// `s = R * constant`, elementwise.
    fn multiply_constant(
        &mut self,
        node: NodeId,
        relevance: BufferId,
        constant: Arc<[f32]>,
        s: BufferId,
    ) -> Result<(), EngineError> {
        let (lr, ls) = (self.kernel_layout(node, relevance)?, self.kernel_layout(node, s)?);
        // The constant lies like s.
        let kernel = kernels::multiply(&self.kernel_name(node, "ones"), [lr, ls, ls]);
        self.kernel(kernel, vec![Bind::Read(relevance), Bind::Constant(constant), Bind::Write(s)]);
        Ok(())
    }

    /// A dense `f32[C,H,W]` in a layout.
    fn blocked_constant(&self, layout: &Blocked, dense: &[f32]) -> Arc<[f32]> {
        let mut data = vec![0.0; layout.len()];
        for (i, value) in dense.iter().enumerate() {
            data[crate::image::offset_of(layout, i)] = *value;
        }
        data.into()
    }
}

/// An average pool as a depthwise convolution.
fn pool_layer(x: [usize; 3], window: Window) -> Layer {
    let conv = Conv { window, group: x[0], folded_bias: false };
    let constant = Some(1.0 / (window.kernel[0] * window.kernel[1]) as f32);
    Layer { constant, ..Layer::conv(x, x[0], &conv) }
}

fn formed(w: f32, form: WeightPart) -> f32 {
    form.of(f64::from(w), 0.0) as f32
}

/// `1 / den` for ones instead of the activation, f32[M,OH,OW]; 0 where the denominator vanishes.
fn ones_denominator(
    layer: &Layer,
    weights: &[f32],
    size: [usize; 2],
    [oh, ow]: [usize; 2],
    rule: &LinearRule,
) -> Vec<f32> {
    let [kh, kw] = layer.spec.kernel;
    let inputs = layer.spec.channels_in / layer.spec.groups;
    let mut inverse = Vec::with_capacity(layer.spec.channels_out * oh * ow);
    for m in 0..layer.spec.channels_out {
        // The sum over input channels of each tap.
        let tap = |ky: usize, kx: usize| -> f64 {
            (0..inputs).map(|c| f64::from(weights[((m * inputs + c) * kh + ky) * kw + kx])).sum()
        };
        let taps: Vec<f64> = (0..kh * kw).map(|t| tap(t / kw, t % kw)).collect();
        for y in 0..oh {
            for x in 0..ow {
                let rows = layer.window.taps(0, y, size[0]);
                let den: f64 = rows
                    .map(|(ky, _)| {
                        layer.window.taps(1, x, size[1]).map(|(kx, _)| taps[ky * kw + kx]).sum::<f64>()
                    })
                    .sum();
                let den = den + rule.stabiliser.term(den);
                let vanishes = match rule.fallback {
                    Fallback::Flat => den.abs() < FALLBACK_THRESHOLD,
                    Fallback::None => den == 0.0,
                };
                inverse.push(if vanishes { 0.0 } else { (1.0 / den) as f32 });
            }
        }
    }
    inverse
}
