//! Tensors whose batch is not the first axis, or a factor of one: each network and its twin that keeps the batch first.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use relc_onnx::proto::attribute_proto::AttributeType;

/// What the interpreter makes of values of both signs.
#[track_caller]
fn run(net: &Net, dims: &[usize]) -> ArrayD<f64> {
    let value = |i: usize| (i as f64 * 0.7).sin() + 0.01 * i as f64;
    let x = ArrayD::from_shape_vec(IxDyn(dims), (0..dims.iter().product()).map(value).collect()).unwrap();
    let graph = net.import().unwrap_or_else(|e| panic!("{e}")).graph;
    relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}"));
    let forward = relc_interp::forward(&graph, &[x]).unwrap();
    forward.outputs().next().unwrap().1.clone()
}

/// Both give the same, of two samples and of three.
#[track_caller]
fn check(folded: Net, plain: Net, sample: &[usize]) {
    for samples in [2, 3] {
        let dims = [&[samples], sample].concat();
        let (got, expected) = (run(&folded, &dims), run(&plain, &dims));
        assert_eq!(got.shape(), expected.shape());
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-9, "off by {off:e}: got {got}, expected {expected}");
    }
}

fn perm(axes: &[i64]) -> Vec<relc_onnx::proto::AttributeProto> {
    vec![ais("perm", axes)]
}

#[test]
fn tokens_may_come_before_the_batch() {
    let net = |scale: &[i64]| {
        Net::new(17)
            .input("x", "N,5,3")
            .weights(&[("w", &[3, 4]), ("b", &[4]), ("s", scale)])
            .ints("middle", &[1])
            .ints("end", &[4])
            .ints("last", &[-1])
            .ints("least", &[i64::MIN])
            .ints("back", &[-2])
    };
    let folded = net(&[5, 1, 1])
        .ints("axis", &[0])
        .node("Transpose", "x", "t", perm(&[1, 0, 2]))
        .node("MatMul", "t,w", "y", vec![])
        .node("Add", "y,b", "z", vec![])
        .node("Mul", "s,z", "m", vec![])
        .node("Relu", "m", "r", vec![])
        .node("Softmax", "r", "p", vec![ai("axis", 0)])
        .node("Sub", "r,p", "d", vec![])
        .node("Slice", "d,middle,end,axis", "c", vec![])
        .node("Slice", "c,last,least,axis,back", "f", vec![])
        .node("Transpose", "f", "out", perm(&[1, 0, 2]))
        .output("out");
    let plain = net(&[5, 1])
        .ints("axis", &[1])
        .node("MatMul", "x,w", "y", vec![])
        .node("Add", "y,b", "z", vec![])
        .node("Mul", "s,z", "m", vec![])
        .node("Relu", "m", "r", vec![])
        .node("Softmax", "r", "p", vec![ai("axis", 1)])
        .node("Sub", "r,p", "d", vec![])
        .node("Slice", "d,middle,end,axis", "c", vec![])
        .node("Slice", "c,last,least,axis,back", "out", vec![])
        .output("out");
    check(folded, plain, &[5, 3]);
}

#[test]
fn heads_may_be_a_factor_of_the_batch() {
    let net = |heads: &[i64], turned: &[i64]| {
        Net::new(17)
            .input("x", "N,8,6")
            .weights(&[("scale", &[]), ("bias", &[4])])
            .ints("heads", heads)
            .ints("back", &[-1, 48])
            .node("Reshape", "x,heads", "q", vec![])
            .node("Transpose", "q", "k", perm(turned))
            .node("MatMul", "q,k", "s", vec![])
            .node("Mul", "s,scale", "m", vec![])
            .node("Add", "bias,m", "a", vec![])
            .node("Softmax", "a", "p", vec![])
            .node("MatMul", "p,q", "v", vec![])
            .node("Reshape", "v,back", "out", vec![])
            .output("out")
    };
    check(net(&[-1, 4, 6], &[0, 2, 1]), net(&[0, 2, 4, 6], &[0, 1, 3, 2]), &[8, 6]);
}

