//! Graphviz and JSON forms of a program, for people and for other programs. Neither is read back.

use std::collections::BTreeMap;
use std::fmt::Write;

use relc_ir::attr_json;
use serde_json::{Value as Json, json};

use crate::program::{Constant, Program, Step, ValueId};

/// The program in Graphviz's language: forward steps in boxes, backward ones in ellipses, an edge from the last step that
/// wrote a value to each that reads it.
pub fn dot(program: &Program) -> String {
    let mut text =
        format!("digraph {:?} {{\n  rankdir=TB;\n  node [fontname=\"monospace\"];\n", program.name);
    let mut writer: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (at, step) in program.steps().enumerate() {
        let style = if at < program.forward.len() { "shape=box" } else { "shape=ellipse, color=firebrick" };
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let label = format!("{}\\n{}", escaped(&step.op.mnemonic()), escaped(&step.origin.label));
        let _ = writeln!(
            text,
            "  s{at} [{style}, label=\"{label}\", tooltip=\"{}\"];",
            escaped(&step.origin.name)
        );
        for id in &step.reads {
            if let Some(from) = writer.get(id) {
                let _ = writeln!(text, "  s{from} -> s{at} [label=\"{id}\"];");
            }
        }
        writer.extend(step.writes.iter().map(|id| (*id, at)));
    }
    text.push_str("}\n");
    text
}

/// The program as JSON: `{name, constants, values, ends, taps, forward, backward, bytes}`, values by their labels.
pub fn json(program: &Program) -> Json {
    let ends = &program.ends;
    json!({
        "name": program.name,
        "constants": program.constants.iter().map(constant_json).collect::<Vec<_>>(),
        "values": program.values.iter().map(|(id, value)| json!({
            "value": id.to_string(),
            "image": value.image,
            "blocks": value.layout.map(|l| l.block()),
            "halo": value.layout.map(|l| [l.halo().top, l.halo().left, l.halo().bottom, l.halo().right]),
            "slot": value.slot,
        })).collect::<Vec<_>>(),
        "ends": {
            "input": ends.input.to_string(), "output": ends.output.to_string(),
            "seed": ends.seed.to_string(), "relevance": ends.relevance.to_string(),
        },
        "taps": program.taps.iter().map(|(label, id)| json!({"value": id.to_string(), "of": label})).collect::<Vec<_>>(),
        "forward": program.forward.iter().map(step_json).collect::<Vec<_>>(),
        "backward": program.backward.iter().map(step_json).collect::<Vec<_>>(),
        "bytes": program.bytes(),
    })
}

fn constant_json((name, constant): (&String, &Constant)) -> Json {
    match constant {
        Constant::Weight(weight) => json!({
            "name": name, "type": weight.ty().to_string(), "hash": format!("{:016x}", weight.hash()),
        }),
        Constant::Derived(derived) => json!({
            "name": name, "type": format!("f64{:?}", derived.dims()), "hash": format!("{:016x}", derived.hash()),
        }),
    }
}

fn step_json(step: &Step) -> Json {
    let attributes: serde_json::Map<String, Json> =
        step.op.attrs().into_iter().map(|(name, value)| (name.to_string(), attr_json(value))).collect();
    let labels = |ids: &[ValueId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "op": step.op.mnemonic(),
        "reads": labels(&step.reads),
        "constants": step.constants,
        "writes": labels(&step.writes),
        "attributes": attributes,
        "kernel": step.kernel,
        "node": {"label": step.origin.label, "op": step.origin.op, "name": step.origin.name},
    })
}
