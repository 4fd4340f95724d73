//! The CUDA back end on machines without a GPU: every kernel's logic on the host against the f64 interpreter, and NVRTC's
//! opinion of every kernel's text.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use ndarray::ArrayD;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::program::{Backend, BackendError, Step, StepOp};
use relc::{
    Compiler, Engine, ExplainError, InterpError, Isa, Precision, Preset, RunError, Seed, SeedKind, Targets,
};
use relc_cuda::host::Host;
use relc_cuda::{Cuda, CudaError, CudaModule, Device, StepTime, driver};
use relc_interp::Interpreter;
use relc_tests::agreement::{Model, check_accounts, check_on, presets};
use relc_tests::every::{ensemble, every_activation, every_arithmetic, every_window};
use relc_tests::odd::{many_branches, patches, undivided_at_a_fork};
use relc_tests::resnet::ResNet;
use relc_tests::shared::skipped;
use relc_tests::soup::soup;
use relc_tests::{graphs, parts};

/// As many multiprocessors as let tiles of all sizes occur in small networks.
const MULTIPROCESSORS: usize = 4;
/// Those of the A100 and of the H100 and H200.
const ARCHITECTURES: [&str; 2] = ["compute_80", "compute_90"];
/// Random graphs of all ops.
const SOUPS: u64 = 12;
/// Random networks of which a preset takes one.
const DRAWS: usize = 20;

fn host(precision: Precision) -> Cuda {
    Cuda::new(Arc::new(Host { multiprocessors: MULTIPROCESSORS })).precision(precision).unwrap()
}

fn on_host(compiler: Compiler) -> Compiler {
    compiler.backend(Arc::new(host(Precision::F32)))
}

/// Two samples of noise; none if the preset does not take the model, no engine compiles it, or what it computes of them is
/// not finite.
fn noise(model: Model<'_>, preset: &Preset) -> Option<ArrayD<f32>> {
    let explainer = model.compile(&Compiler::new(preset.clone())).ok()?;
    let shape = explainer.input().unwrap().1.bind(2);
    let mut rng = fastrand::Rng::with_seed(7);
    let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0);
    // Some random graphs take roots of what is negative.
    let oracle = model.compile(&Compiler::new(preset.clone()).engine(Engine::InterpF64)).ok()?;
    oracle.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::Outputs(vec![0])).is_ok().then_some(x)
}

/// The presets that take a model.
fn taken(model: Model<'_>) -> Vec<(&'static str, Preset)> {
    presets().into_iter().filter(|(_, preset)| noise(model, preset).is_some()).collect()
}

#[track_caller]
fn check(what: &str, model: Model<'_>, (name, preset): &(&str, Preset)) {
    let x = noise(model, preset).unwrap_or_else(|| panic!("{what}: {name} does not take it"));
    match check_on(model, preset, &x, on_host) {
        Err(why) if why.contains("C++ compiler") && std::env::var_os("CI").is_none() => return skipped(&why),
        result => result.unwrap_or_else(|e| panic!("{what}, {name}: {e}")),
    }
    let explained = |engine: fn(Compiler) -> Compiler| {
        let explainer = model.compile(&engine(Compiler::new(preset.clone()))).unwrap();
        let seed = Seed::Named(SeedKind::OneHot);
        explainer.explain(x.view(), &seed, &Targets::Outputs(vec![0])).unwrap().explanations.remove(0).ledger
    };
    // The processor's books, which count what is spread apart as these do. Where contributions of both signs cancel, rounding
    // is all that some accounts hold.
    if model.compile(&Compiler::new(preset.clone())).unwrap().is_conserving() {
        check_accounts(&format!("{what}, {name}"), &explained(on_host), &explained(|compiler| compiler));
    }
}

