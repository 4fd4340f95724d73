//! The network itself.

use relc_ir::op::{Activation, Arithmetic, AveragePool, MaxPool, MeanVarianceNormalization};
use relc_ir::{Dim, NodeId, Op, TensorType};

use crate::ExportError;
use crate::layer::Layer;
use crate::writer::{Writer, float, int, ints, window};

/// Writes a forward node.
pub(crate) fn write(w: &mut Writer<'_>, node: NodeId) -> Result<(), ExportError> {
    if w.graph.node(node).op == Op::Input {
        return Ok(());
    }
    let operands = w.operands(node)?;
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let x = operands.first().copied().unwrap_or_default();
    let types = w.graph.operands(node).into_iter().map(|v| w.graph.ty(v).clone()).collect::<Vec<_>>();
    let n = w.graph.node(node);
    let ty = n.types().first().cloned();
    let name = match &n.op {
        Op::Input | Op::Constant | Op::Relevance(_) => return Ok(()),
        Op::Conv(conv) => {
            let mut attributes = window(&conv.window);
            attributes.push(int("group", conv.group));
            w.op_with("Conv", &operands, attributes)
        }
        Op::Gemm(gemm) => w.op_with("Gemm", &operands, vec![int("transB", gemm.trans_b.into())]),
        Op::MatMul => w.op("MatMul", &operands),
        Op::BatchNormalization(op) => {
            w.op_with("BatchNormalization", &operands, vec![float("epsilon", op.epsilon)])
        }
        Op::MeanVarianceNormalization(op) => {
            let (centred, root) = standardise(w, op, x);
            w.op("Div", &[&centred, &root])
        }
        Op::Activation(op) => activation(w, op, x),
        Op::Arithmetic(Arithmetic::Add) if operands.len() > 2 => w.op("Sum", &operands),
        Op::Arithmetic(op) => w.op(op.onnx_name(), &operands),
        Op::MaxPool(pool) => {
            let size = types.first().map(spatial).unwrap_or_default();
            max_pool(w, pool, x, &size, 1).swap_remove(0)
        }
        Op::AveragePool(pool) if pool.window.ceil || pool.window.axes.iter().any(|a| a.dilation != 1) => {
            // What of a rounded-up window counts has changed between ONNX's versions; opset 17 has no dilations.
            let [Some(input), Some(output)] = [types.first(), ty.as_ref()] else { return Ok(()) };
            let layer = Layer::average(pool, input, output);
            layer.apply(w, relc_ir::rule::WeightPart::Raw, x)
        }
        Op::AveragePool(pool) => average_pool(w, pool, x),
        Op::GlobalAveragePool => w.op("GlobalAveragePool", &operands),
        Op::ReduceMean(op) => {
            let keepdims = int("keepdims", op.keepdims.into());
            w.op_with("ReduceMean", &operands, vec![ints("axes", &op.axes), keepdims])
        }
        Op::Softmax(op) => {
            let name = if op.log { "LogSoftmax" } else { "Softmax" };
            w.op_with(name, &operands, vec![int("axis", op.axis)])
        }
        Op::Reshape(op) => w.reshape(x, &op.shape),
        Op::Expand(op) => {
            let batched = types.first().is_some_and(|ty| ty.is_batched());
            if op.shape.first() == Some(&Dim::Batch) && !batched {
                let message = "got an Expand along the batch, expected a value that has it already".into();
                return Err(ExportError::Node { node: w.graph.describe(node), message });
            }
            w.expand(x, &op.shape)
        }
        Op::Transpose(op) => w.op_with("Transpose", &operands, vec![ints("perm", &op.perm)]),
        Op::Pad(op) => {
            let (pads, value) = (w.sizes(&op.pads), w.scalar(op.value));
            w.op("Pad", &[x, &pads, &value])
        }
        Op::Slice(op) => {
            let fixed = |d: &Dim| d.fixed().map_or(i64::MAX, |n| n as i64);
            let ends = op.sizes.iter().zip(&op.starts).zip(&op.steps);
            let ends: Vec<i64> = ends
                .map(|((size, start), step)| match fixed(size) {
                    i64::MAX => i64::MAX,
                    // -1 would be the last element.
                    size => match (size - 1) * *step as i64 + *start as i64 + step.signum() as i64 {
                        -1 => i64::MIN,
                        end => end,
                    },
                })
                .collect();
            let axes: Vec<usize> = (0..op.starts.len()).collect();
            let steps: Vec<i64> = op.steps.iter().map(|step| *step as i64).collect();
            let (starts, ends) = (w.sizes(&op.starts), w.integers(&ends));
            let (axes, steps) = (w.sizes(&axes), w.integers(&steps));
            w.op("Slice", &[x, &starts, &ends, &axes, &steps])
        }
        Op::Concat(op) => w.op_with("Concat", &operands, vec![int("axis", op.axis)]),
    };
    w.bind(node, [name]);
    Ok(())
}

