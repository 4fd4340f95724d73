//! What people read.

use relc::report::{
    ClaimReport, ExplanationReport, JoinReport, LedgerLine, OutputReport, RuleReport, UnfoldedReport,
};
use relc_viz::{percent, significant};

use crate::table::Table;

/// How an output is called.
pub fn output_name(output: &OutputReport) -> String {
    match &output.label {
        Some(label) => format!("{label} ({})", output.index),
        None => output.index.to_string(),
    }
}

/// The largest outputs.
pub fn predictions(outputs: &[OutputReport]) -> String {
    let mut t = Table::new(&["output", "probability", "logit"], 1);
    for o in outputs {
        t.add_row([output_name(o), significant(o.probability, 4), significant(o.logit, 4)]);
    }
    t.to_string()
}

/// The joins; the last column only where the skip's shares are known.
pub fn joins(joins: &[JoinReport]) -> String {
    let known = joins.iter().any(|j| j.skip_share.is_some());
    let header = ["join", "fork", "skip", "layers main/skip", "skip share"];
    let mut t = Table::new(&header[..4 + usize::from(known)], 3);
    for j in joins {
        let [main, skip] = j.weighted_layers;
        let mut row = vec![j.join.clone(), j.fork.clone(), j.skip.into(), format!("{main}/{skip}")];
        row.extend(j.skip_share.map(percent));
        t.add_row(row);
    }
    t.to_string()
}

/// The rules and where they come from.
pub fn rules(rules: &[RuleReport]) -> String {
    let mut t = Table::new(&["node", "op", "rule", "from"], 9);
    for r in rules {
        let origin = match &r.unfolded {
            Some(reason) => format!("{}; not folded: {reason}", r.origin),
            None => r.origin.clone(),
        };
        t.add_row([r.node.as_str(), r.op, &r.rule, &origin]);
    }
    t.to_string()
}

/// The BatchNormalizations that stay though they were to be folded, one a line.
pub fn unfolded(left: &[UnfoldedReport]) -> Vec<String> {
    left.iter().map(|u| format!("BatchNormalization {} is not folded: {}", u.node, u.reason)).collect()
}

/// The compiler's claim in a line.
pub fn claim(claim: &ClaimReport) -> String {
    if claim.conserving {
        return "conserving: every rule's contract is to pass on what arrives".into();
    }
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for leak in &claim.leaks {
        match kinds.iter_mut().find(|(kind, _)| *kind == leak.contract) {
            Some((_, count)) => *count += 1,
            None => kinds.push((leak.contract.clone(), 1)),
        }
    }
    let kinds: Vec<String> =
        kinds.into_iter().map(|(kind, count)| format!("{count} node(s) {kind}")).collect();
    format!("not conserving: {}", kinds.join(", "))
}

fn row(line: &LedgerLine) -> Vec<String> {
    let a = &line.account;
    let mut cells = vec![line.node.clone(), line.op.clone()];
    let sums =
        [a.incoming, a.outgoing, a.bias, a.stabiliser, a.clipped, a.padding, a.flat_fallback, a.min, a.max];
    cells.extend(sums.map(|v| significant(v, 4)));
    cells
}

const LEDGER: [&str; 11] =
    ["node", "op", "in", "out", "bias", "stabiliser", "clipped", "padding", "flat fallback", "min", "max"];

fn nodes(explanation: &ExplanationReport) -> &[LedgerLine] {
    explanation.ledger.as_ref().map_or(&[], |ledger| &ledger.nodes)
}

/// The whole ledger.
pub fn ledger(explanation: &ExplanationReport) -> String {
    let mut t = Table::new(&LEDGER, 2);
    for line in nodes(explanation) {
        t.add_row(row(line));
    }
    t.to_string()
}

/// The share of the seed from which a loss is more than f32's rounding of a sum.
const LOSS: f64 = 1e-7;

/// The nodes that lost or redistributed most, if any did more than rounding does; what they lost and spread, in shares
/// of the seed's magnitude.
pub fn leakiest(explanation: &ExplanationReport, most: usize) -> Option<String> {
    let seed = explanation.sums.as_ref().map_or(0.0, |s| s.seed_magnitude).max(f64::MIN_POSITIVE);
    let weight = |l: &LedgerLine| l.account.lost().abs() + l.account.flat_fallback.abs();
    let losing = nodes(explanation).iter().filter(|l| weight(l) > LOSS * seed);
    let mut lines: Vec<&LedgerLine> = losing.collect();
    lines.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    let mut t = Table::new(&["node", "op", "lost", "spread evenly"], 2);
    for line in lines.iter().take(most) {
        let share = |v: f64| if v.abs() > LOSS * seed { percent(v / seed) } else { "0".into() };
        t.add_row([
            line.node.clone(),
            line.op.clone(),
            share(line.account.lost()),
            share(line.account.flat_fallback),
        ]);
    }
    (!lines.is_empty()).then(|| t.to_string())
}
