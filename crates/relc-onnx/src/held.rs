//! Inputs that the user holds constant.

use crate::call::Value;
use crate::constant::{Const, elements};
use crate::error::{Fault, ImportError};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{ValueInfoProto, type_proto};
use crate::sym::Sym;
use crate::tensor::{Constant, is_float, type_name};

/// An input of a model that has several, and the constant that takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The input's name.
    pub name: String,
    /// The constant's shape, with 1 for the batch; empty for one number, which broadcasts.
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
        let fits = |(i, (dim, got)): (usize, (&crate::proto::tensor_shape_proto::Dimension, &usize))| {
            match dim.value {
                Some(dimension::Value::DimValue(size)) if i > 0 && size > 0 => size as u64 == *got as u64,
                _ => i > 0 || *got == 1,
            }
        };
        let is_scalar = self.shape.is_empty();
        if !is_scalar
            && (declared.len() != self.shape.len() || !declared.iter().zip(&self.shape).enumerate().all(fits))
        {
            let sizes: Vec<String> = declared
                .iter()
                .map(|d| match &d.value {
                    Some(dimension::Value::DimValue(size)) => size.to_string(),
                    Some(dimension::Value::DimParam(symbol)) => symbol.clone(),
                    None => "?".into(),
                })
                .collect();
            return Err(refuse(format!(
                "got a constant of shape {:?}, expected [{}] with 1 for the batch, or one number",
                self.shape,
                sizes.join(", ")
            )));
        }
        let number = ty.elem_type.unwrap_or_default();
        if is_float(number) {
            let floats = Const::new(self.shape.clone(), self.values.clone()).map_err(fault)?;
            return Ok(Value::Constant(Constant::Floats(floats)));
        }
        let whole = |v: &f32| (v.fract() == 0.0 && v.abs() < 16_777_216.0).then(|| Sym::from(*v as i64));
        let Some(whole) = self.values.iter().map(whole).collect::<Option<Vec<Sym>>>() else {
            return Err(refuse(format!("got a fraction, expected whole numbers of {}", type_name(number))));
        };
        let ints = Const::new(self.shape.clone(), whole).map_err(fault)?;
        Ok(Value::Constant(Constant::Ints(ints)))
    }
}
