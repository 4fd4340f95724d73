//! Rules on linear layers: which convolutions they are.

use std::borrow::Cow;
use std::sync::Arc;

use relc_codegen::kernels::{self, Condition, Denominator, Operand, QuotientPart};
use relc_ir::op::LinearLayer;
use relc_ir::rule::{
    self, BiasPart, FALLBACK_THRESHOLD, Fallback, InputPart, Leak, LinearRule, Product, Stabiliser,
    WeightPart,
};
use relc_ir::{NodeId, ValueId};
use relc_runtime::conv::Direction;
use relc_runtime::layout::{Blocked, Halo};
use relc_runtime::tile::Part;

use super::linear::{Layer, Purpose, Weighted};
use super::{Builder, Made, ValueExt};
use crate::error::EngineError;
use crate::image::image;
use crate::map::Function;
use crate::spread::Spread;
use crate::step::{Action, Bind, BufferId, Finish, SpreadStep};

/// How a rule on a layer is compiled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One product of the activation and a part of the weight, over a denominator of the same with constants per
    /// channel: two convolutions with everything else in their epilogues.
    Quotient(Part),
    /// Ones instead of the activation: the denominator is a constant.
    Ones(WeightPart),
    /// Any parts: a convolution for each product and direction.
    General,
}

/// A rule on a layer, with what its steps have in common.
pub(super) struct Ruled<'r> {
    pub node: NodeId,
    pub layer: Layer,
    rule: &'r LinearRule,
    /// The layer's weights, `f32[M,C/groups,kH,kW]`.
    weights: Vec<f32>,
    /// The value that holds them.
    weight: Option<ValueId>,
    /// The bias, if it enters.
    bias: Option<Arc<[f32]>>,
    act: ValueId,
    /// Whether the activation is never negative.
    positive: bool,
    /// R, which arrives, and the relevance of the input.
    relevance: BufferId,
    out: BufferId,
    /// How each `s` lies: in whole vectors, with the frame that the transposed convolution reads.
    quotient: Blocked,
}

