//! Messages, names and constants.

use std::collections::{HashMap, HashSet};

use prost::Message;
use relc_ir::analysis::Signs;
use relc_ir::op::Window;
use relc_ir::rule::WeightPart;
use relc_ir::{Dim, Graph, NodeId, TensorType, ValueId};
use relc_onnx::proto::attribute_proto::AttributeType;
use relc_onnx::proto::tensor_proto::DataType;
use relc_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use relc_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use crate::{ExportError, OPSET};

/// The inputs and outputs of an explainer's own.
const OUTPUTS: [&str; 4] = ["logits", "relevance", "map", "target"];

/// How much of a node's name stands in those of the nodes that stand for it.
const MAX_NAME: usize = 200;

/// The version of the file format that came with [`OPSET`].
const IR_VERSION: i64 = 8;

/// An attribute that is an integer.
pub(crate) fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto { i: Some(value as i64), ..attribute(name, AttributeType::Int) }
}

/// An attribute that is a list of integers.
pub(crate) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|v| *v as i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

/// An attribute that is a number.
pub(crate) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

/// An attribute that is a word.
pub(crate) fn word(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().into()), ..attribute(name, AttributeType::String) }
}

/// The attributes that convolutions and pools share.
pub(crate) fn window(window: &Window) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &window.kernel()),
        ints("strides", &window.strides()),
        ints("pads", &window.pads()),
        ints("dilations", &window.dilations()),
    ]
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind.into()), ..AttributeProto::default() }
}

/// Writes one file. Values go by their names in it.
pub(crate) struct Writer<'a> {
    pub graph: &'a Graph,
    /// What is known of the forward values' signs.
    pub signs: Signs,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    /// The names of values that are taken.
    names: HashSet<String>,
    /// The next number behind a name that is taken.
    numbers: HashMap<String, u64>,
    /// The names of nodes that are taken.
    node_names: HashSet<String>,
    values: HashMap<ValueId, String>,
    /// Constants by type, sizes and bytes.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), String>,
    /// Forms of weights and biases, by the weight's name, the form and `g`.
    forms: HashMap<(String, WeightPart, u64), String>,
    /// What the nodes that are written now belong to: the start of their values' names, and of their own.
    scope: (String, String),
}