#[test]
fn frames_may_be_a_factor_of_the_batch() {
    let weights: &[(&str, &[i64])] = &[
        ("w", &[4, 2, 3, 3]),
        ("b", &[4]),
        ("scale", &[4]),
        ("mean", &[4]),
        ("var", &[4]),
        ("fc", &[3, 4]),
        ("c", &[3]),
    ];
    let net = || Net::new(17).input("x", "N,3,2,5,6").weights(weights);
    let layers = |net: Net, x: &str, y: &str| {
        let at = |name: &str| format!("{name}.{y}");
        net.node(
            "Conv",
            &format!("{x},w,b"),
            &at("conv"),
            vec![ais("pads", &[1, 0, 1, 0]), ais("strides", &[1, 2])],
        )
        .node("BatchNormalization", &format!("{},scale,b,mean,var", at("conv")), &at("bn"), vec![])
        .node("Relu", &at("bn"), &at("relu"), vec![])
        .node("MaxPool", &at("relu"), &at("max"), vec![ais("kernel_shape", &[2, 1])])
        .node(
            "AveragePool",
            &at("max"),
            &at("mean"),
            vec![ais("kernel_shape", &[2, 2]), ais("pads", &[0, 1, 0, 0])],
        )
        .node("GlobalAveragePool", &at("mean"), &at("gap"), vec![])
        .node("Flatten", &at("gap"), &at("flat"), vec![])
        .node("Gemm", &format!("{},fc,c", at("flat")), y, vec![ai("transB", 1), af("alpha", 0.5)])
    };
    let folded =
        layers(net().ints("frames", &[-1, 2, 5, 6]).node("Reshape", "x,frames", "f", vec![]), "f", "y")
            .ints("clips", &[-1, 3, 3])
            .node("Reshape", "y,clips", "z", vec![])
            .node("ReduceMean", "z", "out", vec![ais("axes", &[1]), ai("keepdims", 0)])
            .output("out");
    let mut plain = net().node("Split", "x", "x0,x1,x2", vec![ai("axis", 1)]).ints("one", &[1]);
    for frame in 0..3 {
        let (part, x, y) = (format!("x{frame}"), format!("f{frame}"), format!("y{frame}"));
        plain = layers(plain.node("Squeeze", &format!("{part},one"), &x, vec![]), &x, &y);
    }
    let plain = plain.node("Mean", "y0,y1,y2", "out", vec![]).output("out");
    check(folded, plain, &[3, 2, 5, 6]);
}

#[test]
fn members_may_be_stacked_before_the_batch() {
    let net =
        || Net::new(17).input("x", "N,4").node("Relu", "x", "a", vec![]).node("Sigmoid", "x", "b", vec![]);
    let stacked = || {
        net()
            .ints("first", &[0])
            .node("Unsqueeze", "a,first", "a1", vec![])
            .node("Unsqueeze", "b,first", "b1", vec![])
            .node("Concat", "a1,b1", "both", vec![ai("axis", 0)])
    };
    let mean =
        stacked().node("ReduceMean", "both", "out", vec![ais("axes", &[0]), ai("keepdims", 0)]).output("out");
    check(mean, net().node("Mean", "a,b", "out", vec![]).output("out"), &[4]);
    let sum = stacked().node("ReduceSum", "both,first", "out", vec![ai("keepdims", 0)]).output("out");
    check(sum, net().node("Add", "a,b", "out", vec![]).output("out"), &[4]);
    let parts = stacked()
        .node("Split", "both", "p,q", vec![ai("axis", 0)])
        .node("Squeeze", "p,first", "p1", vec![])
        .int("second", -1)
        .node("Gather", "both,second", "q1", vec![ai("axis", 0)])
        .node("Sub", "p1,q1", "out", vec![])
        .output("out");
    check(parts, net().node("Sub", "a,b", "out", vec![]).output("out"), &[4]);
}

