//! The verifier. This comment is its specification.
//!
//! **Structure**
//! - The graph has no cycle.
//! - Every op but `add`, `concat`, `sum` and the splits has a fixed number of operands (checked with the types).
//! - A forward node never uses a relevance value.
//! - At least one input and one output exist; an output is no relevance value.
//! - Names of inputs are unique; so are those of weights.
//!
//! **Shapes**
//! - Every node's types are what shape inference gives for its operands.
//! - No dimension is 0, the batch is only ever the first dimension, and no tensor has more elements than
//!   [`MAX_ELEMENTS`](crate::MAX_ELEMENTS) per sample.
//!
//! **Forward and backward, paired** (once relevance is derived)
//! - Every relevance node belongs to a forward node (`of=`).
//! - A relevance node's outputs have the types of the operands of its forward node that they are the relevance
//!   of; a `sum` and the seed have the type of the forward node's output, and so has each output of a read-out, which
//!   belongs to the node at whose output it cuts. What a linear rule hands on is its second output, of the type of `r`.
//! - A split belongs to an `add` and has one branch for each of its operands, in their order.
//! - The operand `z` of a rule that reads its layer's output is the output of its forward node.
//! - Every input has exactly one relevance value, of its own type, or none.
//!
//! **No relevance copied**
//! - Every relevance value is used exactly once: by one relevance node, or as the relevance of an input. Forks
//!   add (`sum`), joins split. A `split.copy`, the derivative of a sum, gives each branch a value of its own; its
//!   contract is `not-conserving`.
//! - There is exactly one seed.
//!
//! **Residuals and rules**
//! - A residual's join is an `add` with one branch for each operand, and its skip is one of them.
//! - A rule is only on a forward node; a split rule only on an `add`, a winner only on a `max_pool`, a gate only on
//!   a `mul`, `div` or `sub`.
//!
//! **Contracts**
//! - The claim names only relevance nodes, and none as `conserving`.

use std::fmt::{self, Write};

use crate::graph::{Graph, NodeId, ValueId};
use crate::op::{Arithmetic, Op, Relevance};
use crate::rule::{Contract, Leak};
use crate::types::TensorType;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyError {
    /// The node it concerns, if it is one.
    pub node: Option<NodeId>,
    /// What was got and what is expected.
    pub message: String,
}

/// Everything that is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyErrors {
    /// The errors, in the order of the specification.
    pub errors: Vec<VerifyError>,
    rendered: String,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for VerifyErrors {}

/// Verifies a graph against the specification in this module's source (structure, shapes, forward/backward
/// pairing, no relevance copied, residuals and rules, contracts).
///
/// # Errors
/// All errors at once, printed under the lines that they concern.
pub fn verify(graph: &Graph) -> Result<(), VerifyErrors> {
    let mut verifier = Verifier { graph, errors: Vec::new() };
    if graph.topological().is_none() {
        verifier.report(None, "got a cycle, expected none".into());
    } else {
        verifier.structure();
        verifier.shapes();
        verifier.pairing();
        verifier.no_copies();
        verifier.annotations();
    }
    let errors = verifier.errors;
    if errors.is_empty() {
        return Ok(());
    }
    let rendered = render(graph, &errors);
    Err(VerifyErrors { errors, rendered })
}

/// The lines of the nodes that are wrong, each with its errors below, and a count.
fn render(graph: &Graph, errors: &[VerifyError]) -> String {
    let mut text = String::new();
    for error in errors.iter().filter(|e| e.node.is_none()) {
        let _ = writeln!(text, "error: {}", error.message);
    }
    let order = graph.topological().unwrap_or_else(|| graph.node_ids().collect());
    for node in order {
        let mut own = errors.iter().filter(|e| e.node == Some(node)).peekable();
        if own.peek().is_some() {
            let _ = writeln!(text, "  {}", graph.line(node));
        }
        own.for_each(|e| {
            let _ = writeln!(text, "  ^ error: {}", e.message);
        });
    }
    let _ = write!(text, "{} verifier error(s) in graph @{}", errors.len(), graph.name());
    text
}

struct Verifier<'a> {
    graph: &'a Graph,
    errors: Vec<VerifyError>,
}

