//! `import-cleanup`: one form for what exporters write in many.
//!
//! A list of rewrites, each a function on one node, is applied until none fires.

pub(crate) mod head;
mod linear;
mod moves;
mod pools;
mod sums;

use relc_ir::{Graph, NodeId, Op, ValueId};

use crate::error::{PassError, UnsupportedNode};
use crate::manager::{Pass, forward_order, ir};
use relc_ir::remark::Remarks;

const NAME: &str = "import-cleanup";

/// Drops what does nothing, strips the final activation, and brings layers to canonical form.
pub struct ImportCleanup;

/// Tries to rewrite one node. Returns what it did, or `None`.
type Rewrite = fn(&mut Graph, NodeId) -> Result<Option<String>, PassError>;

/// The rewrites, in the order in which they are tried.
const REWRITES: [Rewrite; 21] = [
    moves::drop_no_op,
    moves::merge_transposes,
    moves::transpose_to_reshape,
    moves::merge_reshapes,
    moves::sink_transpose,
    moves::transpose_before_pad,
    moves::reshape_before_pad,
    sums::constants_apart,
    sums::expand_branches,
    sums::difference,
    linear::matmul_to_gemm,
    linear::matmul_to_conv,
    linear::add_to_bias,
    linear::pad_into_conv,
    linear::pad_into_max_pool,
    pools::merge_means,
    pools::mean_to_global_pool,
    pools::full_window_to_global_pool,
    pools::global_pool_to_reshape,
    head::strip,
    head::mix,
];

/// More sweeps than any model needs: every rewrite removes a node or brings one closer to its final form.
const MAX_SWEEPS: usize = 64;

impl Pass for ImportCleanup {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "drop no-ops, strip the final softmax, bring layers to canonical form"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        for note in &graph.notes {
            remarks.warning("", note);
        }
        for _ in 0..MAX_SWEEPS {
            let mut changed = false;
            for node in forward_order(graph, NAME)? {
                if !graph.contains(node) {
                    continue;
                }
                let mut label = graph.describe(node);
                for rewrite in REWRITES {
                    if let Some(message) = rewrite(graph, node)? {
                        remarks.applied(label, message);
                        changed = true;
                        if !graph.contains(node) {
                            break;
                        }
                        label = graph.describe(node);
                    }
                }
            }
            graph.remove_dead();
            if !changed {
                break;
            }
        }
        refuse_infinite_pads(graph)?;
        if graph.head != relc_ir::Head::None {
            remarks.warning("", format!("the explanation starts before {}", graph.head.described()));
        }
        Ok(())
    }
}

/// Minus infinity is left only where a MaxPool could not take its Pad in.
fn refuse_infinite_pads(graph: &Graph) -> Result<(), PassError> {
    let infinite = |n: &NodeId| matches!(&graph.node(*n).op, Op::Pad(pad) if !pad.value.is_finite());
    let nodes: Vec<UnsupportedNode> = forward_order(graph, NAME)?
        .into_iter()
        .filter(infinite)
        .map(|node| UnsupportedNode {
            node: graph.describe(node),
            reason:
                "pads with minus infinity what others than MaxPools over spatial axes use, or a MaxPool with \
                     windows of padding alone"
                    .into(),
            advice: "a Pad whose users are such MaxPools, or a finite value, is supported".into(),
        })
        .collect();
    if nodes.is_empty() { Ok(()) } else { Err(PassError::Unsupported { nodes }) }
}

/// The first output of a node.
fn output(node: NodeId) -> ValueId {
    ValueId { node, port: 0 }
}

/// The node's operand at `index`, if the op there is what `pick` takes; only where the value has no other user.
fn sole_producer<T>(graph: &Graph, value: ValueId, pick: impl Fn(&Op) -> Option<T>) -> Option<T> {
    let sole = graph.users(value).len() == 1 && graph.outputs().iter().all(|(_, v)| *v != value);
    pick(&graph.node(value.node).op).filter(|_| sole)
}

/// Makes the users of `node` use a new node, which takes its name.
fn substitute(graph: &mut Graph, node: NodeId, op: Op, operands: &[ValueId]) -> Result<NodeId, PassError> {
    let name = graph.node(node).name.clone();
    let new = graph.add_node(op, &name, operands).map_err(ir(NAME))?;
    graph.replace_uses(output(node), output(new));
    graph.remove(node).map_err(ir(NAME))?;
    Ok(new)
}

/// Makes the users of `node` use its operand `x`, and removes it.
fn bypass(graph: &mut Graph, node: NodeId, x: ValueId) -> Result<(), PassError> {
    graph.replace_uses(output(node), x);
    graph.remove(node).map_err(ir(NAME))
}
