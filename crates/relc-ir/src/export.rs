//! Graphviz and JSON forms of a graph, for people and for other programs. Neither is read back.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::attr::{Attr, Item};
use crate::graph::{Graph, NodeId, ValueId};
use crate::op::Op;

/// The graph in Graphviz's language: forward nodes in boxes, relevance nodes in ellipses, an edge per use.
pub fn dot(graph: &Graph) -> String {
    let mut text =
        format!("digraph {:?} {{\n  rankdir=TB;\n  node [fontname=\"monospace\"];\n", graph.name());
    let id = |node: NodeId| format!("n{}", node.index());
    for node in graph.topological().unwrap_or_default() {
        let n = graph.node(node);
        let types: Vec<String> = n.types().iter().map(ToString::to_string).collect();
        let label = format!("{} {}\\n{}", graph.node_label(node), n.op.mnemonic(), types.join("\\n"));
        let label = label.replace('"', "\\\"");
        let style = if n.op.is_relevance() { "shape=ellipse, color=firebrick" } else { "shape=box" };
        let name = n.name.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "  {} [{style}, label=\"{label}\", tooltip=\"{name}\"];", id(node));
        for value in graph.operands(node).into_iter().filter(|v| !graph.is_weight(*v)) {
            let relevance = graph.node(value.node).op.is_relevance();
            let style = match (relevance, n.op.is_relevance()) {
                (true, _) => " [color=firebrick]",
                (false, true) => " [style=dotted, constraint=false]",
                (false, false) => "",
            };
            let _ = writeln!(text, "  {} -> {}{style};", id(value.node), id(node));
        }
    }
    text.push_str("}\n");
    text
}

/// The graph as JSON: `{name, head, notes, inputs, outputs, weights, nodes, residuals, relevance_outputs, claim}`, values by
/// their labels.
pub fn json(graph: &Graph) -> Value {
    let label = |v: ValueId| graph.label(v);
    let nodes = graph.topological().unwrap_or_default();
    let nodes: Vec<Value> =
        nodes.into_iter().filter(|n| graph.node(*n).op != Op::Input).map(|n| node_json(graph, n)).collect();
    json!({
        "name": graph.name(),
        "head": graph.head.name(),
        "notes": graph.notes,
        "inputs": graph.inputs().iter().map(|&i| json!({
            "name": graph.node(i).name, "value": graph.node_label(i), "type": graph.node(i).types()[0].to_string(),
        })).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(|(name, v)| json!({"name": name, "value": label(*v)})).collect::<Vec<_>>(),
        "weights": graph.weights().map(|w| json!({
            "name": w.name(), "type": w.ty().to_string(), "hash": format!("{:016x}", w.hash()),
        })).collect::<Vec<_>>(),
        "nodes": nodes,
        "residuals": graph.residuals.iter().map(|r| json!({
            "join": graph.node_label(r.join), "fork": graph.node_label(r.fork), "skip": r.skip,
            "skip_kind": r.skip_name(),
            "branches": r.branches.iter().map(|b| json!({
                "kind": b.kind.to_string(), "weighted_layers": b.weighted_layers, "length": b.length,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "relevance_outputs": graph.relevance_outputs.iter().map(|(i, v)| json!({
            "input": graph.node_label(*i), "value": label(*v),
        })).collect::<Vec<_>>(),
        "claim": graph.claim.as_ref().map(|c| json!({
            "conserving": c.leaks.is_empty(),
            "leaks": c.leaks.iter().map(|(n, k)| json!({"node": graph.node_label(*n), "contract": k.to_string()}))
                .collect::<Vec<_>>(),
        })),
    })
}

fn node_json(graph: &Graph, node: NodeId) -> Value {
    let n = graph.node(node);
    let attrs = |attrs: crate::attr::Attrs| -> serde_json::Map<String, Value> {
        attrs.into_iter().map(|(name, value)| (name.to_string(), attr_json(value))).collect()
    };
    let results: Vec<String> = (0..n.types().len()).map(|port| graph.label(ValueId { node, port })).collect();
    let rule = graph
        .rules
        .get(&node)
        .map(|a| json!({"name": a.rule.name(), "attributes": attrs(a.rule.attrs()), "origin": a.origin}));
    json!({
        "results": results,
        "op": n.op.mnemonic(),
        "operands": graph.operands(node).into_iter().map(|v| graph.label(v)).collect::<Vec<_>>(),
        "attributes": attrs(n.op.attrs()),
        "types": n.types().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "name": n.name,
        "of": n.of.map(|of| graph.node_label(of)),
        "rule": rule,
    })
}

/// An attribute as JSON; a number that JSON has not, as its text.
pub fn attr_json(attr: Attr) -> Value {
    match attr {
        Attr::Int(v) => json!(v),
        Attr::Float(v) if v.is_finite() => json!(v),
        Attr::Float(v) => json!(format!("{v:?}")),
        Attr::Word(w) | Attr::Text(w) => json!(w),
        Attr::List(items) => items
            .into_iter()
            .map(|item| match item {
                Item::Int(v) => json!(v),
                Item::Batch => json!("N"),
            })
            .collect(),
    }
}
