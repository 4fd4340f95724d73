//! The whole model: its opset, input and output, and its nodes in order through the converters.

use std::collections::HashMap;
use std::path::PathBuf;

use relc_ir::{Dim, Graph, IrError, TensorType, ValueId};

use crate::call::{Builder, Call, Value};
use crate::constant::{Budget, DEFAULT_LIMIT, MAX_RANK};
use crate::convert::{folded, quantize};
use crate::declared::Declared;
use crate::error::{Fault, ImportError, MixedBatch, NodeIssue, NodeIssues, OPSETS};
use crate::external::ModelFiles;
use crate::held::Held;
use crate::inline::{Origins, inline, is_default_domain, is_if};
use crate::names::{Names, Source, node_name};
use crate::opset::{self, OpSpec};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::quantised::{Integers, Step};
use crate::sym::Sym;
use crate::tensor::{self, Constant, is_float, type_limits, type_name};

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network: one input, one output, forward nodes only, in `f32`.
    pub graph: Graph,
    /// The opset of the domain `ai.onnx` that the model states.
    pub opset: i64,
    /// The version of the file format.
    pub ir_version: Option<i64>,
    /// The program that wrote the file, with its version; may be empty.
    pub producer: String,
    /// The model's metadata: keys and values.
    pub metadata: Vec<(String, String)>,
    /// Why the batch is the fixed one of the model, of several samples: some nodes don't treat all alike, so that none
    /// can be explained on its own.
    pub mixed: Option<MixedBatch>,
    /// The least and the largest value of the input, if it is of integers in the file: whole numbers, read as floats.
    pub input_limits: Option<(f64, f64)>,
}

/// What a model leaves open and its user decides.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportOptions {
    /// The value to explain, where the model has several outputs; any value of the graph will do.
    pub output: Option<String>,
    /// The input's shape, where the model does not fix it. The first dimension is the batch and stays open.
    pub input_shape: Option<Vec<Dim>>,
    /// The inputs that are held constant, so that one is left to explain.
    pub hold: Vec<Held>,
    /// The memory that constants may take beside what the model's files hold, in bytes; by default 1 GiB. (A small file
    /// may ask for large constants.)
    pub constant_limit: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { output: None, input_shape: None, hold: Vec::new(), constant_limit: DEFAULT_LIMIT }
    }
}

/// Imports a decoded model of `size` bytes, whose external data lies in `folders`: with an open batch if its nodes allow
/// for that.
pub(crate) fn assemble(
    mut model: ModelProto,
    size: usize,
    folders: &[PathBuf],
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let origins = inline(&mut model)?;
    let asked = options.input_shape.as_ref().is_some_and(|s| s.first() == Some(&Dim::Batch));
    let attempt = |opens_batch| attempt(&model, &origins, size, folders, options, opens_batch);
    match attempt(true) {
        Err(ImportError::FixedBatch { samples, issues }) if !asked => {
            let imported = attempt(false)?;
            Ok(Imported { mixed: Some(MixedBatch { samples, issues }), ..imported })
        }
        result => result,
    }
}

fn attempt(
    model: &ModelProto,
    origins: &Origins,
    size: usize,
    folders: &[PathBuf],
    options: &ImportOptions,
    opens_batch: bool,
) -> Result<Imported, ImportError> {
    let graph = model.graph.as_ref().ok_or(ImportError::NoGraph)?;
    let opset = opset_of(model)?;
    let output = output_name(graph, options)?;
    let names = Names::of(graph, origins, output)?;
    let name = Some(graph.name()).filter(|n| !n.is_empty()).unwrap_or("model");
    let budget = Budget::new(options.constant_limit, size);
    let builder = Builder::new(Graph::new(name), budget, ModelFiles::new(folders));
    let declared = if options.input_shape.is_none() { Declared::of(graph) } else { Declared::default() };
    let values = HashMap::new();
    let mut importer =
        Importer { model, graph, origins, names, opset, builder, values, declared, options, opens_batch };
    let input_limits = importer.inputs()?;
    importer.nodes()?;
    importer.output(output)?;
    let mut graph = importer.builder.graph;
    graph.remove_dead();
    tracing::debug!(opset, nodes = graph.node_ids().count(), "imported a model");
    let metadata = model.metadata_props.iter().map(|e| (e.key().to_string(), e.value().to_string()));
    Ok(Imported {
        graph,
        opset,
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name(), model.producer_version()).trim().to_string(),
        metadata: metadata.collect(),
        mixed: None,
        input_limits,
    })
}

