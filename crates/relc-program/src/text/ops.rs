//! The text form of what steps do: a mnemonic and attributes.

use relc_ir::names::{name_of, named};
use relc_ir::op::{Arithmetic, AveragePool, MaxPool};
use relc_ir::rule::{Condition, WeightPart};
use relc_ir::{Attr, AttrMap, Attrs, Op};

use crate::conv::{ConvSpec, Direction};
use crate::op::{
    Algorithm, ConvOp, Denominator, Epilogue, Exactness, Flat, Move, Precision, ProductSigns, QuotientPart,
    QuotientStabiliser, Quotients, Side, StepOp, Strided, Tile, Vanishing, WeightSource, Weights,
};

const ALGORITHMS: [(&str, Algorithm); 14] = [
    ("direct", Algorithm::Direct),
    ("winograd2", Algorithm::Winograd2),
    ("winograd4", Algorithm::Winograd4),
    ("bf16x6", Algorithm::Bf16x6),
    ("gather", Algorithm::Gather),
    ("gemm32", Algorithm::Gemm(Tile::Tile32, Precision::F32)),
    ("gemm64", Algorithm::Gemm(Tile::Tile64, Precision::F32)),
    ("gemm128", Algorithm::Gemm(Tile::Tile128, Precision::F32)),
    ("gemm32.tf32", Algorithm::Gemm(Tile::Tile32, Precision::Tf32)),
    ("gemm64.tf32", Algorithm::Gemm(Tile::Tile64, Precision::Tf32)),
    ("gemm128.tf32", Algorithm::Gemm(Tile::Tile128, Precision::Tf32)),
    ("gemm32.tf32x3", Algorithm::Gemm(Tile::Tile32, Precision::Tf32x3)),
    ("gemm64.tf32x3", Algorithm::Gemm(Tile::Tile64, Precision::Tf32x3)),
    ("gemm128.tf32x3", Algorithm::Gemm(Tile::Tile128, Precision::Tf32x3)),
];
const EXACTNESS: [(&str, Exactness); 3] =
    [("plain", Exactness::Plain), ("divisor", Exactness::Divisor), ("exact", Exactness::Exact)];
const BINARY: [(&str, Arithmetic); 3] =
    [("add", Arithmetic::Add), ("sub", Arithmetic::Sub), ("mul", Arithmetic::Mul)];
const SIDES: [(&str, Side); 2] = [("part.positive", Side::Positive), ("part.negative", Side::Negative)];
/// Before the name of what stands for a derivative.
const DERIVATIVE: &str = "derivative.";

/// The number with the fewest digits that is this f32.
fn short(value: f32) -> Attr {
    Attr::Float(format!("{value:?}").parse().unwrap_or(f64::from(value)))
}

/// Attributes, of which those that are as usual are left out.
#[derive(Default)]
struct Written(Attrs);

impl Written {
    fn put(&mut self, name: &'static str, value: Attr) {
        self.0.push((name, value));
    }

    fn labels(&mut self, name: &'static str, labels: &[String]) {
        if !labels.is_empty() {
            self.put(name, Attr::Text(labels.join(" ")));
        }
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        if value {
            self.put(name, Attr::flag(true));
        }
    }
}

/// Takes a flag that is left out where it is `no`.
fn flag(attrs: &mut AttrMap, name: &str) -> Result<bool, String> {
    if attrs.has(name) { attrs.flag(name) } else { Ok(false) }
}

/// Takes a text that may be left out.
fn text(attrs: &mut AttrMap, name: &str) -> Result<Option<String>, String> {
    if attrs.has(name) { attrs.text(name).map(Some) } else { Ok(None) }
}

fn word(attrs: &mut AttrMap, name: &str) -> Result<Option<String>, String> {
    if attrs.has(name) { attrs.word(name).map(Some) } else { Ok(None) }
}

fn float32(attrs: &mut AttrMap, name: &str) -> Result<f32, String> {
    Ok(attrs.float(name)? as f32)
}

