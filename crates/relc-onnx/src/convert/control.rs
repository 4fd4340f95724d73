//! `If`, whose branches are nodes of the graph by now.

use crate::call::{Call, Value};
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// The choice between the values of two branches: input 0 is the condition, the first half of the others are the
/// values if it is true.
pub(crate) fn choose(call: &mut Call) -> Result<Value, Fault> {
    let count = call.arity().saturating_sub(1) / 2;
    if count == 0 || count != call.outputs() {
        return Err(Fault::invalid(
            "got no then_branch and else_branch with as many outputs as the node, expected both",
        ));
    }
    let condition = match call.value(0)? {
        Value::Constant(Constant::Ints(c)) => !c.single()?.equals(Sym::from(0))?,
        _ => {
            return Err(Fault::unsupported(
                "its condition depends on the data, expected one that the shapes decide: state them (--input-shape \
                 N,3,224,224), or simplify the model (onnxsim) or export it without the branch",
            ));
        }
    };
    let first = if condition { 1 } else { 1 + count };
    call.more = (first + 1..first + count).map(|i| call.value(i)).collect::<Result<_, _>>()?;
    call.value(first)
}
