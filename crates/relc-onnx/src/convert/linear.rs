//! `Conv`, `Gemm` and `MatMul`: the layers with weights.

use relc_ir::op::{Conv, Gemm};
use relc_ir::{Op, ValueId};

use super::product;
use super::window::{spatial, window};
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::tensor::Constant;

pub(crate) fn conv(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    convolution(call).map(Value::Graph)
}

/// A convolution whose weight is not in the graph yet.
pub(super) struct Convolution {
    /// The input, `[N,C,..]`.
    pub x: ValueId,
    /// The weight, `[M,C/group,k..]`.
    pub weight: Const<f32>,
    /// The operator.
    pub op: Conv,
}

/// The convolution of input 0 with input 1.
pub(super) fn read_convolution(call: &mut Call) -> Result<Convolution, Fault> {
    let x = call.data(0)?;
    let ty = call.ty(x);
    let rank = spatial(&ty)?.len();
    let weight = call.floats(1)?;
    let [_, _, kernel @ ..] = weight.dims() else {
        return Err(misshapen(&weight, rank));
    };
    if kernel.len() != rank {
        return Err(misshapen(&weight, rank));
    }
    let op = Conv { window: window(call, &ty, Some(kernel))?, group: group(call)?, folded_bias: false };
    Ok(Convolution { x, weight, op })
}

fn misshapen(weight: &Const<f32>, rank: usize) -> Fault {
    Fault::invalid(format!(
        "got a weight of shape {:?}, expected [M,C/group] and {rank} spatial sizes, as the input has",
        weight.dims()
    ))
}

/// The convolution of inputs 0 to 2.
pub(super) fn convolution(call: &mut Call) -> Result<ValueId, Fault> {
    let Convolution { x, op, .. } = read_convolution(call)?;
    let mut operands = vec![x, call.weight(1)?];
    if call.has(2) {
        operands.push(call.weight(2)?);
    }
    call.node(Op::Conv(op), &operands)
}

/// The number of groups.
pub(super) fn group(call: &Call) -> Result<usize, Fault> {
    let stated = call.attributes.int("group")?.unwrap_or(1);
    let group = usize::try_from(stated).ok().filter(|g| *g > 0);
    group.ok_or_else(|| Fault::invalid(format!("got group={stated}, expected at least 1")))
}

/// `alpha * x * w + beta * c`, with both factors folded into the constants.
pub(crate) fn gemm(call: &mut Call) -> Result<Value, Fault> {
    fully_connected(call).map(Value::Graph)
}

/// The product of inputs 0 to 2.
pub(super) fn fully_connected(call: &mut Call) -> Result<ValueId, Fault> {
    call.expect_inputs(2..=3)?;
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let (trans_a, trans_b) = (call.attributes.flag("transA")?, call.attributes.flag("transB")?);
    let x = match (trans_a, call.value(0)?) {
        (true, Value::Constant(Constant::Floats(c))) => {
            let turned = c.transpose(&[1, 0], &mut call.builder.budget)?;
            call.new_weight("transposed", &turned)?
        }
        (true, _) => {
            return Err(Fault::unsupported("got transA=1 on a tensor that depends on the model's input"));
        }
        (false, _) => call.data(0)?,
    };
    let weight = call.floats(1)?;
    let &[rows, columns] = weight.dims() else {
        return Err(Fault::invalid(format!(
            "got a weight of shape {:?}, expected two dimensions",
            weight.dims()
        )));
    };
    let width = if trans_b { rows } else { columns };
    let w = if alpha == 1.0 {
        call.weight(1)?
    } else {
        let scaled = scale(call, &weight, alpha)?;
        call.new_weight("weight", &scaled)?
    };
    let mut operands = vec![x, w];
    if call.has(2) && beta != 0.0 {
        let bias = call.floats(2)?;
        operands.push(if bias.dims() == [width] && beta == 1.0 {
            call.weight(2)?
        } else {
            let row = bias_row(call, &bias, width)?;
            let scaled = scale(call, &row, beta)?;
            call.new_weight("bias", &scaled)?
        });
    }
    call.node(Op::Gemm(Gemm { trans_b, folded_bias: false }), &operands)
}

/// A constant times a factor.
pub(super) fn scale(call: &mut Call, constant: &Const<f32>, factor: f64) -> Result<Const<f32>, Fault> {
    constant.map(&mut call.builder.budget, |v| Ok((f64::from(v) * factor) as f32))
}

/// The bias of every row, from any shape that broadcasts to it.
fn bias_row(call: &mut Call, bias: &Const<f32>, width: usize) -> Result<Const<f32>, Fault> {
    let row = match *bias.dims() {
        [] | [_] => bias.clone(),
        [1, n] => bias.reshape(vec![n])?,
        _ => {
            return Err(Fault::unsupported(format!(
                "got a bias of shape {:?}, expected one value per column ({width})",
                bias.dims()
            )));
        }
    };
    row.expand(vec![width], &mut call.builder.budget)
}

pub(crate) fn matmul(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let Value::Constant(Constant::Floats(weight)) = call.value(1)? else { return product::of_two(call) };
    // A weight of one matrix, whatever axes of size 1 are before it.
    let matrix = match *weight.dims() {
        [_, _] => Some(call.weight(1)?),
        [ref lead @ .., rows, columns] if lead.iter().all(|d| *d == 1) => {
            let matrix = weight.reshape(vec![rows, columns])?;
            Some(call.new_weight("weight", &matrix)?)
        }
        _ => None,
    };
    let x = call.data(0)?;
    match matrix {
        Some(w) if call.ty(x).rank() >= weight.dims().len() => call.emit(Op::MatMul, &[x, w]),
        _ => product::of_two(call),
    }
}
