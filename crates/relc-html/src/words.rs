//! Sums in plain words.

use relc::report::ExplanationReport;

/// From which part of the seed on a difference is more than rounding.
const ROUNDING: f64 = 1e-4;

/// A number of four digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-3..1e6).contains(&size) => {
            let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.2e}"),
    }
}

/// A share.
pub fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// What an explanation's sums say: how much there was, what arrived, and where the rest is.
pub fn in_words(explanation: &ExplanationReport, conserving: bool) -> Vec<String> {
    let target = &explanation.target;
    let name =
        target.label.clone().map_or_else(|| format!("output {}", target.index), |label| format!("“{label}”"));
    let mut words = Vec::new();
    if let Some(sums) = &explanation.sums {
        words.push(format!(
            "The seed puts a relevance of {} on {name}. At the input {} arrives.",
            number(sums.seed),
            number(sums.relevance)
        ));
        let error = sums.conservation_error;
        let rounds = sums.flow.map_or(0.0, |flow| 1e-5 * flow / sums.seed_magnitude);
        words.push(if error <= ROUNDING {
            format!("Nothing appeared and nothing vanished: the difference is {} of the seed, which is rounding.", percent(error))
        } else if conserving && error <= rounds {
            format!(
                "The difference is {} of the seed: on the way contributions of both signs cancel, which makes rounding show.",
                percent(error)
            )
        } else {
            format!("The difference is {} of the seed. The ledger below says where it is.", percent(error))
        });
    }
    words.extend(losses(explanation));
    if let Some(attribution) = &explanation.attribution {
        words.push(format!("The map of {name} adds up to {}.", number(attribution.sum)));
        words.extend(attribution.completeness_error.map(|error| {
            format!(
                "It should be the logit less that of the baseline, and is off by {} of it.",
                percent(error)
            )
        }));
    }
    let shares: Vec<f64> = explanation.joins.iter().filter_map(|join| join.skip_share).collect();
    let least = shares.iter().copied().reduce(f64::min);
    let most = shares.iter().copied().reduce(f64::max);
    words.extend(least.zip(most).map(|(least, most)| match shares.len() {
        1 => format!("At the residual join {} of the relevance took the skip.", percent(most)),
        n => format!(
            "At the {n} residual joins {} to {} of the relevance took the skip.",
            percent(least),
            percent(most)
        ),
    }));
    words.extend(explanation.note.map(|note| format!("Note: {note}.")));
    words
}

/// What was lost, and what no denominator divides.
fn losses(explanation: &ExplanationReport) -> Vec<String> {
    let (Some(ledger), Some(sums)) = (&explanation.ledger, &explanation.sums) else { return Vec::new() };
    let total =
        |of: fn(&relc::Account) -> f64| ledger.nodes.iter().map(|line| of(&line.account)).sum::<f64>();
    let parts = [
        ("biases took", total(|a| a.bias)),
        ("stabilisers took", total(|a| a.stabiliser)),
        ("clipped where a denominator is 0:", total(|a| a.clipped)),
        ("dropped on padding:", total(|a| a.padding)),
        ("changed by derivatives:", total(|a| a.derivative)),
    ];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(_, value)| value.abs() > ROUNDING * sums.seed_magnitude)
        .map(|(what, value)| format!("{what} {}", number(value)))
        .collect();
    let spread = total(|a| a.flat_fallback);
    let spread = (spread.abs() > ROUNDING * sums.seed_magnitude).then(|| {
        format!("{} was spread evenly, where no denominator divides; it stays in the sum.", number(spread))
    });
    let told = (!told.is_empty()).then(|| format!("Over all nodes: {}.", told.join("; ")));
    [told, spread].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        let cases =
            [(0.0, "0"), (3.5, "3.500"), (-0.01234, "-0.01234"), (123456.0, "123456"), (1.5e-9, "1.50e-9")];
        cases.into_iter().for_each(|(value, expected)| assert_eq!(number(value), expected));
        assert_eq!(percent(0.65), "65.00 %");
    }
}
