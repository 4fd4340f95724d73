//! A rule line: what it asks for, checked, and the rule that it builds.

use relc_ir::Op;
use relc_ir::names::named;
use relc_ir::op::OpClass;
use relc_ir::rule::{
    BiasPolicy, Bounds, Fallback, Frame, Leak, LinearRule, Part, PoolWindow, Rule, Stabiliser, Surrogate,
};
use serde::{Deserialize, Serialize};

use super::Line;
use super::depth::Depth;
use super::file::RawBias;
use super::own::{Asked, OwnRule};
use crate::glob::NameGlob;
use crate::rules::{InputForm, alpha_beta, epsilon, flat, gamma, gradient, norm, wsquare, zbox, zplus};

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPosition {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawRule {
    Epsilon,
    Zplus,
    AlphaBeta,
    Gamma,
    Zbox,
    Wsquare,
    Flat,
    Norm,
    Winner,
    Average,
    Pass,
    Crop,
    Gradient,
    ReluGuided,
    ReluDeconv,
    /// One of the user's own.
    #[serde(skip)]
    Own,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFallback {
    None,
    Flat,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawWindow {
    Own,
    Paper,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> From<OneOrMany<T>> for Vec<T> {
    fn from(values: OneOrMany<T>) -> Vec<T> {
        match values {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLine {
    op: Option<OneOrMany<String>>,
    name: Option<String>,
    position: Option<RawPosition>,
    depth: Option<Depth>,
    rule: Asked,
    input: Option<InputForm>,
    alpha: Option<f64>,
    beta: Option<f64>,
    gamma: Option<f64>,
    low: Option<OneOrMany<f64>>,
    high: Option<OneOrMany<f64>>,
    plus_eps: Option<f64>,
    signed_eps: Option<f64>,
    relative_eps: Option<f64>,
    bias: Option<RawBias>,
    fallback: Option<RawFallback>,
    leak: Option<String>,
    window: Option<RawWindow>,
    spread: Option<bool>,
}

/// The ops that a line names, itself or by their classes: each once, in the order of [`OpClass::ops`].
fn members(asked: Vec<String>) -> Result<Vec<&'static str>, String> {
    let known: Vec<(&'static str, OpClass)> = OpClass::ALL.into_iter().chain(OpClass::ops()).collect();
    asked.iter().try_for_each(|name| named("op", &known, name).map(|_| ()))?;
    let is_asked =
        |(op, class): &(&str, OpClass)| asked.iter().any(|name| name == op || name == class.name());
    Ok(OpClass::ops().filter(is_asked).map(|(op, _)| op).collect())
}

/// What a line asks for, once checked.
#[derive(Clone, Debug)]
pub(super) struct RuleLine {
    pub rule: RawRule,
    pub own: Option<OwnRule>,
    pub input: InputForm,
    pub alpha: f64,
    pub gamma: f64,
    pub bounds: Option<Bounds>,
    pub stabiliser: Stabiliser,
    pub bias: Option<BiasPolicy>,
    pub fallback: Fallback,
    pub leak: Leak,
    pub window: PoolWindow,
    pub spread: bool,
}

impl RawLine {
    /// The line, if its keys fit its rule; `origin` is what `--explain-rules` says.
    pub fn check(self, origin: String) -> Result<Line, String> {
        self.check_keys()?;
        let stabiliser = Stabiliser::of(self.plus_eps, self.signed_eps, self.relative_eps)?;
        let leak: Leak = self.leak.as_deref().map_or(Ok(Leak::Lost), str::parse)?;
        let bounds = match (self.low, self.high) {
            (None, None) => None,
            (Some(low), Some(high)) => Some(Bounds { low: low.into(), high: high.into() }),
            _ => return Err("got one of low and high, expected both or none".into()),
        };
        let ops = members(self.op.map(Into::into).unwrap_or_default())?;
        let name = self.name.map(|n| NameGlob::new(&n)).transpose()?;
        let rule = RuleLine {
            rule: self.rule.rule,
            own: self.rule.own,
            input: self.input.unwrap_or(InputForm::Signed),
            alpha: self.alpha.unwrap_or(1.0),
            gamma: self.gamma.unwrap_or(0.0),
            bounds,
            stabiliser,
            bias: self.bias.map(Into::into),
            fallback: match self.fallback {
                Some(RawFallback::Flat) => Fallback::Flat,
                _ => Fallback::None,
            },
            leak,
            window: match self.window {
                Some(RawWindow::Paper) => PoolWindow::Paper,
                _ => PoolWindow::Own,
            },
            spread: self.spread.unwrap_or(false),
        };
        let open = rule.stabiliser == Stabiliser::None && rule.fallback == Fallback::None;
        if rule.divides() && open && rule.leak == Leak::Lost {
            return Err("expected plus_eps, signed_eps, relative_eps, fallback = \"flat\" or a leak: a denominator can \
                        be 0"
                .into());
        }
        Ok(Line {
            ops,
            name,
            first: self.position == Some(RawPosition::First),
            last: self.position == Some(RawPosition::Last),
            depth: self.depth,
            rule,
            origin,
        })
    }

    /// Whether the keys that only some rules have are there where they belong, and have sense.
    fn check_keys(&self) -> Result<(), String> {
        let (rule, own) = (self.rule.rule, self.rule.own.as_ref());
        let name = match own {
            Some(own) => format!("\"{}\"", own.name),
            None => toml::Value::try_from(rule).map_or_else(|_| String::new(), |name| name.to_string()),
        };
        let wrong = |expected: &str| Err(format!("rule = {name}: expected {expected}"));
        if matches!(rule, RawRule::Zplus | RawRule::Average) != self.input.is_some() {
            let uses = self.input.is_none();
            return wrong(if uses { "input = signed, raw or ones" } else { "no input" });
        }
        if (rule == RawRule::Average) != self.window.is_some() {
            return Err("expected window = own or paper with rule = \"average\", and only there".into());
        }
        if self.spread.is_some() && rule != RawRule::Crop {
            return Err("expected spread only with rule = \"crop\"".into());
        }
        match (rule, self.alpha, self.beta) {
            (RawRule::AlphaBeta, Some(alpha), Some(beta)) => {
                if !(alpha >= 1.0 && beta >= 0.0 && (alpha - beta - 1.0).abs() < 1e-12) {
                    return wrong(&format!("alpha - beta = 1 and beta >= 0, got alpha {alpha}, beta {beta}"));
                }
            }
            (RawRule::AlphaBeta, ..) => return wrong("alpha and beta"),
            (_, None, None) => {}
            _ => return wrong("no alpha and no beta"),
        }
        match (rule == RawRule::Gamma || own.is_some_and(OwnRule::takes_gamma), self.gamma) {
            (true, Some(gamma)) if gamma > 0.0 && gamma.is_finite() => {}
            (true, _) => return wrong("gamma, a positive number"),
            (false, None) => {}
            _ => return wrong("no gamma"),
        }
        let boxed = rule == RawRule::Zbox || own.is_some_and(OwnRule::takes_bounds);
        if !boxed && (self.low.is_some() || self.high.is_some()) {
            return wrong("no low and no high");
        }
        if self.leak.is_some() && !own.map_or(rule.divides(), OwnRule::divides) {
            return wrong("no leak, which only rules that divide have");
        }
        Ok(())
    }
}

impl RawRule {
    /// Whether the rule has a denominator.
    fn divides(self) -> bool {
        !matches!(self, RawRule::Winner | RawRule::Pass | RawRule::Crop) && !self.is_derivative()
    }

    fn is_derivative(self) -> bool {
        matches!(self, RawRule::Gradient | RawRule::ReluGuided | RawRule::ReluDeconv)
    }
}

impl RuleLine {
    /// Whether the rule has a denominator.
    pub fn divides(&self) -> bool {
        self.own.as_ref().map_or(self.rule.divides(), OwnRule::divides)
    }

    /// Whether the rule has the lowest and highest values of the input.
    pub fn takes_bounds(&self) -> bool {
        self.rule == RawRule::Zbox || self.own.as_ref().is_some_and(OwnRule::takes_bounds)
    }

    /// Whether the preset's bias policy reaches the line.
    pub fn leaves_bias_open(&self) -> bool {
        self.bias.is_none() && self.divides() && self.rule != RawRule::Average // pools have no bias
    }

    /// Whether the line needs a box from the user.
    pub fn wants_bounds(&self) -> bool {
        self.takes_bounds() && self.bounds.is_none()
    }

    fn linear(&self, name: &str, parts: Vec<Part>, bias: BiasPolicy) -> LinearRule {
        LinearRule {
            stabiliser: self.stabiliser,
            bias,
            fallback: self.fallback,
            leak: self.leak,
            ..LinearRule::new(name, parts)
        }
    }

    fn bounds_or(&self, bounds: Option<&Bounds>, rule: &str) -> Result<Bounds, String> {
        self.bounds.as_ref().or(bounds).cloned().ok_or_else(|| {
            format!(
                "the {rule} rule needs the lowest and highest values of the model's input: give low and high in the \
                 rule line (or --low and --high)"
            )
        })
    }

    /// The rule for a node of op `op`, where `bias` is for lines that don't say, and `bounds` for those without.
    pub fn build(&self, op: &Op, bias: BiasPolicy, bounds: Option<&Bounds>) -> Result<Rule, String> {
        let bias = self.bias.unwrap_or(bias);
        let layer = matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::AveragePool(_) | Op::GlobalAveragePool);
        let linear = match self.rule {
            RawRule::Epsilon => self.linear("epsilon", epsilon::parts(), bias),
            RawRule::Zplus => self.linear("zplus", zplus::parts(self.input, bias), bias),
            RawRule::AlphaBeta => self.linear("alpha_beta", alpha_beta::parts(self.alpha), bias),
            RawRule::Gamma => LinearRule { gamma: self.gamma, ..self.linear("gamma", gamma::parts(), bias) },
            RawRule::Zbox => {
                let bounds = Some(self.bounds_or(bounds, "zbox")?);
                LinearRule { bounds, ..self.linear("zbox", zbox::parts(), BiasPolicy::Exclude) }
            }
            RawRule::Own => {
                let own = self.own.as_ref().ok_or("the rule has no parts")?;
                let bounds = own.takes_bounds().then(|| self.bounds_or(bounds, &own.name)).transpose()?;
                let rule = self.linear(&own.name, own.parts.clone(), bias);
                LinearRule { gamma: self.gamma, bounds, ..rule }
            }
            RawRule::Wsquare => self.linear("wsquare", wsquare::parts(), BiasPolicy::Exclude),
            RawRule::Flat => self.linear("flat", flat::parts(), BiasPolicy::Exclude),
            RawRule::Norm if matches!(op, Op::Conv(_) | Op::Gemm(_)) => {
                return Err("the rule norm is for ops without weights; expected epsilon on this one".into());
            }
            RawRule::Norm => self.linear("norm", norm::parts(), BiasPolicy::All),
            RawRule::Average => {
                let rule =
                    self.linear("zplus", zplus::parts(self.input, BiasPolicy::Exclude), BiasPolicy::Exclude);
                return Ok(Rule::AsAverage { window: self.window, rule });
            }
            RawRule::Gradient if layer => LinearRule::new("gradient", gradient::parts()),
            RawRule::Gradient => return Ok(gradient::elementwise(op)),
            RawRule::Winner => return Ok(Rule::Winner),
            RawRule::Pass => return Ok(Rule::Pass),
            RawRule::Crop => {
                let frame = if self.spread { Frame::Spread } else { Frame::Lost };
                return Ok(Rule::Crop { frame });
            }
            RawRule::ReluGuided => return Ok(Rule::Derivative(Surrogate::Guided)),
            RawRule::ReluDeconv => return Ok(Rule::Derivative(Surrogate::Deconv)),
        };
        linear.check()?;
        Ok(Rule::Linear(linear))
    }
}
