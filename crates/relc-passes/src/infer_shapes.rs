//! `infer-shapes`: every node's types follow from its operands'.

use relc_ir::Graph;

use crate::error::PassError;
use crate::manager::{Pass, forward_order, ir};
use relc_ir::remark::Remarks;

/// Infers the types of all forward nodes again, in order, from ONNX's rules, with a symbolic batch.
pub struct InferShapes;

impl Pass for InferShapes {
    fn name(&self) -> &'static str {
        "infer-shapes"
    }

    fn description(&self) -> &'static str {
        "infer every node's types from its operands', with a symbolic batch"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        for node in forward_order(graph, self.name())? {
            if graph.infer_again(node).map_err(ir(self.name()))? {
                remarks.applied(graph.describe(node), format!("is now {}", graph.node(node).types()[0]));
            }
        }
        Ok(())
    }
}
