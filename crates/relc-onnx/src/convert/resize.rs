//! `Resize` and `Upsample`: along each axis a matrix product, whose weights are the interpolation's.

use relc_ir::op::{Conv, Reshape, Transpose, Window};
use relc_ir::{Dim, Op, ValueId};

use crate::call::{Call, Value};
use crate::constant::{Const, axis};
use crate::error::Fault;
use crate::tensor::Constant;

/// The most pixels along an axis that is resized, before and behind: the matrix has their product.
const MAX_RESIZED: usize = 4096;

/// How a pixel of the result is made.
struct Interpolation<'a> {
    mode: &'a str,
    coordinates: &'a str,
    nearest: &'a str,
    cubic: f64,
    exclude_outside: bool,
}

pub(crate) fn upsample(call: &mut Call) -> Result<Value, Fault> {
    let scales = if call.opset < 9 {
        call.expect_inputs(1..=1)?;
        let scales = call.attributes.floats("scales")?.map(<[f32]>::to_vec);
        scales.ok_or_else(|| Fault::invalid("the attribute \"scales\" is missing"))?
    } else {
        call.expect_inputs(2..=2)?;
        call.floats(1)?.data().to_vec()
    };
    let mode = call.attributes.string("mode")?.unwrap_or("nearest");
    let how = Interpolation {
        mode,
        coordinates: "asymmetric",
        nearest: "floor",
        cubic: -0.75,
        exclude_outside: false,
    };
    resized(call, &Target::Scales(scales), &how)
}

/// What is asked for: factors, or sizes, of every axis.
enum Target {
    Scales(Vec<f32>),
    Sizes(Vec<i64>),
}

pub(crate) fn resize(call: &mut Call) -> Result<Value, Fault> {
    if call.attributes.int("antialias")?.unwrap_or(0) != 0 {
        return Err(Fault::unsupported("got antialias=1, expected 0"));
    }
    let policy = call.attributes.string("keep_aspect_ratio_policy")?.unwrap_or("stretch");
    if policy != "stretch" {
        return Err(Fault::unsupported(format!("got keep_aspect_ratio_policy={policy}, expected stretch")));
    }
    call.attributes.ignore(&["extrapolation_value"]);
    let mode = call.attributes.string("mode")?.unwrap_or("nearest");
    let (scales, sizes) = if call.opset < 11 { (1, usize::MAX) } else { (2, 3) };
    let old = call.opset < 11;
    let how = Interpolation {
        mode,
        coordinates: if old {
            "asymmetric"
        } else {
            call.attributes.string("coordinate_transformation_mode")?.unwrap_or("half_pixel")
        },
        nearest: if old {
            "floor"
        } else {
            call.attributes.string("nearest_mode")?.unwrap_or("round_prefer_floor")
        },
        cubic: call.attributes.float("cubic_coeff_a")?.unwrap_or(-0.75),
        exclude_outside: call.attributes.flag("exclude_outside")?,
    };
    // An empty constant stands for an absent one.
    let given = |call: &Call, i: usize| {
        call.has(i)
            && !matches!(call.value(i), Ok(Value::Constant(Constant::Floats(c))) if c.data().is_empty())
    };
    let target = if given(call, scales) {
        Target::Scales(call.floats(scales)?.data().to_vec())
    } else if call.has(sizes) {
        let text = call.ints(sizes)?;
        // The batch of a computed size is the tensor's own.
        Target::Sizes(text.data().iter().map(|s| s.known().unwrap_or(-1)).collect())
    } else {
        return Err(Fault::invalid("got neither scales nor sizes, expected one of them"));
    };
    resized(call, &target, &how)
}

