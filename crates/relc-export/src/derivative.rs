//! Derivatives of elementwise ops and normalisations, and what guided backpropagation and DeconvNet put in their place.

use relc_ir::op::{Activation, Arithmetic, Relevance};
use relc_ir::rule::Surrogate;
use relc_ir::{Dim, TensorType};

use crate::forward::{gelu_inner, standardise};
use crate::writer::{Writer, int};

/// The outputs of a derivative's node, whose first operand is what arrives.
pub(crate) fn write(
    w: &mut Writer<'_>,
    op: &Relevance,
    operands: &[&str],
    types: &[&TensorType],
) -> Vec<String> {
    let (r, x) =
        (operands.first().copied().unwrap_or_default(), operands.get(1).copied().unwrap_or_default());
    match op {
        Relevance::Activation { activation, kind } => {
            let arrives = if *kind == Surrogate::Gradient { r.to_string() } else { w.op("Relu", &[r]) };
            if *kind == Surrogate::Deconv {
                return vec![arrives];
            }
            let slope = slope(w, activation, x);
            vec![w.op("Mul", &[&arrives, &slope])]
        }
        Relevance::BatchNormalization(op) => {
            let (scale, var) = (x, operands.get(2).copied().unwrap_or_default());
            let epsilon = w.scalar(op.epsilon);
            let var = w.op("Add", &[var, &epsilon]);
            let root = w.op("Sqrt", &[&var]);
            let factor = w.op("Div", &[scale, &root]);
            let own = types.first().map_or(&[][..], |ty| ty.dims()).iter().enumerate();
            let dims: Vec<Dim> = own.map(|(i, d)| if i == 1 { *d } else { Dim::Fixed(1) }).collect();
            let factor = w.reshape(&factor, &dims);
            vec![w.op("Mul", &[r, &factor])]
        }
        Relevance::MeanVarianceNormalization(op) => {
            let (centred, root) = standardise(w, op, x);
            let y = w.op("Div", &[&centred, &root]);
            let mean = w.reduce_mean(r, &op.axes);
            let product = w.op("Mul", &[r, &y]);
            let slope = w.reduce_mean(&product, &op.axes);
            let along = w.op("Mul", &[&y, &slope]);
            let rest = w.op("Sub", &[r, &mean]);
            let rest = w.op("Sub", &[&rest, &along]);
            vec![w.op("Div", &[&rest, &root])]
        }
        Relevance::Softmax(op) => {
            let y = w.op_with("Softmax", &[x], vec![int("axis", op.axis)]);
            let weighted = if op.log { r.to_string() } else { w.op("Mul", &[r, &y]) };
            let sum = w.reduce_sum(&weighted, &[op.axis], true);
            vec![if op.log {
                let taken = w.op("Mul", &[&y, &sum]);
                w.op("Sub", &[r, &taken])
            } else {
                let rest = w.op("Sub", &[r, &sum]);
                w.op("Mul", &[&y, &rest])
            }]
        }
        Relevance::Arithmetic { arithmetic: op, wrt } => {
            let by = |wrt: &usize| {
                let product = arithmetic(w, *op, *wrt, r, operands.get(1..).unwrap_or_default());
                match (types.first(), types.get(wrt + 1)) {
                    (Some(all), Some(own)) => w.unexpand(&product, all.dims(), own.dims()),
                    _ => product,
                }
            };
            wrt.iter().map(by).collect()
        }
        _ => Vec::new(),
    }
}

