//! Ops that change height and width by other means than a window: `Resize`, `Upsample`, `ConvTranspose`,
//! `DepthToSpace`, `SpaceToDepth`. All become layers that relevance passes through already.

use relc_ir::op::{Conv, Pad, Reshape, Slice, Transpose, Window};
use relc_ir::{Dim, Op, TensorType, ValueId};

use super::linear::group;
use super::window::{pads, sizes, spatial};
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;

/// Channels, height and width of `f32[N,C,H,W]`.
fn picture(ty: &TensorType) -> Result<[usize; 3], Fault> {
    match *ty.dims() {
        [_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => Ok([c, h, w]),
        _ => Err(Fault::unsupported(format!("got an input {ty}, expected f32[N,C,H,W]"))),
    }
}

fn fixed(n: Dim, dims: &[usize]) -> Vec<Dim> {
    std::iter::once(n).chain(dims.iter().copied().map(Dim::Fixed)).collect()
}

/// The convolution of the input with zeros put between its pixels, by the weight turned around.
pub(crate) fn conv_transpose(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=3)?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let size = spatial(&ty)?;
    let rank = size.len();
    let c = ty.dims().get(1).and_then(|d| d.fixed()).unwrap_or(0);
    let weight = call.floats(1)?;
    let (per_group, kernel) = match weight.dims() {
        [_, m, kernel @ ..] if kernel.len() == rank && !kernel.contains(&0) => (*m, kernel),
        _ => {
            return Err(Fault::invalid(format!(
                "got a weight of shape {:?}, expected [C,M/group] and {rank} spatial sizes, as the input has",
                weight.dims()
            )));
        }
    };
    let group = group(call)?;
    let stated = sizes(call, "kernel_shape", 1, rank)?;
    if !c.is_multiple_of(group) || weight.dims().first() != Some(&c) || stated.is_some_and(|k| k != kernel) {
        return Err(Fault::invalid(format!(
            "got {ty}, a weight of shape {:?} and group={group}, which don't fit together",
            weight.dims()
        )));
    }
    let strides = sizes(call, "strides", 1, rank)?.unwrap_or_else(|| vec![1; rank]);
    let dilations = sizes(call, "dilations", 1, rank)?.unwrap_or_else(|| vec![1; rank]);
    let mut adds = sizes(call, "output_padding", 0, rank)?.unwrap_or_else(|| vec![0; rank]);
    let shape = sizes(call, "output_shape", 1, rank)?;
    let auto = call.attributes.string("auto_pad")?.unwrap_or("NOTSET");
    let mut cuts = pads(call, rank)?;
    let extent = |axis: usize| (kernel[axis] - 1) * dilations[axis] + 1;
    let full = |axis: usize, adds: &[usize]| strides[axis] * (size[axis] - 1) + adds[axis] + extent(axis);
    if auto == "VALID" {
        cuts.fill(0);
    } else if shape.is_some() || matches!(auto, "SAME_UPPER" | "SAME_LOWER") {
        for axis in 0..rank {
            let wanted = shape.as_ref().map_or(size[axis] * strides[axis], |s| s[axis]);
            let reached = full(axis, &adds);
            // A larger output than the windows reach has pixels of the bias alone at its end.
            adds[axis] = adds[axis].saturating_add(wanted.saturating_sub(reached));
            let total = reached.saturating_sub(wanted);
            let (small, large) = (total / 2, total.div_ceil(2));
            let (begin, end) = if auto == "SAME_LOWER" { (large, small) } else { (small, large) };
            (cuts[axis], cuts[axis + rank]) = (begin, end);
        }
    } else if !matches!(auto, "" | "NOTSET") {
        return Err(Fault::invalid(format!("got auto_pad={auto}, expected NOTSET, VALID or SAME_*")));
    }
    // Padding that the window needs before and behind the stretched input; negative: the result is cut instead.
    let (mut pads, mut cut) = (vec![0; 2 * rank], vec![0; 2 * rank]);
    for (axis, more) in adds.into_iter().enumerate() {
        for (side, more) in [(axis, 0), (axis + rank, more)] {
            let wanted = (extent(axis) - 1 + more) as i64 - cuts[side] as i64;
            pads[side] = usize::try_from(wanted).unwrap_or(0);
            cut[side] = usize::try_from(-wanted).unwrap_or(0);
        }
    }
    let window = Window::from_lists(kernel, &vec![1; rank], &pads, &dilations).map_err(Fault::invalid)?;
    let stretched = stretch(call, x, &size, &strides)?;
    let turned = turned(call, &weight, [group, c / group, per_group], kernel)?;
    let mut operands = vec![stretched, call.new_weight("weight", &turned)?];
    if call.has(2) {
        operands.push(call.weight(2)?);
    }
    let y = call.node(Op::Conv(Conv { window, group, folded_bias: false }), &operands)?;
    if cut.iter().all(|cut| *cut == 0) {
        return Ok(Value::Graph(y));
    }
    let mut sizes = call.ty(y).dims().to_vec();
    let (begins, ends) = cut.split_at(rank);
    for (axis, size) in sizes.iter_mut().skip(2).enumerate() {
        let left = size.bind(1).checked_sub(begins[axis] + ends[axis]).filter(|s| *s > 0);
        let left = left.ok_or_else(|| Fault::invalid("got pads that cut off the whole output"))?;
        *size = Dim::Fixed(left);
    }
    let starts = [&[0, 0], begins].concat();
    call.emit(Op::Slice(Slice { starts, sizes, steps: vec![1; rank + 2] }), &[y])
}