fn resized(call: &mut Call, target: &Target, how: &Interpolation) -> Result<Value, Fault> {
    let mut x = call.data(0)?;
    let rank = call.ty(x).rank();
    let axes = match call.attributes.ints("axes")? {
        Some(axes) => axes.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    let count = match target {
        Target::Scales(scales) => scales.len(),
        Target::Sizes(sizes) => sizes.len(),
    };
    if count != axes.len() {
        return Err(Fault::invalid(format!("got {count} scales or sizes, expected {}", axes.len())));
    }
    for (i, &axis) in axes.iter().enumerate() {
        let before = call.ty(x).dims()[axis];
        let Dim::Fixed(size) = before else {
            match target {
                Target::Scales(scales) if scales[i] != 1.0 => {
                    return Err(Fault::unsupported("got the batch to resize, expected other axes"));
                }
                _ => continue,
            }
        };
        let (after, scale) = match target {
            Target::Scales(scales) => {
                let scale = f64::from(scales[i]);
                ((size as f64 * scale).floor(), scale)
            }
            Target::Sizes(sizes) => (sizes[i] as f64, sizes[i] as f64 / size as f64),
        };
        if after == size as f64 && scale == 1.0 {
            continue;
        }
        if !(after >= 1.0 && after <= MAX_RESIZED as f64) || size > MAX_RESIZED {
            return Err(Fault::unsupported(format!(
                "got axis {axis} of {size} to resize to {after} pixels, expected 1 to {MAX_RESIZED}"
            )));
        }
        x = along(call, x, axis, after as usize, scale, how)?;
    }
    Ok(Value::Graph(x))
}

/// One axis: it becomes the channels of a pointwise convolution whose weight is the interpolation's matrix.
fn along(
    call: &mut Call,
    x: ValueId,
    axis: usize,
    after: usize,
    scale: f64,
    how: &Interpolation,
) -> Result<ValueId, Fault> {
    let dims = call.ty(x).dims().to_vec();
    let before = dims[axis].bind(1);
    let mut matrix = vec![0f32; before * after];
    call.builder.budget.charge::<f32>(matrix.len())?;
    for (o, row) in matrix.chunks_exact_mut(before).enumerate() {
        how.row(row, o, after, scale)?;
    }
    let weight = Const::new(vec![after, before, 1, 1], matrix)?;
    let weight = call.new_weight("interpolation", &weight)?;
    let mut perm: Vec<usize> = (0..dims.len()).filter(|i| *i != axis).collect();
    perm.insert(1, axis);
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, p)| back[*p] = i);
    let x = call.node(Op::Transpose(Transpose { perm: perm.clone() }), &[x])?;
    let moved: Vec<Dim> = call.ty(x).dims().to_vec();
    let rest: Option<usize> = moved[2..].iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?));
    let rest = rest.ok_or_else(|| Fault::invalid("the number of pixels overflows"))?;
    let picture = vec![moved[0], moved[1], Dim::Fixed(rest), Dim::Fixed(1)];
    let x = call.node(Op::Reshape(Reshape { shape: picture }), &[x])?;
    let window = Window::new([1, 1], [1, 1]);
    let y = call.node(Op::Conv(Conv { window, group: 1, folded_bias: false }), &[x, weight])?;
    let shape = [&[moved[0], Dim::Fixed(after)], &moved[2..]].concat();
    let y = call.node(Op::Reshape(Reshape { shape }), &[y])?;
    call.node(Op::Transpose(Transpose { perm: back }), &[y])
}

impl Interpolation<'_> {
    /// The weights of the pixels that make pixel `o` of `after`.
    fn row(&self, row: &mut [f32], o: usize, after: usize, scale: f64) -> Result<(), Fault> {
        let (size, o) = (row.len() as f64, o as f64);
        let at = match self.coordinates {
            "half_pixel" => (o + 0.5) / scale - 0.5,
            "half_pixel_symmetric" => {
                let adjusted = after as f64 / (size * scale);
                size / 2.0 * (1.0 - adjusted) + (o + 0.5) / scale - 0.5
            }
            "pytorch_half_pixel" if after > 1 => (o + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if after > 1 => o * (size - 1.0) / (size * scale - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => o / scale,
            got => {
                return Err(Fault::unsupported(format!(
                    "got coordinate_transformation_mode={got}, expected half_pixel, align_corners or asymmetric"
                )));
            }
        };
        let mut add = |index: f64, weight: f64| {
            let index = index.clamp(0.0, size - 1.0) as usize;
            if let Some(slot) = row.get_mut(index) {
                *slot += weight as f32;
            }
        };
        match self.mode {
            "nearest" => {
                let nearest = match self.nearest {
                    "floor" => at.floor(),
                    "ceil" => at.ceil(),
                    "round_prefer_ceil" => (at + 0.5).floor(),
                    "round_prefer_floor" | "" => (at - 0.5).ceil(),
                    got => return Err(Fault::invalid(format!("got nearest_mode={got}"))),
                };
                add(nearest, 1.0);
            }
            "linear" | "bilinear" => {
                let low = at.floor();
                add(low, 1.0 - (at - low));
                add(low + 1.0, at - low);
            }
            "cubic" => {
                let low = at.floor();
                let taps = [-1.0, 0.0, 1.0, 2.0].map(|d| (low + d, cubic(self.cubic, at - low - d)));
                let inside = |i: f64| i >= 0.0 && i < size;
                let kept = taps.iter().filter(|(i, _)| !self.exclude_outside || inside(*i));
                let total: f64 = if self.exclude_outside { kept.clone().map(|(_, w)| w).sum() } else { 1.0 };
                kept.for_each(|(i, w)| add(*i, w / total));
            }
            got => {
                return Err(Fault::unsupported(format!("got mode={got}, expected nearest, linear or cubic")));
            }
        }
        Ok(())
    }
}

/// Keys' cubic convolution kernel at distance `d`.
fn cubic(a: f64, d: f64) -> f64 {
    let d = d.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
