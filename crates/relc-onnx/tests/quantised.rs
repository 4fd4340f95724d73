//! Quantised models of every style: what their integers stand for.

mod common;

use common::*;
use insta::assert_snapshot;
use relc_onnx::proto::TensorProto;
use relc_onnx::proto::tensor_proto::DataType;

/// A tensor of integers of a type.
fn integers(ty: DataType, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(ty as i32),
        int32_data: values.to_vec(),
        ..Default::default()
    }
}

fn int8(dims: &[i64], values: &[i32]) -> TensorProto {
    integers(DataType::Int8, dims, values)
}

/// Scales and zero points: `s` and `z` of activations, `sw` and `zw` of weights.
fn net(inputs: &str) -> Net {
    Net::new(21)
        .input("x", inputs)
        .floats("s", &[], vec![0.5])
        .tensor("z", integers(DataType::Uint8, &[], &[128]))
        .floats("sw", &[], vec![0.25])
        .tensor("zw", int8(&[], &[0]))
}

/// The values of the weight of that name.
#[track_caller]
fn weight(net: &Net, name: &str) -> Vec<f32> {
    let graph = net.import().unwrap_or_else(|e| panic!("{e}")).graph;
    let weight = graph.weights().find(|w| w.name() == name).unwrap_or_else(|| panic!("{graph}"));
    weight.data().unwrap().to_vec()
}

/// Quantisation-aware training leaves weights of floats that are rounded in the graph.
#[test]
fn fake_quantised_weights_are_rounded() {
    let fake = |values: Vec<f32>, scale: TensorProto, zero: TensorProto, axis: i64| {
        let net = Net::new(13)
            .input("x", "N,2")
            .floats("w", &[2, 2], values)
            .tensor("sw", scale)
            .tensor("zw", zero)
            .node("QuantizeLinear", "w,sw,zw", "q", vec![ai("axis", axis)])
            .node("DequantizeLinear", "q,sw,zw", "d", vec![ai("axis", axis)])
            .node("Gemm", "x,d", "y", vec![])
            .output("y");
        weight(&net, "d")
    };
    // Halves round to even, and what is too large is clipped.
    let one = || floats(&[], vec![0.5]);
    assert_eq!(fake(vec![0.25, 0.75, -0.25, 100.0], one(), int8(&[], &[0]), 0), [0.0, 1.0, 0.0, 63.5]);
    let unsigned = integers(DataType::Uint8, &[], &[2]);
    assert_eq!(fake(vec![-9.0, 0.6, 1.4, 9.0], one(), unsigned, 0), [-1.0, 0.5, 1.5, 9.0]);
    let axes = || floats(&[2], vec![1.0, 10.0]);
    assert_eq!(fake(vec![1.2, 14.0, 2.7, 16.0], axes(), int8(&[2], &[0, 0]), 1), [1.0, 10.0, 3.0, 20.0]);
    assert_eq!(fake(vec![1.2, 14.0, 2.7, 16.0], axes(), int8(&[2], &[0, 0]), -2), [1.0, 14.0, 0.0, 20.0]);
}

/// Four bits are two to a byte, the first in the low half; blocks share a scale.
#[test]
fn weights_of_four_bits_and_blocks_are_dequantised() {
    let packed = |ty, dims: &[i64], bytes: &[u8]| TensorProto {
        dims: dims.to_vec(),
        data_type: Some(ty as i32),
        raw_data: Some(bytes.to_vec().into()),
        ..Default::default()
    };
    let dequantised = |weight_: TensorProto, scale: TensorProto, zero: TensorProto, attributes| {
        let net = Net::new(21)
            .input("x", "N,3")
            .tensor("w", weight_)
            .tensor("sw", scale)
            .tensor("zw", zero)
            .node("DequantizeLinear", "w,sw,zw", "d", attributes)
            .node("MatMul", "x,d", "y", vec![])
            .output("y");
        weight(&net, "d")
    };
    let one = || floats(&[], vec![1.0]);
    let signed = packed(DataType::Int4, &[3, 1], &[0x8f, 0x07]);
    assert_eq!(dequantised(signed, one(), packed(DataType::Int4, &[], &[0]), vec![]), [-1.0, -8.0, 7.0]);
    let unsigned = packed(DataType::Uint4, &[3, 1], &[0x8f, 0x07]);
    let zero = integers(DataType::Uint4, &[], &[1]);
    assert_eq!(dequantised(unsigned, one(), zero, vec![]), [14.0, 7.0, 6.0]);
    // Rows 0 and 1 are the first block, row 2 begins another.
    let blocks = vec![ai("axis", 0), ai("block_size", 2)];
    let rows = int8(&[3, 2], &[1, 2, 3, 4, 5, 6]);
    let scale = floats(&[2, 2], vec![1.0, 10.0, 100.0, 1000.0]);
    let zero = int8(&[2, 2], &[0, 0, 1, 0]);
    assert_eq!(dequantised(rows, scale, zero, blocks), [1.0, 20.0, 3.0, 40.0, 400.0, 6000.0]);
}

