//! The graph: ops as nodes of a petgraph `StableGraph`, uses of values as edges.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::error::IrError;
use crate::head::Head;
use crate::op::Op;
use crate::residual::Residual;
use crate::rule::{AssignedRule, Contract};
use crate::types::TensorType;
use crate::weight::Weight;

/// A node of a [`Graph`]. Stays valid when other nodes are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) NodeIndex);

impl NodeId {
    /// The index in the underlying petgraph.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// A value: an output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    /// The node that makes it.
    pub node: NodeId,
    /// Which of its outputs.
    pub port: usize,
}

/// An op, where it came from, and the types of what it makes.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The ONNX node's name (an input's or weight's name; for a relevance node that of its forward node).
    pub name: String,
    /// For a relevance node, the forward node whose output's relevance it takes or sums.
    pub of: Option<NodeId>,
    types: Vec<TensorType>,
    number: u32,
}

impl Node {
    /// The types of the outputs.
    pub fn types(&self) -> &[TensorType] {
        &self.types
    }

    /// The number of its first output in the text form; outputs are numbered on from there.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// A use of a value: output `port` of the source is operand `operand` of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    port: usize,
    operand: usize,
}

/// What check-conservation found: every node that may lose relevance. Empty: the program conserves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// The nodes that may lose (or gain) relevance, and how.
    pub leaks: Vec<(NodeId, Contract)>,
}

