//! Sums in plain words.

use relc::Account;
use relc::report::{ExplanationReport, LedgerLine, SumsReport};
use relc_viz::{percent, significant};

/// From which part of the seed on a difference is more than rounding.
const ROUNDING: f64 = 1e-4;

/// A number of four digits.
pub fn number(value: f64) -> String {
    significant(value, 4)
}

/// What an explanation's sums say: how much there was, what arrived, and where the rest is. `split` is the policy of the
/// residual joins.
pub fn in_words(explanation: &ExplanationReport, conserving: bool, split: &str) -> Vec<String> {
    let target = &explanation.target;
    let output = || format!("output {}", target.index);
    let name = target.label.as_ref().map_or_else(output, |label| format!("“{label}”"));
    let mut words = Vec::new();
    if let Some(sums) = &explanation.sums {
        words.extend(of_sums(explanation, sums, &name, conserving));
    }
    if let Some(attribution) = &explanation.attribution {
        words.push(format!("The map of {name} adds up to {}.", number(attribution.sum)));
        words.extend(attribution.completeness_error.map(|error| {
            format!(
                "It should be the logit less that of the baseline, and is off by {} of it.",
                percent(error)
            )
        }));
    }
    words.extend(skips(explanation, split));
    words.extend(explanation.note.map(|note| format!("Note: {note}.")));
    words
}

fn of_sums(explanation: &ExplanationReport, sums: &SumsReport, name: &str, conserving: bool) -> Vec<String> {
    let [seed, magnitude, relevance] = [sums.seed, sums.seed_magnitude, sums.relevance].map(number);
    if sums.seed_magnitude == 0.0 {
        return vec![format!("The seed is 0, so that there is no relevance of {name} to explain.")];
    }
    // These put all of their relevance on the one output; others put some on each.
    let begin = match explanation.seed.as_str() {
        "prob" | "logit" | "onehot" => format!("The seed puts a relevance of {seed} on {name}."),
        other => {
            format!("The seed {other} adds up to {seed} over all outputs, and its magnitudes to {magnitude}.")
        }
    };
    let mut words = vec![format!("{begin} At the input {relevance} arrives.")];
    let error = sums.conservation_error;
    let rounds = sums.flow.map_or(0.0, |flow| 1e-5 * flow / sums.seed_magnitude);
    let has_ledger = explanation.ledger.as_ref().is_some_and(|ledger| !ledger.nodes.is_empty());
    let off = format!("The difference is {} of the seed's magnitude", percent(error));
    words.push(match error {
        _ if error <= ROUNDING => format!(
            "Nothing appeared and nothing vanished: the difference is {} of the seed's magnitude, which is rounding.",
            percent(error)
        ),
        _ if conserving && error <= rounds => {
            format!("{off}: on the way contributions of both signs cancel, which makes rounding show.")
        }
        _ if has_ledger => format!("{off}. The ledger below says where it is."),
        _ => format!("{off}. A ledger says where it is: explain without --no-ledger."),
    });
    words.extend(losses(explanation, sums));
    words
}

/// What took the skips. A derivative goes through every branch, and is no share.
fn skips(explanation: &ExplanationReport, split: &str) -> Option<String> {
    let shares: Vec<f64> = explanation.joins.iter().filter_map(|join| join.skip_share).collect();
    let [least, most] = [f64::min, f64::max].map(|of| shares.iter().copied().reduce(of));
    let (least, most) = (percent(least?), percent(most?));
    let took = match split {
        "gradient" => return None,
        "signed" => "the skip's relevance has a magnitude of",
        _ => "the skip took",
    };
    Some(match shares.len() {
        1 => format!("At the residual join {took} {most} of what arrived."),
        n => format!("At the {n} residual joins {took} {least} to {most} of what arrived."),
    })
}

/// What was lost, and what no denominator divides.
fn losses(explanation: &ExplanationReport, sums: &SumsReport) -> Vec<String> {
    let Some(ledger) = &explanation.ledger else { return Vec::new() };
    // A mask takes what the user wants away; the ledger has it as clipped.
    let (masks, others): (Vec<&LedgerLine>, _) = ledger.nodes.iter().partition(|line| line.op == "mask");
    let sum = |lines: &[&LedgerLine], of: fn(&Account) -> f64| -> f64 {
        lines.iter().map(|line| of(&line.account)).sum()
    };
    let parts = [
        ("masks took", sum(&masks, |a| a.clipped)),
        ("biases took", sum(&others, |a| a.bias)),
        ("stabilisers took", sum(&others, |a| a.stabiliser)),
        ("clipped where a denominator is 0:", sum(&others, |a| a.clipped)),
        ("dropped on padding:", sum(&others, |a| a.padding)),
        ("changed by derivatives:", sum(&others, |a| a.derivative)),
    ];
    let counts = |value: f64| value.abs() > ROUNDING * sums.seed_magnitude;
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(_, value)| counts(*value))
        .map(|(what, value)| format!("{what} {}", number(value)))
        .collect();
    let spread = sum(&others, |a| a.flat_fallback);
    let spread = counts(spread).then(|| {
        format!("{} was spread evenly, where no denominator divides; it stays in the sum.", number(spread))
    });
    let told = (!told.is_empty()).then(|| format!("Over all nodes: {}.", told.join("; ")));
    [told, spread].into_iter().flatten().collect()
}
