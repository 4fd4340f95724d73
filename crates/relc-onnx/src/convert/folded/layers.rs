//! Layers of tensors whose batch is not the first axis, or a factor of one.

use relc_ir::op::{Arithmetic, AveragePool, Conv, MaxPool, ReduceMean, Transpose, Window, WindowAxis};
use relc_ir::{Dim, Op, TensorType, ValueId};

use super::{Folded, View, aligned, graph_value, in_shape, product, read};
use crate::call::{Call, Value};
use crate::convert::einsum;
use crate::convert::linear::{group, scale};
use crate::convert::window::window;
use crate::error::Fault;
use crate::opset::OpSpec;

/// `MatMul`: of rows with a matrix, or of two tensors of matrices.
pub(super) fn matmul(call: &mut Call, spec: &OpSpec) -> Result<Value, Fault> {
    let (left, right) = (read(call, 0)?, read(call, 1)?);
    let refused = |view: &View| {
        Fault::unsupported(format!(
            "got [{}] in a product, expected the batch before the matrices",
            view.text()
        ))
    };
    let (view, columns) = match (left, right) {
        // Rows, whatever axes they have.
        (Some(Folded { value, view }), None) => {
            let weight = call.floats(1)?;
            let columns = weight.dims().last().copied().unwrap_or(1);
            if view.at + 1 == view.rank() {
                return Err(refused(&view));
            }
            call.set_input(0, Value::Graph(value));
            (view, columns)
        }
        (None, Some(Folded { value, view })) => {
            let rows = call.floats(0)?.dims().iter().rev().nth(1).copied().unwrap_or(1);
            if view.at + 2 >= view.rank() {
                return Err(refused(&view));
            }
            call.set_input(1, Value::Graph(value));
            let mut view = view;
            let columns = view.dims.pop().unwrap_or(1);
            view.dims.pop();
            view.dims.push(rows);
            view.dims.push(columns);
            (view, columns)
        }
        (Some(left), Some(right)) => {
            let rows = left.view.dims.iter().rev().nth(1).copied().unwrap_or(1);
            let columns = right.view.dims.last().copied().unwrap_or(1);
            // As arithmetic aligns them, but for the matrices themselves.
            let (given, place) = aligned(call)?;
            if place.at + 2 >= place.rank() {
                return Err(refused(&place));
            }
            let wide: Vec<View> = [&left, &right].map(|f| f.view.widened(place.rank())).to_vec();
            call.set_inputs(given.into_iter().map(Some).collect());
            let value = graph_value(product::of_two(call)?)?;
            let lead = place.rank() - 2;
            let size = |axis: usize| wide.iter().map(|view| view.dims[axis]).max().unwrap_or(1);
            let dims = (0..lead).map(size).chain([rows, columns]).collect();
            return Ok(View { dims, ..place }.of(value));
        }
        (None, None) => return Err(call.no_floats(0, "floats")),
    };
    let value = graph_value((spec.convert)(call)?)?;
    let mut view = view;
    if let Some(last) = view.dims.last_mut() {
        *last = columns;
    }
    Ok(view.of(value))
}

