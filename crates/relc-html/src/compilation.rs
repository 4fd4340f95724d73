//! The page of a compilation: what each pass did, the network, the memory plan, and what each step takes.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use relc::unstable::ir::{Graph, NodeId};
use relc::unstable::passes::PassRecord;
use relc::unstable::program::Program;
use schemars::JsonSchema;
use serde::Serialize;

use crate::diff::{Hunk, hunks};
use crate::error::PageError;
use crate::memory::{Memory, memory};
use crate::network::Network;
use crate::page::{Page, module};
use crate::roofline::{COLUMNS, Profile, Roofline, roofline};
use crate::stage::{Half, Stage, label, steps};
use crate::words::number;

/// What a page of a compilation shows.
#[derive(Debug)]
pub struct Compilation<'a> {
    /// The model's file.
    pub model: &'a str,
    /// What the program is for, in words.
    pub target: &'a str,
    /// What each pass left, in their order.
    pub stages: &'a [Stage],
    /// What each pass said, and how long it took.
    pub records: &'a [PassRecord],
    /// What passes are for, by name.
    pub descriptions: &'a BTreeMap<String, String>,
    /// Whether the page says how long passes took.
    pub timed: bool,
    /// The graph behind its last pass.
    pub graph: &'a Graph,
    /// The program behind its last pass, or why there is none.
    pub program: Result<&'a Program, String>,
    /// What each step takes, or why that is not known.
    pub profile: Result<Profile, String>,
}

/// The data of a page of a compilation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CompilationData {
    /// The passes.
    pub passes: Vec<PassData>,
    /// The nodes of the network, in the order of the drawing.
    pub nodes: Vec<NodeData>,
}

/// A pass.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PassData {
    /// What it is of. The first of each kind starts with an empty text.
    pub half: Half,
    /// Its name.
    pub name: String,
    /// What it made of the text before.
    pub hunks: Vec<Hunk>,
    /// What it said.
    pub remarks: Vec<RemarkData>,
}

/// What a pass said.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemarkData {
    /// `applied`, `missed` or `warning`.
    pub kind: &'static str,
    /// What, and of which node.
    pub text: String,
    /// The line of the node in the pass's text.
    pub line: Option<usize>,
    /// Its line in the text before, if the pass took it away.
    pub line_before: Option<usize>,
}

/// A node of the network.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NodeData {
    /// What messages call it.
    pub name: String,
    /// Its line in the text of the graph's last pass.
    pub line: Option<usize>,
    /// Its rule.
    pub rule: Option<String>,
    /// Which line of the preset, or which option, gave the rule.
    pub rule_from: Option<String>,
    /// The lines of its relevance in the text of the graph's last pass.
    pub relevance: Vec<usize>,
    /// The remarks that concern it: the number of the pass, and of the remark.
    pub remarks: Vec<[usize; 2]>,
    /// The lines of its steps in the text of the program's last pass.
    pub steps: Vec<usize>,
}

/// A row of the table of passes.
struct Row<'a> {
    number: usize,
    name: &'a str,
    of: &'static str,
    does: &'a str,
    ms: Option<f64>,
    shown_ms: String,
    inserted: usize,
    deleted: usize,
    remarks: usize,
}

#[derive(Template)]
#[template(path = "compilation.html")]
struct Body<'a> {
    target: &'a str,
    rows: Vec<Row<'a>>,
    timed: bool,
    missing: Option<&'a str>,
    network: String,
    nodes: usize,
    joins: usize,
    memory: Option<Memory>,
    profile: Result<(&'a Profile, Roofline), &'a str>,
    columns: &'static [(&'static str, bool)],
}