/// A network and, once derived, its relevance graph.
///
/// Forward and relevance nodes live in one graph, so relevance nodes name the forward values that they use.
/// Values are node outputs; weights are nodes too, printed as `@name` where they are used.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    name: String,
    nodes: StableDiGraph<Node, Use>,
    weights: IndexMap<String, (Weight, NodeId)>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, ValueId)>,
    next_number: u32,
    /// What was taken off behind the explained output.
    pub head: Head,
    /// What the importer left out or changed that the user should know.
    pub notes: Vec<String>,
    /// The residual structures that find-residuals found.
    pub residuals: Vec<Residual>,
    /// The rules that assign-rules gave, by forward node.
    pub rules: BTreeMap<NodeId, AssignedRule>,
    /// The relevance of each input, once derived: (input node, relevance value).
    pub relevance_outputs: Vec<(NodeId, ValueId)>,
    /// What check-conservation found.
    pub claim: Option<Claim>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), next_number: 1, ..Graph::default() }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    // -- building ---------------------------------------------------------------------------------------------

    fn insert(
        &mut self,
        op: Op,
        name: String,
        of: Option<NodeId>,
        types: Vec<TensorType>,
        number: u32,
    ) -> NodeId {
        self.next_number = self.next_number.max(number.saturating_add(types.len() as u32));
        NodeId(self.nodes.add_node(Node { op, name, of, types, number }))
    }

    /// Adds an input of the model.
    ///
    /// # Errors
    /// If an input of that name exists or the type is malformed.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> Result<ValueId, IrError> {
        ty.check().map_err(|e| IrError::node(name, "input", e))?;
        if self.inputs.iter().any(|&i| self.node(i).name == name) {
            return Err(IrError::node(
                name,
                "input",
                "the name is taken, expected unique input names".into(),
            ));
        }
        let node = self.insert(Op::Input, name.to_string(), None, vec![ty], self.next_number);
        self.inputs.push(node);
        Ok(ValueId { node, port: 0 })
    }

    /// Adds a weight and returns the value that stands for it.
    ///
    /// # Errors
    /// If a weight of that name exists.
    pub fn add_weight(&mut self, weight: Weight) -> Result<ValueId, IrError> {
        let name = weight.name().to_string();
        if self.weights.contains_key(&name) {
            return Err(IrError::node(
                &name,
                "weight",
                "the name is taken, expected unique weight names".into(),
            ));
        }
        let node = self.insert(Op::Constant, name.clone(), None, vec![weight.ty().clone()], self.next_number);
        self.weights.insert(name, (weight, node));
        Ok(ValueId { node, port: 0 })
    }

    /// Gives every weight its values.
    ///
    /// # Errors
    /// The first error of `filled`, or if that gives another weight.
    pub fn fill_weights(&mut self, filled: impl Fn(&Weight) -> Result<Weight, String>) -> Result<(), String> {
        for (weight, _) in self.weights.values_mut() {
            let new = filled(weight)?;
            if new != *weight {
                return Err(format!("got {new:?} for the weight {weight:?}"));
            }
            *weight = new;
        }
        Ok(())
    }

    /// [Relocates](Weight::relocate) every weight that is among these.
    pub fn relocate_weights(&mut self, elsewhere: &[Weight]) {
        self.weights.values_mut().for_each(|(weight, _)| weight.relocate(elsewhere));
    }

    /// Adds a forward node; its types are inferred.
    ///
    /// # Errors
    /// If the operands don't fit the op.
    pub fn add_node(&mut self, op: Op, name: &str, operands: &[ValueId]) -> Result<NodeId, IrError> {
        self.add_numbered(op, name, None, operands, self.next_number)
    }

    /// Adds a relevance node that belongs to the forward node `of`; its types are inferred.
    ///
    /// # Errors
    /// If the operands don't fit the op.
    pub fn add_relevance(&mut self, op: Op, of: NodeId, operands: &[ValueId]) -> Result<NodeId, IrError> {
        let name = self.node(of).name.clone();
        self.add_numbered(op, &name, Some(of), operands, self.next_number)
    }

    pub(crate) fn add_numbered(
        &mut self,
        op: Op,
        name: &str,
        of: Option<NodeId>,
        operands: &[ValueId],
        number: u32,
    ) -> Result<NodeId, IrError> {
        let error = |op: &Op, message| IrError::node(name, &op.mnemonic(), message);
        for value in operands {
            if self.nodes.node_weight(value.node.0).is_none_or(|n| value.port >= n.types.len()) {
                return Err(error(&op, "got an operand that does not exist".into()));
            }
        }
        let types: Vec<&TensorType> = operands.iter().map(|v| self.ty(*v)).collect();
        let inferred = op.infer(&types).map_err(|e| error(&op, e))?;
        let node = self.insert(op, name.to_string(), of, inferred, number);
        for (operand, value) in operands.iter().enumerate() {
            self.nodes.add_edge(value.node.0, node.0, Use { port: value.port, operand });
        }
        Ok(node)
    }

    /// Appends an operand to a node and infers its types again.
    ///
    /// # Errors
    /// If the operand does not fit; the graph is unchanged then.
    pub fn push_operand(&mut self, node: NodeId, value: ValueId) -> Result<(), IrError> {
        let mut operands = self.operands(node);
        operands.push(value);
        let types: Vec<&TensorType> = operands.iter().map(|v| self.ty(*v)).collect();
        let n = self.node(node);
        let inferred = n.op.infer(&types).map_err(|e| IrError::node(&n.name, &n.op.mnemonic(), e))?;
        self.nodes.add_edge(value.node.0, node.0, Use { port: value.port, operand: operands.len() - 1 });
        self.nodes[node.0].types = inferred;
        Ok(())
    }

    /// Declares an output of the model.
    pub fn add_output(&mut self, name: &str, value: ValueId) {
        self.outputs.push((name.to_string(), value));
    }

    // -- editing ----------------------------------------------------------------------------------------------

    /// Makes every user of `old`, and the outputs, use `new` instead.
    ///
    /// Types are not inferred again: `new` is expected to have `old`'s type, or infer-shapes to follow.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        let uses: Vec<_> = self
            .nodes
            .edges_directed(old.node.0, Direction::Outgoing)
            .filter(|e| e.weight().port == old.port && e.target() != new.node.0)
            .map(|e| (e.id(), e.target(), e.weight().operand))
            .collect();
        for (edge, target, operand) in uses {
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(new.node.0, target, Use { port: new.port, operand });
        }
        for (_, value) in &mut self.outputs {
            if *value == old {
                *value = new;
            }
        }
    }

    /// Removes a node that nobody uses. Its rule goes with it.
    ///
    /// # Errors
    /// If one of its outputs is used, or it is an input.
    pub fn remove(&mut self, node: NodeId) -> Result<(), IrError> {
        let n = self.node(node);
        let used = self.nodes.edges_directed(node.0, Direction::Outgoing).next().is_some()
            || self.outputs.iter().any(|(_, v)| v.node == node)
            || self.inputs.contains(&node);
        if used {
            return Err(IrError::node(
                &n.name,
                &n.op.mnemonic(),
                "got a removal of a node that is in use".into(),
            ));
        }
        if n.op == Op::Constant {
            let name = n.name.clone();
            self.weights.shift_remove(&name);
        }
        self.rules.remove(&node);
        self.nodes.remove_node(node.0);
        Ok(())
    }

    /// Removes every forward node that no output depends on, and weights that nobody uses. Returns how many nodes
    /// went, weights not counted.
    pub fn remove_dead(&mut self) -> usize {
        let roots = self.outputs.iter().map(|(_, v)| v.node).chain(self.inputs.iter().copied());
        let roots = roots.chain(self.relevance_outputs.iter().map(|(_, v)| v.node));
        let mut live = BTreeSet::new();
        let mut stack: Vec<NodeId> = roots.collect();
        while let Some(node) = stack.pop() {
            if live.insert(node) {
                stack.extend(self.nodes.neighbors_directed(node.0, Direction::Incoming).map(NodeId));
                stack.extend(self.node(node).of);
            }
        }
        let dead: Vec<NodeId> = self.node_ids().filter(|n| !live.contains(n)).collect();
        let mut removed = 0;
        // All at once: to take one weight out moves those behind it.
        self.weights.retain(|_, (_, node)| live.contains(node));
        for node in dead {
            removed += usize::from(self.node(node).op != Op::Constant);
            self.rules.remove(&node);
            self.nodes.remove_node(node.0);
        }
        removed
    }

    /// Puts another op in a node's place; operands and name stay, types are inferred again.
    ///
    /// # Errors
    /// If the operands don't fit the new op; the graph is unchanged then.
    pub fn replace_op(&mut self, node: NodeId, op: Op) -> Result<(), IrError> {
        let operands = self.operands(node);
        let types: Vec<&TensorType> = operands.iter().map(|v| self.ty(*v)).collect();
        let name = self.node(node).name.clone();
        let inferred = op.infer(&types).map_err(|e| IrError::node(&name, &op.mnemonic(), e))?;
        let slot = &mut self.nodes[node.0];
        slot.op = op;
        slot.types = inferred;
        Ok(())
    }

    /// Infers a node's types again. Returns whether they changed.
    ///
    /// # Errors
    /// If the operands don't fit the op.
    pub fn infer_again(&mut self, node: NodeId) -> Result<bool, IrError> {
        let n = self.node(node);
        if matches!(n.op, Op::Input | Op::Constant) {
            return Ok(false);
        }
        let before = n.types.clone();
        let op = n.op.clone();
        self.replace_op(node, op)?;
        Ok(self.node(node).types != before)
    }

    // -- reading ----------------------------------------------------------------------------------------------

    /// A node.
    ///
    /// # Panics
    /// If the node was removed: ids come from this graph only.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Whether the node is (still) in the graph.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_node(id.0)
    }

    /// The type of a value.
    ///
    /// # Panics
    /// If the value's node was removed or has no such output.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.node(value.node).types[value.port]
    }

    /// All nodes, forward, relevance and weights, in the order in which they were added.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().map(NodeId)
    }

    /// The operands of a node, in order.
    pub fn operands(&self, node: NodeId) -> Vec<ValueId> {
        let mut uses: Vec<(usize, ValueId)> = self
            .nodes
            .edges_directed(node.0, Direction::Incoming)
            .map(|e| (e.weight().operand, ValueId { node: NodeId(e.source()), port: e.weight().port }))
            .collect();
        uses.sort_unstable();
        uses.into_iter().map(|(_, v)| v).collect()
    }

    /// Who uses a value, as (node, operand index), ordered.
    pub fn users(&self, value: ValueId) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(NodeId, usize)> = self
            .nodes
            .edges_directed(value.node.0, Direction::Outgoing)
            .filter(|e| e.weight().port == value.port)
            .map(|e| (NodeId(e.target()), e.weight().operand))
            .collect();
        users.sort_unstable();
        users
    }

    /// The users of a value that are forward nodes.
    pub fn forward_users(&self, value: ValueId) -> Vec<(NodeId, usize)> {
        let mut users = self.users(value);
        users.retain(|(n, _)| !self.node(*n).op.is_relevance());
        users
    }

    /// The inputs.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The outputs, with the model's names.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// The weights, in the order in which they were added.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.weights.values().map(|(w, _)| w)
    }

    /// The weight that a value stands for, if it is one.
    pub fn weight(&self, value: ValueId) -> Option<&Weight> {
        let node = self.node(value.node);
        (node.op == Op::Constant).then(|| self.weights.get(&node.name).map(|(w, _)| w))?
    }

    /// The value that stands for the weight of that name.
    pub fn weight_value(&self, name: &str) -> Option<ValueId> {
        self.weights.get(name).map(|(_, node)| ValueId { node: *node, port: 0 })
    }

    /// A weight name that is not taken, derived from `base`.
    pub fn fresh_weight_name(&self, base: &str) -> String {
        let candidates = std::iter::once(base.to_string()).chain((2u64..).map(|i| format!("{base}.{i}")));
        candidates.into_iter().find(|name| !self.weights.contains_key(name)).unwrap_or_default()
    }

    /// Whether the value is a weight.
    pub fn is_weight(&self, value: ValueId) -> bool {
        self.node(value.node).op == Op::Constant
    }

    /// The operands of a node that are no weights, with their indices.
    pub fn data_operands(&self, node: NodeId) -> Vec<(usize, ValueId)> {
        self.operands(node).into_iter().enumerate().filter(|(_, v)| !self.is_weight(*v)).collect()
    }

    /// Whether the relevance graph was derived.
    pub fn has_relevance(&self) -> bool {
        !self.relevance_outputs.is_empty()
    }

    /// All nodes but weights in an order in which operands come first; among those that are ready, the one with
    /// the lowest number. `None` if the graph has a cycle.
    pub fn topological(&self) -> Option<Vec<NodeId>> {
        let mut waiting: BTreeMap<NodeId, usize> = self
            .node_ids()
            .map(|n| (n, self.nodes.edges_directed(n.0, Direction::Incoming).count()))
            .collect();
        let key = |n: NodeId| (self.node(n).op.is_relevance(), self.node(n).number, n);
        let mut ready: BTreeSet<(bool, u32, NodeId)> =
            waiting.iter().filter(|(_, count)| **count == 0).map(|(n, _)| key(*n)).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some((_, _, node)) = ready.pop_first() {
            order.push(node);
            for user in self.nodes.neighbors_directed(node.0, Direction::Outgoing) {
                if let Some(count) = waiting.get_mut(&NodeId(user)) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(key(NodeId(user)));
                    }
                }
            }
        }
        let complete = order.len() == waiting.len();
        order.retain(|n| self.node(*n).op != Op::Constant);
        complete.then_some(order)
    }

    /// The forward nodes (inputs included) in topological order; `None` if the graph has a cycle.
    pub fn forward_order(&self) -> Option<Vec<NodeId>> {
        let mut order = self.topological()?;
        order.retain(|n| !self.node(*n).op.is_relevance());
        Some(order)
    }

    /// The relevance nodes in topological order; `None` if the graph has a cycle.
    pub fn relevance_order(&self) -> Option<Vec<NodeId>> {
        let mut order = self.topological()?;
        order.retain(|n| self.node(*n).op.is_relevance());
        Some(order)
    }

    /// How a value is written: `%input`, `%12`, `%r13`, `@conv1.weight`.
    pub fn label(&self, value: ValueId) -> String {
        let node = self.node(value.node);
        match node.op {
            Op::Constant => format!("@{}", crate::print::Name(&node.name)),
            Op::Input => format!("%{}", crate::print::Name(&node.name)),
            Op::Relevance(_) => format!("%r{}", node.number as usize + value.port),
            _ => format!("%{}", node.number as usize + value.port),
        }
    }

    /// How a node is written: by its first value.
    pub fn node_label(&self, node: NodeId) -> String {
        self.label(ValueId { node, port: 0 })
    }

    /// How messages name a node: its ONNX name if it has one, and its label and op.
    pub fn describe(&self, node: NodeId) -> String {
        let n = self.node(node);
        format!("\"{}\" ({} {})", n.name, self.node_label(node), n.op.mnemonic())
    }

    /// Of nodes in the graph's order, those whose output is that of the ONNX node whose name they bear: of the several
    /// that one became, the last.
    pub fn last_of_each_name(&self, order: &[NodeId]) -> Vec<NodeId> {
        let last: HashMap<&str, NodeId> = order.iter().map(|n| (self.node(*n).name.as_str(), *n)).collect();
        order.iter().copied().filter(|n| last.get(self.node(*n).name.as_str()) == Some(n)).collect()
    }

    /// A forward view for petgraph's algorithms: node indices and edges of the underlying graph.
    pub fn forward_edges(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.nodes
            .edge_indices()
            .filter_map(|e| self.nodes.edge_endpoints(e))
            .map(|(a, b)| (NodeId(a), NodeId(b)))
            .filter(|(a, b)| self.node(*a).op != Op::Constant && !self.node(*b).op.is_relevance())
    }
}

