//! The model's own functions and the branches of `If`, put in the place of the nodes that call them.
//!
//! Both become plain nodes of the one graph, their values named after the caller (`caller/value`), so that all that
//! follows sees a list of nodes. A function's nodes keep the opset that the function states. A branch's nodes are
//! guarded by the condition: they are converted once it has folded to the constant that chooses them, and `If` itself
//! becomes a choice between the values of both branches.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use prost::Message;

use crate::error::ImportError;
use crate::names::node_name;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

/// The most functions and branches inside each other.
const MAX_DEPTH: usize = 48;

/// What functions and branches may expand to, in bytes; a node counts as [`NODE_BYTES`] and its encoded length.
const MAX_EXPANSION: usize = 1 << 27;

/// What a node takes in memory, and more.
const NODE_BYTES: usize = 1 << 10;

/// Where the nodes of a graph come from; empty if the graph is as in the file.
#[derive(Debug, Default)]
pub(crate) struct Origins(Vec<Origin>);

#[derive(Clone, Debug, Default)]
struct Origin {
    opset: Option<i64>,
    guard: Option<Rc<Guard>>,
}

/// The branch that a node is in.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The value that decides.
    pub condition: String,
    /// What it has to be for the branch to be taken.
    pub taken: bool,
    outer: Option<Rc<Guard>>,
}

impl Origins {
    /// The opset of the domain ai.onnx that node `i` is written in, if it is a function's own.
    pub fn opset(&self, i: usize) -> Option<i64> {
        self.0.get(i)?.opset
    }

    /// The branches that node `i` is in, innermost first.
    pub fn guards(&self, i: usize) -> impl Iterator<Item = &Guard> {
        let innermost = self.0.get(i).and_then(|o| o.guard.as_deref());
        std::iter::successors(innermost, |g| g.outer.as_deref())
    }
}

/// The domain of ONNX's own operators, under both its names.
pub(crate) fn is_default_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether a node chooses between two subgraphs.
pub(crate) fn is_if(node: &NodeProto) -> bool {
    node.op_type() == "If" && is_default_domain(node.domain())
}

/// Domain, name and overload of a function.
type Key<'a> = (&'a str, &'a str, &'a str);

fn key<'a>(domain: &'a str, name: &'a str, overload: &'a str) -> Key<'a> {
    (if is_default_domain(domain) { "" } else { domain }, name, overload)
}

fn called(node: &NodeProto) -> Key<'_> {
    key(node.domain(), node.op_type(), node.overload())
}

/// Expands the calls of functions and the branches of `If` in the model's graph.
///
/// # Errors
/// If a function calls itself, a call does not fit its function, or the expansion is larger than its limit.
pub(crate) fn inline(model: &mut ModelProto) -> Result<Origins, ImportError> {
    let Some(graph) = model.graph.as_mut() else { return Ok(Origins::default()) };
    let functions: HashMap<Key, &FunctionProto> =
        model.functions.iter().map(|f| (key(f.domain(), f.name(), f.overload()), f)).collect();
    if graph.node.iter().all(|n| !is_if(n) && !functions.contains_key(&called(n))) {
        return Ok(Origins::default());
    }
    let mut inliner = Inliner {
        functions,
        taken: names(graph),
        nodes: Vec::with_capacity(graph.node.len()),
        origins: Vec::with_capacity(graph.node.len()),
        initializers: Vec::new(),
        calls: Vec::new(),
        left: MAX_EXPANSION,
    };
    for node in std::mem::take(&mut graph.node) {
        inliner.node(node, &Scope::default())?;
    }
    graph.node = inliner.nodes;
    graph.initializer.append(&mut inliner.initializers);
    Ok(Origins(inliner.origins))
}

/// The names that values of the graph have or are asked for by.
fn names(graph: &GraphProto) -> HashSet<String> {
    let infos = graph.input.iter().chain(&graph.output).map(ValueInfoProto::name);
    let values = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).map(String::as_str);
    let tensors = graph.initializer.iter().map(TensorProto::name);
    let sparse = graph.sparse_initializer.iter().map(crate::names::sparse_name);
    infos.chain(values).chain(tensors).chain(sparse).map(str::to_string).collect()
}

/// The body of a function or of a branch; by default, the model's graph itself.
#[derive(Default)]
struct Scope<'s> {
    /// What the body's values are called in the graph; empty names are operands that the call leaves out.
    names: HashMap<String, String>,
    /// The body around a branch, whose values it sees.
    outer: Option<&'s Scope<'s>>,
    /// What the names of the body's nodes and values begin with; `None` for the graph itself, which keeps its names.
    prefix: Option<String>,
    /// The attributes that the function is called with.
    attributes: Option<&'s HashMap<String, AttributeProto>>,
    origin: Origin,
    /// How many functions and branches the body is in.
    depth: usize,
}

