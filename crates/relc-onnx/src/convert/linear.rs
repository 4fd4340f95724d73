//! `Conv`, `Gemm` and `MatMul`: the layers with weights.

use relc_ir::Op;
use relc_ir::op::{Conv, Gemm};

use super::window::window;
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;

pub(crate) fn conv(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    if ty.rank() != 4 {
        return Err(Fault::unsupported(format!("got an input {ty}, expected f32[N,C,H,W]")));
    }
    let weight = call.floats(1)?;
    let &[_, _, h, w] = weight.dims() else {
        return Err(Fault::invalid(format!(
            "got a weight of shape {:?}, expected [M,C/group,kH,kW]",
            weight.dims()
        )));
    };
    let group = call.attributes.int("group")?.unwrap_or(1);
    let group = usize::try_from(group)
        .ok()
        .filter(|g| *g > 0)
        .ok_or_else(|| Fault::invalid(format!("got group={group}, expected at least 1")))?;
    let window = window(call, &ty, Some([h, w]))?;
    let mut operands = vec![x, call.weight(1)?];
    if call.has(2) {
        operands.push(call.weight(2)?);
    }
    call.emit(Op::Conv(Conv { window, group, folded_bias: false }), &operands)
}

/// `alpha * x * w + beta * c`, with both factors folded into the constants.
pub(crate) fn gemm(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let (trans_a, trans_b) = (call.attributes.flag("transA")?, call.attributes.flag("transB")?);
    if trans_a {
        return Err(Fault::unsupported("got transA=1 on a tensor that depends on the model's input"));
    }
    let x = call.data(0)?;
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
    call.emit(Op::Gemm(Gemm { trans_b, folded_bias: false }), &operands)
}

fn scale(call: &mut Call, constant: &Const<f32>, factor: f64) -> Result<Const<f32>, Fault> {
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
    let x = call.data(0)?;
    let weight = call.floats(1)?;
    if weight.dims().len() != 2 {
        return Err(Fault::unsupported(format!(
            "got a weight of shape {:?}, expected two dimensions",
            weight.dims()
        )));
    }
    let w = call.weight(1)?;
    call.emit(Op::MatMul, &[x, w])
}
