//! The drawing of a network: its forward nodes from the input down to the explained output.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use relc::unstable::ir::{Graph, NodeId};

use crate::error::PageError;
use crate::layout::layered;

/// Pixels of a node across and down.
const NODE: [f64; 2] = [172.0, 44.0];
/// Letters of a node's first and second line.
const LETTERS: [usize; 2] = [22, 25];
/// From the top of a node to the foot of each line of text.
const LINES: [f64; 2] = [19.0, 35.0];

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkNode {
    /// Its first line; a long one loses its end.
    pub title: String,
    /// Its second line; a long one loses its beginning.
    pub sub: String,
    /// What it is called in full: to the pointer, and to who can't see it.
    pub name: String,
    /// Whether it is a residual join.
    pub join: bool,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// The nodes, each behind those that lead to it.
    pub nodes: Vec<NetworkNode>,
    /// From which node to which, and whether the edge is of a skip.
    pub edges: Vec<(usize, usize, bool)>,
}

struct DrawnNode<'a> {
    name: &'a str,
    title: String,
    sub: String,
    join: bool,
    x: f64,
    corner: (f64, f64),
    size: (f64, f64),
    lines: (f64, f64),
}

struct DrawnEdge {
    path: String,
    skip: bool,
}

#[derive(Template)]
#[template(path = "network.html")]
struct Drawn<'a> {
    label: &'a str,
    size: (f64, f64),
    nodes: Vec<DrawnNode<'a>>,
    edges: Vec<DrawnEdge>,
}

impl Network {
    /// The forward nodes of a graph that are on a way from an input to an output, and which of the graph's each is. An edge
    /// is a use of a value, in the order of the nodes and of their operands.
    pub fn of(graph: &Graph) -> (Network, Vec<NodeId>) {
        let order = graph.forward_order().unwrap_or_default();
        let data = |node: NodeId| graph.data_operands(node).into_iter().map(|(_, value)| value.node);
        let mut reached: BTreeSet<NodeId> = graph.inputs().iter().copied().collect();
        for node in &order {
            if data(*node).any(|from| reached.contains(&from)) {
                reached.insert(*node);
            }
        }
        let mut needed: BTreeSet<NodeId> = graph.outputs().iter().map(|(_, value)| value.node).collect();
        for node in order.iter().rev() {
            if needed.contains(node) {
                needed.extend(data(*node));
            }
        }
        let ids: Vec<NodeId> =
            order.into_iter().filter(|node| reached.contains(node) && needed.contains(node)).collect();
        let places: BTreeMap<NodeId, usize> = ids.iter().enumerate().map(|(i, node)| (*node, i)).collect();
        let joins: BTreeSet<NodeId> = graph.residuals.iter().map(|residual| residual.join).collect();
        let skips = skips(graph);
        let mut edges = Vec::new();
        for (to, node) in ids.iter().enumerate() {
            for (operand, value) in graph.data_operands(*node) {
                if let Some(from) = places.get(&value.node) {
                    edges.push((*from, to, skips.contains(&(*node, operand))));
                }
            }
        }
        let node = |id: &NodeId| NetworkNode {
            title: graph.node(*id).op.mnemonic(),
            sub: graph.node(*id).name.clone(),
            name: graph.describe(*id),
            join: joins.contains(id),
        };
        (Network { nodes: ids.iter().map(node).collect(), edges }, ids)
    }

    /// An `svg` element: nodes of class `node` (`join`) with their number as `data-node`, which can be chosen, and paths of
    /// class `edge` (`skip`) with theirs as `data-edge`.
    ///
    /// # Errors
    /// If the template fails.
    pub fn svg(&self, label: &str) -> Result<String, PageError> {
        let pairs: Vec<(usize, usize)> = self.edges.iter().map(|(from, to, _)| (*from, *to)).collect();
        let drawing = layered(&vec![NODE; self.nodes.len()], &pairs);
        let nodes = self.nodes.iter().zip(&drawing.nodes).map(|(node, [x, y])| {
            let corner = (tenth(x - NODE[0] / 2.0), tenth(y - NODE[1] / 2.0));
            DrawnNode {
                name: &node.name,
                title: beginning(&node.title, LETTERS[0]),
                sub: end(&node.sub, LETTERS[1]),
                join: node.join,
                x: tenth(*x),
                corner,
                size: (NODE[0], NODE[1]),
                lines: (tenth(corner.1 + LINES[0]), tenth(corner.1 + LINES[1])),
            }
        });
        let edges = self.edges.iter().zip(&drawing.edges);
        let edges = edges.map(|((_, _, skip), points)| DrawnEdge { path: curve(points), skip: *skip });
        let size = (drawing.size[0].ceil(), drawing.size[1].ceil());
        Ok(Drawn { label, size, nodes: nodes.collect(), edges: edges.collect() }.render()?)
    }
}

