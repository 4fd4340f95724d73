//! How relevance passes through a node, as data: the part of a rule that the graph carries.
//!
//! What the rules are called, where they come from and which preset asks for them is `relc-rules`' business; here
//! is only what an executor must know to compute one.

mod leak;
mod linear;
mod stabiliser;

pub use leak::{FALLBACK_THRESHOLD, Fallback, Leak};
pub use linear::{
    BiasPart, BiasPolicy, Bounds, Condition, InputPart, LinearRule, Part, Product, WeightPart, products,
};
pub use stabiliser::Stabiliser;

use crate::attr::{Attr, AttrMap, Attrs};
use crate::names;
use crate::names::named;
use crate::op::{Arithmetic, Op};

/// How the relevance of a residual sum is shared among its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitPolicy {
    /// In proportion to the operands' magnitudes at every join: the proposed method of Otsuki et al.
    Ratio,
    /// Evenly at every join.
    Half,
    /// Evenly where the skip is a projection, else all to the main branch.
    HalfAtProjection,
    /// In proportion where the skip is a projection, else all to the main branch.
    RatioAtProjection,
    /// By the operands' signed values, `F_k / stab(sum F)`: the norm rule. Unbounded where they cancel.
    Signed,
    /// All to the main branch.
    MainOnly,
    /// All to the skip.
    SkipOnly,
    /// Everything to every branch: the derivative of a sum, which is no share and does not conserve.
    Gradient,
}

names!(SplitPolicy, "split policy", [
    "ratio" => Ratio,
    "half" => Half,
    "half-at-projection" => HalfAtProjection,
    "ratio-at-projection" => RatioAtProjection,
    "signed" => Signed,
    "main-only" => MainOnly,
    "skip-only" => SkipOnly,
    "gradient" => Gradient,
]);

/// How the relevance of a product of a signal and a gate is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GatePolicy {
    /// All to the signal; the gate counts as a constant.
    #[default]
    Signal,
    /// Half to each.
    Half,
}

names!(GatePolicy, "gate policy", ["signal" => Signal, "half" => Half]);

/// The window of the average pool that stands for a MaxPool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolWindow {
    /// The pool's own.
    Own,
    /// 2x2 with stride 2 and no padding, as the authors' code has it; the pool's own where that does not give
    /// the pool's output size.
    Paper,
}

/// What becomes of relevance on the frame that a Pad puts around a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// It is lost, to the padding.
    Lost,
    /// It is spread evenly over the sample's valid elements.
    Spread,
    /// It belongs to constants that lie on the frame: it has left the input's account, as what a bias takes.
    Constants,
}

impl Frame {
    pub(crate) fn attrs(self) -> Attrs {
        let mut attrs = vec![("spread", Attr::flag(self == Frame::Spread))];
        if self == Frame::Constants {
            attrs.push(("constants", Attr::flag(true)));
        }
        attrs
    }

    pub(crate) fn from_attrs(attrs: &mut AttrMap) -> Result<Self, String> {
        Ok(match (attrs.flag("spread")?, attrs.flag("constants").unwrap_or(false)) {
            (_, true) => Frame::Constants,
            (true, _) => Frame::Spread,
            (false, _) => Frame::Lost,
        })
    }
}

/// What stands for the derivative of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surrogate {
    /// The derivative itself.
    Gradient,
    /// Guided backpropagation: the derivative where what arrives is positive, else 0.
    Guided,
    /// DeconvNet: what arrives where it is positive, else 0; the forward pass does not matter.
    Deconv,
}

names!(Surrogate, "derivative", ["gradient" => Gradient, "guided" => Guided, "deconv" => Deconv]);

/// How relevance passes through one node.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// A linear layer's rule.
    Linear(LinearRule),
    /// A MaxPool treated as an average pool.
    AsAverage {
        /// The average pool's window.
        window: PoolWindow,
        /// The rule on it.
        rule: LinearRule,
    },
    /// A MaxPool whose winner takes all; of equal values the first in row-major order.
    Winner,
    /// Relevance is unchanged in value; shapes are undone.
    Pass,
    /// A product (or quotient, or difference) of a signal and a gate or statistic.
    Gate {
        /// The signal's index among the data operands.
        signal: usize,
        /// What the gate takes; only of a product it may take something.
        policy: GatePolicy,
    },
    /// A Pad.
    Crop {
        /// What becomes of relevance on its frame.
        frame: Frame,
    },
    /// A residual sum.
    Split(SplitPolicy),
    /// The derivative, of an op that is no linear layer.
    Derivative(Surrogate),
}

