//! The relevance ops.

use relc_ir::op::{MaxPool, Pad, Relevance, SIGNED_EPS, Slice, SplitKind, bilinear_shares, matched_axes};
use relc_ir::rule::Frame;
use relc_ir::{Dim, NodeId, Op, TensorType};

use crate::forward::{max_pool, spatial};
use crate::writer::{Writer, int, ints, word};
use crate::{ExportError, derivative, linear};

/// Writes a relevance node; `seed` is what the backward pass starts from, `f32[N,K]`.
pub(crate) fn write(w: &mut Writer<'_>, node: NodeId, seed: &str) -> Result<(), ExportError> {
    let graph = w.graph;
    let n = graph.node(node);
    let Op::Relevance(op) = &n.op else { return Ok(()) };
    let operands = w.operands(node)?;
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let types: Vec<&TensorType> = graph.operands(node).into_iter().map(|v| graph.ty(v)).collect();
    let ([r, rest @ ..], [ty, ..], [out, ..]) = (&operands[..], &types[..], n.types()) else {
        let message = "got no operands, expected the relevance first".into();
        return Err(ExportError::Node { node: graph.describe(node), message });
    };
    let outputs = match op {
        Relevance::Seed => vec![w.reshape(seed, out.dims())],
        Relevance::Linear { layer, rule } => linear::write(w, node, layer, rule)?,
        Relevance::Proportional => {
            let lost = rest.first().copied().unwrap_or_default();
            vec![proportional(w, r, ty, lost, types.last().copied().unwrap_or(ty))]
        }
        Relevance::Readout { share } => {
            let stops = w.scaled(r, *share);
            let goes_on = w.op("Sub", &[r, &stops]);
            vec![stops, goes_on]
        }
        Relevance::Upsample { .. } => vec![
            upsample(w, r, ty, out)
                .map_err(|message| ExportError::Node { node: graph.describe(node), message })?,
        ],
        Relevance::Winner(pool) => {
            let act = rest.first().copied().unwrap_or_default();
            vec![winner(w, pool, r, act, out)]
        }
        Relevance::Split { kind, branches, skip } => {
            let (Some(branches), Some(r)) = (operands.get(..*branches), operands.get(*branches)) else {
                let message = "got no relevance, expected it behind the branches".into();
                return Err(ExportError::Node { node: graph.describe(node), message });
            };
            split(w, *kind, *skip, branches, r)
        }
        Relevance::Gate { signal, gate } => {
            let half = w.scaled(r, 0.5);
            let to_gate = w.unexpand(&half, ty.dims(), gate);
            let mut outputs = vec![half, to_gate];
            outputs.rotate_left(*signal);
            outputs
        }
        Relevance::Pass => vec![r.to_string()],
        Relevance::Reshape(_) => vec![w.reshape(r, out.dims())],
        Relevance::Expand { from, .. } => vec![w.unexpand(r, ty.dims(), from)],
        Relevance::Transpose(op) => vec![w.op_with("Transpose", &[r], vec![ints("perm", &op.perm)])],
        Relevance::Slice { slice, shape } => vec![unslice(w, slice, r, shape)],
        Relevance::Pad { pad, shape, frame } => vec![unpad(w, pad, *frame, r, shape)],
        Relevance::Concat { concat, sizes } => {
            let parts = w.sizes(sizes);
            w.ops_with("Split", &[r, &parts], vec![int("axis", concat.axis)], sizes.len())
        }
        Relevance::Sum => vec![w.op("Sum", &operands)],
        Relevance::Mask { channels } => {
            let count = ty.dims().get(1).map_or(1, |d| d.bind(1));
            let mask: Vec<f64> = (0..count).map(|c| f64::from(u8::from(channels.contains(&c)))).collect();
            let dims: Vec<usize> = (0..ty.rank()).map(|i| if i == 1 { count } else { 1 }).collect();
            let mask = w.numbers(&dims, &mask);
            vec![w.op("Mul", &[r, &mask])]
        }
        Relevance::Activation { .. }
        | Relevance::BatchNormalization(_)
        | Relevance::MeanVarianceNormalization(_)
        | Relevance::Softmax(_)
        | Relevance::Arithmetic { .. } => derivative::write(w, op, &operands, &types),
    };
    w.bind(node, outputs);
    Ok(())
}