fn opset_of(model: &ModelProto) -> Result<i64, ImportError> {
    let stated: Vec<i64> =
        model.opset_import.iter().filter(|o| is_default_domain(o.domain())).map(|o| o.version()).collect();
    match stated[..] {
        [opset] if OPSETS.contains(&opset) => Ok(opset),
        [opset] => Err(ImportError::Opset { got: format!("opset {opset}") }),
        [] => Err(ImportError::Opset { got: "no opset".into() }),
        _ => Err(ImportError::Opset { got: format!("the opsets {stated:?}") }),
    }
}

struct Importer<'a> {
    model: &'a ModelProto,
    graph: &'a GraphProto,
    origins: &'a Origins,
    names: Names<'a>,
    opset: i64,
    builder: Builder,
    /// What each value is, as far as the nodes were converted; initialisers once they are used.
    values: HashMap<&'a str, Value>,
    declared: Declared<'a>,
    options: &'a ImportOptions,
    /// Whether a batch of a fixed number of samples becomes an open one.
    opens_batch: bool,
}

impl<'a> Importer<'a> {
    /// Declares the input: the only one of floats, or, without one, of integers; others are refused where a node uses
    /// them. Returns the limits of integers.
    fn inputs(&mut self) -> Result<Option<(f64, f64)>, ImportError> {
        let graph = self.graph;
        let is_input =
            |(i, v): &(usize, &ValueInfoProto)| self.names.sources.get(v.name()) == Some(&Source::Input(*i));
        let inputs: Vec<&ValueInfoProto> =
            graph.input.iter().enumerate().filter(is_input).map(|(_, v)| v).collect();
        self.hold(&inputs)?;
        let inputs: Vec<&ValueInfoProto> =
            inputs.into_iter().filter(|v| !self.values.contains_key(v.name())).collect();
        let of_floats = |v: &&&ValueInfoProto| element_type(v).is_none_or(is_float);
        let of_integers = |v: &&&ValueInfoProto| element_type(v).is_some_and(|t| type_limits(t).is_some());
        let mut candidates: Vec<&ValueInfoProto> = inputs.iter().filter(of_floats).copied().collect();
        if candidates.is_empty() {
            candidates = inputs.iter().filter(of_integers).copied().collect();
        }
        if candidates.len() > 1 {
            // An input that the output does not depend on is none.
            candidates.retain(|v| self.names.used.contains(v.name()));
        }
        let [input] = candidates[..] else {
            return Err(match inputs[..] {
                [only] if candidates.is_empty() => {
                    input_type(only, &None, true).err().unwrap_or(ImportError::NoGraph)
                }
                _ => ImportError::Inputs {
                    inputs: candidates.iter().map(|v| format!("\"{}\"", v.name())).collect(),
                },
            });
        };
        let ty = input_type(input, &self.options.input_shape, self.opens_batch)?;
        self.open_batch(input, &ty);
        let refuse =
            |e: IrError| ImportError::InputType { input: input.name().into(), reason: Fault::from(e).reason };
        let value = self.builder.graph.add_input(input.name(), ty).map_err(refuse)?;
        for other in inputs {
            let number = element_type(other).unwrap_or_default();
            let why = format!("an input of {}, expected floats", type_name(number));
            self.values.insert(other.name(), Value::Unusable(why));
        }
        let number = element_type(input).unwrap_or_default();
        let Some(limits) = type_limits(number) else {
            self.values.insert(input.name(), Value::Graph(value));
            return Ok(None);
        };
        let (low, high) = limits;
        self.builder.graph.notes.push(format!(
            "the input \"{}\" is of {}: it takes whole numbers from {low} to {high}, read as floats",
            input.name(),
            type_name(number)
        ));
        let integers = Integers { value, step: Step::PLAIN, limits };
        self.values.insert(input.name(), Value::Integers(integers));
        Ok(Some(limits))
    }

