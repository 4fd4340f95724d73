//! `TensorProto` to constants: element types, payload forms, sizes.
//!
//! Every size is checked against the shape before anything is allocated: the number of elements of `dims` must be
//! exactly what the payload holds.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

use crate::constant::{Budget, Const, elements};
use crate::error::Fault;
use crate::external::ModelFiles;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{SparseTensorProto, TensorProto};
use crate::sym::Sym;

/// A constant of the model: floats of any width as `f32`, integers and booleans as [`Sym`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    Floats(Const<f32>),
    Ints(Const<Sym>),
}

/// The element type behind a number, if it is one of the specification's.
pub(crate) fn data_type(number: i32) -> Option<DataType> {
    DataType::try_from(number).ok().filter(|t| *t != DataType::Undefined)
}

/// How messages name an element type.
pub(crate) fn type_name(number: i32) -> String {
    data_type(number).map_or_else(|| format!("element type {number}"), |t| t.as_str_name().to_lowercase())
}

/// Whether an element type is one of the floats that relc reads (as `f32`).
pub(crate) fn is_float(number: i32) -> bool {
    use DataType::{Bfloat16, Double, Float, Float16};
    matches!(data_type(number), Some(Float | Double | Float16 | Bfloat16))
}

/// The least and the largest value of a type of integers that relc reads.
pub(crate) fn type_limits(number: i32) -> Option<(f64, f64)> {
    use DataType as T;
    match data_type(number)? {
        T::Int4 => Some((-8.0, 7.0)),
        T::Uint4 => Some((0.0, 15.0)),
        T::Int8 => Some((-128.0, 127.0)),
        T::Uint8 => Some((0.0, 255.0)),
        T::Int16 => Some((-32_768.0, 32_767.0)),
        T::Uint16 => Some((0.0, 65_535.0)),
        T::Int32 => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        T::Int64 => Some((i64::MIN as f64, i64::MAX as f64)),
        _ => None,
    }
}

/// Reads a tensor of the model.
///
/// # Errors
/// If the element type or the form is unsupported, or the payload does not fit the shape.
pub(crate) fn constant(
    tensor: &TensorProto,
    files: &mut ModelFiles,
    budget: &mut Budget,
) -> Result<Constant, Fault> {
    if tensor.segment.is_some() {
        return Err(Fault::unsupported("got a tensor in segments, expected one in a piece"));
    }
    let dims = sizes(&tensor.dims)?;
    let count = elements(&dims)?;
    let number = tensor.data_type.unwrap_or_default();
    let payload = Payload::of(tensor, number, count, files, budget)?;
    let (floats, ints) = (&tensor.float_data, &tensor.int32_data);
    use DataType as T;
    match data_type(number) {
        Some(T::Float) => of_floats(dims, payload.read(floats, f32::from_le_bytes, Some, budget)?),
        Some(T::Double) => {
            let narrow = |v: f64| v as f32;
            let bytes = |b| narrow(f64::from_le_bytes(b));
            of_floats(dims, payload.read(&tensor.double_data, bytes, |v| Some(narrow(v)), budget)?)
        }
        Some(T::Float16) => {
            let bits = |v| u16::try_from(v).ok().map(|v| f16::from_bits(v).to_f32());
            of_floats(dims, payload.read(ints, |b| f16::from_le_bytes(b).to_f32(), bits, budget)?)
        }
        Some(T::Bfloat16) => {
            let bits = |v| u16::try_from(v).ok().map(|v| bf16::from_bits(v).to_f32());
            of_floats(dims, payload.read(ints, |b| bf16::from_le_bytes(b).to_f32(), bits, budget)?)
        }
        Some(T::Int64) => {
            let bytes = |b| Sym::from(i64::from_le_bytes(b));
            of_ints(dims, payload.read(&tensor.int64_data, bytes, |v| Some(Sym::from(v)), budget)?)
        }
        Some(T::Int32) => {
            of_ints(dims, payload.read(ints, |b| sym(i32::from_le_bytes(b)), within::<i32>, budget)?)
        }
        Some(T::Int16) => {
            of_ints(dims, payload.read(ints, |b| sym(i16::from_le_bytes(b)), within::<i16>, budget)?)
        }
        Some(T::Uint16) => {
            of_ints(dims, payload.read(ints, |b| sym(u16::from_le_bytes(b)), within::<u16>, budget)?)
        }
        Some(T::Int8) => {
            of_ints(dims, payload.read(ints, |b| sym(i8::from_le_bytes(b)), within::<i8>, budget)?)
        }
        Some(T::Uint8) => {
            of_ints(dims, payload.read(ints, |b| sym(u8::from_le_bytes(b)), within::<u8>, budget)?)
        }
        // Two elements a byte, the first in the low half.
        Some(kind @ (T::Int4 | T::Uint4)) => {
            let byte = |v: i32| u8::try_from(v & 0xff).ok().filter(|_| (-128..256).contains(&v));
            let packed = payload.read(ints, |[b]: [u8; 1]| b, byte, budget)?;
            budget.charge::<Sym>(count)?;
            let halves = packed.iter().flat_map(|b| [b & 15, b >> 4]).take(count);
            let signed = kind == T::Int4;
            let value = |half: u8| i64::from(half) - if signed && half > 7 { 16 } else { 0 };
            of_ints(dims, halves.map(|half| Sym::from(value(half))).collect())
        }
        Some(T::Bool) => {
            let bit = |v: i32| sym(i32::from(v != 0));
            of_ints(dims, payload.read(ints, |[b]: [u8; 1]| bit(b.into()), |v| Some(bit(v)), budget)?)
        }
        _ => Err(unsupported_type(number)),
    }
}