fn strides(attrs: &mut AttrMap, name: &str) -> Result<Vec<isize>, String> {
    let strides = attrs.ints(name)?.into_iter().map(isize::try_from).collect::<Result<_, _>>();
    strides.map_err(|_| format!("attribute \"{name}\": got a stride that overflows"))
}

fn labels(text: Option<String>) -> Vec<String> {
    text.map(|text| text.split_whitespace().map(str::to_string).collect()).unwrap_or_default()
}

impl StepOp {
    /// The name in the text form: `conv`, `quotients`, ...
    pub fn mnemonic(&self) -> String {
        match self {
            StepOp::Conv(conv) if conv.direction == Direction::Forward => "conv".into(),
            StepOp::Conv(_) => "conv.transposed".into(),
            StepOp::MaxPool(_) => "max_pool".into(),
            StepOp::AveragePool(_) => "average_pool".into(),
            StepOp::Winner(_) => "winner".into(),
            StepOp::Activation(activation) => Op::Activation(*activation).mnemonic(),
            StepOp::Part(side) => name_of(&SIDES, *side).into(),
            StepOp::Affine { .. } => "affine".into(),
            StepOp::Binary { op, .. } => name_of(&BINARY, *op).into(),
            StepOp::Sum { .. } => "sum".into(),
            StepOp::Scale { .. } => "scale".into(),
            StepOp::ScaleChannels { .. } => "scale_channels".into(),
            StepOp::ScaleElements => "scale_elements".into(),
            StepOp::Broadcast { .. } => "broadcast".into(),
            StepOp::SplitRatio => "split.ratio".into(),
            StepOp::Share { .. } => "share".into(),
            StepOp::Quotients(_) => "quotients".into(),
            StepOp::Stabilise { .. } => "stabilise".into(),
            StepOp::Standardise { .. } => "standardise".into(),
            StepOp::Derivative(kind) => format!("{DERIVATIVE}{}", kind.name()),
            StepOp::Convert => "convert".into(),
            StepOp::Move(_) => "move".into(),
            StepOp::Interpret => "interpret".into(),
            StepOp::Flat(_) => "flat".into(),
            StepOp::Raise { .. } => "raise".into(),
            StepOp::Tally(_) => "tally".into(),
            StepOp::Absorbed { .. } => "absorbed".into(),
        }
    }

    /// The attributes in the order in which they are printed.
    pub fn attrs(&self) -> Attrs {
        let mut w = Written::default();
        match self {
            StepOp::Conv(conv) => conv.attrs(&mut w),
            StepOp::MaxPool(pool) | StepOp::Winner(pool) => w.0 = pool.attrs(),
            StepOp::AveragePool(pool) => w.0 = pool.attrs(),
            StepOp::Activation(activation) => w.0 = Op::Activation(*activation).attrs(),
            StepOp::Affine { relu } | StepOp::Binary { relu, .. } | StepOp::Sum { relu } => {
                w.flag("relu", *relu)
            }
            StepOp::Scale { factor } => w.put("factor", short(*factor)),
            StepOp::ScaleChannels { addend } => w.flag("addend", *addend),
            StepOp::Broadcast { weight, product, addend } => {
                w.put("weight", short(*weight));
                w.flag("product", *product);
                w.flag("addend", *addend);
            }
            StepOp::Share { share } => w.put("share", short(*share)),
            StepOp::Quotients(quotients) => quotients.attrs(&mut w),
            StepOp::Stabilise { factor } => w.put("factor", Attr::Float(*factor)),
            StepOp::Standardise { runs, epsilon } => {
                w.put("runs", Attr::Int(*runs as i64));
                w.put("epsilon", Attr::Float(*epsilon));
            }
            StepOp::Move(step) => {
                w.put("dims", Attr::sizes(&step.dims));
                for (base, strides, at) in
                    [("to", "to_strides", &step.to), ("from", "from_strides", &step.from)]
                {
                    w.put(base, Attr::Int(at.base as i64));
                    w.put(strides, Attr::ints(&at.strides.iter().map(|s| *s as i64).collect::<Vec<_>>()));
                }
                w.flag("fill", step.fill);
            }
            StepOp::Flat(flat) => {
                w.0 = MaxPool { window: flat.window }.attrs();
                w.put("groups", Attr::Int(flat.groups as i64));
                w.put("flag", Attr::Int(flat.flag as i64));
                w.labels("tally", &flat.tally);
                w.labels("whole", &flat.whole);
            }
            StepOp::Raise { flag } => w.put("flag", Attr::Int(*flag as i64)),
            StepOp::Tally(of) => w.put("of", Attr::Text(of.join(" "))),
            StepOp::Absorbed { bias } => {
                w.put("by", Attr::Word(if *bias { "bias" } else { "stabiliser" }.into()))
            }
            StepOp::Part(_)
            | StepOp::ScaleElements
            | StepOp::SplitRatio
            | StepOp::Derivative(_)
            | StepOp::Convert
            | StepOp::Interpret => {}
        }
        w.0
    }

