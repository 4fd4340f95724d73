//! Who defines which value, and in which order the nodes run.
//!
//! ONNX asks for nodes in topological order and for one definition per value. Writers break the first, which is
//! repaired here; hostile files break the second.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::error::ImportError;
use crate::inline::Origins;
use crate::proto::{GraphProto, NodeProto, SparseTensorProto, TensorProto};

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The input of that index.
    Input(usize),
    /// The initialiser of that index.
    Initializer(usize),
    /// The sparse initialiser of that index.
    Sparse(usize),
    /// An output of the node of that index.
    Node(usize),
}

/// The values of a graph by name, and an order of its nodes.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    /// What defines each value.
    pub sources: HashMap<&'a str, Source>,
    /// The nodes that the output depends on, operands first; as in the file where that allows.
    pub order: Vec<usize>,
    /// The output and the values that those nodes use.
    pub used: HashSet<&'a str>,
}

/// How messages name a node.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    let named = Some(node.name()).filter(|n| !n.is_empty());
    named.or_else(|| node.output.iter().map(String::as_str).find(|o| !o.is_empty())).unwrap_or("(unnamed)")
}

impl<'a> Names<'a> {
    /// Reads the names of a graph whose value `output` is asked for. Nodes of a branch come behind its condition.
    ///
    /// # Errors
    /// If a value is defined twice or not at all, or nodes depend on themselves.
    pub fn of(graph: &'a GraphProto, origins: &'a Origins, output: &'a str) -> Result<Self, ImportError> {
        let sources = sources(graph)?;
        undefined(graph, &sources)?;
        let order = order(graph, origins, &sources)?;
        let (live, used) = live(graph, origins, output, &sources);
        Ok(Names { sources, order: order.into_iter().filter(|i| live.contains(i)).collect(), used })
    }
}

fn sources(graph: &GraphProto) -> Result<HashMap<&str, Source>, ImportError> {
    let mut sources = HashMap::new();
    let sparse = || graph.sparse_initializer.iter().map(sparse_name);
    let initializers: HashSet<&str> =
        graph.initializer.iter().map(TensorProto::name).chain(sparse()).collect();
    // Before IR version 4, every initialiser is listed as an input too; it is no input then.
    let inputs = graph.input.iter().enumerate().filter(|(_, v)| !initializers.contains(v.name()));
    let inputs = inputs.map(|(i, v)| (v.name(), Source::Input(i)));
    let initializers = graph.initializer.iter().enumerate().map(|(i, t)| (t.name(), Source::Initializer(i)));
    let sparse = sparse().enumerate().map(|(i, name)| (name, Source::Sparse(i)));
    let outputs = graph.node.iter().enumerate();
    let outputs = outputs.flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), Source::Node(i))));
    // An output without a name is one that the model leaves out.
    let outputs = outputs.filter(|(name, _)| !name.is_empty());
    for (name, source) in inputs.chain(initializers).chain(sparse).chain(outputs) {
        if let Some(first) = sources.insert(name, source) {
            return Err(ImportError::Duplicate {
                name: name.to_string(),
                first: describe(graph, first),
                second: describe(graph, source),
            });
        }
    }
    Ok(sources)
}

fn describe(graph: &GraphProto, source: Source) -> String {
    match source {
        Source::Input(_) => "an input".into(),
        Source::Initializer(_) | Source::Sparse(_) => "an initialiser".into(),
        Source::Node(i) => format!("an output of node \"{}\"", graph.node.get(i).map_or("", node_name)),
    }
}

fn inputs_of(node: &NodeProto) -> impl Iterator<Item = &str> {
    // An input without a name is one that is left out.
    node.input.iter().map(String::as_str).filter(|i| !i.is_empty())
}

fn undefined(graph: &GraphProto, sources: &HashMap<&str, Source>) -> Result<(), ImportError> {
    let mut missing = Vec::new();
    for node in &graph.node {
        for input in inputs_of(node).filter(|i| !sources.contains_key(i)) {
            missing.push(format!("\"{input}\" (used by node \"{}\", {})", node_name(node), node.op_type()));
        }
    }
    for output in graph.output.iter().filter(|o| !sources.contains_key(o.name())) {
        missing.push(format!("\"{}\" (an output of the model)", output.name()));
    }
    if missing.is_empty() { Ok(()) } else { Err(ImportError::Undefined { missing }) }
}

/// The name of a sparse initialiser is that of its values.
pub(crate) fn sparse_name(tensor: &SparseTensorProto) -> &str {
    tensor.values.as_ref().map_or("", TensorProto::name)
}

/// The values that node `i` depends on: its inputs, and the conditions of the branches that it is in.
fn needs<'a>(graph: &'a GraphProto, origins: &'a Origins, i: usize) -> impl Iterator<Item = &'a str> {
    inputs_of(&graph.node[i]).chain(origins.guards(i).map(|g| g.condition.as_str()))
}

/// The nodes that node `i` depends on, once per use.
fn producers<'a>(
    graph: &'a GraphProto,
    origins: &'a Origins,
    i: usize,
    sources: &HashMap<&str, Source>,
) -> impl Iterator<Item = usize> {
    needs(graph, origins, i).filter_map(|i| match sources.get(i) {
        Some(Source::Node(producer)) => Some(*producer),
        _ => None,
    })
}

/// All nodes, operands first; among those that are ready, the first of the file.
fn order(
    graph: &GraphProto,
    origins: &Origins,
    sources: &HashMap<&str, Source>,
) -> Result<Vec<usize>, ImportError> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    let mut waiting = vec![0usize; graph.node.len()];
    for (i, waiting) in waiting.iter_mut().enumerate() {
        for producer in producers(graph, origins, i, sources) {
            users[producer].push(i);
            *waiting += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        waiting.iter().enumerate().filter(|(_, w)| **w == 0).map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(graph.node.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &user in &users[node] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    if order.len() == graph.node.len() { Ok(order) } else { Err(cycle(graph, origins, sources, &waiting)) }
}

/// Names the nodes of a cycle: those still waiting have a producer that waits, and going back over them ends in one.
fn cycle(
    graph: &GraphProto,
    origins: &Origins,
    sources: &HashMap<&str, Source>,
    waiting: &[usize],
) -> ImportError {
    let mut path: Vec<usize> = Vec::new();
    let mut position: HashMap<usize, usize> = HashMap::new();
    let mut next = waiting.iter().position(|w| *w > 0);
    while let Some(node) = next {
        if let Some(start) = position.insert(node, path.len()) {
            path.drain(..start);
            break;
        }
        path.push(node);
        next = producers(graph, origins, node, sources).find(|p| waiting[*p] > 0);
    }
    let nodes = path.iter().rev().map(|i| format!("\"{}\"", node_name(&graph.node[*i]))).collect();
    ImportError::Cycle { nodes }
}

/// The nodes that the output depends on, and the values that these use.
fn live<'a>(
    graph: &'a GraphProto,
    origins: &'a Origins,
    output: &'a str,
    sources: &HashMap<&str, Source>,
) -> (HashSet<usize>, HashSet<&'a str>) {
    let mut live = HashSet::new();
    let mut used: HashSet<&str> = HashSet::from([output]);
    let mut stack: Vec<&str> = used.iter().copied().collect();
    while let Some(name) = stack.pop() {
        let Some(Source::Node(i)) = sources.get(name) else { continue };
        if live.insert(*i) {
            stack.extend(needs(graph, origins, *i).filter(|input| used.insert(input)));
        }
    }
    (live, used)
}
