//! `ScatterND` as exporters write `x[:, 1:, :4] = y`: what the interpreter makes of it, and what is refused.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};

/// A network of `f32[N,4,6]` that writes Sigmoids of it to `rows` and `columns` of `target` (`x`, or what a node made).
fn net(target: &str, rows: &[i64], columns: &[i64]) -> Net {
    let (height, width) = (rows.len() as i64, columns.len() as i64);
    let sizes = [1, height, width, 1];
    let grid = |f: &dyn Fn(usize, usize) -> i64| {
        let places = (0..rows.len()).flat_map(|i| (0..columns.len()).map(move |j| (i, j)));
        ints(&sizes, &places.map(|(i, j)| f(i, j)).collect::<Vec<_>>())
    };
    Net::new(17)
        .input("x", "N,4,6")
        .int("zero", 0)
        .int("one", 1)
        .ints("column", &[-1, 1, 1, 1])
        .ints("sizes", &sizes)
        .tensor("rows", grid(&|i, _| rows[i]))
        .tensor("columns", grid(&|_, j| columns[j]))
        .ints("start", &[0, 0])
        .ints("end", &[height, width])
        .ints("axes", &[1, 2])
        .node("Shape", "x", "shape", vec![])
        .node("ConstantOfShape", "shape", "zeros", vec![])
        .node("Gather", "shape,zero", "n", vec![])
        .node("Range", "zero,n,one", "range", vec![])
        .node("Reshape", "range,column", "places", vec![])
        .node("Expand", "places,sizes", "samples", vec![])
        .node("Concat", "samples,rows,columns", "indices", vec![ai("axis", 3)])
        .node("Sigmoid", "x", "s", vec![])
        .node("Slice", "s,start,end,axes", "y", vec![])
        .node("ScatterND", &format!("{target},indices,y"), "out", vec![])
        .output("out")
}

/// The output, of values of both signs, is `base` of the input with the Sigmoids at their places.
#[track_caller]
fn check(target: &str, rows: &[i64], columns: &[i64], base: fn(f64) -> f64) {
    for samples in [2, 3] {
        let value = |i: usize| (i as f64 * 0.7).sin() + 0.01 * i as f64;
        let shape = IxDyn(&[samples, 4, 6]);
        let x = ArrayD::from_shape_vec(shape, (0..samples * 24).map(value).collect()).unwrap();
        let mut expected = x.mapv(base);
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                for n in 0..samples {
                    let place = [n, row.rem_euclid(4) as usize, column.rem_euclid(6) as usize];
                    expected[&place[..]] = 1.0 / (1.0 + (-x[[n, i, j]]).exp());
                }
            }
        }
        let graph = net(target, rows, columns).import().unwrap_or_else(|e| panic!("{e}")).graph;
        relc_ir::verify(&graph).unwrap_or_else(|e| panic!("{e}"));
        let forward = relc_interp::forward(&graph, &[x]).unwrap();
        let got = forward.outputs().next().unwrap().1;
        assert_eq!(got.shape(), expected.shape());
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-12, "off by {off:e}: got {got}, expected {expected}");
    }
}

#[test]
fn blocks_are_written_into_tensors() {
    check("x", &[1, 2], &[0, 1, 2], |v| v);
    check("x", &[0, 1, 2, 3], &[4, 5], |v| v);
    check("x", &[0, 1, 2, 3], &[0, 1, 2, 3, 4, 5], |v| v);
    // Far apart, in another order, from the end.
    check("x", &[3, 2], &[0, 3, 5, 4], |v| v);
    check("x", &[-1], &[-6, 1, -2], |v| v);
}

#[test]
fn blocks_are_written_into_zeros() {
    check("zeros", &[1, 2], &[0, 1, 2], |_| 0.0);
    check("zeros", &[0, 1, 2, 3], &[0, 1, 2, 3, 4, 5], |_| 0.0);
}

#[test]
fn what_is_no_block_says_so() {
    let check = |net: Net, expected: &str| {
        let text = net.show();
        assert!(text.contains(expected), "{text}");
    };
    check(
        net("x", &[1, 1], &[0]),
        "got the indices 1,1 along axis 1 of 4 elements, expected each inside and once",
    );
    check(net("x", &[4], &[0]), "got the indices 4 along axis 1 of 4 elements");
    check(net("zeros", &[0, 2], &[0]), "expected a block inside equal values");
    let with = |indices: &[i64], values: &[i64], updates: &str, attributes| {
        Net::new(17)
            .input("x", "N,4,6")
            .tensor("indices", ints(indices, values))
            .weights(&[("w", &[1, 1, 6])])
            .node("Relu", "x", "y", vec![])
            .node("ScatterND", &format!("x,indices,{updates}"), "out", attributes)
            .output("out")
    };
    check(with(&[1, 1, 2], &[0, 1], "y", vec![]), "got the indices 0 of samples, expected all samples");
    check(with(&[2, 2], &[0, 0, 0, 1], "y", vec![]), "got indices of single elements");
    check(with(&[1, 1, 0], &[], "y", vec![]), "got indices of single elements");
    check(with(&[1, 1, 2], &[0, 1], "w", vec![]), "got constant updates");
    check(with(&[1, 1, 2], &[0, 1], "y", vec![text("reduction", "add")]), "got reduction=add, expected none");
    let mut narrow = net("x", &[1, 2], &[0, 1]);
    narrow.graph().node.retain(|node| node.op_type() != "Slice");
    narrow = narrow.node("Identity", "s", "y", vec![]);
    let last = narrow.graph().node.len() - 1;
    narrow.graph().node.swap(last, last - 1);
    check(narrow, "got the updates f32[N,4,6], expected f32[N,2,2]");
}