/// Every preset on a random network of its own: odd sizes and all kinds of skips, or all kinds of layers and heads.
#[test]
fn random_networks_agree_with_the_oracle() {
    let mut runner = TestRunner::deterministic();
    for (number, preset) in presets().into_iter().enumerate() {
        let mut draw = || match number % 2 {
            0 => graphs::build(&graphs::plans().new_tree(&mut runner).unwrap().current()),
            _ => parts::build(&parts::plans().new_tree(&mut runner).unwrap().current()),
        };
        let graph = std::iter::repeat_with(&mut draw)
            .take(DRAWS)
            .find(|graph| noise(Model::Graph(graph), &preset.1).is_some())
            .unwrap();
        let what = format!("random network {number}");
        check(&what, Model::Graph(&graph), &preset);
        compiles(&what, Model::Graph(&graph), &preset.1, 0);
    }
}

/// Every op that a graph can have, under presets in turn.
#[test]
fn every_op_agrees_with_the_oracle() {
    let every =
        [every_activation(1), every_arithmetic(2), every_window(3), ensemble(4, None), many_branches(5)]
            .into_iter()
            .chain([patches(3), patches(5)]);
    let mut count = 0;
    for (number, graph) in every.chain((0..SOUPS).map(|seed| soup(seed, 12))).enumerate() {
        let model = Model::Graph(&graph);
        let presets = taken(model);
        let Some(preset) = presets.get(number % presets.len().max(1)) else { continue };
        check(graph.name(), model, preset);
        compiles(graph.name(), model, &preset.1, 1);
        count += 1;
    }
    assert!(count > SOUPS / 2, "{count} graphs have a preset");
}

/// What no denominator divides is spread over windows with gaps, where what is spread meets what was summed before.
#[test]
fn what_is_not_divided_agrees_with_the_oracle() {
    let graph = undivided_at_a_fork();
    for name in ["conserve", "two_level", "epsilon_plus_flat"] {
        check(graph.name(), Model::Graph(&graph), &(name, Preset::named(name).unwrap()));
    }
}

/// Networks as exporters write them, under presets in turn.
#[test]
fn the_zoo_agrees_with_the_oracle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Of the files that differ in who wrote them, one.
    files.retain(|file| file.extension().is_some_and(|e| e == "onnx"));
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        !name.starts_with("basic.") || name == "basic.onnx"
    });
    files.sort();
    for (number, file) in files.iter().enumerate() {
        let (model, what) = (Model::File(file), file.display().to_string());
        let presets = taken(model);
        let preset = &presets[number % presets.len()];
        check(&what, model, preset);
        if number % 3 == 0 || is_thorough() {
            compiles(&what, model, &preset.1, number);
        }
    }
}

/// What a run refuses is said in one way, whatever runs it; a sample that is not finite is the sample's fault.
#[test]
fn every_back_end_refuses_alike() {
    let conserve = || Compiler::new(Preset::named("conserve").unwrap());
    let explainer = conserve().compile(every_arithmetic(2)).unwrap();
    let backends: [Arc<dyn Backend>; 3] = [
        Arc::new(Cpu { machine: Machine::generic(Isa::Portable) }),
        Arc::new(Interpreter::F32),
        Arc::new(host(Precision::F32)),
    ];
    for backend in backends {
        let module = match backend.build(explainer.graph(), &[]) {
            Err(why) if why.to_string().contains("C++ compiler") && std::env::var_os("CI").is_none() => {
                continue;
            }
            result => result.unwrap(),
        };
        let mut session = module.session(1);
        let refused = |error: BackendError| *error.downcast::<RunError>().unwrap();
        let name = backend.name();
        assert_eq!(session.backward(&[1.0], false).map_err(refused).unwrap_err(), RunError::NotRun, "{name}");
        let short = session.forward(&[0.0; 3]).map_err(refused).unwrap_err();
        assert!(matches!(short, RunError::Length { got: 3, .. }), "{name}: {short}");
    }
    for compiler in [conserve(), on_host(conserve())] {
        let explainer = compiler.compile(every_arithmetic(2)).unwrap();
        let shape = explainer.input().unwrap().1.bind(1);
        let x = ArrayD::from_elem(shape, f32::NAN);
        let error =
            explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::TopK(1)).unwrap_err();
        assert!(matches!(error, ExplainError::Execute(InterpError::NonFinite { .. })), "{error}");
    }
}