impl Rule {
    /// The name before the bracket of the text form.
    pub fn name(&self) -> &str {
        match self {
            Rule::Linear(rule) => &rule.name,
            Rule::AsAverage { .. } => "as_average",
            Rule::Winner => "winner",
            Rule::Pass => "pass",
            Rule::Gate { .. } => "gate",
            Rule::Crop { .. } => "crop",
            Rule::Split(_) => "split",
            Rule::Derivative(_) => "derivative",
        }
    }

    /// Whether the rule can be on a node of this op.
    pub fn fits(&self, op: &Op) -> bool {
        match self {
            Rule::Split(_) => matches!(op, Op::Arithmetic(Arithmetic::Add)),
            Rule::Winner | Rule::AsAverage { .. } => matches!(op, Op::MaxPool(_)),
            Rule::Gate { policy: GatePolicy::Half, .. } => matches!(op, Op::Arithmetic(Arithmetic::Mul)),
            Rule::Gate { .. } => {
                matches!(op, Op::Arithmetic(Arithmetic::Mul | Arithmetic::Div | Arithmetic::Sub))
            }
            Rule::Crop { .. } => matches!(op, Op::Pad(_)),
            Rule::Linear(_) => {
                matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::AveragePool(_) | Op::GlobalAveragePool)
            }
            Rule::Derivative(_) => {
                let elementwise =
                    matches!(op, Op::Activation(_) | Op::Arithmetic(_) | Op::BatchNormalization(_));
                elementwise || matches!(op, Op::MeanVarianceNormalization(_) | Op::Softmax(_))
            }
            Rule::Pass => !op.is_relevance(),
        }
    }

    /// The attributes of the text form.
    pub fn attrs(&self) -> Attrs {
        match self {
            Rule::Linear(rule) => rule.attrs(),
            Rule::AsAverage { window, rule } => {
                let window = if *window == PoolWindow::Own { "own" } else { "paper" };
                let mut attrs =
                    vec![("window", Attr::Word(window.into())), ("rule", Attr::Word(rule.name.clone()))];
                attrs.extend(rule.attrs());
                attrs
            }
            Rule::Winner | Rule::Pass => Attrs::new(),
            Rule::Gate { signal, policy } => {
                vec![("signal", Attr::Int(*signal as i64)), ("policy", Attr::Word(policy.to_string()))]
            }
            Rule::Crop { frame } => frame.attrs(),
            Rule::Split(policy) => vec![("policy", Attr::Word(policy.to_string()))],
            Rule::Derivative(kind) => vec![("kind", Attr::Word(kind.name().into()))],
        }
    }

    /// The rule called `name` with its attributes.
    ///
    /// # Errors
    /// If an attribute is missing, malformed or left over.
    pub fn from_text(name: &str, mut attrs: AttrMap) -> Result<Self, String> {
        let rule = match name {
            "as_average" => {
                let window = attrs.word("window")?;
                let window =
                    named("window", &[("own", PoolWindow::Own), ("paper", PoolWindow::Paper)], &window)?;
                let inner = attrs.word("rule")?;
                Rule::AsAverage { window, rule: LinearRule::from_attrs(&inner, &mut attrs)? }
            }
            "winner" => Rule::Winner,
            "pass" => Rule::Pass,
            "gate" => Rule::Gate { signal: attrs.size("signal")?, policy: attrs.word("policy")?.parse()? },
            "crop" => Rule::Crop { frame: Frame::from_attrs(&mut attrs)? },
            "split" => Rule::Split(attrs.word("policy")?.parse()?),
            "derivative" => Rule::Derivative(attrs.word("kind")?.parse()?),
            _ => Rule::Linear(LinearRule::from_attrs(name, &mut attrs)?),
        };
        attrs.finish()?;
        Ok(rule)
    }
}

/// A rule and why the node has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedRule {
    /// The rule.
    pub rule: Rule,
    /// The line of the preset, or the override, that decided: `preset paper, line 12`.
    pub origin: String,
}

/// What a relevance node promises about conservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contract {
    /// What leaves is what arrives, to rounding.
    Conserving,
    /// Biases in denominators, or constants beside a value, take relevance away.
    LeaksToBias,
    /// Stabilisers in denominators take relevance away.
    LeaksToStabiliser,
    /// Relevance on padding is lost.
    LeaksToPadding,
    /// What leaves can exceed what arrives without bound.
    Unbounded,
    /// A derivative, which is no relevance: what leaves has nothing to do with what arrives.
    NotConserving,
}

names!(Contract, "contract", [
    "conserving" => Conserving,
    "leaks-to-bias" => LeaksToBias,
    "leaks-to-stabiliser" => LeaksToStabiliser,
    "leaks-to-padding" => LeaksToPadding,
    "unbounded" => Unbounded,
    "not-conserving" => NotConserving,
]);
