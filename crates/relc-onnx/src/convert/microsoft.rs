//! Operators of the domain `com.microsoft`, which ONNX Runtime writes into the graphs that it optimised.

use relc_ir::Op;
use relc_ir::op::{Activation, Arithmetic};

use super::linear::{convolution, fully_connected};
use super::qoperator::matmul_to_float;
use super::{activations, quantize};
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::tensor::Constant;

/// What the attributes of a fused operator say happens to its result.
fn fused_activation(call: &Call, parameters: &[f32]) -> Result<Option<Activation>, Fault> {
    match call.attributes.string("activation")?.unwrap_or("") {
        "" => Ok(None),
        name => activations::named(name, parameters).map(Some),
    }
}

/// `Conv`, then `Add` of input 3, then an activation.
pub(crate) fn fused_conv(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=4)?;
    let parameters = call.attributes.floats("activation_params")?.unwrap_or_default();
    let activation = fused_activation(call, parameters)?;
    let mut y = convolution(call)?;
    if call.has(3) {
        let z = call.data(3)?;
        y = call.node(Op::Arithmetic(Arithmetic::Add), &[y, z])?;
    }
    if let Some(activation) = activation {
        y = call.node(Op::Activation(activation), &[y])?;
    }
    Ok(Value::Graph(y))
}

/// `Gemm`, then an activation.
pub(crate) fn fused_gemm(call: &mut Call) -> Result<Value, Fault> {
    let parameters = ["activation_alpha", "activation_beta"].map(|name| call.attributes.float(name));
    let [alpha, beta] = parameters;
    let parameters: Vec<f32> = [alpha?, beta?].into_iter().flatten().map(|v| v as f32).collect();
    let activation = fused_activation(call, &parameters)?;
    let y = fully_connected(call)?;
    match activation {
        Some(activation) => call.emit(Op::Activation(activation), &[y]),
        None => Ok(Value::Graph(y)),
    }
}

/// `Add` of a bias, then `Gelu`.
pub(crate) fn bias_gelu(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=2)?;
    let mut x = call.data(0)?;
    if call.has(1) {
        let bias = call.operand(1)?;
        x = call.node(Op::Arithmetic(Arithmetic::Add), &[x, bias])?;
    }
    call.emit(Op::Activation(Activation::Gelu { tanh: false }), &[x])
}

/// `Add` of a bias, then the approximation of `Gelu` by `tanh`.
pub(crate) fn fast_gelu(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=2)?;
    let mut x = call.data(0)?;
    if call.has(1) {
        let bias = call.operand(1)?;
        x = call.node(Op::Arithmetic(Arithmetic::Add), &[x, bias])?;
    }
    call.emit(Op::Activation(Activation::Gelu { tanh: true }), &[x])
}

/// `MatMul` with a weight of a few bits, whose columns are cut into blocks with a scale and a zero point each.
pub(crate) fn matmul_bits(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=6)?;
    call.attributes.ignore(&["accuracy_level"]);
    quantize::note(call);
    let size = |name: &str| {
        let stated = call.attributes.int(name)?.and_then(|v| usize::try_from(v).ok()).filter(|v| *v > 0);
        stated.ok_or_else(|| Fault::invalid(format!("the attribute \"{name}\" is missing or not positive")))
    };
    let (rows, columns, block) = (size("K")?, size("N")?, size("block_size")?);
    let per_byte = match call.attributes.int("bits")?.unwrap_or(4) {
        4 => 2,
        8 => 1,
        bits => return Err(Fault::unsupported(format!("got bits={bits}, expected 4 or 8"))),
    };
    if call.has(4) {
        return Err(Fault::unsupported("got indices of groups (input 4), expected blocks in order"));
    }
    let blocks = rows.div_ceil(block);
    let (weight, scale) = (call.ints(1)?.known()?, call.floats(2)?);
    let zeros = zero_points(call, columns, blocks, per_byte)?;
    let bytes = block.div_ceil(per_byte);
    let whole = columns.checked_mul(blocks);
    let fits = whole == Some(scale.data().len())
        && whole == Some(zeros.len())
        && whole.and_then(|n| n.checked_mul(bytes)) == Some(weight.len());
    if !fits {
        return Err(Fault::invalid(format!(
            "got {} bytes, {} scales and {} zero points for {columns} columns of {blocks} blocks of {bytes} bytes",
            weight.len(),
            scale.data().len(),
            zeros.len()
        )));
    }
    let count = call.builder.budget.fold::<f32>(&[rows, columns])?;
    let mut values = Vec::with_capacity(count);
    for row in 0..rows {
        for column in 0..columns {
            let at = column * blocks + row / block;
            let in_block = row % block;
            let byte = weight[at * bytes + in_block / per_byte];
            let q = if per_byte == 1 { byte } else { byte >> (4 * (in_block % 2)) & 15 };
            values.push((q as f32 - zeros[at]) * scale.data()[at]);
        }
    }
    let (a, b) = (Value::Graph(call.data(0)?), Const::new(vec![rows, columns], values)?.into());
    matmul_to_float(call, a, b, 5)
}

/// The zero point of each block of each column: input 3, whose columns begin with a byte of their own, or the middle.
fn zero_points(call: &Call, columns: usize, blocks: usize, per_byte: usize) -> Result<Vec<f32>, Fault> {
    if !call.has(3) {
        let middle = if per_byte == 1 { 128.0 } else { 8.0 };
        // As many as there are scales: their number is checked with the others.
        return Ok(vec![middle; call.floats(2)?.data().len()]);
    }
    let packed = match call.value(3)? {
        Value::Constant(Constant::Floats(c)) => return Ok(c.data().to_vec()),
        _ => call.ints(3)?.known()?,
    };
    let bytes = blocks.div_ceil(per_byte);
    if columns.checked_mul(bytes) != Some(packed.len()) {
        return Err(Fault::invalid(format!(
            "got {} bytes of zero points, expected {columns} columns of {bytes}",
            packed.len()
        )));
    }
    let halves = |column: &[i64]| {
        let halves = column.iter().flat_map(|byte| [byte & 15, byte >> 4]).take(blocks);
        halves.map(|q| q as f32).collect::<Vec<_>>()
    };
    Ok(match per_byte {
        1 => packed.iter().map(|byte| *byte as f32).collect(),
        _ => packed.chunks(bytes).flat_map(halves).collect(),
    })
}