/// Both domains' operators, and integers that are moved in between.
#[test]
fn tensors_stay_floats_between_both_operators() {
    for domain in ["", "com.microsoft"] {
        let net = net("N,1,4,4")
            .tensor("z16", integers(DataType::Uint16, &[], &[100]))
            .node("QuantizeLinear", "x,s,z16", "q", vec![])
            .domain(domain)
            .node("MaxPool", "q", "p", vec![ais("kernel_shape", &[2, 2])])
            .node("DequantizeLinear", "p,s,z16", "y", vec![])
            .domain(domain)
            .output("y");
        let text = net.show();
        assert!(text.contains("%2 = clip %x, min=-50.0, max=32717.5"), "{text}");
        assert!(text.ends_with("max_pool %2, kernel=[2,2], strides=[1,1], pads=[0,0,0,0], dilations=[1,1] : f32[N,1,3,3] ; \"MaxPool_1\""), "{text}");
    }
}

/// Dequantised by another scale than their own, integers are scaled and shifted as integers are.
#[test]
fn another_scale_is_no_mistake() {
    let net = net("N,2")
        .floats("other", &[], vec![1.0])
        .node("QuantizeLinear", "x,s,z", "q", vec![])
        .node("DequantizeLinear", "q,other", "y", vec![])
        .output("y");
    // q - 0 = x / 0.5 + 128.
    assert_snapshot!(net.show(), @r#"
    @y.scale: f32[] = [2.0]
    @y.shift: f32[] = [128.0]
    %x = input : f32[N,2] ; "x"
    %2 = clip %x, min=-64.0, max=63.5 : f32[N,2] ; "QuantizeLinear_0"
    %4 = mul %2, @y.scale : f32[N,2] ; "DequantizeLinear_1"
    %6 = add %4, @y.shift : f32[N,2] ; "DequantizeLinear_1"
    "#);
    let mixed = self::net("N,2")
        .floats("other", &[], vec![1.0])
        .node("QuantizeLinear", "x,s,z", "q", vec![])
        .node("QuantizeLinear", "x,other,z", "r", vec![])
        .node("Concat", "q,r", "c", vec![ai("axis", 1)])
        .node("DequantizeLinear", "c,s,z", "y", vec![])
        .output("y");
    assert!(mixed.show().contains("got integers of several scales, expected one scale"), "{}", mixed.show());
    let used = self::net("N,2")
        .node("QuantizeLinear", "x,s,z", "q", vec![])
        .node("Relu", "q", "y", vec![])
        .output("y");
    assert!(used.show().contains(r#"input 0, "q", is a tensor of integers"#), "{}", used.show());
    let floats = self::net("N,2").node("DequantizeLinear", "x,s,z", "y", vec![]).output("y");
    assert!(floats.show().contains("input 0 is no tensor of integers"), "{}", floats.show());
}

#[test]
fn a_convolution_of_integers_is_one_of_floats() {
    let net = net("N,1,3,3")
        .tensor("w", int8(&[2, 1, 1, 1], &[4, -8]))
        .floats("sc", &[2], vec![0.25, 0.5])
        .tensor("zc", int8(&[2], &[0, 2]))
        .tensor("b", integers(DataType::Int32, &[2], &[16, 32]))
        .node("QuantizeLinear", "x,s,z", "q", vec![])
        .node("QLinearConv", "q,s,z,w,sc,zc,s,z,b", "r", vec![])
        .node("DequantizeLinear", "r,s,z", "y", vec![])
        .output("y");
    assert_snapshot!(net.show(), @r#"
    @r.1: f32[2,1,1,1] = [1.0, -5.0]
    @r.2: f32[2] = [2.0, 8.0]
    %x = input : f32[N,1,3,3] ; "x"
    %2 = clip %x, min=-64.0, max=63.5 : f32[N,1,3,3] ; "QuantizeLinear_0"
    %5 = conv %2, @r.1, @r.2, kernel=[1,1], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1 : f32[N,2,3,3] ; "QLinearConv_1"
    %6 = clip %5, min=-64.0, max=63.5 : f32[N,2,3,3] ; "QLinearConv_1"
    "#);
}

/// Each operator of ONNX Runtime on integers is the plain one between clips.
#[test]
fn operators_on_integers_are_plain_ones() {
    let plain = |op: &str, inputs: &str, attributes: Vec<relc_onnx::proto::AttributeProto>| {
        let net = net("N,2,3,3")
            .node("QuantizeLinear", "x,s,z", "q", vec![])
            .node(op, inputs, "r", attributes)
            .domain("com.microsoft")
            .node("DequantizeLinear", "r,s,z", "y", vec![])
            .output("y");
        let text = net.show();
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('%')).skip(2).collect();
        lines
            .iter()
            .map(|l| l.split(" : ").next().unwrap().split_once("= ").unwrap().1)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_snapshot!(plain("QLinearAdd", "q,s,z,q,s,z,s,z", vec![]), @"add %2, %2; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearMul", "q,s,z,q,s,z,s,z", vec![]), @"mul %2, %2; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearSigmoid", "q,s,z,s,z", vec![]), @"sigmoid %2; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearLeakyRelu", "q,s,z,s,z", vec![af("alpha", 0.5)]), @"leaky_relu %2, alpha=0.5; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearGlobalAveragePool", "q,s,z,s,z", vec![ai("channels_last", 0)]), @"global_average_pool %2; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearAveragePool", "q,s,z,s,z", vec![ais("kernel_shape", &[3, 3])]), @"average_pool %2, kernel=[3,3], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], count_include_pad=no; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearConcat", "s,z,q,s,z,q,s,z", vec![ai("axis", 1)]), @"concat %2, %2, axis=1; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearReduceMean", "q,s,z,s,z", vec![ais("axes", &[2, 3])]), @"reduce_mean %2, axes=[2,3], keepdims=yes; clip %3, min=-64.0, max=63.5");
    assert_snapshot!(plain("QLinearSoftmax", "q,s,z,s,z", vec![ai("opset", 13), ai("axis", 1)]), @"softmax %2, axis=1");
    let last = net("N,2,3,3")
        .node("QuantizeLinear", "x,s,z", "q", vec![])
        .node("QLinearGlobalAveragePool", "q,s,z,s,z", "y", vec![ai("channels_last", 1)])
        .domain("com.microsoft")
        .output("y");
    assert!(last.show().contains("got channels_last=1"), "{}", last.show());
}

