//! `ScatterND` where it writes a block: how exporters say `x[:, 1:, :4] = y`.
//!
//! What is written and what is left are slices side by side.

use relc_ir::op::{Concat, Pad};
use relc_ir::{Dim, Op, ValueId};

use super::shaping::dims;
use super::slicing::part_of;
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::sym::Sym;
use crate::tensor::Constant;

/// The most pieces that a tensor is put together of: each is a slice of its own.
const MAX_PIECES: usize = 64;

/// Where a block is written along an axis: the place of each of its elements; `None` along the batch.
type Places = Option<Vec<usize>>;

/// Elements side by side along an axis.
struct Run {
    /// The first.
    begin: usize,
    /// How many.
    size: usize,
    /// The first of what is written there; none if they stay as they are.
    written: Option<usize>,
}

pub(crate) fn scatter_nd(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(3..=3)?;
    let reduction = call.attributes.string("reduction")?.unwrap_or("none");
    if reduction != "none" {
        return Err(Fault::unsupported(format!("got reduction={reduction}, expected none")));
    }
    let indices = call.ints(1)?;
    let updates = match call.value(2)? {
        Value::Graph(updates) => updates,
        Value::Constant(_) => {
            return Err(Fault::unsupported(
                "got constant updates, expected a tensor that depends on the model's input",
            ));
        }
        _ => return Err(call.no_floats(2, "a tensor")),
    };
    let data = match call.value(0)? {
        Value::Constant(Constant::Floats(c)) => Data::Constant(c),
        _ => Data::Tensor(call.data(0)?),
    };
    let into = match &data {
        Data::Tensor(value) => call.ty(*value).dims().to_vec(),
        // A row for each sample was made for any one.
        Data::Constant(c) => match (dims(c).split_first(), call.ty(updates).is_batched()) {
            (Some((Dim::Fixed(1), rest)), true) => [&[Dim::Batch], rest].concat(),
            _ => dims(c),
        },
    };
    // What says 0 of samples speaks of one, which the constant has.
    let samples = if let Data::Constant(_) = data { Some(1) } else { call.builder.fixed_batch };
    let places = places(samples, &into, &indices)?;
    let (written, rest) = into.split_at(places.len());
    let block = written.iter().zip(&places).map(|(d, p)| p.as_ref().map_or(*d, |p| Dim::Fixed(p.len())));
    let expected: Vec<Dim> = block.chain(rest.iter().copied()).collect();
    let got = call.ty(updates);
    if got.dims() != expected {
        return Err(Fault::invalid(format!(
            "got the updates {got}, expected {}",
            relc_ir::TensorType::new(expected)
        )));
    }
    match data {
        Data::Tensor(value) => {
            let runs: Vec<Vec<Run>> = into.iter().zip(&places).map(|(d, p)| runs(d, p)).collect();
            let pieces = runs.iter().try_fold(1usize, |product, runs| product.checked_mul(runs.len()));
            if pieces.is_none_or(|pieces| pieces > MAX_PIECES) {
                return Err(Fault::unsupported(format!(
                    "got a block in more than {MAX_PIECES} pieces, expected fewer"
                )));
            }
            write(call, value, updates, 0, &runs).map(Value::Graph)
        }
        Data::Constant(c) => framed(call, &c, updates, &into, &places),
    }
}

/// What a block is written into.
enum Data {
    Tensor(ValueId),
    Constant(Const<f32>),
}

/// Where the block lies along each axis that the indices speak of; `samples`: how many they name to mean all.
fn places(samples: Option<usize>, into: &[Dim], indices: &Const<Sym>) -> Result<Vec<Places>, Fault> {
    let refused = || {
        Fault::unsupported(
            "got indices of single elements, expected those of a block: places along each of the first axes",
        )
    };
    let Some((&count, sizes)) = indices.dims().split_last() else { return Err(refused()) };
    if count == 0 || count > into.len() || sizes.len() != count || indices.data().is_empty() {
        return Err(refused());
    }
    let mut along: Vec<Vec<Sym>> = sizes.iter().map(|size| Vec::with_capacity(*size)).collect();
    for (at, index) in indices.data().chunks_exact(count).enumerate() {
        let mut stride = indices.data().len() / count;
        for ((axis, size), coordinate) in sizes.iter().enumerate().zip(index) {
            stride /= size;
            let (place, list) = (at / stride % size, &mut along[axis]);
            if list.len() == place {
                list.push(*coordinate);
            }
            if list.get(place) != Some(coordinate) {
                return Err(refused());
            }
        }
    }
    along
        .iter()
        .zip(into)
        .enumerate()
        .map(|(axis, (list, dim))| along_axis(samples, axis, list, *dim))
        .collect()
}

