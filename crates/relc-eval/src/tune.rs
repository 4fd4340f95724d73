//! The search for a preset: which options of a composite do best by some score.
//!
//! It is a descent along one option at a time, from `conserve` first and then from random places, until the budget is
//! spent. Which candidates it tries depends on the scores and the seed alone, so that a search whose scores are
//! remembered goes on where it was.

use std::collections::HashMap;

use crate::error::EvalError;
use crate::metric::rng;

/// An option of the composite.
#[derive(Debug)]
pub struct Choice {
    /// Its name.
    pub name: &'static str,
    /// What it can be; the first is what `conserve` has.
    pub options: &'static [&'static str],
}

/// The search space. Options that matter most come first.
pub const SPACE: [Choice; 9] = [
    Choice { name: "readout", options: &["0", "0.35", "0.5", "0.65", "0.8"] },
    Choice { name: "upper", options: &["zplus", "0.45", "0.62", "0.75"] },
    Choice { name: "k", options: &["0.25", "0.1", "0.5", "1"] },
    Choice { name: "leak", options: &["flat", "zplus", "proportional", "lost"] },
    Choice { name: "classifier", options: &["zplus", "epsilon"] },
    Choice { name: "first", options: &["ones", "wsquare", "flat", "zplus"] },
    Choice { name: "max_pool", options: &["average", "winner", "flat"] },
    Choice { name: "split", options: &["ratio", "half", "ratio-at-projection"] },
    Choice { name: "seed", options: &["logit", "contrast"] },
];

/// A point of the space: an index into the options of each choice.
pub type Candidate = [usize; SPACE.len()];

/// The option of a choice.
fn option(candidate: &Candidate, name: &str) -> &'static str {
    let found = SPACE.iter().zip(candidate).find(|(choice, _)| choice.name == name);
    found.and_then(|(choice, i)| choice.options.get(*i)).copied().unwrap_or("")
}

/// What of a candidate is not as in `conserve`, in a line.
pub fn describe(candidate: &Candidate) -> String {
    let changed = SPACE.iter().zip(candidate).filter(|(_, i)| **i > 0);
    let parts: Vec<String> = changed.map(|(c, i)| format!("{}={}", c.name, c.options[*i])).collect();
    if parts.is_empty() { "conserve".into() } else { parts.join(" ") }
}

/// The candidate as a preset's file.
pub fn preset(candidate: &Candidate) -> String {
    let is = |name: &str| option(candidate, name);
    // Signed contributions are those of the layer that computes, its normalisation included.
    let batchnorm = if is("upper") == "zplus" { "keep" } else { "fold" };
    let mut text = format!(
        "name = \"tuned\"\ndescription = \"{}\"\nextends = \"conserve\"\nsplit = \"{}\"\nseed = \"{}\"\nbatchnorm = \"{batchnorm}\"\n",
        describe(candidate),
        is("split"),
        is("seed")
    );
    let mut rule = |lines: &[&str]| {
        text.push_str("\n[[rule]]\n");
        lines.iter().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
    };
    if is("upper") != "zplus" {
        let (depth, k) = (format!("depth = \"{}..\"", is("upper")), format!("relative_eps = {}", is("k")));
        let leak = format!("leak = \"{}\"", is("leak"));
        rule(&["op = \"Conv\"", &depth, "rule = \"epsilon\"", "bias = \"all\"", &k, &leak]);
    }
    if is("classifier") == "epsilon" {
        rule(&[
            "op = \"Gemm\"",
            "rule = \"epsilon\"",
            "bias = \"exclude\"",
            "relative_eps = 0.001",
            "leak = \"zplus\"",
        ]);
    }
    // After the upper layers' line, so that a network of one convolution keeps its first layer's rule.
    let first = ["op = \"Conv\"", "position = \"first\""];
    match is("first") {
        "wsquare" => rule(&[first[0], first[1], "rule = \"wsquare\"", "fallback = \"flat\""]),
        "flat" => rule(&[first[0], first[1], "rule = \"flat\"", "fallback = \"flat\""]),
        name => {
            let input = if name == "zplus" { "input = \"signed\"" } else { "input = \"ones\"" };
            rule(&[
                first[0],
                first[1],
                "rule = \"zplus\"",
                input,
                "bias = \"exclude\"",
                "fallback = \"flat\"",
            ]);
        }
    }
    let pool = ["op = \"MaxPool\"", "rule = \"average\"", "window = \"own\"", "fallback = \"flat\""];
    match is("max_pool") {
        "winner" => rule(&[pool[0], "rule = \"winner\""]),
        "flat" => rule(&[pool[0], pool[1], pool[2], pool[3], "input = \"ones\""]),
        _ => rule(&[pool[0], pool[1], pool[2], pool[3], "input = \"signed\""]),
    }
    if is("readout") != "0" {
        text.push_str(&format!("\n[[readout]]\nat = \"last-feature-map\"\nshare = {}\n", is("readout")));
    }
    text
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// The best candidate.
    pub best: Candidate,
    /// Its score.
    pub score: f64,
    /// How many candidates were scored.
    pub tried: usize,
}

