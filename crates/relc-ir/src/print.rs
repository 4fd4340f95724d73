//! The text form. The grammar is in [`parse`](crate::parse), which reads it back.

use std::fmt::{self, Write};

use crate::attr::{Attrs, Quoted};
use crate::graph::{Graph, NodeId, ValueId};
use crate::head::{Groups, Head};
use crate::op::Op;

/// A name, in quotes where it is no plain identifier.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

/// Whether a name needs no quotes: it starts with a letter or `_`, and goes on with letters, digits and `_.-/$`.
/// `r12` is kept for relevance values.
fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let relevance_like = name.strip_prefix('r').is_some_and(|r| r.chars().all(|c| c.is_ascii_digit()));
    starts && !relevance_like && chars.all(|c| c.is_ascii_alphanumeric() || "_.-/$".contains(c))
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) { f.write_str(self.0) } else { write!(f, "{}", Quoted(self.0)) }
    }
}

impl Graph {
    /// The line of a node, as the text form has it, without indentation.
    pub fn line(&self, node: NodeId) -> String {
        let n = self.node(node);
        let results: Vec<String> =
            (0..n.types().len()).map(|port| self.label(ValueId { node, port })).collect();
        let types: Vec<String> = n.types().iter().map(ToString::to_string).collect();
        let mut parts: Vec<String> = self.operands(node).into_iter().map(|v| self.label(v)).collect();
        parts.extend(attrs(n.op.attrs()));
        if let Some(of) = n.of {
            parts.push(format!("of={}", self.node_label(of)));
        }
        let space = if parts.is_empty() { "" } else { " " };
        let (results, types) = (results.join(", "), types.join(", "));
        let mut line = format!("{results} = {}{space}{} : {types}", n.op.mnemonic(), parts.join(", "));
        if let Some(assigned) = self.rules.get(&node) {
            let rule = attrs(assigned.rule.attrs()).join(", ");
            let _ = write!(line, " !{}({rule}) from {}", assigned.rule.name(), Quoted(&assigned.origin));
        }
        if n.of.is_none() && !n.name.is_empty() {
            let _ = write!(line, " ; {}", Quoted(&n.name));
        }
        line
    }
}

fn attrs(attrs: Attrs) -> Vec<String> {
    attrs.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs: Vec<String> = self
            .inputs()
            .iter()
            .map(|&i| format!("{}: {}", self.node_label(i), self.node(i).types()[0]))
            .collect();
        let outputs: Vec<String> =
            self.outputs().iter().map(|(name, v)| format!("{} {}", self.label(*v), Quoted(name))).collect();
        writeln!(f, "graph @{} ({}) -> ({}) {{", Name(self.name()), inputs.join(", "), outputs.join(", "))?;
        if self.weights().next().is_some() {
            writeln!(f, "  weights {{")?;
            for w in self.weights() {
                writeln!(f, "    @{}: {} #{:016x}", Name(w.name()), w.ty(), w.hash())?;
            }
            writeln!(f, "  }}")?;
        }
        if self.head != Head::None {
            write!(f, "  head {}", self.head.name())?;
            if let Some(Groups { size, stride }) = self.head.groups() {
                write!(f, " of={size} apart={stride}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "  note {}", Quoted(note))?;
        }
        let Some(order) = self.topological() else { return writeln!(f, "  ; the graph has a cycle\n}}") };
        let (relevance, forward): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|n| self.node(*n).op.is_relevance());
        for node in forward.into_iter().filter(|n| self.node(*n).op != Op::Input) {
            writeln!(f, "  {}", self.line(node))?;
        }
        for residual in &self.residuals {
            write!(
                f,
                "  residual {} fork={}",
                self.node_label(residual.join),
                self.node_label(residual.fork)
            )?;
            write!(f, " skip={} [", residual.skip)?;
            for (i, b) in residual.branches.iter().enumerate() {
                write!(f, "{}{}:{}:{}", if i > 0 { ", " } else { "" }, b.kind, b.weighted_layers, b.length)?;
            }
            writeln!(f, "]")?;
        }
        if !relevance.is_empty() {
            writeln!(f, "  relevance {{")?;
            for node in relevance {
                writeln!(f, "    {}", self.line(node))?;
            }
            for (input, value) in &self.relevance_outputs {
                writeln!(f, "    return {} for {}", self.label(*value), self.node_label(*input))?;
            }
            writeln!(f, "  }}")?;
        }
        if let Some(claim) = &self.claim {
            let leaks: Vec<String> =
                claim.leaks.iter().map(|(n, c)| format!("{}:{c}", self.node_label(*n))).collect();
            writeln!(f, "  claim {}", if leaks.is_empty() { "conserving".into() } else { leaks.join(", ") })?;
        }
        writeln!(f, "}}")
    }
}
