//! Operators and structures that classifiers are written with: each takes part in an explanation, by the rules that are
//! there.

#[path = "../../crates/relc-onnx/tests/common/mod.rs"]
mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use relc::unstable::ir::rule::{Bounds, Contract};
use relc::{Compiler, Engine, Explainer, Explanation, Held, ImportOptions, Preset, Seed, SeedKind, Targets};
use relc_onnx::proto::tensor_proto::DataType;
use relc_tests::shared::{max_abs, max_difference};

fn compile(net: &Net, preset: &str, engine: Engine) -> Result<Explainer, String> {
    let graph = net.import().map_err(|e| e.to_string())?.graph;
    let preset = Preset::named(preset).unwrap();
    let preset = preset.with_bounds(Bounds { low: vec![-3.0], high: vec![3.0] });
    Compiler::new(preset).engine(engine).compile(graph).map_err(|e| e.to_string())
}

/// Values of both signs.
fn values(dims: &[usize]) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    ArrayD::from_shape_simple_fn(IxDyn(dims), || 2.0 * rng.f32() - 1.0)
}

fn explain(explainer: &Explainer, x: &ArrayD<f32>) -> Explanation {
    let result = explainer.explain(x.view(), &Seed::Named(SeedKind::Logit), &Targets::Argmax);
    result.unwrap_or_else(|e| panic!("{e}")).explanations.remove(0)
}

/// An initialiser of weights of both signs.
fn weight(name: &str, dims: &[i64]) -> (String, Vec<i64>, Vec<f32>) {
    let mut rng = fastrand::Rng::with_seed(name.bytes().map(u64::from).sum());
    let count = dims.iter().product::<i64>();
    (name.into(), dims.to_vec(), (0..count).map(|_| 2.0 * rng.f32() - 1.0).collect())
}

/// `f32[N,3,6,6]` through a convolution of four channels, `v`; the nodes between come from `body`, which gives `z`.
fn network(body: impl Fn(Net) -> Net, channels: i64) -> Net {
    let pads = || ais("pads", &[1; 4]);
    let mut net = Net::new(15).input("x", "N,3,6,6");
    for (name, dims, values) in [
        weight("stem", &[4, 3, 3, 3]),
        weight("down", &[2, 4, 1, 1]),
        weight("up", &[4, 2, 1, 1]),
        weight("mask", &[1, 4, 1, 1]),
        weight("fc", &[channels, 3]),
    ] {
        net = net.floats(&name, &dims, values);
    }
    let net = net.node("Conv", "x,stem", "c", vec![pads()]).node("Relu", "c", "v", vec![]);
    body(net)
        .node("GlobalAveragePool", "z", "p", vec![])
        .node("Flatten", "p", "f", vec![])
        .node("MatMul", "f,fc", "y", vec![])
        .output("y")
}

/// The network conserves under `conserve`, and under every preset machine code gives what the f64 interpreter gives.
#[track_caller]
fn check(what: &str, net: &Net) {
    let x = values(&[2, 3, 6, 6]);
    let explainer = compile(net, "conserve", Engine::Jit).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(explainer.is_conserving(), "{what}: {:?}", explainer.leaks());
    let explanation = explain(&explainer, &x);
    for sample in 0..2 {
        let error = explanation.conservation_error(sample);
        assert!(error < 1e-5, "{what}: conserves to {error:e}");
    }
    for name in Preset::names() {
        let [exact, plain, compiled] = [Engine::InterpF64, Engine::InterpF32, Engine::Jit].map(|engine| {
            let explainer = compile(net, name, engine).unwrap_or_else(|e| panic!("{what}, {name}: {e}"));
            explain(&explainer.without_sensitivity(), &x).relevance
        });
        let off = |got| max_difference(got, &exact) / max_abs(&exact).max(1e-30);
        // As in the zoo's suite: denominators that nearly cancel let the order of f32 sums alone decide that much.
        let (got, allowed) = (off(&compiled), (5.0 * off(&plain)).max(1e-3));
        assert!(got <= allowed, "{what}, {name}: off by {got:e}, not {allowed:e}");
    }
}