    /// The op called `mnemonic` with its attributes.
    ///
    /// # Errors
    /// If there is no such op, or an attribute is missing, malformed or left over.
    pub fn from_text(mnemonic: &str, mut attrs: AttrMap) -> Result<StepOp, String> {
        let a = &mut attrs;
        let op = match mnemonic {
            "conv" => StepOp::Conv(Box::new(ConvOp::from_attrs(Direction::Forward, a)?)),
            "conv.transposed" => StepOp::Conv(Box::new(ConvOp::from_attrs(Direction::Transposed, a)?)),
            "max_pool" => StepOp::MaxPool(MaxPool::from_attrs(a)?),
            "average_pool" => StepOp::AveragePool(AveragePool::from_attrs(a)?),
            "winner" => StepOp::Winner(MaxPool::from_attrs(a)?),
            "affine" => StepOp::Affine { relu: flag(a, "relu")? },
            "sum" => StepOp::Sum { relu: flag(a, "relu")? },
            "scale" => StepOp::Scale { factor: float32(a, "factor")? },
            "scale_channels" => StepOp::ScaleChannels { addend: flag(a, "addend")? },
            "scale_elements" => StepOp::ScaleElements,
            "broadcast" => StepOp::Broadcast {
                weight: float32(a, "weight")?,
                product: flag(a, "product")?,
                addend: flag(a, "addend")?,
            },
            "split.ratio" => StepOp::SplitRatio,
            "share" => StepOp::Share { share: float32(a, "share")? },
            "quotients" => StepOp::Quotients(Box::new(Quotients::from_attrs(a)?)),
            "stabilise" => StepOp::Stabilise { factor: a.float("factor")? },
            "standardise" => StepOp::Standardise { runs: a.size("runs")?, epsilon: a.float("epsilon")? },
            "convert" => StepOp::Convert,
            "move" => StepOp::Move(Move {
                dims: a.sizes("dims")?,
                to: Strided { base: a.size("to")?, strides: strides(a, "to_strides")? },
                from: Strided { base: a.size("from")?, strides: strides(a, "from_strides")? },
                fill: flag(a, "fill")?,
            }),
            "interpret" => StepOp::Interpret,
            "flat" => StepOp::Flat(Flat {
                groups: a.size("groups")?,
                flag: a.size("flag")?,
                tally: labels(text(a, "tally")?),
                whole: labels(text(a, "whole")?),
                window: MaxPool::from_attrs(a)?.window,
            }),
            "raise" => StepOp::Raise { flag: a.size("flag")? },
            "tally" => StepOp::Tally(labels(Some(a.text("of")?))),
            "absorbed" => StepOp::Absorbed {
                bias: named("by", &[("bias", true), ("stabiliser", false)], &a.word("by")?)?,
            },
            other => return Self::elementwise_from_text(other, attrs),
        };
        attrs.finish()?;
        Ok(op)
    }

