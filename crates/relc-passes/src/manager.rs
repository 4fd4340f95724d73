//! Running passes.

use std::sync::Arc;

use relc_ir::remark::{PassRecord, Remarks, Stopwatch};
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
            let start = Stopwatch::start();
            pass.run(graph, &mut remarks)?;
            let time = start.elapsed();
            verify(graph).map_err(|errors| PassError::Verify { pass: name, errors })?;
            after(name, graph);
            records.push(PassRecord { name: name.into(), time, remarks: remarks.into_list() });
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