    /// Keeps the number of samples that the model fixes its batch to, where the graph leaves the batch open.
    fn open_batch(&mut self, input: &ValueInfoProto, ty: &TensorType) {
        let Some(samples) = fixed_batch(input).filter(|_| ty.is_batched()) else { return };
        self.builder.fixed_batch = Some(samples);
        if samples > 1 {
            self.builder.graph.notes.push(format!(
                "batch fixed to {samples}: each sample is explained on its own, so that any number of samples runs"
            ));
        }
    }

    /// Gives the inputs that are held constant their values.
    fn hold(&mut self, inputs: &[&'a ValueInfoProto]) -> Result<(), ImportError> {
        for held in &self.options.hold {
            let Some(info) = inputs.iter().find(|v| v.name() == held.name) else {
                return Err(ImportError::NoSuchInput {
                    wanted: held.name.clone(),
                    known: inputs.iter().map(|v| format!("\"{}\"", v.name())).collect(),
                });
            };
            let value = held.constant(info)?;
            self.values.insert(info.name(), value);
        }
        Ok(())
    }

    /// Converts every node that the outputs depend on, and collects what can't be.
    fn nodes(&mut self) -> Result<(), ImportError> {
        let graph = self.graph;
        let mut issues = Vec::new();
        for i in std::mem::take(&mut self.names.order) {
            let Some(node) = graph.node.get(i) else { continue };
            if !self.is_taken(i) {
                continue;
            }
            let values = match self.node(node, self.origins.opset(i).unwrap_or(self.opset)) {
                Ok(values) => values,
                Err(issue) => {
                    issues.push(*issue);
                    Vec::new()
                }
            };
            let values = values.into_iter().chain(std::iter::repeat(Value::Missing));
            self.values.extend(node.output.iter().map(String::as_str).zip(values));
            for name in &node.output {
                if let Some(Value::Graph(value)) = self.values.get(name.as_str()) {
                    let ty = self.builder.graph.ty(*value);
                    let note = self.declared.note(node, name, ty);
                    self.builder.graph.notes.extend(note);
                }
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(self.refused(issues)) }
    }

    /// Nodes that can't be imported; perhaps only since the batch was opened.
    fn refused(&self, issues: Vec<NodeIssue>) -> ImportError {
        match self.builder.fixed_batch {
            Some(samples) if samples > 1 => ImportError::FixedBatch { samples, issues: NodeIssues(issues) },
            _ => ImportError::Nodes(NodeIssues(issues)),
        }
    }

    /// Whether every branch that node `i` is in is one that a constant chooses.
    fn is_taken(&mut self, i: usize) -> bool {
        let origins = self.origins;
        origins.guards(i).all(|guard| {
            let source = self.names.sources.get(guard.condition.as_str());
            let condition = match (self.values.get(guard.condition.as_str()), source) {
                (None, Some(source @ (Source::Initializer(_) | Source::Sparse(_)))) => {
                    initializer(self.graph, *source, &mut self.builder).ok()
                }
                (value, _) => value.cloned(),
            };
            match condition {
                Some(Value::Constant(Constant::Ints(c))) => {
                    c.single().ok().and_then(Sym::known).is_some_and(|c| (c != 0) == guard.taken)
                }
                _ => false,
            }
        })
    }

    fn node(&mut self, node: &'a NodeProto, opset: i64) -> Result<Vec<Value>, Box<NodeIssue>> {
        let spec = self.spec(node).map_err(|fault| Box::new(self.issue(node, opset, fault, None)))?;
        self.convert(node, opset, spec).map_err(|fault| Box::new(self.issue(node, opset, fault, Some(spec))))
    }

    /// What is wrong with a node.
    fn issue(&self, node: &NodeProto, opset: i64, fault: Fault, spec: Option<&OpSpec>) -> NodeIssue {
        let (domain, opset) = self.domain_of(node, opset);
        NodeIssue {
            kind: fault.kind,
            node: node_name(node).to_string(),
            op: node.op_type().to_string(),
            domain,
            opset,
            reason: fault.reason,
            supported: spec.map(|s| s.supported),
            is_unknown: fault.is_unknown,
        }
    }

    fn domain_of(&self, node: &NodeProto, opset: i64) -> (String, Option<i64>) {
        if is_default_domain(node.domain()) {
            return ("ai.onnx".into(), Some(opset));
        }
        let stated = self.model.opset_import.iter().find(|o| o.domain() == node.domain());
        (node.domain().to_string(), stated.map(|o| o.version()))
    }

    /// The table's entry for a node's operator.
    fn spec(&self, node: &NodeProto) -> Result<&'static OpSpec, Fault> {
        let (op, domain) = (node.op_type(), node.domain());
        if !is_if(node) && node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err(Fault::unsupported(
                "it is control flow: one of its attributes is a subgraph, expected none but the branches of If: simplify \
                 the model with fixed shapes (onnxsim), or export it without loops",
            ));
        }
        let one_machine = || {
            Fault::unsupported(
                "it is ONNX Runtime's layout for one kind of machine: save the optimised model with the level extended, \
                 not all",
            )
        };
        let is_microsoft = domain == "com.microsoft";
        let found = match domain {
            "com.microsoft.nchwc" | "com.ms.internal.nhwc" => return Err(one_machine()),
            "com.microsoft" if op.starts_with("Nhwc") => return Err(one_machine()),
            "com.microsoft" => opset::find_microsoft(op),
            _ if is_default_domain(domain) => opset::find(op),
            _ => {
                return Err(Fault::unknown_operator(
                    "relc imports operators of the domains ai.onnx and com.microsoft only",
                ));
            }
        };
        found.ok_or_else(|| {
            let hint = opset::hint(op, is_microsoft).map(|hint| format!(" ({hint})")).unwrap_or_default();
            Fault::unknown_operator(format!("relc has no such operator{hint}"))
        })
    }

