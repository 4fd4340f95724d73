//! Small models, built in the tests themselves, and how they import as text.
#![allow(dead_code, reason = "each test binary uses its part")]

use prost::Message;
use relc_onnx::proto::attribute_proto::AttributeType;
use relc_onnx::proto::tensor_proto::DataType;
use relc_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use relc_onnx::proto::*;
use relc_onnx::{ImportError, Imported};

/// A model under construction.
#[derive(Clone)]
pub struct Net {
    pub model: ModelProto,
}

impl Net {
    /// An empty model of the given opset.
    pub fn new(opset: i64) -> Self {
        let opset = OperatorSetIdProto { domain: None, version: Some(opset) };
        let graph = GraphProto { name: Some("test".into()), ..Default::default() };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset],
            graph: Some(graph),
            ..Default::default()
        };
        Net { model }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.as_mut().expect("a test's model has a graph")
    }

    /// A float input; a dimension that is no number is a symbol.
    pub fn input(self, name: &str, dims: &str) -> Self {
        self.typed_input(name, dims, DataType::Float)
    }

    pub fn typed_input(mut self, name: &str, dims: &str, ty: DataType) -> Self {
        self.graph().input.push(info(name, dims, ty));
        self
    }

    /// Initialisers of floats: quarters, so that sums and products are exact.
    pub fn weights(mut self, weights: &[(&str, &[i64])]) -> Self {
        for (name, dims) in weights {
            let count = dims.iter().product::<i64>();
            let values = (0..count).map(|i| 0.25 * (i % 7 + 1) as f32).collect();
            self = self.floats(name, dims, values);
        }
        self
    }

    pub fn floats(self, name: &str, dims: &[i64], values: Vec<f32>) -> Self {
        self.tensor(name, floats(dims, values))
    }

    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.tensor(name, ints(&[values.len() as i64], values))
    }

    pub fn int(self, name: &str, value: i64) -> Self {
        self.tensor(name, ints(&[], &[value]))
    }

    pub fn tensor(mut self, name: &str, tensor: TensorProto) -> Self {
        self.graph().initializer.push(TensorProto { name: Some(name.into()), ..tensor });
        self
    }

    /// A node `op` from comma-separated inputs to comma-separated outputs.
    pub fn node(mut self, op: &str, inputs: &str, outputs: &str, attributes: Vec<AttributeProto>) -> Self {
        let list = |names: &str| names.split(',').map(|n| n.trim().to_string()).collect();
        let name = format!("{op}_{}", self.graph().node.len());
        self.graph().node.push(NodeProto {
            input: if inputs.is_empty() { Vec::new() } else { list(inputs) },
            output: list(outputs),
            name: Some(name),
            op_type: Some(op.into()),
            attribute: attributes,
            ..Default::default()
        });
        self
    }

    /// The last node's domain, which the model then states in version 1.
    pub fn domain(mut self, domain: &str) -> Self {
        let node = self.graph().node.last_mut().expect("there is a node");
        node.domain = Some(domain.into());
        let stated = OperatorSetIdProto { domain: Some(domain.into()), version: Some(1) };
        if !domain.is_empty() && !self.model.opset_import.contains(&stated) {
            self.model.opset_import.push(stated);
        }
        self
    }

    /// A function of the domain `test` with the nodes of another model, which are written in that one's opset.
    pub fn function(mut self, name: &str, inputs: &str, outputs: &str, mut body: Net) -> Self {
        let list = |names: &str| names.split(',').map(|n| n.trim().to_string()).collect();
        self.model.functions.push(FunctionProto {
            name: Some(name.into()),
            domain: Some("test".into()),
            input: list(inputs),
            output: list(outputs),
            node: std::mem::take(&mut body.graph().node),
            opset_import: body.model.opset_import,
            ..Default::default()
        });
        self
    }

    pub fn output(mut self, name: &str) -> Self {
        self.graph().output.push(info(name, "", DataType::Float));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    pub fn import(&self) -> Result<Imported, ImportError> {
        relc_onnx::import_bytes(self.bytes(), None)
    }

    /// The graph's lines, with the values of small weights, or the error.
    ///
    /// The graph has to verify and to be what its text parses to.
    #[track_caller]
    pub fn show(&self) -> String {
        let graph = match self.import() {
            Ok(imported) => imported.graph,
            Err(error) => return error.to_string(),
        };
        relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(relc_ir::parse(&graph.to_string()).as_ref(), Ok(&graph));
        let mut lines: Vec<String> = Vec::new();
        for weight in graph.weights() {
            let values = weight.data().expect("an imported weight has values");
            let values = if values.len() <= 8 { format!("{values:?}") } else { "..".into() };
            lines.push(format!("@{}: {} = {values}", weight.name(), weight.ty()));
        }
        lines.extend(graph.forward_order().expect("no cycle").into_iter().map(|n| graph.line(n)));
        lines.join("\n")
    }
}

/// A model with one node behind the input `x` of the given shape.
pub fn one(opset: i64, dims: &str, op: &str, attributes: Vec<AttributeProto>) -> Net {
    Net::new(opset).input("x", dims).node(op, "x", "y", attributes).output("y")
}

pub fn info(name: &str, dims: &str, ty: DataType) -> ValueInfoProto {
    let dim = |d: &str| {
        let value = match d.trim().parse() {
            Ok(v) => dimension::Value::DimValue(v),
            Err(_) => dimension::Value::DimParam(d.trim().into()),
        };
        Dimension { value: Some(value) }
    };
    let dim = if dims.is_empty() { Vec::new() } else { dims.split(',').map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(ty as i32), shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(ty) }
}

pub fn floats(dims: &[i64], values: Vec<f32>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        float_data: values,
        ..Default::default()
    }
}

pub fn ints(dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(ty as i32), ..Default::default() }
}

/// An attribute of one integer.
pub fn ai(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute of integers.
pub fn ais(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// An attribute of one float.
pub fn af(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// An attribute of floats.
pub fn afs(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

/// An attribute of text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, AttributeType::String) }
}

/// An attribute of a subgraph.
pub fn graph_attribute(name: &str, mut net: Net) -> AttributeProto {
    let graph = Some(Box::new(std::mem::take(net.graph())));
    AttributeProto { g: graph, ..attribute(name, AttributeType::Graph) }
}

/// An attribute that is a function's attribute `referred`.
pub fn referring(name: &str, referred: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: Some(referred.into()), ..attribute(name, ty) }
}

/// An attribute of a tensor.
pub fn at(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(Box::new(tensor)), ..attribute(name, AttributeType::Tensor) }
}
