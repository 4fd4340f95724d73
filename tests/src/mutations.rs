//! Models that someone broke: one change each, of the kinds that editing, exporting and copying models bring about.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use fastrand::Rng;
use ndarray::ArrayD;
use prost::Message;
use relc::{Compiler, Preset, Seed, Targets};
use relc_onnx::proto::tensor_proto::{DataLocation, DataType};
use relc_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use relc_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, decode, type_proto,
};

use crate::zoo::chain;

/// A broken model.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The model's name.
    pub model: String,
    /// What was done to it.
    pub change: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What relc says to a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is a model still, and its explanation conserves.
    Explained,
    /// The error, with what caused it.
    Refused(String),
}

/// What is done to a model: `None` if it has nothing of the kind. Else in words.
type Change = fn(&mut ModelProto, &mut Rng) -> Option<String>;

/// The kinds of changes; all that one tool or one slip would do.
const CHANGES: [Change; 36] = [
    rename_op,
    foreign_domain,
    remove_node,
    swap_inputs,
    drop_input,
    rewire,
    rename_input,
    cycle,
    duplicate_output,
    attribute_zero,
    attribute_negative,
    attribute_huge,
    attribute_length,
    attribute_type,
    attribute_missing,
    attribute_unknown,
    weight_missing,
    weight_shape,
    weight_negative_size,
    weight_type,
    weight_short,
    weight_nan,
    weight_huge,
    weight_outside,
    weight_absent_file,
    opset_old,
    opset_future,
    opset_missing,
    input_type,
    input_symbolic,
    input_zero,
    input_missing,
    output_missing,
    output_unknown,
    output_twice,
    join_replaced,
];

/// `count` mutants of the models, kind after kind; always the same.
///
/// # Panics
/// If a file is no ONNX model.
pub fn mutants(models: &[(String, Vec<u8>)], count: usize) -> Vec<Mutant> {
    let mut rng = Rng::with_seed(20);
    let mut mutants = Vec::new();
    let mut known = BTreeSet::new();
    for kind in (0..CHANGES.len()).cycle() {
        if mutants.len() >= count {
            break;
        }
        let (name, bytes) = &models[rng.usize(..models.len())];
        let mut model = decode(bytes.clone().into()).expect("the models are ONNX files");
        let Some(change) = CHANGES[kind](&mut model, &mut rng) else { continue };
        if known.insert((name.clone(), change.clone())) {
            mutants.push(Mutant { model: name.clone(), change, bytes: model.encode_to_vec() });
        }
    }
    mutants
}

impl Mutant {
    /// Writes the mutant into a folder, and compiles and explains it there.
    ///
    /// # Panics
    /// If relc does, the folder can't be written, or an explanation does not conserve.
    pub fn ask(&self, folder: &Path) -> Answer {
        let path = folder.join("model.onnx");
        std::fs::write(&path, &self.bytes).expect("the folder takes a file");
        match explain(&path) {
            Ok(error) => {
                assert!(error <= 1e-5, "{}: {}: conserves to {error:e}", self.model, self.change);
                Answer::Explained
            }
            Err(message) => {
                // Where the file lies is no part of the answer, nor is how many sums this machine's order overflows.
                let message = message.replace(&format!("{}/", folder.display()), "");
                Answer::Refused(match message.split_once(" non-finite") {
                    Some((before, after)) => {
                        let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
                        format!("{before}some non-finite{after}")
                    }
                    None => message,
                })
            }
        }
    }
}

/// Explains noise by the preset `conserve`; gives the conservation error, 0 where none is promised.
fn explain(path: &Path) -> Result<f64, String> {
    let preset = Preset::named("conserve").map_err(|e| chain(&e))?;
    let seed = Seed::Named(preset.seed);
    let explainer = Compiler::new(preset).compile(path).map_err(|e| chain(&e))?;
    let shape = explainer.input().map_err(|e| chain(&e))?.1.bind(1);
    let mut rng = Rng::with_seed(1);
    let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0);
    let result = explainer.explain(x.view(), &seed, &Targets::Argmax).map_err(|e| chain(&e))?;
    Ok(if explainer.is_conserving() { result.explanations[0].conservation_error(0) } else { 0.0 })
}