/// What arrives times the derivative of an op by one of its operands, not yet summed over repetitions.
fn arithmetic(w: &mut Writer<'_>, op: Arithmetic, wrt: usize, r: &str, operands: &[&str]) -> String {
    let operand = |i: usize| operands.get(i).copied().unwrap_or_default();
    let (x, y) = (operand(0), operand(1));
    let zero = w.scalar(0.0);
    let slope = match (op, wrt) {
        (Arithmetic::Add, _) | (Arithmetic::Sub, 0) => return r.to_string(),
        (Arithmetic::Sub, _) => return w.op("Neg", &[r]),
        (Arithmetic::Mul, wrt) => operand(1 - wrt.min(1)).to_string(),
        (Arithmetic::Div, 0) => return w.op("Div", &[r, y]),
        (Arithmetic::Div, _) => {
            let square = w.op("Mul", &[y, y]);
            let quotient = w.op("Div", &[x, &square]);
            w.op("Neg", &[&quotient])
        }
        (Arithmetic::Pow, 0) => {
            let one = w.scalar(1.0);
            let less = w.op("Sub", &[y, &one]);
            let power = w.op("Pow", &[x, &less]);
            w.op("Mul", &[y, &power])
        }
        (Arithmetic::Pow, _) => {
            let (power, log) = (w.op("Pow", &[x, y]), w.op("Log", &[x]));
            w.op("Mul", &[&power, &log])
        }
        (Arithmetic::PRelu, 0) => {
            let (negative, one) = (w.op("Less", &[x, &zero]), w.scalar(1.0));
            w.choose(&negative, y, &one)
        }
        (Arithmetic::PRelu, _) => w.op("Min", &[x, &zero]),
        (Arithmetic::Max, 0) => w.step("GreaterOrEqual", x, y),
        (Arithmetic::Max, _) => w.step("Less", x, y),
        (Arithmetic::Min, 0) => w.step("LessOrEqual", x, y),
        (Arithmetic::Min, _) => w.step("Greater", x, y),
    };
    w.op("Mul", &[r, &slope])
}