#[test]
fn products_of_integer_matrices() {
    let head = |op: &str, inputs: &str, attributes| {
        let net = net("N,2")
            .tensor("w", int8(&[2, 2], &[1, 2, 3, 4]))
            .floats("sc", &[2], vec![0.5, 1.0])
            .tensor("b", integers(DataType::Int32, &[2], &[4, 8]))
            .floats("bf", &[2], vec![4.0, 8.0])
            .node("QuantizeLinear", "x,s,z", "q", vec![])
            .node(op, inputs, "y", attributes)
            .output("y");
        if op == "QLinearMatMul" { net } else { net.domain("com.microsoft") }
    };
    let weights = |net: Net| -> Vec<Vec<f32>> {
        net.import()
            .unwrap_or_else(|e| panic!("{e}"))
            .graph
            .weights()
            .map(|w| w.data().unwrap().to_vec())
            .collect()
    };
    let by_column = vec![0.5, 2.0, 1.5, 4.0];
    assert_eq!(weights(head("QLinearMatMul", "q,s,z,w,sc,zw,s,z", vec![])), std::slice::from_ref(&by_column));
    // The bias has the scale 0.5 * [0.5, 1].
    assert_eq!(weights(head("QGemm", "q,s,z,w,sc,zw,b", vec![])), [by_column.clone(), vec![1.0, 4.0]]);
    let transposed = weights(head("QGemm", "q,s,z,w,sc,zw,b", vec![ai("transB", 1), af("alpha", 2.0)]));
    assert_eq!(transposed, [vec![1.0, 2.0, 6.0, 8.0], vec![2.0, 8.0]]);
    assert_eq!(
        weights(head("MatMulIntegerToFloat", "q,w,s,sc,z,zw,bf", vec![])),
        [by_column.clone(), vec![4.0, 8.0]]
    );
    assert_eq!(weights(head("DynamicQuantizeMatMul", "x,w,sc,zw,bf", vec![])), [by_column, vec![4.0, 8.0]]);
}

