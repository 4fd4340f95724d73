//! Average pools: the mean, and its relevance by z+.

use super::layout::Blocked;
use super::pack::zero_interior;
use super::pool::{Site, for_windows};
use super::quotient::Quotient;
use super::window::Axis;
use crate::kir::{Kernel, KernelBuilder};

/// The windows of an average pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    /// Vertical, horizontal.
    pub axes: [Axis; 2],
    /// Whether the divisor counts padding. Pixels behind the padding never count.
    pub count_include_pad: bool,
}

impl Average {
    /// `1 / divisor` of a window; 0 where it has no taps.
    fn weight(&self, site: &Site<'_>) -> f32 {
        let divisor = if self.count_include_pad { site.padded() } else { site.valid() };
        if divisor == 0 { 0.0 } else { (divisor as f64).recip() as f32 }
    }
}

/// `y = sum over valid taps of x / divisor`. One task per block of channels.
pub fn average_pool(name: &str, x: Blocked, y: Blocked, pool: Average) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", x.len()), k.output("y", y.len()));
    k.tasks([("b", x.blocks())], |b, [block]| {
        for_windows(b, &pool.axes, x.pixel(), block, |b, site| {
            let (zero, weight) = (b.const4(0.0), b.const4(pool.weight(site)));
            let sum = b.var(zero);
            site.for_taps(b, |b, tap| {
                let value = b.load4(input, site.input(&x, tap));
                let next = b.add(sum, value);
                b.set(sum, next);
            });
            let mean = b.mul(sum, weight);
            b.store(mean, output, site.output(&y));
        });
    })
}

/// z+ of an average pool, whose weights `w = 1 / divisor` are positive: with `a = max(x, 0)`,
/// `den = w sum a`, `s = R / (den + eps)`, `r_in = a * sum over windows of w s`.
///
/// With the fallback, a window whose denominator vanishes gives each of its valid taps an equal share of `R`.
/// Buffers: `x`, the pool's input; `r`, of the layout of its output; `r_in`, of the layout of its input. One task per
/// block of channels.
pub fn average_pool_relevance(
    name: &str,
    [x, r, r_in]: [Blocked; 3],
    pool: Average,
    rule: Quotient,
) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (act, rel) = (k.input("x", x.len()), k.input("r", r.len()));
    let out = k.output("r_in", r_in.len());
    k.tasks([("b", x.blocks())], |b, [block]| {
        zero_interior(b, out, &r_in, block);
        for_windows(b, &pool.axes, x.pixel(), block, |b, site| {
            if site.valid() == 0 {
                return;
            }
            let (zero, weight) = (b.const4(0.0), b.const4(pool.weight(site)));
            let sum = b.var(zero);
            site.for_taps(b, |b, tap| {
                let value = b.load4(act, site.input(&x, tap));
                let value = b.max(value, zero);
                let next = b.add(sum, value);
                b.set(sum, next);
            });
            let den = b.mul(sum, weight);
            let relevance = b.load4(rel, site.output(&r));
            let parts = rule.emit(b, relevance, den);
            let weighted = b.mul(parts.s, weight);
            let count = b.const4((site.valid() as f64).recip() as f32);
            let flat = rule.fallback.is_some().then(|| b.mul(parts.rest, count));
            site.for_taps(b, |b, tap| {
                let value = b.load4(act, site.input(&x, tap.clone()));
                let value = b.max(value, zero);
                let at = site.input(&r_in, tap);
                let before = b.load4(out, &at);
                let before = flat.map_or(before, |flat| b.add(before, flat));
                let after = b.fma(value, weighted, before);
                b.store(after, out, at);
            });
        });
    })
}
