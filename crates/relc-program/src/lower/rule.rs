//! Rules on linear layers: their denominators, one step for the quotients of all parts, and a transposed convolution for
//! each product.

use relc_ir::op::{Arithmetic, AveragePool, LinearLayer};
use relc_ir::rule::{
    self, FALLBACK_THRESHOLD, Fallback, InputPart, Leak, LinearRule, Product, Stabiliser, WeightPart,
};
use relc_ir::{NodeId, ValueId as GraphValue, Values};

use super::layer::Layer;
use super::{Builder, First, image};
use crate::conv::Direction;
use crate::error::LowerError;
use crate::op::{
    ConvOp, Denominator, Epilogue, Exactness, Flat, ProductSigns, QuotientPart, QuotientStabiliser,
    Quotients, Side, StepOp, Vanishing,
};
use crate::program::ValueId;

/// A rule on a layer, with what its steps have in common.
struct Ruled<'r> {
    node: NodeId,
    layer: Layer,
    rule: &'r LinearRule,
    /// The value that holds the weights; none for a pool.
    weight: Option<GraphValue>,
    /// The bias, if it enters.
    bias: Option<Values>,
    act: GraphValue,
    /// Whether the activation is never negative.
    positive: bool,
    /// R, which arrives, and the relevance of the input.
    relevance: ValueId,
    out: ValueId,
}

