//! A node as its converter sees it: operands resolved to [`Value`]s, attributes checked for their types, and the
//! graph to emit into.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use relc_ir::{Graph, Op, TensorType, ValueId, Weight};

use crate::constant::{Budget, Const};
use crate::convert::folded::Folded;
use crate::error::Fault;
use crate::external::ModelFiles;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::quantised::{Accumulator, Integers, Scale};
use crate::sym::Sym;
use crate::tensor::{self, Constant};

/// What an ONNX value is to the importer.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A tensor of the graph.
    Graph(ValueId),
    /// A tensor of the graph that stands for one whose batch is not the first axis.
    Folded(Folded),
    /// A constant; floats become weights where the graph uses them, integers never reach it.
    Constant(Constant),
    /// A tensor of integers that depends on the model's input.
    Integers(Integers),
    /// The scale of such a tensor that the data decides.
    Scale(Scale),
    /// The zero point of such a tensor that the `DynamicQuantizeLinear` of that number decides.
    ZeroPoint(usize),
    /// What a layer of integers sums up.
    Accumulator(Rc<Accumulator>),
    /// What the model gives but nodes can't use, and why: an input of integers, say.
    Unusable(String),
    /// An output of a node that was not converted.
    Missing,
}

impl From<Const<f32>> for Value {
    fn from(c: Const<f32>) -> Self {
        Value::Constant(Constant::Floats(c))
    }
}

impl From<Const<Sym>> for Value {
    fn from(c: Const<Sym>) -> Self {
        Value::Constant(Constant::Ints(c))
    }
}

/// What the converters build.
#[derive(Debug)]
pub(crate) struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// Memory for constants.
    pub budget: Budget,
    /// The external data of the model.
    pub files: ModelFiles,
    /// The least and the largest value of the element types of integer tensors, by the tensors' names.
    pub limits: HashMap<String, (f64, f64)>,
    /// The number of samples that the model fixes its batch to, if the batch is open in the graph nevertheless.
    pub fixed_batch: Option<usize>,
    /// How many tensors were quantised by what the data decides.
    pub dynamic_scales: usize,
    weights: HashMap<String, ValueId>,
}

impl Builder {
    pub fn new(graph: Graph, budget: Budget, files: ModelFiles) -> Self {
        Builder {
            graph,
            budget,
            files,
            limits: HashMap::new(),
            fixed_batch: None,
            dynamic_scales: 0,
            weights: HashMap::new(),
        }
    }

    /// The graph's value for the constant that the model calls `name`.
    fn weight(&mut self, name: &str, constant: &Const<f32>) -> Result<ValueId, Fault> {
        if let Some(value) = self.weights.get(name) {
            return Ok(*value);
        }
        let value = self.new_weight(name, constant)?;
        self.weights.insert(name.to_string(), value);
        Ok(value)
    }

    /// A weight of that name, or of one like it if it is taken.
    pub fn new_weight(&mut self, name: &str, constant: &Const<f32>) -> Result<ValueId, Fault> {
        let data = constant.data();
        // Without a way out of the loop it is many values at a time.
        let finite = data.iter().fold(true, |finite, v| finite & v.is_finite());
        if !finite && let Some((i, got)) = data.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Fault::invalid(format!(
                "the tensor \"{name}\" holds {got} (element {i}), expected finite weights"
            )));
        }
        let ty = TensorType::new(constant.dims().iter().copied());
        let name = self.graph.fresh_weight_name(name);
        let weight = Weight::new(name, ty, data.clone()).map_err(Fault::invalid)?;
        Ok(self.graph.add_weight(weight)?)
    }
}