/// Where there is a GPU, networks on it, and two runs that give the same to the bit.
#[test]
fn a_gpu_agrees_with_the_oracle() {
    let gpu: Arc<dyn Device> = match driver::Gpu::new(0) {
        Ok(gpu) => Arc::new(gpu),
        Err(CudaError::Missing(why)) => return skipped(&format!("no CUDA device: {why}")),
        Err(error) => panic!("{error}"),
    };
    let on_gpu = |compiler: Compiler| compiler.backend(Arc::new(Cuda::new(gpu.clone())));
    let mut runner = TestRunner::deterministic();
    let networks =
        [every_window(3), many_branches(5), ResNet::resnet18(64).graph(), ResNet::resnet50(64).graph()];
    let plans =
        std::iter::repeat_with(|| graphs::build(&graphs::plans().new_tree(&mut runner).unwrap().current()));
    for graph in networks.into_iter().chain(plans.take(8)) {
        let model = Model::Graph(&graph);
        for (name, preset) in taken(model) {
            let what = format!("{}, {name}", graph.name());
            let x = noise(model, &preset).unwrap();
            check_on(model, &preset, &x, on_gpu).unwrap_or_else(|e| panic!("{what}: {e}"));
            let explainer = on_gpu(Compiler::new(preset)).compile(graph.clone()).unwrap();
            let explain =
                || explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::TopK(1)).unwrap();
            let (one, two) = (explain(), explain());
            assert_eq!(one.explanations[0].relevance, two.explanations[0].relevance, "{what}");
            assert_eq!(one.explanations[0].ledger, two.explanations[0].ledger, "{what}");
        }
    }
}

/// The two that figures are given of, as thin and small as a host has patience for; their kernels of full size compile.
#[test]
fn resnets_agree_with_the_oracle() {
    let preset = ("conserve", Preset::named("conserve").unwrap());
    for (number, resnet) in [ResNet::resnet18, ResNet::resnet50].into_iter().enumerate() {
        let graph = ResNet { width: 16, ..resnet(48) }.graph();
        check("48 x 48", Model::Graph(&graph), &preset);
        let graph = resnet(224).graph();
        compiles("224 x 224", Model::Graph(&graph), &preset.1, number);
    }
}

/// Tensor cores: three products of TF32 are as good as one of f32, to every bound; one is as good as its 11 bits.
#[test]
fn tensor_cores_agree_with_the_oracle() {
    let networks = [(ResNet::resnet18(32), "conserve"), (ResNet::resnet50(32), "two_level")];
    let taken = if is_thorough() { networks.len() } else { 1 };
    for (number, (network, name)) in networks.into_iter().take(taken).enumerate() {
        let graph = ResNet { width: 16, ..network }.graph();
        let (model, preset) = (Model::Graph(&graph), Preset::named(name).unwrap());
        let x = noise(model, &preset).unwrap();
        let on = |precision| move |compiler: Compiler| compiler.backend(Arc::new(host(precision)));
        let single = |compiler: Compiler| compiler.engine(Engine::InterpF32);
        match check_on(model, &preset, &x, on(Precision::Tf32x3)) {
            Err(why) if why.contains("C++ compiler") && std::env::var_os("CI").is_none() => {
                return skipped(&why);
            }
            result => result.unwrap_or_else(|e| panic!("tf32x3, {name}: {e}")),
        }
        let explained = |engine: &dyn Fn(Compiler) -> Compiler| {
            let explainer = model.compile(&engine(Compiler::new(preset.clone()))).unwrap();
            let seed = Seed::Named(SeedKind::OneHot);
            explainer.explain(x.view(), &seed, &Targets::Outputs(vec![0])).unwrap().explanations.remove(0)
        };
        let (exact, rounded) = (explained(&single), explained(&on(Precision::Tf32)));
        let most = |values: &ArrayD<f32>| values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = most(&(&exact.relevance - &rounded.relevance)) / most(&exact.relevance);
        assert!((1e-6..2e-2).contains(&off), "tf32, {name}: off by {off:e} of the maximum");
        for sample in 0..2 {
            let error = rounded.conservation_error(sample);
            assert!(error < 5e-3, "tf32, {name}: sample {sample} conserves to {error:e}");
        }
        for precision in [Precision::Tf32, Precision::Tf32x3] {
            compiles_in(precision, name, model, &preset, number);
        }
    }
}