impl Scope<'_> {
    /// What a value of the body is called in the graph.
    fn resolve(&self, name: &str) -> String {
        match (self.names.get(name), self.outer, &self.prefix) {
            (Some(name), _, _) => name.clone(),
            _ if name.is_empty() => String::new(),
            (None, Some(outer), _) => outer.resolve(name),
            // A value that the function does not define: the importer says so.
            (None, None, Some(prefix)) => format!("{prefix}/{name}"),
            (None, None, None) => name.to_string(),
        }
    }
}

struct Inliner<'f> {
    functions: HashMap<Key<'f>, &'f FunctionProto>,
    taken: HashSet<String>,
    nodes: Vec<NodeProto>,
    origins: Vec<Origin>,
    initializers: Vec<TensorProto>,
    /// The functions whose bodies are being expanded.
    calls: Vec<Key<'f>>,
    /// How many bytes may still be made.
    left: usize,
}

impl<'f> Inliner<'f> {
    /// Adds a node of a body to the graph, expanded if it is a call or a choice.
    fn node(&mut self, mut node: NodeProto, scope: &Scope) -> Result<(), ImportError> {
        if let Some(prefix) = &scope.prefix {
            node.name = Some(format!("{prefix}/{}", node_name(&node)));
            for name in node.input.iter_mut().chain(&mut node.output) {
                *name = scope.resolve(name);
            }
        }
        if let Some(given) = scope.attributes {
            node.attribute = node.attribute.into_iter().filter_map(|a| bound(a, given)).collect();
        }
        if scope.depth > MAX_DEPTH {
            return Err(ImportError::Unsupported(format!(
                "node \"{}\" is inside more than {MAX_DEPTH} functions and branches, expected fewer",
                node_name(&node)
            )));
        }
        if let Some(function) = self.functions.get(&called(&node)).copied() {
            return self.call(function, &node, scope);
        }
        match is_if(&node).then(|| branches(&mut node)).flatten() {
            Some(graphs) => self.choice(node, graphs, scope),
            None => self.push(node, scope),
        }
    }

    fn push(&mut self, node: NodeProto, scope: &Scope) -> Result<(), ImportError> {
        if scope.prefix.is_some() {
            // The bytes of tensors are shared.
            let shared = |a: &AttributeProto| a.t.as_ref().map_or(0, |t| t.raw_data().len());
            let shared: usize = node.attribute.iter().map(shared).sum();
            let bytes = NODE_BYTES + node.encoded_len().saturating_sub(shared);
            self.left = self.left.checked_sub(bytes).ok_or_else(|| {
                ImportError::Unsupported(format!(
                    "the model's functions expand to more than {MAX_EXPANSION} bytes of nodes, expected less"
                ))
            })?;
        }
        self.nodes.push(node);
        self.origins.push(scope.origin.clone());
        Ok(())
    }

