//! The kernels once more, plainly.

use super::{Kind, Part, Shape, TileArgs};

/// Computes what a kernel of this shape does, from slices that start where the arguments' pointers do; those
/// are not looked at. Sums in f64.
///
/// # Panics
/// If a slice is shorter than [`Shape::extents`]: it serves tests and interpreters, which check that before.
pub fn reference(
    shape: Shape,
    part: Part,
    args: &TileArgs,
    taps: &[u32],
    input: &[f32],
    weights: &[f32],
    out: &mut [f32],
) {
    let width = shape.isa.width();
    let lanes = args.lanes as usize;
    let tap_weights = shape.tap_weights(args.lanes) as usize;
    let vectors = if shape.kind == Kind::Dot { 1 } else { width };
    for (row, px) in (0..shape.rows).flat_map(|row| (0..shape.pixels).map(move |px| (row, px))) {
        for ob in 0..shape.blocks {
            for v in 0..vectors {
                let target = row * args.out_row_stride as usize
                    + px * args.out_pixel_stride as usize
                    + ob * args.out_block_stride as usize
                    + v;
                let mut sum = if args.accumulate == 0 { 0.0 } else { f64::from(out[target]) };
                for (tap, &offset) in taps.iter().enumerate() {
                    let from = offset as usize
                        + row * args.in_row_stride as usize
                        + px * args.in_pixel_stride as usize;
                    let weights = &weights[tap * tap_weights..][..tap_weights];
                    let products: f64 = match shape.kind {
                        Kind::Tile => (0..lanes)
                            .map(|lane| {
                                product(
                                    part,
                                    input[from + lane],
                                    weights[(lane * shape.blocks + ob) * width + v],
                                )
                            })
                            .sum(),
                        Kind::Depthwise => product(part, input[from + v], weights[v]),
                        Kind::Dot => (0..width)
                            .map(|lane| product(part, input[from + lane], weights[ob * width + lane]))
                            .sum(),
                    };
                    sum += products;
                }
                out[target] = sum as f32;
            }
        }
    }
}

fn product(part: Part, value: f32, weight: f32) -> f64 {
    f64::from(value) * f64::from(part.of(weight))
}
