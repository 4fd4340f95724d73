//! Average pools.

use relc_program::layout::Blocked;

use super::layout::{Addressed, stride};
use super::pool::{Site, for_windows};
use super::window::Axis;
use crate::kir::{Body, Idx, Kernel, KernelBuilder, Val};

/// The windows of an average pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    /// From slice to slice, vertical, horizontal.
    pub axes: [Axis; 3],
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

/// Terms that are added one by one, before their sum joins others: what a sum in f32 rounds away grows with the terms
/// that it adds one by one.
const RUN: i64 = 64;

/// `y = sum over valid taps of x / divisor`. One task per block of channels.
pub fn average_pool(name: &str, x: Blocked, y: Blocked, pool: Average) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (input, output) = (k.input("x", x.len()), k.output("y", y.len()));
    k.tasks([("b", stride(x.slice_blocks()))], |b, [block]| {
        for_windows(b, &pool.axes, x.pixel(), block, |b, site| {
            let sum = if site.valid() > RUN {
                let [slices, rows, columns] = site.valid_taps();
                let mut plane = |b: &mut Body, kz: Idx| {
                    sum_in_runs(b, 0.into(), rows, &mut |b, ky| {
                        sum_in_runs(b, 0.into(), columns, &mut |b, kx| {
                            b.load4(input, site.input(&x, [kz.clone(), ky.clone(), kx]))
                        })
                    })
                };
                match slices {
                    1 => plane(b, 0.into()),
                    _ => sum_in_runs(b, 0.into(), slices, &mut plane),
                }
            } else {
                let zero = b.const4(0.0);
                let sum = b.var(zero);
                site.for_taps(b, |b, tap| {
                    let value = b.load4(input, site.input(&x, tap));
                    let next = b.add(sum, value);
                    b.set(sum, next);
                });
                sum
            };
            let weight = b.const4(pool.weight(site));
            let mean = b.mul(sum, weight);
            b.store(mean, output, site.output(&y));
        });
    })
}

/// The sum of the terms `start .. start + count`, of which at most [`RUN`] are added one by one: terms, runs of them,
/// runs of runs.
fn sum_in_runs(b: &mut Body, start: Idx, count: i64, term: &mut dyn FnMut(&mut Body, Idx) -> Val) -> Val {
    let zero = b.const4(0.0);
    let sum = b.var(zero);
    let add = |b: &mut Body, value: Val| {
        let next = b.add(sum, value);
        b.set(sum, next);
    };
    let mut run = 1;
    while run * RUN < count {
        run *= RUN;
    }
    let whole = count - count % run;
    b.for_range("run", 0, whole, run, |b, at| {
        let at = &start + at;
        let value = if run == 1 { term(b, at) } else { sum_in_runs(b, at, run, term) };
        add(b, value);
    });
    if whole < count {
        let rest = sum_in_runs(b, &start + whole, count - whole, term);
        add(b, rest);
    }
    sum
}