/// The input with `stride - 1` zeros between its pixels along each axis.
fn stretch(call: &mut Call, x: ValueId, size: &[usize], strides: &[usize]) -> Result<ValueId, Fault> {
    if strides.iter().all(|stride| *stride == 1) {
        return Ok(x);
    }
    let ty = call.ty(x);
    let (n, c) = (ty.dims()[0], ty.dims()[1].bind(1));
    let shape = |spatial: Vec<usize>| fixed(n, &[&[c], &spatial[..]].concat());
    let apart = Reshape { shape: shape(size.iter().flat_map(|side| [*side, 1]).collect()) };
    let x = call.node(Op::Reshape(apart), &[x])?;
    // Zeros behind each pixel's own axis.
    let rank = 2 + 2 * size.len();
    let mut pads = vec![0; 2 * rank];
    strides.iter().enumerate().for_each(|(axis, stride)| pads[rank + 3 + 2 * axis] = stride - 1);
    let x = call.node(Op::Pad(Pad { pads, value: 0.0 }), &[x])?;
    let sides = || size.iter().zip(strides);
    let together = Reshape { shape: shape(sides().map(|(side, stride)| side * stride).collect()) };
    let x = call.node(Op::Reshape(together), &[x])?;
    let sizes = shape(sides().map(|(side, stride)| (side - 1) * stride + 1).collect());
    let (starts, steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
    call.node(Op::Slice(Slice { starts, sizes, steps }), &[x])
}

/// `[group * C, M, k..]` as the weight of a convolution `[group * M, C, k..]`, with all spatial axes reversed.
fn turned(
    call: &mut Call,
    weight: &Const<f32>,
    [group, c, m]: [usize; 3],
    kernel: &[usize],
) -> Result<Const<f32>, Fault> {
    let budget = &mut call.builder.budget;
    let taps = kernel.iter().product();
    let apart = weight.reshape(vec![group, c, m, taps])?.transpose(&[0, 2, 1, 3], budget)?;
    let reversed = crate::constant::Range { start: taps as i64 - 1, step: -1, size: taps };
    let whole = |size| crate::constant::Range { start: 0, step: 1, size };
    let reversed = apart.slice(&[whole(group), whole(m), whole(c), reversed], budget)?;
    reversed.reshape([&[group * m, c], kernel].concat())
}

/// Whether blocks of channels become blocks of pixels, or the other way round.
fn blocks(call: &mut Call) -> Result<(ValueId, Dim, [usize; 3], usize), Fault> {
    call.expect_inputs(1..=1)?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let size = call.attributes.int("blocksize")?.and_then(|b| usize::try_from(b).ok()).filter(|b| *b > 0);
    let size = size.ok_or_else(|| Fault::invalid("expected a blocksize of at least 1"))?;
    Ok((x, ty.dims()[0], picture(&ty)?, size))
}

pub(crate) fn depth_to_space(call: &mut Call) -> Result<Value, Fault> {
    let (x, n, [c, h, w], b) = blocks(call)?;
    let rest = c.checked_div(b.saturating_mul(b)).filter(|r| r * b * b == c && *r > 0);
    let rest =
        rest.ok_or_else(|| Fault::invalid(format!("got {c} channels, expected a multiple of {b}x{b}")))?;
    let (apart, perm) = match call.attributes.string("mode")?.unwrap_or("DCR") {
        "DCR" => ([b, b, rest, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => ([rest, b, b, h, w], vec![0, 1, 4, 2, 5, 3]),
        got => return Err(Fault::invalid(format!("got mode={got}, expected DCR or CRD"))),
    };
    let x = call.node(Op::Reshape(Reshape { shape: fixed(n, &apart) }), &[x])?;
    let x = call.node(Op::Transpose(Transpose { perm }), &[x])?;
    call.emit(Op::Reshape(Reshape { shape: fixed(n, &[rest, h * b, w * b]) }), &[x])
}

pub(crate) fn space_to_depth(call: &mut Call) -> Result<Value, Fault> {
    let (x, n, [c, h, w], b) = blocks(call)?;
    if h % b != 0 || w % b != 0 {
        return Err(Fault::invalid(format!("got {h}x{w} pixels, expected multiples of {b}")));
    }
    let x = call.node(Op::Reshape(Reshape { shape: fixed(n, &[c, h / b, b, w / b, b]) }), &[x])?;
    let x = call.node(Op::Transpose(Transpose { perm: vec![0, 3, 5, 1, 2, 4] }), &[x])?;
    call.emit(Op::Reshape(Reshape { shape: fixed(n, &[b * b * c, h / b, w / b]) }), &[x])
}