impl<'a> Writer<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Writer {
            graph,
            signs: Signs::of(graph),
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            names: OUTPUTS.map(String::from).into(),
            numbers: HashMap::new(),
            node_names: HashSet::new(),
            values: HashMap::new(),
            constants: HashMap::new(),
            forms: HashMap::new(),
            scope: Default::default(),
        }
    }

    /// What follows belongs to a node of the graph.
    pub fn scope(&mut self, node: NodeId) {
        let n = self.graph.node(node);
        let label = self.graph.node_label(node).replace('%', "");
        let kind = if n.op.is_relevance() { "relevance/" } else { "" };
        self.scope = (label, format!("{kind}{}", n.name));
    }

    /// What follows belongs to no node of the graph.
    pub fn scope_of(&mut self, name: &str) {
        self.scope = (name.to_string(), name.to_string());
    }

    // -- values -----------------------------------------------------------------------------------------------

    /// A name that is not taken, `base` if it can be.
    fn fresh(&mut self, base: &str) -> String {
        if !base.is_empty() && self.names.insert(base.to_string()) {
            return base.to_string();
        }
        let next = self.numbers.entry(base.to_string()).or_insert(1);
        loop {
            let name = format!("{base}.{next}");
            *next += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }

    /// The name of an input or output of the explainer's own; that of the model's input is taken.
    fn own(&mut self, name: &str) -> String {
        let taken = self.inputs.iter().any(|input| input.name.as_deref() == Some(name));
        if taken { self.fresh(name) } else { name.to_string() }
    }

    /// A name for a node: `name` where no other has it, else with the value that it makes; a long one is cut.
    fn node_name(&mut self, name: &str, value: &str) -> String {
        if self.node_names.insert(name.to_string()) {
            return name.to_string();
        }
        let start: String = name.chars().take(MAX_NAME).collect();
        let name = format!("{start}/{value}");
        self.node_names.insert(name.clone());
        name
    }

    /// Declares the model's input.
    pub fn input(&mut self, node: NodeId) {
        let n = self.graph.node(node);
        // It keeps its name, even if that is one of the explainer's own.
        let name = n.name.clone();
        self.names.insert(name.clone());
        self.inputs.push(info(&name, DataType::Float, &n.types()[0]));
        self.values.insert(ValueId { node, port: 0 }, name);
    }

    /// Declares an input of integers, one for each sample.
    pub fn input_of_integers(&mut self, name: &str, batch: Dim) -> String {
        let name = self.own(name);
        self.inputs.push(info(&name, DataType::Int64, &TensorType::new([batch])));
        name
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, value: &str, ty: &TensorType) {
        let name = self.own(name);
        self.outputs.push(info(&name, DataType::Float, ty));
        let node = self.node_name("outputs", &name);
        self.nodes.push(NodeProto {
            input: vec![value.into()],
            name: Some(node),
            output: vec![name],
            op_type: Some("Identity".into()),
            ..NodeProto::default()
        });
    }

    /// The name of a value of the graph; a weight is stored when it is asked for first.
    pub fn value(&mut self, value: ValueId) -> Result<String, ExportError> {
        if let Some(name) = self.values.get(&value) {
            return Ok(name.clone());
        }
        let Some(weight) = self.graph.weight(value) else {
            let node = self.graph.describe(value.node);
            return Err(ExportError::Node {
                node,
                message: "got no value of it, expected its node to come before its users".into(),
            });
        };
        let data = weight.data().ok_or_else(|| ExportError::NoData(weight.name().into()))?;
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = weight.ty().bind(1).into_iter().map(|d| d as i64).collect();
        let name = self.fresh(weight.name());
        self.initializers.push(tensor(&name, DataType::Float, dims, bytes));
        self.values.insert(value, name.clone());
        Ok(name)
    }

    /// The operands of a node.
    pub fn operands(&mut self, node: NodeId) -> Result<Vec<String>, ExportError> {
        self.graph.operands(node).into_iter().map(|value| self.value(value)).collect()
    }

    /// Says what the outputs of a node are called.
    pub fn bind(&mut self, node: NodeId, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().enumerate();
        self.values.extend(names.map(|(port, name)| (ValueId { node, port }, name)));
    }

    // -- nodes ------------------------------------------------------------------------------------------------

    /// A node with one output.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.op_with(op, inputs, Vec::new())
    }

    /// A node with attributes and one output.
    pub fn op_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.ops_with(op, inputs, attributes, 1).swap_remove(0)
    }

    /// A node with attributes and several outputs.
    pub fn ops_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        outputs: usize,
    ) -> Vec<String> {
        let (base, node) = self.scope.clone();
        let output: Vec<String> = (0..outputs.max(1)).map(|_| self.fresh(&base)).collect();
        // The first of the nodes that stand for one keeps its name.
        let name = self.node_name(&node, output.first().map_or("", String::as_str));
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            name: Some(name),
            output: output.clone(),
            op_type: Some(op.into()),
            attribute,
            ..NodeProto::default()
        });
        output
    }

    /// `condition ? yes : no`, elementwise.
    pub fn choose(&mut self, condition: &str, yes: &str, no: &str) -> String {
        self.op("Where", &[condition, yes, no])
    }

    /// A comparison as 0 or 1.
    pub fn step(&mut self, comparison: &str, a: &str, b: &str) -> String {
        let holds = self.op(comparison, &[a, b]);
        self.op_with("Cast", &[&holds], vec![int("to", DataType::Float as usize)])
    }

    /// A value times a number; the value itself where that is 1.
    pub fn scaled(&mut self, x: &str, by: f64) -> String {
        if by == 1.0 {
            return x.to_string();
        }
        let by = self.scalar(by);
        self.op("Mul", &[x, &by])
    }

    /// A sum over axes.
    pub fn reduce_sum(&mut self, x: &str, axes: &[usize], keepdims: bool) -> String {
        let axes = self.sizes(axes);
        self.op_with("ReduceSum", &[x, &axes], vec![int("keepdims", keepdims.into())])
    }

    /// The sum over the repetitions that made a value of sizes `to` from one of sizes `from`.
    pub fn unexpand(&mut self, x: &str, to: &[Dim], from: &[Dim]) -> String {
        let leading = to.len().saturating_sub(from.len());
        let mut sum = x.to_string();
        if leading > 0 {
            let axes: Vec<usize> = (0..leading).collect();
            sum = self.reduce_sum(&sum, &axes, false);
        }
        let repeated = from.iter().zip(to.iter().skip(leading)).enumerate();
        let axes: Vec<usize> =
            repeated.filter(|(_, (a, b))| **a == Dim::Fixed(1) && a != b).map(|(i, _)| i).collect();
        if axes.is_empty() { sum } else { self.reduce_sum(&sum, &axes, true) }
    }

    /// A mean over axes, which stay with size 1.
    pub fn reduce_mean(&mut self, x: &str, axes: &[usize]) -> String {
        self.op_with("ReduceMean", &[x], vec![ints("axes", axes), int("keepdims", 1)])
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: &str, dims: &[Dim]) -> String {
        let shape: Vec<i64> = dims.iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
        let shape = self.integers(&shape);
        self.op("Reshape", &[x, &shape])
    }

    /// Repeats along axes of size 1; what is the batch stays as it is.
    pub fn expand(&mut self, x: &str, dims: &[Dim]) -> String {
        let shape: Vec<i64> = dims.iter().map(|d| d.fixed().map_or(1, |n| n as i64)).collect();
        let shape = self.integers(&shape);
        self.op("Expand", &[x, &shape])
    }

    /// A form of a weight or a bias, an operator on it, once for all that use it.
    pub fn form(&mut self, weight: &str, part: WeightPart, gamma: f64) -> String {
        let uses_gamma = matches!(part, WeightPart::GammaPositive | WeightPart::GammaNegative);
        let key = (weight.to_string(), part, if uses_gamma { gamma.to_bits() } else { 0 });
        if let Some(name) = self.forms.get(&key) {
            return name.clone();
        }
        let zero = self.scalar(0.0);
        let name = match part {
            WeightPart::Raw => weight.to_string(),
            WeightPart::Positive => self.op("Max", &[weight, &zero]),
            WeightPart::Negative => self.op("Min", &[weight, &zero]),
            WeightPart::Square => self.op("Mul", &[weight, weight]),
            WeightPart::Ones => {
                let zeros = self.op("Mul", &[weight, &zero]);
                let one = self.scalar(1.0);
                self.op("Add", &[&zeros, &one])
            }
            WeightPart::GammaPositive | WeightPart::GammaNegative => {
                let bound = if part == WeightPart::GammaPositive { "Max" } else { "Min" };
                let bounded = self.op(bound, &[weight, &zero]);
                let bounded = self.scaled(&bounded, gamma);
                self.op("Add", &[weight, &bounded])
            }
        };
        self.forms.insert(key, name.clone());
        name
    }

    // -- constants --------------------------------------------------------------------------------------------

    /// A number.
    pub fn scalar(&mut self, value: f64) -> String {
        self.numbers(&[], &[value])
    }

    /// A tensor of numbers.
    pub fn numbers(&mut self, dims: &[usize], values: &[f64]) -> String {
        let bytes = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
        self.constant(DataType::Float, dims.iter().map(|d| *d as i64).collect(), bytes)
    }

    /// A list of integers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(DataType::Int64, vec![values.len() as i64], bytes)
    }

    /// A list of sizes.
    pub fn sizes(&mut self, values: &[usize]) -> String {
        let values: Vec<i64> = values.iter().map(|v| *v as i64).collect();
        self.integers(&values)
    }

    fn constant(&mut self, kind: DataType, dims: Vec<i64>, bytes: Vec<u8>) -> String {
        let key = (kind as i32, dims, bytes);
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("constant");
        self.initializers.push(tensor(&name, kind, key.1.clone(), key.2.clone()));
        self.constants.insert(key, name.clone());
        name
    }

    /// The file.
    pub fn finish(self, metadata: &[(String, String)]) -> Vec<u8> {
        let graph = GraphProto {
            node: self.nodes,
            name: Some(format!("{} explained", self.graph.name())),
            initializer: self.initializers,
            input: self.inputs,
            output: self.outputs,
            ..GraphProto::default()
        };
        let entry = |(k, v): &(String, String)| StringStringEntryProto {
            key: Some(k.clone()),
            value: Some(v.clone()),
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("relc".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

fn tensor(name: &str, kind: DataType, dims: Vec<i64>, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims,
        data_type: Some(kind.into()),
        name: Some(name.into()),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

fn info(name: &str, kind: DataType, ty: &TensorType) -> ValueInfoProto {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim {
            Dim::Batch => dimension::Value::DimParam("N".into()),
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
        }),
    };
    let shape = Some(TensorShapeProto { dim: ty.dims().iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(kind.into()), shape };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
    }
}
