//! Operators that become several nodes, or constants: what they compute, against loops.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use relc_onnx::proto::TensorProto;
use relc_onnx::proto::tensor_proto::DataType;
use relc_onnx::{Held, ImportOptions, import_bytes_with};

/// Values of both signs, of which no two are alike.
fn values(dims: &[usize]) -> ArrayD<f64> {
    let value = |i: usize| (i as f64 * 0.7).sin() + 0.01 * i as f64;
    ArrayD::from_shape_vec(IxDyn(dims), (0..dims.iter().product()).map(value).collect()).unwrap()
}

/// What the interpreter makes of `x`.
#[track_caller]
fn run(net: &Net, x: &ArrayD<f64>) -> ArrayD<f64> {
    let graph = net.import().unwrap_or_else(|e| panic!("{e}")).graph;
    relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(relc_ir::parse(&graph.to_string()).as_ref(), Ok(&graph));
    let forward = relc_interp::forward(&graph, std::slice::from_ref(x)).unwrap();
    let (_, y) = forward.outputs().next().unwrap();
    y.clone()
}

#[track_caller]
fn same(got: &ArrayD<f64>, expected: &ArrayD<f64>) {
    assert_eq!(got.shape(), expected.shape());
    let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-6, "off by {off:e}: got {got}, expected {expected}");
}

fn booleans(dims: &[i64], values: &[bool]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(DataType::Bool as i32),
        int32_data: values.iter().map(|v| i32::from(*v)).collect(),
        ..Default::default()
    }
}

/// Channel `c` is divided by what its neighbours from `c - (size - 1) / 2` to `c + size / 2` have in squares.
#[test]
fn local_response_normalisation_divides_by_the_neighbours() {
    let x = values(&[2, 5, 2, 3]);
    for size in [1, 2, 3, 4, 9] {
        let attributes = vec![ai("size", size), af("alpha", 0.5), af("beta", 0.75), af("bias", 2.0)];
        let got = run(&one(13, "N,5,2,3", "LRN", attributes), &x);
        let (before, behind) = ((size as usize - 1) / 2, size as usize / 2);
        let expected = ArrayD::from_shape_fn(x.raw_dim(), |at| {
            let neighbours = at[1].saturating_sub(before)..=(at[1] + behind).min(4);
            let squares: f64 = neighbours.map(|c| x[[at[0], c, at[2], at[3]]].powi(2)).sum();
            x[&at] / (2.0 + 0.5 / size as f64 * squares).powf(0.75)
        });
        same(&got, &expected);
    }
}

/// Windows over the depth of a volume (as PyTorch writes local response normalisation), its planes, and both.
#[test]
fn pools_of_volumes_slide_along_their_window() {
    let x = values(&[1, 2, 4, 3, 3]);
    let pool = |kernel: &[i64], pads: &[i64]| {
        let attributes = vec![ais("kernel_shape", kernel), ais("pads", pads), ai("count_include_pad", 1)];
        one(17, "N,2,4,3,3", "AveragePool", attributes)
    };
    let depth = run(&pool(&[3, 1, 1], &[1, 0, 0, 1, 0, 0]), &x);
    let expected = ArrayD::from_shape_fn(x.raw_dim(), |at| {
        let window = at[2].saturating_sub(1)..=(at[2] + 1).min(3);
        window.map(|d| x[[0, at[1], d, at[3], at[4]]]).sum::<f64>() / 3.0
    });
    same(&depth, &expected);
    let plane = run(&pool(&[1, 2, 3], &[0, 0, 0, 0, 0, 0]), &x);
    let expected = ArrayD::from_shape_fn(IxDyn(&[1, 2, 4, 2, 1]), |at| {
        let pixels = (0..2).flat_map(|i| (0..3).map(move |j| (i, j)));
        pixels.map(|(i, j)| x[[0, at[1], at[2], at[3] + i, j]]).sum::<f64>() / 6.0
    });
    same(&plane, &expected);
    let all = run(&pool(&[2, 3, 3], &[0; 6]), &x);
    let expected = ArrayD::from_shape_fn(IxDyn(&[1, 2, 3, 1, 1]), |at| {
        let pixels = (0..2).flat_map(|d| (0..9).map(move |p| [d, p / 3, p % 3]));
        pixels.map(|[d, i, j]| x[[0, at[1], at[2] + d, i, j]]).sum::<f64>() / 18.0
    });
    same(&all, &expected);
}