/// A node to convert.
pub(crate) struct Call<'a, 'b> {
    /// The opset that the model states.
    pub opset: i64,
    /// The node's name, for the graph.
    pub name: &'a str,
    /// The attributes.
    pub attributes: Attributes<'a>,
    /// Where the result goes.
    pub builder: &'b mut Builder,
    /// The values of the outputs behind the first, of an operator that has several.
    pub more: Vec<Value>,
    inputs: Vec<Option<(Cow<'a, str>, Value)>>,
    output: &'a str,
    outputs: usize,
    named_outputs: usize,
}

impl<'a, 'b> Call<'a, 'b> {
    /// A call of `node`; `lookup` gives the values of its inputs.
    pub fn new(
        node: &'a NodeProto,
        name: &'a str,
        opset: i64,
        builder: &'b mut Builder,
        mut lookup: impl FnMut(&'a str, &mut Builder) -> Result<Value, Fault>,
    ) -> Result<Self, Fault> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            inputs.push(match input.as_str() {
                "" => None,
                input => Some((Cow::Borrowed(input), lookup(input, builder)?)),
            });
        }
        let output = node.output.first().map_or("", String::as_str);
        let (attributes, outputs) = (Attributes::new(node)?, node.output.len());
        let named_outputs = node.output.iter().filter(|o| !o.is_empty()).count();
        Ok(Call {
            opset,
            name,
            attributes,
            builder,
            more: Vec::new(),
            inputs,
            output,
            outputs,
            named_outputs,
        })
    }

    /// Whether one of the first `count` operands comes from a node that was not converted.
    pub fn is_blocked(&self, count: usize) -> bool {
        self.inputs.iter().take(count).flatten().any(|(_, v)| matches!(v, Value::Missing))
    }

    /// Puts other operands in the place of the node's: those of the plain operator that a fused one contains.
    pub fn set_inputs(&mut self, inputs: Vec<Option<Value>>) {
        let name = |(i, value): (usize, Option<Value>)| {
            value.map(|value| (Cow::Owned(format!("{}.{i}", self.output)), value))
        };
        self.inputs = inputs.into_iter().enumerate().map(name).collect();
    }

    /// Puts another value in the place of input `i`.
    pub fn set_input(&mut self, i: usize, value: Value) {
        if self.inputs.len() <= i {
            self.inputs.resize(i + 1, None);
        }
        self.inputs[i] = Some((Cow::Owned(format!("{}.{i}", self.output)), value));
    }

    /// The number of inputs, absent ones in the middle included.
    pub fn arity(&self) -> usize {
        self.inputs.len()
    }

    /// The number of outputs, absent ones included.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of outputs that are not left out.
    pub fn named_outputs(&self) -> usize {
        self.named_outputs
    }

    /// Something that the user should know.
    pub fn note(&mut self, note: String) {
        if !self.builder.graph.notes.contains(&note) {
            self.builder.graph.notes.push(note);
        }
    }

    /// Checks the number of inputs; between them, absent ones are found when they are asked for.
    pub fn expect_inputs(&self, range: std::ops::RangeInclusive<usize>) -> Result<(), Fault> {
        if range.contains(&self.arity()) {
            return Ok(());
        }
        let (low, high) = (range.start(), range.end());
        let expected = if low == high { low.to_string() } else { format!("{low} to {high}") };
        Err(Fault::invalid(format!("got {} inputs, expected {expected}", self.arity())))
    }

    /// Whether the node has an input `i`.
    pub fn has(&self, i: usize) -> bool {
        self.inputs.get(i).is_some_and(Option::is_some)
    }

    fn named(&self, i: usize) -> Result<(&str, Value), Fault> {
        match self.inputs.get(i) {
            Some(Some((name, Value::Unusable(why)))) => {
                Err(Fault::unsupported(format!("input {i} is \"{name}\": {why}")))
            }
            Some(Some((name, value))) => Ok((name, value.clone())),
            _ => Err(Fault::invalid(format!("input {i} is missing"))),
        }
    }

    /// Input `i`, whatever it is.
    pub fn value(&self, i: usize) -> Result<Value, Fault> {
        self.named(i).map(|(_, v)| v)
    }