    fn convert(&mut self, node: &'a NodeProto, opset: i64, spec: &OpSpec) -> Result<Vec<Value>, Fault> {
        if !(spec.min_opset..=spec.max_opset).contains(&opset) {
            let (min, max) = (spec.min_opset, spec.max_opset);
            return Err(Fault::invalid(format!("the operator is expected in the opsets {min} to {max}")));
        }
        let (values, graph, sources) = (&mut self.values, self.graph, &self.names.sources);
        let lookup = |name: &'a str, builder: &mut Builder| match (values.get(name), sources.get(name)) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(source @ (Source::Initializer(_) | Source::Sparse(_)))) => {
                let value = initializer(graph, *source, builder)?;
                values.insert(name, value.clone());
                Ok(value)
            }
            // Only an output that its node does not give has no value by now.
            (None, _) => Ok(Value::Missing),
        };
        let mut call = Call::new(node, node_name(node), opset, &mut self.builder, lookup)?;
        // A choice does not need the branch that it does not take.
        if call.is_blocked(if is_if(node) { 1 } else { usize::MAX }) {
            return Ok(Vec::new());
        }
        let moved = quantize::unwrap_moved(&mut call, spec.op)?;
        let value = match folded::is_folded(&call) {
            true => folded::convert(&mut call, spec)?,
            false => (spec.convert)(&mut call)?,
        };
        call.attributes.finish()?;
        let mut given = vec![value];
        given.append(&mut call.more);
        let mut given = given.into_iter().map(|v| call.settled(v)).collect::<Result<Vec<_>, _>>()?;
        for value in &mut given {
            if let (Value::Graph(tensor), Some(moved)) = (&value, &moved) {
                *value = Value::Integers(Integers { value: *tensor, ..moved.clone() });
            }
        }
        let used = &self.names.used;
        let missing =
            node.output.iter().enumerate().skip(given.len()).find(|(_, o)| used.contains(o.as_str()));
        match missing {
            Some((i, name)) => Err(Fault::unsupported(format!("output {i}, \"{name}\", is used"))),
            None => Ok(given),
        }
    }

    fn output(&mut self, output: &'a str) -> Result<(), ImportError> {
        // An output may be an input or an initialiser as it is.
        let value: ValueId = match self.values.get(output) {
            Some(Value::Graph(value)) => *value,
            Some(Value::Integers(integers)) => {
                self.builder.graph.notes.push(format!(
                    "the output \"{output}\" is of integers: what is explained are the floats that they stand for"
                ));
                integers.value
            }
            Some(Value::Folded(folded)) => {
                let reason = format!(
                    "its result \"{output}\" is explained and a tensor [{}], expected the batch first and alone in its axis",
                    folded.view.text()
                );
                let node = self.graph.node.iter().find(|node| node.output.iter().any(|o| o == output));
                let issue = node.map(|node| self.issue(node, self.opset, Fault::unsupported(reason), None));
                return Err(self.refused(issue.into_iter().collect()));
            }
            Some(Value::Accumulator(_)) => {
                return Err(ImportError::Unsupported(format!(
                    "the output \"{output}\" is a sum of integers without a scale, expected floats"
                )));
            }
            _ => return Err(ImportError::ConstantOutput(output.into())),
        };
        self.builder.graph.add_output(output, value);
        Ok(())
    }
}

