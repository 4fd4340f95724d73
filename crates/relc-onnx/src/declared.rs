//! The shapes that a model declares of its values, beside those that follow from its nodes.

use std::collections::HashMap;

use relc_ir::{Dim, TensorType};

use crate::names::node_name;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{GraphProto, NodeProto, ValueInfoProto, type_proto};

/// The declared shapes, until the first that another one follows for: what comes behind follows from that.
#[derive(Debug, Default)]
pub(crate) struct Declared<'a> {
    shapes: HashMap<&'a str, &'a [Dimension]>,
}

impl<'a> Declared<'a> {
    pub fn of(graph: &'a GraphProto) -> Self {
        let shape = |info: &'a ValueInfoProto| match info.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => Some((info.name(), &tensor.shape.as_ref()?.dim[..])),
            _ => None,
        };
        // Writers also leave the dimensions out where they don't know them.
        let infos = graph.value_info.iter().chain(&graph.output);
        Declared { shapes: infos.filter_map(shape).filter(|(_, dims)| !dims.is_empty()).collect() }
    }

    /// What to say of a value of type `ty` for which another shape is declared.
    pub fn note(&mut self, node: &NodeProto, name: &str, ty: &TensorType) -> Option<String> {
        let dims = *self.shapes.get(name)?;
        let differs = |(i, (declared, dim)): (usize, (&Dimension, &Dim))| match (&declared.value, dim) {
            (Some(dimension::Value::DimValue(size)), Dim::Fixed(own)) if i > 0 && *size > 0 => {
                *size as u64 != *own as u64
            }
            _ => false,
        };
        if dims.len() == ty.rank() && !dims.iter().zip(ty.dims()).enumerate().any(differs) {
            return None;
        }
        self.shapes.clear();
        let text = |d: &Dimension| match &d.value {
            Some(dimension::Value::DimValue(size)) => size.to_string(),
            Some(dimension::Value::DimParam(symbol)) => symbol.clone(),
            None => "?".into(),
        };
        let declared: Vec<String> = dims.iter().map(text).collect();
        Some(format!(
            "node \"{}\" ({}): the model declares the shape [{}] for \"{name}\", and {ty} follows from its nodes, which is \
             what runs",
            node_name(node),
            node.op_type(),
            declared.join(",")
        ))
    }
}