    fn elementwise_from_text(mnemonic: &str, mut attrs: AttrMap) -> Result<StepOp, String> {
        let of = |table: &[(&'static str, Arithmetic)]| {
            table.iter().find(|(n, _)| *n == mnemonic).map(|(_, op)| *op)
        };
        if let Some((_, side)) = SIDES.iter().find(|(name, _)| *name == mnemonic) {
            attrs.finish()?;
            return Ok(StepOp::Part(*side));
        }
        if let Some(op) = of(&BINARY) {
            let relu = flag(&mut attrs, "relu")?;
            attrs.finish()?;
            return Ok(StepOp::Binary { op, relu });
        }
        if let Some(kind) = mnemonic.strip_prefix(DERIVATIVE) {
            attrs.finish()?;
            return Ok(StepOp::Derivative(kind.parse()?));
        }
        match Op::from_text(mnemonic, attrs)? {
            Op::Activation(activation) => Ok(StepOp::Activation(activation)),
            _ => Err(format!("got \"{mnemonic}\", expected the op of a step")),
        }
    }
}

impl ConvOp {
    fn attrs(&self, w: &mut Written) {
        let ConvSpec { channels_in, channels_out, groups, kernel, stride, dilation, pads } = self.spec;
        w.put("channels", Attr::sizes(&[channels_in, channels_out]));
        if groups != 1 {
            w.put("groups", Attr::Int(groups as i64));
        }
        // Over one slice, the first axis goes without saying.
        let [front, top, left, back, bottom, right] = pads;
        let one = kernel[0] == 1 && stride[0] == 1 && dilation[0] == 1 && front == 0 && back == 0;
        let from = usize::from(one);
        w.put("kernel", Attr::sizes(&kernel[from..]));
        if stride != [1; 3] {
            w.put("strides", Attr::sizes(&stride[from..]));
        }
        if dilation != [1; 3] {
            w.put("dilations", Attr::sizes(&dilation[from..]));
        }
        if pads != [0; 6] {
            let plane = [top, left, bottom, right];
            w.put("pads", Attr::sizes(if one { &plane } else { &pads }));
        }
        match self.weights.source {
            WeightSource::Constant => {}
            WeightSource::Transposed => w.flag("transposed", true),
            WeightSource::Tap(tap) => w.put("tap", short(tap)),
        }
        if self.weights.form != WeightPart::Raw {
            w.put("form", Attr::Text(self.weights.form.name().into()));
        }
        if self.weights.gamma != 0.0 {
            w.put("gamma", Attr::Float(self.weights.gamma));
        }
        if self.exactness != Exactness::Plain {
            w.put("exactness", Attr::Word(name_of(&EXACTNESS, self.exactness).into()));
        }
        w.flag("non_negative", self.signs == ProductSigns::NonNegative);
        w.flag("non_positive", self.signs == ProductSigns::NonPositive);
        if let Some(algorithm) = self.algorithm {
            w.put("algorithm", Attr::Word(name_of(&ALGORITHMS, algorithm).into()));
        }
        match &self.epilogue {
            Epilogue::None => {}
            Epilogue::Activate { bias, residual, joined, relu } => {
                w.put("epilogue", Attr::Word("activate".into()));
                w.flag("bias", *bias);
                w.flag("residual", *residual);
                w.flag("joined", *joined);
                w.flag("relu", *relu);
            }
            Epilogue::Quotient { addend, floor, flag } => {
                w.put("epilogue", Attr::Word("quotient".into()));
                w.flag("addend", *addend);
                w.put("floor", short(*floor));
                if let Some(flag) = flag {
                    w.put("flag", Attr::Int(*flag as i64));
                }
            }
            Epilogue::Product { factor, addends, tallies } => {
                w.put("epilogue", Attr::Word(if *factor { "product" } else { "sum" }.into()));
                if *addends > 0 {
                    w.put("addends", Attr::Int(*addends as i64));
                }
                if tallies.iter().any(|of| !of.is_empty()) {
                    let lists: Vec<String> = tallies.iter().map(|of| of.join(" ")).collect();
                    w.put("tally", Attr::Text(lists.join(" | ")));
                }
            }
        }
    }

