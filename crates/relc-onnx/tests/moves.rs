//! Operators that move elements of tensors: `Flatten`, `Squeeze`, `Transpose`, `Pad`, `Slice`, `Concat`, ...

mod common;

use common::*;
use insta::assert_snapshot;

#[test]
fn flatten_squeeze_and_unsqueeze() {
    assert_snapshot!(one(13, "N,2,1,1", "Flatten", vec![]).show(), @r#"
    %x = input : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Flatten_0"
    "#);
    assert_snapshot!(one(13, "N,2,3", "Flatten", vec![ai("axis", -2)]).show(), @r#"
    %x = input : f32[N,2,3] ; "x"
    %2 = reshape %x, shape=[N,6] : f32[N,6] ; "Flatten_0"
    "#);
    assert_snapshot!(one(13, "2,3", "Flatten", vec![ai("axis", 2)]).show(), @r#"
    %x = input : f32[2,3] ; "x"
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
    %x = input : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(one(12, "N,2,1,1", "Squeeze", vec![]).show(), @r#"
    %x = input : f32[N,2,1,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(one(12, "N,2,1,1", "Squeeze", vec![ais("axes", &[1])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Squeeze_0" (Squeeze, ai.onnx opset 12): got axis 1 of f32[N,2,1,1] to squeeze, expected a size of 1
    "#);
    assert_snapshot!(one(12, "N,2", "Unsqueeze", vec![ais("axes", &[-1, 1])]).show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = reshape %x, shape=[N,1,2,1] : f32[N,1,2,1] ; "Unsqueeze_0"
    "#);
    assert_snapshot!(one(12, "N,2", "Unsqueeze", vec![ais("axes", &[0])]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Unsqueeze_0" (Unsqueeze, ai.onnx opset 12): its result "y" is explained and a tensor [1,N,2], expected the batch first and alone in its axis
    "#);
    let by_input = |op| {
        Net::new(13).input("x", "N,2,1").ints("axes", &[2]).node(op, "x,axes", "y", vec![]).output("y").show()
    };
    assert_snapshot!(by_input("Squeeze"), @r#"
    %x = input : f32[N,2,1] ; "x"
    %2 = reshape %x, shape=[N,2] : f32[N,2] ; "Squeeze_0"
    "#);
    assert_snapshot!(by_input("Unsqueeze"), @r#"
    %x = input : f32[N,2,1] ; "x"
    %2 = reshape %x, shape=[N,2,1,1] : f32[N,2,1,1] ; "Unsqueeze_0"
    "#);
}

#[test]
fn transposes() {
    assert_snapshot!(one(13, "N,2,3", "Transpose", vec![ais("perm", &[0, 2, 1])]).show(), @r#"
    %x = input : f32[N,2,3] ; "x"
    %2 = transpose %x, perm=[0,2,1] : f32[N,3,2] ; "Transpose_0"
    "#);
    assert_snapshot!(one(13, "5,2", "Transpose", vec![]).show(), @r#"
    %x = input : f32[5,2] ; "x"
    %2 = transpose %x, perm=[1,0] : f32[2,5] ; "Transpose_0"
    "#);
    assert_snapshot!(one(13, "N,2", "Transpose", vec![]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Transpose_0" (Transpose, ai.onnx opset 13): its result "y" is explained and a tensor [2,N], expected the batch first and alone in its axis
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
    %x = input : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,1,0,2], value=1.5 : f32[N,5] ; "Pad_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, -1, 0, 2])]), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = slice %x, starts=[0,1], sizes=[N,1], steps=[1,1] : f32[N,1] ; "Pad_0"
    %3 = pad %2, pads=[0,0,0,2], value=0.0 : f32[N,3] ; "Pad_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[1, 0, 0, 0])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Pad_0" (Pad, ai.onnx opset 9): got pads=[1, 0, 0, 0] on f32[N,2], expected none along the batch; supported: all modes; not the batch
    "#);
    assert_snapshot!(by_attribute(vec![ais("pads", &[0, 1, 0, 2]), text("mode", "reflect")]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Pad_0" (Pad, ai.onnx opset 9): got pads of 1 and 2 on axis 1 of f32[N,2], expected fewer than its size, at most 64; supported: all modes; not the batch
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
    %x = input : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,1,0,2], value=0.5 : f32[N,5] ; "Pad_0"
    "#);
    assert_snapshot!(by_input("x,pads,,axes"), @r#"
    %x = input : f32[N,2] ; "x"
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
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,1], sizes=[N,6], steps=[1,1] : f32[N,6] ; "Slice_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("starts", &[0, 2]), ais("ends", &[i64::MAX, 5])]), @r#"
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,2], sizes=[N,3], steps=[1,1] : f32[N,3] ; "Slice_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("starts", &[1]), ais("ends", &[2])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "Slice_0" (Slice, ai.onnx opset 9): got 1 to 2, step 1, along the batch N, expected all of it; supported: constant bounds, not the batch
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
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,1], sizes=[N,3], steps=[1,3] : f32[N,3] ; "Slice_0"
    "#);
    assert_snapshot!(by_input(-1, i64::MIN, -1), @r#"
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,7], sizes=[N,8], steps=[1,-1] : f32[N,8] ; "Slice_0"
    "#);
    assert_snapshot!(by_input(6, 0, -4), @r#"
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,6], sizes=[N,2], steps=[1,-4] : f32[N,2] ; "Slice_0"
    "#);
    assert_snapshot!(by_input(i64::MAX, i64::MIN, i64::MIN), @r#"
    %x = input : f32[N,8] ; "x"
    %2 = slice %x, starts=[0,7], sizes=[N,1], steps=[1,1] : f32[N,1] ; "Slice_0"
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
    %x = input : f32[N,8] ; "x"
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
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_0"
    %3 = concat %x, %2, %x, axis=1 : f32[N,6] ; "Concat_1"
    "#);
    assert_snapshot!(concat("x,r", 0), @r#"
    1 node(s) can't be imported:
      unsupported: node "Concat_1" (Concat, ai.onnx opset 13): got axis=0 on f32[N,2], expected another axis than the batch; supported: any axis but the batch
    "#);
    assert_snapshot!(concat("x", 1), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = identity %x : f32[N,2] ; "Concat_1"
    "#);
    assert_snapshot!(concat("x,w", 1), @r#"
    @y.constants: f32[1,4] = [0.0, 0.0, 0.25, 0.5]
    %x = input : f32[N,2] ; "x"
    %2 = pad %x, pads=[0,0,0,2], value=0.0 : f32[N,4] ; "Concat_1"
    %4 = add %2, @y.constants : f32[N,4] ; "Concat_1"
    "#);
    assert_snapshot!(concat("w,w", 1), @r#"the output "y" is a constant, expected it to depend on the input"#);
}