#[test]
fn products_of_two_values_are_sums_of_products() {
    let net = Net::new(13)
        .input("x", "N,2,3,4")
        .node("Transpose", "x", "t", vec![ais("perm", &[0, 1, 3, 2])])
        .node("MatMul", "x,t", "y", vec![])
        .output("y");
    let x = values(&[2, 2, 3, 4]);
    let expected = ArrayD::from_shape_fn(IxDyn(&[2, 2, 3, 3]), |at| {
        (0..4).map(|k| x[[at[0], at[1], at[2], k]] * x[[at[0], at[1], at[3], k]]).sum()
    });
    same(&run(&net, &x), &expected);
    let constant = Net::new(13)
        .input("x", "N,3,4")
        .weights(&[("w", &[2, 3])])
        .node("MatMul", "w,x", "y", vec![])
        .output("y");
    let x = values(&[2, 3, 4]);
    let expected = ArrayD::from_shape_fn(IxDyn(&[2, 2, 4]), |at| {
        (0..3).map(|k| 0.25 * (at[1] * 3 + k + 1) as f64 * x[[at[0], k, at[2]]]).sum()
    });
    same(&run(&constant, &x), &expected);
    let huge = Net::new(13).input("x", "N,4096,4096").node("MatMul", "x,x", "y", vec![]).output("y");
    assert!(huge.show().contains("at most 16777216 for each sample"));
    let mixed = Net::new(13).input("x", "N,4").node("MatMul", "x,x", "y", vec![]).output("y");
    assert!(mixed.import().is_err());
}

/// Zeros of the input's own batch, made by `ConstantOfShape`, and constants, on both sides and between.
#[test]
fn constants_lie_beside_values() {
    let net = Net::new(13)
        .input("x", "N,2,3")
        .floats("low", &[1, 1, 3], vec![5.0, 6.0, 7.0])
        .floats("ones", &[1, 2, 3], vec![1.0; 6])
        .node("Shape", "x", "shape", vec![])
        .node("ConstantOfShape", "shape", "zeros", vec![])
        .node("Concat", "low,x,zeros,x,ones", "y", vec![ai("axis", 1)])
        .output("y");
    let x = values(&[2, 2, 3]);
    let expected = ArrayD::from_shape_fn(IxDyn(&[2, 9, 3]), |at| match at[1] {
        0 => 5.0 + at[2] as f64,
        c @ (1 | 2) => x[[at[0], c - 1, at[2]]],
        3 | 4 => 0.0,
        c @ (5 | 6) => x[[at[0], c - 5, at[2]]],
        _ => 1.0,
    });
    same(&run(&net, &x), &expected);
    let zeros = Net::new(13)
        .input("x", "N,2,3")
        .node("Shape", "x", "shape", vec![])
        .node("ConstantOfShape", "shape", "zeros", vec![])
        .node("Concat", "x,zeros", "y", vec![ai("axis", -1)])
        .output("y");
    // Zeros are padding and nothing else.
    let text = zeros.show();
    assert!(text.contains("pad %x, pads=[0,0,0,0,0,3]") && !text.contains(" add "), "{text}");
    let other = Net::new(13)
        .input("x", "N,2,3")
        .weights(&[("w", &[1, 1, 4])])
        .node("Concat", "x,w", "y", vec![ai("axis", 1)])
        .output("y");
    assert!(other.show().contains("to differ only along axis 1"));
}

#[test]
fn constant_conditions_choose() {
    let choose = |condition: TensorProto, b: &str| {
        Net::new(13)
            .input("x", "N,2,3")
            .tensor("c", condition)
            .floats("half", &[], vec![0.5])
            .node("Relu", "x", "r", vec![])
            .node("Where", &format!("c,r,{b}"), "y", vec![])
            .output("y")
    };
    let x = values(&[2, 2, 3]);
    let relu = x.mapv(|v| v.max(0.0));
    same(&run(&choose(booleans(&[], &[true]), "x"), &x), &relu);
    same(&run(&choose(booleans(&[1], &[false]), "x"), &x), &x);
    let mask = booleans(&[2, 1], &[true, false]);
    let expected = |other: &dyn Fn(&IxDyn) -> f64| {
        ArrayD::from_shape_fn(x.raw_dim(), |at| if at[1] == 0 { relu[&at] } else { other(&at) })
    };
    same(&run(&choose(mask.clone(), "x"), &x), &expected(&|at| x[at]));
    same(&run(&choose(mask, "half"), &x), &expected(&|_| 0.5));
}

/// A network of a fixed batch runs any number of samples, if its shapes treat all alike.
#[test]
fn a_fixed_batch_is_open() {
    let net = Net::new(13)
        .input("x", "4,2,3")
        .ints("flat", &[4, 6])
        .ints("wide", &[4, 2, 6])
        .floats("each", &[4, 6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].repeat(4))
        .node("Reshape", "x,flat", "f", vec![])
        .node("Add", "f,each", "y", vec![])
        .output("y");
    let x = values(&[3, 2, 3]);
    let expected =
        ArrayD::from_shape_fn(IxDyn(&[3, 6]), |at| x[[at[0], at[1] / 3, at[1] % 3]] + (at[1] + 1) as f64);
    same(&run(&net, &x), &expected);
    let notes = net.import().unwrap().graph.notes;
    assert!(notes[0].starts_with("batch fixed to 4:"), "{notes:?}");
    let unlike = Net::new(13)
        .input("x", "2,2")
        .floats("each", &[2, 2], vec![1.0, 2.0, 3.0, 4.0])
        .node("Add", "x,each", "y", vec![])
        .output("y");
    let imported = unlike.import().unwrap();
    assert_eq!(imported.graph.ty(imported.graph.outputs()[0].1).to_string(), "f32[2,2]");
    let error = relc_onnx::ImportError::from(imported.mixed.unwrap()).to_string();
    assert!(error.contains("differs among the 2 samples") && error.contains("export the model with an open"));
}