    fn from_attrs(direction: Direction, a: &mut AttrMap) -> Result<ConvOp, String> {
        let [channels_in, channels_out] = a.sizes_n("channels")?;
        let axes = |name: &str, sizes: Vec<usize>| match sizes[..] {
            [h, w] => Ok([1, h, w]),
            [d, h, w] => Ok([d, h, w]),
            _ => Err(format!("{name}: got {} sizes, expected 2 or 3", sizes.len())),
        };
        let ones = |a: &mut AttrMap, name: &str| match a.has(name) {
            true => axes(name, a.sizes(name)?),
            false => Ok([1; 3]),
        };
        let pads = if a.has("pads") { a.sizes("pads")? } else { vec![0; 6] };
        let spec = ConvSpec {
            channels_in,
            channels_out,
            groups: if a.has("groups") { a.size("groups")? } else { 1 },
            kernel: axes("kernel", a.sizes("kernel")?)?,
            stride: ones(a, "strides")?,
            dilation: ones(a, "dilations")?,
            pads: match pads[..] {
                [top, left, bottom, right] => [0, top, left, 0, bottom, right],
                [front, top, left, back, bottom, right] => [front, top, left, back, bottom, right],
                _ => return Err(format!("pads: got {} sizes, expected 4 or 6", pads.len())),
            },
        };
        let source = match (flag(a, "transposed")?, a.has("tap")) {
            (false, false) => WeightSource::Constant,
            (true, false) => WeightSource::Transposed,
            (false, true) => WeightSource::Tap(float32(a, "tap")?),
            (true, true) => return Err("got transposed and tap, expected one of them".into()),
        };
        let form = text(a, "form")?.map_or(Ok(WeightPart::Raw), |name| WeightPart::from_name(&name))?;
        let gamma = if a.has("gamma") { a.float("gamma")? } else { 0.0 };
        let exactness = word(a, "exactness")?;
        let exactness =
            exactness.map_or(Ok(Exactness::Plain), |name| named("exactness", &EXACTNESS, &name))?;
        let algorithm =
            word(a, "algorithm")?.map(|name| named("algorithm", &ALGORITHMS, &name)).transpose()?;
        let epilogue = match word(a, "epilogue")?.as_deref() {
            None => Epilogue::None,
            Some("activate") => Epilogue::Activate {
                bias: flag(a, "bias")?,
                residual: flag(a, "residual")?,
                joined: flag(a, "joined")?,
                relu: flag(a, "relu")?,
            },
            Some("quotient") => Epilogue::Quotient {
                addend: flag(a, "addend")?,
                floor: float32(a, "floor")?,
                flag: if a.has("flag") { Some(a.size("flag")?) } else { None },
            },
            Some(name @ ("product" | "sum")) => {
                let lists = text(a, "tally")?;
                let list = |of: &str| of.split_whitespace().map(str::to_string).collect();
                Epilogue::Product {
                    factor: name == "product",
                    addends: if a.has("addends") { a.size("addends")? } else { 0 },
                    tallies: lists.map(|lists| lists.split('|').map(list).collect()).unwrap_or_default(),
                }
            }
            Some(other) => {
                return Err(format!("got the epilogue {other}, expected activate, quotient, product or sum"));
            }
        };
        Ok(ConvOp {
            spec,
            direction,
            weights: Weights { source, form, gamma },
            exactness,
            signs: match (flag(a, "non_negative")?, flag(a, "non_positive")?) {
                (false, false) => ProductSigns::Mixed,
                (true, false) => ProductSigns::NonNegative,
                (false, true) => ProductSigns::NonPositive,
                (true, true) => return Err("got non_negative and non_positive, expected one of them".into()),
            },
            algorithm,
            epilogue,
        })
    }
}

impl Quotients {
    fn attrs(&self, w: &mut Written) {
        let parts: Vec<String> = self.parts.iter().map(QuotientPart::text).collect();
        w.put("parts", Attr::Text(parts.join(" | ")));
        match self.stabiliser {
            QuotientStabiliser::None => {}
            QuotientStabiliser::Plain(eps) => w.put("plus_eps", Attr::Float(eps)),
            QuotientStabiliser::Signed(eps) => w.put("signed_eps", Attr::Float(eps)),
            QuotientStabiliser::Given => w.flag("given_eps", true),
        }
        if let Vanishing::Flat { floor, flag } = self.vanishing {
            w.put("floor", short(floor));
            w.put("flag", Attr::Int(flag as i64));
        }
        w.flag("output", self.output);
        w.flag("lost", self.lost);
    }

