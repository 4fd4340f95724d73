//! The normal form of a linear layer's rule; [`relc_ir::rule::LinearRule`] states the formula.
//!
//! Where `|den_j|` is below [`FALLBACK_THRESHOLD`] and the rule has the flat fallback, the part's relevance goes
//! evenly to the inputs that its receptive field has inside the input. Where `den_j` is exactly 0 and the rule has
//! none, it goes nowhere and is booked as clipped. Where there is no input to go to, it is booked as padding. A rule whose
//! leak is handed on books none of that: what it does not pass on is its second output.

use std::borrow::Cow;

use ndarray::ArrayD;
use rayon::prelude::*;
use relc_ir::rule::{BiasPart, FALLBACK_THRESHOLD, Fallback, InputPart, Leak, LinearRule, Part, Stabiliser};

use relc_ir::ledger::Losses;

use super::Propagated;
use crate::element::Element;
use crate::layer::Layer;
use crate::ops::row_len;

/// A rule on a layer that holds one form of the weight per term, those of all parts one after the other.
pub(super) struct Linear<'a, T> {
    pub layer: &'a (dyn Layer<T> + 'a),
    pub rule: &'a LinearRule,
    /// One value per output channel, if biases enter.
    pub bias: Option<&'a [T]>,
    /// The layer's output, if the rule reads it.
    pub output: Option<&'a ArrayD<T>>,
}

/// A form of the input; `None` if it is all zero and so contributes nothing.
fn input_part<'a, T: Element>(rule: &LinearRule, a: &'a [T], part: InputPart) -> Option<Cow<'a, [T]>> {
    let is_zero = |v: &T| v.is_zero();
    let bound = |values: &[f64]| {
        let per_channel = a.len() / values.len().max(1);
        let value = |i| T::narrow(-values.get(i / per_channel.max(1)).copied().unwrap_or(0.0));
        Cow::Owned((0..a.len()).map(value).collect())
    };
    match part {
        InputPart::Ones => Some(Cow::Owned(vec![T::one(); a.len()])),
        InputPart::Raw if a.iter().all(is_zero) => None,
        InputPart::Raw => Some(Cow::Borrowed(a)),
        InputPart::Positive if a.iter().all(|v| *v <= T::zero()) => None,
        InputPart::Positive => Some(Cow::Owned(a.iter().map(|v| v.max(T::zero())).collect())),
        InputPart::Negative if a.iter().all(|v| *v >= T::zero()) => None,
        InputPart::Negative => Some(Cow::Owned(a.iter().map(|v| v.min(T::zero())).collect())),
        InputPart::MinusLow => rule.bounds.as_ref().map(|b| bound(&b.low)),
        InputPart::MinusHigh => rule.bounds.as_ref().map(|b| bound(&b.high)),
    }
}

/// What one part does with one output's relevance.
enum Share<T> {
    /// `s`, the denominator without bias and stabiliser, the bias and the stabiliser.
    Quotient { s: T, sum: T, bias: T, eps: T },
    /// The denominator vanishes: this much has nowhere to go in proportion.
    Vanished(T),
}

/// What the outputs pass back.
struct Quotients<T> {
    /// `s` for each part.
    parts: Vec<Vec<T>>,
    /// Each output's share of what is spread evenly.
    flat: Option<Vec<T>>,
    /// What each output does not pass on, if another node takes it.
    lost: Option<Vec<T>>,
    losses: Losses,
}