/// The value that squeezes `v` to one pixel of `up`'s channels, `e`.
fn excited(net: Net) -> Net {
    net.node("GlobalAveragePool", "v", "s", vec![])
        .node("Conv", "s,down", "d", vec![])
        .node("Relu", "d", "r", vec![])
        .node("Conv", "r,up", "e", vec![])
}

/// Gates that are clipped, rectified, expanded or resized to the signal's shape.
#[test]
fn gates_take_nothing_whatever_form_they_have() {
    let hard = |net: Net| {
        let net =
            net.floats("three", &[], vec![3.0]).floats("zero", &[], vec![0.0]).floats("six", &[], vec![6.0]);
        let net = net.node("Add", "e,three", "e3", vec![]).node("Clip", "e3,zero,six", "e6", vec![]);
        net.node("Div", "e6,six", "g", vec![])
    };
    let act = |op: &'static str| move |net: Net| net.node(op, "e", "g", vec![]);
    type Part = Box<dyn Fn(Net) -> Net>;
    let gates: Vec<(&str, Part)> = vec![
        ("hard sigmoid", Box::new(hard)),
        ("Sigmoid", Box::new(act("Sigmoid"))),
        ("Softplus", Box::new(act("Softplus"))),
        ("Relu", Box::new(act("Relu"))),
    ];
    let resized = |mode: &'static str| {
        move |net: Net| {
            let scales = net.floats("scales", &[4], vec![1.0, 1.0, 6.0, 6.0]);
            scales.node("Resize", "g,,scales", "w", vec![text("mode", mode)])
        }
    };
    let widths: Vec<(&str, Part)> = vec![
        ("as it is", Box::new(|net| net.node("Identity", "g", "w", vec![]))),
        (
            "expanded",
            Box::new(|net| net.node("Shape", "v", "size", vec![]).node("Expand", "g,size", "w", vec![])),
        ),
        ("nearest", Box::new(resized("nearest"))),
        ("cubic", Box::new(resized("cubic"))),
    ];
    for (gate, to_gate) in &gates {
        for (width, widen) in &widths {
            let net = network(|net| widen(to_gate(excited(net))).node("Mul", "w,v", "z", vec![]), 4);
            let what = format!("{gate}, {width}");
            check(&what, &net);
            let explainer = compile(&net, "conserve", Engine::InterpF64).unwrap();
            let graph = explainer.graph();
            let excite = graph.node_ids().find(|n| graph.node(*n).name == "Conv_5").unwrap();
            assert!(!graph.rules.contains_key(&excite), "{what}: relevance enters the gate");
        }
    }
}

/// Global context attention: positions weighed by a softmax, by a product of matrices.
#[test]
fn a_softmax_times_values_passes_to_the_values() {
    let context = |net: Net| {
        net.ints("rows", &[0, 1, 4, 36])
            .ints("row", &[0, 1, 36])
            .ints("last", &[3])
            .ints("pixel", &[0, 4, 1, 1])
            .node("Reshape", "v,rows", "a", vec![])
            .node("Conv", "v,mask", "m", vec![])
            .node("Reshape", "m,row", "mr", vec![])
            .node("Softmax", "mr", "ms", vec![ai("axis", 2)])
            .node("Unsqueeze", "ms,last", "mu", vec![])
            .node("MatMul", "a,mu", "o", vec![])
            .node("Reshape", "o,pixel", "t", vec![])
            .node("Conv", "t,down", "d", vec![])
            .node("Relu", "d", "r", vec![])
            .node("Conv", "r,up", "e", vec![])
            .node("Add", "v,e", "z", vec![])
    };
    check("context", &network(context, 4));
}

