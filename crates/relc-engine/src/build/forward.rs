//! Forward nodes.

use relc_codegen::kernels::{self, Average, Axis, Operand};
use relc_codegen::kir::Body;
use relc_codegen::kir::Val;
use relc_ir::op::{Activation, Arithmetic, Relevance, Window};
use relc_ir::{NodeId, Op, ValueId};

use relc_runtime::conv::Direction;
use relc_runtime::tile::Part;

use super::Builder;
use super::linear::{Purpose, Weighted};
use crate::error::EngineError;
use crate::image::image;
use crate::map::Function;
use crate::step::{Action, Bind, BufferId, Finish, Step};

/// Tensors that one kernel adds up.
pub(super) const MAX_PARTS: usize = 64;

impl Builder<'_> {
    /// Lowers a forward node; nodes that another one writes for have no step.
    pub(super) fn forward(&mut self, node: NodeId) -> Result<(), EngineError> {
        let out = ValueId { node, port: 0 };
        if self.aliases.contains_key(&out) {
            return Ok(());
        }
        let operands = self.graph.operands(node);
        let relu = self.fused.contains(&node);
        match self.graph.node(node).op.clone() {
            Op::Input => {
                self.buffer(out)?;
                Ok(())
            }
            Op::Conv(_) | Op::Gemm(_) => self.conv(node, relu),
            Op::BatchNormalization(op) => {
                let parameter = |i: usize| self.weight(node, operands[i]);
                let (scale, bias, mean, var) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
                let factor: Vec<f64> = scale
                    .iter()
                    .zip(&*var)
                    .map(|(s, v)| f64::from(*s) / (f64::from(*v) + op.epsilon).sqrt())
                    .collect();
                let shift = factor
                    .iter()
                    .zip(bias.iter().zip(&*mean))
                    .map(|(f, (b, m))| (f64::from(*b) - f64::from(*m) * f) as f32);
                let shift: Vec<f32> = shift.collect();
                self.affine(node, operands[0], factor.iter().map(|f| *f as f32).collect(), shift, relu)
            }
            Op::Activation(activation) => self.activation(node, activation),
            Op::Arithmetic(op) => self.arithmetic(node, op, relu),
            Op::MaxPool(pool) => {
                let (x, y, axes) = self.pooled(node, operands[0], &pool.window)?;
                if !kernels::pool_fits(&axes) {
                    return self.interpret(node);
                }
                let (lx, ly) = (self.kernel_layout(node, x)?, self.kernel_layout(node, y)?);
                let kernel = kernels::max_pool("max_pool", lx, ly, axes);
                self.kernel(kernel, vec![Bind::Read(x), Bind::Write(y)])
            }
            Op::AveragePool(pool) => self.average(node, operands[0], &pool.window, pool.count_include_pad),
            Op::GlobalAveragePool => {
                let [_, h, w] = image(self.graph.ty(operands[0]));
                self.average(node, operands[0], &Window::new([h, w], [1, 1]), false)
            }
            Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Pad(_) | Op::Concat(_) => self.moves(node),
            _ => self.interpret(node),
        }
    }

    fn conv(&mut self, node: NodeId, relu: bool) -> Result<(), EngineError> {
        let operands = self.graph.operands(node);
        let layer = self.layer_of(node)?;
        let (input, output) = (self.buffer(operands[0])?, self.buffer(ValueId { node, port: 0 })?);
        let weights = self.weight(node, operands[1])?;
        let weights = layer.oriented(&weights);
        let bias = operands.get(2).map(|b| self.weight(node, *b)).transpose()?;
        let finish = match (&bias, relu) {
            (None, false) => Finish::None,
            _ => Finish::Activate { bias, residual: None, relu },
        };
        // Where a rule divides by the layer's output, that has to be exact.
        let divides = |(user, operand): &(NodeId, usize)| match &self.graph.node(*user).op {
            Op::Relevance(Relevance::Linear { rule, .. }) => {
                rule.reads_output() && *operand + 1 == self.graph.operands(*user).len()
            }
            _ => false,
        };
        let divided = self.graph.users(ValueId { node, port: 0 }).iter().any(divides);
        let purpose = if divided { Purpose::Divisor { non_negative: false } } else { Purpose::Plain };
        let weighted =
            Weighted { direction: Direction::Forward, part: Part::Raw, weight: Some(operands[1]), purpose };
        self.convolve(node, &layer.spec, weighted, &weights, [input, output], finish)
    }

    /// `y = x * scale + shift` per channel.
    fn affine(
        &mut self,
        node: NodeId,
        x: ValueId,
        scale: Vec<f32>,
        shift: Vec<f32>,
        relu: bool,
    ) -> Result<(), EngineError> {
        let (x, y) = (self.buffer(x)?, self.buffer(ValueId { node, port: 0 })?);
        let layouts = [self.kernel_layout(node, x)?, self.kernel_layout(node, y)?];
        let kernel = kernels::scale_shift("scale_shift", layouts, relu);
        let constant = |b: &Self, values: Vec<f32>| Bind::Constant(b.per_channel(values));
        let (scale, shift) = (constant(self, scale), constant(self, shift));
        self.kernel(kernel, vec![Bind::Read(x), scale, shift, Bind::Write(y)])
    }

    fn activation(&mut self, node: NodeId, activation: Activation) -> Result<(), EngineError> {
        let x = self.graph.operands(node)[0];
        match activation {
            Activation::Relu => self.map(node, x, |b, x, zero| b.max(x, zero)),
            // Kernels have no constants that are no numbers.
            Activation::LeakyRelu { alpha } if !alpha.is_nan() => self.map(node, x, |b, x, zero| {
                let (positive, negative) = (b.max(x, zero), b.min(x, zero));
                let alpha = b.const4(alpha as f32);
                b.fma(negative, alpha, positive)
            }),
            // What lies beyond the last channel has to stay zero.
            Activation::Clip { min, max } if min <= 0.0 && max >= 0.0 => self.map(node, x, |b, x, _| {
                let (low, high) = (b.const4(min as f32), b.const4(max as f32));
                let raised = b.max(x, low);
                b.min(raised, high)
            }),
            Activation::Identity | Activation::Dropout => self.map(node, x, |_, x, _| x),
            _ => {
                let (input, output) = (self.buffer(x)?, self.buffer(ValueId { node, port: 0 })?);
                self.push(Action::Map { input, output, function: Function::Activation(activation) });
                Ok(())
            }
        }
    }

    /// An elementwise kernel of one operand; `f` gets the operand and zero.
    pub(super) fn map(
        &mut self,
        node: NodeId,
        x: ValueId,
        f: impl Fn(&mut Body, Val, Val) -> Val,
    ) -> Result<(), EngineError> {
        let (x, y) = (self.buffer(x)?, self.buffer(ValueId { node, port: 0 })?);
        let (lx, ly) = (self.kernel_layout(node, x)?, self.kernel_layout(node, y)?);
        let kernel = kernels::elementwise("map", [Operand::Tensor("x", lx)], [("y", ly)], |b, [x]| {
            let zero = b.const4(0.0);
            [f(b, x, zero)]
        });
        self.kernel(kernel, vec![Bind::Read(x), Bind::Write(y)])
    }

    fn arithmetic(&mut self, node: NodeId, op: Arithmetic, relu: bool) -> Result<(), EngineError> {
        let out = ValueId { node, port: 0 };
        let data = self.graph.data_operands(node);
        let operands = self.graph.operands(node);
        let same = data.iter().all(|(_, v)| self.graph.ty(*v) == self.graph.ty(out));
        match (op, &data[..]) {
            (Arithmetic::Add, [_, _, ..]) if same && data.len() == operands.len() => {
                let parts = operands.iter().map(|v| self.buffer(*v)).collect::<Result<Vec<_>, _>>()?;
                let y = self.buffer(out)?;
                self.add(node, &parts, y, relu)
            }
            (_, [(index, x)]) if same && operands.len() == 2 => {
                let Some(constant) = self.channel_constant(node, operands[1 - index], *x)? else {
                    return self.interpret_then(node, relu);
                };
                let n = constant.len();
                let negative = |c: &[f32]| c.iter().map(|v| -v).collect::<Vec<f32>>();
                let (scale, shift) = match (op, index) {
                    (Arithmetic::Add, _) => (vec![1.0; n], constant),
                    (Arithmetic::Sub, 0) => (vec![1.0; n], negative(&constant)),
                    (Arithmetic::Sub, _) => (vec![-1.0; n], constant),
                    (Arithmetic::Mul, _) => (constant, vec![0.0; n]),
                    (Arithmetic::Div, 0) => (constant.iter().map(|v| 1.0 / v).collect(), vec![0.0; n]),
                    _ => return self.interpret_then(node, relu),
                };
                self.affine(node, *x, scale, shift, relu)
            }
            // Not quotients: beyond the last channel both are 0.
            (Arithmetic::Add | Arithmetic::Sub | Arithmetic::Mul, [(_, left), (_, right)])
                if operands.len() == 2 =>
            {
                self.of_two(node, op, [*left, *right], relu)
            }
            _ => self.interpret_then(node, relu),
        }
    }

    /// An op of two values of the output's shape, or of one pixel: a gate `f32[N,C,1,1]` and its signal.
    fn of_two(
        &mut self,
        node: NodeId,
        op: Arithmetic,
        values: [ValueId; 2],
        relu: bool,
    ) -> Result<(), EngineError> {
        let out = ValueId { node, port: 0 };
        let ty = self.graph.ty(out);
        let [c, ..] = image(ty);
        let is_pixel = |v: ValueId| {
            let other = self.graph.ty(v);
            other.rank() == 4 && ty.rank() == 4 && image(other) == [c, 1, 1]
        };
        if !values.iter().all(|v| self.graph.ty(*v) == ty || is_pixel(*v)) {
            return self.interpret_then(node, relu);
        }
        let pixels = values.map(|v| self.graph.ty(v) != ty);
        let [a, b] = [self.buffer(values[0])?, self.buffer(values[1])?];
        let y = self.buffer(out)?;
        let operand = |s: &Self, name, id, pixel| {
            let layout = s.kernel_layout(node, id)?;
            Ok::<_, EngineError>(if pixel {
                Operand::Pixel(name, layout)
            } else {
                Operand::Tensor(name, layout)
            })
        };
        let reads = [operand(self, "a", a, pixels[0])?, operand(self, "b", b, pixels[1])?];
        let writes = [("y", self.kernel_layout(node, y)?)];
        let kernel = kernels::elementwise("of_two", reads, writes, |body, [a, b]| {
            let value = match op {
                Arithmetic::Add => body.add(a, b),
                Arithmetic::Sub => body.sub(a, b),
                _ => body.mul(a, b),
            };
            let zero = body.const4(0.0);
            [if relu { body.max(value, zero) } else { value }]
        });
        self.kernel(kernel, vec![Bind::Read(a), Bind::Read(b), Bind::Write(y)])
    }

    /// A node without a kernel, and the positive part that was fused into it.
    fn interpret_then(&mut self, node: NodeId, relu: bool) -> Result<(), EngineError> {
        if !relu {
            return self.interpret(node);
        }
        let y = self.buffer(ValueId { node, port: 0 })?;
        let own = self.scratch(self.layouts[y]);
        self.interpret(node)?;
        if let Some(Step { action: Action::Interpret(step), .. }) = self.steps.last_mut() {
            step.outputs = vec![own];
        }
        let layout = self.kernel_layout(node, y)?;
        let reads = [Operand::Tensor("x", layout)];
        let kernel = kernels::elementwise("relu", reads, [("y", layout)], |b, [x]| {
            let zero = b.const4(0.0);
            [b.max(x, zero)]
        });
        self.kernel(kernel, vec![Bind::Read(own), Bind::Write(y)])
    }

    /// `sum = sum of parts`, and with `relu` its positive part. The order is that of the parts; of many, each kernel
    /// goes on where the one before stopped.
    pub(super) fn add(
        &mut self,
        node: NodeId,
        parts: &[BufferId],
        sum: BufferId,
        relu: bool,
    ) -> Result<(), EngineError> {
        let mut before: Option<BufferId> = None;
        for (index, some) in parts.chunks(MAX_PARTS).enumerate() {
            let is_last = (index + 1) * MAX_PARTS >= parts.len();
            let target = if is_last { sum } else { self.scratch(self.layouts[sum]) };
            let some: Vec<BufferId> = before.into_iter().chain(some.iter().copied()).collect();
            let layouts =
                some.iter().map(|id| self.kernel_layout(node, *id)).collect::<Result<Vec<_>, _>>()?;
            let kernel =
                kernels::sum_relu("sum", &layouts, self.kernel_layout(node, target)?, relu && is_last);
            let binds = some.iter().map(|id| Bind::Read(*id)).chain([Bind::Write(target)]).collect();
            self.kernel(kernel, binds)?;
            before = Some(target);
        }
        Ok(())
    }

    /// A constant that is one number, or one per channel of `x`; none if it is neither.
    fn channel_constant(
        &self,
        node: NodeId,
        constant: ValueId,
        x: ValueId,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let data = self.weight(node, constant)?;
        let [channels, ..] = image(self.graph.ty(x));
        if let [one] = data[..] {
            return Ok(Some(vec![one; channels]));
        }
        let dims = self.graph.ty(constant).fixed_dims().unwrap_or_default();
        let behind = self.graph.ty(x).rank().saturating_sub(2);
        let per_channel = data.len() == channels
            && dims.iter().rev().enumerate().all(|(i, d)| *d == if i == behind { channels } else { 1 });
        Ok(per_channel.then(|| data.to_vec()))
    }

    /// Buffers and axes of a pool.
    pub(super) fn pooled(
        &mut self,
        node: NodeId,
        x: ValueId,
        window: &Window,
    ) -> Result<(BufferId, BufferId, [Axis; 2]), EngineError> {
        let axes = self.axes(node, x, window)?;
        Ok((self.buffer(x)?, self.buffer(ValueId { node, port: 0 })?, axes))
    }

    /// The axes of a window over `x`.
    pub(super) fn axes(&self, node: NodeId, x: ValueId, window: &Window) -> Result<[Axis; 2], EngineError> {
        let [_, h, w] = image(self.graph.ty(x));
        self.axes_of(node, [h, w], window)
    }

    /// The axes of a window over a picture of this height and width.
    pub(super) fn axes_of(
        &self,
        node: NodeId,
        [h, w]: [usize; 2],
        window: &Window,
    ) -> Result<[Axis; 2], EngineError> {
        // A mean over the picture has one window, however large that is.
        let windows = |i: usize, size: usize| match (window.kernel[i], window.pads[i] + window.pads[i + 2]) {
            (kernel, 0) if kernel == size => Some(1),
            _ => window.output_size(i, size).ok(),
        };
        let axis = |i: usize, size: usize| {
            let u = |n: usize| u32::try_from(n).ok();
            Some(Axis {
                size: u(size)?,
                windows: u(windows(i, size)?)?,
                kernel: u(window.kernel[i])?,
                stride: u(window.strides[i])?,
                pad: u(window.pads[i])?,
                pad_end: u(window.pads[i + 2])?,
                dilation: u(window.dilations[i])?,
            })
        };
        match (axis(0, h), axis(1, w)) {
            (Some(rows), Some(columns)) => Ok([rows, columns]),
            _ => Err(self.unsupported(node, "its window is too large")),
        }
    }

    fn average(
        &mut self,
        node: NodeId,
        x: ValueId,
        window: &Window,
        count_include_pad: bool,
    ) -> Result<(), EngineError> {
        let (x, y, axes) = self.pooled(node, x, window)?;
        if !kernels::pool_fits(&axes) {
            return self.interpret(node);
        }
        let (lx, ly) = (self.kernel_layout(node, x)?, self.kernel_layout(node, y)?);
        let kernel = kernels::average_pool("average_pool", lx, ly, Average { axes, count_include_pad });
        self.kernel(kernel, vec![Bind::Read(x), Bind::Write(y)])
    }
}
