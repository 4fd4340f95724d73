//! Kernels that map each element, or each four channels of a pixel, on their own.

use relc_program::layout::Blocked;

use super::layout::{Addressed, Position, for_vectors};
use crate::kir::{Body, Buf, BufferKind, Compare, Elem, Idx, Kernel, KernelBuilder, Val};

/// An operand of [`elementwise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand<'a> {
    /// A tensor.
    Tensor(&'a str, Blocked),
    /// A tensor of one pixel, the same for all of its slice.
    Pixel(&'a str, Blocked),
    /// One constant per channel of each slice: f32 `[D * ceil(C/V) * V]`, zero beyond C.
    Channels(&'a str),
    /// One constant per pixel: f32 `[H * W]`.
    Plane(&'a str),
}

impl<'a> Operand<'a> {
    fn name(&self) -> &'a str {
        match self {
            Operand::Tensor(name, _)
            | Operand::Pixel(name, _)
            | Operand::Channels(name)
            | Operand::Plane(name) => name,
        }
    }

    fn len(&self, shape: &Blocked) -> usize {
        let len = match self {
            Operand::Tensor(_, layout) | Operand::Pixel(_, layout) => return layout.len(),
            Operand::Channels(_) => shape.block_count().saturating_mul(shape.pixel()),
            Operand::Plane(_) => shape.plane().iter().product(),
        };
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    fn load(&self, b: &mut Body, buffer: Buf, at: &Position, shape: &Blocked) -> Val {
        match self {
            Operand::Tensor(_, layout) => b.load4(buffer, at.of(layout)),
            Operand::Pixel(_, layout) => b.load4(buffer, layout.at(&at.block, 0, 0) + &at.v),
            Operand::Channels(_) => b.load4(buffer, &at.block * shape.pixel() + &at.v),
            Operand::Plane(_) => {
                let pixel: Idx = &at.y * shape.plane()[1] + &at.x;
                b.load_splat(buffer, pixel)
            }
        }
    }
}

/// `writes = f(reads)`, four channels of a pixel at a time; one task per block and row.
///
/// All tensors have the image and vector of the first one written; their halos may differ. A
/// tensor that is written under the name of one that is read, with the same layout, is one `inout` buffer. The
/// buffers are those of `reads`, then the others of `writes`. Read tensors may be bound to the memory of written ones
/// of the same layout.
pub fn elementwise<const R: usize, const W: usize>(
    name: &str,
    reads: [Operand<'_>; R],
    writes: [(&str, Blocked); W],
    f: impl Fn(&mut Body, [Val; R]) -> [Val; W],
) -> Kernel {
    map_vectors(name, &reads, &writes, |b, values| match <[Val; R]>::try_from(values) {
        Ok(values) => f(b, values).to_vec(),
        Err(_) => Vec::new(),
    })
}

/// [`elementwise`] for a number of operands that is not known when relc is compiled.
fn map_vectors(
    name: &str,
    reads: &[Operand<'_>],
    writes: &[(&str, Blocked)],
    f: impl Fn(&mut Body, &[Val]) -> Vec<Val>,
) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let Some((_, shape)) = writes.first().copied() else { return k.tasks([("t", 1)], |_, _| {}) };
    let mut sources = Vec::with_capacity(reads.len());
    for operand in reads {
        let kind = match operand {
            Operand::Tensor(name, _) if writes.iter().any(|(written, _)| written == name) => {
                BufferKind::InOut
            }
            Operand::Tensor(..) | Operand::Pixel(..) => BufferKind::In,
            Operand::Channels(_) | Operand::Plane(_) => BufferKind::Const,
        };
        sources.push(k.buffer(operand.name(), kind, Elem::F32, operand.len(&shape)));
    }
    let mut targets = Vec::with_capacity(writes.len());
    for (name, layout) in writes {
        let source = reads.iter().zip(&sources).find(|(operand, _)| operand.name() == *name);
        targets.push(source.map_or_else(|| k.output(name, layout.len()), |(_, buffer)| *buffer));
    }
    k.tasks(shape.rows(), |b, row| {
        for_vectors(b, &shape, row, |b, at| {
            let loads =
                reads.iter().zip(&sources).map(|(operand, buffer)| operand.load(b, *buffer, at, &shape));
            let values: Vec<Val> = loads.collect();
            let results = f(b, &values);
            for ((value, buffer), (_, layout)) in results.into_iter().zip(&targets).zip(writes) {
                b.store(value, *buffer, at.of(layout));
            }
        });
    })
}

/// `y` is the sum of the parts, added in their order, and with `relu` its positive part. Buffers: the parts, y.
pub fn sum_relu(name: &str, parts: &[Blocked], y: Blocked, relu: bool) -> Kernel {
    let names: Vec<String> = (0..parts.len()).map(|i| format!("x{i}")).collect();
    let reads: Vec<Operand<'_>> =
        names.iter().zip(parts).map(|(name, part)| Operand::Tensor(name, *part)).collect();
    map_vectors(name, &reads, &[("y", y)], |b, parts| {
        let sum = parts.iter().copied().reduce(|sum, part| b.add(sum, part));
        sum.map(|sum| if relu { max_zero(b, sum) } else { sum }).into_iter().collect()
    })
}

fn max_zero(b: &mut Body, value: Val) -> Val {
    let zero = b.const4(0.0);
    b.max(value, zero)
}

/// `y = x * scale + shift` per channel (a batch normalisation), and with `relu` its positive part. Buffers: x,
/// scale, shift, y.
pub fn scale_shift(name: &str, [x, y]: [Blocked; 2], relu: bool) -> Kernel {
    let reads = [Operand::Tensor("x", x), Operand::Channels("scale"), Operand::Channels("shift")];
    elementwise(name, reads, [("y", y)], |b, [x, scale, shift]| {
        let y = b.fma(x, scale, shift);
        [if relu { max_zero(b, y) } else { y }]
    })
}

/// The split of the relevance of a residual join by ratio: `r_main = R |main| / (|main| + |skip|)`,
/// `r_skip = R - r_main`; 1/2 each where both are 0. Buffers: main, skip, r, r_main, r_skip.
pub fn ratio_split(name: &str, [main, skip, r, r_main, r_skip]: [Blocked; 5]) -> Kernel {
    let reads = [Operand::Tensor("main", main), Operand::Tensor("skip", skip), Operand::Tensor("r", r)];
    elementwise(name, reads, [("r_main", r_main), ("r_skip", r_skip)], |b, [main, skip, r]| {
        let (main, skip) = (b.abs(main), b.abs(skip));
        let sum = b.add(main, skip);
        let (zero, half) = (b.const4(0.0), b.const4(0.5));
        let even = b.compare(Compare::Eq, sum, zero);
        let ratio = b.div(main, sum);
        let ratio = b.select(even, half, ratio);
        let to_main = b.mul(ratio, r);
        let to_skip = b.sub(r, to_main);
        [to_main, to_skip]
    })
}

/// `r = a * c`. Buffers: a, c, r.
pub fn multiply(name: &str, [a, c, r]: [Blocked; 3]) -> Kernel {
    let reads = [Operand::Tensor("a", a), Operand::Tensor("c", c)];
    elementwise(name, reads, [("r", r)], |b, [a, c]| [b.mul(a, c)])
}