/// The axes of a sample: all but the batch, if there is one.
fn sample_axes(dims: &[Dim]) -> Vec<usize> {
    dims.iter().enumerate().filter(|(_, d)| **d != Dim::Batch).map(|(axis, _)| axis).collect()
}

/// The elements of one sample.
fn elements(dims: &[Dim]) -> f64 {
    dims.iter().map(|d| d.bind(1) as f64).product()
}

/// `r_i + |r_i| / sum |r| * sum lost`, sample by sample; evenly where `r` is 0 everywhere.
fn proportional(w: &mut Writer<'_>, r: &str, ty: &TensorType, lost: &str, lost_type: &TensorType) -> String {
    let lost = w.reduce_sum(lost, &sample_axes(lost_type.dims()), false);
    let scalar: Vec<Dim> = (0..ty.rank()).map(|i| if i == 0 { Dim::Batch } else { 1.into() }).collect();
    let lost = w.reshape(&lost, &scalar);
    let magnitude = w.op("Abs", &[r]);
    let sum = w.reduce_sum(&magnitude, &sample_axes(ty.dims()), true);
    let zero = w.scalar(0.0);
    let some = w.op("Greater", &[&sum, &zero]);
    let share = w.op("Div", &[&magnitude, &sum]);
    let share = w.op("Mul", &[&share, &lost]);
    let even = w.scaled(&lost, elements(ty.dims()).recip());
    let share = w.choose(&some, &share, &even);
    w.op("Add", &[r, &share])
}

/// Spreads what `r` has, summed over its channels, over another grid, along each axis by itself.
fn upsample(w: &mut Writer<'_>, r: &str, from: &TensorType, to: &TensorType) -> Result<String, String> {
    let sizes = from.spatial().zip(to.spatial()).and_then(|(from, to)| matched_axes(&from, &to));
    let (old, new) = sizes.ok_or_else(|| format!("got {from} to spread over {to}"))?;
    let (batch, rank) = (to.dims()[0], old.len() + 2);
    let shaped = |w: &mut Writer<'_>, image: String, got: &[usize], sizes: &[usize]| {
        if got == sizes {
            return image;
        }
        let spatial = sizes.iter().map(|n| Dim::Fixed(*n));
        w.reshape(&image, &[batch, Dim::Fixed(1)].into_iter().chain(spatial).collect::<Vec<_>>())
    };
    let image = w.reduce_sum(r, &[1], true);
    let mut image = shaped(w, image, &from.spatial().unwrap_or_default(), &old);
    for (axis, (from, to)) in old.into_iter().zip(new.iter().copied()).enumerate() {
        image = spread(w, &image, axis + 2, [from, to, rank])?;
    }
    let channels = to.dims()[1].bind(1) as f64;
    let image = w.scaled(&image, channels.recip());
    let image = shaped(w, image, &new, &to.spatial().unwrap_or_default());
    Ok(w.expand(&image, to.dims()))
}

/// The largest matrix that a file gets for this, in elements.
const MAX_MATRIX: usize = 1 << 22;