/// A product with a weight of four bits in blocks: columns of `[1, 2, 3]` and `[4, 5, 6]`, blocks of two.
#[test]
fn weights_in_blocks_of_bits() {
    let product = |inputs: &str, attributes: Vec<relc_onnx::proto::AttributeProto>| {
        Net::new(17)
            .input("x", "N,3")
            .tensor("w", integers(DataType::Uint8, &[2, 2, 1], &[0x21, 0x03, 0x54, 0x06]))
            .floats("s", &[4], vec![1.0, 10.0, 100.0, 1000.0])
            .tensor("z", integers(DataType::Uint8, &[2], &[0x10, 0x32]))
            .floats("bias", &[2], vec![7.0, 8.0])
            .node("MatMulNBits", inputs, "y", attributes)
            .domain("com.microsoft")
            .output("y")
    };
    let attributes = |k| vec![ai("K", k), ai("N", 2), ai("bits", 4), ai("block_size", 2)];
    let weights = |net: &Net| -> Vec<Vec<f32>> {
        let graph = net.import().unwrap_or_else(|e| panic!("{e}")).graph;
        graph.weights().map(|w| w.data().unwrap().to_vec()).collect()
    };
    let with_zeros = [vec![1.0, 200.0, 2.0, 300.0, 20.0, 3000.0], vec![7.0, 8.0]];
    assert_eq!(weights(&product("x,w,s,z,,bias", attributes(3))), with_zeros);
    assert_eq!(weights(&product("x,w,s", attributes(3))), [[-7.0, -400.0, -6.0, -300.0, -50.0, -2000.0]]);
    let text = product("x,w,s", attributes(300)).show();
    assert!(text.contains("got 4 bytes, 4 scales and 4 zero points for 2 columns of 150 blocks"), "{text}");
}

