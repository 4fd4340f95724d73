//! The normal form of a linear layer's rule:
//! `den_j = sum_p sum_i x_p,i w_p,ij (+ b_j) + stabiliser`, `s_j = R_j / den_j`,
//! `R_i = sum_p x_p,i sum_j w_p,ij s_j`.
//!
//! Where `|den_j|` is below [`FALLBACK_THRESHOLD`] and the rule has the flat fallback, `R_j` goes evenly to the
//! inputs that its receptive field has inside the input. Where `den_j` is exactly 0 and the rule has none, `R_j` goes
//! nowhere and is booked as clipped. Where there is no input to go to, it is booked as padding.

use std::borrow::Cow;

use ndarray::ArrayD;
use rayon::prelude::*;
use relc_ir::rule::{FALLBACK_THRESHOLD, Fallback, InputPart, LinearRule};

use super::{Losses, Propagated};
use crate::element::Element;
use crate::layer::Layer;
use crate::ops::row_len;

/// A rule on a layer that holds one form of the weight per term.
pub(super) struct Linear<'a, T> {
    pub layer: &'a (dyn Layer<T> + 'a),
    pub rule: &'a LinearRule,
    /// One value per output channel, if biases enter.
    pub bias: Option<&'a [T]>,
}

/// A form of the input; `None` if it is all zero and so contributes nothing.
fn input_part<T: Element>(a: &[T], part: InputPart) -> Option<Cow<'_, [T]>> {
    let is_zero = |v: &T| v.is_zero();
    match part {
        InputPart::Ones => Some(Cow::Owned(vec![T::one(); a.len()])),
        InputPart::Raw if a.iter().all(is_zero) => None,
        InputPart::Raw => Some(Cow::Borrowed(a)),
        InputPart::Positive if a.iter().all(|v| *v <= T::zero()) => None,
        InputPart::Positive => Some(Cow::Owned(a.iter().map(|v| v.max(T::zero())).collect())),
        InputPart::Negative if a.iter().all(|v| *v >= T::zero()) => None,
        InputPart::Negative => Some(Cow::Owned(a.iter().map(|v| v.min(T::zero())).collect())),
    }
}

impl<T: Element> Linear<'_, T> {
    /// Runs the rule on every entry of the first axis of `r` and `act`; `out` is zero and of `act`'s shape.
    pub fn rows(&self, r: &ArrayD<T>, act: &ArrayD<T>, mut out: ArrayD<T>) -> Option<Propagated<T>> {
        let (inputs, outputs) = (row_len(act), row_len(r));
        let rows = r.as_slice()?.par_chunks_exact(outputs).zip(act.as_slice()?.par_chunks_exact(inputs));
        let rows = rows.zip(out.as_slice_mut()?.par_chunks_exact_mut(inputs));
        let losses = rows.map(|((r, a), out)| self.row(r, a, out)).collect();
        Some(Propagated { outputs: vec![out], losses })
    }

    fn row(&self, r: &[T], a: &[T], out: &mut [T]) -> Losses {
        let parts: Vec<_> = self.rule.terms.iter().map(|term| input_part(a, term.input)).collect();
        let present = || parts.iter().enumerate().filter_map(|(term, x)| Some((term, x.as_ref()?)));
        let mut den = vec![T::zero(); r.len()];
        for (term, x) in present() {
            self.layer.apply(term, x, &mut den);
        }
        let (s, flat, losses) = self.quotients(r, den);
        for (term, x) in present() {
            let mut c = vec![T::zero(); out.len()];
            self.layer.transpose(term, &s, &mut c);
            out.iter_mut().zip(x.iter().zip(&c)).for_each(|(out, (x, c))| *out += *x * *c);
        }
        if let Some(flat) = flat {
            self.layer.spread(&flat, out);
        }
        losses
    }

    /// `s_j` in the place of the denominators without bias and stabiliser, each output's share of the fallback if
    /// there is any, and the losses.
    fn quotients(&self, r: &[T], mut den: Vec<T>) -> (Vec<T>, Option<Vec<T>>, Losses) {
        let (fan_in, outputs) = (self.layer.fan_in(), r.len());
        let mut losses = Losses::default();
        let mut flat: Option<Vec<T>> = None;
        for (j, (den, &r)) in den.iter_mut().zip(r).enumerate() {
            let inputs = fan_in[j % fan_in.len()];
            let bias = self.bias.map_or(T::zero(), |bias| bias[j / fan_in.len()]);
            let z = *den + bias;
            let eps = T::narrow(self.rule.stabiliser.term(z.widen()));
            let d = z + eps;
            *den = T::zero();
            let vanishes = self.rule.fallback == Fallback::Flat && d.abs().widen() < FALLBACK_THRESHOLD;
            if r.is_zero() {
                continue;
            } else if !vanishes && !d.is_zero() {
                let s = r / d;
                *den = s;
                losses.bias += s.widen() * bias.widen();
                losses.stabiliser += s.widen() * eps.widen();
            } else if inputs == 0 {
                losses.padding += r.widen();
            } else if vanishes {
                let shares = flat.get_or_insert_with(|| vec![T::zero(); outputs]);
                shares[j] = r / T::narrow(inputs as f64);
                losses.flat_fallback += r.widen();
            } else {
                losses.clipped += r.widen();
            }
        }
        (den, flat, losses)
    }
}