/// The places along one axis.
fn along_axis(samples: Option<usize>, axis: usize, list: &[Sym], dim: Dim) -> Result<Places, Fault> {
    let text = || list.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(",");
    let Dim::Fixed(size) = dim else {
        let counted = || list.iter().enumerate().all(|(i, at)| at.known() == i64::try_from(i).ok());
        return match list {
            [Sym::SAMPLE] => Ok(None),
            _ if Some(list.len()) == samples && counted() => Ok(None),
            _ => Err(Fault::unsupported(format!(
                "got the indices {} of samples, expected all samples",
                text()
            ))),
        };
    };
    let place = |at: &Sym| crate::constant::axis(at.known()?, size).ok();
    let places: Option<Vec<usize>> = list.iter().map(place).collect();
    let places = places.filter(|places| {
        let mut sorted = places.clone();
        sorted.sort_unstable();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    });
    places.map(Some).ok_or_else(|| {
        Fault::invalid(format!(
            "got the indices {} along axis {axis} of {size} elements, expected each inside and once",
            text()
        ))
    })
}

/// What stays and what is written along an axis, from its first element to its last.
fn runs(dim: &Dim, places: &Places) -> Vec<Run> {
    let (Dim::Fixed(size), Some(places)) = (dim, places) else {
        return vec![Run { begin: 0, size: 0, written: Some(0) }];
    };
    let mut order: Vec<(usize, usize)> = places.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    let mut next = 0;
    for (at, i) in order {
        if at > next {
            runs.push(Run { begin: next, size: at - next, written: None });
        }
        next = at + 1;
        match runs.last_mut() {
            Some(Run { written: Some(first), size, .. }) if *first + *size == i => *size += 1,
            _ => runs.push(Run { begin: at, size: 1, written: Some(i) }),
        }
    }
    if next < *size {
        runs.push(Run { begin: next, size: *size - next, written: None });
    }
    runs
}

/// The tensor `x` with a block of it replaced, of which `runs` says where it lies from `axis` on.
fn write(
    call: &mut Call,
    x: ValueId,
    block: ValueId,
    axis: usize,
    runs: &[Vec<Run>],
) -> Result<ValueId, Fault> {
    let Some((along, inner)) = runs.split_first() else { return Ok(block) };
    if let [Run { written: Some(0), .. }] = along[..] {
        return write(call, x, block, axis + 1, inner);
    }
    let mut pieces = Vec::with_capacity(along.len());
    for run in along {
        let Some(first) = run.written else {
            pieces.push(part_of(call, x, axis, run.begin, run.size)?);
            continue;
        };
        let block = part_of(call, block, axis, first, run.size)?;
        let covers = inner.iter().all(|runs| matches!(runs[..], [Run { written: Some(0), .. }]));
        pieces.push(match covers {
            true => block,
            false => {
                let x = part_of(call, x, axis, run.begin, run.size)?;
                write(call, x, block, axis + 1, inner)?
            }
        });
    }
    call.node(Op::Concat(Concat { axis }), &pieces)
}

/// A block in a constant of one value: a frame around it.
fn framed(
    call: &mut Call,
    constant: &Const<f32>,
    block: ValueId,
    into: &[Dim],
    places: &[Places],
) -> Result<Value, Fault> {
    let refused = || {
        Fault::unsupported(
            "got a constant of several values, or a block in pieces inside one, expected a block inside equal values",
        )
    };
    let value = constant.data().first().filter(|first| constant.data().iter().all(|v| v == *first));
    let value = f64::from(*value.ok_or_else(refused)?);
    let rank = into.len();
    let mut pads = vec![0; 2 * rank];
    for (axis, (dim, places)) in into.iter().zip(places).enumerate() {
        let (Dim::Fixed(size), Some(places)) = (dim, places) else { continue };
        let begin = places.first().copied().unwrap_or(0);
        if places.iter().zip(begin..).any(|(place, at)| *place != at) {
            return Err(refused());
        }
        (pads[axis], pads[axis + rank]) = (begin, size - begin - places.len());
    }
    call.emit(Op::Pad(Pad { pads, value }), &[block])
}