/// Queries, keys and values of one layer, as timm's vision transformers take them apart.
#[test]
fn what_was_stacked_may_be_taken_apart() {
    let net = || {
        Net::new(17).input("x", "N,5,24").ints("parts", &[0, 5, 3, 2, 4]).node(
            "Reshape",
            "x,parts",
            "r",
            vec![],
        )
    };
    let take = |net: Net, i: i64, axis: i64| {
        net.int(&format!("i{i}"), i).node(
            "Gather",
            &format!("t,i{i}"),
            &format!("p{i}"),
            vec![ai("axis", axis)],
        )
    };
    let joined = |net: Net| {
        net.node("Transpose", "p1", "k", perm(&[0, 1, 3, 2]))
            .node("MatMul", "p0,k", "s", vec![])
            .node("Softmax", "s", "a", vec![])
            .node("MatMul", "a,p2", "out", vec![])
            .output("out")
    };
    let folded = net().node("Transpose", "r", "t", perm(&[2, 0, 3, 1, 4]));
    let plain = net().node("Transpose", "r", "t", perm(&[0, 2, 3, 1, 4]));
    let all = |net: Net, axis: i64| joined((0..3).fold(net, |net, i| take(net, i, axis)));
    check(all(folded, 0), all(plain, 1), &[5, 24]);
}

#[test]
fn what_needs_the_batch_first_says_so() {
    let tokens = || Net::new(17).input("x", "N,5,3").node("Transpose", "x", "t", perm(&[1, 0, 2]));
    let check = |net: Net, expected: &str| {
        let text = net.output("y").show();
        assert!(text.contains(expected), "{text}");
    };
    check(
        tokens().node("Softmax", "t", "y", vec![ai("axis", 1)]),
        "got a tensor [5,N,3], expected the batch first",
    );
    check(tokens().node("ReduceMean", "t", "y", vec![ais("axes", &[1])]), "got a tensor [5,N,3]");
    check(
        tokens().node("Add", "t,x", "y", vec![]),
        "got [5,N,3] beside [N,5,3], expected the batch in one place",
    );
    check(
        tokens().node("Relu", "t", "y", vec![]),
        "node \"Relu_1\" (Relu, ai.onnx opset 17): its result \"y\" is explained and a tensor [5,N,3], expected the batch first",
    );
    check(
        tokens().ints("s", &[1, 4, 1]).node("Expand", "t,s", "y", vec![]),
        "got [5,N,3] and 4 for axis 1, expected its size, or any along an axis of size 1",
    );
    let weight: &[(&str, &[i64])] = &[("w", &[5, 1])];
    check(tokens().weights(weight).node("Mul", "t,w", "y", vec![]), "beside a constant of shape [1, 5, 1]");
    check(
        tokens().ints("s", &[15, -1]).node("Reshape", "t,s", "z", vec![]).node("Relu", "z", "y", vec![]),
        "mixes the batch with other axes",
    );
}

