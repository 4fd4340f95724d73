//! Average pools.

use super::layout::Blocked;
use super::pool::{Site, for_windows};
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
