//! The normal form of a linear layer's rule; [`relc_ir::rule::LinearRule`] states the formula.

use relc_ir::op::LinearLayer;
use relc_ir::rule::{
    BiasPart, Condition, FALLBACK_THRESHOLD, Fallback, InputPart, Leak, LinearRule, Part, Stabiliser,
    WeightPart,
};
use relc_ir::{Dim, NodeId};

use crate::ExportError;
use crate::layer::Layer;
use crate::writer::Writer;

/// A form of a layer's input.
struct Form {
    name: String,
    /// Whether it is one everywhere.
    ones: bool,
}

/// What all parts of a rule read.
struct Linear<'a> {
    layer: Layer,
    rule: &'a LinearRule,
    r: String,
    /// The bias, in a shape that broadcasts to the output, as a weight and that shape; only if it enters.
    bias: Option<(String, Vec<Dim>)>,
    z: Option<String>,
    /// The axes of the output but the first.
    axes: Vec<usize>,
}

/// Writes a linear layer's relevance node.
pub(crate) fn write(
    w: &mut Writer<'_>,
    node: NodeId,
    layer: &LinearLayer,
    rule: &LinearRule,
) -> Result<Vec<String>, ExportError> {
    let graph = w.graph;
    let values = graph.operands(node);
    let names = w.operands(node)?;
    let malformed = || ExportError::Node {
        node: graph.describe(node),
        message: "got other operands than expected of a layer's rule".into(),
    };
    let (names, z) = match &names[..] {
        [rest @ .., z] if rule.reads_output() => (rest, Some(z.clone())),
        all => (all, None),
    };
    let ([r, act, parameters @ ..], [r_value, act_value, ..]) = (names, &values[..]) else {
        return Err(malformed());
    };
    let types = [graph.ty(*act_value), graph.ty(*r_value)];
    let weight = || parameters.first().cloned().ok_or_else(malformed);
    let (layer, folded) = match layer {
        LinearLayer::Conv(conv) => (Layer::conv(conv, weight()?, rule.gamma, types), conv.folded_bias),
        LinearLayer::Gemm(gemm) => (Layer::gemm(gemm, weight()?, rule.gamma, types), gemm.folded_bias),
        LinearLayer::AveragePool(pool) => {
            (Layer::average(pool, types[0], types[1]).with_gamma(rule.gamma), false)
        }
        LinearLayer::GlobalAveragePool => (Layer::global(types[0], types[1]).with_gamma(rule.gamma), false),
    };
    let output = types[1].dims();
    let bias = parameters.get(1).filter(|_| rule.bias.admits(folded)).map(|name| {
        let dims = (0..output.len()).map(|i| if i == 1 { output[1] } else { Dim::Fixed(1) }).collect();
        (name.clone(), dims)
    });
    let sign = w.signs.sign(*act_value);
    let axes = (1..output.len()).collect();
    let linear = Linear { layer, rule, r: r.clone(), bias, z, axes };
    let forms: Vec<Vec<(WeightPart, Form)>> = rule
        .parts
        .iter()
        .map(|part| {
            let form = |w: &mut Writer<'_>, input| {
                match input {
                    InputPart::Positive if !sign.positive => None,
                    InputPart::Negative if !sign.negative => None,
                    InputPart::Positive if !sign.negative => Some(InputPart::Raw),
                    InputPart::Negative if !sign.positive => Some(InputPart::Raw),
                    input => Some(input),
                }
                .and_then(|input| linear.input(w, input, act))
            };
            part.terms.iter().filter_map(|term| Some((term.weight, form(w, term.input)?))).collect()
        })
        .collect();
    Ok(linear.write(w, &forms))
}

