//! The names of a model's outputs.

use std::path::Path;

use crate::failure::Failure;

/// Reads a file with a label on each line.
pub fn read(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("can't read the labels {}: {e}", path.display()))?;
    Ok(text.lines().map(|l| l.trim().to_string()).collect())
}