/// The shape that a tensor states.
fn sizes(dims: &[i64]) -> Result<Vec<usize>, Fault> {
    let size = |d: &i64| {
        usize::try_from(*d)
            .map_err(|_| Fault::invalid(format!("got the shape {dims:?}, expected no negative size")))
    };
    dims.iter().map(size).collect()
}

/// Reads a sparse tensor of the model as a dense one: the indices are those of the elements, or one for each axis.
///
/// # Errors
/// As [`constant`], and if the indices don't fit the shape.
pub(crate) fn sparse(
    tensor: &SparseTensorProto,
    files: &mut ModelFiles,
    budget: &mut Budget,
) -> Result<Constant, Fault> {
    let (Some(values), Some(indices)) = (&tensor.values, &tensor.indices) else {
        return Err(Fault::invalid("got a sparse tensor without values or indices"));
    };
    let dims = sizes(&tensor.dims)?;
    let indices = match constant(indices, files, budget)? {
        Constant::Ints(indices) => indices,
        Constant::Floats(_) => return Err(Fault::invalid("got indices of floats, expected integers")),
    };
    let per_axis = indices.dims().len() == 2;
    let rows = indices.known()?;
    let width = if per_axis { dims.len() } else { 1 };
    if per_axis && indices.dims()[1] != width {
        return Err(Fault::invalid(format!(
            "got indices of shape {:?} for the shape {dims:?}",
            indices.dims()
        )));
    }
    let at = |row: &[i64]| {
        let sizes = if per_axis { &dims[..] } else { &[elements(&dims).ok()?][..] };
        row.iter().zip(sizes).try_fold(0usize, |at, (i, size)| {
            usize::try_from(*i).ok().filter(|i| i < size).map(|i| at * size + i)
        })
    };
    let at: Option<Vec<usize>> = rows.chunks_exact(width.max(1)).map(at).collect();
    let at = at.ok_or_else(|| Fault::invalid(format!("got an index outside the shape {dims:?}")))?;
    match constant(values, files, budget)? {
        Constant::Floats(values) => scattered(dims, &values, &at, 0.0, budget).map(Constant::Floats),
        Constant::Ints(values) => scattered(dims, &values, &at, Sym::from(0), budget).map(Constant::Ints),
    }
}

/// An array of `zero` but for `values`, which lie at `at`.
fn scattered<T: Copy>(
    dims: Vec<usize>,
    values: &Const<T>,
    at: &[usize],
    zero: T,
    budget: &mut Budget,
) -> Result<Const<T>, Fault> {
    let mut dense = vec![zero; budget.fold::<T>(&dims)?];
    if values.data().len() != at.len() {
        return Err(Fault::invalid(format!(
            "got {} values and {} indices, expected as many of each",
            values.data().len(),
            at.len()
        )));
    }
    for (at, value) in at.iter().zip(values.data().iter()) {
        if let Some(slot) = dense.get_mut(*at) {
            *slot = *value;
        }
    }
    Const::new(dims, dense)
}

