//! Inputs that the user holds constant.

use crate::call::Value;
use crate::constant::{Const, elements};
use crate::error::{Fault, ImportError};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{ValueInfoProto, type_proto};
use crate::sym::Sym;
use crate::tensor::{Constant, is_float, type_name};

/// The most elements that one number is repeated to.
const MAX_FILLED: usize = 1 << 24;

/// An input of a model that has several, and the constant that takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The input's name.
    pub name: String,
    /// The constant's shape, with 1 for the batch or without it; empty for one number, which fills the input's shape.
    pub shape: Vec<usize>,
    /// Its values in row-major order; whole numbers for an input of integers.
    pub values: Vec<f32>,
}

impl Held {
    /// The constant, if it is one of the input's type.
    pub(crate) fn constant(&self, info: &ValueInfoProto) -> Result<Value, ImportError> {
        let refuse = |reason: String| ImportError::InputType { input: self.name.clone(), reason };
        let fault = |fault: Fault| refuse(fault.reason);
        let Some(type_proto::Value::TensorType(ty)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            return Err(refuse("got no type of a dense tensor, expected one to hold constant".into()));
        };
        if elements(&self.shape).map_err(fault)? != self.values.len() {
            let count = self.values.len();
            return Err(refuse(format!("got {count} values for the shape {:?}", self.shape)));
        }
        if let Some(value) = self.values.iter().find(|v| !v.is_finite()) {
            return Err(refuse(format!("got the value {value}, expected finite ones")));
        }
        let declared = ty.shape.as_ref().map(|s| &s.dim[..]).unwrap_or_default();
        let shape = self.shape_for(declared).map_err(refuse)?;
        let count = elements(&shape).map_err(fault)?;
        if count > MAX_FILLED.max(self.values.len()) {
            return Err(refuse(format!(
                "got the declared shape {shape:?} to fill, expected at most {MAX_FILLED} elements"
            )));
        }
        let values = match self.values[..] {
            [one] => vec![one; count],
            _ => self.values.clone(),
        };
        let number = ty.elem_type.unwrap_or_default();
        if is_float(number) {
            let floats = Const::new(shape, values).map_err(fault)?;
            return Ok(Value::Constant(Constant::Floats(floats)));
        }
        let whole = |v: &f32| (v.fract() == 0.0 && v.abs() < 16_777_216.0).then(|| Sym::from(*v as i64));
        let Some(whole) = values.iter().map(whole).collect::<Option<Vec<Sym>>>() else {
            return Err(refuse(format!("got a fraction, expected whole numbers of {}", type_name(number))));
        };
        let ints = Const::new(shape, whole).map_err(fault)?;
        Ok(Value::Constant(Constant::Ints(ints)))
    }

    /// The shape that the constant has as an input of the declared shape: the declared one, with 1 for an open batch. One
    /// number fills it; an array may have 1 for the batch, or no batch at all.
    fn shape_for(&self, declared: &[Dimension]) -> Result<Vec<usize>, String> {
        let stated = |d: &Dimension| match d.value {
            Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok().filter(|s| *s > 0),
            _ => None,
        };
        let name = |d: &Dimension| match &d.value {
            Some(dimension::Value::DimParam(symbol)) if !symbol.is_empty() => symbol.clone(),
            _ => stated(d).map_or_else(|| "?".into(), |size| size.to_string()),
        };
        let names: Vec<String> = declared.iter().map(name).collect();
        if self.shape.is_empty() {
            let size = |(i, d)| match stated(d) {
                None if i == 0 => Ok(1),
                size => size.ok_or_else(|| {
                    format!(
                        "got one number for the shape [{}], whose dimension {i} is open: give a .npy",
                        names.join(", ")
                    )
                }),
            };
            return declared.iter().enumerate().map(size).collect();
        }
        let mut shape = self.shape.clone();
        if shape.len() + 1 == declared.len() {
            shape.insert(0, 1);
        }
        let fits = |(i, (d, got)): (usize, (&Dimension, &usize))| match stated(d) {
            Some(size) => size == *got || (i == 0 && declared.len() > 1 && *got == 1),
            None => i > 0 || *got == 1,
        };
        if declared.len() == shape.len() && declared.iter().zip(&shape).enumerate().all(fits) {
            return Ok(shape);
        }
        Err(format!(
            "got a constant of shape {:?}, expected [{}] with 1 for the batch or without it, or one number",
            self.shape,
            names.join(", ")
        ))
    }
}
