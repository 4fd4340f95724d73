//! What one text has in place of another's lines.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

/// After this time, differences are told as they were found so far, not the least there are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines that others took the place of.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Hunk {
    /// The first of them in the text before, from 0.
    pub at: usize,
    /// How many they are.
    pub removed: usize,
    /// What is there now.
    pub lines: Vec<String>,
}

/// What makes one text of another, from the first line on.
pub fn hunks(before: &[&str], after: &[&str]) -> Vec<Hunk> {
    let deadline = Instant::now() + PATIENCE;
    let ops = capture_diff_slices_deadline(Algorithm::Myers, before, after, Some(deadline)).into_iter();
    let changed = ops.filter(|op| !matches!(op, DiffOp::Equal { .. }));
    let hunk = |op: DiffOp| Hunk {
        at: op.old_range().start,
        removed: op.old_range().len(),
        lines: after[op.new_range()].iter().map(|line| line.to_string()).collect(),
    };
    changed.map(hunk).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The text that a page makes of the one before.
    pub fn apply(before: &[String], hunks: &[Hunk]) -> Vec<String> {
        let mut after = Vec::new();
        let mut at = 0;
        for hunk in hunks {
            after.extend_from_slice(&before[at..hunk.at]);
            after.extend_from_slice(&hunk.lines);
            at = hunk.at + hunk.removed;
        }
        after.extend_from_slice(&before[at..]);
        after
    }

    #[test]
    fn hunks_make_the_one_text_of_the_other() {
        let texts = ["", "a", "a\nb\nc", "b\nc", "a\nc\nb", "x\na\nb\nc\ny", "a\na\na\nb", "a\nb\nc\n\n"];
        for (before, after) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
            let [old, new] = [before, after].map(|text| text.lines().collect::<Vec<_>>());
            let found = hunks(&old, &new);
            let owned: Vec<String> = old.iter().map(|line| line.to_string()).collect();
            assert_eq!(apply(&owned, &found), new, "{before:?} {after:?}");
            assert_eq!(found.is_empty(), old == new, "{found:?}");
        }
    }

    #[test]
    fn a_changed_line_is_one_hunk() {
        let changed = Hunk { at: 1, removed: 1, lines: vec!["x".into()] };
        assert_eq!(hunks(&["a", "b", "c"], &["a", "x", "c"]), [changed]);
    }
}