    fn from_attrs(a: &mut AttrMap) -> Result<Quotients, String> {
        let parts =
            a.text("parts")?.split('|').map(QuotientPart::from_text).collect::<Result<Vec<_>, _>>()?;
        let stabiliser = match (a.has("plus_eps"), a.has("signed_eps"), flag(a, "given_eps")?) {
            (false, false, false) => QuotientStabiliser::None,
            (true, false, false) => QuotientStabiliser::Plain(a.float("plus_eps")?),
            (false, true, false) => QuotientStabiliser::Signed(a.float("signed_eps")?),
            (false, false, true) => QuotientStabiliser::Given,
            _ => return Err("got several of plus_eps, signed_eps and given_eps, expected one".into()),
        };
        let vanishing = match a.has("floor") {
            true => Vanishing::Flat { floor: float32(a, "floor")?, flag: a.size("flag")? },
            false => Vanishing::Clipped,
        };
        Ok(Quotients { parts, stabiliser, vanishing, output: flag(a, "output")?, lost: flag(a, "lost")? })
    }
}

impl QuotientPart {
    /// `x2.0 z>0 t+t+c+b`: the scale, the condition, and what is added up: tensors, a constant, a bias; or the output `z`;
    /// `none` for a derivative.
    fn text(&self) -> String {
        let mut tokens = Vec::new();
        if self.scale != 1.0 {
            tokens.push(format!("x{:?}", self.scale));
        }
        if self.on != Condition::Always {
            tokens.push(self.on.name().to_string());
        }
        let terms = self.denominator.map(|denominator| {
            let [constant, biased] = denominator.constants();
            let mut terms = match denominator {
                Denominator::Output { .. } => vec!["z"],
                Denominator::Sum { tensors, .. } => vec!["t"; tensors],
            };
            terms.extend(constant.then_some("c"));
            terms.extend(biased.then_some("b"));
            terms.join("+")
        });
        // A sum of nothing is 0; what is not divided has no denominator.
        let terms = terms.map(|terms| if terms.is_empty() { "0".into() } else { terms });
        tokens.push(terms.unwrap_or_else(|| "none".into()));
        tokens.join(" ")
    }

    fn from_text(text: &str) -> Result<QuotientPart, String> {
        let mut part = QuotientPart { scale: 1.0, on: Condition::Always, denominator: None };
        for token in text.split_whitespace() {
            if let Some(scale) = token.strip_prefix('x') {
                let number = scale.parse().ok().filter(|v: &f32| v.is_finite());
                part.scale = number.ok_or_else(|| format!("got the scale \"{token}\", expected x2.0"))?;
            } else if token.contains(['<', '>']) {
                part.on = Condition::from_name(token)?;
            } else if token != "none" {
                part.denominator = Some(denominator(token)?);
            }
        }
        Ok(part)
    }
}

fn denominator(text: &str) -> Result<Denominator, String> {
    if text == "0" {
        return Ok(Denominator::Sum { tensors: 0, constant: false, biased: false });
    }
    let terms: Vec<&str> = text.split('+').collect();
    let count = |wanted: &str| terms.iter().filter(|term| **term == wanted).count();
    let (outputs, tensors, constants, biases) = (count("z"), count("t"), count("c"), count("b"));
    let biased = biases == 1;
    match (outputs, tensors + constants) {
        _ if biases > 1 || constants > 1 || outputs + tensors + constants + biases != terms.len() => {}
        (1, 0) => return Ok(Denominator::Output { biased }),
        (0, _) => return Ok(Denominator::Sum { tensors, constant: constants == 1, biased }),
        _ => {}
    }
    Err(format!("got the denominator \"{text}\", expected z or z+b, or t, c and b added up"))
}