/// A MaxPool; its second output is where each maximum came from, the first of equal ones. `size` is the input's.
pub(crate) fn max_pool(
    w: &mut Writer<'_>,
    pool: &MaxPool,
    x: &str,
    size: &[usize],
    outputs: usize,
) -> Vec<String> {
    let mut plain = pool.window;
    let mut ceil = false;
    // Older readers of ceil_mode keep a window that starts in the padding: without that padding, all drop it.
    for (axis, size) in plain.axes.iter_mut().zip(size).filter(|_| pool.window.ceil) {
        let down = axis.output_size(*size, false);
        if down != axis.output_size(*size, true) {
            ceil = true;
        } else if let Ok(down) = down {
            let used = (down - 1) * axis.stride + axis.extent();
            let end = used.saturating_sub(size + axis.pads[0]);
            axis.pads[1] = end.min(axis.pads[1]);
        }
    }
    let mut attributes = window(&plain);
    attributes.push(int("ceil_mode", ceil.into()));
    w.ops_with("MaxPool", &[x], attributes, outputs)
}

/// The sizes of the spatial axes.
pub(crate) fn spatial(ty: &TensorType) -> Vec<usize> {
    ty.spatial().unwrap_or_default()
}

/// An AveragePool whose sizes are not rounded up, without dilations.
fn average_pool(w: &mut Writer<'_>, pool: &AveragePool, x: &str) -> String {
    let mut attributes = window(&pool.window);
    attributes.truncate(3);
    attributes.push(int("count_include_pad", pool.count_include_pad.into()));
    w.op_with("AveragePool", &[x], attributes)
}

/// The operand less its mean, and the root of its variance.
pub(crate) fn standardise(w: &mut Writer<'_>, op: &MeanVarianceNormalization, x: &str) -> (String, String) {
    let mean = w.reduce_mean(x, &op.axes);
    let centred = w.op("Sub", &[x, &mean]);
    let square = w.op("Mul", &[&centred, &centred]);
    let variance = w.reduce_mean(&square, &op.axes);
    let epsilon = w.scalar(op.epsilon);
    let variance = w.op("Add", &[&variance, &epsilon]);
    let root = w.op("Sqrt", &[&variance]);
    (centred, root)
}

/// An elementwise function of one operand.
pub(crate) fn activation(w: &mut Writer<'_>, op: &Activation, x: &str) -> String {
    match *op {
        Activation::LeakyRelu { alpha } => w.op_with("LeakyRelu", &[x], vec![float("alpha", alpha)]),
        Activation::Elu { alpha } => w.op_with("Elu", &[x], vec![float("alpha", alpha)]),
        Activation::Celu { alpha } => w.op_with("Celu", &[x], vec![float("alpha", alpha)]),
        Activation::ThresholdedRelu { alpha } => {
            w.op_with("ThresholdedRelu", &[x], vec![float("alpha", alpha)])
        }
        Activation::Selu { alpha, gamma } => {
            w.op_with("Selu", &[x], vec![float("alpha", alpha), float("gamma", gamma)])
        }
        Activation::HardSigmoid { alpha, beta } => {
            w.op_with("HardSigmoid", &[x], vec![float("alpha", alpha), float("beta", beta)])
        }
        Activation::Clip { min, max } => {
            let mut bound = |v: f64, none: f64| if v == none { String::new() } else { w.scalar(v) };
            let (min, max) = (bound(min, f64::NEG_INFINITY), bound(max, f64::INFINITY));
            let operands = [x, &min, &max];
            let given = operands.iter().rposition(|name| !name.is_empty()).map_or(1, |last| last + 1);
            w.op("Clip", &operands[..given])
        }
        Activation::Swish { alpha } => {
            let slope = w.scaled(x, alpha);
            let gate = w.op("Sigmoid", &[&slope]);
            w.op("Mul", &[x, &gate])
        }
        Activation::Gelu { tanh } => {
            let inner = if tanh { gelu_inner(w, x) } else { w.scaled(x, std::f64::consts::FRAC_1_SQRT_2) };
            let bent = w.op(if tanh { "Tanh" } else { "Erf" }, &[&inner]);
            let one = w.scalar(1.0);
            let gate = w.op("Add", &[&bent, &one]);
            let product = w.op("Mul", &[x, &gate]);
            w.scaled(&product, 0.5)
        }
        Activation::Mish => {
            let softplus = w.op("Softplus", &[x]);
            let gate = w.op("Tanh", &[&softplus]);
            w.op("Mul", &[x, &gate])
        }
        Activation::Dropout => w.op("Identity", &[x]),
        _ => w.op(op.onnx_name(), &[x]),
    }
}

/// `sqrt(2 / pi) (x + 0.044715 x^3)`.
pub(crate) fn gelu_inner(w: &mut Writer<'_>, x: &str) -> String {
    let square = w.op("Mul", &[x, x]);
    let cube = w.op("Mul", &[&square, x]);
    let cube = w.scaled(&cube, 0.044715);
    let sum = w.op("Add", &[x, &cube]);
    w.scaled(&sum, std::f64::consts::FRAC_2_PI.sqrt())
}