/// Times are of every step of the program, and their costs add up to what convolutions do.
#[test]
fn a_profile_has_every_step() {
    let graph = ResNet { width: 16, ..ResNet::resnet18(32) }.graph();
    let preset = Preset::named("conserve").unwrap();
    let explainer = Compiler::new(preset).engine(Engine::InterpF32).compile(graph).unwrap();
    let backend = host(Precision::F32);
    let module = match backend.build(explainer.graph(), &[]) {
        Err(why) if why.to_string().contains("C++ compiler") && std::env::var_os("CI").is_none() => {
            return skipped(&why.to_string());
        }
        result => result.unwrap(),
    };
    let module: Box<dyn Any> = module;
    let module = module.downcast::<CudaModule>().unwrap();
    let samples = 2;
    let x = vec![0.5; samples * 3 * 32 * 32];
    let steps = module.profile(&x, samples, 2).unwrap();
    let program = relc::unstable::program::Module::program(&*module).unwrap();
    let computes = |step: &&Step| !matches!(step.op, StepOp::Tally(_) | StepOp::Absorbed { .. });
    assert_eq!(steps.iter().filter(|step| !step.of_ledger).count(), program.steps().filter(computes).count());
    assert!(steps.iter().all(|step| step.launches > 0));
    assert!(steps.iter().any(|step| step.of_ledger), "sums are timed too");
    let flops = |steps: &[StepTime]| steps.iter().map(|step| step.cost.flops).sum::<f64>();
    let counted: f64 =
        program.steps().map(|step| relc_cuda::Cost::of(program, step, samples).unwrap().flops).sum();
    assert_eq!(flops(&steps), counted);
    // A layer's denominators and its backward step do what its forward step does, but for the first, whose denominators are
    // constants, and the last.
    let [forward, backward] = [true, false].map(|forward| -> Vec<StepTime> {
        steps.iter().filter(|step| step.forward == forward).cloned().collect()
    });
    let ratio = flops(&backward) / flops(&forward);
    assert!((1.5..2.5).contains(&ratio), "{ratio}");
    assert!(module.profile(&x[1..], samples, 1).is_err());
}

/// Whether every network of the zoo is compiled, and each for both architectures: NVRTC takes as long as all else.
fn is_thorough() -> bool {
    std::env::var_os("RELC_CUDA_THOROUGH").is_some()
}

/// What the back end prints is compiled by NVRTC, for an architecture in turn.
#[track_caller]
fn compiles(what: &str, model: Model<'_>, preset: &Preset, number: usize) {
    compiles_in(Precision::F32, what, model, preset, number);
}

#[track_caller]
fn compiles_in(precision: Precision, what: &str, model: Model<'_>, preset: &Preset, number: usize) {
    let explainer = model.compile(&Compiler::new(preset.clone()).engine(Engine::InterpF32)).unwrap();
    let (program, _) = host(precision).program(explainer.graph(), &[], &mut |_, _| {}).unwrap();
    let code = relc_cuda::plan(explainer.graph(), &program).unwrap().code;
    let turn = number % ARCHITECTURES.len();
    for architecture in if is_thorough() { &ARCHITECTURES[..] } else { &ARCHITECTURES[turn..=turn] } {
        match driver::ptx(&code, architecture) {
            Ok(ptx) => {
                let entries = ptx.matches(".entry").count();
                assert_eq!(entries, code.kernels.len(), "{what}, {architecture}");
            }
            Err(CudaError::Missing(why)) if std::env::var_os("CI").is_none() => {
                static SAID: Once = Once::new();
                SAID.call_once(|| skipped(&why));
            }
            Err(error) => panic!("{what}, {architecture}: {error}"),
        }
    }
}
