//! The operators with windows, weights and statistics: each form that the opsets have of them.

mod common;

use common::*;
use insta::assert_snapshot;

fn conv(attributes: Vec<relc_onnx::proto::AttributeProto>) -> Net {
    Net::new(17)
        .input("x", "N,2,8,9")
        .weights(&[("w", &[4, 2, 3, 3]), ("b", &[4])])
        .node("Conv", "x,w,b", "y", attributes)
        .output("y")
}

#[test]
fn conv_forms() {
    assert_snapshot!(conv(vec![]).show(), @r#"
    @w: f32[4,2,3,3] = ..
    @b: f32[4] = [0.25, 0.5, 0.75, 1.0]
    %x = input : f32[N,2,8,9] ; "x"
    %4 = conv %x, @w, @b, kernel=[3,3], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1 : f32[N,4,6,7] ; "Conv_0"
    "#);
    let all = vec![
        ais("kernel_shape", &[3, 3]),
        ais("strides", &[2, 1]),
        ais("pads", &[1, 0, 2, 1]),
        ais("dilations", &[1, 2]),
        ai("group", 1),
        text("auto_pad", "NOTSET"),
    ];
    assert_snapshot!(conv(all).show(), @r#"
    @w: f32[4,2,3,3] = ..
    @b: f32[4] = [0.25, 0.5, 0.75, 1.0]
    %x = input : f32[N,2,8,9] ; "x"
    %4 = conv %x, @w, @b, kernel=[3,3], strides=[2,1], pads=[1,0,2,1], dilations=[1,2], group=1 : f32[N,4,5,6] ; "Conv_0"
    "#);
    let grouped = Net::new(7)
        .input("x", "1,4,8,8")
        .weights(&[("w", &[4, 2, 1, 1])])
        .node("Conv", "x,w", "y", vec![ai("group", 2)])
        .output("y");
    assert_snapshot!(grouped.show(), @r#"
    @w: f32[4,2,1,1] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 0.25]
    %x = input : f32[1,4,8,8] ; "x"
    %3 = conv %x, @w, kernel=[1,1], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=2 : f32[1,4,8,8] ; "Conv_0"
    "#);
}

#[test]
fn auto_pads_become_explicit() {
    let auto = |mode| conv(vec![text("auto_pad", mode), ais("strides", &[2, 2])]).show();
    assert_snapshot!(auto("SAME_UPPER"), @r#"
    @w: f32[4,2,3,3] = ..
    @b: f32[4] = [0.25, 0.5, 0.75, 1.0]
    %x = input : f32[N,2,8,9] ; "x"
    %4 = conv %x, @w, @b, kernel=[3,3], strides=[2,2], pads=[0,1,1,1], dilations=[1,1], group=1 : f32[N,4,4,5] ; "Conv_0"
    "#);
    assert_snapshot!(auto("SAME_LOWER"), @r#"
    @w: f32[4,2,3,3] = ..
    @b: f32[4] = [0.25, 0.5, 0.75, 1.0]
    %x = input : f32[N,2,8,9] ; "x"
    %4 = conv %x, @w, @b, kernel=[3,3], strides=[2,2], pads=[1,1,0,1], dilations=[1,1], group=1 : f32[N,4,4,5] ; "Conv_0"
    "#);
    assert_snapshot!(auto("VALID"), @r#"
    @w: f32[4,2,3,3] = ..
    @b: f32[4] = [0.25, 0.5, 0.75, 1.0]
    %x = input : f32[N,2,8,9] ; "x"
    %4 = conv %x, @w, @b, kernel=[3,3], strides=[2,2], pads=[0,0,0,0], dilations=[1,1], group=1 : f32[N,4,3,4] ; "Conv_0"
    "#);
    assert_snapshot!(auto("SOMETIMES"), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got auto_pad=SOMETIMES, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER
    "#);
}

#[test]
fn convs_that_are_refused() {
    assert_snapshot!(conv(vec![ais("kernel_shape", &[5, 5])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got kernel_shape=[5, 5], expected [3, 3], the weight's spatial sizes
    "#);
    assert_snapshot!(conv(vec![ai("group", 0)]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got group=0, expected at least 1
    "#);
    assert_snapshot!(conv(vec![ai("group", 2)]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got 2 input channels, a weight f32[4,2,3,3] and group=2, which don't fit together
    "#);
    assert_snapshot!(conv(vec![ais("strides", &[0, 1])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got strides=[0, 1], expected 2 numbers from 1 to 65536
    "#);
    assert_snapshot!(conv(vec![ais("strides", &[1])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got strides=[1], expected 2 numbers from 1 to 65536
    "#);
    assert_snapshot!(conv(vec![ais("pads", &[1, 1, 1, -1])]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Conv_0" (Conv, ai.onnx opset 17): got pads=[1, 1, 1, -1], expected 4 numbers from 0 to 65536; supported: convolution over one to three axes of f32[N,C,..], constant weight and bias
    "#);
    assert_snapshot!(conv(vec![ais("dilations", &[9, 9])]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): got a window of 19 pixels over 8 (padded by 0 and 0), expected one that fits
    "#);
    assert_snapshot!(conv(vec![af("strides", 1.0)]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Conv_0" (Conv, ai.onnx opset 17): the attribute "strides" is of type FLOAT, expected INTS
    "#);
    assert_snapshot!(conv(vec![ai("mystery", 1)]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Conv_0" (Conv, ai.onnx opset 17): the attribute "mystery" is not known for this opset; supported: convolution over one to three axes of f32[N,C,..], constant weight and bias
    "#);
    let volume = Net::new(17)
        .input("x", "N,2,8,8,8,8")
        .weights(&[("w", &[4, 2, 3, 3, 3, 3])])
        .node("Conv", "x,w", "y", vec![])
        .output("y");
    assert_snapshot!(volume.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Conv_0" (Conv, ai.onnx opset 17): got an input f32[N,2,8,8,8,8], expected f32[N,C,L], f32[N,C,H,W] or f32[N,C,D,H,W] of sizes that are known; supported: convolution over one to three axes of f32[N,C,..], constant weight and bias
    "#);
    let dynamic = Net::new(17).input("x", "4,2,3,3").node("Conv", "x,x", "y", vec![]).output("y");
    assert_snapshot!(dynamic.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Conv_0" (Conv, ai.onnx opset 17): input 1, "x", depends on the model's input, expected a constant; supported: convolution over one to three axes of f32[N,C,..], constant weight and bias
    "#);
}

#[test]
fn gemm_folds_its_factors() {
    let gemm = |attributes, bias: &[i64]| {
        Net::new(13)
            .input("x", "N,3")
            .weights(&[("w", &[2, 3]), ("b", bias)])
            .node("Gemm", "x,w,b", "y", attributes)
            .output("y")
    };
    let transposed = |more: Vec<_>| [vec![ai("transB", 1)], more].concat();
    assert_snapshot!(gemm(transposed(vec![]), &[2]).show(), @r#"
    @w: f32[2,3] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    @b: f32[2] = [0.25, 0.5]
    %x = input : f32[N,3] ; "x"
    %4 = gemm %x, @w, @b, trans_b=yes : f32[N,2] ; "Gemm_0"
    "#);
    assert_snapshot!(gemm(transposed(vec![af("alpha", 2.0), af("beta", 0.5)]), &[1, 2]).show(), @r#"
    @y.weight: f32[2,3] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    @y.bias: f32[2] = [0.125, 0.25]
    %x = input : f32[N,3] ; "x"
    %4 = gemm %x, @y.weight, @y.bias, trans_b=yes : f32[N,2] ; "Gemm_0"
    "#);
    assert_snapshot!(gemm(transposed(vec![]), &[]).show(), @r#"
    @w: f32[2,3] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    @y.bias: f32[2] = [0.25, 0.25]
    %x = input : f32[N,3] ; "x"
    %4 = gemm %x, @w, @y.bias, trans_b=yes : f32[N,2] ; "Gemm_0"
    "#);
    assert_snapshot!(gemm(transposed(vec![af("beta", 0.0)]), &[2]).show(), @r#"
    @w: f32[2,3] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    %x = input : f32[N,3] ; "x"
    %3 = gemm %x, @w, trans_b=yes : f32[N,2] ; "Gemm_0"
    "#);
    assert_snapshot!(gemm(vec![ai("transA", 1)], &[2]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Gemm_0" (Gemm, ai.onnx opset 13): got transA=1 on a tensor that depends on the model's input; supported: f32[N,K] times a constant, plus an optional constant f32[M], transA=0
    "#);
    assert_snapshot!(gemm(transposed(vec![]), &[2, 2]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Gemm_0" (Gemm, ai.onnx opset 13): got a bias of shape [2, 2], expected one value per column (2); supported: f32[N,K] times a constant, plus an optional constant f32[M], transA=0
    "#);
    assert_snapshot!(gemm(vec![], &[2]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Gemm_0" (Gemm, ai.onnx opset 13): got the shape [2], expected one that broadcasts to [3]
    "#);
}

#[test]
fn weights_that_are_made_take_no_other_weights_name() {
    // The initialiser "y.weight" is another tensor than the scaled weight of the node behind "y".
    let net = Net::new(13)
        .input("x", "N,2")
        .floats("w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0])
        .floats("y.weight", &[2, 2], vec![5.0; 4])
        .node("Gemm", "x,w", "y", vec![af("alpha", 0.5)])
        .node("MatMul", "y,y.weight", "z", vec![])
        .output("z");
    assert_snapshot!(net.show(), @r#"
    @y.weight: f32[2,2] = [0.5, 1.0, 1.5, 2.0]
    @y.weight.2: f32[2,2] = [5.0, 5.0, 5.0, 5.0]
    %x = input : f32[N,2] ; "x"
    %3 = gemm %x, @y.weight, trans_b=no : f32[N,2] ; "Gemm_0"
    %5 = matmul %3, @y.weight.2 : f32[N,2] ; "MatMul_1"
    "#);
}

#[test]
fn matmul_forms() {
    let matmul = |inputs: &str, dims: &[i64]| {
        Net::new(13).input("x", "N,3").weights(&[("w", dims)]).node("MatMul", inputs, "y", vec![]).output("y")
    };
    assert_snapshot!(matmul("x,w", &[3, 2]).show(), @r#"
    @w: f32[3,2] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    %x = input : f32[N,3] ; "x"
    %3 = matmul %x, @w : f32[N,2] ; "MatMul_0"
    "#);
    assert_snapshot!(matmul("w,x", &[2, 3]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "MatMul_0" (MatMul, ai.onnx opset 13): got f32[2,3] times f32[N,3], expected the inner sizes to be one
    "#);
    assert_snapshot!(matmul("x,x", &[2, 3]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "MatMul_0" (MatMul, ai.onnx opset 13): got f32[N,3] times f32[N,3], expected the inner sizes to be one
    "#);
    assert_snapshot!(matmul("x,w", &[3]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "MatMul_0" (MatMul, ai.onnx opset 13): got f32[N,3] times f32[3], expected matrices; supported: f32[..,K] times a constant f32[K,M]; two tensors, at most 2^24 products
    "#);
}

fn norm(opset: i64, attributes: Vec<relc_onnx::proto::AttributeProto>) -> Net {
    Net::new(opset)
        .input("x", "N,2,4,4")
        .weights(&[("scale", &[2]), ("bias", &[2]), ("mean", &[2]), ("var", &[2])])
        .node("BatchNormalization", "x,scale,bias,mean,var", "y", attributes)
        .output("y")
}

#[test]
fn batch_normalization_forms() {
    assert_snapshot!(norm(15, vec![af("momentum", 0.9), af("epsilon", 0.5), ai("training_mode", 0)]).show(), @r#"
    @scale: f32[2] = [0.25, 0.5]
    @bias: f32[2] = [0.25, 0.5]
    @mean: f32[2] = [0.25, 0.5]
    @var: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2,4,4] ; "x"
    %6 = batch_normalization %x, @scale, @bias, @mean, @var, epsilon=0.5 : f32[N,2,4,4] ; "BatchNormalization_0"
    "#);
    assert_snapshot!(norm(7, vec![ai("spatial", 1)]).show(), @r#"
    @scale: f32[2] = [0.25, 0.5]
    @bias: f32[2] = [0.25, 0.5]
    @mean: f32[2] = [0.25, 0.5]
    @var: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2,4,4] ; "x"
    %6 = batch_normalization %x, @scale, @bias, @mean, @var, epsilon=9.999999747378752e-6 : f32[N,2,4,4] ; "BatchNormalization_0"
    "#);
    assert_snapshot!(norm(7, vec![ai("spatial", 0)]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "BatchNormalization_0" (BatchNormalization, ai.onnx opset 7): got spatial=0: one mean per pixel, expected one per channel; supported: inference with constant parameters, output 0; constants
    "#);
    assert_snapshot!(norm(15, vec![ai("training_mode", 1)]).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "BatchNormalization_0" (BatchNormalization, ai.onnx opset 15): got training_mode=1: export the model in evaluation mode; supported: inference with constant parameters, output 0; constants
    "#);
    assert_snapshot!(norm(15, vec![af("epsilon", -1.0)]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "BatchNormalization_0" (BatchNormalization, ai.onnx opset 15): got a variance whose sum with epsilon is not positive
    "#);
    // Before opset 14 the number of outputs says that it is training.
    let mut training = norm(9, vec![]);
    training.graph().node[0].output.push("mean_out".into());
    assert_snapshot!(training.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "BatchNormalization_0" (BatchNormalization, ai.onnx opset 9): got 2 outputs, which before opset 14 mean training (the batch's own statistics), expected 1: export the model in evaluation mode; supported: inference with constant parameters, output 0; constants
    "#);
}

#[test]
fn softmax_forms() {
    let softmax = |opset, dims, op, axis: Option<i64>| {
        one(opset, dims, op, axis.map(|a| ai("axis", a)).into_iter().collect()).show()
    };
    assert_snapshot!(softmax(17, "N,3,5", "Softmax", None), @r#"
    %x = input : f32[N,3,5] ; "x"
    %2 = softmax %x, axis=2 : f32[N,3,5] ; "Softmax_0"
    "#);
    assert_snapshot!(softmax(17, "N,3,5", "LogSoftmax", Some(1)), @r#"
    %x = input : f32[N,3,5] ; "x"
    %2 = log_softmax %x, axis=1 : f32[N,3,5] ; "LogSoftmax_0"
    "#);
    assert_snapshot!(softmax(9, "N,3", "Softmax", None), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = softmax %x, axis=1 : f32[N,3] ; "Softmax_0"
    "#);
    assert_snapshot!(softmax(9, "N,3,1,1", "Softmax", None), @r#"
    %x = input : f32[N,3,1,1] ; "x"
    %2 = softmax %x, axis=1 : f32[N,3,1,1] ; "Softmax_0"
    "#);
    assert_snapshot!(softmax(9, "N,3,5", "LogSoftmax", None), @r#"
    %x = input : f32[N,3,5] ; "x"
    %2 = reshape %x, shape=[N,15] : f32[N,15] ; "LogSoftmax_0"
    %3 = log_softmax %2, axis=1 : f32[N,15] ; "LogSoftmax_0"
    %4 = reshape %3, shape=[N,3,5] : f32[N,3,5] ; "LogSoftmax_0"
    "#);
    assert_snapshot!(softmax(17, "N,3", "Softmax", Some(0)), @r#"
    1 node(s) can't be imported:
      unsupported: node "Softmax_0" (Softmax, ai.onnx opset 17): got axis=0 on f32[N,3], expected an axis of fixed size; supported: one axis, not the batch
    "#);
    assert_snapshot!(softmax(17, "N,3", "Softmax", Some(2)), @r#"
    1 node(s) can't be imported:
      invalid: node "Softmax_0" (Softmax, ai.onnx opset 17): got axis 2, expected one of 2 axes
    "#);
}

#[test]
fn pool_forms() {
    let pool = |opset, op, more: Vec<_>| {
        one(
            opset,
            "N,2,7,7",
            op,
            [vec![ais("kernel_shape", &[3, 3]), ais("strides", &[2, 2])], more].concat(),
        )
        .show()
    };
    assert_snapshot!(pool(8, "MaxPool", vec![ais("pads", &[1, 1, 1, 1]), ai("storage_order", 1)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = max_pool %x, kernel=[3,3], strides=[2,2], pads=[1,1,1,1], dilations=[1,1] : f32[N,2,4,4] ; "MaxPool_0"
    "#);
    assert_snapshot!(pool(12, "MaxPool", vec![ai("ceil_mode", 1), ais("dilations", &[2, 2])]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = max_pool %x, kernel=[3,3], strides=[2,2], pads=[0,0,0,0], dilations=[2,2], ceil_mode=yes : f32[N,2,2,2] ; "MaxPool_0"
    "#);
    assert_snapshot!(pool(12, "MaxPool", vec![ai("ceil_mode", 1), text("auto_pad", "SAME_UPPER")]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = max_pool %x, kernel=[3,3], strides=[2,2], pads=[1,1,1,1], dilations=[1,1] : f32[N,2,4,4] ; "MaxPool_0"
    "#);
    assert_snapshot!(pool(12, "MaxPool", vec![ais("pads", &[4, 0, 0, 0])]), @r#"
    1 node(s) can't be imported:
      invalid: node "MaxPool_0" (MaxPool, ai.onnx opset 12): got a window that covers padding only, expected every window to cover the input
    "#);
    assert_snapshot!(pool(7, "AveragePool", vec![ais("pads", &[1, 1, 1, 1]), ai("count_include_pad", 1)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = average_pool %x, kernel=[3,3], strides=[2,2], pads=[1,1,1,1], dilations=[1,1], count_include_pad=yes : f32[N,2,4,4] ; "AveragePool_0"
    "#);
    assert_snapshot!(pool(19, "AveragePool", vec![ai("ceil_mode", 1)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = average_pool %x, kernel=[3,3], strides=[2,2], pads=[0,0,0,0], dilations=[1,1], ceil_mode=yes, count_include_pad=no : f32[N,2,3,3] ; "AveragePool_0"
    "#);
    assert_snapshot!(one(12, "N,2,7,7", "MaxPool", vec![]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "MaxPool_0" (MaxPool, ai.onnx opset 12): the attribute "kernel_shape" is missing
    "#);
    assert_snapshot!(one(12, "N,2,7", "AveragePool", vec![ais("kernel_shape", &[3])]).show(), @r#"
    %x = input : f32[N,2,7] ; "x"
    %2 = average_pool %x, kernel=[3], strides=[1], pads=[0,0], dilations=[1], count_include_pad=no : f32[N,2,5] ; "AveragePool_0"
    "#);
    assert_snapshot!(one(12, "N,2,7,7", "GlobalAveragePool", vec![]).show(), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = global_average_pool %x : f32[N,2,1,1] ; "GlobalAveragePool_0"
    "#);
    assert_snapshot!(one(12, "N,2,7", "GlobalAveragePool", vec![]).show(), @r#"
    %x = input : f32[N,2,7] ; "x"
    %2 = global_average_pool %x : f32[N,2,1] ; "GlobalAveragePool_0"
    "#);
}

#[test]
fn reduce_mean_forms() {
    let by_attribute = |attributes| one(13, "N,2,7,7", "ReduceMean", attributes).show();
    assert_snapshot!(by_attribute(vec![ais("axes", &[-1, 2]), ai("keepdims", 0)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = reduce_mean %x, axes=[2,3], keepdims=no : f32[N,2] ; "ReduceMean_0"
    "#);
    assert_snapshot!(by_attribute(vec![ais("axes", &[2, 3])]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = reduce_mean %x, axes=[2,3], keepdims=yes : f32[N,2,1,1] ; "ReduceMean_0"
    "#);
    assert_snapshot!(by_attribute(vec![]), @r#"
    1 node(s) can't be imported:
      unsupported: node "ReduceMean_0" (ReduceMean, ai.onnx opset 13): got axes=[0, 1, 2, 3] on f32[N,2,7,7], expected no mean over the batch; supported: constant axes, not the batch; constants
    "#);
    assert_snapshot!(by_attribute(vec![ais("axes", &[2, 2])]), @r#"
    1 node(s) can't be imported:
      invalid: node "ReduceMean_0" (ReduceMean, ai.onnx opset 13): got axes=[2, 2], expected each axis once
    "#);
    assert_snapshot!(by_attribute(vec![ais("axes", &[4])]), @r#"
    1 node(s) can't be imported:
      invalid: node "ReduceMean_0" (ReduceMean, ai.onnx opset 13): got axis 4, expected one of 4 axes
    "#);
    let by_input = |axes: &[i64], attributes| {
        Net::new(18)
            .input("x", "N,2,7,7")
            .ints("a", axes)
            .node("ReduceMean", "x,a", "y", attributes)
            .output("y")
            .show()
    };
    assert_snapshot!(by_input(&[2, 3], vec![ai("keepdims", 0), ai("noop_with_empty_axes", 0)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = reduce_mean %x, axes=[2,3], keepdims=no : f32[N,2] ; "ReduceMean_0"
    "#);
    assert_snapshot!(by_input(&[], vec![ai("noop_with_empty_axes", 1)]), @r#"
    %x = input : f32[N,2,7,7] ; "x"
    %2 = identity %x : f32[N,2,7,7] ; "ReduceMean_0"
    "#);
    assert_snapshot!(by_input(&[2], vec![ais("axes", &[2])]), @r#"
    1 node(s) can't be imported:
      unsupported: node "ReduceMean_0" (ReduceMean, ai.onnx opset 18): the attribute "axes" is not known for this opset; supported: constant axes, not the batch; constants
    "#);
}

#[test]
fn activation_forms() {
    for op in ["Relu", "Sigmoid", "Identity"] {
        assert_eq!(one(14, "N,3", op, vec![]).show().lines().count(), 2, "{op}");
    }
    assert_snapshot!(one(14, "N,3", "LeakyRelu", vec![af("alpha", 0.25)]).show(), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = leaky_relu %x, alpha=0.25 : f32[N,3] ; "LeakyRelu_0"
    "#);
    assert_snapshot!(one(14, "N,3", "LeakyRelu", vec![]).show(), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = leaky_relu %x, alpha=0.009999999776482582 : f32[N,3] ; "LeakyRelu_0"
    "#);
    assert_snapshot!(one(7, "N,3", "Dropout", vec![af("ratio", 0.25)]).show(), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = dropout %x : f32[N,3] ; "Dropout_0"
    "#);
    assert_snapshot!(one(6 + 1, "N,3", "Clip", vec![af("min", 0.0), af("max", 6.0)]).show(), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = clip %x, min=0.0, max=6.0 : f32[N,3] ; "Clip_0"
    "#);
    assert_snapshot!(one(12, "N,3", "Clip", vec![]).show(), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = clip %x, min=-inf, max=inf : f32[N,3] ; "Clip_0"
    "#);
    let clip = |inputs| {
        Net::new(13)
            .input("x", "N,3")
            .floats("lo", &[], vec![-1.0])
            .floats("hi", &[], vec![6.0])
            .node("Clip", inputs, "y", vec![])
            .output("y")
            .show()
    };
    assert_snapshot!(clip("x,lo,hi"), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = clip %x, min=-1.0, max=6.0 : f32[N,3] ; "Clip_0"
    "#);
    assert_snapshot!(clip("x,,hi"), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = clip %x, min=-inf, max=6.0 : f32[N,3] ; "Clip_0"
    "#);
    assert_snapshot!(clip("x,hi,lo"), @r#"
    1 node(s) can't be imported:
      unsupported: node "Clip_0" (Clip, ai.onnx opset 13): got min=6 and max=-1, expected min <= max; supported: constant bounds
    "#);
    let dropout = |training| {
        Net::new(13)
            .input("x", "N,3")
            .floats("ratio", &[], vec![0.5])
            .int("training", training)
            .node("Dropout", "x,ratio,training", "y,mask", vec![ai("seed", 3)])
            .output("y")
            .show()
    };
    assert_snapshot!(dropout(0), @r#"
    %x = input : f32[N,3] ; "x"
    %2 = dropout %x : f32[N,3] ; "Dropout_0"
    "#);
    assert_snapshot!(dropout(1), @r#"
    1 node(s) can't be imported:
      unsupported: node "Dropout_0" (Dropout, ai.onnx opset 13): got training_mode=true: export the model in evaluation mode; supported: inference, output 0
    "#);
}