/// The table of `docs/mutations.md`.
pub fn table(answers: &[(Mutant, Answer)]) -> String {
    let mut text = String::from("| model | change | relc |\n|---|---|---|\n");
    for (mutant, answer) in answers {
        let said = match answer {
            Answer::Explained => "explains it".into(),
            Answer::Refused(message) => {
                let message = message.replace("error: ", "");
                // The list of all operators is the same in every error.
                let lines = message.lines().filter(|l| !l.trim_start().starts_with("supported operators"));
                let line = lines.map(str::trim).collect::<Vec<_>>().join("<br>");
                line.replace('|', "\\|").replace('*', "\\*").replace('_', "\\_")
            }
        };
        let change = mutant.change.replace('_', "\\_");
        let _ = writeln!(text, "| {} | {change} | {said} |", mutant.model);
    }
    text
}

fn graph(model: &mut ModelProto) -> Option<&mut GraphProto> {
    model.graph.as_mut()
}

fn pick<'a, T>(items: &'a mut [T], rng: &mut Rng, fits: impl Fn(&T) -> bool) -> Option<&'a mut T> {
    let fitting: Vec<usize> = (0..items.len()).filter(|&i| fits(&items[i])).collect();
    items.get_mut(*rng.choice(&fitting)?)
}

fn node<'a>(
    model: &'a mut ModelProto,
    rng: &mut Rng,
    fits: impl Fn(&NodeProto) -> bool,
) -> Option<&'a mut NodeProto> {
    pick(&mut graph(model)?.node, rng, fits)
}

/// What a node is called in a sentence.
fn name(node: &NodeProto) -> String {
    format!("{} `{}`", node.op_type(), node.name())
}

fn rename_op(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |_| true)?;
    let op =
        *rng.choice(&["Einsum", "LSTM", "NonMaxSuppression", "Convolution", "relu", "Sin", "RoiAlign"])?;
    let change = format!("{} becomes the operator {op}", name(node));
    node.op_type = Some(op.into());
    Some(change)
}

fn foreign_domain(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |_| true)?;
    node.domain = Some("com.example".into());
    Some(format!("{} moves to the domain com.example", name(node)))
}

fn remove_node(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let graph = graph(model)?;
    let removed = graph.node.remove(rng.usize(..graph.node.len()));
    Some(format!("{} is removed", name(&removed)))
}

fn swap_inputs(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |n| n.input.len() > 1)?;
    node.input.swap(0, 1);
    Some(format!("the first two inputs of {} are swapped", name(node)))
}

fn drop_input(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |n| !n.input.is_empty())?;
    node.input.pop();
    Some(format!("the last input of {} is dropped", name(node)))
}

fn rewire(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let graph = graph(model)?;
    let target = rng.usize(1..graph.node.len());
    let source = rng.usize(..target);
    let value = graph.node[source].output.first()?.clone();
    let node = &mut graph.node[target];
    let change = format!("{} reads `{value}` first", name(node));
    *node.input.first_mut()? = value;
    Some(change)
}

fn rename_input(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |n| !n.input.is_empty())?;
    *node.input.first_mut()? = "no_such_value".into();
    Some(format!("{} reads a value that nobody makes", name(node)))
}

fn cycle(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let last = graph(model)?.node.last()?.output.first()?.clone();
    let node = node(model, rng, |n| !n.input.is_empty())?;
    *node.input.first_mut()? = last;
    Some(format!("{} reads the output of the network", name(node)))
}

fn duplicate_output(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let first = graph(model)?.node.first()?.output.first()?.clone();
    let node = node(model, rng, |n| n.output.first() != Some(&first))?;
    *node.output.first_mut()? = first;
    Some(format!("the output of {} has the name of another's", name(node)))
}

