//! The library's front door: where models come from, passes of one's own, and graphs that were changed by hand.

use std::sync::{Arc, Mutex};

use relc::ndarray::{ArrayD, Axis};
use relc::unstable::ir::op::Relevance;
use relc::unstable::ir::{Graph, NodeId, Op, ValueId};
use relc::{
    CompileError, Compiler, Engine, Explainer, Pass, PassError, Preset, Remarks, Seed, SeedKind, Targets,
};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo/model.onnx");

fn compiler() -> Compiler {
    Compiler::new(Preset::named(Preset::DEFAULT).unwrap())
}

fn relevance(explainer: &Explainer) -> ArrayD<f32> {
    let x = ArrayD::from_shape_fn(vec![1, 3, 64, 64], |i| ((i[1] * 5 + i[2] * 3 + i[3]) as f32 * 0.7).sin());
    let seed = Seed::Named(SeedKind::Logit);
    explainer.explain(x.view(), &seed, &Targets::Argmax).unwrap().explanations.remove(0).relevance
}

#[test]
fn a_path_its_bytes_and_its_graph_are_one_model() {
    let from_path = compiler().compile(DEMO).unwrap();
    let bytes = std::fs::read(DEMO).unwrap();
    assert_eq!(relevance(&compiler().compile(bytes.clone()).unwrap()), relevance(&from_path));
    let graph = relc_onnx::import_bytes(bytes, None).unwrap().graph;
    assert_eq!(relevance(&compiler().compile(graph).unwrap()), relevance(&from_path));
}

#[test]
fn each_sample_has_a_target_of_its_own() {
    let x =
        ArrayD::from_shape_fn(vec![3, 3, 64, 64], |i| ((i[0] * 7 + i[1] * 5 + i[2] * 3 + i[3]) as f32).sin());
    let seed = Seed::Named(SeedKind::Logit);
    for engine in [Engine::Jit, Engine::InterpF32] {
        let explainer = compiler().engine(engine).compile(DEMO).unwrap();
        let explain = |targets| explainer.explain(x.view(), &seed, &targets);
        let each = explain(Targets::Each(vec![2, 0, 5])).unwrap();
        assert_eq!(each.explanations.len(), 1);
        assert_eq!(each.explanations[0].targets, [2, 0, 5]);
        for (sample, target) in [2, 0, 5].into_iter().enumerate() {
            let all = explain(Targets::Outputs(vec![target])).unwrap();
            let row =
                |r: &relc::Explanations| r.explanations[0].relevance.index_axis(Axis(0), sample).to_owned();
            assert_eq!(row(&each), row(&all), "{} of sample {sample}", engine.name());
        }
        let said = |targets| explain(Targets::Each(targets)).unwrap_err().to_string();
        assert_eq!(said(vec![1]), "got 1 targets for 3 samples, expected one for each");
        assert_eq!(said(vec![0; 4]), "got 4 targets for 3 samples, expected one for each");
        assert_eq!(said(vec![0, 0, 8]), "target 8 is out of range: the model has 8 outputs, 0 to 7");
    }
}

