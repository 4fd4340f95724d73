//! Steps that become kernels of Cranelift's.

use relc_codegen::kernels::{self, Average, Axis, Operand};
use relc_codegen::kir::{Body, Compare, Kernel, Val};
use relc_ir::op::{Activation, Arithmetic, Window, WindowAxis};
use relc_ir::rule::{Condition, Surrogate};
use relc_program::op::{Denominator, QuotientStabiliser, Quotients, Vanishing};
use relc_program::{Step as Symbolic, StepOp, ValueId};

use super::Compiler;
use crate::error::EngineError;
use crate::step::{Action, Bind};

/// Whether the kernel IR has what an activation takes; others are plain loops.
pub(super) fn has_activation(activation: &Activation) -> bool {
    match activation {
        Activation::Relu | Activation::Identity | Activation::Dropout => true,
        // Kernels have no constants that are no numbers.
        Activation::LeakyRelu { alpha } => !alpha.is_nan(),
        // What lies beyond the last channel has to stay zero.
        Activation::Clip { min, max } => *min <= 0.0 && *max >= 0.0,
        _ => false,
    }
}

fn activation_body(b: &mut Body, activation: &Activation, x: Val) -> Val {
    let zero = b.const4(0.0);
    match activation {
        Activation::Relu => b.max(x, zero),
        Activation::LeakyRelu { alpha } => {
            let (positive, negative) = (b.max(x, zero), b.min(x, zero));
            let alpha = b.const4(*alpha as f32);
            b.fma(negative, alpha, positive)
        }
        Activation::Clip { min, max } => {
            let (low, high) = (b.const4(*min as f32), b.const4(*max as f32));
            let raised = b.max(x, low);
            b.min(raised, high)
        }
        _ => x,
    }
}

