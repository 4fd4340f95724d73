//! Methods of many runs: against other programs' arrays, and by their own definitions.

use ndarray::{ArrayD, Axis};
use relc::{
    Compiler, Engine, Explainer, Explanations, METHODS, Method, MethodOptions, Preset, Seed, Targets,
};
use relc_ir::op::{Activation, Gemm, ReduceMean, Slice};
use relc_ir::{Dim, Op};
use relc_tests::npz::Npz;
use relc_tests::shared::{max_abs, max_difference, shared};

fn explainer(model: &str, engine: Engine) -> Explainer {
    Method::compiler().unwrap().engine(engine).compile(model).unwrap()
}

fn run(explainer: &Explainer, method: &Method, x: &ArrayD<f32>, batch: usize) -> Explanations {
    method.explain(explainer, x.view(), &Targets::Argmax, batch, &mut |_, _| {}).unwrap()
}

#[test]
fn the_references_are_reproduced() {
    let Some(shared) = shared() else { return };
    let mut checked = 0;
    for file in shared.files("refs", ".npz") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let npz = Npz::open(&file);
        let arrays = [("input_x_grad", "input_x_gradient"), ("captum.ig50", "integrated_gradients")];
        for (array, method) in arrays.into_iter().filter(|(array, _)| npz.has(array)) {
            let method: Method = method.parse().unwrap();
            let model = shared.reference_model(&name);
            for (engine, tolerance) in
                [(Engine::InterpF64, 1e-5), (Engine::InterpF32, 1e-3), (Engine::Jit, 1e-3)]
            {
                let result = run(&explainer(&model, engine), &method, &npz.f32("x"), 20);
                let reference = npz.f32(array);
                let got = &result.explanations[0].relevance;
                let off = max_difference(got, &reference) / max_abs(&reference);
                println!("{name} {array} {}: {off:.2e}", engine.name());
                assert!(
                    off <= tolerance,
                    "{name} {array} {}: differs by {off:e} of the maximum",
                    engine.name()
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} arrays were found");
}

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo/model.onnx");

/// A wave of the demo model's input shape.
fn input(explainer: &Explainer, samples: usize) -> ArrayD<f32> {
    let shape = explainer.input().unwrap().1.bind(samples);
    ArrayD::from_shape_fn(shape, |i| {
        (0..4).map(|axis| i[axis] as f32 * [1.7, 0.9, 0.23, 0.41][axis]).sum::<f32>().sin()
    })
}

/// A black picture has nothing to hide: every mask leaves it as it is, and the map is the mean mask times the probability.
#[test]
fn what_rise_hides_is_black() {
    let explainer = explainer(DEMO, Engine::Jit);
    let black = vec![-1.7, 0.3, 1.1];
    let shape = explainer.input().unwrap().1.bind(1);
    let x = ArrayD::from_shape_fn(shape, |i| black[i[1]]);
    let options = MethodOptions { samples: Some(6), ..MethodOptions::default() };
    let rise = Method::new("rise", &options).unwrap();
    let maps = |method: &Method| {
        let targets = Targets::Outputs(vec![0, 3]);
        let result = method.explain(&explainer, x.view(), &targets, 4, &mut |_, _| {}).unwrap();
        let of = |k: usize| {
            let p = result.probabilities[(0, [0, 3][k])] as f32;
            result.explanations[k].map.clone().unwrap().into_dyn().mapv(|v| v / p)
        };
        max_difference(&of(0), &of(1)) / max_abs(&of(0))
    };
    assert!(maps(&rise.clone().with_black(black.clone())) < 1e-5);
    assert!(maps(&rise) > 1e-2, "what is hidden is 0");
}

/// Every method gives finite maps, the same whatever the batch, and the same again.
#[test]
fn methods_are_deterministic_and_do_not_depend_on_the_batch() {
    let explainer = explainer(DEMO, Engine::InterpF32);
    let x = input(&explainer, 2);
    for name in METHODS {
        let samples = ["integrated_gradients", "smoothgrad", "rise"].contains(&name).then_some(6);
        let method = Method::new(name, &MethodOptions { samples, ..MethodOptions::default() }).unwrap();
        let whole = run(&explainer, &method, &x, 5);
        let map = whole.explanations[0].map.as_ref().unwrap();
        assert!(map.iter().all(|v| v.is_finite()) && map.iter().any(|v| *v != 0.0), "{name}");
        assert_eq!(whole.explanations[0].relevance.shape(), x.shape(), "{name}");
        for (i, one) in x.axis_chunks_iter(Axis(0), 1).enumerate() {
            let alone = run(&explainer, &method, &one.to_owned(), 2);
            let (a, b) = (alone.explanations[0].map.as_ref().unwrap(), map);
            assert_eq!(a.index_axis(Axis(0), 0), b.index_axis(Axis(0), i), "{name}");
        }
    }
}

/// Integrated gradients add up to the difference that the path makes (the completeness axiom).
#[test]
fn integrated_gradients_are_complete() {
    let explainer = explainer(DEMO, Engine::InterpF64);
    let x = input(&explainer, 1);
    let options = MethodOptions { samples: Some(300), ..MethodOptions::default() };
    let result = run(&explainer, &Method::new("integrated_gradients", &options).unwrap(), &x, 50);
    let target = result.explanations[0].targets[0];
    let zero = explainer.predict(ArrayD::zeros(x.raw_dim()).view()).unwrap();
    let difference = result.logits[(0, target)] - zero[(0, target)];
    let sum: f64 = result.explanations[0].relevance.iter().map(|v| f64::from(*v)).sum();
    assert!((sum - difference).abs() < 5e-3 * difference.abs(), "{sum} for {difference}");
}

/// The methods of a layer's channels are what their formulas say of its activations and gradients.
#[test]
fn layer_cam_and_grad_cam_plus_plus_follow_their_formulas() {
    let explainer = explainer(DEMO, Engine::InterpF64);
    let x = input(&explainer, 1);
    let graph = explainer.graph();
    let order = graph.forward_order().unwrap();
    let node = order.iter().find(|n| graph.node(**n).types()[0].bind(1) == [1, 16, 32, 32]).unwrap();
    let layer = graph.node(*node).name.clone();
    let plain = run(&explainer, &"grad_cam".parse().unwrap(), &x, 1);
    let target = plain.explanations[0].targets.clone();
    let onehot = ArrayD::from_shape_fn(vec![1, 8], |i| if i[1] == target[0] { 1.0 } else { 0.0 });
    let tap = &explainer.tap(x.view(), &Seed::Tensor(onehot), &target, &layer).unwrap()[0];
    let channels = || {
        let of = |a: &ArrayD<f32>, c: usize| a.index_axis(Axis(0), 0).index_axis(Axis(0), c).mapv(f64::from);
        (0..16).map(move |c| (of(&tap.activation, c), of(&tap.relevance, c)))
    };
    let mut layer_cam = ArrayD::<f64>::zeros(vec![32, 32]);
    let mut plus_plus = layer_cam.clone();
    for (a, g) in channels() {
        layer_cam += &(&a * &g.mapv(|v| v.max(0.0)));
        let sum = a.sum();
        let alpha = g.mapv(|g| if g == 0.0 { 0.0 } else { g * g / (2.0 * g * g + g * g * g * sum) });
        plus_plus += &(&a * (&alpha * &g.mapv(|v| v.max(0.0))).sum());
    }
    let options = MethodOptions { layer: Some(layer.clone()), ..MethodOptions::default() };
    for (name, expected) in [("layer_cam", layer_cam), ("grad_cam_plus_plus", plus_plus)] {
        let result = run(&explainer, &Method::new(name, &options).unwrap(), &x, 1);
        let map = result.explanations[0].map.as_ref().unwrap().index_axis(Axis(0), 0);
        let small = expected.mapv(|v| v.max(0.0) as f32);
        let large = relc::map::resize_linear(small.view(), &[64, 64]).unwrap();
        let most = large.fold(0.0f32, |m, v| m.max(*v));
        let off = (&map - &large).fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(most > 0.0 && off <= 1e-5 * most, "{name}: {off} of {most}");
    }
}

#[test]
fn wrong_requests_say_what_is_expected() {
    let error = "smothgrad".parse::<Method>().unwrap_err();
    assert!(error.to_string().contains("did you mean \"smoothgrad\"?"), "{error}");
    let options = MethodOptions { sigma: Some(0.1), ..MethodOptions::default() };
    assert!(Method::new("rise", &options).unwrap_err().to_string().contains("no use for sigma"));
    let conserve = Compiler::new(Preset::named("conserve").unwrap()).compile(DEMO).unwrap();
    let x = input(&conserve, 1);
    let method = Method::InputXGradient;
    let error = method.explain(&conserve, x.view(), &Targets::Argmax, 1, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("preset conserve"), "{error}");
    let explainer = explainer(DEMO, Engine::InterpF32);
    let method = Method::GradCam { layer: Some("no such layer".into()) };
    let error = method.explain(&explainer, x.view(), &Targets::Argmax, 1, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("such as"), "{error}");
}

/// A report of a method names it with its parameters, and has no sums of relevance, which it does not pass on.
#[test]
fn reports_name_the_method() {
    let explainer = explainer(DEMO, Engine::InterpF32);
    let options = MethodOptions { samples: Some(2), ..MethodOptions::default() };
    let method = Method::new("smoothgrad", &options).unwrap();
    let model = serde_json::to_value(relc::report::model_report(&explainer, Some(&method))).unwrap();
    let expected = serde_json::json!({"name": "smoothgrad", "samples": 2, "sigma": 0.15, "seed": 0});
    assert_eq!((model.get("preset"), &model["method"]), (None, &expected));
    let result = run(&explainer, &method, &input(&explainer, 1), 2);
    let report = relc::report::sample_report(&explainer, &result, 0, "x", "smoothgrad", None);
    assert!(report.explanations[0].sums.is_none() && report.explanations[0].ledger.is_none());
}

/// Layers behind a flip would mark the wrong half: the last one before it serves, and asked for by name they are refused.
#[test]
fn layers_behind_a_flip_are_not_enlarged_as_they_are() {
    let (mut b, x) = relc_tests::builder::Builder::new("flipped", 3, [2, 5, 6]);
    let seen = b.node(Op::Activation(Activation::Relu), &[x]);
    let sizes = [Dim::Batch, Dim::Fixed(2), Dim::Fixed(5), Dim::Fixed(6)].to_vec();
    let flip = Slice { starts: vec![0, 0, 0, 5], sizes, steps: vec![1, 1, 1, -1] };
    let flipped = b.node(Op::Slice(flip), &[seen]);
    let last = b.node(Op::Activation(Activation::Relu), &[flipped]);
    let means = b.node(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keepdims: false }), &[last]);
    let weight = b.weight(&[3, 2], 0.5, 3.0);
    let y = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[means, weight]);
    let names = [seen, last].map(|value| b.name(value));
    let explainer = Method::compiler().unwrap().compile(b.finish(y)).unwrap();
    // One bright pixel on the left.
    let x = ArrayD::from_shape_fn(vec![1, 2, 5, 6], |i| if i[2] == 1 && i[3] == 0 { 1.0 } else { 0.0 });
    let cam = |options: MethodOptions| {
        let method = Method::new("grad_cam", &options).unwrap();
        method.explain(&explainer, x.view(), &Targets::Outputs(vec![0]), 1, &mut |_, _| {})
    };
    for layer in [None, Some(names[0].clone())] {
        let map = cam(MethodOptions { layer, ..MethodOptions::default() }).unwrap();
        let map = map.explanations[0].relevance.clone();
        assert!(map[[0, 0, 1, 0]] > 0.0 && map[[0, 0, 1, 5]] == 0.0, "{map}");
    }
    let refused =
        cam(MethodOptions { layer: Some(names[1].clone()), ..MethodOptions::default() }).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("reversed by") && text.contains("slice"), "{text}");
}