/// The page of a compilation.
///
/// # Errors
/// If a chart can't be drawn or a template fails.
pub fn compilation_page(page: &Compilation<'_>) -> Result<String, PageError> {
    let passes = passes(page);
    let (network, ids) = Network::of(page.graph);
    let data = CompilationData { nodes: nodes(page, &passes, &ids), passes };
    let no_words = String::new();
    let row = |(place, pass): (usize, &'_ PassData)| {
        let record = record(page, place);
        let ms = record.filter(|_| page.timed).map(|record| record.time.as_secs_f64() * 1e3);
        let first = is_first(page.stages, place);
        Row {
            number: place,
            name: &page.stages[place].name,
            of: match pass.half {
                Half::Graph => "graph",
                Half::Program => "program",
                Half::Kernels => "kernels",
            },
            does: page.descriptions.get(&pass.name).unwrap_or(&no_words),
            ms,
            shown_ms: ms.map(number).unwrap_or_default(),
            inserted: if first { 0 } else { pass.hunks.iter().map(|hunk| hunk.lines.len()).sum() },
            deleted: pass.hunks.iter().map(|hunk| hunk.removed).sum(),
            remarks: pass.remarks.len(),
        }
    };
    let memory = page.program.as_ref().ok().map(|program| memory(program)).transpose()?.flatten();
    let profile = match &page.profile {
        Ok(profile) => Ok((profile, roofline(profile)?)),
        Err(why) => Err(why.as_str()),
    };
    let body = Body {
        target: page.target,
        rows: data.passes.iter().enumerate().map(row).collect(),
        timed: page.timed,
        missing: page.program.as_ref().err().map(String::as_str),
        network: network.svg("The network, from its input down to the explained output")?,
        nodes: network.nodes.len(),
        joins: network.nodes.iter().filter(|node| node.join).count(),
        memory,
        profile,
        columns: &COLUMNS,
    };
    let page = Page {
        title: "Compilation",
        of: page.model,
        body: body.render()?,
        data: &data,
        entry: module!("compilation"),
        modules: &[module!("data"), module!("graph"), module!("tables")],
    };
    page.render()
}

/// What a pass said; import and kernels may have said nothing.
fn record<'p>(page: &Compilation<'p>, stage: usize) -> Option<&'p PassRecord> {
    let name = page.stages.get(stage)?.name.as_str();
    page.records.iter().find(|record| record.name == name)
}

/// Whether the text of a stage starts anew.
fn is_first(stages: &[Stage], stage: usize) -> bool {
    stage == 0 || stages[stage - 1].half != stages[stage].half
}

fn passes(page: &Compilation<'_>) -> Vec<PassData> {
    let pass = |(number, stage): (usize, &Stage)| {
        let before = (!is_first(page.stages, number)).then(|| &page.stages[number - 1]);
        let lines = |text: &'_ Stage| text.text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (old, new) = (before.map(lines).unwrap_or_default(), lines(stage));
        let [old, new] = [&old, &new].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
        let hunks = hunks(&old, &new);
        let remarks = record(page, number).map_or(&[][..], |record| &record.remarks);
        let remark = |remark: &relc::Remark| {
            let label = label(&remark.node);
            let line = label.and_then(|label| stage.places.get(label).copied());
            let line_before = || Some(*before?.places.get(label?)?);
            let gone = |line: &usize| hunks.iter().any(|h| h.at <= *line && *line < h.at + h.removed);
            let line_before = line.is_none().then(line_before).flatten().filter(gone);
            RemarkData { kind: remark.kind.name(), text: remark.text(), line, line_before }
        };
        let remarks = remarks.iter().map(remark).collect();
        PassData { half: stage.half, name: stage.name.clone(), remarks, hunks }
    };
    page.stages.iter().enumerate().map(pass).collect()
}