    /// Why input `i` is none that an operator on floats can use.
    pub fn no_floats(&self, i: usize, expected: &str) -> Fault {
        match self.named(i) {
            Ok((name, Value::Integers(_))) => Fault::unsupported(format!(
                "input {i}, \"{name}\", is a tensor of integers that depends on the model's input, expected {expected} \
                 (relc reads such integers where they are cast, dequantised or moved)"
            )),
            Ok((name, Value::Folded(folded))) => Fault::unsupported(format!(
                "input {i}, \"{name}\", is a tensor [{}], expected {expected} with the batch first",
                folded.view.text()
            )),
            Ok((name, Value::Scale(_) | Value::ZeroPoint(_) | Value::Accumulator(_))) => {
                Fault::unsupported(format!(
                    "input {i}, \"{name}\", is part of a dynamic quantisation, expected {expected} (relc reads \
                     DynamicQuantizeLinear, ConvInteger or MatMulInteger, Cast and Mul with the scales)"
                ))
            }
            Ok((name, Value::Graph(_))) => Fault::unsupported(format!(
                "input {i}, \"{name}\", depends on the model's input, expected {expected}"
            )),
            Ok((name, Value::Constant(Constant::Ints(_)))) => {
                Fault::invalid(format!("input {i}, \"{name}\", is of integers, expected {expected}"))
            }
            Ok((name, _)) => {
                Fault::invalid(format!("input {i}, \"{name}\", is of floats, expected {expected}"))
            }
            Err(fault) => fault,
        }
    }

    /// Input `i`, a tensor of floats. A constant is a weight of the graph; what is computed from weights alone is
    /// folded as it is added ([`node`](Self::node)).
    pub fn data(&mut self, i: usize) -> Result<ValueId, Fault> {
        match self.named(i)? {
            (_, Value::Graph(value)) => Ok(value),
            (_, Value::Constant(_)) => self.weight(i),
            _ => Err(self.no_floats(i, "floats")),
        }
    }

    /// The type of a tensor of the graph.
    pub fn ty(&self, value: ValueId) -> TensorType {
        self.builder.graph.ty(value).clone()
    }

    /// Input `i`, a constant of floats.
    pub fn floats(&self, i: usize) -> Result<Const<f32>, Fault> {
        match self.named(i)? {
            (_, Value::Constant(Constant::Floats(c))) => Ok(c),
            (_, Value::Constant(_)) => Err(self.no_floats(i, "floats")),
            _ => Err(self.no_floats(i, "a constant")),
        }
    }

    /// Input `i`, a constant of integers (a shape, axes, ...).
    pub fn ints(&self, i: usize) -> Result<Const<Sym>, Fault> {
        match self.named(i)? {
            (_, Value::Constant(Constant::Ints(c))) => Ok(c),
            (_, Value::Constant(_)) => Err(self.no_floats(i, "integers")),
            _ => Err(self.no_floats(i, "a constant")),
        }
    }

    /// Input `i` in the graph, beside tensors that it broadcasts with: a tensor, or a constant of floats as a weight.
    pub fn operand(&mut self, i: usize) -> Result<ValueId, Fault> {
        let (name, value) = self.named(i)?;
        let name = name.to_string();
        let Value::Constant(Constant::Floats(whole)) = value else { return self.data(i) };
        match self.of_one_sample(&whole)? {
            Some(one) => self.builder.new_weight(&name, &one),
            None => self.weight(i),
        }
    }

    /// A constant with a row for each sample of a fixed batch as one for any sample; none if it is no such constant.
    pub fn of_one_sample(&mut self, constant: &Const<f32>) -> Result<Option<Const<f32>>, Fault> {
        let (Some(batch), [samples, rest @ ..]) = (self.builder.fixed_batch, constant.dims()) else {
            return Ok(None);
        };
        let beside = |(_, v): &(Cow<'_, str>, Value)| {
            matches!(v, Value::Graph(v) if self.builder.graph.ty(*v).is_batched()
                && self.builder.graph.ty(*v).rank() == rest.len() + 1)
        };
        if batch == 1 || *samples != batch || !self.inputs.iter().flatten().any(beside) {
            return Ok(None);
        }
        let row = constant.data().len() / batch;
        let (first, others) = constant.data().split_at(row);
        if row == 0 || others.chunks_exact(row).any(|other| other != first) {
            return Err(Fault::unsupported(format!(
                "got a constant of shape {:?} that differs among the {batch} samples of the fixed batch, expected one \
                 that is the same for each",
                constant.dims()
            )));
        }
        Const::new([&[1], rest].concat(), first).map(Some)
    }