impl Builder<'_> {
    /// How a rule on a layer is compiled; none if the interpreter runs it.
    pub(super) fn form(&self, node: NodeId, layer: &LinearLayer, rule: &LinearRule) -> Option<Form> {
        let operands = self.graph.operands(node);
        let positive = self.is_non_negative(*operands.get(1)?);
        // All goes to the fallback or the leak, which the interpreter knows how to do.
        if rule.parts.iter().all(|part| live_terms(part, positive).next().is_none()) {
            return None;
        }
        let is_pool = matches!(layer, LinearLayer::AveragePool(_) | LinearLayer::GlobalAveragePool);
        let is_plane = || matches!(self.layer(node, layer), Ok(Some(Layer { plane: Some(_), .. })));
        let stable = matches!(rule.stabiliser, Stabiliser::Plus(eps) | Stabiliser::Signed(eps) if eps > 0.0);
        let (hands_on, relative) =
            (rule.leak != Leak::Lost, matches!(rule.stabiliser, Stabiliser::Relative(_)));
        if relative && !self.has_one_denominator(node, rule, positive) {
            return None;
        }
        let plain = |p: &rule::Part| p.scale == 1.0 && p.on == rule::Condition::Always && p.divides;
        let compiled = match (rule.fallback, &rule.parts[..]) {
            (Fallback::None, parts) => stable || relative || hands_on || parts.iter().all(|p| !p.divides),
            // What is spread is all that arrives where the one denominator vanishes.
            (Fallback::Flat, parts) => matches!(parts, [part] if plain(part)),
        };
        let general = compiled.then_some(Form::General);
        let [part] = &rule.parts[..] else { return general };
        if hands_on || relative {
            return general;
        }
        let live: Vec<&Product> = live_terms(part, positive).collect();
        let (true, [term]) = (plain(part) && (stable || rule.fallback == Fallback::Flat), &live[..]) else {
            return general;
        };
        let has_bias = self.rule_bias(node, rule).is_some();
        let adds_sign = !matches!(rule.stabiliser, Stabiliser::Signed(_));
        match (term.input, term.weight) {
            // Weights that are not negative: the signed stabiliser adds its eps.
            (InputPart::Ones, form @ (WeightPart::Positive | WeightPart::Square | WeightPart::Ones))
                if !has_bias =>
            {
                Some(Form::Ones(form))
            }
            (InputPart::Raw | InputPart::Positive, form)
                if positive || (term.input == InputPart::Raw && adds_sign) =>
            {
                let compiled = match form {
                    WeightPart::Raw if is_pool && !rule.reads_output() => Part::Raw,
                    // The weights of a pool are positive.
                    WeightPart::Positive if is_pool => Part::Raw,
                    WeightPart::Positive => Part::Positive,
                    _ => return general,
                };
                let offset = !has_bias || part.bias == BiasPart::Positive;
                if offset && !is_plane() { Some(Form::Quotient(compiled)) } else { general }
            }
            _ => general,
        }
    }

    /// Whether all denominators of a rule lie in one tensor as they are, so that their mean square can be taken.
    fn has_one_denominator(&self, node: NodeId, rule: &LinearRule, positive: bool) -> bool {
        let [part] = &rule.parts[..] else { return false };
        let live: Vec<&Product> = live_terms(part, positive).collect();
        let summed = matches!(live[..], [term] if constant_input(rule, term.input).is_none());
        rule.is_output(part) || (summed && self.rule_bias(node, rule).is_none())
    }

    /// Whether a rule on a layer takes its input, and gives its relevance, in pixels of a few channels: kernels of
    /// Cranelift, which scale by constants, want whole vectors.
    pub(super) fn takes_narrow(&self, node: NodeId, layer: &LinearLayer, rule: &LinearRule) -> bool {
        let whole = matches!(layer, LinearLayer::Conv(conv) if conv.group == 1);
        let constant = |term: &Product| constant_input(rule, term.input).is_some();
        match self.form(node, layer, rule) {
            Some(Form::Ones(_) | Form::Quotient(_)) => whole,
            Some(Form::General) => whole && !rule.terms().any(constant),
            None => false,
        }
    }

    /// The bias that enters a rule's denominators.
    fn rule_bias(&self, node: NodeId, rule: &LinearRule) -> Option<ValueId> {
        let mut operands = self.graph.operands(node);
        if rule.reads_output() {
            operands.pop();
        }
        operands.get(3).copied()
    }

    /// A rule on a linear layer.
    pub(super) fn linear(
        &mut self,
        node: NodeId,
        layer: &LinearLayer,
        rule: &LinearRule,
    ) -> Result<(), EngineError> {
        let form = self.form(node, layer, rule);
        let (Some(layer), Some(form)) = (self.layer(node, layer)?, form) else {
            return self.interpret(node);
        };
        let operands = self.graph.operands(node);
        let (r, act) = (operands[0], operands[1]);
        let [_, h, w] = image(self.graph.ty(act));
        let halo = match layer.plane {
            Some(_) => Halo::NONE,
            None => layer.spec.transposed_halo([h, w]).map_err(|e| self.conv_error(node, e))?,
        };
        let [c, oh, ow] = image(self.graph.ty(r));
        let bias = self.rule_bias(node, rule).map(|bias| self.weight(node, bias)).transpose()?;
        let ruled = Ruled {
            node,
            weights: self.layer_weights(node, &layer)?,
            weight: operands.get(2).copied().filter(|w| self.graph.is_weight(*w)),
            layer,
            rule,
            bias,
            act,
            positive: self.is_non_negative(act),
            relevance: self.buffer(r)?,
            out: self.buffer(node.value())?,
            quotient: self.blocked(node, [c, oh, ow], self.isa.width(), halo)?,
        };
        match form {
            Form::Quotient(part) => self.fused(&ruled, part),
            Form::Ones(part) => self.ones(&ruled, part, [h, w]),
            Form::General => self.general(&ruled, [h, w]),
        }
    }

    /// `s = R / (conv(a, w) + offset)` and `R_i = a_i convT(s, w)`.
    fn fused(&mut self, ruled: &Ruled<'_>, part: Part) -> Result<(), EngineError> {
        let (node, rule) = (ruled.node, ruled.rule);
        let s = self.scratch(ruled.quotient);
        let flag = self.flag();
        let a = self.buffer(ruled.act)?;
        let channels = ruled.layer.spec.channels_out;
        let eps = match rule.stabiliser {
            Stabiliser::Plus(eps) | Stabiliser::Signed(eps) => eps as f32,
            Stabiliser::None | Stabiliser::Relative(_) => 0.0,
        };
        // A bias is let in only as its positive part.
        let bias: Option<Vec<f32>> =
            ruled.bias.as_ref().map(|bias| bias.iter().map(|b| b.max(0.0)).collect());
        let offset = (0..channels).map(|c| eps + bias.as_ref().map_or(0.0, |bias| bias[c])).collect();
        let floor = if rule.fallback == Fallback::Flat { FALLBACK_THRESHOLD as f32 } else { 0.0 };
        let finish = Finish::Quotient { relevance: ruled.relevance, offset, floor, flag };
        let weighted = |direction, purpose| Weighted { direction, part, weight: ruled.weight, purpose };
        let divisor = Purpose::Divisor { non_negative: part == Part::Positive && ruled.positive };
        let forward = weighted(Direction::Forward, divisor);
        self.convolve(node, &ruled.layer.spec, forward, &ruled.weights, [a, s], finish)?;
        let factor = self.in_blocks(a, self.layouts[ruled.out].block())?;
        let product = Finish::Product { factor, addend: None };
        let back = weighted(Direction::Transposed, Purpose::Plain);
        self.convolve(node, &ruled.layer.spec, back, &ruled.weights, [s, ruled.out], product)?;
        if let Some(bias) = bias {
            self.push(Action::Absorbed { quotient: s, by: bias.into(), bias: true });
        }
        self.absorbed_by_stabiliser(ruled, s);
        self.spread(ruled, s, flag);
        Ok(())
    }

    /// `s = R / den` with a constant denominator, and `R_i = convT(s, w)`.
    fn ones(&mut self, ruled: &Ruled<'_>, form: WeightPart, size: [usize; 2]) -> Result<(), EngineError> {
        let (node, rule, quotient) = (ruled.node, ruled.rule, ruled.quotient);
        let s = self.scratch(quotient);
        let flag = self.flag();
        let weights = ruled.formed(&Product { input: InputPart::Ones, weight: form });
        let out = [quotient.height(), quotient.width()];
        let sums = ruled.layer.constant_sums(&weights, |_| 1.0, size, out);
        let inverse = sums.into_iter().map(|sum| {
            let den = sum + rule.stabiliser.term(sum, 0.0);
            let vanishes = match rule.fallback {
                Fallback::Flat => den.abs() < FALLBACK_THRESHOLD,
                Fallback::None => den == 0.0,
            };
            if vanishes { 0.0 } else { (1.0 / den) as f32 }
        });
        let inverse: Vec<f32> = inverse.collect();
        let vanishes = inverse.contains(&0.0);
        let constant = self.blocked_constant(&quotient, &inverse);
        let (lr, ls) = (self.kernel_layout(node, ruled.relevance)?, self.kernel_layout(node, s)?);
        // The constant lies like s.
        let kernel = kernels::multiply("ones", [lr, ls, ls]);
        self.kernel(kernel, vec![Bind::Read(ruled.relevance), Bind::Constant(constant), Bind::Write(s)])?;
        let back = Weighted {
            direction: Direction::Transposed,
            part: Part::Raw,
            weight: None,
            purpose: Purpose::Plain,
        };
        self.sums(ruled, back, &weights, [s, ruled.out], Finish::None)?;
        if vanishes {
            self.push(Action::Raise { flag });
        }
        self.absorbed_by_stabiliser(ruled, s);
        self.spread(ruled, s, flag);
        Ok(())
    }

    /// Books what a stabiliser that adds its eps to every denominator takes.
    fn absorbed_by_stabiliser(&mut self, ruled: &Ruled<'_>, s: BufferId) {
        if let Stabiliser::Plus(eps) | Stabiliser::Signed(eps) = ruled.rule.stabiliser {
            let by = vec![eps as f32; ruled.layer.spec.channels_out].into();
            self.push(Action::Absorbed { quotient: s, by, bias: false });
        }
    }

    /// The flat fallback, if the rule has it.
    fn spread(&mut self, ruled: &Ruled<'_>, s: BufferId, flag: usize) {
        if ruled.rule.fallback == Fallback::Flat {
            let spread = Spread {
                window: ruled.layer.window,
                groups: ruled.layer.spec.groups,
                relevance: self.layouts[ruled.relevance],
                quotient: ruled.quotient,
                output: self.layouts[ruled.out],
            };
            let step =
                SpreadStep { spread, flag, relevance: ruled.relevance, quotient: s, output: ruled.out };
            self.push(Action::Spread(Box::new(step)));
        }
    }

    /// Every part of a rule: its denominator, one kernel for the quotients of all, and a transposed convolution for
    /// each product.
    fn general(&mut self, ruled: &Ruled<'_>, size: [usize; 2]) -> Result<(), EngineError> {
        let (node, rule) = (ruled.node, ruled.rule);
        let operands = self.graph.operands(node);
        let z = operands.last().copied().filter(|_| rule.reads_output());
        let z = z.map(|z| self.buffer(z)).transpose()?;
        let mut first = vec![Bind::Read(ruled.relevance)];
        first.extend(z.map(Bind::Read));
        let mut reads = Vec::new();
        let mut parts = Vec::with_capacity(rule.parts.len());
        for part in &rule.parts {
            let denominator = self.part_denominator(ruled, part, size, &mut reads)?;
            let on = match part.on {
                rule::Condition::Always => Condition::Always,
                rule::Condition::PositiveOutput => Condition::Positive,
                rule::Condition::NegativeOutput => Condition::Negative,
            };
            parts.push(QuotientPart { scale: part.scale as f32, on, denominator });
        }
        let quotients: Vec<BufferId> = parts.iter().map(|_| self.scratch(ruled.quotient)).collect();
        let layouts = match quotients.first() {
            Some(s) => [self.kernel_layout(node, ruled.relevance)?, self.kernel_layout(node, *s)?],
            None => return Err(self.unsupported(node, "its rule has no part")),
        };
        if let Stabiliser::Relative(factor) = rule.stabiliser {
            let denominators = match (z, &reads[..]) {
                (Some(z), _) => z,
                (None, [Bind::Read(sum)]) => *sum,
                _ => return Err(self.unsupported(node, "its denominators lie in several places")),
            };
            let eps = self.scratch(Blocked::new(1, 1, 1, 1, Halo::NONE)?);
            self.push(Action::Stabilise { input: denominators, output: eps, factor });
            first.push(Bind::Read(eps));
        }
        let z = z.map(|z| self.kernel_layout(node, z)).transpose()?;
        let lost = if rule.leak == Leak::Lost { None } else { Some(self.buffer(ValueId { node, port: 1 })?) };
        let lost_layout = lost.map(|lost| self.kernel_layout(node, lost)).transpose()?;
        let stabiliser = match rule.stabiliser {
            Stabiliser::None => kernels::Stabiliser::None,
            Stabiliser::Plus(eps) => kernels::Stabiliser::Plain(eps as f32),
            Stabiliser::Signed(eps) => kernels::Stabiliser::Signed(eps as f32),
            Stabiliser::Relative(_) => kernels::Stabiliser::Given,
        };
        let (vanishing, flag) = match rule.fallback {
            Fallback::Flat => (kernels::Vanishing::Spread(FALLBACK_THRESHOLD as f32), Some(self.flag())),
            Fallback::None => (kernels::Vanishing::Clipped, None),
        };
        let how = (stabiliser, vanishing);
        let kernel = kernels::quotients("quotients", layouts, z, &parts, how, lost_layout);
        let written = quotients.iter().copied().chain(lost).map(Bind::Write);
        let binds = first.into_iter().chain(reads).chain(written).collect();
        let kernel = self.known_kernel(kernel)?;
        self.push(Action::Quotients { kernel, binds, flag });
        self.products(ruled, &quotients)?;
        if let (Some(flag), [s]) = (flag, &quotients[..]) {
            self.spread(ruled, *s, flag);
        }
        Ok(())
    }

    /// What a part divides by; its tensors, constant and bias join `reads`.
    fn part_denominator(
        &mut self,
        ruled: &Ruled<'_>,
        part: &rule::Part,
        size: [usize; 2],
        reads: &mut Vec<Bind>,
    ) -> Result<Option<Denominator>, EngineError> {
        let (node, rule) = (ruled.node, ruled.rule);
        if !part.divides {
            return Ok(None);
        }
        let mut tensors = Vec::new();
        let mut constant: Option<Vec<f64>> = None;
        if !rule.is_output(part) {
            let q = &ruled.quotient;
            let image = [q.channels(), q.height(), q.width()];
            let plain = self.blocked(node, image, q.block(), Halo::NONE)?;
            for term in live_terms(part, ruled.positive) {
                if let Some(channel) = constant_input(rule, term.input) {
                    let out = [ruled.quotient.height(), ruled.quotient.width()];
                    let sums = ruled.layer.constant_sums(&ruled.formed(term), channel, size, out);
                    constant = Some(match constant {
                        Some(before) => before.iter().zip(&sums).map(|(a, b)| a + b).collect(),
                        None => sums,
                    });
                } else {
                    let (weights, weighted) = ruled.weighted(term, Direction::Forward);
                    let (x, sum) = (self.input_form(ruled.act, term.input)?, self.scratch(plain));
                    self.sums(ruled, weighted, &weights, [x, sum], Finish::None)?;
                    reads.push(Bind::Read(sum));
                    tensors.push(self.kernel_layout(node, sum)?);
                }
            }
        }
        if let Some(constant) = &constant {
            let dense: Vec<f32> = constant.iter().map(|v| *v as f32).collect();
            reads.push(Bind::Constant(self.blocked_constant(&ruled.quotient, &dense)));
        }
        let bias = ruled.bias.as_ref().map(|bias| {
            let form = |b: &f32| part.bias.of(f64::from(*b), rule.gamma) as f32;
            self.per_channel(bias.iter().map(form))
        });
        let biased = bias.is_some();
        reads.extend(bias.map(Bind::Constant));
        Ok(Some(if rule.is_output(part) {
            Denominator::Output { biased }
        } else {
            Denominator::Sum { tensors, constant: constant.is_some(), biased }
        }))
    }

    /// `R_i = sum_p sum_q x_q,i sum_j w_q,ij s_pj`.
    fn products(&mut self, ruled: &Ruled<'_>, quotients: &[BufferId]) -> Result<(), EngineError> {
        let (node, rule) = (ruled.node, ruled.rule);
        let terms = rule.parts.iter().zip(quotients);
        let terms: Vec<(&Product, BufferId)> = terms
            .flat_map(|(part, s)| live_terms(part, ruled.positive).map(move |term| (term, *s)))
            .collect();
        let mut before: Option<BufferId> = None;
        for (index, (term, s)) in terms.iter().enumerate() {
            let target =
                if index + 1 == terms.len() { ruled.out } else { self.scratch(self.layouts[ruled.out]) };
            let (weights, weighted) = ruled.weighted(term, Direction::Transposed);
            match constant_input(rule, term.input) {
                None => {
                    let factor = self.input_form(ruled.act, term.input)?;
                    let factor = self.in_blocks(factor, self.layouts[ruled.out].block())?;
                    let finish = Finish::Product { factor, addend: before };
                    self.sums(ruled, weighted, &weights, [*s, target], finish)?;
                }
                Some(_) if term.input == InputPart::Ones && before.is_none() => {
                    self.sums(ruled, weighted, &weights, [*s, target], Finish::None)?;
                }
                Some(channel) => {
                    let sum = self.scratch(self.layouts[ruled.out]);
                    self.sums(ruled, weighted, &weights, [*s, sum], Finish::None)?;
                    let factor =
                        self.per_channel((0..ruled.layer.spec.channels_in).map(|c| channel(c) as f32));
                    self.add_scaled(node, [sum, target], factor, before)?;
                }
            }
            before = Some(target);
        }
        if terms.is_empty() {
            return Err(self.unsupported(node, "its rule passes nothing on"));
        }
        Ok(())
    }

    /// `target = sum * factor + before`, with a factor per channel.
    fn add_scaled(
        &mut self,
        node: NodeId,
        [sum, target]: [BufferId; 2],
        factor: Arc<[f32]>,
        before: Option<BufferId>,
    ) -> Result<(), EngineError> {
        let [ls, lt] = [self.kernel_layout(node, sum)?, self.kernel_layout(node, target)?];
        let reads = [Operand::Tensor("sum", ls), Operand::Channels("factor")];
        let (kernel, binds) = match before {
            None => {
                let kernel = kernels::elementwise("scaled", reads, [("y", lt)], |b, [x, f]| [b.mul(x, f)]);
                (kernel, vec![Bind::Read(sum), Bind::Constant(factor)])
            }
            Some(before) => {
                let [x, f] = reads;
                let reads = [x, f, Operand::Tensor("before", self.kernel_layout(node, before)?)];
                let kernel =
                    kernels::elementwise("scaled", reads, [("y", lt)], |b, [x, f, y]| [b.fma(x, f, y)]);
                (kernel, vec![Bind::Read(sum), Bind::Constant(factor), Bind::Read(before)])
            }
        };
        self.kernel(kernel, binds.into_iter().chain([Bind::Write(target)]).collect())
    }

    /// The activation, its positive or its negative part, laid out like the activation.
    fn input_form(&mut self, act: ValueId, part: InputPart) -> Result<BufferId, EngineError> {
        let a = self.buffer(act)?;
        let (form, function) = match part {
            InputPart::Positive if !self.is_non_negative(act) => (Made::Positive, Function::Positive),
            InputPart::Negative => (Made::Negative, Function::Negative),
            _ => return Ok(a),
        };
        if let Some(made) = self.forms.get(&(a, form)) {
            return Ok(*made);
        }
        let made = self.scratch(self.layouts[a]);
        self.push(Action::Map { input: a, output: made, function });
        self.forms.insert((a, form), made);
        Ok(made)
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

/// The terms of a part that are not zero whatever the input.
fn live_terms(part: &rule::Part, positive: bool) -> impl Iterator<Item = &Product> {
    part.terms.iter().filter(move |term| !(positive && term.input == InputPart::Negative))
}

/// The value of each channel of an input that does not depend on the activation.
fn constant_input(rule: &LinearRule, input: InputPart) -> Option<impl Fn(usize) -> f64> {
    let bounds = rule.bounds.as_ref();
    let values = match input {
        InputPart::Ones => vec![1.0],
        InputPart::MinusLow => bounds.map_or(vec![0.0], |b| b.low.iter().map(|v| -v).collect()),
        InputPart::MinusHigh => bounds.map_or(vec![0.0], |b| b.high.iter().map(|v| -v).collect()),
        InputPart::Raw | InputPart::Positive | InputPart::Negative => return None,
    };
    Some(move |channel: usize| values.get(channel % values.len()).copied().unwrap_or(0.0))
}

impl Ruled<'_> {
    /// The form of the weights that a product takes.
    fn formed(&self, term: &Product) -> Vec<f32> {
        self.weights.iter().map(|w| term.weight.of(f64::from(*w), self.rule.gamma) as f32).collect()
    }

    /// The weights of a product, and how a convolution uses them.
    fn weighted(&self, term: &Product, direction: Direction) -> (Cow<'_, [f32]>, Weighted) {
        let part = match term.weight {
            WeightPart::Raw => Some(Part::Raw),
            WeightPart::Positive => Some(Part::Positive),
            WeightPart::Negative => Some(Part::Negative),
            _ => None,
        };
        let positive_input = self.positive || term.input == InputPart::Positive;
        let positive_weight =
            matches!(term.weight, WeightPart::Positive | WeightPart::Square | WeightPart::Ones);
        let purpose = match direction {
            Direction::Forward if positive_input && positive_weight => {
                Purpose::Divisor { non_negative: true }
            }
            // Its zeros have to be zeros.
            Direction::Forward if self.rule.fallback == Fallback::Flat => Purpose::Exact,
            Direction::Forward => Purpose::Divisor { non_negative: false },
            Direction::Transposed => Purpose::Plain,
        };
        match part {
            Some(part) => {
                (Cow::Borrowed(&self.weights), Weighted { direction, part, weight: self.weight, purpose })
            }
            None => (
                Cow::Owned(self.formed(term)),
                Weighted { direction, part: Part::Raw, weight: None, purpose },
            ),
        }
    }
}