/// Spreads what lies along one axis of an image over another number of pixels.
fn spread(
    w: &mut Writer<'_>,
    image: &str,
    axis: usize,
    [from, to, rank]: [usize; 3],
) -> Result<String, String> {
    if from == to {
        return Ok(image.to_string());
    }
    let shares = bilinear_shares(from, to);
    if from > to {
        // A pixel takes from many: a matrix product.
        let elements = from.checked_mul(to).filter(|elements| *elements <= MAX_MATRIX);
        let elements = elements.ok_or_else(|| {
            format!(
                "got {from} pixels to spread over {to}, expected at most {MAX_MATRIX} for the product of both"
            )
        })?;
        let mut matrix = vec![0.0; elements];
        for (row, shares) in matrix.chunks_exact_mut(from).zip(shares) {
            shares.into_iter().for_each(|(p, weight)| row[p] += weight);
        }
        let matrix = w.numbers(&[to, from], &matrix);
        if axis + 2 == rank {
            return Ok(w.op("MatMul", &[&matrix, image]));
        }
        let matrix = w.op_with("Transpose", &[&matrix], vec![ints("perm", &[1, 0])]);
        if axis + 1 == rank {
            return Ok(w.op("MatMul", &[image, &matrix]));
        }
        // The axis changes places with the last one, and back.
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, rank - 1);
        let turn = |w: &mut Writer<'_>, x: &str| w.op_with("Transpose", &[x], vec![ints("perm", &perm)]);
        let image = turn(w, image);
        let image = w.op("MatMul", &[&image, &matrix]);
        return Ok(turn(w, &image));
    }
    // A pixel takes from two at most.
    let mut sum: Option<String> = None;
    for k in 0..shares.iter().map(Vec::len).max().unwrap_or(0) {
        let share = |taken: &Vec<(usize, f64)>| taken.get(k).copied().unwrap_or((0, 0.0));
        let (places, weights): (Vec<usize>, Vec<f64>) = shares.iter().map(share).unzip();
        let (places, weights) = (w.sizes(&places), w.numbers(&along(axis, to, rank), &weights));
        let taken = w.op_with("Gather", &[image, &places], vec![int("axis", axis)]);
        let taken = w.op("Mul", &[&taken, &weights]);
        sum = Some(match sum {
            Some(sum) => w.op("Add", &[&sum, &taken]),
            None => taken,
        });
    }
    sum.ok_or_else(|| "got no pixels to spread over, expected some".into())
}

/// The sizes of a row of numbers along one of an image's axes.
fn along(axis: usize, size: usize, rank: usize) -> Vec<usize> {
    (0..rank).map(|i| if i == axis { size } else { 1 }).collect()
}

/// Each window's relevance to the pixel that won it.
fn winner(w: &mut Writer<'_>, pool: &MaxPool, r: &str, act: &str, ty: &TensorType) -> String {
    let places = max_pool(w, pool, act, &spatial(ty), 2).swap_remove(1);
    let shape = w.op("Shape", &[act]);
    let zeros = w.op("ConstantOfShape", &[&shape]);
    let flat = |w: &mut Writer<'_>, x: &str| w.reshape(x, &[Dim::Batch]);
    let (zeros, places, r) = (flat(w, &zeros), flat(w, &places), flat(w, r));
    let attributes = vec![int("axis", 0), word("reduction", "add")];
    let sums = w.op_with("ScatterElements", &[&zeros, &places, &r], attributes);
    w.reshape(&sums, ty.dims())
}

/// The relevance of each branch of a join.
fn split(w: &mut Writer<'_>, kind: SplitKind, skip: usize, branches: &[&str], r: &str) -> Vec<String> {
    let even = (branches.len() as f64).recip();
    let zero = w.scalar(0.0);
    let share: &dyn Fn(&mut Writer<'_>, usize) -> String = match kind {
        SplitKind::Copy => return vec![r.to_string(); branches.len()],
        SplitKind::Signed => {
            let sum = w.op("Sum", branches);
            let positive = w.op("GreaterOrEqual", &[&sum, &zero]);
            let (plus, minus) = (w.scalar(SIGNED_EPS), w.scalar(-SIGNED_EPS));
            let eps = w.choose(&positive, &plus, &minus);
            let sum = w.op("Add", &[&sum, &eps]);
            let s = w.op("Div", &[r, &sum]);
            return branches.iter().map(|branch| w.op("Mul", &[&s, branch])).collect();
        }
        SplitKind::Half => &|w, _| w.scaled(r, even),
        SplitKind::Only(only) => &move |w, k| w.scaled(r, if only == k { 1.0 } else { 0.0 }),
        SplitKind::Ratio => {
            let magnitudes: Vec<String> = branches.iter().map(|branch| w.op("Abs", &[branch])).collect();
            let all: Vec<&str> = magnitudes.iter().map(String::as_str).collect();
            let sum = w.op("Sum", &all);
            let none = w.op("Equal", &[&sum, &zero]);
            let even = w.scalar(even);
            &move |w, k| {
                let ratio = w.op("Div", &[&magnitudes[k], &sum]);
                let ratio = w.choose(&none, &even, &ratio);
                w.op("Mul", &[&ratio, r])
            }
        }
    };
    let mut rest = r.to_string();
    let mut shares: Vec<Option<String>> = Vec::with_capacity(branches.len());
    for k in 0..branches.len() {
        let share = (k != skip).then(|| share(w, k));
        if let Some(share) = &share {
            rest = w.op("Sub", &[&rest, share]);
        }
        shares.push(share);
    }
    shares.into_iter().map(|share| share.unwrap_or_else(|| rest.clone())).collect()
}