    /// Gives every value that `nodes` define a name of its own in the graph, unless it has one.
    fn define<'n>(
        &mut self,
        names: &mut HashMap<String, String>,
        prefix: &str,
        values: impl Iterator<Item = &'n str>,
    ) {
        for value in values.filter(|v| !v.is_empty()) {
            if names.contains_key(value) {
                continue;
            }
            let mut fresh = format!("{prefix}/{value}");
            while !self.taken.insert(fresh.clone()) {
                fresh.push('\'');
            }
            names.insert(value.to_string(), fresh);
        }
    }

    fn call(
        &mut self,
        function: &'f FunctionProto,
        node: &NodeProto,
        scope: &Scope,
    ) -> Result<(), ImportError> {
        let caller = node_name(node);
        let wrong = |what: String| {
            ImportError::Invalid(format!(
                "node \"{caller}\" calls the model's function \"{}\", {what}",
                function.name()
            ))
        };
        let this = key(function.domain(), function.name(), function.overload());
        if self.calls.contains(&this) {
            return Err(wrong("which calls itself, expected one that ends".into()));
        }
        let (inputs, outputs) = (function.input.len(), function.output.len());
        if node.input.len() > inputs || node.output.len() > outputs {
            return Err(wrong(format!(
                "with {} inputs and {} outputs, expected at most {inputs} and {outputs}",
                node.input.len(),
                node.output.len()
            )));
        }
        let defaults = function.attribute_proto.iter().chain(&node.attribute);
        let attributes: HashMap<String, AttributeProto> =
            defaults.map(|a| (a.name().to_string(), a.clone())).collect();
        let mut names = HashMap::new();
        for (i, formal) in function.input.iter().enumerate() {
            names.insert(formal.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        let values = || function.node.iter().flat_map(|n| &n.output).map(String::as_str);
        let defined: HashSet<&str> = values().collect();
        let results = || function.output.iter().zip(&node.output).filter(|(_, actual)| !actual.is_empty());
        for (formal, actual) in results().filter(|(formal, _)| defined.contains(formal.as_str())) {
            names.entry(formal.clone()).or_insert_with(|| actual.clone());
        }
        self.define(&mut names, caller, values());
        let stated = function.opset_import.iter().find(|o| is_default_domain(o.domain()));
        let opset = stated.map(|o| o.version()).or(scope.origin.opset);
        let body = Scope {
            names,
            outer: None,
            prefix: Some(caller.to_string()),
            attributes: Some(&attributes),
            origin: Origin { opset, guard: scope.origin.guard.clone() },
            depth: scope.depth + 1,
        };
        self.calls.push(this);
        for inner in &function.node {
            self.node(inner.clone(), &body)?;
        }
        self.calls.pop();
        // A result that is an operand as it is, or another result.
        for (formal, actual) in results() {
            let value = body.resolve(formal);
            if value != *actual {
                self.push(identity(value, actual), &body)?;
            }
        }
        Ok(())
    }

    /// Both branches' nodes, each under the condition, and a choice between their values.
    fn choice(
        &mut self,
        mut node: NodeProto,
        graphs: [GraphProto; 2],
        scope: &Scope,
    ) -> Result<(), ImportError> {
        let condition = node.input.first().cloned().unwrap_or_default();
        for (graph, taken) in graphs.into_iter().zip([true, false]) {
            if !graph.sparse_initializer.is_empty() {
                return Err(ImportError::Unsupported(format!(
                    "a branch of node \"{}\" has sparse initialisers, expected dense ones",
                    node_name(&node)
                )));
            }
            let prefix = format!("{}.{}", node_name(&node), if taken { "then" } else { "else" });
            let mut names = HashMap::new();
            let tensors = graph.initializer.iter().map(TensorProto::name);
            let values = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
            self.define(&mut names, &prefix, tensors.chain(values));
            let guard = Guard { condition: condition.clone(), taken, outer: scope.origin.guard.clone() };
            let body = Scope {
                names,
                outer: Some(scope),
                prefix: Some(prefix),
                attributes: scope.attributes,
                origin: Origin { opset: scope.origin.opset, guard: Some(Rc::new(guard)) },
                depth: scope.depth + 1,
            };
            for tensor in graph.initializer {
                let name = Some(body.resolve(tensor.name()));
                self.initializers.push(TensorProto { name, ..tensor });
            }
            for inner in graph.node {
                self.node(inner, &body)?;
            }
            node.input.extend(graph.output.iter().map(|o| body.resolve(o.name())));
        }
        self.push(node, scope)
    }
}

/// An attribute of a body's node: of the call, where it refers to one; `None` if the call leaves that out.
fn bound(attribute: AttributeProto, given: &HashMap<String, AttributeProto>) -> Option<AttributeProto> {
    match attribute.ref_attr_name() {
        "" => Some(attribute),
        referred => given.get(referred).map(|a| AttributeProto { name: attribute.name.clone(), ..a.clone() }),
    }
}

/// Takes both branches off an `If`, if each has as many outputs as the node.
fn branches(node: &mut NodeProto) -> Option<[GraphProto; 2]> {
    let find = |name: &str| node.attribute.iter().position(|a| a.name() == name && a.g.is_some());
    let at = [find("then_branch")?, find("else_branch")?];
    let fits = |i: &usize| node.attribute[*i].g.as_ref().is_some_and(|g| g.output.len() == node.output.len());
    if node.input.len() != 1 || !at.iter().all(fits) {
        return None;
    }
    let graphs = at.map(|i| node.attribute[i].g.take().map(|g| *g).unwrap_or_default());
    node.attribute.retain(|a| !matches!(a.name(), "then_branch" | "else_branch"));
    Some(graphs)
}

fn identity(from: String, to: &str) -> NodeProto {
    NodeProto {
        input: vec![from],
        output: vec![to.to_string()],
        op_type: Some("Identity".into()),
        ..Default::default()
    }
}