    /// Input `i`, a constant of floats, as a weight of the graph.
    pub fn weight(&mut self, i: usize) -> Result<ValueId, Fault> {
        let constant = self.floats(i)?;
        match self.inputs.get(i) {
            Some(Some((Cow::Borrowed(name), _))) => self.builder.weight(name, &constant),
            // The name is the importer's, and may be that of another value of the model.
            Some(Some((Cow::Owned(name), _))) => self.builder.new_weight(name, &constant),
            _ => Err(Fault::invalid(format!("input {i} is missing"))),
        }
    }

    /// A constant that was computed for this node, as a weight of the graph.
    pub fn new_weight(&mut self, role: &str, constant: &Const<f32>) -> Result<ValueId, Fault> {
        let name = format!("{}.{role}", self.output);
        self.builder.new_weight(&name, constant)
    }

    /// Adds a node to the graph, as the converted value.
    pub fn emit(&mut self, op: Op, operands: &[ValueId]) -> Result<Value, Fault> {
        self.node(op, operands).map(Value::Graph)
    }

    /// A converted value as what it is: a weight of the graph is a constant.
    pub fn settled(&self, value: Value) -> Result<Value, Fault> {
        let Value::Graph(v) = value else { return Ok(value) };
        let weight =
            self.builder.graph.weight(v).and_then(|w| Some((w.ty().fixed_dims()?, w.data()?.clone())));
        match weight {
            Some((dims, data)) => Ok(Const::new(dims, &*data)?.into()),
            None => Ok(value),
        }
    }

    /// Adds a node to the graph, or the weight that it comes to if its operands are weights.
    pub fn node(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, Fault> {
        // For these, what the graph refuses is good ONNX: the batch would move or mix with other axes.
        let limited = matches!(
            op,
            Op::Transpose(_)
                | Op::ReduceMean(_)
                | Op::MatMul
                | Op::GlobalAveragePool
                | Op::Reshape(_)
                | Op::Expand(_)
                | Op::Softmax(_)
        );
        let node = self.builder.graph.add_node(op, self.name, operands).map_err(|e| {
            let fault = Fault::from(e);
            if limited { Fault::unsupported(fault.reason) } else { fault }
        })?;
        self.builder.folded(node, self.output)
    }

    /// The least and the largest value that input `i`'s integer type has, if the model states it.
    pub fn integer_limits(&self, i: usize) -> Option<(f64, f64)> {
        let (name, _) = self.inputs.get(i)?.as_ref()?;
        self.builder.limits.get(name.as_ref()).copied()
    }

    /// Says that the result has an element type, which matters if it is one of integers.
    pub fn state_type(&mut self, element_type: i32) {
        if let Some(limits) = tensor::type_limits(element_type) {
            self.builder.limits.insert(self.output.to_string(), limits);
        }
    }

    /// Says that the result has the integer type of input 0.
    pub fn keep_limits(&mut self) {
        if let Some(limits) = self.integer_limits(0) {
            self.builder.limits.insert(self.output.to_string(), limits);
        }
    }

    /// Reads a tensor attribute.
    pub fn constant(&mut self, tensor: &TensorProto) -> Result<Constant, Fault> {
        self.state_type(tensor.data_type.unwrap_or_default());
        let builder = &mut *self.builder;
        tensor::constant(tensor, &mut builder.files, &mut builder.budget)
    }
}

/// The attributes of a node. Each is to be taken or ignored by name: one that nobody asked for is an error, since
/// it may change what the node means.
pub(crate) struct Attributes<'a> {
    list: Vec<(&'a AttributeProto, Cell<bool>)>,
}

impl<'a> Attributes<'a> {
    fn new(node: &'a NodeProto) -> Result<Self, Fault> {
        let mut names = HashSet::new();
        for attribute in &node.attribute {
            let name = attribute.name();
            if !names.insert(name) {
                return Err(Fault::invalid(format!("got the attribute \"{name}\" twice")));
            }
            if !attribute.ref_attr_name().is_empty() {
                return Err(Fault::invalid(format!(
                    "the attribute \"{name}\" refers to a function's attribute"
                )));
            }
        }
        Ok(Attributes { list: node.attribute.iter().map(|a| (a, Cell::new(false))).collect() })
    }

