//! Where the nodes and edges of a directed acyclic graph are drawn: in layers, from the top down.

use std::thread::{self, Builder};

use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use rust_sugiyama::configure::{Config, RankingType};
use rust_sugiyama::from_graph;

/// Pixels between nodes of a layer, and between layers.
const GAP: [f64; 2] = [24.0, 28.0];
/// What an edge that passes a layer takes of it.
const PASSING: f64 = 6.0;
/// Beyond as many places where edges pass layers, long edges are drawn straight, and nodes placed without them.
const MOST_PASSING: usize = 4000;
/// Beyond as many nodes, crossings are reduced by one heuristic alone.
const MANY: usize = 400;
/// Beyond as many nodes or edges, those of a layer stand side by side as they come.
const MOST: [usize; 2] = [2000, 4000];
/// Bytes of the stack that a layout takes: it recurses along the graph.
const STACK: usize = 256 << 20;

/// A drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Pixels across and down.
    pub size: [f64; 2],
    /// The centre of each node.
    pub nodes: Vec<[f64; 2]>,
    /// The points that each edge goes through, from the bottom of its first node to the top of its second.
    pub edges: Vec<Vec<[f64; 2]>>,
}

/// Lays nodes of these sizes (pixels across and down) out. Each edge goes from a node to one that comes later in the list;
/// others are drawn as if they went the other way.
pub fn layered(sizes: &[[f64; 2]], edges: &[(usize, usize)]) -> Layout {
    let edges: Vec<(usize, usize)> = edges
        .iter()
        .map(|(from, to)| (*from.min(to), *from.max(to)))
        .filter(|(_, to)| *to < sizes.len())
        .collect();
    let layers = layers(sizes.len(), &edges);
    let tops = tops(sizes, &layers);
    let passing: usize = edges.iter().map(|(from, to)| (layers[*to] - layers[*from]).saturating_sub(1)).sum();
    let is_plain = sizes.len() > MOST[0] || edges.len() > MOST[1];
    let is_marked = passing <= MOST_PASSING && !is_plain;
    let mut graph: StableDiGraph<[f64; 2], ()> = StableDiGraph::new();
    let nodes: Vec<NodeIndex> = sizes.iter().map(|size| graph.add_node(*size)).collect();
    // Where each edge passes the layers between its ends.
    let mut bends: Vec<Vec<(usize, NodeIndex)>> = Vec::new();
    for (from, to) in &edges {
        let between = match is_marked {
            true => layers[*from] + 1..layers[*to],
            false => 0..0,
        };
        let bend: Vec<_> = between.map(|layer| (layer, graph.add_node([PASSING; 2]))).collect();
        let ends = [nodes[*from]].into_iter().chain(bend.iter().map(|(_, node)| *node)).chain([nodes[*to]]);
        let ends: Vec<NodeIndex> = ends.collect();
        // An edge that passes layers unmarked would be given places there after all.
        if is_marked || layers[*to] == layers[*from] + 1 {
            for pair in ends.windows(2) {
                graph.update_edge(pair[0], pair[1], ());
            }
        }
        bends.push(bend);
    }
    let columns = match is_plain {
        true => rows(sizes, &layers),
        false => columns(&graph).unwrap_or_else(|| rows(sizes, &layers)),
    };
    let left = graph
        .node_indices()
        .map(|node| columns[node.index()] - graph[node][0] / 2.0)
        .fold(f64::INFINITY, f64::min);
    let right = graph
        .node_indices()
        .map(|node| columns[node.index()] + graph[node][0] / 2.0)
        .fold(f64::NEG_INFINITY, f64::max);
    let x = |node: NodeIndex| columns[node.index()] - left + GAP[0];
    let middle = |layer: usize| (tops[layer] + tops[layer + 1] - GAP[1]) / 2.0;
    let centres: Vec<[f64; 2]> =
        nodes.iter().zip(&layers).map(|(node, layer)| [x(*node), middle(*layer)]).collect();
    let routes = edges.iter().zip(&bends).map(|((from, to), bend)| {
        let ([a, b], [c, d]) = (centres[*from], centres[*to]);
        let first = [a, b + sizes[*from][1] / 2.0];
        let last = [c, d - sizes[*to][1] / 2.0];
        let between = bend.iter().map(|(layer, node)| [x(*node), middle(*layer)]);
        [first].into_iter().chain(between).chain([last]).collect()
    });
    let routes = routes.collect();
    let size = match sizes.is_empty() {
        true => [0.0; 2],
        false => [right - left + 2.0 * GAP[0], tops.last().copied().unwrap_or(0.0)],
    };
    Layout { size, nodes: centres, edges: routes }
}

/// The layer of each node: behind those of all that lead to it.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    let mut sorted = edges.to_vec();
    sorted.sort_unstable();
    for (from, to) in sorted {
        layers[to] = layers[to].max(layers[from] + 1);
    }
    layers
}

