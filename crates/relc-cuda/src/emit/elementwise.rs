//! Functions of each element.

use std::fmt::Write as _;

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::rule::Surrogate;
use relc_program::Step;
use relc_program::op::{Side, StepOp};

use super::{Argument, Emitter, Pointer, argument, double, float, read, write};
use crate::error::CudaError;

impl Emitter<'_> {
    /// A step whose outputs' elements each depend on those of its operands at the same place.
    pub(super) fn elementwise(&mut self, step: &Step) -> Result<(), CudaError> {
        let y = step.writes[0];
        let image = self.image(y);
        let (len, plane) = (self.len(y), image[1..].iter().product::<usize>());
        let mut arguments: Vec<Argument> =
            step.reads.iter().enumerate().map(|(at, id)| read(format!("x{at}"), *id)).collect();
        for at in 0..step.constants.len() {
            arguments.push(argument(format!("c{at}"), Pointer::Read, self.constant_of(step, at)?));
        }
        arguments.extend(step.writes.iter().enumerate().map(|(at, id)| write(format!("y{at}"), *id)));
        let channel = format!("[i / {plane} % {}]", image[0]);
        // One pixel for all of a slice.
        let pixel = format!("[i / {}]", image[2] * image[3]);
        let statements = match &step.op {
            StepOp::Activation(activation) => {
                format!("const float x = x0[i]; y0[i] = {};", activated(activation))
            }
            StepOp::Part(Side::Positive) => "y0[i] = positive(x0[i]);".into(),
            StepOp::Part(Side::Negative) => "y0[i] = negative(x0[i]);".into(),
            StepOp::Affine { relu } => result(&format!("fmaf(x0[i], c0{channel}, c1{channel})"), *relu),
            StepOp::Binary { op, relu } => {
                let operand = |at: usize| match self.image(step.reads[at]) == image {
                    true => format!("x{at}[i]"),
                    false => format!("x{at}{pixel}"),
                };
                let sign = match op {
                    Arithmetic::Add => "+",
                    Arithmetic::Sub => "-",
                    Arithmetic::Mul => "*",
                    other => return Err(self.unsupported(step, format!("there is no kernel of {other:?}"))),
                };
                result(&format!("{} {sign} {}", operand(0), operand(1)), *relu)
            }
            StepOp::Sum { relu } => {
                let mut sum = String::from("x0[i]");
                for at in 1..step.reads.len() {
                    let _ = write!(sum, " + x{at}[i]");
                }
                result(&sum, *relu)
            }
            StepOp::Scale { factor } => format!("y0[i] = x0[i] * {};", float(*factor)),
            StepOp::ScaleChannels { addend: false } => format!("y0[i] = x0[i] * c0{channel};"),
            StepOp::ScaleChannels { addend: true } => format!("y0[i] = fmaf(x0[i], c0{channel}, x1[i]);"),
            StepOp::ScaleElements => format!("y0[i] = x0[i] * c0[i % {len}];"),
            StepOp::Broadcast { weight, product, addend } => {
                let share = format!("x0{pixel} * {}", float(*weight));
                match (product, addend) {
                    (false, _) => format!("y0[i] = {share};"),
                    (true, false) => format!("y0[i] = x1[i] * ({share});"),
                    (true, true) => format!("y0[i] = fmaf(x1[i], {share}, x2[i]);"),
                }
            }
            StepOp::SplitRatio => {
                "const float a = fabsf(x0[i]), sum = a + fabsf(x1[i]), r = x2[i]; const float first = \
                                   (sum == 0.0f ? 0.5f : a / sum) * r; y0[i] = first; y1[i] = r - first;"
                    .into()
            }
            StepOp::Share { share } => {
                format!(
                    "const float first = x0[i] * {}; y0[i] = first; y1[i] = x0[i] - first;",
                    float(*share)
                )
            }
            StepOp::Derivative(Surrogate::Deconv) => "y0[i] = positive(x0[i]);".into(),
            StepOp::Derivative(Surrogate::Guided) => "y0[i] = x1[i] > 0.0f ? positive(x0[i]) : 0.0f;".into(),
            StepOp::Derivative(Surrogate::Gradient) => "y0[i] = x1[i] > 0.0f ? x0[i] : 0.0f;".into(),
            StepOp::Convert => "y0[i] = x0[i];".into(),
            other => {
                return Err(self.unsupported(step, format!("there is no kernel of {}", other.mnemonic())));
            }
        };
        self.each(len, arguments, &format!("  {statements}\n"));
        Ok(())
    }
}

fn result(value: &str, relu: bool) -> String {
    if relu { format!("y0[i] = positive({value});") } else { format!("y0[i] = {value};") }
}

/// An activation of `x`, with the precision of the interpreter's.
fn activated(activation: &Activation) -> String {
    let sigmoid = "(1.0 / (1.0 + exp(-z)))";
    let softplus = "((z > 0.0 ? z : 0.0) + log1p(exp(z < 0.0 ? z : -z)))";
    let clamped = |inner: String| format!("fmin(fmax({inner}, 0.0), 1.0)");
    let wide = |value: String| format!("[](double z) {{ return (float)({value}); }}(x)");
    let elu = |alpha: f64| format!("(z > 0.0 ? z : {} * expm1(z))", double(alpha));
    match *activation {
        Activation::Relu => "positive(x)".into(),
        Activation::LeakyRelu { alpha } => format!("x < 0.0f ? {} * x : x", float(alpha as f32)),
        Activation::Identity | Activation::Dropout => "x".into(),
        Activation::Clip { min, max } => {
            format!("fminf(fmaxf(x, {}), {})", float(min as f32), float(max as f32))
        }
        Activation::Neg => "-x".into(),
        Activation::Abs => "fabsf(x)".into(),
        Activation::Reciprocal => "1.0f / x".into(),
        Activation::Sqrt => "sqrtf(x)".into(),
        Activation::Sigmoid => wide(sigmoid.into()),
        Activation::Exp => wide("exp(z)".into()),
        Activation::Log => wide("log(z)".into()),
        Activation::Tanh => wide("tanh(z)".into()),
        Activation::Erf => wide("erf(z)".into()),
        Activation::HardSigmoid { alpha, beta } => {
            wide(clamped(format!("{} * z + {}", double(alpha), double(beta))))
        }
        Activation::HardSwish => wide(format!("z * {}", clamped("z / 6.0 + 0.5".into()))),
        Activation::Swish { alpha } => wide(format!("z / (1.0 + exp(-({}) * z))", double(alpha))),
        Activation::Gelu { tanh: false } => wide("0.5 * z * (1.0 + erf(z * 0.70710678118654752440))".into()),
        Activation::Gelu { tanh: true } => {
            wide("0.5 * z * (1.0 + tanh(0.79788456080286535588 * (z + 0.044715 * z * z * z)))".into())
        }
        Activation::Mish => wide(format!("z * tanh({softplus})")),
        Activation::Elu { alpha } => wide(elu(alpha)),
        Activation::Celu { alpha } => {
            let alpha = double(alpha);
            wide(format!("z > 0.0 ? z : {alpha} * expm1(z / {alpha})"))
        }
        Activation::Selu { alpha, gamma } => wide(format!("{} * {}", double(gamma), elu(alpha))),
        Activation::ThresholdedRelu { alpha } => wide(format!("z > {} ? z : 0.0", double(alpha))),
        Activation::Softplus => wide(softplus.into()),
        Activation::Softsign => wide("z / (1.0 + fabs(z))".into()),
    }
}
