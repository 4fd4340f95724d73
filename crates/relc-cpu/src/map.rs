//! Functions of each element that the kernel IR has no operations for: plain loops over blocked tensors.

use rayon::prelude::*;
use relc_ir::op::Activation;
use relc_program::layout::Blocked;

use crate::isa::Isa;
use crate::simd::{Loop, featured};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `max(x, 0)`.
    Positive,
    /// `min(x, 0)`.
    Negative,
    /// An activation.
    Activation(Activation),
}

/// Where a function's values come from and go to: two tensors of one image.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// The function.
    pub function: Function,
    /// The layout of what is read.
    pub from: &'a Blocked,
    /// The layout of what is written.
    pub to: &'a Blocked,
    /// Whether blocks are shared among threads.
    pub parallel: bool,
}

impl Map<'_> {
    /// Writes the function of each element of `input`; halos and the channels beyond the last stay zero.
    pub fn run(&self, input: &[f32], output: &mut [f32]) {
        match self.function {
            Function::Positive => self.each(input, output, |x| x.max(0.0)),
            Function::Negative => self.each(input, output, |x| x.min(0.0)),
            Function::Activation(activation) => match activation {
                Activation::Sigmoid => self.each(input, output, sigmoid),
                Activation::Swish { alpha } => {
                    let alpha = alpha as f32;
                    self.each(input, output, move |x| x * sigmoid(alpha * x));
                }
                Activation::HardSigmoid { alpha, beta } => {
                    let (alpha, beta) = (alpha as f32, beta as f32);
                    self.each(input, output, move |x| (alpha * x + beta).clamp(0.0, 1.0));
                }
                Activation::HardSwish => {
                    self.each(input, output, |x| x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0));
                }
                other => self.each(input, output, move |x| relc_interp::activation(&other, x)),
            },
        }
    }

    fn each(&self, input: &[f32], output: &mut [f32], f: impl Fn(f32) -> f32 + Copy + Sync) {
        let v = self.to.block();
        let stride = self.to.block_stride();
        let width = self.to.width() * v;
        let block = |(index, out): (usize, &mut [f32])| {
            let first = self.to.offset(index, 0, 0) - index * stride;
            let channels = self.to.channels_of(index);
            for y in 0..self.to.height() {
                let start = first + y * self.to.row_stride();
                let from = self.from.offset(index, y, 0);
                let (Some(from), Some(to)) =
                    (input.get(from..from + width), out.get_mut(start..start + width))
                else {
                    return; // the plan gives both tensors their layouts' lengths
                };
                featured(self.isa, Row { from, to, f });
                if channels < v {
                    out[start..start + width].chunks_mut(v).for_each(|pixel| pixel[channels..].fill(0.0));
                }
            }
        };
        if self.parallel {
            output.par_chunks_mut(stride).enumerate().for_each(block);
        } else {
            output.chunks_mut(stride).enumerate().for_each(block);
        }
    }
}

/// A row of elements and a function of each.
struct Row<'r, F> {
    from: &'r [f32],
    to: &'r mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> Loop for Row<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.to.iter_mut().zip(self.from).for_each(|(y, x)| *y = (self.f)(*x));
    }
}

/// `1 / (1 + exp(-x))`, exact to its last bits down to the smallest numbers: a gate that is all but closed still says
/// where.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let large = 1.0 / (1.0 + small);
    if x < 0.0 { small * large } else { large }
}

/// `exp(x)` for `x` in `[-104,88]`, and its value there beyond: a power of two times Cephes' polynomial of the rest, in
/// operations that compilers vectorise. To about 2e-7 of itself; below -87, where f32 has no normal numbers, to its smallest.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Adding it leaves the nearest whole number in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-104.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let coefficients = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1];
    let polynomial = coefficients.into_iter().fold(1.987_569_1e-4, |sum, c| sum * rest + c);
    let power = |exponent: i32| f32::from_bits((exponent.wrapping_add(127) << 23) as u32);
    // In two steps, of which neither leaves the normal numbers.
    let half = exponent >> 1;
    (polynomial * rest * rest + rest + 1.0) * power(half) * power(exponent.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    #[test]
    fn the_exponential_is_exact_to_its_last_bits() {
        for i in -87_000..=87_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
        }
        for i in -110_000..=110_000 {
            let x = i as f32 / 1000.0;
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(sigmoid(x)) - exact).abs();
            let smallest = f64::from(f32::from_bits(1));
            assert!(error <= 4e-7 * exact + smallest, "sigmoid({x}) is off by {error:e} of {exact:e}");
        }
        assert_eq!((sigmoid(-1e30), sigmoid(1e30)), (0.0, 1.0));
        assert!(sigmoid(f32::NAN).is_nan());
    }

    /// Every function is that of the interpreter, and nothing is written outside of the image.
    #[test]
    fn functions_are_the_interpreters() {
        let activations = [
            Activation::Sigmoid,
            Activation::Swish { alpha: 1.5 },
            Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
            Activation::HardSwish,
            Activation::Gelu { tanh: false },
            Activation::Softplus,
        ];
        let from = Blocked::new(5, 4, 3, 2, Halo::uniform(1)).unwrap();
        let to = Blocked::new(5, 4, 3, 2, Halo::uniform(2)).unwrap();
        let dense: Vec<f32> = (0..30).map(|i| (i as f32 - 15.0) / 3.0).collect();
        let mut input = vec![0.0; from.len()];
        from.pack(&dense, &mut input).unwrap();
        for activation in activations {
            for parallel in [false, true] {
                let outputs = Isa::available().into_iter().map(|isa| {
                    let function = Function::Activation(activation);
                    let map = Map { isa, function, from: &from, to: &to, parallel };
                    let mut output = vec![0.0; to.len()];
                    map.run(&input, &mut output);
                    output
                });
                let mut outputs: Vec<Vec<f32>> = outputs.collect();
                outputs.dedup();
                assert_eq!(outputs.len(), 1, "{activation:?}: instruction sets differ");
                let output = outputs.remove(0);
                let mut got = vec![0.0; 30];
                to.unpack(&output, &mut got).unwrap();
                for (got, x) in got.iter().zip(&dense) {
                    let expected: f64 = relc_interp::activation(&activation, f64::from(*x));
                    assert!((f64::from(*got) - expected).abs() < 1e-6, "{activation:?} of {x}: {got}");
                }
                let mut repacked = vec![0.0; to.len()];
                to.pack(&got, &mut repacked).unwrap();
                assert_eq!(output, repacked, "{activation:?}: something else was written");
            }
        }
    }
}