/// A fixed batch of one stays one, unless the user opens it.
#[test]
fn a_batch_of_one_is_opened_by_its_shape() {
    let net = Net::new(13)
        .input("x", "1,2,3")
        .ints("flat", &[1, -1])
        .node("Reshape", "x,flat", "y", vec![])
        .output("y");
    assert_eq!(net.import().unwrap().graph.inputs().len(), 1);
    let shape = [relc_ir::Dim::Batch, 2.into(), 3.into()].to_vec();
    let options = ImportOptions { input_shape: Some(shape), ..ImportOptions::default() };
    let graph = import_bytes_with(net.bytes(), None, &options).unwrap().graph;
    assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[N,6]");
    assert!(graph.notes.is_empty());
}

/// What follows from a held input alone is a constant, whatever computes it.
#[test]
fn what_follows_from_held_inputs_is_constant() {
    let net = Net::new(13)
        .input("x", "N,3,2,2")
        .input("meta", "N,2")
        .weights(&[("w", &[2, 3]), ("b", &[3])])
        .floats("one", &[3], vec![1.0; 3])
        .ints("axes", &[2, 3])
        .ints("size", &[1, 3, 2, 2])
        .node("Gemm", "meta,w,b", "g", vec![])
        .node("Softplus", "g", "s", vec![])
        .node("Unsqueeze", "s,axes", "u", vec![])
        .node("BatchNormalization", "u,one,b,b,one", "n", vec![af("epsilon", 0.0)])
        .node("Expand", "n,size", "e", vec![])
        .node("Mul", "x,e", "y", vec![])
        .output("y");
    let hold = |shape: &[usize], values: &[f32]| {
        let hold = vec![Held { name: "meta".into(), shape: shape.to_vec(), values: values.to_vec() }];
        let options = ImportOptions { hold, ..ImportOptions::default() };
        import_bytes_with(net.bytes(), None, &options).map(|imported| imported.graph)
    };
    let x = values(&[2, 3, 2, 2]);
    let expected = ArrayD::from_shape_fn(x.raw_dim(), |at| {
        let w = |k: usize| 0.25 * ((k * 3 + at[1]) % 7 + 1) as f64;
        let b = 0.25 * (at[1] + 1) as f64;
        let softplus = (0.5 * w(0) + 0.5 * w(1) + b).exp().ln_1p();
        x[&at] * (softplus - b + b)
    });
    for (shape, values) in [(&[][..], &[0.5][..]), (&[1, 2], &[0.5, 0.5]), (&[2], &[0.5, 0.5])] {
        let graph = hold(shape, values).unwrap();
        assert_eq!(graph.forward_order().unwrap().len(), 2, "{graph}");
        let forward = relc_interp::forward(&graph, std::slice::from_ref(&x)).unwrap();
        same(forward.outputs().next().unwrap().1, &expected);
    }
    let wrong = hold(&[1, 3], &[0.0; 3]).unwrap_err().to_string();
    assert!(wrong.contains("got a constant of shape [1, 3], expected [N, 2]"), "{wrong}");
}

#[test]
fn one_number_does_not_fill_an_open_shape() {
    let mut net = Net::new(13).input("x", "N,3").input("meta", "N,k").node("Add", "x,meta", "y", vec![]);
    net = net.output("y");
    let hold = vec![Held { name: "meta".into(), shape: vec![], values: vec![0.5] }];
    let options = ImportOptions { hold, ..ImportOptions::default() };
    let error = import_bytes_with(net.bytes(), None, &options).unwrap_err().to_string();
    assert!(error.contains("whose dimension 1 is open: give a .npy"), "{error}");
}

/// Where the declared shapes and the nodes disagree, other programs may run something else.
#[test]
fn a_shape_that_is_declared_otherwise_is_told() {
    let pool = vec![
        ais("kernel_shape", &[3, 3]),
        ais("strides", &[2, 2]),
        text("auto_pad", "VALID"),
        ai("ceil_mode", 1),
    ];
    let net =
        Net::new(17).input("x", "N,1,6,6").node("MaxPool", "x", "y", pool).node("Relu", "y", "z", vec![]);
    let declare = |dims: &str| {
        let mut net = net.clone().output("z");
        net.graph().value_info.push(info("y", dims, DataType::Float));
        net.graph().value_info.push(info("z", "N,7", DataType::Float));
        net.import().unwrap().graph.notes
    };
    let net_notes = declare("N,1,3,3");
    assert!(
        net_notes[0].contains("gives 2x2 by ONNX's specification")
            && net_notes[0].contains("3x3 in ONNX Runtime")
    );
    assert!(
        net_notes[1]
            .contains("node \"MaxPool_0\" (MaxPool): the model declares the shape [N,1,3,3] for \"y\"")
    );
    assert_eq!(net_notes.len(), 2, "{net_notes:?}");
    assert!(declare("N,1,2,2")[1].contains("node \"Relu_1\""));
}