fn nodes(page: &Compilation<'_>, passes: &[PassData], ids: &[NodeId]) -> Vec<NodeData> {
    let graph = page.graph;
    let last = page.stages.iter().rev().find(|stage| stage.half == Half::Graph);
    let place = |node: &NodeId| last?.places.get(&graph.node_label(*node)).copied();
    let mut relevance: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for node in graph.relevance_order().unwrap_or_default() {
        if let Some(of) = graph.node(node).of {
            relevance.entry(of).or_default().push(node);
        }
    }
    // By label: what was said of each node, and its steps.
    let mut said: BTreeMap<&str, Vec<[usize; 2]>> = BTreeMap::new();
    for (number, pass) in passes.iter().enumerate().take(page.stages.len()) {
        let remarks = record(page, number).map_or(&[][..], |record| &record.remarks);
        for (which, remark) in remarks.iter().enumerate().take(pass.remarks.len()) {
            if let Some(label) = label(&remark.node) {
                said.entry(label).or_default().push([number, which]);
            }
        }
    }
    let mut run: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let program = page.stages.iter().rev().find(|stage| stage.half == Half::Program);
    if let (Ok(of), Some(stage)) = (&page.program, program) {
        for (label, line) in steps(of, &stage.text) {
            run.entry(label).or_default().push(line);
        }
    }
    let node = |id: &NodeId| {
        let back = relevance.get(id).map_or(&[][..], Vec::as_slice);
        let labels: Vec<String> =
            std::iter::once(id).chain(back).map(|node| graph.node_label(*node)).collect();
        let of_labels = |label: &String| said.get(label.as_str()).cloned().unwrap_or_default();
        let remarks: BTreeSet<[usize; 2]> = labels.iter().flat_map(of_labels).collect();
        let lines = |label: &String| run.get(label.as_str()).cloned().unwrap_or_default();
        let steps: BTreeSet<usize> = labels.iter().flat_map(lines).collect();
        let assigned = graph.rules.get(id);
        NodeData {
            name: graph.describe(*id),
            line: place(id),
            rule: assigned.map(|assigned| {
                let attrs = assigned.rule.attrs().into_iter().map(|(name, value)| format!("{name}={value}"));
                format!("{}({})", assigned.rule.name(), attrs.collect::<Vec<_>>().join(", "))
            }),
            rule_from: assigned.map(|assigned| assigned.origin.clone()),
            relevance: back.iter().filter_map(place).collect(),
            remarks: remarks.into_iter().collect(),
            steps: steps.into_iter().collect(),
        }
    };
    ids.iter().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use relc::unstable::engine::{Cpu, Machine};
    use relc::unstable::ir::parse;
    use relc::{Compiler, Isa, Preset, Remark, RemarkKind};
    use serde_json::Value;

    use crate::diff::tests::apply;

    /// The data of a page, which keeps to its schema.
    fn data(page: &str) -> Value {
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let data = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
        let schema = serde_json::to_value(schemars::schema_for!(CompilationData)).unwrap();
        let errors: Vec<String> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&data).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        data
    }

    fn numbers(value: &Value) -> Vec<usize> {
        value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    }

    #[test]
    fn a_page_holds_every_text_and_what_is_known_of_each_node() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo/model.onnx");
        let backend = Arc::new(Cpu { machine: Machine::generic(Isa::Portable) });
        let compiler = Compiler::new(Preset::named(Preset::DEFAULT).unwrap()).backend(backend);
        let mut stages = Vec::new();
        let compiled = compiler.passes(model, |name, graph| stages.push(Stage::graph(name, graph))).unwrap();
        let mut last = None;
        let of_program = compiler.program(&compiled, |name, program| {
            stages.push(Stage::program(name, program));
            last = Some(program.clone());
        });
        let records = [compiled.passes, of_program.unwrap()].concat();
        let program = last.unwrap();
        let page = compilation_page(&Compilation {
            model,
            target: "any machine",
            stages: &stages,
            records: &records,
            descriptions: &BTreeMap::new(),
            timed: false,
            graph: &compiled.graph,
            program: Ok(&program),
            profile: Err("not measured".into()),
        });
        let page = page.unwrap();
        let data = data(&page);
        let mut text: Vec<String> = Vec::new();
        for (pass, stage) in data["passes"].as_array().unwrap().iter().zip(&stages) {
            if pass["name"] == "import" || pass["name"] == "lower" {
                text.clear();
            }
            let hunk = |hunk: &Value| Hunk {
                at: hunk["at"].as_u64().unwrap() as usize,
                removed: hunk["removed"].as_u64().unwrap() as usize,
                lines: hunk["lines"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().into()).collect(),
            };
            let hunks: Vec<Hunk> = pass["hunks"].as_array().unwrap().iter().map(hunk).collect();
            text = apply(&text, &hunks);
            assert_eq!(text, stage.text.lines().collect::<Vec<_>>(), "{}", stage.name);
            for remark in pass["remarks"].as_array().unwrap().iter().filter(|r| !r["line"].is_null()) {
                let label = label(remark["text"].as_str().unwrap().split_once(": ").unwrap().0).unwrap();
                assert!(text[remark["line"].as_u64().unwrap() as usize].contains(label), "{remark}");
            }
        }
        let joins = page.matches("class=\"node join\"").count();
        assert_eq!(joins, compiled.graph.residuals.len());
        let join = compiled.graph.describe(compiled.graph.residuals[0].join);
        let node = data["nodes"].as_array().unwrap().iter().find(|node| node["name"] == join).unwrap();
        assert_eq!((&node["rule"], node["rule_from"].is_string()), (&"split(policy=ratio)".into(), true));
        assert!(numbers(&node["steps"]).iter().any(|line| text[*line].contains("split.ratio")), "{node}");
        let graph: Vec<&str> = stages.iter().rfind(|s| s.half == Half::Graph).unwrap().text.lines().collect();
        assert!(
            numbers(&node["relevance"]).iter().all(|line| graph[*line].contains("split.ratio")),
            "{node}"
        );
        assert!(!node["remarks"].as_array().unwrap().is_empty());
        let placed = program.values.values().filter(|value| value.slot.is_some()).count();
        assert_eq!(page.matches("class=\"slot s").count(), placed);
        assert!(
            page.contains(&format!("{placed} values of a sample share")) && page.contains("not measured")
        );
    }

    #[test]
    fn hostile_names_stay_text_and_what_went_is_beside_its_last_line() {
        let hostile = format!("</script><script>alert('1')</script>\\\"{}", "x".repeat(10_000));
        let graph = |nodes: &str| {
            let text = format!("graph @g (%x: f32[N,4]) -> (%2 \"out\") {{\n{nodes}}}\n");
            parse(&text).unwrap()
        };
        let relu = |number: u8, of: &str| format!("  %{number} = relu %{of} : f32[N,4] ; \"{hostile}\"\n");
        let before = graph(&(relu(1, "x") + &relu(2, "1")));
        let after = graph(&relu(2, "x"));
        let stages = [Stage::graph("import", &before), Stage::graph("</option>", &after)];
        let remark = |node: String| Remark { kind: RemarkKind::Applied, node, message: hostile.clone() };
        let gone = before.node_ids().find(|node| before.node_label(*node) == "%1").unwrap();
        let remarks = vec![remark(before.describe(gone)), remark(String::new())];
        let record = PassRecord { name: "</option>".into(), time: Default::default(), remarks };
        let page = compilation_page(&Compilation {
            model: &hostile,
            target: &hostile,
            stages: &stages,
            records: &[record],
            descriptions: &BTreeMap::from([("import".into(), hostile.clone())]),
            timed: true,
            graph: &after,
            program: Err(hostile.clone()),
            profile: Err(hostile.clone()),
        });
        let page = page.unwrap();
        assert!(!page.contains("<script>alert") && !page.contains("</option>"));
        let said = &data(&page)["passes"][1]["remarks"];
        assert_eq!((&said[0]["line"], &said[0]["line_before"]), (&Value::Null, &1.into()));
        assert_eq!((&said[1]["line"], &said[1]["line_before"]), (&Value::Null, &Value::Null));
    }
}
