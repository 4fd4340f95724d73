//! Operators of the domain `com.microsoft`, which ONNX Runtime writes into the graphs that it optimised.

use relc_ir::Op;
use relc_ir::op::{Activation, Arithmetic};

use super::activations;
use super::linear::{convolution, fully_connected};
use super::window::from_picture;
use crate::call::{Call, Value};
use crate::error::Fault;

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
    let (mut y, row) = convolution(call)?;
    if call.has(3) {
        let z = call.data(3)?;
        y = call.node(Op::Arithmetic(Arithmetic::Add), &[y, z])?;
    }
    if let Some(activation) = activation {
        y = call.node(Op::Activation(activation), &[y])?;
    }
    from_picture(call, y, row)
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