/// The top of each layer, and the bottom of the last.
fn tops(sizes: &[[f64; 2]], layers: &[usize]) -> Vec<f64> {
    let count = layers.iter().max().map_or(0, |last| last + 1);
    let mut heights = vec![0.0f64; count];
    for (size, layer) in sizes.iter().zip(layers) {
        heights[*layer] = heights[*layer].max(size[1]);
    }
    let mut tops = vec![GAP[1]];
    for height in heights {
        tops.push(tops.last().copied().unwrap_or(0.0) + height + GAP[1]);
    }
    tops
}

/// The middle of each node across, where those of a layer stand side by side as they come.
fn rows(sizes: &[[f64; 2]], layers: &[usize]) -> Vec<f64> {
    let mut ends = vec![0.0; layers.iter().max().map_or(0, |last| last + 1)];
    let mut columns: Vec<f64> = sizes
        .iter()
        .zip(layers)
        .map(|(size, layer)| {
            let left: f64 = ends[*layer];
            ends[*layer] = left + size[0] + GAP[0];
            left + size[0] / 2.0
        })
        .collect();
    columns.iter_mut().zip(layers).for_each(|(column, layer)| *column -= (ends[*layer] - GAP[0]) / 2.0);
    columns
}

/// The middle of each node across. Parts that nothing joins stand side by side. `None` if there is no thread to be had.
fn columns(graph: &StableDiGraph<[f64; 2], ()>) -> Option<Vec<f64>> {
    // The layers are known.
    let config = Config {
        vertex_spacing: GAP[0],
        ranking_type: RankingType::Up,
        transpose: graph.node_count() <= MANY,
        ..Config::default()
    };
    let mut columns = vec![0.0; graph.node_count()];
    let mut left = 0.0;
    let work = || from_graph(graph, &|_, size| (size[0], size[1]), &config);
    let parts =
        thread::scope(|scope| Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()?.join().ok())?;
    for (part, width, _) in parts {
        let first = part.iter().map(|(_, (x, _))| *x).fold(f64::INFINITY, f64::min);
        for (node, (x, _)) in &part {
            if let Some(column) = columns.get_mut(node.index()) {
                *column = left + x - first;
            }
        }
        left += width + GAP[0];
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A residual block: 0 to 1 to 2 to 3, and past them from 0 to 3.
    fn block() -> Layout {
        layered(&[[100.0, 30.0]; 4], &[(0, 1), (1, 2), (2, 3), (0, 3)])
    }

    #[test]
    fn layers_come_one_below_the_other() {
        let Layout { nodes, size, .. } = block();
        assert!(nodes.windows(2).all(|pair| pair[1][1] >= pair[0][1] + 30.0), "{nodes:?}");
        assert!(
            nodes.iter().all(|[x, y]| *x > 0.0 && *x < size[0] && *y > 0.0 && *y < size[1]),
            "{nodes:?} {size:?}"
        );
    }

    #[test]
    fn a_skip_goes_around_what_it_skips() {
        let Layout { nodes, edges, .. } = block();
        assert_eq!(edges.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 4]);
        for (node, [x, _]) in [1, 2].into_iter().zip(&edges[3][1..3]) {
            assert!((x - nodes[node][0]).abs() > 50.0, "{:?} {nodes:?}", edges[3]);
        }
        assert_eq!(edges[3][0][1], nodes[0][1] + 15.0);
        assert_eq!(edges[3][3][1], nodes[3][1] - 15.0);
    }

    #[test]
    fn nothing_and_parts_that_nothing_joins_are_drawn() {
        assert_eq!(layered(&[], &[]), Layout { size: [0.0; 2], nodes: Vec::new(), edges: Vec::new() });
        let Layout { nodes, .. } = layered(&[[10.0, 10.0]; 3], &[(0, 1)]);
        assert!((nodes[2][0] - nodes[0][0]).abs() >= 10.0, "{nodes:?}");
    }

    /// A chain as long as is laid out, one that is longer, and one that is as wide as it can be.
    #[test]
    fn deep_and_wide_graphs_are_drawn_in_time() {
        let size = |count: usize| vec![[80.0, 20.0]; count];
        for count in [MOST[0], 3 * MOST[0]] {
            let drawn = layered(&size(count), &(1..count).map(|i| (i - 1, i)).collect::<Vec<_>>());
            assert!(drawn.nodes.windows(2).all(|pair| pair[0][0] == pair[1][0] && pair[0][1] < pair[1][1]));
        }
        for readers in [20, 100] {
            let edges: Vec<(usize, usize)> =
                (0..300).flat_map(|i| (0..readers).map(move |j| (i, 300 + j))).collect();
            let drawn = layered(&size(300 + readers), &edges);
            let mut columns: Vec<f64> = drawn.nodes[..300].iter().map(|[x, _]| *x).collect();
            columns.sort_by(f64::total_cmp);
            assert!(columns.windows(2).all(|pair| pair[1] - pair[0] >= 80.0), "{columns:?}");
        }
    }

    #[test]
    fn many_long_edges_are_drawn_in_time() {
        let edges: Vec<(usize, usize)> =
            (0..400).flat_map(|i| (i + 1..400).step_by(1 + i / 4).map(move |j| (i, j))).collect();
        let drawn = layered(&[[80.0, 20.0]; 400], &edges);
        assert!(edges.len() > 3000 && drawn.edges.iter().all(|points| points.len() == 2), "{}", edges.len());
    }
}
