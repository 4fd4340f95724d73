//! `assign-rules`: each forward node gets a rule, and the line that decided is kept.

use std::collections::{BTreeMap, BTreeSet};

use relc_ir::op::Arithmetic;
use relc_ir::rule::{AssignedRule, Frame, GatePolicy, Rule, SplitPolicy, Surrogate};
use relc_ir::{Graph, NodeId, Op, ValueId};
use relc_rules::{Place, Preset};

use crate::cleanup::head::mixed;
use crate::error::{PassError, UnsupportedNode};
use crate::gates::Gates;
use crate::manager::{Pass, forward_order};
use relc_ir::remark::Remarks;

/// Asks the preset for every node's rule. Nodes that no relevance can pass through are listed in one error.
pub struct AssignRules {
    /// The preset, with the user's options in it.
    pub preset: Preset,
}

impl Pass for AssignRules {
    fn name(&self) -> &'static str {
        "assign-rules"
    }

    fn description(&self) -> &'static str {
        "give each node the rule that the preset and the options say"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let order = forward_order(graph, self.name())?;
        let places = places(graph, &order);
        self.check_globs(graph, &places)?;
        let gates = Gates::new(graph, &order);
        // A derivative follows the gate too.
        let is_derivative = |node: NodeId| {
            let n = graph.node(node);
            let rule = self.preset.rule(&n.op, &n.name, places.get(&node).copied().unwrap_or_default());
            matches!(rule, Some(Ok((Rule::Derivative(_), _))))
        };
        let is_shared = |node: NodeId| {
            self.preset.gate != GatePolicy::Signal && graph.node(node).op == Op::Arithmetic(Arithmetic::Mul)
        };
        let reached = gates.reached(graph, &order, |node| !is_derivative(node) && !is_shared(node));
        let mut unsupported = Vec::new();
        graph.rules.clear();
        let joins: BTreeSet<NodeId> = graph.residuals.iter().map(|r| r.join).collect();
        for node in order {
            if graph.data_operands(node).is_empty() || !reached.contains(&node) {
                continue; // an input, or what computes a gate
            }
            let place = places.get(&node).copied().unwrap_or_default();
            match self.assign(graph, node, place, joins.contains(&node), gates.signal(graph, node)) {
                Ok(assigned) => {
                    graph.rules.insert(node, assigned);
                }
                Err((reason, advice)) => {
                    unsupported.push(UnsupportedNode { node: graph.describe(node), reason, advice });
                }
            }
        }
        if !unsupported.is_empty() {
            return Err(PassError::Unsupported { nodes: unsupported });
        }
        remarks.applied("", format!("{} rules of the preset {}", graph.rules.len(), self.preset.name));
        Ok(())
    }
}

/// Where each node lies among the weighted layers.
fn places(graph: &Graph, order: &[NodeId]) -> BTreeMap<NodeId, Place> {
    let mut places: BTreeMap<NodeId, Place> = BTreeMap::new();
    for &node in order {
        let operands = graph.data_operands(node);
        let depth = operands.iter().map(|(_, v)| {
            let before = places.get(&v.node).map_or(0, |p| p.depth);
            before + usize::from(graph.node(v.node).op.is_weighted())
        });
        places.insert(node, Place { depth: depth.max().unwrap_or(0), layers: 0, last: true });
    }
    let through = places.iter().map(|(n, place)| place.depth + usize::from(graph.node(*n).op.is_weighted()));
    let layers = through.max().unwrap_or(0);
    places.values_mut().for_each(|place| place.layers = layers);
    let mut before: BTreeSet<NodeId> = BTreeSet::new();
    for &node in order.iter().rev() {
        let is_before = before.contains(&node);
        if let Some(place) = places.get_mut(&node) {
            place.last = !is_before;
        }
        if is_before || graph.node(node).op.is_weighted() {
            before.extend(graph.data_operands(node).iter().map(|(_, v)| v.node));
        }
    }
    places
}

/// Whether the frame of a Pad is where constants are put by the sum behind it, as a `Concat` with constants is imported.
fn holds_constants(graph: &Graph, node: NodeId) -> bool {
    let Op::Pad(pad) = &graph.node(node).op else { return false };
    let &[(user, _)] = &graph.users(ValueId { node, port: 0 })[..] else { return false };
    let constant = match (&graph.node(user).op, &graph.operands(user)[..]) {
        (Op::Arithmetic(Arithmetic::Add), &[_, constant]) => graph.weight(constant),
        _ => None,
    };
    // Sizes that are those of the padded value, so that the frame's own values are in it.
    let dims = &graph.node(node).types()[0].dims()[1..];
    pad.value == 0.0
        && constant.is_some_and(|c| c.ty().rank() == dims.len() + 1 && c.ty().dims()[1..] == *dims)
}

/// Why a node has no rule, and what to do.
type Refusal = (String, String);

/// What is said of an op on two branches that has no rule.
fn refuse_two(op: &Op) -> Result<AssignedRule, Refusal> {
    let (reason, advice) = match op {
        Op::Arithmetic(Arithmetic::Pow) => {
            ("a power whose exponent is computed", "constant exponents are supported")
        }
        Op::Arithmetic(Arithmetic::Max | Arithmetic::Min | Arithmetic::PRelu) => (
            "two branches, of which each position takes one",
            "Max and Min with a constant, and PRelu with a constant slope, are supported",
        ),
        Op::Arithmetic(Arithmetic::Div | Arithmetic::Sub) => (
            "a value is spread to the shape of what it is divided by, or of what is subtracted",
            "a second operand that broadcasts to the first is supported",
        ),
        _ => ("two branches of different shapes", "a gate that broadcasts to its signal is supported"),
    };
    Err((reason.to_string(), advice.to_string()))
}

