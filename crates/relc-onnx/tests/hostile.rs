//! Models that are malformed, unsupported or malicious: one clear error each.

mod common;

use common::*;
use insta::assert_snapshot;
use relc_onnx::proto::tensor_proto::{DataLocation, DataType};
use relc_onnx::proto::{
    OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto, Unread, type_proto,
};
use relc_onnx::{ImportOptions, IssueKind, import_bytes, import_path, import_path_with};

#[test]
fn all_unsupported_nodes_are_in_one_error() {
    let mut net = Net::new(17)
        .input("x", "N,2,4,4")
        .weights(&[("w", &[3, 2, 1, 1])])
        .node("Det", "x", "a", vec![])
        .node("Conv", "x,w", "b", vec![text("auto_pad", "NEVER")])
        .node("Relu", "a", "c", vec![])
        .node("MaxPool", "x", "d,indices", vec![ais("kernel_shape", &[2, 2])])
        .node("Sum", "b,c,d", "e", vec![])
        .node("Fancy", "e,indices", "y", vec![])
        .node("Unused", "x", "z", vec![])
        .output("y");
    net.graph().node[5].domain = Some("com.example".into());
    net.model.opset_import.push(OperatorSetIdProto { domain: Some("com.example".into()), version: Some(3) });
    assert_snapshot!(net.show(), @r#"
    4 node(s) can't be imported:
      unsupported: node "Det_0" (Det, ai.onnx opset 17): relc has no such operator
      invalid: node "Conv_1" (Conv, ai.onnx opset 17): got auto_pad=NEVER, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER
      unsupported: node "MaxPool_3" (MaxPool, ai.onnx opset 17): output 1, "indices", is used; supported: pooling over one to three axes of f32[N,C,..]; output 0
      unsupported: node "Fancy_5" (Fancy, com.example opset 3): relc imports operators of the domains ai.onnx and com.microsoft only
    supported operators (ai.onnx): Abs, Add, And, AveragePool, BatchNormalization, Cast, CastLike, Ceil, Celu, Clip, Concat, Constant, ConstantOfShape, Conv, ConvInteger, ConvTranspose, DepthToSpace, DequantizeLinear, Div, Dropout, DynamicQuantizeLinear, Einsum, Elu, Equal, Erf, Exp, Expand, Flatten, Floor, Gather, Gelu, Gemm, GlobalAveragePool, GlobalMaxPool, Greater, GreaterOrEqual, GroupNormalization, HardSigmoid, HardSwish, Identity, If, InstanceNormalization, LRN, LayerNormalization, LeakyRelu, Less, LessOrEqual, Log, LogSoftmax, MatMul, MatMulInteger, Max, MaxPool, Mean, MeanVarianceNormalization, Min, Mish, Mod, Mul, Neg, Not, Or, PRelu, Pad, Pow, QLinearConv, QLinearMatMul, QuantizeLinear, Range, Reciprocal, ReduceL2, ReduceMax, ReduceMean, ReduceProd, ReduceSum, ReduceSumSquare, Relu, Reshape, Resize, ScatterND, Selu, Shape, Sigmoid, Size, Slice, Softmax, Softplus, Softsign, SpaceToDepth, Split, Sqrt, Squeeze, Sub, Sum, Swish, Tanh, ThresholdedRelu, Transpose, Unsqueeze, Upsample, Where
    "#);
    let Err(relc_onnx::ImportError::Nodes(issues)) = net.import() else { panic!("nodes are unsupported") };
    let kinds: Vec<IssueKind> = issues.0.iter().map(|i| i.kind).collect();
    use IssueKind::{Invalid, Unsupported};
    assert_eq!(kinds, [Unsupported, Invalid, Unsupported, Unsupported]);
}

#[test]
fn control_flow_is_refused_with_a_remedy() {
    let mut net = one(17, "N,2", "If", vec![graph_attribute("then_branch", Net::new(17))]);
    assert_snapshot!(net.show(), @r#"
    1 node(s) can't be imported:
      invalid: node "If_0" (If, ai.onnx opset 17): got no then_branch and else_branch with as many outputs as the node, expected both
    "#);
    net.graph().node[0].op_type = Some("Loop".into());
    assert_snapshot!(net.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "If_0" (Loop, ai.onnx opset 17): it is control flow: one of its attributes is a subgraph, expected none but the branches of If: simplify the model with fixed shapes (onnxsim), or export it without loops
    "#);
}

#[test]
fn hints_never_name_the_operator_itself() {
    let mut net = one(17, "N,2", "Conv", vec![]);
    net.graph().node[0].domain = Some("com.microsoft".into());
    let text = net.show();
    assert!(text.contains("relc has no such operator (it knows that of the domain ai.onnx)"), "{text}");
    net.graph().node[0].op_type = Some("NhwcConv".into());
    let text = net.show();
    assert!(text.contains("save the optimised model with the level extended"), "{text}");
}

#[test]
fn opsets_outside_the_table_are_refused() {
    assert_snapshot!(one(6, "N,2", "Relu", vec![]).show(), @r#"
    got opset 6 for the domain ai.onnx, expected one opset from 7 to 28: export the model with another opset, or convert it (onnx.version_converter)
    "#);
    assert_snapshot!(one(29, "N,2", "Relu", vec![]).show(), @r#"
    got opset 29 for the domain ai.onnx, expected one opset from 7 to 28: export the model with another opset, or convert it (onnx.version_converter)
    "#);
    let mut net = one(17, "N,2", "Relu", vec![]);
    net.model.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx".into()), version: Some(18) });
    assert_snapshot!(net.show(), @r#"
    got the opsets [17, 18] for the domain ai.onnx, expected one opset from 7 to 28: export the model with another opset, or convert it (onnx.version_converter)
    "#);
    net.model.opset_import.clear();
    assert_snapshot!(net.show(), @r#"
    got no opset for the domain ai.onnx, expected one opset from 7 to 28: export the model with another opset, or convert it (onnx.version_converter)
    "#);
    assert_snapshot!(one(8, "N,2", "Where", vec![]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Where_0" (Where, ai.onnx opset 8): the operator is expected in the opsets 9 to 28
    "#);
    assert!(
        one(7, "N,2", "Relu", vec![]).import().is_ok() && one(23, "N,2", "Relu", vec![]).import().is_ok()
    );
}

#[test]
fn graphs_that_are_no_dag_of_defined_values() {
    let cycle = Net::new(17)
        .input("x", "N,2")
        .node("Add", "x,c", "a", vec![])
        .node("Relu", "a", "b", vec![])
        .node("Relu", "b", "c", vec![])
        .output("c");
    assert_snapshot!(cycle.show(), @r#"the graph has a cycle through the nodes "Relu_1" -> "Relu_2" -> "Add_0", expected none"#);
    let missing = Net::new(17).input("x", "N,2").node("Add", "x,w", "a", vec![]).output("b");
    assert_snapshot!(missing.show(), @r#"nothing defines "w" (used by node "Add_0", Add); "b" (an output of the model); expected an initialiser, an input or a node of that name (was the model saved without its weights?)"#);
    let twice = Net::new(17)
        .input("x", "N,2")
        .node("Relu", "x", "y", vec![])
        .node("Sigmoid", "x", "y", vec![])
        .output("y");
    assert_snapshot!(twice.show(), @r#"the value "y" is defined twice, as an output of node "Relu_0" and as an output of node "Sigmoid_1", expected one definition"#);
    let shadowed = one(17, "N,2", "Relu", vec![]).weights(&[("y", &[2])]);
    assert_snapshot!(shadowed.show(), @r#"the value "y" is defined twice, as an initialiser and as an output of node "Relu_0", expected one definition"#);
    let initializers = one(17, "N,2", "Relu", vec![]).weights(&[("w", &[2]), ("w", &[2])]);
    assert_snapshot!(initializers.show(), @r#"the value "w" is defined twice, as an initialiser and as an initialiser, expected one definition"#);
}

#[test]
fn nodes_in_any_order_are_sorted() {
    let net = Net::new(17)
        .input("x", "N,2")
        .node("Sigmoid", "a", "y", vec![])
        .node("Relu", "x", "a", vec![])
        .output("y");
    assert_snapshot!(net.show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_1"
    %3 = sigmoid %2 : f32[N,2] ; "Sigmoid_0"
    "#);
}

#[test]
fn inputs_and_outputs_are_one_each() {
    let two = Net::new(17).input("x", "N,2").input("z", "N,2").node("Add", "x,z", "y", vec![]).output("y");
    assert_snapshot!(two.show(), @r#"got 2 inputs of floats ("x", "z"), expected one: hold all others constant (--hold NAME=VALUE)"#);
    let none = Net::new(17).weights(&[("w", &[2])]).node("Relu", "w", "y", vec![]).output("y");
    assert_snapshot!(none.show(), @"got 0 inputs of floats (), expected one");
    let outputs = one(17, "N,2", "Relu", vec![]).node("Sigmoid", "x", "z", vec![]).output("z");
    assert_snapshot!(outputs.show(), @r#"
    got 2 outputs ("y", "z"), expected one: name the one to explain (--output NAME)
    "#);
    assert_snapshot!(Net::new(17).input("x", "N,2").node("Relu", "x", "y", vec![]).show(), @r#"
    got 0 outputs (), expected one: name the one to explain (--output NAME)
    "#);
    let constant = Net::new(17).input("x", "N,2").weights(&[("w", &[2])]).node("Identity", "w", "y", vec![]);
    assert_snapshot!(constant.output("y").show(), @r#"the output "y" is a constant, expected it to depend on the input"#);
    // An integer input that nobody uses is no matter; one that is used is an issue of the node.
    let extra = one(17, "N,2", "Relu", vec![]).typed_input("steps", "1", DataType::Int64);
    assert!(extra.import().is_ok());
    let used = extra.node("Reshape", "y,steps", "z", vec![]).output("z");
    let mut used = used;
    used.graph().output.remove(0);
    assert_snapshot!(used.show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Reshape_1" (Reshape, ai.onnx opset 17): input 1 is "steps": an input of int64, expected floats; supported: constant shapes
    "#);
}

#[test]
fn initialisers_listed_as_inputs_are_no_inputs() {
    let mut net = Net::new(8).weights(&[("w", &[2])]).node("Mul", "x,w", "y", vec![]).output("y");
    net.model.ir_version = Some(3);
    net.graph().input = vec![info("w", "2", DataType::Float), info("x", "N,2", DataType::Float)];
    assert_snapshot!(net.show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2] ; "x"
    %3 = mul %x, @w : f32[N,2] ; "Mul_0"
    "#);
}

#[test]
fn input_shapes() {
    let input = |dims| one(17, dims, "Relu", vec![]).show();
    assert_snapshot!(input("0,2"), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_0"
    "#);
    assert_snapshot!(input("-1,2"), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_0"
    "#);
    assert_snapshot!(input("5,2"), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = relu %x : f32[N,2] ; "Relu_0"
    "#);
    assert_snapshot!(input("N,3,height,-1"), @r#"
    input "x": dimension 2 is the symbol "height", dimension 3 is unknown: only the first dimension, the batch, may be dynamic; state the shape (--input-shape N,3,224,224)
    "#);
    assert_snapshot!(input("N,-5"), @r#"input "x": got -5 for dimension 1, expected a size or a symbol"#);
    assert_snapshot!(input("-9223372036854775808,2"), @r#"input "x": got -9223372036854775808 for dimension 0, expected a size or a symbol"#);
    assert_snapshot!(input("N,9223372036854775807"), @r#"input "x": got f32[N,9223372036854775807], expected at most 4294967296 elements per sample"#);
    assert_snapshot!(input("N,4294967296,4294967296"), @r#"input "x": got f32[N,4294967296,4294967296], expected at most 4294967296 elements per sample"#);
    assert_snapshot!(input(""), @r#"input "x": got 0 dimensions, expected 1 to 16, the first being the batch"#);
    let typed = |ty| {
        let net = Net::new(17).typed_input("x", "N,2", ty).node("Relu", "x", "y", vec![]).output("y");
        net.show()
    };
    assert_snapshot!(typed(DataType::String), @r#"input "x": got elements of string, expected floats or integers: export the model with a float input, its conversion left to the caller"#);
    assert!(typed(DataType::Int64).contains(r#"input 0, "x", is a tensor of integers"#));
    assert!(typed(DataType::Float16).contains("relu"));
    let mut shapeless = one(17, "N,2", "Relu", vec![]);
    if let Some(type_proto::Value::TensorType(t)) =
        &mut shapeless.graph().input[0].r#type.as_mut().unwrap().value
    {
        t.shape = None;
    }
    assert_snapshot!(shapeless.show(), @r#"input "x": got no shape, expected one: export the model with its input's shape"#);
    shapeless.graph().input[0].r#type = None;
    assert_snapshot!(shapeless.show(), @r#"input "x": got no type of a dense tensor, expected a tensor of floats"#);
}

/// `x + w` with the given tensor as `w`.
fn with_tensor(tensor: TensorProto) -> Net {
    Net::new(17).input("x", "N,2").tensor("w", tensor).node("Add", "x,w", "y", vec![]).output("y")
}

fn raw(ty: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(ty as i32),
        raw_data: Some(bytes.into()),
        ..Default::default()
    }
}

#[test]
fn floats_of_all_widths_become_f32() {
    let values = |t: TensorProto| with_tensor(t).show().lines().next().unwrap().to_string();
    let doubles = [1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_snapshot!(values(raw(DataType::Double, &[2], doubles)), @"@w: f32[2] = [1.5, -2.0]");
    assert_snapshot!(values(raw(DataType::Float, &[2], [1.5f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect())), @"@w: f32[2] = [1.5, 2.0]");
    assert_snapshot!(values(raw(DataType::Float16, &[2], vec![0x00, 0x3c, 0x00, 0xc0])), @"@w: f32[2] = [1.0, -2.0]");
    assert_snapshot!(values(raw(DataType::Bfloat16, &[2], vec![0x80, 0x3f, 0x00, 0xc0])), @"@w: f32[2] = [1.0, -2.0]");
    let half = TensorProto { int32_data: vec![0x3c00, 0xc000], ..raw(DataType::Float16, &[2], vec![]) };
    assert_snapshot!(values(half), @"@w: f32[2] = [1.0, -2.0]");
}

#[test]
fn integers_of_all_widths_are_shapes() {
    let shape = |t| {
        let net =
            Net::new(17).input("x", "N,6").tensor("s", t).node("Reshape", "x,s", "y", vec![]).output("y");
        let text = net.show();
        text.lines().last().unwrap().to_string()
    };
    let expected = shape(ints(&[3], &[-1, 2, 3]));
    assert_snapshot!(expected, @r#"%2 = reshape %x, shape=[N,2,3] : f32[N,2,3] ; "Reshape_0""#);
    let i32s = TensorProto {
        data_type: Some(DataType::Int32 as i32),
        int32_data: vec![-1, 2, 3],
        dims: vec![3],
        ..Default::default()
    };
    assert_eq!(shape(i32s), expected);
    let bytes = [-1i32, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(shape(raw(DataType::Int32, &[3], bytes)), expected);
    let bytes = [-1i64, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(shape(raw(DataType::Int64, &[3], bytes)), expected);
    assert_eq!(shape(raw(DataType::Int8, &[3], vec![0xff, 2, 3])), expected);
    assert_snapshot!(shape(raw(DataType::Uint8, &[3], vec![0, 3, 2])), @r#"%2 = reshape %x, shape=[N,3,2] : f32[N,3,2] ; "Reshape_0""#);
    assert_snapshot!(shape(raw(DataType::Bool, &[1], vec![2])), @r#"  unsupported: node "Reshape_0" (Reshape, ai.onnx opset 17): got f32[N,6] and the shape [1], which fixes the batch: export the model with a fixed batch, or with -1 or 0 there; supported: constant shapes"#);
}

#[test]
fn tensors_that_are_not_what_they_say() {
    assert_snapshot!(with_tensor(raw(DataType::Float, &[2], vec![0; 7])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 7 bytes, expected 8 for the shape [2]
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Float, &[-2], vec![])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got the shape [-2], expected no negative size
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Float, &[i64::MAX, 2], vec![0; 8])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": the number of elements of the shape [9223372036854775807, 2] overflows
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Float, &[1 << 40], vec![])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 0 bytes, expected 4398046511104 for the shape [1099511627776]
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Float, &[0], vec![])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): weight "w": got f32[0], expected no dimension of 0
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Float, &[1; 17], vec![0; 4])).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 17 dimensions, expected at most 16; supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(with_tensor(raw(DataType::String, &[2], vec![])).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got elements of string, expected float, double, float16, bfloat16, bool or integers of 4 to 64 bits (not uint32 and uint64); supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(with_tensor(TensorProto { data_type: Some(99), ..Default::default() }).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got elements of element type 99, expected float, double, float16, bfloat16, bool or integers of 4 to 64 bits (not uint32 and uint64); supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(with_tensor(floats(&[3], vec![1.0; 2])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 2 elements, expected 3 for the shape
    "#);
    let both = TensorProto { float_data: vec![1.0; 2], ..raw(DataType::Float, &[2], vec![0; 8]) };
    assert_snapshot!(with_tensor(both).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got elements in raw_data and in a typed field, expected one of them
    "#);
    let segment = TensorProto { segment: Some(Unread {}), ..floats(&[2], vec![1.0; 2]) };
    assert_snapshot!(with_tensor(segment).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got a tensor in segments, expected one in a piece; supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(with_tensor(floats(&[2], vec![1.0, f32::NAN])).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w" holds NaN (element 1), expected finite weights
    "#);
    assert_snapshot!(with_tensor(raw(DataType::Double, &[2], [0.0, 1e300f64].iter().flat_map(|v| v.to_le_bytes()).collect())).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w" holds inf (element 1), expected finite weights
    "#);
    let unused = one(17, "N,2", "Relu", vec![]).floats("w", &[1], vec![f32::INFINITY]);
    assert!(unused.import().is_ok(), "a tensor that no node uses does not matter");
}

#[test]
fn sparse_tensors_become_dense() {
    let sparse = |indices: TensorProto| {
        let mut net = Net::new(17).input("x", "N,2,3").node("Add", "x,w", "y", vec![]).output("y");
        let values = TensorProto { name: Some("w".into()), ..floats(&[2], vec![1.5, 2.5]) };
        let tensor = SparseTensorProto { values: Some(values), indices: Some(indices), dims: vec![2, 3] };
        net.graph().sparse_initializer.push(tensor);
        net.show().lines().next_back().unwrap().to_string() + net.show().lines().next().unwrap()
    };
    let dense = "@w: f32[2,3] = [0.0, 1.5, 0.0, 0.0, 0.0, 2.5]";
    assert!(sparse(ints(&[2], &[1, 5])).ends_with(dense), "{}", sparse(ints(&[2], &[1, 5])));
    assert!(sparse(ints(&[2, 2], &[0, 1, 1, 2])).ends_with(dense));
    for wrong in [ints(&[2], &[1, 6]), ints(&[2], &[-1, 5]), ints(&[2, 2], &[0, 1, 2, 0])] {
        assert!(sparse(wrong).contains("the tensor \"w\": got an index outside the shape [2, 3]"));
    }
    assert!(sparse(ints(&[1], &[1])).contains("got 2 values and 1 indices"));
    assert!(sparse(ints(&[2, 3], &[0; 6])).contains("got indices of shape [2, 3]"));
}

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(k, v): &(&str, &str)| StringStringEntryProto {
        key: Some(k.to_string()),
        value: Some(v.to_string()),
    };
    TensorProto {
        dims: vec![2],
        data_type: Some(DataType::Float as i32),
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    }
}

#[test]
fn external_data_is_read_from_the_models_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    std::fs::create_dir_all(inner.join("data")).unwrap();
    let weights: Vec<u8> = [9.0f32, 1.5, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(inner.join("data/w.bin"), &weights).unwrap();
    std::fs::write(folder.path().join("secret.bin"), &weights).unwrap();
    let show = |entries: &[(&str, &str)]| {
        let path = inner.join("net.onnx");
        std::fs::write(&path, with_tensor(external(entries)).bytes()).unwrap();
        match import_path(&path) {
            Ok(imported) => format!("{:?}", imported.graph.weights().next().unwrap().data().unwrap()),
            Err(error) => error.to_string().lines().last().unwrap().to_string(),
        }
    };
    assert_snapshot!(show(&[("location", "data/w.bin"), ("offset", "4"), ("length", "8")]), @"[1.5, 2.5]");
    assert_snapshot!(show(&[("location", "./data/w.bin"), ("offset", "4")]), @"[1.5, 2.5]");
    assert_snapshot!(show(&[("location", "data/w.bin")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 12 bytes at 0 of external data "data/w.bin" (12 bytes), expected 8 for the shape"#);
    assert_snapshot!(show(&[("location", "data/w.bin"), ("offset", "8"), ("length", "8")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got 8 bytes at 8 of external data "data/w.bin" (12 bytes), expected 8 for the shape"#);
    assert_snapshot!(show(&[("location", "data/w.bin"), ("offset", "13"), ("length", "8")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got offset 13 into external data "data/w.bin", which has 12 bytes"#);
    assert_snapshot!(show(&[("location", "data/w.bin"), ("offset", "18446744073709551615"), ("length", "8")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got offset 18446744073709551615 into external data "data/w.bin", which has 12 bytes"#);
    assert_snapshot!(show(&[("location", "data/w.bin"), ("offset", "-4")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data with offset "-4""#);
    assert_snapshot!(show(&[("location", "../secret.bin"), ("offset", "4")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "../secret.bin", expected a relative path inside the model's folder"#);
    assert_snapshot!(show(&[("location", "/etc/passwd")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "/etc/passwd", expected a relative path inside the model's folder"#);
    assert_snapshot!(show(&[("location", "")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "", expected a relative path inside the model's folder"#);
    assert_snapshot!(show(&[("location", "data")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "data", expected a regular file"#);
    assert_snapshot!(show(&[("location", "none.bin")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": can't read external data "none.bin": No such file or directory (os error 2); expected the file beside the model"#);
    assert_snapshot!(show(&[]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data without a location"#);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(inner.join("data/w.bin"), inner.join("inside.bin")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret.bin"), inner.join("link.bin")).unwrap();
        std::os::unix::fs::symlink(folder.path(), inner.join("up")).unwrap();
        assert_snapshot!(show(&[("location", "inside.bin"), ("offset", "4")]), @"[1.5, 2.5]");
        assert_snapshot!(show(&[("location", "link.bin"), ("offset", "4")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "link.bin", a link that leaves the model's folder: put the file itself beside the model"#);
        assert_snapshot!(show(&[("location", "up/secret.bin"), ("offset", "4")]), @r#"  invalid: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "up/secret.bin", a link that leaves the model's folder: put the file itself beside the model"#);
    }
    assert_snapshot!(with_tensor(external(&[("location", "w.bin")])).show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Add_0" (Add, ai.onnx opset 17): the tensor "w": got external data "w.bin" in a model given as bytes, expected a folder to read it from; supported: floats that broadcast; integers in shape arithmetic
    "#);
}

/// A download cache keeps a model and its data as links to files of other names in one folder.
#[cfg(unix)]
#[test]
fn external_data_may_lie_beside_the_file_that_a_model_links_to() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshots/revision"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    let weights: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let model = with_tensor(external(&[("location", "w.data")])).bytes();
    std::fs::write(blobs.join("0a"), &model).unwrap();
    std::fs::write(blobs.join("0b"), &weights).unwrap();
    std::fs::write(folder.path().join("secret"), &weights).unwrap();
    symlink("../../blobs/0a", snapshot.join("net.onnx")).unwrap();
    let import = || import_path(snapshot.join("net.onnx")).map_err(|e| e.to_string());
    // Beside the model's file, under the name that the model gives it.
    std::fs::write(blobs.join("w.data"), &weights).unwrap();
    assert!(import().is_ok(), "{:?}", import());
    std::fs::remove_file(blobs.join("w.data")).unwrap();
    assert!(import().unwrap_err().contains("expected the file beside the model"));
    // Beside the link, as a link of its own.
    symlink("../../blobs/0b", snapshot.join("w.data")).unwrap();
    assert!(import().is_ok(), "{:?}", import());
    std::fs::remove_file(snapshot.join("w.data")).unwrap();
    symlink("../../secret", snapshot.join("w.data")).unwrap();
    assert!(import().unwrap_err().contains("a link that leaves the model's folder: put the file itself"));
}

/// A sparse file of terabytes takes no room on the disk, and justifies none in memory.
#[cfg(unix)]
#[test]
fn the_length_of_a_sparse_file_justifies_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    const BYTES: u64 = 3 << 40;
    std::fs::File::create(folder.path().join("w.bin")).unwrap().set_len(BYTES).unwrap();
    let tensor = TensorProto { dims: vec![BYTES as i64 / 4], ..external(&[("location", "w.bin")]) };
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, with_tensor(tensor).bytes()).unwrap();
    let error = import_path(&path).unwrap_err().to_string();
    assert!(error.contains("more than the limit of 1.00 GiB"), "{error}");
    // A limit that allows it does not make the memory.
    let options = ImportOptions { constant_limit: u64::MAX, ..ImportOptions::default() };
    let error = import_path_with(&path, &options).unwrap_err().to_string();
    assert!(error.contains("more than there is memory"), "{error}");
    // Neither does the length of the model's own file.
    std::fs::File::create(&path).unwrap().set_len(BYTES).unwrap();
    let error = import_path(&path).unwrap_err().to_string();
    assert!(error.contains("expected a regular file of at most 2 GiB"), "{error}");
}

#[test]
fn files_that_are_no_models() {
    assert_snapshot!(import_bytes(Vec::new(), None).unwrap_err(), @"the model has no graph: not an ONNX model, or an empty one");
    assert_snapshot!(import_bytes(b"\x89PNG\r\n\x1a\n".to_vec(), None).unwrap_err(), @"not an ONNX model: got a field of 8 bytes where 6 are left; the file may be truncated");
    let folder = tempfile::tempdir().unwrap();
    let error = import_path(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder, expected a regular file"), "{error}");
    let error = import_path(folder.path().join("none.onnx")).unwrap_err().to_string();
    assert!(error.starts_with("can't read"), "{error}");
}

#[test]
fn malformed_nodes() {
    let relu = |change: fn(&mut relc_onnx::proto::NodeProto)| {
        let mut net = one(17, "N,2", "Relu", vec![]);
        change(&mut net.graph().node[0]);
        net.show()
    };
    assert_snapshot!(relu(|n| n.input.clear()), @r#"
    1 node(s) can't be imported:
      invalid: node "Relu_0" (Relu, ai.onnx opset 17): got 0 inputs, expected 1
    "#);
    assert_snapshot!(relu(|n| n.input = vec![String::new()]), @r#"
    1 node(s) can't be imported:
      invalid: node "Relu_0" (Relu, ai.onnx opset 17): input 0 is missing
    "#);
    assert_snapshot!(relu(|n| n.input.push("x".into())), @r#"
    1 node(s) can't be imported:
      invalid: node "Relu_0" (Relu, ai.onnx opset 17): got 2 inputs, expected 1
    "#);
    assert_snapshot!(relu(|n| n.attribute = vec![ai("a", 1), ai("a", 2)]), @r#"
    1 node(s) can't be imported:
      invalid: node "Relu_0" (Relu, ai.onnx opset 17): got the attribute "a" twice
    "#);
    assert_snapshot!(relu(|n| n.op_type = None), @r#"
    1 node(s) can't be imported:
      unsupported: node "Relu_0" (, ai.onnx opset 17): relc has no such operator
    supported operators (ai.onnx): Abs, Add, And, AveragePool, BatchNormalization, Cast, CastLike, Ceil, Celu, Clip, Concat, Constant, ConstantOfShape, Conv, ConvInteger, ConvTranspose, DepthToSpace, DequantizeLinear, Div, Dropout, DynamicQuantizeLinear, Einsum, Elu, Equal, Erf, Exp, Expand, Flatten, Floor, Gather, Gelu, Gemm, GlobalAveragePool, GlobalMaxPool, Greater, GreaterOrEqual, GroupNormalization, HardSigmoid, HardSwish, Identity, If, InstanceNormalization, LRN, LayerNormalization, LeakyRelu, Less, LessOrEqual, Log, LogSoftmax, MatMul, MatMulInteger, Max, MaxPool, Mean, MeanVarianceNormalization, Min, Mish, Mod, Mul, Neg, Not, Or, PRelu, Pad, Pow, QLinearConv, QLinearMatMul, QuantizeLinear, Range, Reciprocal, ReduceL2, ReduceMax, ReduceMean, ReduceProd, ReduceSum, ReduceSumSquare, Relu, Reshape, Resize, ScatterND, Selu, Shape, Sigmoid, Size, Slice, Softmax, Softplus, Softsign, SpaceToDepth, Split, Sqrt, Squeeze, Sub, Sum, Swish, Tanh, ThresholdedRelu, Transpose, Unsqueeze, Upsample, Where
    "#);
    assert_snapshot!(relu(|n| n.output.clear()), @r#"nothing defines "y" (an output of the model); expected an initialiser, an input or a node of that name (was the model saved without its weights?)"#);
    let sub = one(17, "N,2", "LeakyRelu", vec![af("alpha", f32::NAN)]);
    assert_snapshot!(sub.show(), @r#"
    1 node(s) can't be imported:
      invalid: node "LeakyRelu_0" (LeakyRelu, ai.onnx opset 17): the attribute "alpha" is NaN, expected a number
    "#);
    let all_constant = Net::new(17).input("x", "N,2").weights(&[("w", &[2])]).node("Relu", "w", "c", vec![]);
    assert_snapshot!(all_constant.node("Add", "x,c", "y", vec![]).output("y").show(), @r#"
    @c: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @c : f32[N,2] ; "Add_1"
    "#);
}

/// Small models, of which each byte is changed in turn: no panic, and what imports verifies.
#[test]
fn every_byte_of_a_model_may_be_wrong() {
    let net = Net::new(13)
        .input("x", "batch,2,6,6")
        .weights(&[("w", &[2, 2, 3, 3]), ("fc", &[2, 3])])
        .ints("minus_one", &[-1])
        .node("Conv", "x,w", "a", vec![ais("pads", &[1, 1, 1, 1]), ai("group", 1)])
        .node("Relu", "a", "b", vec![])
        .node("MaxPool", "b", "c", vec![ais("kernel_shape", &[2, 2]), ais("strides", &[2, 2])])
        .node("Slice", "shape,zero,one", "n", vec![])
        .node("Shape", "c", "shape", vec![])
        .ints("zero", &[0])
        .ints("one", &[1])
        .node("GlobalAveragePool", "c", "d", vec![])
        .node("Concat", "n,minus_one", "s", vec![ai("axis", 0)])
        .node("Reshape", "d,s", "e", vec![])
        .node("Gemm", "e,fc", "y", vec![af("alpha", 0.5)])
        .output("y");
    let bytes = net.bytes();
    assert!(net.show().contains("gemm"));
    let mut imported = 0;
    for i in 0..bytes.len() {
        for flip in [0x01, 0x08, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[i] ^= flip;
            if let Ok(model) = import_bytes(wrong, None) {
                relc_ir::verify(&model.graph).unwrap_or_else(|e| panic!("byte {i}: {e}"));
                imported += 1;
            }
        }
        let _ = import_bytes(bytes[..i].to_vec(), None);
    }
    assert!(imported > 0, "some bytes are only weights or names");
}
