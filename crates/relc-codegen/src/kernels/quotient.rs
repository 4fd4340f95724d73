//! `s = R / den`, with what the denominator loses.

use super::layout::{Blocked, for_vectors};
use crate::kir::{Body, BufferKind, Compare, Elem, Idx, Kernel, KernelBuilder, Ty, Unary, Val};

/// What is added to a denominator `z`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stabiliser {
    /// Nothing.
    None,
    /// `eps`.
    Plain(f32),
    /// `eps` where `z >= 0`, `-eps` elsewhere.
    Signed(f32),
}

/// How relevance is divided by a denominator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quotient {
    /// What is added to the denominator.
    pub stabiliser: Stabiliser,
    /// Denominators of smaller magnitude have a flat fallback: their relevance is spread evenly. Without, relevance
    /// over a denominator of exactly 0 goes nowhere.
    pub fallback: Option<f32>,
}

/// The values that [`Quotient::emit`] makes of four relevances.
#[derive(Clone, Copy, Debug)]
pub struct QuotientParts {
    /// `R / d`, 0 where `d` vanishes.
    pub s: Val,
    /// `R` where `d` vanishes, 0 elsewhere: what `s` does not carry.
    pub rest: Val,
    /// What the stabiliser added to the denominator.
    pub eps: Option<Val>,
}

impl Quotient {
    /// `R / (z + eps)` of f32x4 values.
    pub fn emit(&self, b: &mut Body, r: Val, z: Val) -> QuotientParts {
        let zero = b.const4(0.0);
        let eps = match self.stabiliser {
            Stabiliser::None => None,
            Stabiliser::Plain(eps) => Some(b.const4(eps)),
            Stabiliser::Signed(eps) => {
                let (plus, minus) = (b.const4(eps), b.const4(-eps));
                let positive = b.compare(Compare::Ge, z, zero);
                Some(b.select(positive, plus, minus))
            }
        };
        let d = eps.map_or(z, |eps| b.add(z, eps));
        let vanishes = match self.fallback {
            Some(threshold) => {
                let (size, threshold) = (b.abs(d), b.const4(threshold));
                b.compare(Compare::Lt, size, threshold)
            }
            None => b.compare(Compare::Eq, d, zero),
        };
        let ratio = b.div(r, d);
        let s = b.select(vanishes, zero, ratio);
        let rest = b.select(vanishes, r, zero);
        QuotientParts { s, rest, eps }
    }
}

/// The sums that a task of [`quotient`] writes, in order: what arrived, what the stabiliser absorbed, what the flat
/// fallback spread, what went nowhere because the denominator is 0, and because the window has no valid input.
pub const LEDGER: [&str; 5] = ["incoming", "stabiliser", "flat_fallback", "clipped", "padding"];

/// A sum in f64 over f32x4 values.
struct Sum(Val);

impl Sum {
    fn new(b: &mut Body) -> Self {
        let zero = b.constant(Ty::F64x2, 0.0);
        Sum(b.var(zero))
    }

    fn add(&self, b: &mut Body, value: Val) {
        let (low, high) = (b.unary(Unary::PromoteLow, value), b.unary(Unary::PromoteHigh, value));
        let pairs = b.add(low, high);
        let next = b.add(self.0, pairs);
        b.set(self.0, next);
    }

    fn store(self, b: &mut Body, buffer: crate::kir::Buf, at: Idx) {
        let sum = b.unary(Unary::ReduceAdd, self.0);
        b.store(sum, buffer, at);
    }
}

/// `s = R / (den + eps)`, and with the fallback `flat = R / fan_in` where the denominator vanishes.
///
/// Buffers: `r`, `den`; with the fallback `fan_in: const f32[H * W]`, the number of valid inputs of each pixel's
/// window; `s`; with the fallback `flat`; then `ledger: out f64[tasks][5]`, see [`LEDGER`]. All tensors share `shape`
/// but for their halos: `layouts` are those of r, den, s and flat. One task per block and row.
pub fn quotient(name: &str, layouts: [Blocked; 4], rule: Quotient) -> Kernel {
    let [r, den, s, flat] = layouts;
    let mut k = KernelBuilder::new(name);
    let (rel, z) = (k.input("r", r.len()), k.input("den", den.len()));
    let plane = usize::try_from(u64::from(r.height) * u64::from(r.width)).unwrap_or(usize::MAX);
    let fan_in = rule.fallback.map(|_| k.constant("fan_in", plane));
    let out = k.output("s", s.len());
    let spread = rule.fallback.map(|_| k.output("flat", flat.len()));
    let slots = LEDGER.len() as i64;
    let rows = r.blocks().saturating_mul(i64::from(r.height));
    let slots_len = usize::try_from(rows.saturating_mul(slots)).unwrap_or(usize::MAX);
    let ledger = k.buffer("ledger", BufferKind::Out, Elem::F64, slots_len);
    k.tasks(r.rows(), |b, [block, y]| {
        let sums = LEDGER.map(|_| Sum::new(b));
        let [incoming, stabiliser, fallback, clipped, padding] = &sums;
        for_vectors(b, &r, [block, y], |b, at| {
            let (relevance, z) = (b.load4(rel, at.of(&r)), b.load4(z, at.of(&den)));
            let parts = rule.emit(b, relevance, z);
            b.store(parts.s, out, at.of(&s));
            incoming.add(b, relevance);
            if let Some(eps) = parts.eps {
                let absorbed = b.mul(parts.s, eps);
                stabiliser.add(b, absorbed);
            }
            let (Some(fan_in), Some(spread)) = (fan_in, spread) else {
                clipped.add(b, parts.rest);
                return;
            };
            let inputs = b.load_splat(fan_in, &at.y * i64::from(r.width) + &at.x);
            let zero = b.const4(0.0);
            let nowhere = b.compare(Compare::Eq, inputs, zero);
            let lost = b.select(nowhere, parts.rest, zero);
            let kept = b.select(nowhere, zero, parts.rest);
            let share = b.div(kept, inputs);
            let share = b.select(nowhere, zero, share);
            b.store(share, spread, at.of(&flat));
            fallback.add(b, kept);
            padding.add(b, lost);
        });
        let slot = (block * i64::from(r.height) + y) * slots;
        for (sum, k) in sums.into_iter().zip(0i64..) {
            sum.store(b, ledger, &slot + k);
        }
    })
}