/// The shares of such a product are those of z+ with the gate's values as weights.
#[test]
fn a_product_shares_by_its_positive_terms() {
    let net = Net::new(13)
        .input("x", "N,2,5")
        .floats("fc", &[2, 1], vec![-1.0, -2.0])
        .node("ReduceMean", "x", "m", vec![ais("axes", &[1]), ai("keepdims", 0)])
        .node("Softmax", "m", "s", vec![ai("axis", 1)])
        .ints("last", &[2])
        .node("Unsqueeze", "s,last", "u", vec![])
        .node("MatMul", "x,u", "o", vec![])
        .ints("flat", &[0, 2])
        .node("Reshape", "o,flat", "f", vec![])
        .node("MatMul", "f,fc", "y", vec![])
        .output("y");
    let explainer = compile(&net, "conserve", Engine::InterpF64).unwrap();
    let x = values(&[1, 2, 5]);
    let got = explain(&explainer, &x).relevance;
    let at = |c: usize, i: usize| f64::from(x[[0, c, i]]);
    let exps: Vec<f64> = (0..5).map(|i| ((at(0, i) + at(1, i)) / 2.0).exp()).collect();
    let gate = |i: usize| exps[i] / exps.iter().sum::<f64>();
    let out = |c: usize| (0..5).map(|i| at(c, i) * gate(i)).sum::<f64>();
    let terms = [-out(0), -2.0 * out(1)].map(|term| term.max(0.0));
    let logit = -out(0) - 2.0 * out(1);
    for c in 0..2 {
        let arrived = logit * terms[c] / (terms[0] + terms[1]);
        let positive = |i: usize| (at(c, i) * gate(i)).max(0.0);
        let sum: f64 = (0..5).map(positive).sum();
        for i in 0..5 {
            let expected = arrived * positive(i) / sum;
            assert!(
                (f64::from(got[[0, c, i]]) - expected).abs() < 1e-5,
                "got {got}, expected {expected} at {c}, {i}"
            );
        }
    }
}

#[test]
fn powers_and_local_normalisations_pass() {
    let gem = |net: Net| {
        let net = net.floats("least", &[], vec![1e-6]).floats("cube", &[1], vec![3.0]).floats(
            "root",
            &[],
            vec![1.0 / 3.0],
        );
        let net = net.node("Clip", "v,least", "k", vec![]).node("Pow", "k,cube", "kp", vec![]);
        let net = net.node("AveragePool", "kp", "a", vec![ais("kernel_shape", &[6, 6])]);
        net.node("Pow", "a,root", "z", vec![])
    };
    check("generalised mean", &network(gem, 4));
    let lrn = |net: Net| net.node("LRN", "v", "z", vec![ai("size", 3), af("alpha", 0.5)]);
    check("local response normalisation", &network(lrn, 4));
}

/// A shortcut of type A: zeros as the channels that the skip lacks.
#[test]
fn zeros_beside_a_skip_are_padding() {
    let shortcut = |net: Net| {
        let (name, dims, values) = weight("wide", &[6, 4, 3, 3]);
        net.floats(&name, &dims, values)
            .ints("first", &[0])
            .ints("rest", &[1, 6, 6])
            .node("Conv", "v,wide", "main", vec![ais("pads", &[1; 4])])
            .node("Shape", "v", "shape", vec![])
            .node("Gather", "shape,first", "n", vec![])
            .node("Concat", "n,rest", "size", vec![ai("axis", 0)])
            .node("ConstantOfShape", "size", "zeros", vec![])
            .node("Concat", "zeros,v,zeros", "skip", vec![ai("axis", 1)])
            .node("Add", "main,skip", "z", vec![])
    };
    check("zeros on both sides", &network(shortcut, 6));
}

/// What constants beside features take has left the input's account: it is claimed, and booked.
#[test]
fn held_features_take_their_share() {
    let mut net = Net::new(13).input("x", "N,3").input("meta", "N,2");
    net = net.floats("fc", &[5, 2], vec![1.0, -1.0, 0.5, 2.0, -0.25, 0.5, 1.0, -1.0, 2.0, 1.0]);
    let net = net.node("Concat", "x,meta", "all", vec![ai("axis", 1)]).node("MatMul", "all,fc", "y", vec![]);
    let hold = vec![Held { name: "meta".into(), shape: vec![], values: vec![0.5] }];
    let options = ImportOptions { hold, ..ImportOptions::default() };
    let graph = relc_onnx::import_bytes_with(net.output("y").bytes(), None, &options).unwrap().graph;
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).engine(Engine::InterpF64);
    let explainer = compiler.compile(graph).unwrap();
    assert!(explainer.leaks().iter().any(|(_, contract)| *contract == Contract::LeaksToBias));
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![1.0, 2.0, 0.5]).unwrap();
    let explanation = explain(&explainer, &x);
    let total = &explanation.ledger.totals[0];
    // The first output: positive terms 1, 1, -0.125, 0.5 and 1 (the last two of the held features), of 3.375 in all.
    assert!((total.seed - 3.375).abs() < 1e-6, "{total:?}");
    explanation.ledger.check(1e-6).unwrap();
    let bias: f64 = explanation.ledger.entries.iter().map(|e| e.samples[0].bias).sum();
    assert!((bias - 3.375 * 1.5 / 3.5).abs() < 1e-6, "{bias}");
    assert!((total.inputs - 3.375 * 2.0 / 3.5).abs() < 1e-6, "{total:?}");
}