/// Where relevance has one sign and is conserved, what arrives at a node goes on to those that it reads, by the shares of
/// its join; what two engines and a batch say of it is the same.
#[test]
fn the_flow_of_relevance_is_conserved_along_edges() {
    let x =
        ArrayD::from_shape_fn(vec![2, 3, 64, 64], |i| ((i[0] * 7 + i[1] * 5 + i[2] * 3 + i[3]) as f32).sin());
    let seed = Seed::Named(SeedKind::OneHot);
    let flows = |compiler: Compiler, x: &ArrayD<f32>| {
        let explainer = compiler.compile(DEMO).unwrap();
        let explanation =
            explainer.explain(x.view(), &seed, &Targets::Outputs(vec![3])).unwrap().explanations.remove(0);
        let flows = explainer.flow(x.view(), &seed, &explanation).unwrap();
        (explainer, explanation, flows)
    };
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1e-3);
    for preset in ["conserve", "two_level"] {
        let compiler = || Compiler::new(Preset::named(preset).unwrap());
        let (explainer, explanation, all) = flows(compiler(), &x);
        let (_, _, exact) = flows(compiler().engine(Engine::InterpF64), &x);
        let graph = explainer.graph();
        for (sample, (flow, exact)) in all.iter().zip(&exact).enumerate() {
            let first = &flow.nodes[0];
            assert_eq!(graph.node(first.node).op, Op::Input);
            assert_eq!(first.map.shape(), [64, 64]);
            assert!(close(first.sum, explanation.ledger.totals[sample].inputs), "{preset}: {}", first.sum);
            assert_eq!(flow.edges.iter().filter(|edge| edge.skip).count(), 6, "{preset}");
            for (node, twin) in flow.nodes.iter().zip(&exact.nodes) {
                let what = graph.describe(node.node);
                assert!(
                    close(node.magnitude, twin.magnitude),
                    "{preset}: {what}: {} {}",
                    node.magnitude,
                    twin.magnitude
                );
                assert!(close(node.map.iter().map(|v| f64::from(*v)).sum(), node.sum), "{preset}: {what}");
            }
            // Of two_level, a share goes past the network.
            assert_eq!(
                flow.nodes.iter().filter_map(|n| n.readout).sum::<f64>(),
                if preset == "conserve" { 0.0 } else { 0.65 }
            );
            // What arrives at a node goes on to those that it reads, but for the part of a read-out; by two_level it has both
            // signs, of which z+ lets some cancel, and epsilon makes more.
            let (least, most) =
                if preset == "conserve" { (1.0 - 1e-4, 1.0 + 1e-4) } else { (0.1, 1.0 + 1e-4) };
            let adds = |node: NodeId| graph.rules.get(&node).is_some_and(|a| a.rule.name() == "epsilon");
            for (to, node) in flow.nodes.iter().enumerate().skip(1).filter(|(_, n)| !adds(n.node)) {
                let passed: f64 = flow.edges.iter().filter(|e| e.to == to).map(|e| e.magnitude).sum();
                let expected = node.magnitude * (1.0 - node.readout.unwrap_or(0.0));
                let what = graph.describe(node.node);
                assert!(
                    (least..most).contains(&(passed / expected)),
                    "{preset}: {what}: {passed} {expected}"
                );
            }
            for join in &explanation.ledger.joins {
                let of = graph.node(join.node).of.unwrap();
                let to = flow.nodes.iter().position(|n| n.node == of).unwrap();
                let skip = flow.edges.iter().find(|e| e.to == to && e.skip).unwrap().magnitude;
                let share = skip / flow.edges.iter().filter(|e| e.to == to).map(|e| e.magnitude).sum::<f64>();
                assert!(
                    preset != "conserve" || close(share, join.share[sample]),
                    "{}: {share} {:?}",
                    join.name,
                    join.share
                );
            }
        }
        let one = x.select(Axis(0), &[1]);
        let (_, _, alone) = flows(compiler(), &one);
        for (node, batched) in alone[0].nodes.iter().zip(&all[1].nodes) {
            assert_eq!(node.map, batched.map, "{preset}: {}", graph.describe(node.node));
        }
        let edges = |flow: &relc::Flow| flow.edges.iter().map(|edge| edge.magnitude).collect::<Vec<_>>();
        assert_eq!(edges(&alone[0]), edges(&all[1]), "{preset}");
    }
}

#[test]
fn what_is_no_model_is_named() {
    let said = |error: CompileError| relc_tests::zoo::chain(&error);
    let bytes = said(compiler().compile(b"no model".to_vec()).unwrap_err());
    assert!(bytes.starts_with("can't import the model of 8 bytes"), "{bytes}");
    let path = said(compiler().compile("no/such.onnx").unwrap_err());
    assert!(path.starts_with("can't import no/such.onnx"), "{path}");
}

/// Notes that it ran.
struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Pass for Note {
    fn name(&self) -> &'static str {
        self.0
    }

    fn description(&self) -> &'static str {
        "note that it ran"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Remarks) -> Result<(), PassError> {
        self.1.lock().unwrap().push(self.0);
        remarks.applied("", format!("{} nodes", graph.forward_order().map_or(0, |nodes| nodes.len())));
        Ok(())
    }
}

#[test]
fn passes_of_ones_own_run_where_they_are_put() {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let note = |name| Note(name, ran.clone());
    let compiler = compiler()
        .pass_after("insert-splits", note("first"))
        .pass_after("infer-shapes", note("early"))
        .pass_after("insert-splits", note("second"));
    let explainer = compiler.compile(DEMO).unwrap();
    assert_eq!(*ran.lock().unwrap(), ["early", "first", "second"]);
    let names: Vec<&str> = explainer.compiled().passes.iter().map(|p| p.name.as_ref()).collect();
    let at = names.iter().position(|name| *name == "insert-splits").unwrap();
    assert_eq!(names[at + 1..at + 3], ["first", "second"]);
    assert_eq!(explainer.compiled().passes[at + 1].remarks.len(), 1);
    let error = compiler.pass_after("insert-split", note("lost")).compile(DEMO).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, CompileError::NoPass { pass: "lost", .. }), "{said}");
    assert!(said.contains("did you mean \"insert-splits\"?"), "{said}");
}