    /// The attribute of that name, if it is there and of that type.
    fn get(&self, name: &str, expected: AttributeType) -> Result<Option<&'a AttributeProto>, Fault> {
        let Some((attribute, taken)) = self.list.iter().find(|(a, _)| a.name() == name) else {
            return Ok(None);
        };
        taken.set(true);
        let got = attribute.r#type.unwrap_or_default();
        if got != AttributeType::Undefined as i32 && got != expected as i32 {
            let got = AttributeType::try_from(got).map_or("UNKNOWN", |t| t.as_str_name());
            return Err(Fault::invalid(format!(
                "the attribute \"{name}\" is of type {got}, expected {}",
                expected.as_str_name()
            )));
        }
        Ok(Some(attribute))
    }

    // A scalar of value 0 may be absent from the file: writers without field presence leave it out.

    /// An integer.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Fault> {
        Ok(self.get(name, AttributeType::Int)?.map(|a| a.i.unwrap_or_default()))
    }

    /// An integer that stands for yes or no, by default no.
    pub fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.int(name)?.unwrap_or(0) {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(Fault::invalid(format!("the attribute \"{name}\" is {got}, expected 0 or 1"))),
        }
    }

    /// A finite real number.
    pub fn float(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.real(name)? {
            Some(v) if !v.is_finite() => {
                Err(Fault::invalid(format!("the attribute \"{name}\" is {v}, expected a finite number")))
            }
            v => Ok(v),
        }
    }

    /// A real number, or one of the infinities.
    pub fn real(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.get(name, AttributeType::Float)?.map(|a| a.f.unwrap_or_default()) {
            Some(v) if v.is_nan() => {
                Err(Fault::invalid(format!("the attribute \"{name}\" is {v}, expected a number")))
            }
            v => Ok(v.map(f64::from)),
        }
    }

    /// A list of real numbers.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Fault> {
        Ok(self.get(name, AttributeType::Floats)?.map(|a| &a.floats[..]))
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Fault> {
        Ok(self.get(name, AttributeType::Ints)?.map(|a| &a.ints[..]))
    }

    /// A string.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let bytes = self.get(name, AttributeType::String)?.map(|a| a.s.as_deref().unwrap_or_default());
        bytes
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| Fault::invalid(format!("the attribute \"{name}\" is no UTF-8 text")))
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>, Fault> {
        let Some(attribute) = self.get(name, AttributeType::Tensor)? else { return Ok(None) };
        let tensor = attribute.t.as_deref();
        tensor.map(Some).ok_or_else(|| Fault::invalid(format!("the attribute \"{name}\" has no tensor")))
    }

    /// Marks attributes that don't change what inference computes.
    pub fn ignore(&self, names: &[&str]) {
        self.list.iter().filter(|(a, _)| names.contains(&a.name())).for_each(|(_, taken)| taken.set(true));
    }

    /// Whether the attribute is there.
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(a, _)| a.name() == name)
    }

    /// Checks that every attribute was taken.
    pub fn finish(&self) -> Result<(), Fault> {
        let left: Vec<String> =
            self.list.iter().filter(|(_, t)| !t.get()).map(|(a, _)| format!("\"{}\"", a.name())).collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(Fault::unsupported(format!("the attribute {} is not known for this opset", left.join(", "))))
    }
}