impl<T: Element> Linear<'_, T> {
    /// Runs the rule on every entry of the first axis of `r` and `act`; `out` is zero and of `act`'s shape.
    pub fn rows(&self, r: &ArrayD<T>, act: &ArrayD<T>, mut out: ArrayD<T>) -> Option<Propagated<T>> {
        let (inputs, outputs) = (row_len(act), row_len(r));
        let z = match self.output {
            Some(z) => Some(z.as_slice()?),
            None => None,
        };
        let rows = r.as_slice()?.par_chunks_exact(outputs).zip(act.as_slice()?.par_chunks_exact(inputs));
        let rows = rows.zip(out.as_slice_mut()?.par_chunks_exact_mut(inputs)).enumerate();
        let z_row = |row: usize| z.and_then(|z| z.get(row * outputs..(row + 1) * outputs));
        let rows = rows.map(|(row, ((r, a), out))| self.row(r, a, z_row(row), out));
        let (losses, lost): (Vec<Losses>, Vec<Option<Vec<T>>>) = rows.unzip();
        let mut all = vec![out];
        if self.rule.leak != Leak::Lost {
            let lost = lost.into_iter().flatten().flatten().collect();
            all.push(ArrayD::from_shape_vec(r.raw_dim(), lost).ok()?);
        }
        Some(Propagated { outputs: all, losses })
    }

    /// What is booked, and what another node takes.
    fn row(&self, r: &[T], a: &[T], z: Option<&[T]>, out: &mut [T]) -> (Losses, Option<Vec<T>>) {
        let inputs: Vec<_> = self.rule.terms().map(|term| input_part(self.rule, a, term.input)).collect();
        let mut first = 0;
        let parts: Vec<_> = self
            .rule
            .parts
            .iter()
            .map(|part| {
                let terms = first..first + part.terms.len();
                first = terms.end;
                terms.filter_map(|i| Some((i, inputs[i].as_ref()?))).collect::<Vec<_>>()
            })
            .collect();
        let sums: Vec<Vec<T>> = self
            .rule
            .parts
            .iter()
            .zip(&parts)
            .map(|(part, terms)| {
                let mut sum = vec![T::zero(); r.len()];
                match z.filter(|_| self.rule.is_output(part)) {
                    Some(z) => {
                        sum.iter_mut().zip(z).enumerate().for_each(|(j, (s, z))| *s = *z - self.bias_of(j))
                    }
                    None if part.divides => {
                        terms.iter().for_each(|(form, x)| self.layer.apply(*form, x, &mut sum));
                    }
                    None => {}
                }
                sum
            })
            .collect();
        let quotients = self.quotients(r, z, &sums);
        for (terms, s) in parts.iter().zip(&quotients.parts) {
            for (form, x) in terms {
                let mut c = vec![T::zero(); out.len()];
                self.layer.transpose(*form, s, &mut c);
                out.iter_mut().zip(x.iter().zip(&c)).for_each(|(out, (x, c))| *out += *x * *c);
            }
        }
        if let Some(flat) = quotients.flat {
            self.layer.spread(&flat, out);
        }
        (quotients.losses, quotients.lost)
    }

    /// The bias of output `j`; 0 if biases don't enter.
    fn bias_of(&self, j: usize) -> T {
        self.bias.map_or(T::zero(), |bias| bias[j / self.layer.fan_in().len()])
    }

    /// The shares of all outputs, where `sums` are the parts' denominators without bias and stabiliser.
    fn quotients(&self, r: &[T], z: Option<&[T]>, sums: &[Vec<T>]) -> Quotients<T> {
        let fan_in = self.layer.fan_in();
        let zeros = || vec![T::zero(); r.len()];
        let mut q = Quotients {
            parts: sums.iter().map(|_| zeros()).collect(),
            flat: None,
            lost: (self.rule.leak != Leak::Lost).then(zeros),
            losses: Losses::default(),
        };
        let rms: Vec<f64> = self.rule.parts.iter().zip(sums).map(|(part, sum)| self.rms(part, sum)).collect();
        for (j, &r) in r.iter().enumerate().filter(|(_, r)| !r.is_zero()) {
            let z = z.map_or(T::zero(), |z| z[j]);
            let shares: Vec<_> = self
                .rule
                .parts
                .iter()
                .zip(sums.iter().zip(&rms))
                .map(|(part, (sum, rms))| {
                    part.on.holds(z.widen()).then(|| self.share(part, r, sum[j], self.bias_of(j), *rms))
                })
                .collect();
            if q.lost.is_some() {
                hand_on(r, j, &shares, &mut q);
                continue;
            }
            let inputs = fan_in[j % fan_in.len()];
            match self.lose(r, j, &shares, inputs, &mut q) {
                None => {}
                Some(r) if inputs == 0 => q.losses.padding += r.widen(),
                Some(r) => {
                    q.flat.get_or_insert_with(zeros)[j] = r / T::narrow(inputs as f64);
                    q.losses.flat_fallback += r.widen();
                }
            }
        }
        q
    }

    /// The root of the mean square of a part's denominators, if the stabiliser is measured by it.
    fn rms(&self, part: &Part, sum: &[T]) -> f64 {
        if !matches!(self.rule.stabiliser, Stabiliser::Relative(_)) {
            return 0.0;
        }
        let square = |(j, sum): (usize, &T)| (*sum + self.part_bias(part, self.bias_of(j))).widen().powi(2);
        (sum.iter().enumerate().map(square).sum::<f64>() / sum.len().max(1) as f64).sqrt()
    }

    /// The form of a bias that enters a part.
    fn part_bias(&self, part: &Part, bias: T) -> T {
        match part.bias {
            BiasPart::Raw => bias,
            form => T::narrow(form.of(bias.widen(), self.rule.gamma)),
        }
    }

    fn share(&self, part: &Part, r: T, sum: T, bias: T, rms: f64) -> Share<T> {
        let r = if part.scale == 1.0 { r } else { r * T::narrow(part.scale) };
        if !part.divides {
            return Share::Quotient { s: r, sum: T::zero(), bias: T::zero(), eps: T::zero() };
        }
        let bias = self.part_bias(part, bias);
        let z = sum + bias;
        let eps = T::narrow(self.rule.stabiliser.term(z.widen(), rms));
        let d = z + eps;
        let vanishes = self.rule.fallback == Fallback::Flat && d.abs().widen() < FALLBACK_THRESHOLD;
        if vanishes || d.is_zero() {
            Share::Vanished(r)
        } else {
            Share::Quotient { s: r / d, sum, bias, eps }
        }
    }

    /// Books what is lost; what goes evenly is returned.
    fn lose(
        &self,
        r: T,
        j: usize,
        shares: &[Option<Share<T>>],
        inputs: usize,
        q: &mut Quotients<T>,
    ) -> Option<T> {
        let mut spread = None;
        if shares.iter().all(Option::is_none) {
            q.losses.clipped += r.widen();
        }
        for (share, s) in shares.iter().zip(&mut q.parts) {
            match share {
                None => {}
                Some(Share::Quotient { s: quotient, bias, eps, .. }) => {
                    s[j] = *quotient;
                    q.losses.bias += quotient.widen() * bias.widen();
                    q.losses.stabiliser += quotient.widen() * eps.widen();
                }
                Some(Share::Vanished(r)) if self.rule.fallback == Fallback::Flat || inputs == 0 => {
                    spread = Some(spread.map_or(*r, |sum: T| sum + *r));
                }
                Some(Share::Vanished(r)) => q.losses.clipped += r.widen(),
            }
        }
        spread
    }
}

/// Passes on what the denominators divide; the rest of what arrived is for another node.
fn hand_on<T: Element>(r: T, j: usize, shares: &[Option<Share<T>>], q: &mut Quotients<T>) {
    let mut rest = r;
    for (share, part) in shares.iter().zip(&mut q.parts) {
        if let Some(Share::Quotient { s, sum, .. }) = share {
            part[j] = *s;
            rest = rest - *s * *sum;
        }
    }
    if let Some(lost) = &mut q.lost {
        lost[j] = rest;
    }
}
