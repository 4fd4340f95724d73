//! Explainers as ONNX files, run by ONNX Runtime, against relc's own explanations: every preset, over networks of every
//! kind.
//!
//! `RELC_PYTHON` names a Python that has numpy and onnxruntime; CI sets it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{ArrayD, Axis};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use relc::{Compiler, Engine, ExportTarget, Preset, Seed, SeedKind, Targets};
use relc_ir::op::{Conv, Window};
use relc_ir::{Dim, Graph, Op, TensorType, ValueId, Weight};
use relc_tests::agreement::{AGREEMENT, Model, SLACK, nudged, off, presets};
use relc_tests::every::{ensemble, every_activation, every_arithmetic, every_window};
use relc_tests::npz::{Npz, NpzWriter};
use relc_tests::parts::{build, plans};
use relc_tests::shared::{shared, skipped};
use relc_tests::twins;

/// A Python with ONNX Runtime; `None`, with a word on standard error, if there is none.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("RELC_PYTHON").map(PathBuf::from);
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci || python.is_some(), "CI has to set RELC_PYTHON, a Python with numpy and onnxruntime");
    if python.is_none() {
        skipped("no ONNX Runtime (set RELC_PYTHON to a Python that has it)");
    }
    python
}

/// What is asked of one explainer.
struct Case {
    name: String,
    explained: relc::Explanations,
    allowed: f64,
    conserving: bool,
}

/// Explainers, written one after the other and then run in one process.
struct Suite {
    folder: tempfile::TempDir,
    cases: Vec<Case>,
    wrong: Vec<String>,
    /// How many explainers there were.
    turn: usize,
}

impl Suite {
    fn new() -> Suite {
        Suite { folder: tempfile::tempdir().unwrap(), cases: Vec::new(), wrong: Vec::new(), turn: 0 }
    }

    /// Explains a batch and its first sample by relc, and writes both for ONNX Runtime.
    fn add(&mut self, name: &str, model: Model<'_>, preset: &Preset, x: &ArrayD<f32>, engine: Engine) {
        if let Err(error) = self.try_add(name, model, preset, x, engine) {
            self.wrong.push(format!("{name}: {error}"));
        }
    }

