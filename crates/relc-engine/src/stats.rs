//! Sums of a buffer, in f64, in a fixed order.

use rayon::prelude::*;
use relc_runtime::layout::Blocked;

/// Sums over the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The sum.
    pub sum: f64,
    /// The sum of magnitudes.
    pub magnitude: f64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Stats {
    /// Of no elements.
    pub const NOTHING: Stats = Stats { sum: 0.0, magnitude: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// Of the elements of both.
    pub fn with(self, other: Stats) -> Stats {
        Stats {
            sum: self.sum + other.sum,
            magnitude: self.magnitude + other.magnitude,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Whether all elements are finite: a sum of magnitudes that fit in f32 is, in f64.
    pub fn is_finite(&self) -> bool {
        self.magnitude.is_finite()
    }

    /// Of a tensor's interior, block of channels by block; on the current rayon pool if `parallel`.
    pub fn of(layout: &Blocked, data: &[f32], parallel: bool) -> Stats {
        let block = |b: usize| Stats::of_block(layout, data, b);
        let blocks: Vec<Stats> = if parallel {
            (0..layout.blocks()).into_par_iter().map(block).collect()
        } else {
            (0..layout.blocks()).map(block).collect()
        };
        blocks.into_iter().fold(Stats::NOTHING, Stats::with)
    }

    fn of_block(layout: &Blocked, data: &[f32], block: usize) -> Stats {
        let v = layout.block();
        let channels = v.min(layout.channels() - block * v);
        let row = |y: usize| {
            let start = layout.offset(block, y, 0);
            data.get(start..start + layout.width() * v).unwrap_or(&[])
        };
        let rows = (0..layout.height()).map(row);
        if channels == v {
            rows.map(of_slice).fold(Stats::NOTHING, Stats::with)
        } else {
            // The vector's last lanes are no elements.
            rows.flat_map(|r| r.chunks_exact(v))
                .map(|pixel| of_slice(&pixel[..channels]))
                .fold(Stats::NOTHING, Stats::with)
        }
    }
}

fn of_slice(values: &[f32]) -> Stats {
    const LANES: usize = 8;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut sum, mut magnitude) = ([0.0f64; LANES], [0.0f64; LANES]);
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for chunk in chunks {
        for (i, value) in chunk.iter().enumerate() {
            sum[i] += f64::from(*value);
            magnitude[i] += f64::from(value.abs());
            min[i] = min[i].min(*value);
            max[i] = max[i].max(*value);
        }
    }
    let mut stats = Stats::NOTHING;
    for i in 0..LANES {
        stats = stats.with(Stats { sum: sum[i], magnitude: magnitude[i], min: min[i], max: max[i] });
    }
    rest.iter().fold(stats, |s, v| {
        s.with(Stats { sum: f64::from(*v), magnitude: f64::from(v.abs()), min: *v, max: *v })
    })
}