impl Verifier<'_> {
    fn report(&mut self, node: Option<NodeId>, message: String) {
        self.errors.push(VerifyError { node, message });
    }

    fn structure(&mut self) {
        let g = self.graph;
        if g.inputs().is_empty() || g.outputs().is_empty() {
            let (i, o) = (g.inputs().len(), g.outputs().len());
            self.report(None, format!("got {i} inputs and {o} outputs, expected at least one of each"));
        }
        for (name, value) in g.outputs() {
            if !g.contains(value.node) || g.node(value.node).op.is_relevance() {
                self.report(None, format!("output \"{name}\": got no forward value, expected one"));
            }
        }
        for node in g.node_ids().filter(|n| !g.node(*n).op.is_relevance()) {
            for value in g.operands(node) {
                if g.node(value.node).op.is_relevance() {
                    let message =
                        format!("got the relevance value {}, expected forward values", g.label(value));
                    self.report(Some(node), message);
                }
            }
        }
    }

    fn shapes(&mut self) {
        let g = self.graph;
        for node in g.node_ids() {
            let n = g.node(node);
            for ty in n.types() {
                if let Err(message) = ty.check() {
                    self.report(Some(node), message);
                }
            }
            if matches!(n.op, Op::Input | Op::Constant) {
                continue;
            }
            let operands = g.operands(node);
            let types: Vec<&TensorType> = operands.iter().map(|v| g.ty(*v)).collect();
            match n.op.infer(&types) {
                Ok(inferred) if inferred == n.types() => {}
                Ok(inferred) => {
                    let message = format!("got type {}, expected {}", list(n.types()), list(&inferred));
                    self.report(Some(node), message);
                }
                Err(message) => self.report(Some(node), message),
            }
        }
    }

    fn pairing(&mut self) {
        let g = self.graph;
        for node in g.node_ids() {
            let n = g.node(node);
            let Op::Relevance(op) = &n.op else {
                if n.of.is_some() {
                    self.report(
                        Some(node),
                        "got of= on a forward node, expected it on relevance nodes only".into(),
                    );
                }
                continue;
            };
            match n.of.filter(|of| g.contains(*of) && !g.node(*of).op.is_relevance()) {
                Some(of) => self.paired(node, op, of),
                None => self.report(Some(node), "got no forward node, expected of=".into()),
            }
        }
        for (input, value) in &g.relevance_outputs {
            if g.node(*input).op != Op::Input || !g.node(value.node).op.is_relevance() {
                self.report(Some(value.node), "got a return that is no input's relevance".into());
            } else if g.ty(*value) != &g.node(*input).types()[0] {
                let message = format!("got {}, expected {}", g.ty(*value), g.node(*input).types()[0]);
                self.report(Some(value.node), format!("relevance of {}: {message}", g.node_label(*input)));
            }
            if g.relevance_outputs.iter().filter(|(i, _)| i == input).count() > 1 {
                self.report(Some(*input), "got several relevance values for an input, expected one".into());
            }
        }
    }

    fn paired(&mut self, node: NodeId, op: &Relevance, of: NodeId) {
        let g = self.graph;
        let forward = g.node(of);
        let data = g.data_operands(of);
        let expected: Vec<TensorType> = match op {
            Relevance::Seed | Relevance::Sum => vec![forward.types()[0].clone()],
            // A gate's signal is one of its two data operands: whichever has the type.
            Relevance::Pass if data.len() > 1 => {
                let got = &g.node(node).types()[0];
                if data.iter().any(|(_, v)| g.ty(*v) == got) { vec![got.clone()] } else { vec![] }
            }
            Relevance::Readout { .. } => vec![forward.types()[0].clone(); 2],
            // Where it arrives is another node's output: shape inference says what it is.
            Relevance::Upsample { .. } => g.node(node).types().to_vec(),
            Relevance::Linear { rule, .. } if rule.leak != Leak::Lost => {
                let own = data.iter().map(|(_, v)| g.ty(*v).clone());
                own.chain([forward.types()[0].clone()]).collect()
            }
            Relevance::Mask { .. } => {
                g.operands(node).first().map(|v| g.ty(*v).clone()).into_iter().collect()
            }
            _ => data.iter().map(|(_, v)| g.ty(*v).clone()).collect(),
        };
        let got = g.node(node).types();
        if got != expected {
            let message =
                format!("got the types {}, expected {} of {}", list(got), list(&expected), g.node_label(of));
            self.report(Some(node), message);
        }
        if let Relevance::Linear { rule, .. } = op
            && rule.reads_output()
            && g.operands(node).last() != Some(&ValueId { node: of, port: 0 })
        {
            self.report(
                Some(node),
                format!("got no operand z, expected the output of {} last", g.node_label(of)),
            );
        }
        if let Relevance::Split { branches, .. } = op
            && (forward.op != Op::Arithmetic(Arithmetic::Add)
                || g.operands(of) != g.operands(node).into_iter().take(*branches).collect::<Vec<_>>())
        {
            self.report(
                Some(node),
                format!("got branches that are not the operands of {}", g.node_label(of)),
            );
        }
    }

    fn no_copies(&mut self) {
        let g = self.graph;
        if !g.has_relevance() {
            return;
        }
        let seeds = g.node_ids().filter(|n| g.node(*n).op == Op::Relevance(Relevance::Seed)).count();
        if seeds != 1 {
            self.report(None, format!("got {seeds} seeds, expected 1"));
        }
        for node in g.node_ids().filter(|n| g.node(*n).op.is_relevance()) {
            for port in 0..g.node(node).types().len() {
                let value = ValueId { node, port };
                let returned = g.relevance_outputs.iter().filter(|(_, v)| *v == value).count();
                let uses = g.users(value).len() + returned;
                if uses != 1 {
                    let message = format!(
                        "{} is used {uses} times, expected once: relevance is split, never copied",
                        g.label(value)
                    );
                    self.report(Some(node), message);
                }
            }
        }
    }

    fn annotations(&mut self) {
        let g = self.graph;
        for r in &g.residuals {
            let operands = if g.contains(r.join) { g.operands(r.join).len() } else { 0 };
            if operands < 2 || operands != r.branches.len() || r.skip >= operands {
                let (b, s) = (r.branches.len(), r.skip);
                self.report(
                    Some(r.join),
                    format!("got a residual of {b} branches, skip {s}, for {operands} operands"),
                );
            } else if g.node(r.join).op != Op::Arithmetic(Arithmetic::Add) {
                self.report(Some(r.join), "got a residual join that is no add".into());
            }
        }
        for (node, assigned) in &g.rules {
            let op = &g.node(*node).op;
            if !assigned.rule.fits(op) {
                let message = format!("got the rule {} on {}", assigned.rule.name(), op.mnemonic());
                self.report(Some(*node), message);
            }
        }
        for (node, contract) in g.claim.iter().flat_map(|c| &c.leaks) {
            if !g.node(*node).op.is_relevance() || *contract == Contract::Conserving {
                self.report(
                    Some(*node),
                    format!("got {contract} in the claim, expected leaking relevance nodes"),
                );
            }
        }
    }
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