    fn try_add(
        &mut self,
        name: &str,
        model: Model<'_>,
        preset: &Preset,
        x: &ArrayD<f32>,
        engine: Engine,
    ) -> Result<(), String> {
        let compile = |engine| model.compile(&Compiler::new(preset.clone()).engine(engine));
        let explainer = compile(engine)?;
        // The kinds of seeds take turns, and so do the ways of naming a target.
        let turn = self.turn;
        self.turn += 1;
        // Without the oracle, nothing says how far rounding decides a map that starts from both signs.
        let kinds = match engine {
            Engine::Jit => [SeedKind::OneHot, SeedKind::Prob, SeedKind::OneHot, SeedKind::Prob],
            _ => [SeedKind::OneHot, SeedKind::Logit, SeedKind::Prob, SeedKind::Contrast],
        };
        let kind = kinds[turn % kinds.len()];
        let output = turn % explainer.outputs();
        let (target, targets) = match turn % 3 {
            0 => (ExportTarget::Argmax, Targets::Argmax),
            1 => (ExportTarget::Output(output), Targets::Outputs(vec![output])),
            _ => (ExportTarget::Input, Targets::Outputs(vec![output])),
        };
        let bytes = explainer.to_onnx(target, kind).map_err(|e| e.to_string())?;
        if let Model::File(path) = model
            && path.metadata().is_ok_and(|m| m.len() > 500_000 && bytes.len() as f64 > 1.3 * m.len() as f64)
        {
            return Err(format!("{} bytes are more than 1.3 times the model", bytes.len()));
        }
        let (name_of_input, ty) = explainer.input().map_err(|e| e.to_string())?;
        // Some graphs are the interpreter's alone.
        let in_f32: Vec<_> = if engine == Engine::InterpF64 {
            [Engine::InterpF32, Engine::Jit].into_iter().filter_map(|engine| compile(engine).ok()).collect()
        } else {
            Vec::new()
        };
        let batches = if ty.dims()[0] == Dim::Batch { vec![x.shape()[0], 1] } else { vec![1] };
        for batch in batches {
            let x = x.slice_axis(Axis(0), (0..batch).into()).to_owned();
            let explain = |explainer: &relc::Explainer, x: &ArrayD<f32>| {
                explainer.explain(x.view(), &Seed::Named(kind), &targets).map_err(|e| e.to_string())
            };
            let explained = match explain(&explainer, &x) {
                Ok(explained) => explained,
                // Relevance that f32 can't hold.
                Err(error) if error.contains("beyond the numbers of f32") || error.contains("finite") => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let rounding = if engine == Engine::InterpF64 {
                let far = |explained_in_f32: Result<_, String>| {
                    explained_in_f32.map_or(f64::INFINITY, |got| off(&got, &explained))
                };
                // What lies at a kink for one of them may lie beside it for ONNX Runtime.
                let single = in_f32.iter().map(|explainer| far(explain(explainer, &x))).fold(0.0, f64::max);
                single.max(far(explain(&explainer, &nudged(&x, 0))))
            } else {
                0.0
            };
            let name = format!("{name} batch {batch}");
            let path = |end: &str| self.folder.path().join(format!("{name}.{end}"));
            std::fs::write(path("onnx"), &bytes).unwrap();
            let mut npz = NpzWriter::create(path("in.npz"));
            npz.put(name_of_input, x.shape(), x.iter().copied());
            if target == ExportTarget::Input {
                npz.put("target", &[batch], std::iter::repeat_n(output as i64, batch));
            }
            npz.finish();
            let allowed = (SLACK * rounding).max(AGREEMENT);
            let conserving = explainer.is_conserving();
            self.cases.push(Case { name, explained, allowed, conserving });
        }
        Ok(())
    }

    /// Runs all by ONNX Runtime and says what is off.
    fn run(mut self, python: &Path) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/run_onnx.py");
        let status = Command::new(python).arg(script).arg(self.folder.path()).status();
        assert!(status.expect("RELC_PYTHON runs").success());
        for case in &self.cases {
            if let Err(error) = self.check(case) {
                self.wrong.push(format!("{}: {error}", case.name));
            }
        }
        let count = self.cases.len();
        // Only where relc's own engines differ is more allowed.
        let strict = self.cases.iter().filter(|case| case.allowed == AGREEMENT).count();
        assert!(5 * strict >= 4 * count, "only {strict} of {count} are held to {AGREEMENT:e}");
        assert!(self.wrong.is_empty(), "of {count} explainers:\n{}", self.wrong.join("\n"));
    }

    fn check(&self, case: &Case) -> Result<(), String> {
        let path = |end: &str| self.folder.path().join(format!("{}.{end}", case.name));
        if let Ok(error) = std::fs::read_to_string(path("error.txt")) {
            return Err(error);
        }
        let arrays = Npz::open(path("out.npz"));
        let mut got = case.explained.clone();
        got.explanations[0].relevance = arrays.f32("relevance");
        let relevance = off(&got, &case.explained);
        if relevance.is_nan() || relevance > case.allowed {
            return Err(format!("relevance off by {relevance:e}, not {:e}", case.allowed));
        }
        let logits = arrays.f32("logits").mapv(f64::from);
        let scale = case.explained.logits.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let difference = &logits - &case.explained.logits;
        let logits = difference.iter().fold(0.0, |m: f64, v| m.max(v.abs())) / scale;
        if logits.is_nan() || logits > AGREEMENT {
            return Err(format!("logits off by {logits:e}"));
        }
        let explanation = &case.explained.explanations[0];
        if case.conserving {
            for (sample, r) in got.explanations[0].relevance.axis_iter(Axis(0)).enumerate() {
                let sum: f64 = r.iter().map(|v| f64::from(*v)).sum();
                let magnitude: f64 = r.iter().map(|v| f64::from(v.abs())).sum();
                let seed = explanation.ledger.totals[sample].seed;
                if (sum - seed).abs() > 1e-5 * magnitude.max(seed.abs()) + f64::from(f32::MIN_POSITIVE) {
                    return Err(format!("sample {sample}: relevance adds up to {sum}, the seed to {seed}"));
                }
            }
        }
        if let Some(map) = &explanation.map {
            let sums = arrays.f32("map");
            let scale = map.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
            let off = (&sums - map).iter().fold(0.0f32, |m, v| m.max(v.abs())) / scale;
            if sums.shape() != map.shape() || f64::from(off) > 2.0 * case.allowed {
                return Err(format!("the map {:?} is off by {off:e}", sums.shape()));
            }
        }
        Ok(())
    }
}