/// Relevance where a slice took its elements from, of the sizes `shape`; zeros elsewhere.
fn unslice(w: &mut Writer<'_>, slice: &Slice, r: &str, shape: &[Dim]) -> String {
    let rank = shape.len();
    let (mut x, starts) = in_order(w, slice, r);
    let mut dims = slice.sizes.clone();
    let steps: Vec<usize> = slice.steps.iter().map(|step| step.unsigned_abs()).collect();
    for (axis, &step) in steps.iter().enumerate().filter(|(_, step)| **step > 1) {
        let Some(Dim::Fixed(count)) = dims.get(axis).copied() else { continue };
        if count == 1 {
            continue;
        }
        // step - 1 zeros behind each element, then off behind the last.
        let mut apart = dims.clone();
        apart.insert(axis + 1, 1.into());
        x = w.reshape(&x, &apart);
        let mut pads = vec![0; 2 * (rank + 1)];
        pads[rank + 1 + axis + 1] = step - 1;
        let pads = w.sizes(&pads);
        x = w.op("Pad", &[&x, &pads]);
        dims[axis] = (count * step).into();
        x = w.reshape(&x, &dims);
        let covered = (count - 1) * step + 1;
        let (start, end, axes) = (w.sizes(&[0]), w.sizes(&[covered]), w.sizes(&[axis]));
        x = w.op("Slice", &[&x, &start, &end, &axes]);
        dims[axis] = covered.into();
    }
    let behind = shape.iter().zip(&dims).zip(&starts);
    let behind = behind.map(|((all, taken), start)| all.bind(1) - taken.bind(1) - start);
    let pads: Vec<usize> = starts.iter().copied().chain(behind).collect();
    let pads = w.sizes(&pads);
    w.op("Pad", &[&x, &pads])
}

/// What a slice took in the order of its operand, and the first index along each axis.
fn in_order(w: &mut Writer<'_>, slice: &Slice, r: &str) -> (String, Vec<usize>) {
    let turned: Vec<usize> = (0..slice.steps.len()).filter(|axis| slice.reverses(*axis)).collect();
    let mut starts = slice.starts.clone();
    for &axis in &turned {
        starts[axis] = slice.last(axis).unwrap_or(0);
    }
    if turned.is_empty() {
        return (r.to_string(), starts);
    }
    let [from, to, step] = [-1, i64::MIN, -1].map(|v| vec![v; turned.len()]);
    let (from, to, step) = (w.integers(&from), w.integers(&to), w.integers(&step));
    let axes = w.sizes(&turned);
    (w.op("Slice", &[r, &from, &to, &axes, &step]), starts)
}

/// What lies inside the frame passes; what lies on it is lost, or spread evenly over the sample.
fn unpad(w: &mut Writer<'_>, pad: &Pad, frame: Frame, r: &str, shape: &[Dim]) -> String {
    let axes = sample_axes(shape);
    let starts: Vec<usize> = axes.iter().map(|axis| pad.pads[*axis]).collect();
    let ends: Vec<usize> = axes.iter().zip(&starts).map(|(axis, s)| s + shape[*axis].bind(1)).collect();
    let (starts, ends, axis_list) = (w.sizes(&starts), w.sizes(&ends), w.sizes(&axes));
    let inner = w.op("Slice", &[r, &starts, &ends, &axis_list]);
    if frame != Frame::Spread {
        return inner;
    }
    let pads = w.sizes(&pad.pads);
    let framed = w.op("Pad", &[&inner, &pads]);
    let frame = w.op("Sub", &[r, &framed]);
    let dropped = w.reduce_sum(&frame, &axes, true);
    let share = w.scaled(&dropped, elements(shape).recip());
    w.op("Add", &[&inner, &share])
}
