//! Names of files and folders, from names that come from elsewhere.

use std::collections::{HashMap, HashSet};

/// The most bytes of a name: file systems take 255, and numbers and endings come behind it.
const MAX_NAME: usize = 200;
/// What Windows has no files of, whatever their ending.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// A name that is one component of a path on every system, is never `.` or `..`, and hides nothing.
pub fn sanitised(name: &str) -> String {
    let plain = |c: char| {
        let odd = c.is_control() || "/\\<>:\"|?*".contains(c) || c == char::REPLACEMENT_CHARACTER;
        if odd { '_' } else { c }
    };
    let mut clean: String = name.chars().map(plain).collect();
    while clean.len() > MAX_NAME {
        clean.pop();
    }
    // Windows drops dots and spaces at the end; a dot at the start hides a file elsewhere.
    let trimmed = clean.trim_end_matches(['.', ' ']);
    let rest = trimmed.trim_start_matches(['.', ' ']);
    let lead = "_".repeat(trimmed.len() - rest.len());
    let clean = if rest.is_empty() { "input".to_string() } else { format!("{lead}{rest}") };
    let stem = clean.split('.').next().unwrap_or_default().to_lowercase();
    let numbered = ["com", "lpt"].iter().any(|port| {
        stem.strip_prefix(port).is_some_and(|n| n.len() == 1 && n.chars().all(|c| c.is_ascii_digit()))
    });
    if DEVICES.contains(&stem.as_str()) || numbered { format!("_{clean}") } else { clean }
}

/// Names that were given out, each only once, also where upper and lower case are one.
#[derive(Default)]
pub struct Distinct {
    taken: HashSet<String>,
    /// For each name, the number that was tried last.
    numbers: HashMap<String, usize>,
}

impl Distinct {
    /// The name, with a number behind it if it is taken.
    pub fn name(&mut self, name: &str) -> String {
        let number = self.numbers.entry(name.to_lowercase()).or_insert(1);
        let mut given = name.to_string();
        while !self.taken.insert(given.to_lowercase()) {
            *number += 1;
            given = format!("{name}-{number}");
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_component() {
        for (name, clean) in [
            ("cat", "cat"),
            ("grüße 2.1", "grüße 2.1"),
            ("..", "input"),
            ("", "input"),
            (" ", "input"),
            (".hidden", "_hidden"),
            ("../../x", "___.._x"),
            ("a/b\\c", "a_b_c"),
            ("C:x", "C_x"),
            ("a\x1b\n", "a__"),
            ("dots...", "dots"),
            ("NUL", "_NUL"),
            ("com1.tar", "_com1.tar"),
            ("comma", "comma"),
        ] {
            assert_eq!(sanitised(name), clean, "{name:?}");
        }
        assert!(sanitised(&"ü".repeat(300)).len() <= MAX_NAME);
    }

    #[test]
    fn names_are_distinct_whatever_their_case() {
        let mut names = Distinct::default();
        let given = ["a", "A", "a-2", "a", "b"].map(|name| names.name(name));
        assert_eq!(given, ["a", "A-2", "a-2-2", "a-3", "b"]);
    }
}
