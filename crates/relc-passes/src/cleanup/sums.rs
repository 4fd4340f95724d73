//! Sums of branches: operands of one shape, and no constants among them.

use relc_ir::op::{Activation, Arithmetic, Expand};
use relc_ir::{Graph, NodeId, Op, TensorType, ValueId};

use super::{NAME, output, substitute};
use crate::error::PassError;
use crate::manager::ir;

const ADD: Op = Op::Arithmetic(Arithmetic::Add);

/// A sum of several branches and constants: the branches first, then the constants one by one.
pub(super) fn constants_apart(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.node(node).op != ADD {
        return Ok(None);
    }
    let operands = graph.operands(node);
    let (constants, branches): (Vec<ValueId>, Vec<ValueId>) =
        operands.iter().copied().partition(|v| graph.is_weight(*v));
    if branches.is_empty() || constants.is_empty() || operands.len() == 2 {
        return Ok(None);
    }
    let name = graph.node(node).name.clone();
    let mut sum = match branches[..] {
        [only] => only,
        _ => output(graph.add_node(ADD, &name, &branches).map_err(ir(NAME))?),
    };
    for constant in constants {
        sum = output(graph.add_node(ADD, &name, &[sum, constant]).map_err(ir(NAME))?);
    }
    super::bypass(graph, node, sum)?;
    Ok(Some("adds its constants behind its branches".into()))
}

/// A branch that broadcasts in a sum of branches is expanded first, so that the join's branches have one shape; and
/// both of a product to which neither has the shape.
pub(super) fn expand_branches(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    let op = graph.node(node).op.clone();
    let operands = graph.operands(node);
    let out: TensorType = graph.node(node).types()[0].clone();
    let narrow = |graph: &Graph, v: ValueId| graph.ty(v) != &out;
    let expands = match op {
        Op::Arithmetic(Arithmetic::Add) => operands.iter().any(|v| narrow(graph, *v)),
        Op::Arithmetic(Arithmetic::Mul) => operands.iter().all(|v| narrow(graph, *v)),
        _ => false,
    };
    let data = graph.data_operands(node).len();
    if data != operands.len() || data < 2 || !expands {
        return Ok(None);
    }
    let name = graph.node(node).name.clone();
    let expand = Op::Expand(Expand { shape: out.dims().to_vec() });
    if operands.iter().any(|v| narrow(graph, *v) && expand.infer(&[graph.ty(*v)]).is_err()) {
        return Ok(None);
    }
    let mut expanded = Vec::with_capacity(operands.len());
    for value in operands {
        expanded.push(if narrow(graph, value) {
            output(graph.add_node(expand.clone(), &name, &[value]).map_err(ir(NAME))?)
        } else {
            value
        });
    }
    substitute(graph, node, op, &expanded)?;
    Ok(Some("expands its smaller operands first".into()))
}

/// The difference of two branches of one shape is the sum of one and the other, negated.
pub(super) fn difference(graph: &mut Graph, node: NodeId) -> Result<Option<String>, PassError> {
    if graph.node(node).op != Op::Arithmetic(Arithmetic::Sub) {
        return Ok(None);
    }
    let &[(_, a), (_, b)] = &graph.data_operands(node)[..] else { return Ok(None) };
    if graph.ty(a) != graph.ty(b) {
        return Ok(None);
    }
    let name = graph.node(node).name.clone();
    let negated = graph.add_node(Op::Activation(Activation::Neg), &name, &[b]).map_err(ir(NAME))?;
    substitute(graph, node, ADD, &[a, output(negated)])?;
    Ok(Some("is a sum with the second operand negated".into()))
}
