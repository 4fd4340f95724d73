//! What a model leaves open, several outputs and inputs, and quantised models.

mod common;

use common::*;
use relc_ir::{Dim, Graph};
use relc_onnx::proto::tensor_proto::DataType;
use relc_onnx::{Held, ImportError, ImportOptions, import_bytes_with};

fn import(net: &Net, output: Option<&str>, shape: Option<&[usize]>) -> Result<Graph, ImportError> {
    let options = ImportOptions {
        output: output.map(Into::into),
        input_shape: shape.map(|s| s.iter().copied().map(Dim::Fixed).collect()),
        ..ImportOptions::default()
    };
    import_with(net, &options)
}

fn import_with(net: &Net, options: &ImportOptions) -> Result<Graph, ImportError> {
    let graph = import_bytes_with(net.bytes(), None, options)?.graph;
    relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(relc_ir::parse(&graph.to_string()).as_ref(), Ok(&graph));
    Ok(graph)
}

#[track_caller]
fn refused(result: Result<Graph, ImportError>, expected: &str) {
    let error = result.expect_err("the options don't fit").to_string();
    assert!(error.contains(expected), "got {error}");
}

/// Two outputs; the second depends on another input too.
fn forked() -> Net {
    Net::new(17)
        .input("x", "N,4")
        .input("offset", "N,4")
        .node("Relu", "x", "y", vec![])
        .node("Add", "y,offset", "z", vec![])
        .output("y")
        .output("z")
}

#[test]
fn an_output_is_chosen_by_name() {
    let graph = import(&forked(), Some("y"), None).unwrap();
    assert_eq!((graph.outputs()[0].0.as_str(), graph.inputs().len()), ("y", 1));
    refused(import(&forked(), None, None), "--output NAME");
    refused(import(&forked(), Some("w"), None), "no value \"w\", expected one of its outputs (\"y\", \"z\")");
    // The second output needs both inputs.
    refused(import(&forked(), Some("z"), None), "got 2 inputs of floats");
}

/// Of several inputs all but one are held constant: in the shape of the input, or as a number.
#[test]
fn inputs_are_held_constant() {
    let hold = |name: &str, shape: &[usize], values: &[f32]| {
        let held = Held { name: name.into(), shape: shape.to_vec(), values: values.to_vec() };
        let options =
            ImportOptions { output: Some("z".into()), hold: vec![held], ..ImportOptions::default() };
        import_with(&forked(), &options)
    };
    let one_to_four = &[1.0, 2.0, 3.0, 4.0][..];
    for (shape, values, held) in
        [(&[1, 4][..], one_to_four, one_to_four), (&[4], one_to_four, one_to_four), (&[], &[0.5], &[0.5; 4])]
    {
        let graph = hold("offset", shape, values).unwrap();
        let [one] = graph.inputs() else { panic!("one input is left") };
        assert_eq!(graph.node(*one).name, "x");
        let weight = graph.weights().next().unwrap();
        assert_eq!(weight.data().unwrap().to_vec(), held);
    }
    let x = hold("x", &[1, 4], &[0.0; 4]).unwrap();
    assert_eq!(x.node(x.inputs()[0]).name, "offset");
    refused(hold("ofset", &[], &[1.0]), "no input \"ofset\" to hold, expected one of \"x\", \"offset\"");
    refused(
        hold("offset", &[5], &[0.0; 5]),
        "got a constant of shape [5], expected [N, 4] with 1 for the batch or without it",
    );
    refused(hold("offset", &[2, 4], &[0.0; 8]), "with 1 for the batch");
    refused(hold("offset", &[1, 4], &[0.0; 3]), "got 3 values for the shape [1, 4]");
    refused(hold("offset", &[], &[f32::NAN]), "expected finite ones");
    refused(import(&forked(), Some("z"), None), "--hold NAME=VALUE");
}

#[test]
fn any_value_may_be_the_output() {
    let net = Net::new(17).input("x", "N,4").node("Relu", "x", "h", vec![]).node("Exp", "h", "y", vec![]);
    assert_eq!(import(&net.output("y"), Some("h"), None).unwrap().outputs()[0].0, "h");
}

#[test]
fn open_sizes_are_stated() {
    let net = one(17, "N,3,height,width", "GlobalAveragePool", vec![]);
    let graph = import(&net, None, Some(&[1, 3, 8, 6])).unwrap();
    assert_eq!(graph.node(graph.inputs()[0]).types()[0].to_string(), "f32[N,3,8,6]");
    refused(import(&net, None, None), "--input-shape");
    refused(
        import(&net, None, Some(&[1, 4, 8, 6])),
        "got 4 stated for dimension 1, expected the model's own 3",
    );
    refused(import(&net, None, Some(&[1, 3, 8])), "expected the model's 4 dimensions");
}

#[test]
fn splits_have_several_outputs() {
    let net = Net::new(13)
        .input("x", "N,5")
        .ints("parts", &[2, 3])
        .node("Split", "x,parts", "a,b", vec![ai("axis", 1)])
        .node("Relu", "b", "y", vec![])
        .output("y");
    assert!(net.show().contains("starts=[0,2], sizes=[N,3]"), "{}", net.show());
}

#[test]
fn quantised_tensors_are_dequantised_and_clipped() {
    let zero = relc_onnx::proto::TensorProto {
        data_type: Some(DataType::Int8 as i32),
        int32_data: vec![-128],
        ..Default::default()
    };
    let net = Net::new(13)
        .input("x", "N,2")
        .floats("scale", &[], vec![0.5])
        .tensor("zero", zero)
        .node("QuantizeLinear", "x,scale,zero", "q", vec![])
        .node("DequantizeLinear", "q,scale,zero", "y", vec![])
        .output("y");
    let graph = import(&net, None, None).unwrap();
    // From (-128 + 128) / 2 to (127 + 128) / 2.
    assert!(graph.to_string().contains("clip %x, min=0.0, max=127.5"), "{graph}");
    assert!(graph.notes.iter().any(|n| n.contains("quantised")), "{:?}", graph.notes);
}

#[test]
fn weights_are_computed() {
    // Weight standardisation, as torch exports it for lack of an operator: BatchNormalization in training mode.
    let net = Net::new(17)
        .input("x", "N,1,1,1")
        .floats("w", &[1, 2, 2], vec![1.0, 3.0, 10.0, 10.0])
        .floats("one", &[2], vec![1.0, 1.0])
        .floats("zero", &[2], vec![0.0, 0.0])
        .ints("shape", &[4, 1, 1, 1])
        .node(
            "BatchNormalization",
            "w,one,zero,zero,one",
            "s",
            vec![ai("training_mode", 1), af("epsilon", 1e-9)],
        )
        .node("Reshape", "s,shape", "k", vec![])
        .node("Conv", "x,k", "y", vec![])
        .output("y");
    assert!(net.show().contains("@k: f32[4,1,1,1] = [-1.0, 1.0, 0.0, 0.0]"), "{}", net.show());
}

#[test]
fn the_layout_of_one_machine_is_refused_with_advice() {
    let mut net = one(17, "N,8,4,4", "Conv", vec![]);
    net.graph().node[0].domain = Some("com.microsoft.nchwc".into());
    refused(import(&net, None, None), "save the optimised model with the level extended");
}