impl Builder<'_> {
    /// Whether steps do what a rule says; the interpreter does the rest.
    fn has_steps(&self, node: NodeId, rule: &LinearRule) -> bool {
        let Some(act) = self.graph.operands(node).get(1).copied() else { return false };
        let positive = self.is_non_negative(act);
        // All goes to the fallback or the leak, which the interpreter knows how to do.
        if rule.parts.iter().all(|part| live_terms(part, positive).next().is_none()) {
            return false;
        }
        let stable = matches!(rule.stabiliser, Stabiliser::Plus(eps) | Stabiliser::Signed(eps) if eps > 0.0);
        let relative = matches!(rule.stabiliser, Stabiliser::Relative(_));
        if relative && !self.has_one_denominator(node, rule, positive) {
            return false;
        }
        let plain = |p: &rule::Part| p.scale == 1.0 && p.on == rule::Condition::Always && p.divides;
        match (rule.fallback, &rule.parts[..]) {
            (Fallback::None, parts) => {
                stable || relative || rule.leak != Leak::Lost || parts.iter().all(|p| !p.divides)
            }
            // What is spread is all that arrives where the one denominator vanishes.
            (Fallback::Flat, parts) => matches!(parts, [part] if plain(part)),
        }
    }

    /// Whether all denominators of a rule lie in one tensor as they are, so that their mean square can be taken.
    fn has_one_denominator(&self, node: NodeId, rule: &LinearRule, positive: bool) -> bool {
        let [part] = &rule.parts[..] else { return false };
        let live: Vec<&Product> = live_terms(part, positive).collect();
        let summed = matches!(live[..], [term] if constant_input(rule, term.input).is_none());
        rule.is_output(part) || (summed && self.rule_bias(node, rule).is_none())
    }

    /// The bias that enters a rule's denominators.
    fn rule_bias(&self, node: NodeId, rule: &LinearRule) -> Option<GraphValue> {
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
    ) -> Result<(), LowerError> {
        let layer = if self.has_steps(node, rule) { self.layer(node, layer)? } else { None };
        let Some(layer) = layer else { return self.interpret(node) };
        let operands = self.graph.operands(node);
        let act = operands[1];
        let bias = self.rule_bias(node, rule).map(|bias| self.weight_data(node, bias)).transpose()?;
        let ruled = Ruled {
            node,
            weight: operands.get(2).copied().filter(|_| layer.tap().is_none()),
            layer,
            rule,
            bias,
            act,
            positive: self.is_non_negative(act),
            relevance: self.value(operands[0])?,
            out: self.value(node.first())?,
        };
        self.quotients(&ruled)
    }

    fn quotients(&mut self, ruled: &Ruled<'_>) -> Result<(), LowerError> {
        let (node, rule) = (ruled.node, ruled.rule);
        let z = self.graph.operands(node).last().copied().filter(|_| rule.reads_output());
        let z = z.map(|z| self.value(z)).transpose()?;
        let (mut tensors, mut constants) = (Vec::new(), Vec::new());
        let mut parts = Vec::with_capacity(rule.parts.len());
        for part in &rule.parts {
            let denominator = self.denominator(ruled, part, &mut tensors, &mut constants)?;
            parts.push(QuotientPart { scale: part.scale as f32, on: part.on, denominator });
        }
        let mut reads = vec![ruled.relevance];
        reads.extend(z);
        let stabiliser = match rule.stabiliser {
            Stabiliser::None => QuotientStabiliser::None,
            Stabiliser::Plus(eps) => QuotientStabiliser::Plain(eps),
            Stabiliser::Signed(eps) => QuotientStabiliser::Signed(eps),
            Stabiliser::Relative(factor) => {
                let measured = match (z, &tensors[..]) {
                    (Some(z), _) => z,
                    (None, [sum]) => *sum,
                    _ => return Err(self.unsupported(node, "its denominators lie in several places")),
                };
                let eps = self.temporary([1; 4]);
                self.step(StepOp::Stabilise { factor }, vec![measured], eps);
                reads.push(eps);
                QuotientStabiliser::Given
            }
        };
        reads.extend(tensors);
        let vanishing = match rule.fallback {
            Fallback::Flat => Vanishing::Flat { floor: FALLBACK_THRESHOLD as f32, flag: self.flag() },
            Fallback::None => Vanishing::Clipped,
        };
        let quotients: Vec<ValueId> = parts.iter().map(|_| self.like(ruled.relevance)).collect();
        let lost = rule.leak != Leak::Lost;
        let mut writes = quotients.clone();
        if lost {
            writes.push(self.value(GraphValue { node, port: 1 })?);
        }
        let op = Quotients { parts, stabiliser, vanishing, output: z.is_some(), lost };
        self.push(StepOp::Quotients(Box::new(op)), reads, constants, writes);
        self.products(ruled, &quotients)?;
        if let (Vanishing::Flat { flag, .. }, [s]) = (vanishing, &quotients[..]) {
            let flat = Flat {
                window: ruled.layer.window,
                groups: ruled.layer.spec.groups,
                flag,
                tally: Vec::new(),
                whole: Vec::new(),
            };
            self.step(StepOp::Flat(flat), vec![ruled.relevance, *s], ruled.out);
        }
        Ok(())
    }

    /// What a part divides by; its tensors, its constant and its bias join those of the parts before.
    fn denominator(
        &mut self,
        ruled: &Ruled<'_>,
        part: &rule::Part,
        tensors: &mut Vec<ValueId>,
        constants: &mut Vec<String>,
    ) -> Result<Option<Denominator>, LowerError> {
        let (node, rule) = (ruled.node, ruled.rule);
        if !part.divides {
            return Ok(None);
        }
        let before = tensors.len();
        let mut constant: Option<Vec<f64>> = None;
        let out = self.image(ruled.relevance);
        let [_, od, oh, ow] = out;
        if !rule.is_output(part) {
            for term in live_terms(part, ruled.positive) {
                if let Some(channel) = constant_input(rule, term.input) {
                    let [_, d, h, w] = image(self.graph.ty(ruled.act));
                    let sums = self.constant_sums(ruled, term, channel, [d, h, w], [od, oh, ow])?;
                    constant = Some(match constant {
                        Some(before) => before.iter().zip(&sums).map(|(a, b)| a + b).collect(),
                        None => sums,
                    });
                } else {
                    let x = self.input_part(ruled.act, term.input)?;
                    let sum = self.temporary(out);
                    self.sums(ruled, term, Direction::Forward, x, sum)?;
                    tensors.push(sum);
                }
            }
        }
        let has_constant = constant.is_some();
        if let Some(constant) = constant {
            constants.push(self.derived(node, "denominator", out.to_vec(), constant)?);
        }
        let form = |b: &f32| f64::from(part.bias.of(f64::from(*b), rule.gamma) as f32);
        let bias: Option<Vec<f64>> = ruled.bias.as_ref().map(|bias| bias.iter().map(form).collect());
        let biased = bias.is_some();
        if let Some(bias) = bias {
            constants.push(self.per_channel(node, "bias", bias)?);
        }
        Ok(Some(match rule.is_output(part) {
            true => Denominator::Output { biased },
            false => Denominator::Sum { tensors: tensors.len() - before, constant: has_constant, biased },
        }))
    }

    /// The sums of a product whose input does not depend on the activation.
    fn constant_sums(
        &self,
        ruled: &Ruled<'_>,
        term: &Product,
        channel: impl Fn(usize) -> f64,
        size: [usize; 3],
        out: [usize; 3],
    ) -> Result<Vec<f64>, LowerError> {
        let rounded = |w: f64| f64::from(term.weight.of(w, ruled.rule.gamma) as f32);
        if let Some(tap) = ruled.layer.tap() {
            return Ok(ruled.layer.constant_sums(|_| rounded(f64::from(tap)), channel, size, out));
        }
        let weight = ruled.weight.ok_or_else(|| self.unsupported(ruled.node, "it has no weight"))?;
        let data = self.weight_data(ruled.node, weight)?;
        let value = |i: usize| data.get(ruled.layer.stored(i)).map_or(0.0, |w| rounded(f64::from(*w)));
        Ok(ruled.layer.constant_sums(value, channel, size, out))
    }

    /// `R_i = sum_p sum_q x_q,i sum_j w_q,ij s_pj`.
    fn products(&mut self, ruled: &Ruled<'_>, quotients: &[ValueId]) -> Result<(), LowerError> {
        let (node, rule) = (ruled.node, ruled.rule);
        let terms: Vec<(&Product, ValueId)> = rule
            .parts
            .iter()
            .zip(quotients)
            .flat_map(|(part, s)| live_terms(part, ruled.positive).map(move |term| (term, *s)))
            .collect();
        let mut before: Option<ValueId> = None;
        for (index, (term, s)) in terms.iter().enumerate() {
            let target = if index + 1 == terms.len() { ruled.out } else { self.like(ruled.out) };
            match constant_input(rule, term.input) {
                Some(_) if term.input == InputPart::Ones && before.is_none() => {
                    self.sums(ruled, term, Direction::Transposed, *s, target)?;
                }
                None => {
                    let factor = self.input_part(ruled.act, term.input)?;
                    let sum = self.like(ruled.out);
                    self.sums(ruled, term, Direction::Transposed, *s, sum)?;
                    let product = if before.is_some() { self.like(ruled.out) } else { target };
                    let mul = StepOp::Binary { op: Arithmetic::Mul, relu: false };
                    self.step(mul, vec![factor, sum], product);
                    if let Some(before) = before {
                        self.add(&[before, product], target);
                    }
                }
                Some(channel) => {
                    let sum = self.like(ruled.out);
                    self.sums(ruled, term, Direction::Transposed, *s, sum)?;
                    let channels = 0..ruled.layer.spec.channels_in;
                    let factor = channels.map(|c| f64::from(channel(c) as f32)).collect();
                    let factor = self.per_channel(node, "factor", factor)?;
                    let reads = [Some(sum), before].into_iter().flatten().collect();
                    let op = StepOp::ScaleChannels { addend: before.is_some() };
                    self.push(op, reads, vec![factor], vec![target]);
                }
            }
            before = Some(target);
        }
        if terms.is_empty() {
            return Err(self.unsupported(node, "its rule passes nothing on"));
        }
        Ok(())
    }

    /// The sums of a layer's products: a convolution, or what a mean over the picture has in its place.
    fn sums(
        &mut self,
        ruled: &Ruled<'_>,
        term: &Product,
        direction: Direction,
        input: ValueId,
        output: ValueId,
    ) -> Result<(), LowerError> {
        if let (Some(pixels), Some(tap)) = (ruled.layer.pixels, ruled.layer.tap()) {
            let weight = term.weight.of(f64::from(tap), ruled.rule.gamma) as f32;
            self.mean(ruled, [weight, pixels as f32], direction, input, output);
            return Ok(());
        }
        let mut constants = Vec::new();
        if ruled.layer.tap().is_none() {
            let weight = ruled.weight.ok_or_else(|| self.unsupported(ruled.node, "it has no weight"))?;
            constants.push(self.weight(ruled.node, weight)?);
        }
        let weights = ruled.layer.weights(term.weight, ruled.rule.gamma);
        let positive_input = match term.input {
            InputPart::Positive | InputPart::Ones => Some(true),
            InputPart::Negative => Some(false),
            InputPart::Raw => ruled.positive.then_some(true),
            InputPart::MinusLow | InputPart::MinusHigh => None,
        };
        let positive_weight = match weights.form {
            WeightPart::Positive | WeightPart::Square | WeightPart::Ones => Some(true),
            WeightPart::Negative => Some(false),
            // A pool's weights are positive.
            _ => ruled.layer.tap().is_some().then_some(true),
        };
        let products = match positive_input.zip(positive_weight) {
            None => ProductSigns::Mixed,
            Some((input, weight)) if input == weight => ProductSigns::NonNegative,
            Some(_) => ProductSigns::NonPositive,
        };
        let (signs, exactness) = match direction {
            Direction::Forward if products.agree() || ruled.rule.fallback != Fallback::Flat => {
                (products, Exactness::Divisor)
            }
            // Its zeros have to be zeros.
            Direction::Forward => (products, Exactness::Exact),
            // What speaks against an output may be next to nothing however much relevance arrives there: the quotients
            // have no common size, and a sum of them must not depend on one that is not in it.
            Direction::Transposed if products == ProductSigns::NonPositive => {
                (ProductSigns::Mixed, Exactness::Exact)
            }
            Direction::Transposed => (ProductSigns::Mixed, Exactness::Plain),
        };
        let op = ConvOp {
            spec: ruled.layer.spec,
            direction,
            weights,
            exactness,
            signs,
            algorithm: None,
            epilogue: Epilogue::None,
        };
        self.push(StepOp::Conv(Box::new(op)), vec![input], constants, vec![output]);
        Ok(())
    }

    /// The mean over an image, times what its weights are of those of a mean; and its transposition.
    fn mean(
        &mut self,
        ruled: &Ruled<'_>,
        [weight, pixels]: [f32; 2],
        direction: Direction,
        input: ValueId,
        output: ValueId,
    ) {
        if direction == Direction::Transposed {
            let op = StepOp::Broadcast { weight, product: false, addend: false };
            let [_, depth, ..] = self.image(output);
            let input = self.for_slices(input, depth);
            return self.step(op, vec![input], output);
        }
        let pool = AveragePool { window: ruled.layer.window, count_include_pad: false };
        let factor = weight * pixels;
        if factor == 1.0 {
            return self.step(StepOp::AveragePool(pool), vec![input], output);
        }
        let mean = self.like(output);
        self.step(StepOp::AveragePool(pool), vec![input], mean);
        self.step(StepOp::Scale { factor }, vec![mean], output);
    }

    /// The activation, its positive or its negative part.
    fn input_part(&mut self, act: GraphValue, part: InputPart) -> Result<ValueId, LowerError> {
        let a = self.value(act)?;
        let side = match part {
            InputPart::Positive if !self.is_non_negative(act) => Side::Positive,
            InputPart::Negative => Side::Negative,
            _ => return Ok(a),
        };
        if let Some(made) = self.parts.get(&(a, side)) {
            return Ok(*made);
        }
        let made = self.like(a);
        self.step(StepOp::Part(side), vec![a], made);
        self.parts.insert((a, side), made);
        Ok(made)
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