/// z+ as a rule of one's own is z+, under every engine; another one is another map.
#[test]
fn rules_of_ones_own_are_lines_of_a_preset() {
    let preset = |parts: &str| {
        let rule = format!("{{ name = \"mine\", parts = [{parts}] }}");
        let line = format!(
            "[[rule]]\nop = [\"Conv\", \"Gemm\"]\nrule = {rule}\nbias = \"exclude\"\nfallback = \"flat\"\n"
        );
        Preset::parse(&format!("extends = \"conserve\"\nname = \"mine\"\n\n{line}"), "mine.toml")
    };
    let zplus = "extends = \"conserve\"\nname = \"zplus\"\n\n[[rule]]\nop = [\"Conv\", \"Gemm\"]\nrule = \"zplus\"\n\
                 input = \"signed\"\nbias = \"exclude\"\nfallback = \"flat\"\n";
    let zplus = Preset::parse(zplus, "zplus.toml").unwrap();
    for (_, engine) in Engine::ALL {
        let map = |preset: Preset| relevance(&Compiler::new(preset).engine(engine).compile(DEMO).unwrap());
        let mine = preset("\"a+*w+ + a-*w-\"").unwrap();
        assert_eq!(map(mine.clone()), map(zplus.clone()), "{}", engine.name());
        let again = Preset::parse(&mine.canonical(), "canonical").unwrap();
        assert_eq!((again.hash(), map(again)), (mine.hash(), map(mine)), "{}", engine.name());
        assert_ne!(map(preset("\"a*w^2\"").unwrap()), map(zplus.clone()), "{}", engine.name());
        // Behind a Relu, nothing is left of this one: all goes to the fallback.
        let flat = map(preset("\"a-*w-\"").unwrap());
        assert!(flat.iter().all(|v| v.is_finite()) && flat.iter().any(|v| *v != 0.0), "{}", engine.name());
    }
    let claims = |parts: &str| Compiler::new(preset(parts).unwrap()).compile(DEMO).unwrap().is_conserving();
    assert!(
        claims("\"a+*w+ a-*w-\"") && !claims("\"a+*w+ a-*w- z>0\""),
        "what a condition leaves out is lost"
    );
    for (parts, says) in [
        ("", "expected one or more"),
        ("\"a+*w++\"", "expected one of w, w+"),
        ("\"a*w+gw+\"", "expected gamma"),
    ] {
        let said = relc_tests::zoo::chain(&preset(parts).unwrap_err());
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_graph_with_relevance_is_finished_and_not_compiled_again() {
    let compiled = compiler().passes(DEMO, |_, _| {}).unwrap();
    let error = compiler().compile(compiled.graph.clone()).unwrap_err();
    assert!(error.to_string().contains("Compiler::finish"), "{error}");
    let expected = relevance(&compiler().compile(DEMO).unwrap());
    assert_eq!(relevance(&compiler().finish(compiled.clone()).unwrap()), expected);
    let forward = relc_onnx::import_path(DEMO).unwrap().graph;
    let error = compiler().finish(relc::Compiled { graph: forward, ..compiled }).unwrap_err();
    assert!(error.to_string().contains("a graph without relevance"), "{error}");
    // The claim is that of the graph that is finished.
    let compiled = compiler().passes(DEMO, |_, _| {}).unwrap();
    let mut graph = compiled.graph.clone();
    graph.claim.as_mut().unwrap().leaks.clear();
    let (input, arriving) = graph.relevance_outputs[0];
    let mask = Op::Relevance(Relevance::Mask { channels: vec![0] });
    let masked = graph.add_relevance(mask, input, &[arriving]).unwrap();
    graph.relevance_outputs[0].1 = ValueId { node: masked, port: 0 };
    assert!(compiler().finish(compiled.clone()).unwrap().is_conserving());
    let masked = compiler().finish(relc::Compiled { graph, ..compiled }).unwrap();
    assert!(!masked.is_conserving());
}

/// Weights are not kept beside what they were packed to, but made again for whoever reads them: the same.
#[test]
fn packed_weights_stand_in_for_the_models() {
    let compiler = compiler();
    let graph = compiler.passes(DEMO, |_, _| {}).unwrap().graph;
    let explainer = compiler.compile(DEMO).unwrap();
    let before = relevance(&explainer);
    let unmade = |graph: &Graph| -> Vec<String> {
        let all = graph.weights().filter(|weight| weight.data().is_some_and(|data| !data.is_made()));
        all.map(|weight| weight.name().to_string()).collect()
    };
    let elsewhere = unmade(explainer.graph());
    assert!(!elsewhere.is_empty(), "every weight is kept");
    for (weight, expected) in explainer.graph().weights().zip(graph.weights()) {
        assert_eq!(weight, expected);
        assert_eq!(weight.data().unwrap()[..], expected.data().unwrap()[..], "{}", weight.name());
    }
    assert!(unmade(explainer.graph()).is_empty());
    assert_eq!(relevance(&explainer), before);
}
