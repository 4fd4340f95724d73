//! The names of a model's outputs.

use std::path::Path;

use relc::read;

use crate::failure::Failure;

/// The most characters of a label.
const MAX_LABEL: usize = 1000;

/// Reads a file with a label on each line; empty lines at its end are none.
pub fn read(path: &Path) -> Result<Vec<String>, Failure> {
    let text = read::text(path, read::LABELS)?;
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_string()).collect();
    if let Some(i) = labels.iter().position(|label| label.chars().count() > MAX_LABEL) {
        let (file, length) = (path.display(), labels[i].chars().count());
        return Err(Failure::from(format!(
            "{file}, line {}: got a label of {length} characters, expected at most {MAX_LABEL}; give a text file with \
             the name of an output on each line",
            i + 1
        )));
    }
    Ok(labels)
}