/// The output to explain: the model's one, or the one that the options name, which may be any value of the graph.
fn output_name<'a>(graph: &'a GraphProto, options: &ImportOptions) -> Result<&'a str, ImportError> {
    let outputs = || graph.output.iter().map(|o| o.name()).collect::<Vec<_>>();
    let Some(wanted) = &options.output else {
        return match &graph.output[..] {
            [output] => Ok(output.name()),
            _ => {
                Err(ImportError::Outputs { outputs: outputs().iter().map(|o| format!("\"{o}\"")).collect() })
            }
        };
    };
    let values = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    outputs().into_iter().chain(values).find(|o| o == wanted && !o.is_empty()).ok_or_else(|| {
        let known = outputs().iter().map(|o| format!("\"{o}\"")).collect();
        ImportError::NoSuchOutput { wanted: wanted.clone(), known }
    })
}

/// The constant that an initialiser gives.
fn initializer(graph: &GraphProto, source: Source, builder: &mut Builder) -> Result<Value, Fault> {
    let missing = || Fault::invalid("an initialiser is missing");
    let Builder { files, budget, limits, .. } = builder;
    let (tensor, constant) = match source {
        Source::Sparse(i) => {
            let tensor = graph.sparse_initializer.get(i).ok_or_else(missing)?;
            (tensor.values.as_ref().ok_or_else(missing)?, tensor::sparse(tensor, files, budget))
        }
        Source::Initializer(i) => {
            let tensor = graph.initializer.get(i).ok_or_else(missing)?;
            (tensor, tensor::constant(tensor, files, budget))
        }
        Source::Input(_) | Source::Node(_) => return Err(missing()),
    };
    if let Some(of_type) = type_limits(tensor.data_type.unwrap_or_default()) {
        limits.insert(tensor.name().to_string(), of_type);
    }
    constant.map(Value::Constant).map_err(|fault| fault.in_tensor(tensor.name()))
}

/// The element type of a dense tensor.
fn element_type(info: &ValueInfoProto) -> Option<i32> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.elem_type,
        _ => None,
    }
}

/// The number of samples that an input's first dimension says.
fn fixed_batch(info: &ValueInfoProto) -> Option<usize> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    match tensor.shape.as_ref()?.dim.first()?.value.as_ref()? {
        dimension::Value::DimValue(v) => usize::try_from(*v).ok().filter(|v| *v > 0),
        dimension::Value::DimParam(_) => None,
    }
}

