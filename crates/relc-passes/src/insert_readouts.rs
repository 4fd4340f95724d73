//! `insert-readouts`: a share of the relevance stops at a cut, and is spread from there over the input.
//!
//! A cut is a value that every path from the input to the explained output crosses, so that all relevance passes it: a
//! dominator of the output. What stops there, a share of each value, is spread over the input's pixels as the cut would be
//! upsampled; the rest goes on by the rules. Rules are linear in the relevance, so the map becomes a weighted mean of the
//! relevance at the cuts and at the input, each of which sums to the seed.

use relc_ir::analysis::reversal;
use relc_ir::op::{Relevance, matched_axes};
use relc_ir::{Dim, Graph, NodeId, Op, ValueId};
use relc_rules::{ReadoutLine, ReadoutPlace};

use crate::dominance::Dominance;
use crate::error::PassError;
use crate::manager::{Pass, ir};
use relc_ir::remark::Remarks;

const NAME: &str = "insert-readouts";

/// Puts the preset's read-outs at their cuts.
pub struct InsertReadouts {
    /// The read-outs.
    pub readouts: Vec<ReadoutLine>,
    /// Whether masks follow: they ask what went through some channels, past which a read-out would go.
    pub masked: bool,
}

impl Pass for InsertReadouts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "let a share of the relevance stop at a cut, and spread it over the input"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        for readout in self.readouts.iter().filter(|readout| readout.share > 0.0) {
            if self.masked {
                remarks.missed("", format!("{}: left out, since it would go past the masks", readout.origin));
                continue;
            }
            let Some(grid) = input_grid(graph) else {
                let why = "the input has no spatial axes";
                remarks.missed("", format!("{}: left out, since {why}", readout.origin));
                continue;
            };
            let Some(cut) = find(graph, readout, grid)? else {
                let why = "no value with several pixels, and axes like the input's, is crossed by every path";
                remarks.missed("", format!("{}: left out, since {why}", readout.origin));
                continue;
            };
            if let Some(node) = reversal(graph, grid.node, cut) {
                let why = format!("{} turns the picture around before it", graph.describe(node));
                remarks.missed(graph.describe(cut), format!("{}: left out, since {why}", readout.origin));
                continue;
            }
            insert(graph, cut, grid, readout.share)?;
            let message = format!("{} of the relevance stops here", readout.share);
            remarks.applied(graph.describe(cut), message);
        }
        Ok(())
    }
}

/// The cut of a read-out that is spread over `grid`; `None` if the network has none of the kind.
fn find(graph: &Graph, readout: &ReadoutLine, grid: ValueId) -> Result<Option<NodeId>, PassError> {
    let Some((_, output)) = graph.outputs().first() else { return Ok(None) };
    let cuts = Dominance::new(graph).cuts(output.node);
    let spatial = |n: NodeId| graph.node(n).types().first().and_then(|ty| ty.spatial());
    let fits = |n: NodeId| {
        spatial(n)
            .zip(graph.ty(grid).spatial())
            .is_some_and(|(cut, grid)| matched_axes(&cut, &grid).is_some())
    };
    let mut images =
        cuts.iter().copied().filter(|n| fits(*n) && is_image(graph, *n) && graph.arriving(*n).is_some());
    match &readout.at {
        ReadoutPlace::LastFeatureMap => Ok(images.find(|n| pixels(graph, *n) > 1)),
        ReadoutPlace::Node(glob) => {
            let images: Vec<NodeId> = images.collect();
            let mut matched = images.iter().filter(|n| glob.is_match(&graph.node(**n).name));
            match (matched.next(), matched.next()) {
                (Some(cut), None) => Ok(Some(*cut)),
                (found, _) => {
                    let name = |n: &NodeId| format!("\"{}\"", graph.node(*n).name);
                    let (got, names) = (
                        if found.is_some() { "several" } else { "none" },
                        images.iter().map(name).collect::<Vec<_>>().join(", "),
                    );
                    let message = format!(
                        "{}: the glob \"{}\" matches {got} of the images that every path crosses, expected one of \
                         {names}",
                        readout.origin,
                        glob.as_str()
                    );
                    Err(PassError::Unmatched { messages: vec![message] })
                }
            }
        }
    }
}

