//! `Concat`: tensors side by side, and constants beside them.

use relc_ir::op::{Activation, Arithmetic, Concat, Pad};
use relc_ir::{Dim, Op, TensorType, ValueId};

use super::elementwise::unchanged;
use crate::call::{Call, Value};
use crate::constant::{Const, axis};
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

pub(crate) fn concat(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=usize::MAX)?;
    let stated = call.attributes.int("axis")?;
    let stated = stated.ok_or_else(|| Fault::invalid("the attribute \"axis\" is missing"))?;
    if call.arity() == 1 {
        return unchanged(call, Activation::Identity);
    }
    let values: Vec<Value> = (0..call.arity()).map(|i| call.value(i)).collect::<Result<_, _>>()?;
    let ints: Vec<&Const<Sym>> = values
        .iter()
        .filter_map(|v| if let Value::Constant(Constant::Ints(c)) = v { Some(c) } else { None })
        .collect();
    let floats: Vec<&Const<f32>> = values
        .iter()
        .filter_map(|v| if let Value::Constant(Constant::Floats(c)) = v { Some(c) } else { None })
        .collect();
    let budget = &mut call.builder.budget;
    if let Some(first) = ints.first().filter(|_| ints.len() == values.len()) {
        return Ok(Const::concat(&ints, axis(stated, first.dims().len())?, budget)?.into());
    }
    if let Some(first) = floats.first().filter(|_| floats.len() == values.len()) {
        return Ok(Const::concat(&floats, axis(stated, first.dims().len())?, budget)?.into());
    }
    let tensor = |v: &Value| if let Value::Graph(x) = v { Some(*x) } else { None };
    let Some(first) = values.iter().find_map(tensor) else {
        return Err(Fault::invalid("got integers beside floats, expected operands of one kind"));
    };
    let ty = call.ty(first);
    let axis = axis(stated, ty.rank())?;
    if ty.dims()[axis] == Dim::Batch {
        return Err(Fault::unsupported(format!(
            "got axis={stated} on {ty}, expected another axis than the batch"
        )));
    }
    let mut groups = vec![Group::default()];
    for (i, value) in values.iter().enumerate() {
        match value {
            Value::Graph(x) => match groups.last_mut() {
                // Tensors side by side, until a constant comes behind them.
                Some(group) if group.behind.is_empty() => group.tensors.push(*x),
                _ => groups.push(Group { tensors: vec![*x], ..Group::default() }),
            },
            _ => {
                let constant = beside(call, i, &ty, axis)?;
                if let (Some(constant), Some(group)) = (constant, groups.last_mut()) {
                    let before = group.tensors.is_empty();
                    (if before { &mut group.before } else { &mut group.behind }).push(constant);
                }
            }
        }
    }
    let parts = groups.into_iter().map(|group| group.joined(call, axis)).collect::<Result<Vec<_>, _>>()?;
    match parts[..] {
        [only] => Ok(Value::Graph(only)),
        _ => call.emit(Op::Concat(Concat { axis }), &parts),
    }
}

/// Input `i`, a constant, as one that lies along `axis` beside a tensor of type `ty`; none if it is empty.
fn beside(call: &mut Call, i: usize, ty: &TensorType, axis: usize) -> Result<Option<Const<f32>>, Fault> {
    let constant = call.floats(i)?;
    let constant = call.of_one_sample(&constant)?.unwrap_or(constant);
    let fits = |(i, (dim, size)): (usize, (&Dim, &usize))| i == axis || dim.bind(1) == *size;
    if constant.dims().len() != ty.rank() || !ty.dims().iter().zip(constant.dims()).enumerate().all(fits) {
        return Err(Fault::invalid(format!(
            "got {ty} and, as input {i}, a constant of shape {:?}, expected them to differ only along axis {axis} (and 1 for \
             the batch)",
            constant.dims()
        )));
    }
    Ok(Some(constant).filter(|c| !c.data().is_empty()))
}

/// Tensors side by side between constants.
#[derive(Default)]
struct Group {
    before: Vec<Const<f32>>,
    tensors: Vec<ValueId>,
    behind: Vec<Const<f32>>,
}

impl Group {
    /// The tensors with zeros in the place of the constants, and then, unless they are zeros, the constants added. So a
    /// constant takes no relevance that its place does not get, and the rule for a Pad says what becomes of that.
    fn joined(self, call: &mut Call, axis: usize) -> Result<ValueId, Fault> {
        let x = match self.tensors[..] {
            [only] => only,
            _ => call.node(Op::Concat(Concat { axis }), &self.tensors)?,
        };
        let size = |constants: &[Const<f32>]| -> Result<usize, Fault> {
            let sizes = constants.iter().map(|c| c.dims().get(axis).copied().unwrap_or(0));
            let total = sizes.into_iter().try_fold(0usize, |sum, s| sum.checked_add(s));
            total.ok_or_else(|| Fault::invalid("the size overflows"))
        };
        let (before, behind) = (size(&self.before)?, size(&self.behind)?);
        if (before, behind) == (0, 0) {
            return Ok(x);
        }
        let ty = call.ty(x);
        let mut pads = vec![0; 2 * ty.rank()];
        (pads[axis], pads[axis + ty.rank()]) = (before, behind);
        let padded = call.node(Op::Pad(Pad { pads, value: 0.0 }), &[x])?;
        let constants = || self.before.iter().chain(&self.behind);
        if constants().flat_map(|c| c.data().iter()).all(|v| *v == 0.0) {
            return Ok(padded);
        }
        let inner: Vec<usize> = ty.dims().iter().map(|d| d.bind(1)).collect();
        let budget = &mut call.builder.budget;
        let zeros = Const::scalar(0.0).expand(inner, budget)?;
        let parts: Vec<&Const<f32>> = self.before.iter().chain([&zeros]).chain(&self.behind).collect();
        let frame = Const::concat(&parts, axis, budget)?;
        let frame = call.new_weight("constants", &frame)?;
        call.node(Op::Arithmetic(Arithmetic::Add), &[padded, frame])
    }
}