fn attribute<'a>(
    model: &'a mut ModelProto,
    rng: &mut Rng,
    fits: impl Fn(&AttributeProto) -> bool,
) -> Option<(String, &'a mut AttributeProto)> {
    let node = node(model, rng, |n| n.attribute.iter().any(&fits))?;
    let of = name(node);
    let attribute = pick(&mut node.attribute, rng, fits)?;
    Some((format!("`{}` of {of}", attribute.name()), attribute))
}

fn set_ints(model: &mut ModelProto, rng: &mut Rng, value: i64) -> Option<String> {
    let (what, attribute) = attribute(model, rng, |a| a.i.is_some() || !a.ints.is_empty())?;
    attribute.i = attribute.i.map(|_| value);
    attribute.ints.first_mut().into_iter().for_each(|i| *i = value);
    let which = if attribute.i.is_some() { "" } else { "the first of " };
    Some(format!("{which}{what} is {value}"))
}

fn attribute_zero(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    set_ints(model, rng, 0)
}

fn attribute_negative(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    set_ints(model, rng, -3)
}

fn attribute_huge(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    set_ints(model, rng, i64::MAX)
}

fn attribute_length(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let (what, attribute) = attribute(model, rng, |a| !a.ints.is_empty())?;
    attribute.ints.push(1);
    Some(format!("{what} has one value more"))
}

fn attribute_type(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let (what, attribute) = attribute(model, rng, |_| true)?;
    *attribute = AttributeProto {
        name: attribute.name.clone(),
        s: Some(b"NONE".to_vec()),
        r#type: Some(3),
        ..AttributeProto::default()
    };
    Some(format!("{what} is a string"))
}

fn attribute_missing(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |n| !n.attribute.is_empty())?;
    let removed = node.attribute.remove(rng.usize(..node.attribute.len()));
    Some(format!("`{}` of {} is missing", removed.name(), name(node)))
}

fn attribute_unknown(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |_| true)?;
    node.attribute.push(AttributeProto {
        name: Some("stride".into()),
        i: Some(2),
        r#type: Some(2),
        ..AttributeProto::default()
    });
    Some(format!("{} has the attribute `stride`", name(node)))
}

fn weight<'a>(model: &'a mut ModelProto, rng: &mut Rng) -> Option<&'a mut TensorProto> {
    pick(&mut graph(model)?.initializer, rng, |t| {
        t.data_type() == DataType::Float as i32 && t.raw_data.is_some()
    })
}

fn weight_missing(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let graph = graph(model)?;
    let removed = graph.initializer.remove(rng.usize(..graph.initializer.len()));
    Some(format!("the initialiser `{}` is missing", removed.name()))
}

fn weight_shape(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let weight = weight(model, rng)?;
    let change = format!("`{}` says that it has one dimension", weight.name());
    weight.dims = vec![weight.dims.iter().product()];
    Some(change)
}

fn weight_negative_size(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let weight = weight(model, rng)?;
    *weight.dims.first_mut()? = -1;
    Some(format!("the first size of `{}` is -1", weight.name()))
}

fn weight_type(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let types = [DataType::Int32, DataType::String, DataType::Complex64, DataType::Float8e4m3fn];
    let ty = *rng.choice(&types)?;
    let weight = weight(model, rng)?;
    weight.data_type = Some(ty as i32);
    Some(format!("`{}` says that it is of type {}", weight.name(), ty.as_str_name()))
}

fn weight_short(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let weight = weight(model, rng)?;
    let data = weight.raw_data.as_ref()?;
    weight.raw_data = Some(data.slice(..data.len() - 3));
    Some(format!("the data of `{}` end 3 bytes early", weight.name()))
}

/// Puts a value in the middle of a weight.
fn set_weight(weight: &mut TensorProto, value: f32) -> Option<()> {
    let mut data = weight.raw_data.as_ref()?.to_vec();
    let at = data.len() / 8 * 4;
    data.get_mut(at..at + 4)?.copy_from_slice(&value.to_le_bytes());
    weight.raw_data = Some(data.into());
    Some(())
}