/// Whether a node's output is `f32[N,C,..]` of spatial axes: made by a layer that looks at pixels, or from such without
/// moving them. Spatial axes of size 1 count for nothing: a row may have been a picture of height 1.
fn is_image(graph: &Graph, node: NodeId) -> bool {
    let dims = |node: NodeId| {
        let dims = graph.node(node).types().first().map(|ty| ty.dims()).unwrap_or_default();
        let named = dims.iter().take(2).chain(dims.iter().skip(2).filter(|d| **d != Dim::Fixed(1)));
        named.copied().collect::<Vec<_>>()
    };
    if graph.node(node).types().first().and_then(|ty| ty.spatial()).is_none() {
        return false;
    }
    let (mut node, mut shape) = (node, dims(node));
    loop {
        match &graph.node(node).op {
            Op::Input | Op::Conv(_) | Op::MaxPool(_) | Op::AveragePool(_) => return dims(node) == shape,
            Op::Transpose(_) | Op::Softmax(_) => return false,
            op => {
                let Some((_, value)) = graph.data_operands(node).first().copied() else { return false };
                // A Reshape moves nothing, if another one undoes it; what else changes the shape starts from a picture.
                if !matches!(op, Op::Reshape(_)) && dims(value.node) != dims(node) {
                    if dims(node) != shape {
                        return false;
                    }
                    shape = dims(value.node);
                }
                node = value.node;
            }
        }
    }
}

fn pixels(graph: &Graph, node: NodeId) -> usize {
    let size = graph.node(node).types().first().and_then(|ty| ty.spatial()).unwrap_or_default();
    size.into_iter().try_fold(1usize, usize::checked_mul).unwrap_or(usize::MAX)
}

/// The value that pixels are spread over: the input, or what it is after its axes were put in order.
fn input_grid(graph: &Graph) -> Option<ValueId> {
    let &[(input, _)] = &graph.relevance_outputs[..] else { return None };
    let mut grid = ValueId { node: input, port: 0 };
    let mut value = grid;
    let keeps = |node: NodeId| match graph.node(node).op {
        Op::Activation(_) | Op::BatchNormalization(_) => true,
        Op::Arithmetic(_) => graph.data_operands(node).len() == 1,
        _ => false,
    };
    let moves = |node: NodeId| matches!(graph.node(node).op, Op::Transpose(_) | Op::Reshape(_));
    let turns = |node: NodeId, value: ValueId| match &graph.node(node).op {
        Op::Slice(slice) => {
            graph.ty(value) == &graph.node(node).types()[0]
                && slice.steps.iter().all(|step| step.unsigned_abs() == 1)
        }
        _ => false,
    };
    loop {
        let users = graph.forward_users(value);
        match users[..] {
            // The rest has no pixels: a classifier of the input.
            [(user, _)] if value != grid && graph.node(user).types()[0].spatial().is_none() => break,
            [(user, _)] if moves(user) || turns(user, value) => {
                value = ValueId { node: user, port: 0 };
                grid = value;
            }
            // Scaled pixels are where they were; the axes may be put in order behind.
            [(user, _)] if keeps(user) => value = ValueId { node: user, port: 0 },
            _ if users.iter().any(|(user, _)| moves(*user)) => return None,
            _ => break,
        }
    }
    let ty = graph.ty(grid);
    (ty.is_batched() && ty.spatial().is_some()).then_some(grid)
}

/// Lets `share` of what arrives at the cut stop, and adds it to what arrives at the grid.
fn insert(graph: &mut Graph, cut: NodeId, grid: ValueId, share: f64) -> Result<(), PassError> {
    let Some(r) = graph.arriving(cut) else { return Ok(()) };
    let returned = graph.relevance_outputs.iter().position(|(input, _)| *input == grid.node);
    let arriving = match returned {
        Some(index) => graph.relevance_outputs.get(index).map(|(_, value)| *value),
        None => graph.arriving(grid.node),
    };
    let Some(arriving) = arriving else { return Ok(()) };
    let readout = add(graph, Relevance::Readout { share }, cut, &[r])?;
    let [stops, rest] = [0, 1].map(|port| ValueId { node: readout, port });
    graph.replace_uses(r, rest);
    let arriving = if arriving == r { rest } else { arriving };
    let shape = graph.ty(grid).dims().to_vec();
    let spread = add(graph, Relevance::Upsample { shape }, cut, &[stops])?;
    let spread = ValueId { node: spread, port: 0 };
    let sum = add(graph, Relevance::Sum, grid.node, &[arriving, spread])?;
    let sum = ValueId { node: sum, port: 0 };
    match returned {
        Some(index) => graph.relevance_outputs[index].1 = sum,
        None => graph.replace_uses(arriving, sum),
    }
    Ok(())
}

fn add(graph: &mut Graph, op: Relevance, of: NodeId, operands: &[ValueId]) -> Result<NodeId, PassError> {
    graph.add_relevance(Op::Relevance(op), of, operands).map_err(ir(NAME))
}
