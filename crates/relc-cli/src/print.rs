//! Everything that reaches the terminal.
//!
//! Names come from files that nobody has looked at: characters that would move the cursor, colour the text or turn its
//! direction are shown as escapes, here and nowhere else.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the reader of standard output went away, as in `relc ... | head`.
static GONE: AtomicBool = AtomicBool::new(false);

/// Prints one line on standard output.
pub fn line(text: impl Display) -> io::Result<()> {
    put(&format!("{}\n", escaped(&text.to_string())))
}

/// Prints text of several lines on standard output: a table, a listing.
pub fn block(text: impl Display) -> io::Result<()> {
    let text = text.to_string();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    put(&format!("{}{end}", escaped_lines(&text)))
}

/// Prints a JSON document on standard output. What acts in its strings is escaped as JSON does, so that it stays one.
pub fn json(document: &str) -> io::Result<()> {
    put(&format!("{}\n", escaped_json(document)))
}

/// Prints one line on standard error. Nobody may be reading it, and that is no failure.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", escaped(&text.to_string()));
}

/// Prints text of several lines on standard error.
pub fn notes(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", escaped_lines(&text.to_string()));
}

fn put(text: &str) -> io::Result<()> {
    raw(text.as_bytes())
}

/// Prints what another program reads, such as a shell's script, as it is. A reader that went away ends the printing, not
/// the work: files are still to be written.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    if GONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        result => result,
    }
}

/// Whether a terminal would do something else with a character than show it.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with every character that acts, a new line too, written as Rust would: `\n`, `\u{1b}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if acts(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// All of these characters have four hexadecimal digits; lines end between strings alone.
fn escaped_json(document: &str) -> Cow<'_, str> {
    let acts = |c: char| c != '\n' && acts(c);
    if !document.contains(acts) {
        return Cow::Borrowed(document);
    }
    let escape = |c: char| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(document.chars().map(escape).collect())
}

fn escaped_lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(escaped).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown() {
        assert_eq!(escaped("a\x1b[2J\r\n\u{9b}b\u{202e}"), "a\\u{1b}[2J\\r\\n\\u{9b}b\\u{202e}");
        assert_eq!(escaped("grüße, 犬 \"x\" \\"), "grüße, 犬 \"x\" \\");
        assert_eq!(escaped_lines("a\tb\nc"), "a\\tb\nc");
        assert_eq!(escaped_json("{\n\"\u{9b}\u{202e}\": 1}"), "{\n\"\\u009b\\u202e\": 1}");
    }
}