impl AssignRules {
    /// A glob that matches nothing is a slip of the pen.
    fn check_globs(&self, graph: &Graph, places: &BTreeMap<NodeId, Place>) -> Result<(), PassError> {
        let name = |n: &NodeId| graph.node(*n).name.as_str();
        let nodes: Vec<_> = places.iter().map(|(n, place)| (&graph.node(*n).op, name(n), *place)).collect();
        let joins: Vec<&str> = graph.residuals.iter().map(|r| name(&r.join)).collect();
        let unmatched = self.preset.unmatched(&nodes, &joins);
        if unmatched.is_empty() { Ok(()) } else { Err(PassError::Unmatched { messages: unmatched }) }
    }

    fn assign(
        &self,
        graph: &Graph,
        node: NodeId,
        place: Place,
        is_join: bool,
        signal: Option<usize>,
    ) -> Result<AssignedRule, Refusal> {
        let n = graph.node(node);
        let data = graph.data_operands(node);
        let refuse = |reason: &str, advice: &str| Err((reason.to_string(), advice.to_string()));
        let given = |(rule, origin)| Ok(AssignedRule { rule, origin });
        let derivative = match n.op {
            Op::Arithmetic(Arithmetic::Add) => {
                let (rule, origin) = self.preset.split_rule(&n.name);
                (rule == Rule::Split(SplitPolicy::Gradient) && !is_join).then_some(origin)
            }
            Op::Arithmetic(_) => match self.preset.rule(&n.op, &n.name, place) {
                Some(Ok((Rule::Derivative(_), origin))) => Some(origin),
                _ => None,
            },
            _ => None,
        };
        if let (Some(origin), true) = (derivative, data.len() > 1) {
            return given((Rule::Derivative(Surrogate::Gradient), origin));
        }
        let keeps_type = || data.iter().all(|(_, v)| graph.ty(*v) == &n.types()[0]);
        match n.op {
            Op::Arithmetic(Arithmetic::Add) if data.len() > 1 => {
                if !is_join {
                    return refuse(
                        "branches are added that are no residual structure",
                        "a sum of branches of one fork is supported, without constants among them",
                    );
                }
                if !keeps_type() {
                    return refuse(
                        "branches of different shapes are added",
                        "branches of one shape are supported",
                    );
                }
                given(self.preset.split_rule(&n.name))
            }
            Op::Arithmetic(_) if data.len() > 1 => match signal {
                Some(signal) if n.op == Op::Arithmetic(Arithmetic::Mul) => {
                    given(self.preset.gate_rule(signal))
                }
                Some(signal) => Ok(AssignedRule {
                    rule: Rule::Gate { signal, policy: GatePolicy::Signal },
                    origin: "structure: what is divided by, or a statistic subtracted, is a constant".into(),
                }),
                None if n.op == Op::Arithmetic(Arithmetic::Mul) && keeps_type() => Ok(AssignedRule {
                    rule: Rule::Gate { signal: 0, policy: GatePolicy::Half },
                    origin:
                        "structure: of two branches of which neither is the other's gate, each takes half"
                            .into(),
                }),
                None => refuse_two(&n.op),
            },
            Op::Arithmetic(Arithmetic::Pow) if data[0].0 == 1 => refuse(
                "a constant is raised to the value's power",
                "powers with a constant exponent are supported",
            ),
            Op::Arithmetic(_) if !keeps_type() => {
                refuse("a constant widens the value", "constants that broadcast to the value are supported")
            }
            Op::Arithmetic(Arithmetic::Div) if data[0].0 == 1 => {
                refuse("a constant is divided by the value", "division by a constant is supported")
            }
            Op::MatMul => refuse(
                "a matrix product that is no fully connected layer",
                "f32[N,K] times a weight is supported",
            ),
            Op::Softmax(_) => match self.preset.rule(&n.op, &n.name, place) {
                Some(Ok((rule @ Rule::Derivative(_), origin))) => given((rule, origin)),
                _ if mixed(graph).contains(&node) => {
                    let origin = "structure: the output is a mean of softmaxes, and this is one of them";
                    given((Rule::Pass, origin.to_string()))
                }
                _ => refuse(
                    "a softmax inside the network",
                    "a softmax in a gate that takes no relevance (gate policy signal), behind the explained output, one of \
                     those that the output is the mean of, or with a preset of derivatives is supported",
                ),
            },
            Op::ReduceMean(_) => refuse("a mean over the batch", "means over the other axes are supported"),
            _ => match self.preset.rule(&n.op, &n.name, place) {
                Some(Ok((Rule::Crop { .. }, _))) if holds_constants(graph, node) => Ok(AssignedRule {
                    rule: Rule::Crop { frame: Frame::Constants },
                    origin: "structure: what a constant beside the value takes has left the input".into(),
                }),
                Some(Ok((rule, origin))) if !rule.fits(&n.op) => refuse(
                    &format!("{origin}: the rule {} does not fit {}", rule.name(), n.op.onnx_name()),
                    "correct the preset",
                ),
                Some(Ok(rule)) => given(rule),
                Some(Err(reason)) => refuse(&reason, "correct the preset"),
                None => refuse(
                    &format!("the preset {} has no rule for {}", self.preset.name, n.op.onnx_name()),
                    "add a [[rule]] line for it to the preset",
                ),
            },
        }
    }
}
