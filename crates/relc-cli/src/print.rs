//! Standard output.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line. A reader that went away (`relc ... | head`) is an error like any other, not a panic; `main` ends
/// quietly on it.
pub fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}