impl Linear<'_> {
    /// A form of the input; what does not depend on it has one sample.
    fn input(&self, w: &mut Writer<'_>, input: InputPart, act: &str) -> Option<Form> {
        let zero = w.scalar(0.0);
        let bounds = self.rule.bounds.as_ref();
        let name = match input {
            InputPart::Raw => act.to_string(),
            InputPart::Positive => w.op("Relu", &[act]),
            InputPart::Negative => w.op("Min", &[act, &zero]),
            InputPart::Ones => self.constant(w, &[-1.0]),
            InputPart::MinusLow => self.constant(w, &bounds?.low),
            InputPart::MinusHigh => self.constant(w, &bounds?.high),
        };
        Some(Form { name, ones: input == InputPart::Ones })
    }

    /// Minus one value, or one for each channel, at every place of one sample.
    fn constant(&self, w: &mut Writer<'_>, values: &[f64]) -> String {
        let values: Vec<f64> = values.iter().map(|v| -v).collect();
        let mut dims = vec![1; self.layer.input().len()];
        if let Some(channels) = dims.get_mut(1) {
            *channels = values.len();
        }
        let values = w.numbers(&dims, &values);
        let one_sample: Vec<Dim> = self.layer.input().iter().map(|d| Dim::Fixed(d.bind(1))).collect();
        w.expand(&values, &one_sample)
    }

    fn write(&self, w: &mut Writer<'_>, forms: &[Vec<(WeightPart, Form)>]) -> Vec<String> {
        let mut relevance: Option<String> = None;
        let mut evenly: Option<String> = None;
        let mut lost = (self.rule.leak != Leak::Lost).then(|| self.r.clone());
        for (part, forms) in self.rule.parts.iter().zip(forms) {
            let sum = self.sum(w, part, forms);
            let Shares { s, vanished } = self.shares(w, part, sum.as_deref());
            for (weight, form) in forms {
                let c = self.layer.transpose(w, *weight, &s);
                let c = if form.ones { c } else { w.op("Mul", &[&form.name, &c]) };
                relevance = Some(add(w, relevance, c));
            }
            if let (Some(lost), Some(sum)) = (&mut lost, sum) {
                let passed = w.op("Mul", &[&s, &sum]);
                *lost = w.op("Sub", &[lost, &passed]);
            }
            if let Some(vanished) = vanished {
                evenly = Some(add(w, evenly, vanished));
            }
        }
        if let Some(evenly) = evenly.filter(|_| lost.is_none()) {
            let fan_in = self.layer.reciprocal_fan_in(w);
            let share = w.op("Mul", &[&evenly, &fan_in]);
            let spread = self.layer.spread(w, &share);
            relevance = Some(add(w, relevance, spread));
        }
        let relevance = relevance.unwrap_or_else(|| {
            // No product takes part: all inputs have the sign that the rule does not look at.
            let nothing = w.scaled(&self.r, 0.0);
            self.layer.spread(w, &nothing)
        });
        std::iter::once(relevance).chain(lost).collect()
    }

    /// A part's denominator without bias and stabiliser; `None` if nothing adds to it.
    fn sum(&self, w: &mut Writer<'_>, part: &Part, forms: &[(WeightPart, Form)]) -> Option<String> {
        if let Some(z) = self.z.as_ref().filter(|_| self.rule.is_output(part)) {
            return Some(match self.bias_form(w, BiasPart::Raw) {
                Some(bias) => w.op("Sub", &[z, &bias]),
                None => z.clone(),
            });
        }
        if !part.divides {
            return None;
        }
        forms.iter().fold(None, |sum, (weight, form)| {
            let term = self.layer.apply(w, *weight, &form.name);
            Some(add(w, sum, term))
        })
    }

    /// The bias that enters a part, in a shape that broadcasts to the output.
    fn bias_form(&self, w: &mut Writer<'_>, form: BiasPart) -> Option<String> {
        let (bias, dims) = self.bias.as_ref()?;
        let bias = w.form(bias, form.form(), self.rule.gamma);
        Some(w.reshape(&bias, dims))
    }

    /// What the outputs pass back by a part.
    fn shares(&self, w: &mut Writer<'_>, part: &Part, sum: Option<&str>) -> Shares {
        let mut r = w.scaled(&self.r, part.scale);
        let zero = w.scalar(0.0);
        if let (Some(z), true) = (&self.z, part.on != Condition::Always) {
            let comparison = if part.on == Condition::PositiveOutput { "Greater" } else { "Less" };
            let holds = w.op(comparison, &[z, &zero]);
            r = w.choose(&holds, &r, &zero);
        }
        if !part.divides {
            return Shares { s: r, vanished: None };
        }
        let bias = self.bias_form(w, part.bias);
        let z = match (sum, bias) {
            (Some(sum), Some(bias)) => w.op("Add", &[sum, &bias]),
            (Some(sum), None) => sum.to_string(),
            (None, Some(bias)) => bias,
            (None, None) => w.scaled(&self.r, 0.0),
        };
        let (d, never_vanishes) = self.stabilised(w, &z);
        if self.rule.fallback == Fallback::None && never_vanishes {
            return Shares { s: w.op("Div", &[&r, &d]), vanished: None };
        }
        let vanishes = if self.rule.fallback == Fallback::Flat {
            let (magnitude, threshold) = (w.op("Abs", &[&d]), w.scalar(FALLBACK_THRESHOLD));
            w.op("Less", &[&magnitude, &threshold])
        } else {
            w.op("Equal", &[&d, &zero])
        };
        // What is divided by infinity is 0.
        let infinity = w.scalar(f64::INFINITY);
        let d = w.choose(&vanishes, &infinity, &d);
        let s = w.op("Div", &[&r, &d]);
        let evenly = self.rule.fallback == Fallback::Flat && self.rule.leak == Leak::Lost;
        let vanished = evenly.then(|| w.choose(&vanishes, &r, &zero));
        Shares { s, vanished }
    }

    /// A denominator and its stabiliser, and whether that keeps it from 0.
    fn stabilised(&self, w: &mut Writer<'_>, z: &str) -> (String, bool) {
        let signed = |w: &mut Writer<'_>, eps: &str| {
            let zero = w.scalar(0.0);
            let (positive, minus) = (w.op("GreaterOrEqual", &[z, &zero]), w.op("Neg", &[eps]));
            let eps = w.choose(&positive, eps, &minus);
            w.op("Add", &[z, &eps])
        };
        match self.rule.stabiliser {
            Stabiliser::None => (z.to_string(), false),
            Stabiliser::Plus(eps) => {
                let eps = w.scalar(eps);
                (w.op("Add", &[z, &eps]), false)
            }
            Stabiliser::Signed(eps) => {
                // One that f32 can't hold is none.
                let (keeps, eps) = (eps as f32 != 0.0, w.scalar(eps));
                (signed(w, &eps), keeps)
            }
            Stabiliser::Relative(k) => {
                let square = w.op("Mul", &[z, z]);
                let mean = w.reduce_mean(&square, &self.axes);
                let root = w.op("Sqrt", &[&mean]);
                let eps = w.scaled(&root, k);
                (signed(w, &eps), false)
            }
        }
    }
}

/// A part's quotients, and what has nowhere to go in proportion.
struct Shares {
    s: String,
    vanished: Option<String>,
}

fn add(w: &mut Writer<'_>, sum: Option<String>, term: String) -> String {
    match sum {
        Some(sum) => w.op("Add", &[&sum, &term]),
        None => term,
    }
}