/// The scale that the data decides cancels.
#[test]
fn dynamic_quantisation_is_the_layer_of_floats() {
    let layer = |op: &str, dims: &str, weight_: TensorProto, scales: &str| {
        let net =
            net(dims).tensor("w", weight_).floats("one", &[], vec![1.0]).floats("bias", &[1], vec![3.0]);
        let net = net
            .node("DynamicQuantizeLinear", "x", "q,qs,qz", vec![])
            .node(op, "q,w,qz,zw", "i", vec![])
            .node("Cast", "i", "f", vec![ai("to", DataType::Float as i64)])
            .node("Mul", scales, "fs", vec![])
            .node("Mul", "f,fs", "m", vec![])
            .node("Add", "m,bias", "y", vec![]);
        net.output("y")
    };
    let conv = layer("ConvInteger", "N,1,3,3", int8(&[1, 1, 1, 1], &[8]), "qs,sw");
    assert_snapshot!(conv.show(), @r#"
    @m.weight: f32[1,1,1,1] = [2.0]
    @bias: f32[1] = [3.0]
    %x = input : f32[N,1,3,3] ; "x"
    %3 = conv %x, @m.weight, kernel=[1,1], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1 : f32[N,1,3,3] ; "Mul_4"
    %5 = add %3, @bias : f32[N,1,3,3] ; "Add_5"
    "#);
    let matmul = layer("MatMulInteger", "N,2", int8(&[2, 1], &[8, -4]), "sw,qs");
    assert_snapshot!(matmul.show(), @r#"
    @m.weight: f32[2,1] = [2.0, -1.0]
    @bias: f32[1] = [3.0]
    %x = input : f32[N,2] ; "x"
    %3 = matmul %x, @m.weight : f32[N,1] ; "Mul_4"
    %5 = add %3, @bias : f32[N,1] ; "Add_5"
    "#);
    // A weight that the graph computes is quantised by its own range, here -1 to 254.
    let computed = net("N,3")
        .floats("w", &[3, 1], vec![-1.0, 100.4, 254.0])
        .node("DynamicQuantizeLinear", "w", "q,qs,qz", vec![])
        .node("DequantizeLinear", "q,qs,qz", "d", vec![])
        .node("MatMul", "x,d", "y", vec![])
        .output("y");
    assert_eq!(weight(&computed, "d"), [-1.0, 100.0, 254.0]);
    let direct = net("N,2").node("DynamicQuantizeLinear", "x", "q,qs,qz", vec![]);
    let direct = direct.node("DequantizeLinear", "q,qs,qz", "d", vec![]).node("Relu", "d", "y", vec![]);
    assert!(direct.output("y").show().contains("relu %x"));
    let unscaled = layer("MatMulInteger", "N,2", int8(&[2, 1], &[8, -4]), "sw,one").show();
    assert!(unscaled.contains("is part of a dynamic quantisation"), "{unscaled}");
}

/// An input of integers is one of floats behind its cast, its dequantisation or its move.
#[test]
fn inputs_of_integers_are_read_as_floats() {
    for (ty, limits) in [
        (DataType::Uint8, (0.0, 255.0)),
        (DataType::Int8, (-128.0, 127.0)),
        (DataType::Int32, (f64::from(i32::MIN), f64::from(i32::MAX))),
    ] {
        let net = Net::new(13)
            .typed_input("x", "N,4,4,3", ty)
            .node("Transpose", "x", "t", vec![ais("perm", &[0, 3, 1, 2])])
            .node("Cast", "t", "y", vec![ai("to", DataType::Float as i64)])
            .output("y");
        let imported = net.import().unwrap();
        assert_eq!(imported.input_limits, Some(limits));
        assert!(imported.graph.notes[0].contains("read as floats"), "{:?}", imported.graph.notes);
        assert!(
            net.show().ends_with(r#"transpose %x, perm=[0,3,1,2] : f32[N,3,4,4] ; "Transpose_0""#),
            "{}",
            net.show()
        );
    }
    let narrow = Net::new(13)
        .typed_input("x", "N,2", DataType::Int32)
        .node("Cast", "x", "y", vec![ai("to", DataType::Uint8 as i64)])
        .output("y");
    assert!(narrow.show().contains("got a cast of integers from -2147483648 to 2147483647 to uint8"));
    let divided = Net::new(13)
        .typed_input("x", "N,2", DataType::Uint8)
        .tensor("two", integers(DataType::Uint8, &[], &[2]))
        .node("Div", "x,two", "y", vec![])
        .output("y");
    assert!(divided.show().contains("is a tensor of integers"), "{}", divided.show());
    let per_channel = Net::new(13)
        .typed_input("x", "N,2,1,1", DataType::Uint8)
        .floats("s", &[2], vec![0.5, 0.25])
        .tensor("z", integers(DataType::Uint8, &[2], &[128, 0]))
        .node("DequantizeLinear", "x,s,z", "y", vec![])
        .output("y");
    assert_snapshot!(per_channel.show(), @r#"
    @y.scale: f32[1,2,1,1] = [0.5, 0.25]
    @y.shift: f32[1,2,1,1] = [-64.0, 0.0]
    %x = input : f32[N,2,1,1] ; "x"
    %3 = mul %x, @y.scale : f32[N,2,1,1] ; "DequantizeLinear_0"
    %5 = add %3, @y.shift : f32[N,2,1,1] ; "DequantizeLinear_0"
    "#);
    let boolean = Net::new(13)
        .typed_input("x", "N,2", DataType::Bool)
        .node("Cast", "x", "y", vec![ai("to", DataType::Float as i64)])
        .output("y");
    assert!(
        boolean.show().contains("got elements of bool, expected floats or integers"),
        "{}",
        boolean.show()
    );
}

/// Before opset 14, more than one output means the batch's own statistics.
#[test]
fn batch_normalization_in_training_form_is_refused() {
    let norm = |opset, outputs| {
        Net::new(opset)
            .input("x", "N,2,3,3")
            .weights(&[("a", &[2]), ("b", &[2]), ("m", &[2]), ("v", &[2])])
            .node("BatchNormalization", "x,a,b,m,v", outputs, vec![])
            .output("y")
            .show()
    };
    let text = norm(9, "y,m1,v1,sm,sv");
    assert!(text.contains("got 5 outputs, which before opset 14 mean training"), "{text}");
    assert!(text.contains("export the model in evaluation mode"), "{text}");
    assert!(norm(13, "y,m1").contains("got 2 outputs"));
    for text in [norm(9, "y,,,,"), norm(15, "y")] {
        assert!(!text.contains("imported"), "{text}");
    }
}