/// Attention written as sums over labels, and as products of matrices.
#[test]
fn einsums_are_products() {
    let equation = |text: &str| {
        vec![relc_onnx::proto::AttributeProto {
            s: Some(text.as_bytes().to_vec()),
            ..attribute("equation", AttributeType::String)
        }]
    };
    let weights: &[(&str, &[i64])] = &[("w", &[2, 6, 3]), ("o", &[2, 3, 5])];
    let einsum = Net::new(17)
        .input("x", "N,4,6")
        .weights(weights)
        .node("Einsum", "x,w", "q", equation("bnd,hde->bhne"))
        .node("Einsum", "q,q", "s", equation("bhie, bhje -> bhij"))
        .node("Softmax", "s", "p", vec![])
        .node("Einsum", "p,q", "v", equation("bhij,bhje->bhie"))
        .node("Einsum", "v,o", "out", equation("bhne,hed->bnd"))
        .output("out");
    let plain = Net::new(17)
        .input("x", "N,4,6")
        .weights(weights)
        .ints("rows", &[6, 6])
        .ints("apart", &[0, 4, 2, 3])
        .ints("together", &[0, 4, 6])
        .ints("columns", &[6, 5])
        .node("Transpose", "w", "w1", perm(&[1, 0, 2]))
        .node("Reshape", "w1,rows", "w2", vec![])
        .node("MatMul", "x,w2", "x1", vec![])
        .node("Reshape", "x1,apart", "x2", vec![])
        .node("Transpose", "x2", "q", perm(&[0, 2, 1, 3]))
        .node("Transpose", "q", "k", perm(&[0, 1, 3, 2]))
        .node("MatMul", "q,k", "s", vec![])
        .node("Softmax", "s", "p", vec![])
        .node("MatMul", "p,q", "v", vec![])
        .node("Transpose", "v", "v1", perm(&[0, 2, 1, 3]))
        .node("Reshape", "v1,together", "v2", vec![])
        .node("Reshape", "o,columns", "o2", vec![])
        .node("MatMul", "v2,o2", "out", vec![])
        .output("out");
    check(einsum, plain, &[4, 6]);
    let folded = |net: Net| net.output("out");
    let net = || {
        Net::new(17)
            .input("x", "N,4,6")
            .weights(&[("e", &[5, 3])])
            .ints("heads", &[-1, 4, 3])
            .ints("back", &[-1, 40])
    };
    let labels = net()
        .node("Reshape", "x,heads", "h", vec![])
        .node("Einsum", "h,e", "y", equation("bid,jd->bij"))
        .node("Reshape", "y,back", "out", vec![]);
    let product = net()
        .node("Transpose", "e", "t", perm(&[1, 0]))
        .node("Reshape", "x,heads", "h", vec![])
        .node("MatMul", "h,t", "y", vec![])
        .node("Reshape", "y,back", "out", vec![]);
    check(folded(labels), folded(product), &[4, 6]);
}

#[test]
fn repetitions_go_beside_the_batch() {
    let net = |apart: &[i64], times: &[i64]| {
        Net::new(17)
            .input("x", "N,2,3")
            .ints("apart", apart)
            .ints("times", times)
            .ints("back", &[-1, 24])
            .node("Reshape", "x,apart", "r", vec![])
            .node("Expand", "r,times", "e", vec![])
            .node("Reshape", "e,back", "out", vec![])
            .output("out")
    };
    check(net(&[-1, 1, 3], &[1, 4, 1]), net(&[0, 2, 1, 3], &[1, 1, 4, 1]), &[2, 3]);
    // Along a new axis before the batch.
    let leading = Net::new(17)
        .input("x", "N,6")
        .ints("times", &[5, 1, 1])
        .node("Expand", "x,times", "e", vec![])
        .node("Transpose", "e", "out", perm(&[1, 2, 0]))
        .output("out");
    let trailing = Net::new(17)
        .input("x", "N,6")
        .ints("last", &[2])
        .ints("times", &[1, 1, 5])
        .node("Unsqueeze", "x,last", "u", vec![])
        .node("Expand", "u,times", "out", vec![])
        .output("out");
    check(leading, trailing, &[6]);
}

#[test]
fn pads_go_beside_the_batch() {
    let net = || {
        Net::new(17)
            .input("x", "N,4,6")
            .ints("heads", &[-1, 4, 3])
            .ints("back", &[-1, 40])
            .ints("pads", &[0, 0, 1, 0, 0, 1])
    };
    let folded = net()
        .node("Reshape", "x,heads", "h", vec![])
        .node("Pad", "h,pads", "p", vec![])
        .node("Reshape", "p,back", "out", vec![])
        .output("out");
    let plain = net()
        .ints("apart", &[0, 2, 4, 3])
        .ints("wide", &[0, 0, 0, 1, 0, 0, 0, 1])
        .node("Reshape", "x,apart", "h", vec![])
        .node("Pad", "h,wide", "p", vec![])
        .node("Reshape", "p,back", "out", vec![])
        .output("out");
    check(folded, plain, &[4, 6]);
}