impl PartialEq for Graph {
    /// Whether both print alike and their weights have the same names, types and contents. Node indices, and
    /// whether the weights' bytes are at hand, don't matter.
    fn eq(&self, other: &Self) -> bool {
        self.form() == other.form()
    }
}

impl Graph {
    fn form(&self) -> impl PartialEq + '_ {
        let number = |v: ValueId| (self.node(v.node).number as usize + v.port, self.is_weight(v), v.node);
        let operand = move |v: ValueId| {
            let (n, is_weight, node) = number(v);
            if is_weight { (0, self.node(node).name.as_str()) } else { (n, "") }
        };
        let id = |n: NodeId| self.node(n).number;
        let mut nodes: Vec<_> = self
            .node_ids()
            .filter(|n| self.node(*n).op != Op::Constant)
            .map(|n| {
                let node = self.node(n);
                let operands: Vec<_> = self.operands(n).into_iter().map(operand).collect();
                let rule = self.rules.get(&n);
                (node.number, &node.op, &node.name, node.of.map(id), &node.types, operands, rule)
            })
            .collect();
        nodes.sort_by_key(|n| n.0);
        let outputs: Vec<_> = self.outputs.iter().map(|(n, v)| (n, operand(*v))).collect();
        let inputs: Vec<_> = self.inputs.iter().map(|n| id(*n)).collect();
        let returns: Vec<_> = self.relevance_outputs.iter().map(|(n, v)| (id(*n), operand(*v))).collect();
        let claim =
            self.claim.as_ref().map(|c| c.leaks.iter().map(|(n, k)| (id(*n), *k)).collect::<Vec<_>>());
        let residuals: Vec<_> = self.residuals.iter().map(|r| r.map(id)).collect();
        let weights: BTreeMap<&str, &Weight> = self.weights().map(|w| (w.name(), w)).collect();
        let notes = &self.notes;
        (&self.name, self.head, notes, nodes, inputs, outputs, returns, claim, residuals, weights)
    }
}
