//! What a pass left, and where in it each node is.

use std::collections::{BTreeMap, HashMap};

use relc::unstable::ir::{Graph, Op};
use relc::unstable::program::Program;
use schemars::JsonSchema;
use serde::Serialize;

/// What a pass is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// The graph.
    Graph,
    /// The program.
    Program,
    /// The kernels of a GPU.
    Kernels,
}

/// What a pass left.
#[derive(Clone, Debug)]
pub struct Stage {
    pub(crate) half: Half,
    pub(crate) name: String,
    pub(crate) text: String,
    /// The line of each node, by the label that the graph's text has for it.
    pub(crate) places: BTreeMap<String, usize>,
}

impl Stage {
    /// The graph behind a pass.
    pub fn graph(name: &str, graph: &Graph) -> Stage {
        let text = graph.to_string();
        let lines = numbers(&text);
        let line = |node| match graph.node(node).op {
            // Inputs are in the first line.
            Op::Input => Some(0),
            _ => lines.get(graph.line(node).as_str()).copied(),
        };
        let places = graph.node_ids().filter_map(|node| Some((graph.node_label(node), line(node)?)));
        Stage { half: Half::Graph, name: name.into(), places: places.collect(), text }
    }

    /// The program behind a pass.
    pub fn program(name: &str, program: &Program) -> Stage {
        let text = program.to_string();
        let mut places = BTreeMap::new();
        for (label, line) in steps(program, &text) {
            places.entry(label.to_string()).or_insert(line);
        }
        Stage { half: Half::Program, name: name.into(), places, text }
    }

    /// The kernels that became of the program.
    pub fn kernels(name: &str, text: String) -> Stage {
        Stage { half: Half::Kernels, name: name.into(), text, places: BTreeMap::new() }
    }
}

/// The steps of a program: the label of the node that each is for, and its line in the program's text.
pub fn steps<'p>(program: &'p Program, text: &str) -> Vec<(&'p str, usize)> {
    let lines = numbers(text);
    let line = |step: &relc::unstable::program::Step| lines.get(step.to_string().as_str()).copied();
    program.steps().filter_map(|step| Some((step.origin.label.as_str(), line(step)?))).collect()
}

/// The number of each line, but for its indentation; of equal ones the first.
fn numbers(text: &str) -> HashMap<&str, usize> {
    let mut numbers = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        numbers.entry(line.trim_start()).or_insert(number);
    }
    numbers
}

/// The label of the node that a remark concerns: `%4` of `"conv1" (%4 conv)`.
pub fn label(node: &str) -> Option<&str> {
    let (_, within) = node.strip_suffix(')')?.rsplit_once(" (")?;
    Some(within.rsplit_once(' ')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc::unstable::ir::parse;

    #[test]
    fn nodes_have_their_lines() {
        let text = "graph @g (%x: f32[N,4]) -> (%2 \"out\") {\n  %1 = relu %x : f32[N,4] ; \"a\"\n  \
                    %2 = relu %1 : f32[N,4] ; \"b (%1 relu)\"\n}\n";
        let graph = parse(text).unwrap();
        let stage = Stage::graph("import", &graph);
        assert_eq!(stage.text, text);
        let expected = [("%1", 1), ("%2", 2), ("%x", 0)].map(|(label, line)| (label.to_string(), line));
        assert_eq!(stage.places, BTreeMap::from(expected));
        for node in graph.node_ids() {
            assert_eq!(label(&graph.describe(node)), Some(graph.node_label(node).as_str()));
        }
        assert_eq!((label(""), label("no label"), label("\" (\"")), (None, None, None));
    }
}
