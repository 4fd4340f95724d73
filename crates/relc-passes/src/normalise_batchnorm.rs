//! `normalise-batchnorm`: BatchNormalization stays a layer of its own, or goes into the layer before it.

use relc_ir::op::{Arithmetic, BatchNormalization, Conv, Gemm};
use relc_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId, Weight};
use relc_rules::BatchNormPolicy;

use crate::channels::{Channels, axis_of, channels};
use crate::error::PassError;
use crate::manager::{Pass, forward_order, ir};
use relc_ir::remark::{PassRecord, Remark, RemarkKind, Remarks};

const NAME: &str = "normalise-batchnorm";

/// With the policy `fold`, merges each BatchNormalization into the `Conv` or `Gemm` before it, also where Reshapes,
/// Transposes and Slices lie between:
/// `w' = w * scale / sqrt(var + epsilon)`, `b' = (b - mean) * scale / sqrt(var + epsilon) + bias`, in f64. The same holds
/// for one that an exporter wrote as a constant Mul and Add.
///
/// The new bias is marked: it stays out of denominators but where a rule asks for all biases (`bias = "all"`).
pub struct NormaliseBatchnorm {
    /// What to do.
    pub policy: BatchNormPolicy,
}

impl Pass for NormaliseBatchnorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "keep BatchNormalization, or fold it into the Conv or Gemm before it"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        let (mut negative, mut left) = (0, Vec::new());
        for node in forward_order(graph, NAME)? {
            let Op::BatchNormalization(norm) = graph.node(node).op else {
                // zennit knows modules, not what is written out.
                if self.policy == BatchNormPolicy::Fold {
                    negative += fold_written_out(graph, node, remarks)?;
                }
                continue;
            };
            negative += negative_scales(graph, node);
            if self.policy == BatchNormPolicy::Keep {
                remarks.missed(graph.describe(node), "kept, as the policy says");
                continue;
            }
            match foldable(graph, node) {
                Ok(channels) => {
                    let label = graph.describe(node);
                    let affine = Affine::of(graph, node, norm)?;
                    let unit = (self.policy == BatchNormPolicy::FoldAsZennit).then_some(norm);
                    let folded = fold(graph, channels, node, &affine, unit)?;
                    remarks.applied(label, format!("folded into {}", graph.describe(folded)));
                }
                Err(reason) => {
                    left.push((graph.describe(node), reason.clone()));
                    remarks.missed(graph.describe(node), reason);
                }
            }
        }
        if !left.is_empty() {
            say_unfolded(&left, remarks);
        }
        if negative > 0 {
            say_signs(self.policy, negative, remarks);
        }
        graph.remove_dead();
        Ok(())
    }
}

/// Of what a pipeline's passes said: each BatchNormalization that stays though `policy` is to fold it, and why.
pub fn unfolded(passes: &[PassRecord], policy: BatchNormPolicy) -> impl Iterator<Item = &Remark> {
    let folds = policy != BatchNormPolicy::Keep;
    let said = passes.iter().filter(move |p| folds && p.name == NAME).flat_map(|p| &p.remarks);
    said.filter(|r| r.kind == RemarkKind::Missed && !r.node.is_empty())
}

/// One warning for all, however many there are.
fn say_unfolded(left: &[(String, String)], remarks: &mut Remarks) {
    let first = left.first().map(|(node, reason)| format!("{node} {reason}")).unwrap_or_default();
    let message = format!(
        "{} BatchNormalization(s) stay, though the preset folds them: {first}{}",
        left.len(),
        if left.len() > 1 { ", ... (relc check and --explain-rules name all)" } else { "" }
    );
    remarks.warning("", message);
}

/// How many channels a normalisation turns around; 0 if its scale is not known.
fn negative_scales(graph: &Graph, norm: NodeId) -> usize {
    let scale = graph.operands(norm).get(1).and_then(|v| graph.weight(*v)).and_then(Weight::data);
    scale.map_or(0, |scale| scale.iter().filter(|s| **s < 0.0).count())
}

/// Why the map of the same network, folded or not, may differ.
fn say_signs(policy: BatchNormPolicy, negative: usize, remarks: &mut Remarks) {
    let channels = format!("{negative} channel(s) of BatchNormalizations have a negative scale");
    match policy {
        BatchNormPolicy::Keep => remarks.missed(
            "",
            format!(
                "{channels}: where they are folded, by relc or by an exporter, their weights change sign, and rules \
                 that part positive from negative weights give another map"
            ),
        ),
        BatchNormPolicy::Fold => remarks.warning(
            "",
            format!(
                "{channels}: folding changes the sign of their weights, so rules that part positive from negative \
                 weights give another map than with --batchnorm keep"
            ),
        ),
        // Folding is part of the preset whose numbers are reproduced.
        BatchNormPolicy::FoldAsZennit => remarks.applied("", format!("{channels}: their weights change sign")),
    }
}