/// The derivative of an activation at `x`; at a kink the smaller of the two sides'.
fn slope(w: &mut Writer<'_>, op: &Activation, x: &str) -> String {
    let (zero, one) = (w.scalar(0.0), w.scalar(1.0));
    // x > 0 ? 1 : what is below
    let bent = |w: &mut Writer<'_>, above: f64, below: &str| {
        let (positive, above) = (w.op("Greater", &[x, &zero]), w.scalar(above));
        w.choose(&positive, &above, below)
    };
    let complement = |w: &mut Writer<'_>, y: &str| {
        let square = w.op("Mul", &[y, y]);
        w.op("Sub", &[&one, &square])
    };
    match *op {
        Activation::Relu => w.step("Greater", x, &zero),
        Activation::LeakyRelu { alpha } => {
            let below = w.scalar(alpha);
            bent(w, 1.0, &below)
        }
        Activation::Clip { min, max } => {
            let (min, max) = (w.scalar(min), w.scalar(max));
            let (above, below) = (w.step("Greater", x, &min), w.step("Less", x, &max));
            w.op("Mul", &[&above, &below])
        }
        Activation::Sigmoid => {
            let y = w.op("Sigmoid", &[x]);
            let rest = w.op("Sub", &[&one, &y]);
            w.op("Mul", &[&y, &rest])
        }
        Activation::HardSigmoid { alpha, beta } => {
            let (sloped, beta) = (w.scaled(x, alpha), w.scalar(beta));
            let y = w.op("Add", &[&sloped, &beta]);
            let (above, below) = (w.step("Greater", &y, &zero), w.step("Less", &y, &one));
            let inside = w.op("Mul", &[&above, &below]);
            w.scaled(&inside, alpha)
        }
        Activation::HardSwish => {
            let (third, half, three) = (w.scaled(x, 1.0 / 3.0), w.scalar(0.5), w.scalar(3.0));
            let middle = w.op("Add", &[&third, &half]);
            let high = w.step("GreaterOrEqual", x, &three);
            let magnitude = w.op("Abs", &[x]);
            let inside = w.op("Less", &[&magnitude, &three]);
            w.choose(&inside, &middle, &high)
        }
        Activation::Swish { alpha } => {
            let steep = w.scaled(x, alpha);
            let s = w.op("Sigmoid", &[&steep]);
            let rest = w.op("Sub", &[&one, &s]);
            let product = w.op("Mul", &[&steep, &rest]);
            let sum = w.op("Add", &[&one, &product]);
            w.op("Mul", &[&s, &sum])
        }
        Activation::Gelu { tanh: false } => {
            let inner = w.scaled(x, std::f64::consts::FRAC_1_SQRT_2);
            let erf = w.op("Erf", &[&inner]);
            let sum = w.op("Add", &[&erf, &one]);
            let cumulative = w.scaled(&sum, 0.5);
            let square = w.op("Mul", &[&inner, &inner]);
            let minus = w.op("Neg", &[&square]);
            let bell = w.op("Exp", &[&minus]);
            let density = w.op("Mul", &[x, &bell]);
            let density = w.scaled(&density, (2.0 * std::f64::consts::PI).sqrt().recip());
            w.op("Add", &[&cumulative, &density])
        }
        Activation::Gelu { tanh: true } => {
            let inner = gelu_inner(w, x);
            let t = w.op("Tanh", &[&inner]);
            let sum = w.op("Add", &[&t, &one]);
            let gate = w.scaled(&sum, 0.5);
            let square = w.op("Mul", &[x, x]);
            let square = w.scaled(&square, 3.0 * 0.044715);
            let growth = w.op("Add", &[&square, &one]);
            let steep = complement(w, &t);
            let product = w.op("Mul", &[x, &steep]);
            let product = w.op("Mul", &[&product, &growth]);
            let product = w.scaled(&product, 0.5 * std::f64::consts::FRAC_2_PI.sqrt());
            w.op("Add", &[&gate, &product])
        }
        Activation::Mish => {
            let softplus = w.op("Softplus", &[x]);
            let t = w.op("Tanh", &[&softplus]);
            let (steep, s) = (complement(w, &t), w.op("Sigmoid", &[x]));
            let product = w.op("Mul", &[&steep, &s]);
            let product = w.op("Mul", &[x, &product]);
            w.op("Add", &[&t, &product])
        }
        Activation::Elu { alpha } => {
            let exp = w.op("Exp", &[x]);
            let below = w.scaled(&exp, alpha);
            bent(w, 1.0, &below)
        }
        Activation::Celu { alpha } => {
            let inner = w.scaled(x, alpha.recip());
            let below = w.op("Exp", &[&inner]);
            bent(w, 1.0, &below)
        }
        Activation::Selu { alpha, gamma } => {
            let exp = w.op("Exp", &[x]);
            let below = w.scaled(&exp, gamma * alpha);
            bent(w, gamma, &below)
        }
        Activation::ThresholdedRelu { alpha } => {
            let alpha = w.scalar(alpha);
            w.step("Greater", x, &alpha)
        }
        Activation::Softplus => w.op("Sigmoid", &[x]),
        Activation::Softsign => {
            let magnitude = w.op("Abs", &[x]);
            let sum = w.op("Add", &[&magnitude, &one]);
            let square = w.op("Mul", &[&sum, &sum]);
            w.op("Reciprocal", &[&square])
        }
        Activation::Tanh => {
            let y = w.op("Tanh", &[x]);
            complement(w, &y)
        }
        Activation::Erf => {
            let square = w.op("Mul", &[x, x]);
            let minus = w.op("Neg", &[&square]);
            let bell = w.op("Exp", &[&minus]);
            w.scaled(&bell, std::f64::consts::FRAC_2_SQRT_PI)
        }
        Activation::Exp => w.op("Exp", &[x]),
        Activation::Log => w.op("Reciprocal", &[x]),
        Activation::Sqrt => {
            let (half, root) = (w.scalar(0.5), w.op("Sqrt", &[x]));
            w.op("Div", &[&half, &root])
        }
        Activation::Reciprocal => {
            let square = w.op("Mul", &[x, x]);
            let quotient = w.op("Reciprocal", &[&square]);
            w.op("Neg", &[&quotient])
        }
        Activation::Abs => w.op("Sign", &[x]),
        Activation::Neg => w.scalar(-1.0),
        Activation::Identity | Activation::Dropout => one,
    }
}
