//! What each relevance op promises about conservation, from the rule alone.

use relc_ir::op::{LinearLayer, Relevance, SplitKind};
use relc_ir::rule::{
    Condition, Contract, Fallback, Frame, InputPart, Leak, LinearRule, Stabiliser, WeightPart,
};

/// What is known about the input of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputFacts {
    /// No value is negative, whatever the model's input.
    pub non_negative: bool,
    /// Every window covers at least one valid pixel.
    pub windows_cover_input: bool,
    /// The layer has a bias that the rule takes in.
    pub has_bias: bool,
}

/// The contract of a relevance op.
///
/// The first that holds of: not conserving (a derivative), unbounded, leaks to bias, to the stabiliser, to padding; else conserving. A linear rule
/// conserves if every product of its denominator is at least 0, nothing but the products is in it, and the fallback
/// takes what a vanishing one would lose.
pub fn contract(op: &Relevance, facts: InputFacts) -> Contract {
    match op {
        op if op.is_derivative() => Contract::NotConserving,
        Relevance::Split { kind: SplitKind::Signed, .. } => Contract::Unbounded,
        Relevance::Mask { .. } => Contract::NotConserving,
        Relevance::Linear { layer, rule } => linear(layer, rule, facts),
        Relevance::Pad { pad, frame, .. } if pad.pads.iter().any(|p| *p > 0) => match frame {
            Frame::Lost => Contract::LeaksToPadding,
            Frame::Constants => Contract::LeaksToBias,
            Frame::Spread => Contract::Conserving,
        },
        _ => Contract::Conserving,
    }
}

fn linear(layer: &LinearLayer, rule: &LinearRule, facts: InputFacts) -> Contract {
    // Average pools have no negative weights: a raw weight is as good as its positive part.
    let pool = matches!(layer, LinearLayer::AveragePool(_) | LinearLayer::GlobalAveragePool);
    let parts_add_up = rule.parts.len() == 1 && rule.parts.iter().all(|p| p.scale == 1.0);
    let non_negative = parts_add_up
        && rule.terms().all(|term| match (term.input, term.weight) {
            (
                InputPart::Positive | InputPart::Ones,
                WeightPart::Positive | WeightPart::Square | WeightPart::Ones,
            ) => true,
            (InputPart::Positive | InputPart::Ones, WeightPart::Raw) => pool,
            (InputPart::Negative, WeightPart::Negative) => true,
            (InputPart::Raw, WeightPart::Positive | WeightPart::Square | WeightPart::Ones) => {
                facts.non_negative
            }
            (InputPart::Raw, WeightPart::Raw) => pool && facts.non_negative,
            _ => false,
        });
    let divides = rule.stabiliser != Stabiliser::None || rule.fallback != Fallback::None;
    // What is handed on is part of what leaves; a denominator that is measured by all others bounds the rest.
    let bounded = non_negative || matches!(rule.stabiliser, Stabiliser::Relative(_));
    if rule.leak != Leak::Lost {
        return if bounded { Contract::Conserving } else { Contract::Unbounded };
    }
    // Outputs that a lone part does not count for lose what arrives.
    if matches!(&rule.parts[..], [part] if part.on != Condition::Always) {
        return Contract::NotConserving;
    }
    if !non_negative || !divides {
        Contract::Unbounded
    } else if facts.has_bias {
        Contract::LeaksToBias
    } else if rule.stabiliser != Stabiliser::None {
        Contract::LeaksToStabiliser
    } else if !facts.windows_cover_input {
        Contract::LeaksToPadding
    } else {
        Contract::Conserving
    }
}