fn noise(shape: &[usize], low: f32, seed: u64) -> ArrayD<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    ArrayD::from_shape_simple_fn(shape.to_vec(), || low + rng.f32() * (2.0 - low))
}

/// Random networks of all kinds, the same each time.
fn random() -> Vec<(Graph, ArrayD<f32>)> {
    let config = Config { rng_seed: RngSeed::Fixed(14), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let network = |runner: &mut TestRunner| {
        let plan = plans().new_tree(runner).unwrap().current();
        let [c, h, w] = plan.image;
        (build(&plan), noise(&[3, c, h, w], if plan.signed { -2.0 } else { 0.0 }, plan.seed))
    };
    (0..8).map(|_| network(&mut runner)).collect()
}

#[test]
fn random_networks_explain_alike_in_onnx_runtime() {
    let Some(python) = python() else { return };
    let mut suite = Suite::new();
    for (i, (graph, x)) in random().iter().enumerate() {
        for (name, preset) in presets() {
            suite.add(&format!("{i} {name}"), Model::Graph(graph), &preset, x, Engine::InterpF64);
        }
    }
    // What is read out between layers over other axes is spread over the picture's.
    let twin = twins::Plan {
        axes: 2,
        negative: false,
        epsilon: 1e-5,
        pooled: true,
        blocks: vec![twins::Block::Projection; 2],
        seed: 0,
    };
    let raised = twins::build(&twin, twins::Form::Raised);
    let two_level = Preset::named("two_level").unwrap();
    suite.add("raised", Model::Graph(&raised), &two_level, &noise(&[3, 2, 7, 8], -2.0, 6), Engine::InterpF64);
    // Not every activation has a rule that conserves.
    let derivatives = ["gradient", "guided_backprop", "deconvnet"];
    let x = noise(&[3, 2, 5, 6], -2.0, 5);
    for (name, preset) in presets() {
        if derivatives.contains(&name) {
            let graph = every_activation(3);
            suite.add(&format!("activations {name}"), Model::Graph(&graph), &preset, &x, Engine::InterpF64);
        }
        for (graph, of) in [(every_arithmetic(3), "arithmetic"), (ensemble(3, None), "ensemble")] {
            suite.add(&format!("{of} {name}"), Model::Graph(&graph), &preset, &x, Engine::InterpF64);
        }
    }
    suite.run(&python);
}

/// Rules that no shipped preset has in this form.
const OWN: [(&str, &str); 3] = [
    ("proportional", "rule = \"epsilon\"\nrelative_eps = 0.25\nleak = \"proportional\""),
    ("alpha_beta", "rule = \"alpha_beta\"\nalpha = 2.0\nbeta = 1.0\nfallback = \"flat\""),
    (
        "zbox",
        "position = \"first\"\nrule = \"zbox\"\nfallback = \"flat\"\nlow = [-3.0, -2.0, -3.0, -4.0]\nhigh = [3.0, 2.0, 3.0, 4.0]",
    ),
];

#[test]
fn windows_of_all_kinds_explain_alike_in_onnx_runtime() {
    let Some(python) = python() else { return };
    let mut suite = Suite::new();
    let own = OWN.map(|(name, rule)| {
        let text = format!("extends = \"conserve\"\n[[rule]]\nop = \"Conv\"\n{rule}");
        (name, Preset::parse(&text, name).unwrap())
    });
    for (name, preset) in presets().into_iter().chain(own) {
        for seed in 0..4 {
            let (graph, x) = (every_window(seed), noise(&[1, 4, 12, 11], -2.0, seed));
            let case = format!("{seed} {name}");
            suite.add(&case, Model::Graph(&graph), &preset, &x, Engine::InterpF64);
        }
    }
    suite.run(&python);
}

#[test]
fn the_repositorys_networks_explain_alike_in_onnx_runtime() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut suite = Suite::new();
    let models = [
        ("examples/demo/model.onnx", vec![3, 3, 64, 64]),
        ("fuzz/seeds/import/se.onnx", vec![]),
        ("fuzz/seeds/import/up-and-down.onnx", vec![]),
        ("fuzz/seeds/import/basic.qdq.onnx", vec![]),
    ];
    for (model, shape) in models {
        let path = root.join(model);
        let shape = if shape.is_empty() { input_shape(&path) } else { shape };
        for (name, preset) in presets() {
            let stem = path.file_stem().unwrap().to_string_lossy().to_string();
            suite.add(
                &format!("{stem} {name}"),
                Model::File(&path),
                &preset,
                &noise(&shape, 0.0, 8),
                Engine::InterpF64,
            );
        }
    }
    suite.run(&python);
}

