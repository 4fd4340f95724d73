//! Arithmetic, operators that move elements, and the folding of shapes and constants.

mod common;

use common::*;
use insta::assert_snapshot;
use relc_onnx::proto::tensor_proto::DataType;

/// `x` reshaped to a shape that the nodes before computed as `s`.
fn reshaped(net: Net) -> String {
    net.node("Reshape", "x,s", "y", vec![]).output("y").show()
}

#[test]
fn arithmetic_on_tensors_and_weights() {
    let net = |op, inputs| {
        Net::new(14)
            .input("x", "N,2")
            .weights(&[("w", &[2]), ("v", &[])])
            .node(op, inputs, "y", vec![])
            .output("y")
    };
    assert_snapshot!(net("Add", "x,w").show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input  : f32[N,2] ; "x"
    %3 = add %x, @w : f32[N,2] ; "Add_0"
    "#);
    assert_snapshot!(net("Sub", "v,x").show(), @r#"
    @v: f32[] = [0.25]
    %x = input  : f32[N,2] ; "x"
    %3 = sub @v, %x : f32[N,2] ; "Sub_0"
    "#);
    assert_snapshot!(net("Mul", "x,x").show(), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = mul %x, %x : f32[N,2] ; "Mul_0"
    "#);
    assert_snapshot!(net("Div", "x,w").show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input  : f32[N,2] ; "x"
    %3 = div %x, @w : f32[N,2] ; "Div_0"
    "#);
    assert_snapshot!(net("Sum", "x,w,x").show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input  : f32[N,2] ; "x"
    %3 = add %x, @w, %x : f32[N,2] ; "Sum_0"
    "#);
    assert_snapshot!(net("Sum", "x").show(), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = identity %x : f32[N,2] ; "Sum_0"
    "#);
    assert_snapshot!(net("Add", "x").show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 14): got 1 inputs, expected 2
    "#);
    let wide =
        Net::new(14).input("x", "N,2").weights(&[("w", &[3])]).node("Add", "x,w", "y", vec![]).output("y");
    assert_snapshot!(wide.show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 14): got f32[N,2] and f32[3], expected shapes that broadcast
    "#);
    let mixed = Net::new(14).input("x", "N,2").ints("w", &[1, 2]).node("Add", "x,w", "y", vec![]).output("y");
    assert_snapshot!(mixed.show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 14): input 1, "w", is of integers, expected floats
    "#);
}

#[test]
fn constants_fold() {
    let net = Net::new(14)
        .input("x", "N,2")
        .floats("a", &[2], vec![4.0, 9.0])
        .floats("b", &[2, 1], vec![1.0, 2.0])
        .node("Sqrt", "a", "root", vec![])
        .node("Mul", "root,b", "m", vec![])
        .node("Sub", "m,b", "s", vec![])
        .node("Div", "s,b", "d", vec![])
        .node("Transpose", "d", "t", vec![])
        .node("Identity", "t", "i", vec![])
        .node("Cast", "i", "w", vec![ai("to", DataType::Double as i64)])
        .node("MatMul", "x,w", "y", vec![])
        .output("y");
    assert_snapshot!(net.show(), @r#"
    @w: f32[2,2] = [1.0, 1.0, 2.0, 2.0]
    %x = input  : f32[N,2] ; "x"
    %3 = matmul %x, @w : f32[N,2] ; "MatMul_7"
    "#);
}

#[test]
fn constant_nodes_have_many_forms() {
    let with = |attribute| {
        Net::new(13)
            .input("x", "N,2")
            .node("Constant", "", "c", vec![attribute])
            .node("Mul", "x,c", "y", vec![])
            .output("y")
            .show()
    };
    assert_snapshot!(with(at("value", floats(&[2], vec![1.0, 2.0]))), @r#"
    @c: f32[2] = [1.0, 2.0]
    %x = input  : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(af("value_float", 2.0)), @r#"
    @c: f32[] = [2.0]
    %x = input  : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(afs("value_floats", &[1.0, 2.0])), @r#"
    @c: f32[2] = [1.0, 2.0]
    %x = input  : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(text("value_string", "no")), @r#"
    1 node(s) can't be imported:
      unsupported: node "Constant_0" (Constant, ai.onnx opset 13): got the attribute "value_string"; supported: value, value_float(s), value_int(s)
    "#);
    let shape =
        |attribute| reshaped(Net::new(13).input("x", "N,6").node("Constant", "", "s", vec![attribute]));
    assert_snapshot!(shape(ais("value_ints", &[0, 2, 3])), @r#"
    %x = input  : f32[N,6] ; "x"
    %2 = reshape %x, shape=[N,2,3] : f32[N,2,3] ; "Reshape_1"
    "#);
    assert_snapshot!(shape(ai("value_int", 6)), @r#"
    1 node(s) can't be imported:
      invalid: node "Reshape_1" (Reshape, ai.onnx opset 13): got a shape of shape [], expected a vector
    "#);
}

#[test]
fn pytorch_views_keep_the_batch() {
    // x.view(x.size(0), -1)
    let net = Net::new(12)
        .input("x", "batch,4,2")
        .int("zero", 0)
        .ints("minus_one", &[-1])
        .node("Shape", "x", "shape", vec![])
        .node("Gather", "shape,zero", "n", vec![ai("axis", 0)])
        .node("Unsqueeze", "n", "n1", vec![ais("axes", &[0])])
        .node("Concat", "n1,minus_one", "s", vec![ai("axis", 0)]);
    assert_snapshot!(reshaped(net), @r#"
    %x = input  : f32[N,4,2] ; "x"
    %2 = reshape %x, shape=[N,8] : f32[N,8] ; "Reshape_4"
    "#);
}

#[test]
fn batch_arithmetic_folds() {
    // (N * 8) / 4 elements of 4 is N * 2 of 4, which no shape of relc's has; / 8 is N.
    let net = |divisor| {
        let net = Net::new(15)
            .input("x", "batch,4,2")
            .int("eight", 8)
            .int("divisor", divisor)
            .ints("rest", &[-1])
            .node("Shape", "x", "n", vec![ai("end", 1)])
            .node("Mul", "n,eight", "n8", vec![])
            .node("Div", "n8,divisor", "q", vec![])
            .node("Concat", "q,rest", "s", vec![ai("axis", 0)]);
        reshaped(net)
    };
    assert_snapshot!(net(8), @r#"
    %x = input  : f32[N,4,2] ; "x"
    %2 = reshape %x, shape=[N,8] : f32[N,8] ; "Reshape_4"
    "#);
    assert_snapshot!(net(4), @r#"
    1 node(s) can't be imported:
      unsupported: node "Reshape_4" (Reshape, ai.onnx opset 15): got the shape [2*N,-1], expected sizes or the batch N alone; supported: constant shapes that keep the batch first
    "#);
    assert_snapshot!(net(3), @r#"
    1 node(s) can't be imported:
      invalid: node "Div_2" (Div, ai.onnx opset 15): got (8*N) / (3), expected a quotient that is the same for every batch N
    "#);
    assert_snapshot!(net(0), @r#"
    1 node(s) can't be imported:
      invalid: node "Div_2" (Div, ai.onnx opset 15): got (8*N) / 0
    "#);
    let size = Net::new(13).input("x", "batch,4,2").node("Size", "x", "size", vec![]);
    let size = size.int("eight", 8).node("Div", "size,eight", "n", vec![]);
    let size = size.ints("axes", &[0]).node("Unsqueeze", "n,axes", "n1", vec![]).ints("rest", &[8]);
    assert_snapshot!(reshaped(size.node("Concat", "n1,rest", "s", vec![ai("axis", 0)])), @r#"
    %x = input  : f32[N,4,2] ; "x"
    %2 = reshape %x, shape=[N,8] : f32[N,8] ; "Reshape_4"
    "#);
}

#[test]
fn comparisons_of_shapes_fold() {
    // Where(Equal(s, -1), t, s): how PyTorch resolves an expand.
    let net = Net::new(13)
        .input("x", "batch,6")
        .node("Shape", "x", "shape", vec![])
        .ints("given", &[-1, 6])
        .ints("minus_one", &[-1])
        .node("Equal", "given,minus_one", "open", vec![])
        .node("Where", "open,shape,given", "s", vec![]);
    assert_snapshot!(reshaped(net), @r#"
    %x = input  : f32[N,6] ; "x"
    %2 = reshape %x, shape=[N,6] : f32[N,6] ; "Reshape_3"
    "#);
    let net = Net::new(13)
        .input("x", "2,6")
        .node("Shape", "x", "shape", vec![])
        .ints("three", &[3, 3])
        .node("Min", "shape,three", "low", vec![])
        .node("Max", "shape,three", "high", vec![])
        .node("Sub", "high,low", "difference", vec![])
        .node("Add", "difference,shape", "s", vec![]);
    assert_snapshot!(reshaped(net), @r#"
    1 node(s) can't be imported:
      unsupported: node "Reshape_5" (Reshape, ai.onnx opset 13): got f32[2,6] and shape f32[3,9], expected the same number of elements per sample; supported: constant shapes that keep the batch first
    "#);
}

#[test]
fn ranges_casts_and_slices_of_shapes_fold() {
    // [2, 3, 4, 5] -> [4, 3] (backwards) -> floats -> integers
    let net = Net::new(13)
        .input("x", "N,12")
        .int("from", 2)
        .int("to", 6)
        .int("by", 1)
        .node("Range", "from,to,by", "r", vec![])
        .ints("start", &[2])
        .ints("end", &[0])
        .ints("axis", &[0])
        .ints("step", &[-1])
        .node("Slice", "r,start,end,axis,step", "c", vec![])
        .node("Cast", "c", "f", vec![ai("to", DataType::Float as i64)])
        .node("Cast", "f", "i", vec![ai("to", DataType::Int32 as i64)])
        .ints("n", &[0])
        .node("Concat", "n,i", "s", vec![ai("axis", 0)]);
    assert_snapshot!(reshaped(net), @r#"
    %x = input  : f32[N,12] ; "x"
    %2 = reshape %x, shape=[N,4,3] : f32[N,4,3] ; "Reshape_5"
    "#);
    let narrow = Net::new(13).input("x", "N,12").ints("c", &[300]).node(
        "Cast",
        "c",
        "s",
        vec![ai("to", DataType::Uint8 as i64)],
    );
    assert_snapshot!(reshaped(narrow), @r#"
    1 node(s) can't be imported:
      invalid: node "Cast_0" (Cast, ai.onnx opset 13): got 300, expected an integer from 0 to 255
    "#);
}

#[test]
fn constants_of_shapes_and_expansions() {
    let filled = |shape: &[i64]| {
        Net::new(13)
            .input("x", "N,2")
            .ints("s", shape)
            .node("ConstantOfShape", "s", "c", vec![at("value", floats(&[1], vec![0.5]))])
            .node("Add", "x,c", "y", vec![])
            .output("y")
            .show()
    };
    assert_snapshot!(filled(&[2]), @r#"
    @c: f32[2] = [0.5, 0.5]
    %x = input  : f32[N,2] ; "x"
    %3 = add %x, @c : f32[N,2] ; "Add_1"
    "#);
    assert_snapshot!(filled(&[1 << 12, 1 << 13]), @r#"
    1 node(s) can't be imported:
      invalid: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): got a folded constant of shape [4096, 8192], expected at most 16777216 elements
    "#);
    assert_snapshot!(filled(&[i64::MAX, i64::MAX]), @r#"
    1 node(s) can't be imported:
      invalid: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): the number of elements of the shape [9223372036854775807, 9223372036854775807] overflows
    "#);
    assert_snapshot!(filled(&[-2]), @r#"
    1 node(s) can't be imported:
      unsupported: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): got the shape [-2], expected sizes; supported: shapes without the batch
    "#);
    let zeros = Net::new(13)
        .input("x", "N,2")
        .node("Shape", "x", "s", vec![])
        .node("ConstantOfShape", "s", "c", vec![])
        .node("Add", "x,c", "y", vec![])
        .output("y");
    assert_snapshot!(zeros.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "ConstantOfShape_1" (ConstantOfShape, ai.onnx opset 13): got a constant of shape f32[N,2], expected one without the batch; supported: shapes without the batch
    "#);
    let expand = |value, shape: &[i64]| {
        Net::new(13)
            .input("x", "2,2")
            .floats("w", &[2, 1], vec![1.0, 2.0])
            .ints("s", shape)
            .node("Expand", value, "e", vec![])
            .node("Add", "x,e", "y", vec![])
            .output("y")
            .show()
    };
    assert_snapshot!(expand("w,s", &[1, 2]), @r#"
    @e: f32[2,2] = [1.0, 1.0, 2.0, 2.0]
    %x = input  : f32[2,2] ; "x"
    %3 = add %x, @e : f32[2,2] ; "Add_1"
    "#);
    assert_snapshot!(expand("x,s", &[1, 2]), @r#"
    %x = input  : f32[2,2] ; "x"
    %2 = identity %x : f32[2,2] ; "Expand_0"
    %3 = add %x, %2 : f32[2,2] ; "Add_1"
    "#);
    assert_snapshot!(expand("x,s", &[3, 2, 2]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Expand_0" (Expand, ai.onnx opset 13): got f32[2,2] to expand to f32[3,2,2], expected the same shape; supported: constants; tensors whose shape does not change
    "#);
}

#[test]
fn flatten_squeeze_and_unsqueeze() {
    assert_snapshot!(one(13, "N,2,1,1", "Flatten", vec![]).show(), @r#"
    %x = input  : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Flatten_0"
    "#);
    assert_snapshot!(one(13, "N,2,3", "Flatten", vec![ai("axis", -2)]).show(), @r#"
    %x = input  : f32[N,2,3] ; "x"
    %2 = reshape %x, shape=[N,6] : f32[N,6] ; "Flatten_0"
    "#);
    assert_snapshot!(one(13, "2,3", "Flatten", vec![ai("axis", 2)]).show(), @r#"
    %x = input  : f32[2,3] ; "x"
    %2 = reshape %x, shape=[6,1] : f32[6,1] ; "Flatten_0"
    "#);
    assert_snapshot!(one(13, "N,2,3", "Flatten", vec![ai("axis", 0)]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Flatten_0" (Flatten, ai.onnx opset 13): got axis=0 on f32[N,2,3], which mixes the batch with other axes; supported: an axis that keeps the batch first
    "#);
    assert_snapshot!(one(13, "N,2,3", "Flatten", vec![ai("axis", 2)]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Flatten_0" (Flatten, ai.onnx opset 13): got axis=2 on f32[N,2,3], which mixes the batch with other axes; supported: an axis that keeps the batch first
    "#);
    assert_snapshot!(one(12, "N,2,1,1", "Squeeze", vec![ais("axes", &[2, -1])]).show(), @r#"
    %x = input  : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(one(12, "N,2,1,1", "Squeeze", vec![]).show(), @r#"
    %x = input  : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(one(12, "N,2,1,1", "Squeeze", vec![ais("axes", &[1])]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Squeeze_0" (Squeeze, ai.onnx opset 12): got axis 1 of f32[N,2,1,1] to squeeze, expected a size of 1; supported: constant axes, not the batch
    "#);
    assert_snapshot!(one(12, "N,2", "Unsqueeze", vec![ais("axes", &[-1, 1])]).show(), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = reshape %x, shape=[N,1,2,1] : f32[N,1,2,1] ; "Unsqueeze_0"
    "#);
    assert_snapshot!(one(12, "N,2", "Unsqueeze", vec![ais("axes", &[0])]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Unsqueeze_0" (Unsqueeze, ai.onnx opset 12): got f32[N,2] and shape f32[1,N,2], expected the same number of elements per sample; supported: constant axes, not before the batch
    "#);
    let by_input = |op| {
        Net::new(13).input("x", "N,2,1").ints("axes", &[2]).node(op, "x,axes", "y", vec![]).output("y").show()
    };
    assert_snapshot!(by_input("Squeeze"), @r#"
    %x = input  : f32[N,2,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(by_input("Unsqueeze"), @r#"
    %x = input  : f32[N,2,1] ; "x"
    %2 = reshape %x, shape=[N,2,1,1] : f32[N,2,1,1] ; "Unsqueeze_0"
    "#);
}

#[test]
fn transposes() {
    assert_snapshot!(one(13, "N,2,3", "Transpose", vec![ais("perm", &[0, 2, 1])]).show(), @r#"
    %x = input  : f32[N,2,3] ; "x"
    %2 = transpose %x, perm=[0,2,1] : f32[N,3,2] ; "Transpose_0"
    "#);
    assert_snapshot!(one(13, "5,2", "Transpose", vec![]).show(), @r#"
    %x = input  : f32[5,2] ; "x"
    %2 = transpose %x, perm=[1,0] : f32[2,5] ; "Transpose_0"
    "#);
    assert_snapshot!(one(13, "N,2", "Transpose", vec![]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Transpose_0" (Transpose, ai.onnx opset 13): got perm=[1, 0] on f32[N,2], expected the batch to stay first; supported: permutations that keep the batch first
    "#);
    assert_snapshot!(one(13, "N,2", "Transpose", vec![ais("perm", &[0, 0])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Transpose_0" (Transpose, ai.onnx opset 13): got perm=[0, 0], expected a permutation of 2 axes
    "#);
}

#[test]
fn pads() {
    let by_attribute = |attributes| one(9, "N,2", "Pad", attributes).show();
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, 1, 0, 2]), af("value", 1.5)]), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,1,0,2], value=1.5 : f32[N,5] ; "Pad_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, -1, 0, 2])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Pad_0" (Pad, ai.onnx opset 9): got pads=[0, -1, 0, 2], expected none that is negative; supported: mode=constant, no negative pads, not the batch
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[1, 0, 0, 0])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Pad_0" (Pad, ai.onnx opset 9): got pads=[1, 0, 0, 0] on f32[N,2], expected none along the batch; supported: mode=constant, no negative pads, not the batch
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, 1, 0, 2]), text("mode", "reflect")]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Pad_0" (Pad, ai.onnx opset 9): got mode=reflect, expected constant; supported: mode=constant, no negative pads, not the batch
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, 1])]), @r#"
    1 node(s) can't be imported:
      invalid: node "Pad_0" (Pad, ai.onnx opset 9): got 2 pads on f32[N,2], expected 4
    "#);
    let by_input = |inputs| {
        Net::new(18)
            .input("x", "N,2")
            .ints("pads", &[1, 2])
            .floats("value", &[], vec![0.5])
            .ints("axes", &[-1])
            .node("Pad", inputs, "y", vec![text("mode", "constant")])
            .output("y")
            .show()
    };
    assert_snapshot!(by_input("x,pads,value,axes"), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,1,0,2], value=0.5 : f32[N,5] ; "Pad_0"
    "#);
    assert_snapshot!(by_input("x,pads,,axes"), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,1,0,2], value=0.0 : f32[N,5] ; "Pad_0"
    "#);
    assert_snapshot!(by_input("x,pads"), @r#"
    1 node(s) can't be imported:
      invalid: node "Pad_0" (Pad, ai.onnx opset 18): got 2 pads on f32[N,2], expected 4
    "#);
}

#[test]
fn slices() {
    let by_attribute = |attributes| one(9, "N,8", "Slice", attributes).show();
    assert_snapshot!(by_attribute(vec![ais("starts", &[1]), ais("ends", &[-1]), ais("axes", &[1])]), @r#"
    %x = input  : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,1], sizes=[N,6], steps=[1,1] : f32[N,6] ; "Slice_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("starts", &[0, 2]), ais("ends", &[i64::MAX, 5])]), @r#"
    %x = input  : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,2], sizes=[N,3], steps=[1,1] : f32[N,3] ; "Slice_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("starts", &[1]), ais("ends", &[2])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Slice_0" (Slice, ai.onnx opset 9): got 1 to 2, step 1, along the batch N, expected all of it; supported: constant bounds and positive steps, not the batch
    "#);
    let by_input = |start, end, step| {
        Net::new(13)
            .input("x", "N,8")
            .ints("start", &[start])
            .ints("end", &[end])
            .ints("axis", &[1])
            .ints("step", &[step])
            .node("Slice", "x,start,end,axis,step", "y", vec![])
            .output("y")
            .show()
    };
    assert_snapshot!(by_input(1, i64::MAX, 3), @r#"
    %x = input  : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,1], sizes=[N,3], steps=[1,3] : f32[N,3] ; "Slice_0"
    "#);
    assert_snapshot!(by_input(-1, i64::MIN, -1), @r#"
    1 node(s) can't be imported:
      unsupported: node "Slice_0" (Slice, ai.onnx opset 13): got step -1 along axis 1, expected a positive one; supported: constant bounds and positive steps, not the batch
    "#);
    assert_snapshot!(by_input(5, 5, 1), @r#"
    1 node(s) can't be imported:
      invalid: node "Slice_0" (Slice, ai.onnx opset 13): got nothing along axis 1 of f32[N,8], expected a part of it
    "#);
    assert_snapshot!(by_input(0, 5, 0), @r#"
    1 node(s) can't be imported:
      invalid: node "Slice_0" (Slice, ai.onnx opset 13): got a step of 0, expected another
    "#);
    let to_batch = Net::new(15)
        .input("x", "batch,8")
        .ints("zero", &[0])
        .node("Shape", "x", "n", vec![ai("end", 1)])
        .node("Slice", "x,zero,n", "y", vec![])
        .output("y");
    assert_snapshot!(to_batch.show(), @r#"
    %x = input  : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,0], sizes=[N,8], steps=[1,1] : f32[N,8] ; "Slice_1"
    "#);
}

#[test]
fn concats() {
    let concat = |inputs, axis| {
        Net::new(13)
            .input("x", "N,2")
            .weights(&[("w", &[1, 2])])
            .node("Relu", "x", "r", vec![])
            .node("Concat", inputs, "y", vec![ai("axis", axis)])
            .output("y")
            .show()
    };
    assert_snapshot!(concat("x,r,x", -1), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_0"
    %3 = concat %x, %2, %x, axis=1 : f32[N,6] ; "Concat_1"
    "#);
    assert_snapshot!(concat("x,r", 0), @r#"
    1 node(s) can't be imported:
      unsupported: node "Concat_1" (Concat, ai.onnx opset 13): got axis=0 on f32[N,2], expected another axis than the batch; supported: any axis but the batch
    "#);
    assert_snapshot!(concat("x", 1), @r#"
    %x = input  : f32[N,2] ; "x"
    %2 = identity %x : f32[N,2] ; "Concat_1"
    "#);
    assert_snapshot!(concat("x,w", 1), @r#"
    1 node(s) can't be imported:
      invalid: node "Concat_1" (Concat, ai.onnx opset 13): got f32[N,2] and f32[1,2], expected them to differ only along axis 1
    "#);
    assert_snapshot!(concat("w,w", 1), @r#"the output "y" is a constant, expected it to depend on the input"#);
}
