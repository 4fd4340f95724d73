//! What passes say of their work, over graphs and over programs.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

/// What kind of thing a pass has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// It changed or found something.
    Applied,
    /// It came near, and left it.
    Missed,
    /// The user should know.
    Warning,
}

impl RemarkKind {
    /// `applied`, `missed` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            RemarkKind::Applied => "applied",
            RemarkKind::Missed => "missed",
            RemarkKind::Warning => "warning",
        }
    }
}

/// A thing that a pass has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Its kind.
    pub kind: RemarkKind,
    /// The node that it concerns, as [`Graph::describe`](crate::Graph::describe) writes it; empty if none.
    pub node: String,
    /// What.
    pub message: String,
}

impl Remark {
    /// The node and what is said of it.
    pub fn text(&self) -> String {
        let colon = if self.node.is_empty() { "" } else { ": " };
        format!("{}{colon}{}", self.node, self.message)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.text())
    }
}

/// The remarks of one run.
#[derive(Debug, Default)]
pub struct Remarks(Vec<Remark>);

impl Remarks {
    /// Something was done or found.
    pub fn applied(&mut self, node: impl Into<String>, message: impl Into<String>) {
        self.push(RemarkKind::Applied, node, message);
    }

    /// Something was left.
    pub fn missed(&mut self, node: impl Into<String>, message: impl Into<String>) {
        self.push(RemarkKind::Missed, node, message);
    }

    /// The user should know something.
    pub fn warning(&mut self, node: impl Into<String>, message: impl Into<String>) {
        self.push(RemarkKind::Warning, node, message);
    }

    /// All of them, in their order.
    pub fn into_list(self) -> Vec<Remark> {
        self.0
    }

    fn push(&mut self, kind: RemarkKind, node: impl Into<String>, message: impl Into<String>) {
        let (node, message) = (node.into(), message.into());
        tracing::debug!(?kind, node, message);
        self.0.push(Remark { kind, node, message });
    }
}

/// The time since it started; none passes where the platform has no clock, as WebAssembly in a page.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Option<Instant>);

impl Stopwatch {
    /// Starts.
    pub fn start() -> Stopwatch {
        let clockless = cfg!(all(target_family = "wasm", target_os = "unknown"));
        Stopwatch((!clockless).then(Instant::now))
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

/// One pass that ran.
#[derive(Clone, Debug)]
pub struct PassRecord {
    /// Its name.
    pub name: Cow<'static, str>,
    /// How long it took, verification not counted.
    pub time: Duration,
    /// What it said.
    pub remarks: Vec<Remark>,
}