/// The uses (node, operand) on the skips of the residuals, from the fork to the join.
fn skips(graph: &Graph) -> BTreeSet<(NodeId, usize)> {
    let mut skips = BTreeSet::new();
    for residual in &graph.residuals {
        if !graph.contains(residual.join) {
            continue;
        }
        let Some(last) = graph.operands(residual.join).get(residual.skip).map(|value| value.node) else {
            continue;
        };
        skips.insert((residual.join, residual.skip));
        let mut stack = vec![last];
        while let Some(node) = stack.pop() {
            if node == residual.fork {
                continue;
            }
            for (operand, value) in graph.data_operands(node) {
                if skips.insert((node, operand)) {
                    stack.push(value.node);
                }
            }
        }
    }
    skips
}

/// A path through points from the top down, which leaves and reaches each of them straight.
fn curve(points: &[[f64; 2]]) -> String {
    let mut path = String::new();
    let mut before: Option<[f64; 2]> = None;
    for point in points {
        let [x, y] = point.map(tenth);
        match before {
            None => path += &format!("M{x} {y}"),
            Some([a, b]) => {
                let middle = tenth((b + y) / 2.0);
                path += &format!("C{a} {middle} {x} {middle} {x} {y}");
            }
        }
        before = Some([x, y]);
    }
    path
}

fn tenth(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// What a letter takes of a line; those of other scripts may be wide.
fn width(letter: char) -> usize {
    if letter.is_ascii() { 1 } else { 2 }
}

/// As many of these letters as a line has room for, but for the one that says that there are more.
fn fitting(letters: impl Iterator<Item = char>, room: usize) -> Option<Vec<char>> {
    let mut taken = 0;
    let mut kept = Vec::new();
    let mut cut = false;
    for letter in letters {
        taken += width(letter);
        if taken > room {
            cut = true;
            break;
        }
        kept.push(letter);
    }
    cut.then(|| {
        kept.pop();
        kept
    })
}

fn beginning(text: &str, room: usize) -> String {
    match fitting(text.chars(), room) {
        Some(kept) => kept.into_iter().chain(['…']).collect(),
        None => text.to_string(),
    }
}

fn end(text: &str, room: usize) -> String {
    match fitting(text.chars().rev(), room) {
        Some(kept) => ['…'].into_iter().chain(kept.into_iter().rev()).collect(),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc::unstable::ir::parse;

    const BLOCK: &str = r#"graph @block (%x: f32[N,4]) -> (%3 "out") {
  %1 = relu %x : f32[N,4] ; "fork"
  %2 = relu %1 : f32[N,4] ; "main"
  %3 = add %2, %1 : f32[N,4] ; "join"
  %4 = relu %1 : f32[N,4] ; "aside"
  residual %3 fork=%1 skip=1 [unweighted:0:1, identity:0:0]
}
"#;

    #[test]
    fn what_leads_to_the_output_is_drawn_with_its_joins_and_skips() {
        let (network, ids) = Network::of(&parse(BLOCK).unwrap());
        let titles: Vec<&str> = network.nodes.iter().map(|node| node.sub.as_str()).collect();
        assert_eq!(titles, ["x", "fork", "main", "join"]);
        assert_eq!(ids.len(), 4);
        assert_eq!(network.edges, [(0, 1, false), (1, 2, false), (2, 3, false), (1, 3, true)]);
        assert_eq!(
            network.nodes.iter().map(|node| node.join).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        let svg = network.svg("a block").unwrap();
        assert_eq!(svg.matches("class=\"edge skip\"").count(), 1);
        assert_eq!(svg.matches("class=\"node join\"").count(), 1);
        assert_eq!(svg.matches("tabindex=\"0\"").count(), 1);
    }

    #[test]
    fn long_and_hostile_names_are_cut_and_stay_text() {
        let hostile = format!("<script>\"'&{}", "x".repeat(10_000));
        let node =
            |sub: &str| NetworkNode { title: "conv".into(), sub: sub.into(), name: sub.into(), join: false };
        let svg = Network { nodes: vec![node(&hostile)], edges: Vec::new() }.svg("\"label\"").unwrap();
        assert!(
            !svg.contains("<script") && svg.contains("&#60;script&#62;") && svg.contains("&#34;label&#34;"),
            "{svg}"
        );
        assert!(svg.contains(&format!(">…{}</text>", "x".repeat(24))), "{svg}");
        assert_eq!(beginning("global_average_pool.zplus", 22), "global_average_pool.z…");
        assert_eq!((end("/a/b", 4), end("層層層", 5)), ("/a/b".into(), "…層".into()));
    }

    #[test]
    fn curves_go_straight_into_their_ends() {
        assert_eq!(curve(&[[0.0, 0.0], [10.0, 20.0]]), "M0 0C0 10 10 10 10 20");
        assert_eq!(curve(&[]), "");
    }
}
