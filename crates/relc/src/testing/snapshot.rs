//! The text of a graph and of what passes said.

use std::fmt;

use relc_ir::Graph;
use relc_passes::PassRecord;

use super::RULER;
use crate::compiler::Compiled;

/// A graph and what passes said of it, as text that is the same whenever it is made: no times are in it.
///
/// ```
/// use relc::testing::Snapshot;
/// use relc::{Compiler, Preset};
///
/// let graph = relc::unstable::ir::parse("graph @t (%x: f32[N,4]) -> (%1 \"y\") {\n  %1 = relu %x : f32[N,4] ; \"relu\"\n}\n")?;
/// let compiled = Compiler::new(Preset::named("conserve")?).passes(graph, |_, _| {})?;
/// // insta::assert_snapshot!(Snapshot::from(&compiled));
/// let text = Snapshot::from(&compiled).to_string();
/// assert!(text.contains(" = seed %1, of=%1 : f32[N,4]"));
/// assert!(text.contains("find-residuals: warning: no residual join found"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The passes whose remarks stand below it.
    pub passes: &'a [PassRecord],
}

impl<'a> From<&'a Compiled> for Snapshot<'a> {
    fn from(compiled: &'a Compiled) -> Self {
        Snapshot { graph: &compiled.graph, passes: &compiled.passes }
    }
}

impl fmt::Display for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{RULER}", self.graph)?;
        for pass in self.passes {
            pass.remarks.iter().try_for_each(|remark| writeln!(f, "{}: {remark}", pass.name))?;
        }
        Ok(())
    }
}