/// Two branches multiplied, of which neither is a gate.
#[test]
fn a_product_of_two_signals_gives_half_to_each() {
    let product = |net: Net| {
        let (name, dims, values) = weight("other", &[4, 4, 3, 3]);
        let net = net.floats(&name, &dims, values).node("Conv", "v,other", "o", vec![ais("pads", &[1; 4])]);
        net.node("Relu", "o", "w", vec![]).node("Mul", "v,w", "z", vec![])
    };
    check("product", &network(product, 4));
}

#[test]
fn padding_with_minus_infinity_belongs_to_max_pools() {
    let pool = |net: Net| {
        net.ints("pads", &[0, 0, 0, 0, 0, 0, 1, 1])
            .floats("least", &[], vec![f32::NEG_INFINITY])
            .node("Pad", "c,pads,least", "q", vec![])
            .node("MaxPool", "q", "z", vec![ais("kernel_shape", &[3, 3]), ais("strides", &[2, 2])])
    };
    check("pad and pool", &network(pool, 4));
    let alone = network(
        |net| {
            let net =
                net.ints("pads", &[0, 0, 0, 0, 0, 0, 1, 1]).floats("least", &[], vec![f32::NEG_INFINITY]);
            net.node("Pad", "c,pads,least", "q", vec![]).node("Relu", "q", "z", vec![])
        },
        4,
    );
    let error = compile(&alone, "conserve", Engine::InterpF64).unwrap_err();
    assert!(error.contains("\"Pad_2\"") && error.contains("pads with minus infinity"), "{error}");
}

/// A model that leaves height and width open: one explainer takes several sizes, each as if the model had it.
#[test]
fn one_explainer_serves_several_sizes() {
    let mut net = network(|net| net.node("Identity", "v", "z", vec![]), 4);
    net.graph().input = vec![info("x", "N,3,h,w", DataType::Float)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("open.onnx");
    std::fs::write(&path, net.bytes()).unwrap();
    let preset = Preset::named("conserve").unwrap();
    let compiler = Compiler::new(preset.clone()).engine(Engine::InterpF32);
    let explainer = compiler.clone().sample(vec![6, 6]).compile(&path).unwrap();
    assert_eq!(explainer.input().unwrap().1.to_string(), "f32[N,3,6,6]");
    assert!(explainer.graph().notes.iter().any(|n| n.contains("open, which is taken as f32[N,3,6,6]")));
    for size in [[6, 6], [9, 5], [6, 6], [4, 7]] {
        let [h, w] = size;
        let x = values(&[2, 3, h, w]);
        let shape = [relc::unstable::ir::Dim::Batch, 3.into(), h.into(), w.into()].to_vec();
        let options = ImportOptions { input_shape: Some(shape), ..ImportOptions::default() };
        let stated = compiler.clone().import(options).compile(&path).unwrap();
        assert_eq!(explain(&explainer, &x).relevance, explain(&stated, &x).relevance);
        assert_eq!(explainer.predict(x.view()).unwrap(), stated.predict(x.view()).unwrap());
    }
    assert!(!explainer.takes(&[1, 4, 6, 6]));
    let usual = compiler.compile(&path).unwrap();
    assert_eq!(usual.input().unwrap().1.to_string(), "f32[N,3,224,224]");
}