/// The shape of three samples of a model's input.
fn input_shape(model: &Path) -> Vec<usize> {
    let explainer = Compiler::new(Preset::named("conserve").unwrap()).compile(model).unwrap();
    explainer.input().unwrap().1.bind(3)
}

#[test]
fn shared_networks_explain_alike_in_onnx_runtime() {
    let (Some(python), Some(shared)) = (python(), shared()) else { return };
    let mut suite = Suite::new();
    let files =
        ["models/cifar10_resnet20.bn.onnx", "models/efficientnet_lite0.onnx", "models/open_nsfw.onnx"];
    let refs =
        ["refs/basic18.bn.onnx", "refs/neggamma18.folded.onnx", "refs/signal12.onnx", "refs/volume10.onnx"];
    for file in files.into_iter().chain(refs) {
        let path = PathBuf::from(shared.path(file));
        let shape = input_shape(&path);
        // Of large networks three presets, against the compiled engine; of the others every preset, against the oracle.
        let large = shape.iter().product::<usize>() > 3 * 3 * 64 * 64;
        let engine = if large { Engine::Jit } else { Engine::InterpF64 };
        for (name, preset) in presets() {
            if !large || ["two_level", "conserve", "epsilon_plus_flat"].contains(&name) {
                let x = noise(&shape, -2.0, 3);
                let stem = path.file_stem().unwrap().to_string_lossy().to_string();
                suite.add(&format!("{stem} {name}"), Model::File(&path), &preset, &x, engine);
            }
        }
    }
    suite.run(&python);
}

#[test]
fn names_that_the_model_has_are_left_to_it() {
    let mut graph = Graph::new("clash");
    let x = graph.add_input("map", TensorType::batched(&[3, 4, 4])).unwrap();
    let weight = Weight::new("relevance", TensorType::new([2usize, 3, 1, 1]), vec![0.5; 6]).unwrap();
    let weight = graph.add_weight(weight).unwrap();
    let conv = Conv { window: Window::new([1, 1], [1, 1]), group: 1, folded_bias: false };
    let conv = graph.add_node(Op::Conv(conv), "logits", &[x, weight]).unwrap();
    let pool = graph.add_node(Op::GlobalAveragePool, "logits", &[ValueId { node: conv, port: 0 }]).unwrap();
    graph.add_output("y", ValueId { node: pool, port: 0 });
    let explainer = Compiler::new(Preset::named("conserve").unwrap()).compile(graph).unwrap();
    let bytes = explainer.to_onnx(ExportTarget::Input, SeedKind::OneHot).unwrap();
    let graph = relc_onnx::proto::decode(bytes.into()).unwrap().graph.unwrap();
    let names = |infos: &[relc_onnx::proto::ValueInfoProto]| -> Vec<String> {
        infos.iter().map(|info| info.name.clone().unwrap()).collect()
    };
    assert_eq!(names(&graph.input), ["map", "target"]);
    assert_eq!(names(&graph.output), ["logits", "relevance", "map.1"]);
    let mut all: Vec<_> = graph.node.iter().flat_map(|node| &node.output).collect();
    all.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_ref()));
    let nodes: Vec<_> = graph.node.iter().filter_map(|node| node.name.as_ref()).collect();
    for names in [all, nodes] {
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
