//! `relc schema`: the JSON Schema of reports.

use relc::report;

use crate::failure::Failure;
use crate::print;

/// Runs the command.
pub fn run() -> Result<(), Failure> {
    Ok(print::json(&serde_json::to_string_pretty(&report::schema())?)?)
}