impl Compiler<'_> {
    /// The kernel of a step with what it is bound to; none if there is no kernel of its shape.
    pub(super) fn kernel(&mut self, step: &Symbolic) -> Result<Option<Action>, EngineError> {
        let mut binds: Vec<Bind> = self.reads(step)?.into_iter().map(Bind::Read).collect();
        match &step.op {
            StepOp::Quotients(quotients) => return self.quotients(step, quotients).map(Some),
            StepOp::Winner(_) => binds.reverse(),
            StepOp::Affine { .. } | StepOp::ScaleChannels { .. } => {
                for (at, name) in step.constants.iter().enumerate() {
                    binds.insert(1 + at, self.per_channel(step, name)?);
                }
            }
            StepOp::ScaleElements => {
                let layout = self.layout(step.writes[0])?;
                binds.push(self.in_layout(step, &step.constants[0], layout)?);
            }
            _ => {}
        }
        if let Some((window, over)) = windowed(step) {
            let axes = self.axes(step, over, window)?;
            let fits =
                if matches!(step.op, StepOp::Winner(_)) { kernels::winner_fits } else { kernels::pool_fits };
            if !fits(&axes) {
                return Ok(None);
            }
        }
        binds.extend(self.writes(step)?.into_iter().map(Bind::Write));
        let kernel = self.known_kernel(step, |c| c.kernel_of(step))?;
        Ok(Some(Action::Kernel { kernel, binds }))
    }

    fn kernel_of(&self, step: &Symbolic) -> Result<Kernel, EngineError> {
        let reads =
            step.reads.iter().map(|id| self.kernel_layout(step, *id)).collect::<Result<Vec<_>, _>>()?;
        let writes =
            step.writes.iter().map(|id| self.kernel_layout(step, *id)).collect::<Result<Vec<_>, _>>()?;
        let (x, y) = match (reads.first(), writes.first()) {
            (Some(x), Some(y)) => (*x, *y),
            _ => return Err(self.unsupported(step, "a kernel has no operands")),
        };
        let out = [("y", y)];
        let tensor = Operand::Tensor;
        Ok(match &step.op {
            StepOp::MaxPool(pool) => {
                kernels::max_pool("max_pool", x, y, self.axes(step, step.reads[0], &pool.window)?)
            }
            StepOp::AveragePool(pool) => {
                let axes = self.axes(step, step.reads[0], &pool.window)?;
                let average = Average { axes, count_include_pad: pool.count_include_pad };
                kernels::average_pool("average_pool", x, y, average)
            }
            StepOp::Winner(pool) => {
                let axes = self.axes(step, step.reads[1], &pool.window)?;
                kernels::max_pool_winner("winner", reads[1], x, y, axes)
            }
            StepOp::Activation(activation) => {
                kernels::elementwise(activation_name(activation), [tensor("x", x)], out, |b, [x]| {
                    [activation_body(b, activation, x)]
                })
            }
            StepOp::Affine { relu } => kernels::scale_shift("scale_shift", [x, y], *relu),
            StepOp::Binary { op, relu } => {
                let image = self.program.image(step.writes[0]);
                let operand = |at: usize, name| match self.program.image(step.reads[at]) == image {
                    true => Operand::Tensor(name, reads[at]),
                    false => Operand::Pixel(name, reads[at]),
                };
                kernels::elementwise("binary", [operand(0, "a"), operand(1, "b")], out, |body, [a, b]| {
                    let value = match op {
                        Arithmetic::Add => body.add(a, b),
                        Arithmetic::Sub => body.sub(a, b),
                        _ => body.mul(a, b),
                    };
                    let zero = body.const4(0.0);
                    [if *relu { body.max(value, zero) } else { value }]
                })
            }
            StepOp::Sum { relu } => kernels::sum_relu("sum", &reads, y, *relu),
            StepOp::Scale { factor } => kernels::elementwise("scaled", [tensor("x", x)], out, |b, [x]| {
                let factor = b.const4(*factor);
                [b.mul(x, factor)]
            }),
            StepOp::ScaleChannels { addend: false } => {
                let reads = [tensor("sum", x), Operand::Channels("factor")];
                kernels::elementwise("scaled", reads, out, |b, [x, f]| [b.mul(x, f)])
            }
            StepOp::ScaleChannels { addend: true } => {
                let reads = [tensor("sum", x), Operand::Channels("factor"), tensor("before", reads[1])];
                kernels::elementwise("scaled", reads, out, |b, [x, f, y]| [b.fma(x, f, y)])
            }
            StepOp::ScaleElements => kernels::multiply("ones", [x, y, y]),
            StepOp::Broadcast { weight, product, addend } => {
                let share = Operand::Pixel("s", x);
                let weighted = |b: &mut Body, s: Val| {
                    let weight = b.const4(*weight);
                    b.mul(s, weight)
                };
                match (product, addend) {
                    (false, _) => kernels::elementwise("plane", [share], out, |b, [s]| [weighted(b, s)]),
                    (true, false) => {
                        let reads = [share, tensor("a", reads[1])];
                        kernels::elementwise("plane", reads, out, |b, [s, a]| {
                            let share = weighted(b, s);
                            [b.mul(a, share)]
                        })
                    }
                    (true, true) => {
                        let reads = [share, tensor("a", reads[1]), tensor("before", reads[2])];
                        kernels::elementwise("plane", reads, out, |b, [s, a, before]| {
                            let share = weighted(b, s);
                            [b.fma(a, share, before)]
                        })
                    }
                }
            }
            StepOp::SplitRatio => kernels::ratio_split("split", [x, reads[1], reads[2], y, writes[1]]),
            StepOp::Share { share } => {
                let outs = [("y", y), ("rest", writes[1])];
                kernels::elementwise("share", [tensor("r", x)], outs, |b, [r]| {
                    let share = b.const4(*share);
                    let first = b.mul(r, share);
                    let rest = b.sub(r, first);
                    [first, rest]
                })
            }
            StepOp::Derivative(kind) => {
                let reads = [tensor("r", x), tensor("x", reads[1])];
                kernels::elementwise("derivative", reads, out, |b, [r, x]| {
                    let zero = b.const4(0.0);
                    let passed = if *kind == Surrogate::Gradient { r } else { b.max(r, zero) };
                    if *kind == Surrogate::Deconv {
                        return [passed];
                    }
                    let active = b.compare(Compare::Gt, x, zero);
                    [b.select(active, passed, zero)]
                })
            }
            _ => return Err(self.unsupported(step, format!("there is no kernel of {}", step.op.mnemonic()))),
        })
    }

    fn quotients(&mut self, step: &Symbolic, quotients: &Quotients) -> Result<Action, EngineError> {
        let given = quotients.stabiliser == QuotientStabiliser::Given;
        let fixed = 1 + usize::from(quotients.output) + usize::from(given);
        let slots = self.reads(step)?;
        let mut binds: Vec<Bind> = slots[..fixed].iter().copied().map(Bind::Read).collect();
        let s = self.layout(step.writes[0])?;
        let (mut tensors, mut constants) = (slots[fixed..].iter(), step.constants.iter());
        let missing = |c: &Self| c.unsupported(step, "a constant is missing");
        for denominator in quotients.parts.iter().filter_map(|part| part.denominator) {
            binds.extend(tensors.by_ref().take(denominator.tensors()).copied().map(Bind::Read));
            let [constant, biased] = denominator.constants();
            if constant {
                let name = constants.next().ok_or_else(|| missing(self))?;
                binds.push(self.in_layout(step, name, s)?);
            }
            if biased {
                let name = constants.next().ok_or_else(|| missing(self))?;
                binds.push(self.per_channel(step, name)?);
            }
        }
        binds.extend(self.writes(step)?.into_iter().map(Bind::Write));
        let flag = match quotients.vanishing {
            Vanishing::Flat { flag, .. } => Some(flag),
            Vanishing::Clipped => None,
        };
        let kernel = self.known_kernel(step, |c| c.quotients_of(step, quotients, fixed))?;
        Ok(Action::Quotients { kernel, binds, flag })
    }

    fn quotients_of(
        &self,
        step: &Symbolic,
        quotients: &Quotients,
        fixed: usize,
    ) -> Result<Kernel, EngineError> {
        let layout = |id: ValueId| self.kernel_layout(step, id);
        let mut tensors = step.reads[fixed..].iter();
        let mut parts = Vec::with_capacity(quotients.parts.len());
        for part in &quotients.parts {
            let denominator = match part.denominator {
                None => None,
                Some(Denominator::Output { biased }) => Some(kernels::Denominator::Output { biased }),
                Some(Denominator::Sum { tensors: count, constant, biased }) => {
                    let tensors =
                        tensors.by_ref().take(count).map(|id| layout(*id)).collect::<Result<Vec<_>, _>>()?;
                    Some(kernels::Denominator::Sum { tensors, constant, biased })
                }
            };
            let on = match part.on {
                Condition::Always => kernels::Condition::Always,
                Condition::PositiveOutput => kernels::Condition::Positive,
                Condition::NegativeOutput => kernels::Condition::Negative,
            };
            parts.push(kernels::QuotientPart { scale: part.scale, on, denominator });
        }
        let stabiliser = match quotients.stabiliser {
            QuotientStabiliser::None => kernels::Stabiliser::None,
            QuotientStabiliser::Plain(eps) => kernels::Stabiliser::Plain(eps as f32),
            QuotientStabiliser::Signed(eps) => kernels::Stabiliser::Signed(eps as f32),
            QuotientStabiliser::Given => kernels::Stabiliser::Given,
        };
        let vanishing = match quotients.vanishing {
            Vanishing::Clipped => kernels::Vanishing::Clipped,
            Vanishing::Flat { floor, .. } => kernels::Vanishing::Spread(floor),
        };
        let z = if quotients.output { Some(layout(step.reads[1])?) } else { None };
        let lost = match (quotients.lost, step.writes.last()) {
            (true, Some(id)) => Some(layout(*id)?),
            _ => None,
        };
        let outer = [layout(step.reads[0])?, layout(step.writes[0])?];
        Ok(kernels::quotients("quotients", outer, z, &parts, (stabiliser, vanishing), lost))
    }

    /// The axes of a window over a value.
    fn axes(&self, step: &Symbolic, over: ValueId, window: &Window) -> Result<[Axis; 3], EngineError> {
        let [_, d, h, w] = self.program.image(over).unwrap_or([1; 4]);
        let along = |axis: &WindowAxis, size: usize| {
            let u = |n: usize| u32::try_from(n).ok();
            Some(Axis {
                size: u(size)?,
                windows: u(axis.pooled_size(size, window.ceil).ok()?)?,
                kernel: u(axis.kernel)?,
                stride: u(axis.stride)?,
                pad: u(axis.pads[0])?,
                pad_end: u(axis.pads[1])?,
                dilation: u(axis.dilation)?,
            })
        };
        let [slices, rows, columns] = window.over_volume();
        match (along(&slices, d), along(&rows, h), along(&columns, w)) {
            (Some(z), Some(y), Some(x)) => Ok([z, y, x]),
            _ => Err(self.unsupported(step, "its window is too large")),
        }
    }
}

/// The window of a pool, and the value that it moves over.
fn windowed(step: &Symbolic) -> Option<(&Window, ValueId)> {
    match &step.op {
        StepOp::MaxPool(pool) => Some((&pool.window, *step.reads.first()?)),
        StepOp::AveragePool(pool) => Some((&pool.window, *step.reads.first()?)),
        StepOp::Winner(pool) => Some((&pool.window, *step.reads.get(1)?)),
        _ => None,
    }
}

fn activation_name(activation: &Activation) -> &'static str {
    match activation {
        Activation::Identity | Activation::Dropout => "copy",
        _ => "map",
    }
}
