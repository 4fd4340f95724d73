//! What all pages have: head, policy, styles, modules, data.

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::PageError;

/// A script: its name in `import`, and its text.
pub type Module = (&'static str, &'static str);

/// The text of a script of `web`.
macro_rules! module {
    ($name:literal) => {
        ($name, include_str!(concat!("../web/", $name, ".js")))
    };
}
pub(crate) use module;

const STYLE: &str = include_str!("../web/page.css");

/// A page.
pub struct Page<'a, T> {
    /// The title, and the heading.
    pub title: &'a str,
    /// What it is of, in a line below the heading.
    pub of: &'a str,
    /// What `main` holds: HTML that a template escaped.
    pub body: String,
    /// What the scripts read.
    pub data: &'a T,
    /// The script that starts.
    pub entry: Module,
    /// What it imports, and what that imports.
    pub modules: &'a [Module],
}

#[derive(Template)]
#[template(path = "page.html")]
struct Shell<'a> {
    title: &'a str,
    of: &'a str,
    version: &'static str,
    policy: String,
    style: &'static str,
    import_map: String,
    entry: &'static str,
    data: String,
    body: String,
}

impl<T: Serialize> Page<'_, T> {
    /// The whole file.
    pub fn render(self) -> Result<String, PageError> {
        let url = |text: &str| format!("data:text/javascript;base64,{}", BASE64_STANDARD.encode(text));
        let imports: Map<String, Value> =
            self.modules.iter().map(|(name, text)| (name.to_string(), url(text).into())).collect();
        let import_map = json!({ "imports": imports }).to_string();
        let hash = |script: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
        let policy = format!(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src data: {} {}",
            hash(&import_map),
            hash(self.entry.1)
        );
        let shell = Shell {
            title: self.title,
            of: self.of,
            version: env!("CARGO_PKG_VERSION"),
            policy,
            style: STYLE,
            import_map,
            entry: self.entry.1,
            data: within_script(&serde_json::to_string(self.data)?),
            body: self.body,
        };
        Ok(visible(&shell.render()?))
    }
}

/// The text, with characters that would turn a line around, hide in it, or act, written as what they are.
fn visible(text: &str) -> String {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) {
            true => shown += &format!("‹U+{:04X}›", u32::from(c)),
            false => shown.push(c),
        }
    }
    shown
}

/// A command line as a shell takes it.
pub fn quoted(command: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,:=+@%".contains(c);
    let quote = |argument: &String| match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// JSON as it may stand in a `script`: nothing in it opens or ends an element. In JSON `<` occurs in strings only.
fn within_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_would_split_them() {
        let command = ["two_level,rise:400", "it's a file", ""].map(String::from);
        assert_eq!(quoted(&command), r"two_level,rise:400 'it'\''s a file' ''");
    }

    #[test]
    fn what_acts_on_a_line_is_shown() {
        assert_eq!(visible("a\u{202e}b\u{200b}c\n\u{7}"), "a‹U+202E›b‹U+200B›c\n‹U+0007›");
    }

    #[test]
    fn what_names_hold_is_text() {
        let hostile = "</script><script>alert(1)</script><!--";
        let page = Page {
            title: hostile,
            of: "\"quoted\" & 'so'",
            body: String::new(),
            data: &[hostile],
            entry: ("entry", "1"),
            modules: &[],
        };
        let html = page.render().unwrap();
        assert!(!html.contains("alert(1)</script>"), "{html}");
        assert!(html.contains("&#60;/script&#62;"), "{html}");
        assert!(html.contains(r#"["\u003c/script>\u003cscript>alert(1)"#), "{html}");
    }
}