/// The type of the model's input. The first dimension is the batch: open, unless the model fixes it to 1 and nothing
/// else is stated.
fn input_type(
    info: &ValueInfoProto,
    stated: &Option<Vec<Dim>>,
    opens_batch: bool,
) -> Result<TensorType, ImportError> {
    let refuse = |reason: String| ImportError::InputType { input: info.name().to_string(), reason };
    let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(refuse("got no type of a dense tensor, expected a tensor of floats".into()));
    };
    let number = tensor.elem_type.unwrap_or_default();
    if !is_float(number) && type_limits(number).is_none() {
        return Err(refuse(format!(
            "got elements of {}, expected floats or integers: export the model with a float input, its conversion left \
             to the caller",
            type_name(number)
        )));
    }
    if tensor.shape.is_none()
        && let Some(stated) = stated
    {
        return Ok(TensorType::new(stated.iter().copied()));
    }
    let Some(shape) = &tensor.shape else {
        return Err(refuse("got no shape, expected one: export the model with its input's shape".into()));
    };
    if shape.dim.is_empty() || shape.dim.len() > MAX_RANK {
        let rank = shape.dim.len();
        return Err(refuse(format!(
            "got {rank} dimensions, expected 1 to {MAX_RANK}, the first being the batch"
        )));
    }
    if let Some(stated) = stated
        && stated.len() != shape.dim.len()
    {
        let (got, rank) = (TensorType::new(stated.iter().copied()), shape.dim.len());
        return Err(refuse(format!("got the stated shape {got}, expected the model's {rank} dimensions")));
    }
    let mut dims = Vec::with_capacity(shape.dim.len());
    let mut dynamic = Vec::new();
    for (i, dim) in shape.dim.iter().enumerate() {
        let stated = stated.as_ref().and_then(|s| s.get(i).copied());
        dims.push(match &dim.value {
            Some(dimension::Value::DimValue(v))
                if i == 0 && opens_batch && (*v > 1 || stated == Some(Dim::Batch)) =>
            {
                Dim::Batch
            }
            Some(dimension::Value::DimValue(v))
                if *v > 0 && stated.is_some_and(|s| s.fixed().is_some_and(|s| s as u64 != *v as u64)) =>
            {
                let got = stated.map_or_else(String::new, |s| s.to_string());
                return Err(refuse(format!(
                    "got {got} stated for dimension {i}, expected the model's own {v}"
                )));
            }
            Some(dimension::Value::DimValue(v)) if *v > 0 => usize::try_from(*v)
                .map(Dim::Fixed)
                .map_err(|_| refuse(format!("got a dimension of {v}, which is too large")))?,
            // Writers also put 0 and -1 for a size that they don't know; below that is nothing they mean.
            Some(dimension::Value::DimValue(v)) if *v < -1 => {
                return Err(refuse(format!("got {v} for dimension {i}, expected a size or a symbol")));
            }
            // The batch stays open: every number of samples runs.
            _ if i == 0 => Dim::Batch,
            _ if stated.is_some_and(|s| s != Dim::Batch) => stated.unwrap_or(Dim::Batch),
            Some(dimension::Value::DimParam(symbol)) if !symbol.is_empty() => {
                dynamic.push(format!("dimension {i} is the symbol \"{symbol}\""));
                continue;
            }
            _ => {
                dynamic.push(format!("dimension {i} is unknown"));
                continue;
            }
        });
    }
    if dynamic.is_empty() {
        return Ok(TensorType::new(dims));
    }
    let known = |d: &tensor_shape_proto::Dimension| match d.value {
        Some(dimension::Value::DimValue(v)) => usize::try_from(v).ok().filter(|v| *v > 0),
        _ => None,
    };
    let sizes = shape.dim.iter().map(known).collect();
    Err(ImportError::DynamicDims { input: info.name().to_string(), dims: dynamic, sizes })
}