/// Other layers; none if the operator is none of them, or its tensor has its batch elsewhere than in its first axis.
pub(super) fn convert(
    call: &mut Call,
    spec: &OpSpec,
    value: ValueId,
    view: View,
) -> Result<Option<Value>, Fault> {
    if spec.op == "Einsum" && view.at + 1 < view.rank() {
        let weight = call.floats(1)?;
        let Some(matrix) = einsum::matrix(call, &weight)? else { return Ok(None) };
        let mut view = view;
        if let (Some(last), Some(columns)) = (view.dims.last_mut(), matrix.dims().last()) {
            *last = *columns;
        }
        let weight = call.new_weight("weight", &matrix)?;
        return Ok(Some(view.of(call.node(Op::MatMul, &[value, weight])?)));
    }
    if view.at != 0 {
        return Ok(None);
    }
    if spec.op == "Gemm" {
        return gemm(call, value, view).map(Some);
    }
    let spatial = view.rank().saturating_sub(2);
    let ty =
        TensorType::new(std::iter::once(Dim::Batch).chain(view.dims[1..].iter().copied().map(Dim::Fixed)));
    let y = match spec.op {
        "Conv" if spatial < relc_ir::op::MAX_SPATIAL => {
            let weight = call.floats(1)?;
            let [m, c, kernel @ ..] = weight.dims() else {
                return Err(Fault::invalid(format!(
                    "got a weight of shape {:?}, expected [M,C/group,..]",
                    weight.dims()
                )));
            };
            let window = raised(&window(call, &ty, Some(kernel))?);
            let raised = weight.reshape([&[*m, *c, 1], kernel].concat())?;
            let mut operands = vec![channels_first(call, value, &view)?, call.new_weight("weight", &raised)?];
            if call.has(2) {
                operands.push(call.weight(2)?);
            }
            call.node(Op::Conv(Conv { window, group: group(call)?, folded_bias: false }), &operands)?
        }
        "MaxPool" if spatial < relc_ir::op::MAX_SPATIAL => {
            call.attributes.ignore(&["storage_order"]);
            let window = raised(&window(call, &ty, None)?);
            let x = channels_first(call, value, &view)?;
            call.node(Op::MaxPool(MaxPool { window }), &[x])?
        }
        "AveragePool" if spatial < relc_ir::op::MAX_SPATIAL => {
            let count_include_pad = call.attributes.flag("count_include_pad")?;
            let window = raised(&window(call, &ty, None)?);
            let x = channels_first(call, value, &view)?;
            call.node(Op::AveragePool(AveragePool { window, count_include_pad }), &[x])?
        }
        "GlobalAveragePool" => {
            let x = channels_first(call, value, &view)?;
            let axes = (3..3 + spatial).collect();
            call.node(Op::ReduceMean(ReduceMean { axes, keepdims: true }), &[x])?
        }
        "BatchNormalization" => {
            let x = channels_first(call, value, &view)?;
            call.set_input(0, Value::Graph(x));
            graph_value((spec.convert)(call)?)?
        }
        _ => return Ok(None),
    };
    channels_back(call, y, view).map(Some)
}

/// A window that rests on one more axis, before the others.
fn raised(window: &Window) -> Window {
    let axes = std::iter::once(WindowAxis::ONE).chain(window.axes.iter().copied()).collect();
    Window { axes, ..*window }
}

/// The factors of the batch as one axis behind the channels: `[N,C,F,..]`.
fn channels_first(call: &mut Call, value: ValueId, view: &View) -> Result<ValueId, Fault> {
    let (factors, rest) = (view.before * view.after, view.dims[1..].iter().copied().map(Dim::Fixed));
    let merged = [Dim::Batch, Dim::Fixed(factors)].into_iter().chain(rest).collect();
    let value = in_shape(call, value, merged)?;
    call.node(Op::Transpose(Transpose { perm: swapped(view.rank()) }), &[value])
}

/// The order of axes that changes those behind the batch with each other.
fn swapped(rank: usize) -> Vec<usize> {
    [0, 2, 1].into_iter().chain(3..rank + 1).collect()
}

/// What a layer gave, `[N,M,F,..]`, as the tensor of the model `[F*N,M,..]`.
fn channels_back(call: &mut Call, y: ValueId, view: View) -> Result<Value, Fault> {
    let sizes = call.ty(y).bind(1);
    let [_, channels, factors, ref spatial @ ..] = sizes[..] else {
        return Err(Fault::invalid("the layer gave no channels"));
    };
    let y = call.node(Op::Transpose(Transpose { perm: swapped(spatial.len() + 2) }), &[y])?;
    let view = View { dims: [&[factors, channels], spatial].concat(), ..view };
    let y = in_shape(call, y, view.sizes())?;
    Ok(view.of(y))
}

/// `Gemm` of rows `[F*N,K]`.
fn gemm(call: &mut Call, value: ValueId, mut view: View) -> Result<Value, Fault> {
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let turned = call.attributes.flag("transB")?;
    if call.attributes.flag("transA")? || view.rank() != 2 {
        return Err(Fault::unsupported(format!("got [{}] with transA, expected rows [..,K]", view.text())));
    }
    let mut weight = call.floats(1)?;
    if turned {
        weight = weight.transpose(&[1, 0], &mut call.builder.budget)?;
    }
    let weight = scale(call, &weight, alpha)?;
    let columns = weight.dims().last().copied().unwrap_or(1);
    let weight = call.new_weight("weight", &weight)?;
    let mut y = call.node(Op::MatMul, &[value, weight])?;
    if call.has(2) && beta != 0.0 {
        let bias = call.floats(2)?;
        if bias.data().len() != columns {
            return Err(Fault::unsupported(format!(
                "got a bias of shape {:?}, expected one value per column ({columns})",
                bias.dims()
            )));
        }
        let bias = scale(call, &bias.reshape(vec![columns])?, beta)?;
        let bias = call.new_weight("bias", &bias)?;
        y = call.node(Op::Arithmetic(Arithmetic::Add), &[y, bias])?;
    }
    view.dims[1] = columns;
    Ok(view.of(y))
}
