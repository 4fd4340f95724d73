//! Conservation, on every model of the reference data and at every cut.

use ndarray::{ArrayD, Dimension};
use relc::{Compiler, Engine, Explainer, Preset, Seed, SeedKind, Targets};
use relc_interp::Element;
use relc_tests::cuts::{Cuts, cuts};
use relc_tests::npz::Npz;
use relc_tests::shared::shared;

/// A picture-like input of the model's shape: smooth, of both signs, never constant.
fn input(explainer: &Explainer, samples: usize) -> ArrayD<f32> {
    let shape = explainer.input().unwrap().1.bind(samples);
    ArrayD::from_shape_fn(shape, |i| {
        let t: f32 = (0..i.ndim()).map(|axis| i[axis] as f32 * [1.7, 0.13, 0.29, 0.41, 0.37][axis]).sum();
        t.sin() + 0.3 * (3.1 * t).cos()
    })
}

/// What crosses the cuts from every positive logit at once.
fn cut<T: Element>(explainer: &Explainer, x: &ArrayD<f32>) -> Cuts {
    let x = x.mapv(|v| T::from(v).unwrap());
    cuts(explainer.graph(), x, |logits| logits.mapv(|v| v.max(T::zero())))
}

#[test]
fn conserve_conserves_on_every_model_and_at_every_cut() {
    let Some(shared) = shared() else { return };
    for model in shared.models() {
        let preset = Preset::named("conserve").unwrap();
        let big = model.to_string_lossy().contains("open_nsfw");
        for (engine, tolerance) in
            [(Engine::Jit, 1e-5), (Engine::InterpF32, 1e-5), (Engine::InterpF64, 1e-10)]
        {
            let explainer = Compiler::new(preset.clone()).engine(engine).compile(&model).unwrap();
            assert!(explainer.is_conserving(), "{}: {:?}", model.display(), explainer.leaks());
            let x = input(&explainer, if big { 1 } else { 2 });
            let result =
                explainer.explain(x.view(), &Seed::Named(SeedKind::Logit), &Targets::TopK(2)).unwrap();
            for explanation in &result.explanations {
                for sample in 0..x.shape()[0] {
                    let error = explanation.conservation_error(sample);
                    assert!(error <= tolerance, "{} {}: {error:e}", model.display(), engine.name());
                }
                explanation.ledger.check(tolerance).unwrap();
            }
            let Cuts { error, behind, .. } = match engine {
                // The ledger, checked above, has what crosses each of its nodes.
                Engine::Jit => continue,
                Engine::InterpF32 => cut::<f32>(&explainer, &x),
                Engine::InterpF64 => cut::<f64>(&explainer, &x),
            };
            assert!(error <= tolerance, "{} {}: {error:e} behind {behind}", model.display(), engine.name());
        }
    }
}

/// The `paper` preset loses relevance where semantics say: at the MaxPool and at the 1x1 projections; with what the
/// ledger says was lost, the input's relevance adds up to the seed.
#[test]
fn the_ledger_of_paper_shows_where_relevance_is_lost() {
    let Some(shared) = shared() else { return };
    let x = Npz::open(shared.path("refs/basic18.npz")).f32("x");
    let compiler = Compiler::new(Preset::named("paper").unwrap()).engine(Engine::InterpF64);
    let explainer = compiler.compile(shared.path("refs/basic18.bn.onnx")).unwrap();
    assert!(!explainer.is_conserving());
    let result = explainer.explain(x.view(), &Seed::Named(SeedKind::Prob), &Targets::Argmax).unwrap();
    let ledger = &result.explanations[0].ledger;
    ledger.check(1e-9).unwrap();
    for (sample, total) in ledger.totals.iter().enumerate() {
        let lost: f64 = ledger.entries.iter().map(|e| e.samples[sample].lost()).sum();
        let error = (total.inputs + lost - total.seed).abs() / total.seed_magnitude;
        assert!(error <= 1e-9, "sample {sample}: off by {error:e}");

        let lost_at = |name: &str| -> f64 {
            let entries = ledger.entries.iter().filter(|e| e.name.contains(name));
            entries.map(|e| e.samples[sample].lost()).sum::<f64>() / total.seed
        };
        let (pool, projections) = (lost_at("maxpool"), lost_at("downsample"));
        println!(
            "sample {sample}: pool {pool:.4}, projections {projections:.4}, all {:.4}",
            lost / total.seed
        );
        assert!(pool > 0.01, "sample {sample}: the MaxPool lost {pool}");
        assert!(projections > 0.001, "sample {sample}: the projections lost {projections}");
        assert!((pool + projections) / (lost / total.seed) > 0.99, "sample {sample}: something else leaks");
    }
}

/// A network without skips is explained all the same, with a warning.
#[test]
fn a_network_without_joins_works_with_a_warning() {
    use relc_ir::op::{Activation, Conv, Gemm, Window};
    use relc_ir::{Graph, Op, TensorType, ValueId, Weight};

    let mut graph = Graph::new("plain");
    let weight = |graph: &mut Graph, name: &str, dims: &[usize]| {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + 3) as f32 * 0.71).sin()).collect();
        let weight = Weight::new(name, TensorType::new(dims.iter().copied()), values).unwrap();
        graph.add_weight(weight).unwrap()
    };
    let value = |node| ValueId { node, port: 0 };
    let x = graph.add_input("x", TensorType::batched(&[2, 8, 8])).unwrap();
    let w = weight(&mut graph, "w", &[5, 2, 3, 3]);
    let window = Window::new([3, 3], [2, 2]).padded(1);
    let conv = Op::Conv(Conv { window, group: 1, folded_bias: false });
    let conv = graph.add_node(conv, "conv", &[x, w]).unwrap();
    let relu = graph.add_node(Op::Activation(Activation::Relu), "relu", &[value(conv)]).unwrap();
    let pool = graph.add_node(Op::GlobalAveragePool, "pool", &[value(relu)]).unwrap();
    let flat = Op::Reshape(relc_ir::op::Reshape { shape: TensorType::batched(&[5]).dims().to_vec() });
    let flat = graph.add_node(flat, "flat", &[value(pool)]).unwrap();
    let fc = weight(&mut graph, "fc", &[3, 5]);
    let gemm = Op::Gemm(Gemm { trans_b: true, folded_bias: false });
    let gemm = graph.add_node(gemm, "fc", &[value(flat), fc]).unwrap();
    graph.add_output("y", value(gemm));

    let explainer = Compiler::new(Preset::named("conserve").unwrap()).compile(graph).unwrap();
    let remarks: Vec<String> =
        explainer.compiled().passes.iter().flat_map(|p| &p.remarks).map(ToString::to_string).collect();
    assert!(remarks.iter().any(|r| r.starts_with("warning: no residual join found")), "{remarks:?}");
    let x = input(&explainer, 3);
    let result =
        explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::Outputs(vec![1])).unwrap();
    for sample in 0..3 {
        assert!(result.explanations[0].conservation_error(sample) <= 1e-6);
    }
}