/// The layer before the normalisation, if it can take it in.
fn foldable(graph: &Graph, norm: NodeId) -> Result<Channels, String> {
    let Some(&x) = graph.operands(norm).first() else { return Err("has no operand".into()) };
    channels(graph, x, 1)
}

/// A weight's values in f64.
fn values(graph: &Graph, value: ValueId) -> Result<Vec<f64>, PassError> {
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    let weight =
        graph.weight(value).ok_or_else(|| malformed(format!("{} is no weight", graph.label(value))))?;
    let data = weight.data().ok_or_else(|| {
        malformed(format!("weight \"{}\" has no data (the graph came from text)", weight.name()))
    })?;
    Ok(data.iter().map(|v| f64::from(*v)).collect())
}

/// What a normalisation does to each channel: `x * factor + shift`.
struct Affine {
    factor: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn of(graph: &Graph, norm: NodeId, op: BatchNormalization) -> Result<Affine, PassError> {
        let parameters = graph.operands(norm);
        let parameter = |i: usize| values(graph, parameters[i]);
        let (scale, bias, mean, var) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let factor: Vec<f64> = scale.iter().zip(&var).map(|(s, v)| s / (v + op.epsilon).sqrt()).collect();
        if let Some(i) = factor.iter().position(|f| !f.is_finite()) {
            let (v, e) = (var[i], op.epsilon);
            let message = format!(
                "{}: channel {i}: got var={v}, epsilon={e}, expected a positive sum",
                graph.describe(norm)
            );
            return Err(PassError::Malformed { pass: NAME, message });
        }
        let shift = bias.iter().zip(&mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        Ok(Affine { factor, shift })
    }
}

/// The other operand of an Add or Mul by a constant that differs along one axis at most, the constant, and that axis (of a
/// scalar, the channels'). None where the constant's values are not known or the output has another shape.
fn constant_operand(graph: &Graph, node: NodeId) -> Option<(ValueId, ValueId, usize)> {
    let &[a, b] = &graph.operands(node)[..] else { return None };
    let (x, constant) = match (graph.weight(a), graph.weight(b)) {
        (None, Some(_)) => (a, b),
        (Some(_), None) => (b, a),
        _ => return None,
    };
    graph.weight(constant)?.data()?;
    let axis = axis_of(graph, constant, x)?;
    (graph.ty(x) == graph.ty(ValueId { node, port: 0 })).then_some((x, constant, axis))
}

/// Folds a Mul by a constant of each channel and an Add of another, if `add` is their end and a layer lies before them;
/// returns how many channels it turns around.
fn fold_written_out(graph: &mut Graph, add: NodeId, remarks: &mut Remarks) -> Result<usize, PassError> {
    let is = |graph: &Graph, node: NodeId, op| graph.node(node).op == Op::Arithmetic(op);
    if !is(graph, add, Arithmetic::Add) {
        return Ok(0);
    }
    let Some((product, shift, axis)) = constant_operand(graph, add) else { return Ok(0) };
    let alone = graph.users(product).len() == 1 && graph.outputs().iter().all(|(_, v)| *v != product);
    if !alone || !is(graph, product.node, Arithmetic::Mul) {
        return Ok(0);
    }
    let Some((x, factor, of_factor)) = constant_operand(graph, product.node) else { return Ok(0) };
    let Ok(channels) = channels(graph, x, axis) else { return Ok(0) };
    if of_factor != axis {
        return Ok(0);
    }
    let spread = |constant| -> Result<Vec<f64>, PassError> {
        let known = values(graph, constant)?;
        Ok(if let [scalar] = known[..] { vec![scalar; channels.count] } else { known })
    };
    let affine = Affine { factor: spread(factor)?, shift: spread(shift)? };
    let label = graph.describe(add);
    // What follows the Mul follows its operand, so that the Add is all that is left to fold away.
    graph.replace_uses(product, x);
    graph.remove(product.node).map_err(ir(NAME))?;
    let folded = fold(graph, channels, add, &affine, None)?;
    remarks.applied(label, format!("folded with the Mul before it into {}", graph.describe(folded)));
    Ok(affine.factor.iter().filter(|factor| **factor < 0.0).count())
}

/// Puts a new layer in the place of both, and returns it; with `unit`, a normalisation with unit statistics follows.
fn fold(
    graph: &mut Graph,
    channels: Channels,
    norm: NodeId,
    affine: &Affine,
    unit: Option<BatchNormalization>,
) -> Result<NodeId, PassError> {
    let layer = channels.layer;
    let malformed = |message| PassError::Malformed { pass: NAME, message };
    let operands = graph.operands(layer);
    let mut weight = values(graph, operands[1])?;
    let columns_are_outputs = matches!(graph.node(layer).op, Op::Gemm(Gemm { trans_b: false, .. }));
    let layer_output = ValueId { node: layer, port: 0 };
    let outputs = graph.ty(layer_output).dims().get(1).and_then(|d| d.fixed()).unwrap_or(0);
    let per_output = weight.len() / outputs.max(1);
    for (i, w) in weight.iter_mut().enumerate() {
        let output = if columns_are_outputs { i % outputs } else { i / per_output };
        *w *= affine.factor[channels.of(output)];
    }
    let old_bias = operands.get(2).map(|b| values(graph, *b)).transpose()?.unwrap_or(vec![0.0; outputs]);
    let folded_bias = |(output, old): (usize, &f64)| {
        let c = channels.of(output);
        (old * affine.factor[c] + affine.shift[c]) as f32
    };
    let new_bias: Vec<f32> = old_bias.iter().enumerate().map(folded_bias).collect();

    let base = graph.weight(operands[1]).map(|w| w.name().to_string()).unwrap_or_default();
    let ty = graph.ty(operands[1]).clone();
    let add = |graph: &mut Graph, suffix: &str, ty: TensorType, data: Vec<f32>| {
        let name = graph.fresh_weight_name(&format!("{base}.{suffix}"));
        let weight = Weight::new(name, ty, data).map_err(malformed)?;
        graph.add_weight(weight).map_err(ir(NAME))
    };
    let weight = add(graph, "folded", ty, weight.into_iter().map(|w| w as f32).collect())?;
    let bias = add(graph, "folded_bias", TensorType::new([Dim::Fixed(outputs)]), new_bias)?;
    let new_op = match graph.node(layer).op.clone() {
        Op::Conv(conv) => Op::Conv(Conv { folded_bias: true, ..conv }),
        Op::Gemm(gemm) => Op::Gemm(Gemm { folded_bias: true, ..gemm }),
        other => other,
    };
    let name = graph.node(layer).name.clone();
    let folded = graph.add_node(new_op, &name, &[operands[0], weight, bias]).map_err(ir(NAME))?;
    let result = ValueId { node: folded, port: 0 };
    // The moves between layer and normalisation stay behind the new layer.
    graph.replace_uses(layer_output, result);
    graph.remove(layer).map_err(ir(NAME))?;
    let is_weight = |v: &ValueId| graph.weight(*v).is_some();
    let operands = graph.operands(norm);
    let mut normalised =
        operands.iter().copied().find(|v| !is_weight(v)).ok_or_else(|| malformed("no operand".into()))?;
    if let Some(op) = unit {
        let ty = TensorType::new([Dim::Fixed(channels.count)]);
        let ones = add(graph, "unit", ty.clone(), vec![1.0; channels.count])?;
        let zeros = add(graph, "zero", ty, vec![0.0; channels.count])?;
        let name = graph.node(norm).name.clone();
        let operands = [normalised, ones, zeros, zeros, ones];
        let unit = graph.add_node(Op::BatchNormalization(op), &name, &operands).map_err(ir(NAME))?;
        normalised = ValueId { node: unit, port: 0 };
    }
    graph.replace_uses(ValueId { node: norm, port: 0 }, normalised);
    graph.remove(norm).map_err(ir(NAME))?;
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::PassManager;
    use relc_ir::op::Window;

    fn add(graph: &mut Graph, name: &str, dims: &[usize], values: &[f32]) -> ValueId {
        let ty = TensorType::new(dims.iter().copied());
        graph.add_weight(Weight::new(name, ty, values.to_vec()).unwrap()).unwrap()
    }

    /// A layer of two output channels, normalised with the factors 2 / sqrt(3.75 + 0.25) = 1 and
    /// -6 / sqrt(8.75 + 0.25) = -2.
    fn normalised(layer: impl Fn(&mut Graph) -> NodeId) -> Graph {
        normalised_by(BatchNormPolicy::Fold, layer)
    }

    fn normalised_by(policy: BatchNormPolicy, layer: impl Fn(&mut Graph) -> NodeId) -> Graph {
        let mut g = Graph::new("t");
        let layer = layer(&mut g);
        let scale = add(&mut g, "scale", &[2], &[2.0, -6.0]);
        let bias = add(&mut g, "bias", &[2], &[10.0, 20.0]);
        let mean = add(&mut g, "mean", &[2], &[1.0, 2.0]);
        let var = add(&mut g, "var", &[2], &[3.75, 8.75]);
        let op = Op::BatchNormalization(BatchNormalization { epsilon: 0.25 });
        let x = ValueId { node: layer, port: 0 };
        let norm = g.add_node(op, "bn", &[x, scale, bias, mean, var]).unwrap();
        g.add_output("y", ValueId { node: norm, port: 0 });
        let records = PassManager::new(vec![Box::new(NormaliseBatchnorm { policy })]);
        let records = records.run(&mut g, |_, _| {}).unwrap();
        let mut said = records.iter().flat_map(|r| &r.remarks).map(ToString::to_string);
        assert!(said.any(|r| r.contains("1 channel(s) of BatchNormalizations have a negative scale")));
        g
    }

    #[track_caller]
    fn check(graph: &Graph, weight: &[f32], bias: &[f32]) {
        let layer = graph.outputs()[0].1.node;
        let operands = graph.operands(layer);
        let data = |i: usize| graph.weight(operands[i]).unwrap().data().unwrap().to_vec();
        assert_eq!(data(1), weight);
        assert_eq!(data(2), bias);
        assert_eq!(graph.weights().count(), 2, "the old weights are gone");
        let folded = match graph.node(layer).op {
            Op::Conv(conv) => conv.folded_bias,
            Op::Gemm(gemm) => gemm.folded_bias,
            _ => false,
        };
        assert!(folded);
    }

    #[test]
    fn a_convolution_with_a_bias() {
        let graph = normalised(|g| {
            let x = g.add_input("x", TensorType::batched(&[1, 4, 4])).unwrap();
            let w = add(g, "w", &[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
            let b = add(g, "b", &[2], &[5.0, 7.0]);
            let window = Window::new([1, 2], [1, 1]);
            let conv = Op::Conv(Conv { window, group: 1, folded_bias: false });
            g.add_node(conv, "conv", &[x, w, b]).unwrap()
        });
        // (5 - 1) * 1 + 10 and (7 - 2) * -2 + 20.
        check(&graph, &[1.0, 2.0, -6.0, -8.0], &[14.0, 10.0]);
    }

    #[test]
    fn a_fully_connected_layer_of_either_orientation() {
        for (trans_b, dims, values, folded) in [
            (true, [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, -8.0, -10.0, -12.0]),
            (false, [3, 2], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [1.0, -8.0, 2.0, -10.0, 3.0, -12.0]),
        ] {
            let graph = normalised(|g| {
                let x = g.add_input("x", TensorType::batched(&[3])).unwrap();
                let w = add(g, "w", &dims, &values);
                g.add_node(Op::Gemm(Gemm { trans_b, folded_bias: false }), "fc", &[x, w]).unwrap()
            });
            // (0 - 1) * 1 + 10 and (0 - 2) * -2 + 20.
            check(&graph, &folded, &[9.0, 24.0]);
        }
    }

    /// A convolution of the weights 1 and 2 on pictures of 2 x 2, what `moves` makes of it, and `x * scale + shift` of that.
    fn written_out(
        policy: BatchNormPolicy,
        shapes: [&[usize]; 2],
        moves: impl Fn(&mut Graph, ValueId) -> ValueId,
    ) -> (Graph, Vec<String>) {
        let mut g = Graph::new("t");
        let x = g.add_input("x", TensorType::batched(&[1, 2, 2])).unwrap();
        let w = add(&mut g, "w", &[2, 1, 1, 1], &[1.0, 2.0]);
        let b = add(&mut g, "b", &[2], &[5.0, 7.0]);
        let conv = Op::Conv(Conv { window: Window::new([1, 1], [1, 1]), group: 1, folded_bias: false });
        let conv = g.add_node(conv, "conv", &[x, w, b]).unwrap();
        let x = moves(&mut g, ValueId { node: conv, port: 0 });
        let values = |shape: &[usize], values: &[f32]| values[..shape.iter().product()].to_vec();
        let scale = add(&mut g, "scale", shapes[0], &values(shapes[0], &[3.0, -1.0]));
        let shift = add(&mut g, "shift", shapes[1], &values(shapes[1], &[10.0, 20.0]));
        let mul = g.add_node(Op::Arithmetic(Arithmetic::Mul), "mul", &[scale, x]).unwrap();
        let mul = ValueId { node: mul, port: 0 };
        let sum = g.add_node(Op::Arithmetic(Arithmetic::Add), "add", &[mul, shift]).unwrap();
        g.add_output("y", ValueId { node: sum, port: 0 });
        let records = PassManager::new(vec![Box::new(NormaliseBatchnorm { policy })]).run(&mut g, |_, _| {});
        let said = records.unwrap().iter().flat_map(|r| &r.remarks).map(ToString::to_string).collect();
        (g, said)
    }

    #[test]
    fn a_normalisation_that_is_written_as_mul_and_add() {
        let stay = |_: &mut Graph, x| x;
        let nhwc = |g: &mut Graph, x| {
            let transpose = Op::Transpose(relc_ir::op::Transpose { perm: vec![0, 2, 3, 1] });
            ValueId { node: g.add_node(transpose, "nhwc", &[x]).unwrap(), port: 0 }
        };
        let layer = |graph: &Graph| {
            let mut convs = graph.node_ids().filter(|id| matches!(graph.node(*id).op, Op::Conv(_)));
            let operands = graph.operands(convs.next().unwrap());
            [1, 2].map(|i| graph.weight(operands[i]).unwrap().data().unwrap().to_vec())
        };
        let is_add = |graph: &Graph, id| graph.node(id).op == Op::Arithmetic(Arithmetic::Add);
        let adds = |graph: &Graph| graph.node_ids().any(|id| is_add(graph, id));
        let per_channel = [vec![3.0, -2.0], vec![25.0, 13.0]];
        for (shapes, expected) in [
            ([&[1, 2, 1, 1][..], &[1, 2, 1, 1]], per_channel.clone()),
            ([&[2, 1, 1], &[2, 1, 1]], per_channel.clone()),
            ([&[1], &[2, 1, 1]], [vec![3.0, 6.0], vec![25.0, 41.0]]),
            ([&[2, 1, 1], &[1]], [vec![3.0, -2.0], vec![25.0, 3.0]]),
        ] {
            let (graph, said) = written_out(BatchNormPolicy::Fold, shapes, stay);
            assert!(!adds(&graph), "{graph}");
            assert_eq!(layer(&graph), expected, "{shapes:?}");
            let turned =
                said.iter().any(|s| s.contains("1 channel(s) of BatchNormalizations have a negative scale"));
            assert_eq!(turned, shapes[0] != [1], "{said:?}");
        }
        let (graph, _) = written_out(BatchNormPolicy::Fold, [&[2], &[2]], nhwc);
        assert!(!adds(&graph) && layer(&graph) == per_channel, "{graph}");
        // Columns are no channels, rows and channels are two axes, and zennit knows modules alone.
        for (policy, shapes) in [
            (BatchNormPolicy::Fold, [&[2][..], &[2]]),
            (BatchNormPolicy::Fold, [&[2, 1, 1], &[2, 1]]),
            (BatchNormPolicy::FoldAsZennit, [&[2, 1, 1], &[2, 1, 1]]),
        ] {
            assert!(adds(&written_out(policy, shapes, stay).0), "{policy:?} {shapes:?}");
        }
        let seen = |g: &mut Graph, x| {
            g.add_output("z", x);
            x
        };
        assert!(
            adds(&written_out(BatchNormPolicy::Fold, [&[2, 1, 1]; 2], seen).0),
            "the layer's output is asked for"
        );
    }

    #[test]
    fn zennit_leaves_unit_statistics_and_the_epsilon() {
        let graph = normalised_by(BatchNormPolicy::FoldAsZennit, |g| {
            let x = g.add_input("x", TensorType::batched(&[3])).unwrap();
            let w = add(g, "w", &[2, 3], &[1.0; 6]);
            g.add_node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), "fc", &[x, w]).unwrap()
        });
        let norm = graph.outputs()[0].1.node;
        assert_eq!(graph.node(norm).op, Op::BatchNormalization(BatchNormalization { epsilon: 0.25 }));
        let operands = graph.operands(norm);
        let data = |i: usize| graph.weight(operands[i]).unwrap().data().unwrap().to_vec();
        assert_eq!(
            [data(1), data(2), data(3), data(4)],
            [vec![1.0; 2], vec![0.0; 2], vec![0.0; 2], vec![1.0; 2]]
        );
        assert!(matches!(graph.node(operands[0].node).op, Op::Gemm(Gemm { folded_bias: true, .. })));
    }
}
