//! Running passes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relc_ir::{Graph, IrError, verify};

use crate::error::PassError;

/// A transformation or analysis of a graph.
pub trait Pass: Send + Sync {
    /// The name, in kebab-case: what `relc dump --after` takes.
    fn name(&self) -> &'static str;

    /// What it does, in a line.
    fn description(&self) -> &'static str;

    /// Runs it, and says in `remarks` what it did and what it did not and why.
    ///
    /// # Errors
    /// If the graph has not the form that the pass needs.
    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError>;
}

impl<P: Pass + ?Sized> Pass for Arc<P> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn description(&self) -> &'static str {
        (**self).description()
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        (**self).run(graph, remarks)
    }
}

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
    /// The node that it concerns, as [`Graph::describe`] writes it; empty if none.
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

    fn push(&mut self, kind: RemarkKind, node: impl Into<String>, message: impl Into<String>) {
        let (node, message) = (node.into(), message.into());
        tracing::debug!(?kind, node, message);
        self.0.push(Remark { kind, node, message });
    }
}

/// One pass that ran.
#[derive(Clone, Debug)]
pub struct PassRecord {
    /// Its name.
    pub name: &'static str,
    /// How long it took, verification not counted.
    pub time: Duration,
    /// What it said.
    pub remarks: Vec<Remark>,
}

/// Runs a pipeline.
pub struct PassManager {
    passes: Vec<Box<dyn Pass>>,
}

impl PassManager {
    /// A manager of these passes.
    pub fn new(passes: Vec<Box<dyn Pass>>) -> Self {
        PassManager { passes }
    }

    /// Runs all passes, verifies the graph after each, and calls `after` with its name and the graph.
    ///
    /// # Errors
    /// The first pass that fails, or that leaves a malformed graph.
    pub fn run(
        &self,
        graph: &mut Graph,
        mut after: impl FnMut(&'static str, &Graph),
    ) -> Result<Vec<PassRecord>, PassError> {
        let mut records = Vec::with_capacity(self.passes.len());
        for pass in &self.passes {
            let name = pass.name();
            let _span = tracing::info_span!("pass", name).entered();
            let mut remarks = Remarks::default();
            let start = Instant::now();
            pass.run(graph, &mut remarks)?;
            let time = start.elapsed();
            verify(graph).map_err(|errors| PassError::Verify { pass: name, errors })?;
            after(name, graph);
            records.push(PassRecord { name, time, remarks: remarks.0 });
        }
        Ok(records)
    }
}

/// Names the pass in an error of the graph.
pub(crate) fn ir(pass: &'static str) -> impl Fn(IrError) -> PassError {
    move |source| PassError::Ir { pass, source }
}

/// The forward nodes in order, or an error if there is a cycle.
pub(crate) fn forward_order(graph: &Graph, pass: &'static str) -> Result<Vec<relc_ir::NodeId>, PassError> {
    let message = || "got a graph with a cycle, expected none".to_string();
    graph.forward_order().ok_or_else(|| PassError::Malformed { pass, message: message() })
}
