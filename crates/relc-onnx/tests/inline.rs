//! The model's own functions, and the branches of `If`.

mod common;

use common::*;
use insta::assert_snapshot;
use relc_onnx::proto::attribute_proto::AttributeType;
use relc_onnx::{ImportOptions, import_bytes_with};

/// `b = relu(conv(a, w)) + a`, with names that the model has too.
fn block() -> Net {
    Net::new(13)
        .node("Conv", "a,w", "x", vec![ais("pads", &[1, 1, 1, 1])])
        .node("Relu", "x", "r", vec![])
        .node("Add", "r,a", "b", vec![])
}

#[test]
fn functions_are_inlined_once_for_each_call() {
    let net = Net::new(13)
        .input("x", "N,1,4,4")
        .function("Block", "a,w", "b", block())
        .weights(&[("w1", &[1, 1, 3, 3]), ("w2", &[1, 1, 3, 3])])
        .node("Block", "x,w1", "b", vec![])
        .domain("test")
        .node("Block", "b,w2", "y", vec![])
        .domain("test")
        .output("y");
    assert_snapshot!(net.show(), @r#"
    @w1: f32[1,1,3,3] = ..
    @w2: f32[1,1,3,3] = ..
    %x = input : f32[N,1,4,4] ; "x"
    %3 = conv %x, @w1, kernel=[3,3], strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1 : f32[N,1,4,4] ; "Block_0/Conv_0"
    %4 = relu %3 : f32[N,1,4,4] ; "Block_0/Relu_1"
    %5 = add %4, %x : f32[N,1,4,4] ; "Block_0/Add_2"
    %7 = conv %5, @w2, kernel=[3,3], strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1 : f32[N,1,4,4] ; "Block_1/Conv_0"
    %8 = relu %7 : f32[N,1,4,4] ; "Block_1/Relu_1"
    %9 = add %8, %5 : f32[N,1,4,4] ; "Block_1/Add_2"
    "#);
}

/// Attributes of the call, of the function's defaults, and of neither, where the operator's own default holds.
#[test]
fn attributes_are_those_of_the_call() {
    let body = Net::new(17)
        .node("LeakyRelu", "a", "b", vec![referring("alpha", "slope", AttributeType::Float)])
        .node("Elu", "b", "c", vec![referring("alpha", "scale", AttributeType::Float)]);
    let mut net = Net::new(17)
        .input("x", "N,2")
        .function("Act", "a", "c", body)
        .node("Act", "x", "h", vec![af("slope", 0.5)])
        .domain("test")
        .node("Act", "h", "y", vec![af("scale", 2.0)])
        .domain("test")
        .output("y");
    net.model.functions[0].attribute_proto = vec![af("slope", 0.25)];
    assert_snapshot!(net.show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = leaky_relu %x, alpha=0.5 : f32[N,2] ; "Act_0/LeakyRelu_0"
    %3 = elu %2, alpha=1.0 : f32[N,2] ; "Act_0/Elu_1"
    %4 = leaky_relu %3, alpha=0.25 : f32[N,2] ; "Act_1/LeakyRelu_0"
    %5 = elu %4, alpha=2.0 : f32[N,2] ; "Act_1/Elu_1"
    "#);
}

/// Functions call functions, leave operands and results out, return an operand as it is, and state their own opset:
/// before opset 13, `Squeeze` has its axes as an attribute.
#[test]
fn functions_nest_and_leave_out() {
    let inner = Net::new(12)
        .node("Clip", "a,low,high", "b", vec![])
        .node("Squeeze", "b", "c", vec![ais("axes", &[2])])
        .node("Exp", "a", "unused", vec![]);
    let outer = Net::new(17).node("Inner", "a,low", "b,same", vec![]).domain("test");
    let net = Net::new(17)
        .input("x", "N,2,1")
        .function("Inner", "a,low,high", "c,a,unused", inner)
        .function("Outer", "a,low", "b,same", outer)
        .floats("zero", &[], vec![0.0])
        .node("Outer", "x,zero", "h,same", vec![])
        .domain("test")
        .ints("axes", &[2])
        .node("Squeeze", "same,axes", "s", vec![])
        .node("Add", "h,s", "y", vec![])
        .output("y");
    assert_snapshot!(net.show(), @r#"
    %x = input : f32[N,2,1] ; "x"
    %2 = clip %x, min=0.0, max=inf : f32[N,2,1] ; "Outer_0/Inner_0/Clip_0"
    %3 = reshape %2, shape=[N,2] : f32[N,2] ; "Outer_0/Inner_0/Squeeze_1"
    %4 = identity %x : f32[N,2,1] ; "same"
    %5 = reshape %4, shape=[N,2] : f32[N,2] ; "Squeeze_1"
    %6 = add %3, %5 : f32[N,2] ; "Add_2"
    "#);
}

#[test]
fn calls_that_do_not_end_or_fit_are_refused() {
    let call = |name: &str, inputs: &str| Net::new(17).node(name, inputs, "b", vec![]).domain("test");
    let model = |inputs: &str| {
        Net::new(17).input("x", "N,2").node("A", inputs, "y", vec![]).domain("test").output("y")
    };
    let endless = model("x").function("A", "a", "b", call("B", "a")).function("B", "a", "b", call("A", "a"));
    assert_snapshot!(endless.show(), @r#"invalid: node "A_0/B_0/A_0" calls the model's function "A", which calls itself, expected one that ends"#);
    let two = model("x,x").function("A", "a", "b", call("Relu", "a"));
    assert_snapshot!(two.show(), @r#"invalid: node "A_0" calls the model's function "A", with 2 inputs and 1 outputs, expected at most 1 and 1"#);
    let undefined = model("x").function("A", "a", "b", Net::new(17).node("Add", "a,w", "b", vec![]));
    assert_snapshot!(undefined.show(), @r#"nothing defines "A_0/w" (used by node "A_0/Add_0", Add); expected an initialiser, an input or a node of that name (was the model saved without its weights?)"#);
    // Each calls the next one twice: a billion nodes.
    let mut doubling = model("x").function("F30", "a", "b", Net::new(17).node("Relu", "a", "b", vec![]));
    for i in 0..30 {
        let next = if i == 29 { "F30".to_string() } else { format!("F{}", i + 1) };
        let body = Net::new(17).node(&next, "a", "c", vec![]).domain("test").node(&next, "c", "b", vec![]);
        let name = if i == 0 { "A".to_string() } else { format!("F{i}") };
        doubling = doubling.function(&name, "a", "b", body.domain("test"));
    }
    assert_snapshot!(doubling.show(), @"unsupported: the model's functions expand to more than 134217728 bytes of nodes, expected less");
    let mut deep = model("x").function("F60", "a", "b", Net::new(17).node("Relu", "a", "b", vec![]));
    for i in 0..60 {
        let name = if i == 0 { "A".to_string() } else { format!("F{i}") };
        deep = deep.function(&name, "a", "b", call(&format!("F{}", i + 1), "a"));
    }
    assert!(deep.show().contains("inside more than 48 functions and branches"), "{}", deep.show());
}

/// `If` of `condition` with one output `y`; the branches see the values around them.
fn choice(net: Net, condition: &str, then: Net, otherwise: Net) -> Net {
    let branches = vec![graph_attribute("then_branch", then), graph_attribute("else_branch", otherwise)];
    net.node("If", condition, "y", branches).output("y")
}

/// What torch writes for a squeeze that depends on a size: if it is 1, the axis goes.
#[test]
fn a_condition_that_folds_chooses_a_branch() {
    let net = Net::new(13)
        .input("x", "N,3,size,size")
        .ints("axes", &[2, 3])
        .int("three", 3)
        .int("one", 1)
        .node("GlobalAveragePool", "x", "p", vec![])
        .node("Shape", "x", "shape", vec![])
        .node("Gather", "shape,three", "width", vec![ai("axis", 0)])
        .node("Equal", "width,one", "c", vec![]);
    let squeezed = Net::new(13).node("Squeeze", "p,axes", "s", vec![]).output("s");
    // The branch that is not taken may be one that relc does not import.
    let other = Net::new(13).node("Det", "x", "s", vec![]).output("s");
    let net = choice(net, "c", squeezed, other);
    let import = |size: usize| {
        let shape = ["N", "3", "s", "s"].map(|d| match d {
            "N" => relc_ir::Dim::Batch,
            "3" => relc_ir::Dim::Fixed(3),
            _ => relc_ir::Dim::Fixed(size),
        });
        let options = ImportOptions { input_shape: Some(shape.to_vec()), ..ImportOptions::default() };
        import_bytes_with(net.bytes(), None, &options)
    };
    let graph = import(1).unwrap().graph;
    assert!(
        graph.to_string().contains(r#"reshape %2, shape=[N,3] : f32[N,3] ; "If_4.then/Squeeze_0""#),
        "{graph}"
    );
    let error = import(2).unwrap_err().to_string();
    assert!(error.contains(r#"node "If_4.else/Det_0" (Det, ai.onnx opset 13): relc has no such operator"#));
}

/// Branches in branches, initialisers of a branch, and a branch's output that is a value around it, or an `If` whose
/// condition is an initialiser.
#[test]
fn branches_nest_and_capture() {
    let add = Net::new(13).floats("w", &[2], vec![1.0, 2.0]).node("Add", "h,w", "t", vec![]).output("t");
    let mul = Net::new(13).floats("w", &[2], vec![3.0, 4.0]).node("Mul", "h,w", "t", vec![]).output("t");
    let inner = vec![graph_attribute("then_branch", add), graph_attribute("else_branch", mul)];
    let nested = Net::new(13)
        .node("Relu", "x", "h", vec![])
        .node("Not", "c", "d", vec![])
        .node("If", "d", "z", inner)
        .output("z");
    let net = Net::new(13).input("x", "N,2").int("c", 1);
    let net = choice(net, "c", nested, Net::new(13).output("x"));
    assert_snapshot!(net.show(), @r#"
    @If_0.then/If_2.else/w: f32[2] = [3.0, 4.0]
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "If_0.then/Relu_0"
    %4 = mul %2, @If_0.then/If_2.else/w : f32[N,2] ; "If_0.then/If_2.else/Mul_0"
    "#);
}

#[test]
fn a_condition_that_depends_on_the_data_is_refused() {
    let branch = || Net::new(13).node("Relu", "x", "t", vec![]).output("t");
    let net = Net::new(13).input("x", "N,2").node("Relu", "x", "c", vec![]);
    assert_snapshot!(choice(net, "c", branch(), branch()).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "If_1" (If, ai.onnx opset 13): its condition depends on the data, expected one that the shapes decide: state them (--input-shape N,3,224,224), or simplify the model (onnxsim) or export it without the branch; supported: conditions that fold to a constant
    "#);
    let uneven = Net::new(13).input("x", "N,2").int("c", 1);
    let text = choice(uneven, "c", branch(), Net::new(13)).show();
    assert!(text.contains("got no then_branch and else_branch with as many outputs"), "{text}");
}

/// The branch of a function's `If` refers to the function's attribute.
#[test]
fn branches_of_functions_have_the_calls_attributes() {
    let leaky = Net::new(17)
        .node("LeakyRelu", "a", "t", vec![referring("alpha", "slope", AttributeType::Float)])
        .output("t");
    let relu = Net::new(17).node("Relu", "a", "t", vec![]).output("t");
    let branches = vec![graph_attribute("then_branch", leaky), graph_attribute("else_branch", relu)];
    let constant = at("value", ints(&[], &[1]));
    let body = Net::new(17).node("Constant", "", "c", vec![constant]).node("If", "c", "b", branches);
    let net = Net::new(17)
        .input("x", "N,2")
        .function("Act", "a", "b", body)
        .node("Act", "x", "y", vec![af("slope", 0.5)])
        .domain("test")
        .output("y");
    assert_snapshot!(net.show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = leaky_relu %x, alpha=0.5 : f32[N,2] ; "Act_0/If_1.then/LeakyRelu_0"
    "#);
}
