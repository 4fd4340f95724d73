//! Forward nodes.

use relc_ir::op::{Arithmetic, AveragePool, LinearLayer, MeanVarianceNormalization, Relevance};
use relc_ir::rule::WeightPart;
use relc_ir::{NodeId, Op, ValueId as GraphValue};

use super::layer::Layer;
use super::moves::{expand, sample_dims};
use super::{Builder, First, batch, image, whole};
use crate::conv::Direction;
use crate::error::LowerError;
use crate::op::{ConvOp, Epilogue, Exactness, ProductSigns, StepOp};
use crate::program::ValueId;

impl Builder<'_> {
    /// Lowers a forward node.
    pub(super) fn forward(&mut self, node: NodeId) -> Result<(), LowerError> {
        let operands = self.graph.operands(node);
        match self.graph.node(node).op.clone() {
            Op::Input => self.value(node.first()).map(drop),
            Op::Conv(_) | Op::Gemm(_) => self.conv(node),
            Op::BatchNormalization(op) => {
                let parameter = |i: usize| self.weight_data(node, operands[i]);
                let (scale, bias, mean, var) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
                let factor: Vec<f64> = scale
                    .iter()
                    .zip(&*var)
                    .map(|(s, v)| f64::from(*s) / (f64::from(*v) + op.epsilon).sqrt())
                    .collect();
                let shift = factor
                    .iter()
                    .zip(bias.iter().zip(&*mean))
                    .map(|(f, (b, m))| f64::from(*b) - f64::from(*m) * f);
                let shift = shift.collect();
                self.affine(node, operands[0], factor, shift)
            }
            Op::Activation(activation) => {
                let (x, y) = (self.value(operands[0])?, self.value(node.first())?);
                self.step(StepOp::Activation(activation), vec![x], y);
                Ok(())
            }
            Op::MeanVarianceNormalization(op) => self.standardised(node, &op),
            Op::Arithmetic(op) => self.arithmetic(node, op),
            Op::MaxPool(pool) => self.unary(node, StepOp::MaxPool(pool)),
            Op::AveragePool(pool) => self.unary(node, StepOp::AveragePool(pool)),
            Op::GlobalAveragePool => {
                let window = whole(image(self.graph.ty(operands[0])));
                self.unary(node, StepOp::AveragePool(AveragePool { window, count_include_pad: false }))
            }
            Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) | Op::Slice(_) | Op::Pad(_) | Op::Concat(_) => {
                self.moves(node)
            }
            _ => self.interpret(node),
        }
    }

    /// A step of the node's first operand.
    fn unary(&mut self, node: NodeId, op: StepOp) -> Result<(), LowerError> {
        let (x, y) = (self.value(self.graph.operands(node)[0])?, self.value(node.first())?);
        self.step(op, vec![x], y);
        Ok(())
    }

    /// Statistics over the last axes are those of runs of elements; of others the interpreter takes them.
    fn standardised(&mut self, node: NodeId, op: &MeanVarianceNormalization) -> Result<(), LowerError> {
        let x = self.graph.operands(node)[0];
        let ty = self.graph.ty(x);
        let first = ty.rank() - op.axes.len();
        if !op.axes.iter().copied().eq(first..ty.rank()) {
            return self.interpret(node);
        }
        let runs = ty.dims()[1..first].iter().map(|d| d.bind(1)).product();
        self.unary(node, StepOp::Standardise { runs, epsilon: op.epsilon })
    }

    fn conv(&mut self, node: NodeId) -> Result<(), LowerError> {
        let operands = self.graph.operands(node);
        let Some(layer) = self.layer_of(node)? else { return self.interpret(node) };
        let (x, y) = (self.value(operands[0])?, self.value(node.first())?);
        let mut constants = vec![self.weight(node, operands[1])?];
        let epilogue = match operands.get(2) {
            Some(bias) => {
                constants.push(self.weight(node, *bias)?);
                Epilogue::Activate { bias: true, residual: false, joined: false, relu: false }
            }
            None => Epilogue::None,
        };
        let op = ConvOp {
            spec: layer.spec,
            direction: Direction::Forward,
            weights: layer.weights(WeightPart::Raw, 0.0),
            exactness: if self.is_divided_by(node) { Exactness::Divisor } else { Exactness::Plain },
            signs: ProductSigns::Mixed,
            algorithm: None,
            epilogue,
        };
        self.push(StepOp::Conv(Box::new(op)), vec![x], constants, vec![y]);
        Ok(())
    }

    /// Whether a rule divides by the layer's output, which then has to be exact.
    fn is_divided_by(&self, node: NodeId) -> bool {
        self.graph.users(node.first()).iter().any(|(user, operand)| match &self.graph.node(*user).op {
            Op::Relevance(Relevance::Linear { rule, .. }) => {
                rule.reads_output() && *operand + 1 == self.graph.operands(*user).len()
            }
            _ => false,
        })
    }

    /// `y = x * scale + shift` per channel.
    fn affine(
        &mut self,
        node: NodeId,
        x: GraphValue,
        scale: Vec<f64>,
        shift: Vec<f64>,
    ) -> Result<(), LowerError> {
        let (x, y) = (self.value(x)?, self.value(node.first())?);
        let constants =
            vec![self.per_channel(node, "scale", scale)?, self.per_channel(node, "shift", shift)?];
        self.push(StepOp::Affine { relu: false }, vec![x], constants, vec![y]);
        Ok(())
    }

    fn arithmetic(&mut self, node: NodeId, op: Arithmetic) -> Result<(), LowerError> {
        let out = node.first();
        let data = self.graph.data_operands(node);
        let operands = self.graph.operands(node);
        let same = data.iter().all(|(_, v)| self.graph.ty(*v) == self.graph.ty(out));
        match (op, &data[..]) {
            (Arithmetic::Add, [_, _, ..]) if same && data.len() == operands.len() => {
                let parts = self.values(&operands)?;
                let y = self.value(out)?;
                self.add(&parts, y);
                Ok(())
            }
            (_, [(index, x)]) if same && operands.len() == 2 => {
                let Some(constant) = self.channel_constant(node, operands[1 - index], *x)? else {
                    return self.interpret(node);
                };
                let n = constant.len();
                let negative = |c: &[f64]| c.iter().map(|v| -v).collect::<Vec<f64>>();
                let (scale, shift) = match (op, index) {
                    (Arithmetic::Add, _) => (vec![1.0; n], constant),
                    (Arithmetic::Sub, 0) => (vec![1.0; n], negative(&constant)),
                    (Arithmetic::Sub, _) => (vec![-1.0; n], constant),
                    (Arithmetic::Mul, _) => (constant, vec![0.0; n]),
                    (Arithmetic::Div, 0) => {
                        (constant.iter().map(|v| f64::from(1.0 / *v as f32)).collect(), vec![0.0; n])
                    }
                    _ => return self.interpret(node),
                };
                self.affine(node, *x, scale, shift)
            }
            // Not quotients: beyond the last channel both are 0.
            (Arithmetic::Add | Arithmetic::Sub | Arithmetic::Mul, [(_, left), (_, right)])
                if operands.len() == 2 && [*left, *right].into_iter().all(|v| self.broadcasts(v, out)) =>
            {
                let reads = vec![self.broadcast(*left, out)?, self.broadcast(*right, out)?];
                let y = self.value(out)?;
                self.step(StepOp::Binary { op, relu: false }, reads, y);
                Ok(())
            }
            _ => self.interpret(node),
        }
    }

    /// Whether a value has as many axes as another, and each as long or of one element.
    fn broadcasts(&self, value: GraphValue, to: GraphValue) -> bool {
        let [value, to] = [value, to].map(|v| self.graph.ty(v));
        batch(value) == batch(to)
            && value.rank() == to.rank()
            && value.dims().iter().zip(to.dims()).all(|(from, to)| from == to || from.bind(2) == 1)
    }

    /// A value as an operand of [`StepOp::Binary`]: as it is, where it has all pixels or is one for each slice (a gate
    /// `f32[N,C,1,1]`); else written out.
    fn broadcast(&mut self, value: GraphValue, to: GraphValue) -> Result<ValueId, LowerError> {
        let whole = image(self.graph.ty(to));
        let [c, depth, height, width] = image(self.graph.ty(value));
        let read = self.value(value)?;
        let is_pixel = c == whole[0] && height == 1 && width == 1 && self.graph.ty(to).spatial().is_some();
        if [c, depth, height, width] == whole || is_pixel && depth == whole[1] {
            return Ok(read);
        }
        if is_pixel && depth == 1 {
            return Ok(self.for_slices(read, whole[1]));
        }
        let spread = self.temporary(whole);
        let [from, to] = [value, to].map(|v| sample_dims(self.graph.ty(v)));
        self.step(StepOp::Move(expand(&from, &to)), vec![read], spread);
        Ok(spread)
    }

    /// A constant that is one number, or one per channel of `x`; none if it is neither.
    fn channel_constant(
        &self,
        node: NodeId,
        constant: GraphValue,
        x: GraphValue,
    ) -> Result<Option<Vec<f64>>, LowerError> {
        let data = self.weight_data(node, constant)?;
        let [channels, ..] = image(self.graph.ty(x));
        if let [one] = data[..] {
            return Ok(Some(vec![f64::from(one); channels]));
        }
        let dims = self.graph.ty(constant).fixed_dims().unwrap_or_default();
        let behind = self.graph.ty(x).rank().saturating_sub(2);
        let per_channel = data.len() == channels
            && dims.iter().rev().enumerate().all(|(i, d)| *d == if i == behind { channels } else { 1 });
        Ok(per_channel.then(|| data.iter().map(|v| f64::from(*v)).collect()))
    }

    /// The layer of a forward convolution or fully connected node; none if it is no convolution of images.
    fn layer_of(&self, node: NodeId) -> Result<Option<Layer>, LowerError> {
        let layer = match &self.graph.node(node).op {
            Op::Conv(conv) => LinearLayer::Conv(*conv),
            Op::Gemm(gemm) => LinearLayer::Gemm(*gemm),
            _ => return Err(self.unsupported(node, "it is no linear layer")),
        };
        let operands = self.graph.operands(node);
        self.layer_with(node, &layer, operands[0], operands.get(1).copied())
    }
}