fn weight_nan(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let weight = weight(model, rng)?;
    set_weight(weight, f32::NAN)?;
    Some(format!("`{}` has a NaN", weight.name()))
}

fn weight_huge(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let weight = weight(model, rng)?;
    set_weight(weight, 3e38)?;
    Some(format!("`{}` has a value of 3e38", weight.name()))
}

fn external(model: &mut ModelProto, rng: &mut Rng, location: &str) -> Option<String> {
    let weight = weight(model, rng)?;
    weight.raw_data = None;
    weight.data_location = Some(DataLocation::External as i32);
    let entry = StringStringEntryProto { key: Some("location".into()), value: Some(location.into()) };
    weight.external_data = vec![entry];
    Some(format!("`{}` lies in the file {location}", weight.name()))
}

fn weight_outside(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    external(model, rng, "../../etc/weights.bin")
}

fn weight_absent_file(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    external(model, rng, "model.onnx.data")
}

fn opset(model: &mut ModelProto, opsets: &[i64]) -> Option<String> {
    let import = |&version: &i64| OperatorSetIdProto { domain: None, version: Some(version) };
    model.opset_import = opsets.iter().map(import).collect();
    Some(format!("the opsets are {opsets:?}"))
}

fn opset_old(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    opset(model, &[5])
}

fn opset_future(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    opset(model, &[99])
}

fn opset_missing(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    opset(model, &[])
}

/// The element type and the sizes of the input.
fn input(model: &mut ModelProto) -> Option<(&mut Option<i32>, &mut TensorShapeProto)> {
    match graph(model)?.input.first_mut()?.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some((&mut tensor.elem_type, tensor.shape.as_mut()?)),
        _ => None,
    }
}

fn input_type(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let ty = *rng.choice(&[DataType::Uint8, DataType::Int64, DataType::String, DataType::Bool])?;
    *input(model)?.0 = Some(ty as i32);
    Some(format!("the input is of type {}", ty.as_str_name()))
}

fn set_input(model: &mut ModelProto, axis: usize, value: dimension::Value) -> Option<()> {
    *input(model)?.1.dim.get_mut(axis)? = Dimension { value: Some(value) };
    Some(())
}

fn input_symbolic(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let axis = rng.usize(1..4);
    set_input(model, axis, dimension::Value::DimParam("size".into()))?;
    Some(format!("dimension {axis} of the input is a symbol"))
}

fn input_zero(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let (axis, size) = (rng.usize(..4), *rng.choice(&[0, -7, 1 << 40])?);
    set_input(model, axis, dimension::Value::DimValue(size))?;
    Some(format!("dimension {axis} of the input is {size}"))
}

fn input_missing(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    graph(model)?.input.clear();
    Some("the graph has no input".into())
}

fn output_missing(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    graph(model)?.output.clear();
    Some("the graph has no output".into())
}

fn output_unknown(model: &mut ModelProto, _: &mut Rng) -> Option<String> {
    graph(model)?.output.first_mut()?.name = Some("probabilities".into());
    Some("the output has the name of no value".into())
}

fn output_twice(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let graph = graph(model)?;
    let mut more = graph.output.first()?.clone();
    let value = graph.node.get(rng.usize(..graph.node.len()))?.output.first()?.clone();
    more.name = Some(value.clone());
    graph.output.push(more);
    Some(format!("`{value}` is an output too"))
}

fn join_replaced(model: &mut ModelProto, rng: &mut Rng) -> Option<String> {
    let node = node(model, rng, |n| n.op_type() == "Add")?;
    let op = *rng.choice(&["Sub", "Mul", "Max", "Div", "Pow", "MatMul", "Equal"])?;
    let change = format!("{} becomes a {op}", name(node));
    node.op_type = Some(op.into());
    Some(change)
}
