//! Arithmetic, and the folding of shapes and constants.

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
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @w : f32[N,2] ; "Add_0"
    "#);
    assert_snapshot!(net("Sub", "v,x").show(), @r#"
    @v: f32[] = [0.25]
    %x = input : f32[N,2] ; "x"
    %3 = sub @v, %x : f32[N,2] ; "Sub_0"
    "#);
    assert_snapshot!(net("Mul", "x,x").show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = mul %x, %x : f32[N,2] ; "Mul_0"
    "#);
    assert_snapshot!(net("Div", "x,w").show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2] ; "x"
    %3 = div %x, @w : f32[N,2] ; "Div_0"
    "#);
    assert_snapshot!(net("Sum", "x,w,x").show(), @r#"
    @w: f32[2] = [0.25, 0.5]
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @w, %x : f32[N,2] ; "Sum_0"
    "#);
    let oldest =
        Net::new(7).input("x", "N,2").weights(&[("w", &[2])]).node("Sum", "x,w,x", "y", vec![]).output("y");
    assert_eq!(oldest.show(), net("Sum", "x,w,x").show());
    assert_snapshot!(net("Sum", "x").show(), @r#"
    %x = input : f32[N,2] ; "x"
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
    %x = input : f32[N,2] ; "x"
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
    %x = input : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(af("value_float", 2.0)), @r#"
    @c: f32[] = [2.0]
    %x = input : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(afs("value_floats", &[1.0, 2.0])), @r#"
    @c: f32[2] = [1.0, 2.0]
    %x = input : f32[N,2] ; "x"
    %3 = mul %x, @c : f32[N,2] ; "Mul_1"
    "#);
    assert_snapshot!(with(text("value_string", "no")), @r#"
    1 node(s) can't be imported:
      unsupported: node "Constant_0" (Constant, ai.onnx opset 13): got the attribute "value_string"; supported: value, value_float(s), value_int(s)
    "#);
    let shape =
        |attribute| reshaped(Net::new(13).input("x", "N,6").node("Constant", "", "s", vec![attribute]));
    assert_snapshot!(shape(ais("value_ints", &[0, 2, 3])), @r#"
    %x = input : f32[N,6] ; "x"
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
    %x = input : f32[N,4,2] ; "x"
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
    %x = input : f32[N,4,2] ; "x"
    %2 = reshape %x, shape=[N,8] : f32[N,8] ; "Reshape_4"
    "#);
    assert_snapshot!(net(4), @r#"
    1 node(s) can't be imported:
      unsupported: node "Reshape_4" (Reshape, ai.onnx opset 15): its result "y" is explained and a tensor [2*N,4], expected the batch first and alone in its axis
    "#);
    assert_snapshot!(net(3), @r#"
    1 node(s) can't be imported:
      unsupported: node "Div_2" (Div, ai.onnx opset 15): got (8*N) / (3), expected a quotient that is the same for every batch N; supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(net(0), @r#"
    1 node(s) can't be imported:
      invalid: node "Div_2" (Div, ai.onnx opset 15): got (8*N) / 0
    "#);
    let size = Net::new(13).input("x", "batch,4,2").node("Size", "x", "size", vec![]);
    let size = size.int("eight", 8).node("Div", "size,eight", "n", vec![]);
    let size = size.ints("axes", &[0]).node("Unsqueeze", "n,axes", "n1", vec![]).ints("rest", &[8]);
    assert_snapshot!(reshaped(size.node("Concat", "n1,rest", "s", vec![ai("axis", 0)])), @r#"
    %x = input : f32[N,4,2] ; "x"
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
    %x = input : f32[N,6] ; "x"
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
      invalid: node "Reshape_5" (Reshape, ai.onnx opset 13): got f32[2,6] and the shape [3,9], expected the same number of elements
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
    %x = input : f32[N,12] ; "x"
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
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @c : f32[N,2] ; "Add_1"
    "#);
    assert_snapshot!(filled(&[1 << 15, 1 << 14]), @r#"
    1 node(s) can't be imported:
      unsupported: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): got a constant of 536870912 elements, with which constants take more than the limit of 1.00 GiB beside what the model's files hold: raise it (--constant-limit GIB); supported: constants; the batch may be the first dimension
    "#);
    assert_snapshot!(filled(&[i64::MAX, i64::MAX]), @r#"
    1 node(s) can't be imported:
      invalid: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): the number of elements of the shape [9223372036854775807, 9223372036854775807] overflows
    "#);
    assert_snapshot!(filled(&[-2]), @r#"
    1 node(s) can't be imported:
      unsupported: node "ConstantOfShape_0" (ConstantOfShape, ai.onnx opset 13): got the shape [-2], expected sizes; supported: constants; the batch may be the first dimension
    "#);
    let zeros = Net::new(13)
        .input("x", "N,2")
        .node("Shape", "x", "s", vec![])
        .node("ConstantOfShape", "s", "c", vec![])
        .node("Add", "x,c", "y", vec![])
        .output("y");
    assert_snapshot!(zeros.show(), @r#"
    @c: f32[1,2] = [0.0, 0.0]
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @c : f32[N,2] ; "Add_2"
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
    %x = input : f32[2,2] ; "x"
    %3 = add %x, @e : f32[2,2] ; "Add_1"
    "#);
    assert_snapshot!(expand("x,s", &[1, 2]), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = expand %x, shape=[N,2] : f32[N,2] ; "Expand_0"
    %3 = add %x, %2 : f32[N,2] ; "Add_1"
    "#);
    assert_snapshot!(expand("x,s", &[3, 2, 2]), @r#"
    %x = input : f32[2,2] ; "x"
    %2 = expand %x, shape=[3,2,2] : f32[3,2,2] ; "Expand_0"
    %3 = add %x, %2 : f32[3,2,2] ; "Add_1"
    "#);
}

#[test]
fn weights_change_their_shape_without_a_node() {
    let net = Net::new(13)
        .input("x", "N,2")
        .floats("w", &[4], vec![1.0, 2.0, 3.0, 4.0])
        .ints("shape", &[2, -1])
        .ints("first", &[0])
        .int("last", -1)
        .node("Reshape", "w,shape", "a", vec![])
        .node("Unsqueeze", "a,first", "b", vec![])
        .node("Squeeze", "b,first", "c", vec![])
        .node("Concat", "c,c", "d", vec![ai("axis", 1)])
        .node("Gather", "d,last", "e", vec![ai("axis", -1)])
        .node("Slice", "e,first,shape", "f", vec![])
        .node("Sum", "e,e,e", "g", vec![])
        .node("Add", "x,g", "y", vec![])
        .output("y");
    assert_snapshot!(net.show(), @r#"
    @g: f32[2] = [6.0, 12.0]
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @g : f32[N,2] ; "Add_7"
    "#);
}

#[test]
fn selections_and_extremes_of_constants() {
    let net = |op: &str, inputs: &str| {
        Net::new(13)
            .input("x", "batch,6")
            .node("Shape", "x", "shape", vec![])
            .ints("one", &[1, 1])
            .ints("three", &[3, 3])
            .node(op, inputs, "s", vec![])
    };
    assert_snapshot!(reshaped(net("Max", "shape,one")), @r#"
    %x = input : f32[N,6] ; "x"
    %2 = reshape %x, shape=[N,6] : f32[N,6] ; "Reshape_2"
    "#);
    assert_snapshot!(reshaped(net("Min", "shape,three")), @r#"
    1 node(s) can't be imported:
      unsupported: node "Min_1" (Min, ai.onnx opset 13): got a comparison of N and 3, which depends on the batch N; supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(reshaped(net("Equal", "shape,three")), @r#"
    1 node(s) can't be imported:
      unsupported: node "Equal_1" (Equal, ai.onnx opset 13): got a comparison of N and 3, which depends on the batch N; supported: constants and shape arithmetic
    "#);
    assert_snapshot!(reshaped(net("Mul", "shape,shape")), @r#"
    1 node(s) can't be imported:
      unsupported: node "Mul_1" (Mul, ai.onnx opset 13): got (N) * (N), expected no power of N; supported: floats that broadcast; integers in shape arithmetic
    "#);
    assert_snapshot!(reshaped(net("Gather", "shape,three")), @r#"
    1 node(s) can't be imported:
      invalid: node "Gather_1" (Gather, ai.onnx opset 13): got index 3 into an axis of 2 elements
    "#);
    let floats = Net::new(13)
        .input("x", "N,2")
        .ints("c", &[0, 1])
        .floats("a", &[2], vec![1.0, 2.0])
        .floats("b", &[], vec![9.0])
        .node("Where", "c,a,b", "w", vec![])
        .node("Add", "x,w", "y", vec![])
        .output("y");
    assert_snapshot!(floats.show(), @r#"
    @w: f32[2] = [9.0, 2.0]
    %x = input : f32[N,2] ; "x"
    %3 = add %x, @w : f32[N,2] ; "Add_1"
    "#);
}

#[test]
fn casts_of_tensors() {
    let cast = |to: DataType| one(13, "N,2", "Cast", vec![ai("to", to as i64)]).show();
    assert_snapshot!(cast(DataType::Float16), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = identity %x : f32[N,2] ; "Cast_0"
    "#);
    assert_snapshot!(cast(DataType::Int64), @r#"
    1 node(s) can't be imported:
      unsupported: node "Cast_0" (Cast, ai.onnx opset 13): got a cast of a tensor that depends on the model's input to int64; supported: floats to floats (no-op); any cast in shape arithmetic
    "#);
    assert_snapshot!(cast(DataType::String), @r#"
    1 node(s) can't be imported:
      unsupported: node "Cast_0" (Cast, ai.onnx opset 13): got a cast of a value to string; supported: floats to floats (no-op); any cast in shape arithmetic
    "#);
    assert_snapshot!(one(13, "N,2", "Cast", vec![]).show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Cast_0" (Cast, ai.onnx opset 13): the attribute "to" is missing
    "#);
}

/// What functions of exporters are full of: a number as whatever its partner is.
#[test]
fn constants_are_cast_like_others() {
    let net = Net::new(17)
        .input("x", "N,2")
        .int("one", 1)
        .floats("half", &[], vec![2.5])
        .node("CastLike", "one,x", "float", vec![])
        .node("Mul", "x,float", "m", vec![])
        .node("CastLike", "half,one", "two", vec![])
        .node("Cast", "two", "f", vec![ai("to", DataType::Float as i64)])
        .node("Add", "m,f", "y", vec![])
        .output("y");
    let text = net.show();
    assert!(text.contains("@float: f32[] = [1.0]") && text.contains("@f: f32[] = [2.0]"), "{text}");
}

#[test]
fn tensors_are_not_gathered_or_selected() {
    let net =
        |op, inputs| Net::new(13).input("x", "N,2").ints("i", &[0]).node(op, inputs, "y", vec![]).output("y");
    assert_snapshot!(net("Gather", "x,i").show(), @r#"
    1 node(s) can't be imported:
      unsupported: node "Gather_0" (Gather, ai.onnx opset 13): got the axis 0 of f32[N,2], expected another than the batch; supported: constant indices, at most 64 into a tensor, not of the batch; shape arithmetic
    "#);
    assert_snapshot!(net("Where", "i,x,x").show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = identity %x : f32[N,2] ; "Where_0"
    "#);
    assert_snapshot!(net("Sqrt", "x").show(), @r#"
    %x = input : f32[N,2] ; "x"
    %2 = sqrt %x : f32[N,2] ; "Sqrt_0"
    "#);
    assert_snapshot!(net("Max", "x,i").show(), @r#"
    1 node(s) can't be imported:
      invalid: node "Max_0" (Max, ai.onnx opset 13): input 1, "i", is of integers, expected floats
    "#);
}

/// A small file may ask for large constants, up to a limit that the user can raise.
#[test]
fn many_copies_of_a_constant_exhaust_the_budget() {
    let mut net = Net::new(13).input("x", "N,2").ints("s", &[1 << 9, 1 << 9]);
    for i in 0..100 {
        net = net.node("ConstantOfShape", "s", &format!("c{i}"), vec![]);
    }
    let all = (0..100).map(|i| format!(",c{i}")).collect::<String>();
    let net = net.node("Sum", &format!("x{all}"), "y", vec![]).output("y");
    let import = |constant_limit| {
        let options = relc_onnx::ImportOptions { constant_limit, ..Default::default() };
        relc_onnx::import_bytes_with(net.bytes(), None, &options).unwrap_err().to_string()
    };
    let text = import(2 << 20);
    assert!(text.starts_with("98 node(s) can't be imported:"), "{text}");
    assert!(
        text.contains(
            "limit of 0.00 GiB beside what the model's files hold: raise it (--constant-limit GIB)"
        )
    );
    // Now all are there, and the shapes don't fit.
    let text = import(200 << 20);
    assert!(text.starts_with("1 node(s) can't be imported:") && text.contains("Sum"), "{text}");
}