fn sym(v: impl Into<i64>) -> Sym {
    Sym::from(v.into())
}

/// A value of a typed field, if the narrower type `T` has it.
fn within<T: TryFrom<i32>>(v: i32) -> Option<Sym> {
    T::try_from(v).ok().map(|_| sym(v))
}

fn unsupported_type(number: i32) -> Fault {
    Fault::unsupported(format!(
        "got elements of {}, expected float, double, float16, bfloat16, bool or integers of 4 to 64 bits (not uint32 \
         and uint64)",
        type_name(number)
    ))
}

fn of_floats(dims: Vec<usize>, data: Arc<[f32]>) -> Result<Constant, Fault> {
    Const::new(dims, data).map(Constant::Floats)
}

fn of_ints(dims: Vec<usize>, data: Arc<[Sym]>) -> Result<Constant, Fault> {
    Const::new(dims, data).map(Constant::Ints)
}

/// Where the elements are.
enum Payload {
    /// Little-endian bytes, as many as the shape takes.
    Bytes(Bytes),
    /// The `*_data` field of the element type, which must hold this many elements.
    Field(usize),
}

impl Payload {
    fn of(
        tensor: &TensorProto,
        number: i32,
        count: usize,
        files: &mut ModelFiles,
        budget: &mut Budget,
    ) -> Result<Payload, Fault> {
        let bits = width(number).ok_or_else(|| unsupported_type(number))?;
        let bits = count.checked_mul(bits).ok_or_else(|| Fault::invalid("the number of bytes overflows"))?;
        let bytes = bits.div_ceil(8);
        // A field holds an element, or a byte of them.
        let fields =
            if number == DataType::Int4 as i32 || number == DataType::Uint4 as i32 { bytes } else { count };
        let typed = !tensor.float_data.is_empty()
            || !tensor.double_data.is_empty()
            || !tensor.int32_data.is_empty()
            || !tensor.int64_data.is_empty();
        if tensor.data_location == Some(DataLocation::External as i32) {
            if typed || tensor.raw_data.is_some() {
                return Err(Fault::invalid(
                    "got elements in the model and in an external file, expected one of them",
                ));
            }
            return files.read(&tensor.external_data, bytes, budget).map(Payload::Bytes);
        }
        // Writers without field presence put an empty raw_data beside a typed field.
        match tensor.raw_data.as_ref().filter(|raw| !raw.is_empty() || !typed) {
            Some(_) if typed => {
                Err(Fault::invalid("got elements in raw_data and in a typed field, expected one of them"))
            }
            Some(raw) if raw.len() == bytes => Ok(Payload::Bytes(raw.clone())),
            Some(raw) => Err(Fault::invalid(format!(
                "got {} bytes, expected {bytes} for the shape {:?}",
                raw.len(),
                tensor.dims
            ))),
            None => Ok(Payload::Field(fields)),
        }
    }

    /// The elements, from bytes by `decode` or from the typed field by `convert`.
    fn read<F: Copy, T: Copy, const K: usize>(
        &self,
        field: &[F],
        decode: impl Fn([u8; K]) -> T,
        convert: impl Fn(F) -> Option<T>,
        budget: &mut Budget,
    ) -> Result<Arc<[T]>, Fault> {
        match self {
            Payload::Bytes(bytes) => {
                let (chunks, _) = bytes.as_chunks::<K>();
                budget.charge::<T>(chunks.len())?;
                Ok(chunks.iter().map(|c| decode(*c)).collect())
            }
            Payload::Field(count) if *count == field.len() => {
                budget.charge::<T>(*count)?;
                let values: Option<Arc<[T]>> = field.iter().map(|v| convert(*v)).collect();
                values.ok_or_else(|| Fault::invalid("got a value that the element type does not have"))
            }
            Payload::Field(count) => {
                Err(Fault::invalid(format!("got {} elements, expected {count} for the shape", field.len())))
            }
        }
    }
}

/// Bits per element, of the types that relc reads.
fn width(number: i32) -> Option<usize> {
    use DataType as T;
    match data_type(number)? {
        T::Double | T::Int64 => Some(64),
        T::Float | T::Int32 => Some(32),
        T::Float16 | T::Bfloat16 | T::Int16 | T::Uint16 => Some(16),
        T::Int8 | T::Uint8 | T::Bool => Some(8),
        T::Int4 | T::Uint4 => Some(4),
        _ => None,
    }
}