/// Searches the space for the highest score, scoring `budget` candidates. `score` gives `None` for a candidate that
/// can't be used; choices in `fixed` stay as they are in `conserve`.
///
/// # Errors
/// Those of `score`; if no candidate can be used.
pub fn search(
    budget: usize,
    seed: u64,
    fixed: &[&str],
    score: &mut dyn FnMut(&Candidate) -> Result<Option<f64>, EvalError>,
) -> Result<Found, EvalError> {
    let mut known: HashMap<String, Option<f64>> = HashMap::new();
    let mut best: Option<(Candidate, f64)> = None;
    let free: Vec<usize> = (0..SPACE.len()).filter(|c| !fixed.contains(&SPACE[*c].name)).collect();
    let size = free.iter().map(|c| SPACE[*c].options.len()).product::<usize>();
    // Candidates that differ in what does not matter have the same preset; so the space may end before the budget.
    let most_starts = 4 * budget.min(size);
    for start in 0..most_starts.max(1) {
        let mut at = Candidate::default();
        let mut rng = rng(seed, "starts", start);
        if start > 0 {
            free.iter().for_each(|c| at[*c] = rng.usize(0..SPACE[*c].options.len()));
        }
        let mut scored = |candidate: &Candidate| -> Result<Option<Option<f64>>, EvalError> {
            let text = key(candidate);
            if let Some(score) = known.get(&text) {
                return Ok(Some(*score));
            }
            if known.len() >= budget {
                return Ok(None);
            }
            let value = score(candidate)?;
            known.insert(text, value);
            if let Some(value) = value.filter(|v| best.is_none_or(|(_, b)| *v > b)) {
                best = Some((*candidate, value));
            }
            Ok(Some(value))
        };
        if descend(at, &free, &mut scored)?.is_none() {
            break;
        }
    }
    let (best, score) =
        best.ok_or_else(|| EvalError::Usage("no preset of the search can be used on this model".into()))?;
    Ok(Found { best, score, tried: known.len() })
}

/// The preset without its description, which tells candidates apart that do the same.
fn key(candidate: &Candidate) -> String {
    preset(candidate).lines().filter(|line| !line.starts_with("description")).collect()
}

/// The score of a candidate, if it has one; `None` outside if the budget ended before.
type Scored<'a> = dyn FnMut(&Candidate) -> Result<Option<Option<f64>>, EvalError> + 'a;

/// Improves one choice after the other until none can be; `None` if the budget ended before.
fn descend(mut at: Candidate, free: &[usize], scored: &mut Scored<'_>) -> Result<Option<()>, EvalError> {
    let Some(mut score) = scored(&at)? else { return Ok(None) };
    loop {
        let before = score;
        for &choice in free {
            let here = at;
            for option in 0..SPACE[choice].options.len() {
                let mut next = here;
                next[choice] = option;
                let Some(value) = scored(&next)? else { return Ok(None) };
                if value > score {
                    (at, score) = (next, value);
                }
            }
        }
        if score == before {
            return Ok(Some(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a candidate is from a hidden one, choice by choice.
    fn distance(candidate: &Candidate, hidden: &Candidate) -> f64 {
        candidate.iter().zip(hidden).map(|(a, b)| a.abs_diff(*b) as f64).sum()
    }

    #[test]
    fn a_separable_score_is_solved_in_one_descent() {
        let hidden = [3, 2, 1, 1, 1, 2, 0, 1, 1];
        let mut tried = 0;
        let found = search(60, 0, &[], &mut |candidate| {
            tried += 1;
            Ok(Some(-distance(candidate, &hidden)))
        });
        let found = found.unwrap();
        assert_eq!((found.best, found.score), (hidden, 0.0));
        assert_eq!((found.tried, tried), (60, 60));
    }

    #[test]
    fn what_is_fixed_stays_and_what_cannot_be_used_is_passed_over() {
        let found = search(40, 1, &["max_pool", "first"], &mut |candidate| {
            assert_eq!((option(candidate, "max_pool"), option(candidate, "first")), ("average", "ones"));
            Ok((option(candidate, "readout") == "0")
                .then(|| f64::from(u8::from(option(candidate, "split") == "half"))))
        });
        let best = found.unwrap().best;
        assert_eq!((option(&best, "split"), option(&best, "readout")), ("half", "0"));
        let error = search(5, 0, &[], &mut |_| Ok(None)).unwrap_err();
        assert!(error.to_string().contains("no preset"), "{error}");
    }

    #[test]
    fn the_same_search_tries_the_same_candidates() {
        let run = || {
            let mut tried = Vec::new();
            let score =
                |c: &Candidate| c.iter().enumerate().map(|(i, v)| ((i * 7 + v * 5) % 11) as f64).sum::<f64>();
            search(90, 5, &[], &mut |candidate| {
                tried.push(preset(candidate));
                Ok(Some(score(candidate)))
            })
            .unwrap();
            tried
        };
        let tried = run();
        assert_eq!(tried, run());
        let distinct: std::collections::HashSet<&String> = tried.iter().collect();
        assert_eq!(distinct.len(), tried.len());
    }

    #[test]
    fn the_start_is_conserve() {
        assert_eq!(describe(&Candidate::default()), "conserve");
        let text = preset(&Candidate::default());
        assert!(!text.contains("readout") && !text.contains("epsilon"), "{text}");
        relc::Preset::parse(&text, "tuned.toml").unwrap();
    }

    #[test]
    fn every_option_can_be_tried() {
        for (choice, options) in SPACE.iter().map(|choice| choice.options).enumerate() {
            for option in 0..options.len() {
                // In the upper layers, so that what concerns them is written.
                let mut candidate = Candidate::default();
                candidate[1] = 1;
                candidate[choice] = option;
                let text = preset(&candidate);
                let parsed = relc::Preset::parse(&text, "tuned.toml");
                assert!(parsed.is_ok(), "{parsed:?}\n{text}");
            }
        }
    }
}
