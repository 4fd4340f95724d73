//! Hints: what a word that relc does not know was probably meant to be.

use strsim::damerau_levenshtein;

/// The longest word that is compared: no name that a person types is longer, and one from a file may be.
const LONGEST: usize = 200;

/// The nearest of the words that are known, if it is near: two thirds of its letters are right. Numbers are near to
/// nothing.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST || word.parse::<f64>().is_ok() {
        return None;
    }
    let lower = word.to_lowercase();
    let distances = known.into_iter().filter(|n| n.len() <= LONGEST).map(|known| {
        let right = known.chars().count().max(lower.chars().count());
        (damerau_levenshtein(&known.to_lowercase(), &lower), right, known)
    });
    let (distance, letters, found) = distances.min_by_key(|(distance, _, _)| *distance)?;
    (distance * 3 <= letters).then_some(found)
}

/// ` (did you mean "nearest"?)`, or nothing where no word is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(hint).unwrap_or_default()
}

/// ` (did you mean "name"?)` with the [nearest node](nearest_node), or nothing where there is none.
pub fn did_you_mean_node<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest_node(wanted, names).map(hint).unwrap_or_default()
}

/// As [`did_you_mean_node`], with a glob that matches the name and nothing else.
pub fn did_you_mean_glob<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let literally = |c: char| if "*?[]{}".contains(c) { format!("[{c}]") } else { c.to_string() };
    let glob = |name: &str| name.chars().map(literally).collect::<String>();
    nearest_node(wanted, names).map(|name| hint(&glob(name))).unwrap_or_default()
}

/// The name that is nearest to a node's name or glob, however far: the shortest that holds its longest part without
/// wildcards, or else the one that takes the fewest edits.
pub fn nearest_node<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.into_iter().filter(|n| !n.is_empty() && n.len() <= LONGEST).collect();
    let part = wanted.split(['*', '?', '[', ']', '{', '}']).max_by_key(|p| p.len()).unwrap_or("");
    let part = part.trim_matches('/').to_lowercase();
    let holds = |n: &&&str| part.len() > 1 && n.to_lowercase().contains(&part);
    let held = names.iter().filter(holds).min_by_key(|n| n.len());
    let short: String = wanted.chars().take(LONGEST).collect();
    let fewest = || names.iter().min_by_key(|n| damerau_levenshtein(n, &short));
    held.or_else(fewest).copied()
}

fn hint(name: &str) -> String {
    format!(" (did you mean \"{name}\"?)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&str; 4] = ["disc", "square", "star", "2"];

    #[test]
    fn only_what_is_near_is_meant() {
        assert_eq!(nearest("disk", LABELS), Some("disc"));
        assert_eq!(nearest("DISC", LABELS), Some("disc"));
        assert_eq!(nearest("sqaure", LABELS), Some("square"));
        for far in ["argmax", "-1", "3", "1e9", "zebra", ""] {
            assert_eq!(nearest(far, LABELS), None, "{far}");
        }
        assert_eq!(did_you_mean("disk", LABELS), " (did you mean \"disc\"?)");
        assert_eq!(did_you_mean("zebra", LABELS), "");
        assert_eq!(nearest(&"d".repeat(100_000), LABELS), None);
    }

    #[test]
    fn a_node_is_found_by_a_part_of_its_name_or_by_its_spelling() {
        let names = ["input", "/layer1/layer1.0/Add", "/layer1/layer1.0/Add_1", "/Relu", ""];
        for (wanted, meant) in [
            ("Add", "/layer1/layer1.0/Add"),
            ("*layer1.0/add*", "/layer1/layer1.0/Add"),
            ("/layer1/layer1.0/Adds", "/layer1/layer1.0/Add"),
            ("/Rleu", "/Relu"),
        ] {
            assert_eq!(nearest_node(wanted, names), Some(meant), "{wanted}");
        }
        assert!(nearest_node("nope", names).is_some());
        assert_eq!(did_you_mean_node("nope", []), "");
        assert_eq!(did_you_mean_glob("add[1]", ["add[1]"]), " (did you mean \"add[[]1[]]\"?)");
    }
}
