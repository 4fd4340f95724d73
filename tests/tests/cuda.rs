//! The CUDA back end: every kernel and the driver's calls against the f64 interpreter, on a GPU or on a simulated one, and NVRTC's
//! opinion of every kernel's text.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use ndarray::ArrayD;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::ir::Graph;
use relc::unstable::program::{Backend, BackendError, Module, Step, StepOp};
use relc::{
    Compiler, Engine, ExplainError, Explainer, InterpError, Isa, Precision, Preset, RunError, Seed, SeedKind,
    Targets,
};
use relc_cuda::driver::{self, Tensor};
use relc_cuda::{Cuda, CudaError, CudaModule, Device, Planned, StepTime, What};
use relc_interp::Interpreter;
use relc_tests::agreement::{Model, check_accounts, check_on, presets};
use relc_tests::every::{ensemble, every_activation, every_arithmetic, every_window};
use relc_tests::gpu::{on_gpu, simulated};
use relc_tests::odd::{many_branches, patches, undivided_at_a_fork};
use relc_tests::resnet::ResNet;
use relc_tests::shared::skipped;
use relc_tests::soup::soup;
use relc_tests::{graphs, parts};

/// As many multiprocessors as let tiles of all sizes occur in small networks; a simulated GPU has them.
const PLANNED: Planned = Planned { multiprocessors: 4 };
/// Those of the A100 and of the H100 and H200.
const ARCHITECTURES: [&str; 2] = ["compute_80", "compute_90"];
/// Random graphs of all ops.
const SOUPS: u64 = 12;
/// Random networks of which a preset takes one.
const DRAWS: usize = 20;

/// The GPU that a test is given.
type Gpu = Arc<dyn Device>;

fn cuda(gpu: &Gpu, precision: Precision) -> Cuda {
    Cuda::new(gpu.clone()).precision(precision).unwrap()
}

fn on(gpu: &Gpu) -> impl Fn(Compiler) -> Compiler {
    let backend = Arc::new(cuda(gpu, Precision::F32));
    move |compiler| compiler.backend(backend.clone())
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
fn check(gpu: &Gpu, what: &str, model: Model<'_>, (name, preset): &(&str, Preset)) {
    let x = noise(model, preset).unwrap_or_else(|| panic!("{what}: {name} does not take it"));
    check_on(model, preset, &x, on(gpu)).unwrap_or_else(|e| panic!("{what}, {name}: {e}"));
    let explained = |explainer: &Explainer| {
        let seed = Seed::Named(SeedKind::OneHot);
        explainer.explain(x.view(), &seed, &Targets::Outputs(vec![0])).unwrap().explanations.remove(0)
    };
    let [here, there] = [on(gpu)(Compiler::new(preset.clone())), Compiler::new(preset.clone())]
        .map(|compiler| model.compile(&compiler).unwrap());
    let (one, two) = (explained(&here), explained(&here));
    assert_eq!(one.relevance, two.relevance, "{what}, {name}: two runs differ");
    assert_eq!(one.ledger, two.ledger, "{what}, {name}: two runs differ");
    // The processor's books, which count what is spread apart as these do. Where contributions of both signs cancel, rounding
    // is all that some accounts hold.
    if there.is_conserving() {
        check_accounts(&format!("{what}, {name}"), &one.ledger, &explained(&there).ledger);
    }
}

/// A random network of its own for every preset: odd sizes and all kinds of skips, or all kinds of layers and heads.
fn random_networks() -> Vec<(String, Graph, (&'static str, Preset))> {
    let mut runner = TestRunner::deterministic();
    let mut network = |(number, preset): (usize, (&'static str, Preset))| {
        let mut draw = || match number % 2 {
            0 => graphs::build(&graphs::plans().new_tree(&mut runner).unwrap().current()),
            _ => parts::build(&parts::plans().new_tree(&mut runner).unwrap().current()),
        };
        let graph = std::iter::repeat_with(&mut draw)
            .take(DRAWS)
            .find(|graph| noise(Model::Graph(graph), &preset.1).is_some())
            .unwrap();
        (format!("random network {number}"), graph, preset)
    };
    presets().into_iter().enumerate().map(&mut network).collect()
}

#[test]
fn random_networks_agree_with_the_oracle() {
    on_gpu("random_networks_agree_with_the_oracle", |gpu| {
        for (what, graph, preset) in random_networks() {
            check(&gpu, &what, Model::Graph(&graph), &preset);
        }
    });
}

#[test]
fn kernels_of_random_networks_compile() {
    for (what, graph, preset) in random_networks() {
        compiles(&what, Model::Graph(&graph), &preset.1, 0);
    }
}

/// Every op that a graph can have, under presets in turn.
fn every_op() -> Vec<(Graph, (&'static str, Preset))> {
    let every =
        [every_activation(1), every_arithmetic(2), every_window(3), ensemble(4, None), many_branches(5)]
            .into_iter()
            .chain([patches(3), patches(5)]);
    let all: Vec<_> = (every.chain((0..SOUPS).map(|seed| soup(seed, 12))).enumerate())
        .flat_map(|(number, graph)| {
            let presets = turn(Model::Graph(&graph), number);
            presets.into_iter().map(move |preset| (graph.clone(), preset))
        })
        .collect();
    assert!(all.len() as u64 > SOUPS / 2, "{} graphs have a preset", all.len());
    all
}

#[test]
fn every_op_agrees_with_the_oracle() {
    on_gpu("every_op_agrees_with_the_oracle", |gpu| {
        for (graph, preset) in every_op() {
            check(&gpu, graph.name(), Model::Graph(&graph), &preset);
        }
    });
}

#[test]
fn kernels_of_every_op_compile() {
    for (graph, preset) in every_op() {
        compiles(graph.name(), Model::Graph(&graph), &preset.1, 1);
    }
}

/// What no denominator divides is spread over windows with gaps, where what is spread meets what was summed before.
#[test]
fn what_is_not_divided_agrees_with_the_oracle() {
    on_gpu("what_is_not_divided_agrees_with_the_oracle", |gpu| {
        let graph = undivided_at_a_fork();
        for name in ["conserve", "two_level", "epsilon_plus_flat"] {
            let preset = (name, Preset::named(name).unwrap());
            check(&gpu, graph.name(), Model::Graph(&graph), &preset);
        }
    });
}

/// Of the presets that take a model one, in turn; or each.
fn turn(model: Model<'_>, number: usize) -> Vec<(&'static str, Preset)> {
    let presets = taken(model);
    if of_every_preset() {
        return presets;
    }
    let turn = number % presets.len().max(1);
    presets.into_iter().skip(turn).take(1).collect()
}

/// Networks as exporters write them, under presets in turn. Of the files that differ in who wrote them, one.
fn zoo() -> Vec<(PathBuf, (&'static str, Preset))> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "onnx"));
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        !name.starts_with("basic.") || name == "basic.onnx"
    });
    files.sort();
    if of_every_preset() {
        files.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/demo/model.onnx"));
    }
    let of = |(number, file): (usize, PathBuf)| {
        let presets = turn(Model::File(&file), number);
        presets.into_iter().map(move |preset| (file.clone(), preset))
    };
    files.into_iter().enumerate().flat_map(of).collect()
}

#[test]
fn the_zoo_agrees_with_the_oracle() {
    on_gpu("the_zoo_agrees_with_the_oracle", |gpu| {
        for (file, preset) in zoo() {
            check(&gpu, &file.display().to_string(), Model::File(&file), &preset);
        }
    });
}

#[test]
fn kernels_of_the_zoo_compile() {
    for (number, (file, (_, preset))) in zoo().into_iter().enumerate() {
        if number % 3 == 0 || is_thorough() {
            compiles(&file.display().to_string(), Model::File(&file), &preset, number);
        }
    }
}

/// What a run refuses is said in one way, whatever runs it; a sample that is not finite is the sample's fault.
#[test]
fn every_back_end_refuses_alike() {
    on_gpu("every_back_end_refuses_alike", |gpu| {
        let explainer = conserve().compile(every_arithmetic(2)).unwrap();
        let backends: [Arc<dyn Backend>; 3] = [
            Arc::new(Cpu { machine: Machine::generic(Isa::Portable) }),
            Arc::new(Interpreter::F32),
            Arc::new(cuda(&gpu, Precision::F32)),
        ];
        for backend in backends {
            let module = backend.build(explainer.graph(), &[]).unwrap();
            let mut session = module.session(1);
            let refused = |error: BackendError| *error.downcast::<RunError>().unwrap();
            let name = backend.name();
            let early = session.backward(&[1.0], false).map_err(refused).unwrap_err();
            assert_eq!(early, RunError::NotRun, "{name}");
            let short = session.forward(&[0.0; 3]).map_err(refused).unwrap_err();
            assert!(matches!(short, RunError::Length { got: 3, .. }), "{name}: {short}");
        }
        for compiler in [conserve(), on(&gpu)(conserve())] {
            let explainer = compiler.compile(every_arithmetic(2)).unwrap();
            let shape = explainer.input().unwrap().1.bind(1);
            let x = ArrayD::from_elem(shape, f32::NAN);
            let error =
                explainer.explain(x.view(), &Seed::Named(SeedKind::OneHot), &Targets::TopK(1)).unwrap_err();
            assert!(matches!(error, ExplainError::Execute(InterpError::NonFinite { .. })), "{error}");
        }
    });
}

/// The two that figures are given of, as thin and small as a simulated GPU has patience for.
#[test]
fn resnets_agree_with_the_oracle() {
    on_gpu("resnets_agree_with_the_oracle", |gpu| {
        for resnet in [ResNet::resnet18, ResNet::resnet50] {
            let graph = ResNet { width: 16, ..resnet(48) }.graph();
            for preset in of_a_resnet() {
                check(&gpu, "48 x 48", Model::Graph(&graph), &preset);
            }
        }
    });
}

/// Those of full size.
#[test]
fn kernels_of_resnets_compile() {
    for (number, resnet) in [ResNet::resnet18, ResNet::resnet50].into_iter().enumerate() {
        let graph = resnet(224).graph();
        for (name, preset) in of_a_resnet() {
            compiles(&format!("224 x 224, {name}"), Model::Graph(&graph), &preset, number);
        }
    }
}

/// The preset of the figures, or each.
fn of_a_resnet() -> Vec<(&'static str, Preset)> {
    let figures = |(name, _): &(&str, Preset)| of_every_preset() || *name == "conserve";
    presets().into_iter().filter(figures).collect()
}

/// By no preset does an explanation of a ResNet wait for an op on the host, nor by the default one with attention by softmax.
#[test]
fn a_resnet_stays_on_the_gpu() {
    let sk = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo/sk.onnx");
    let graph = ResNet::resnet18(32).graph();
    for (name, preset) in presets() {
        for model in [Some(Model::Graph(&graph)), (name == "two_level").then_some(Model::File(&sk))] {
            let Some(model) = model else { continue };
            let Ok(explainer) = model.compile(&Compiler::new(preset.clone()).engine(Engine::InterpF32))
            else {
                continue;
            };
            let backend = Cuda::new(Arc::new(PLANNED));
            let (program, _) = backend.program(explainer.graph(), &[], &mut |_, _| {}).unwrap();
            let plan = relc_cuda::plan(explainer.graph(), &program).unwrap();
            let actions = plan.forward.iter().chain(&plan.backward);
            let host: Vec<_> =
                actions.filter(|action| matches!(action.what, What::Interpret { .. })).collect();
            assert!(host.is_empty(), "{}, {name}: {host:?}", explainer.graph().name());
        }
    }
}

/// Networks for tensor cores.
fn for_tensor_cores() -> Vec<(Graph, (&'static str, Preset))> {
    let networks = [(ResNet::resnet18(32), "conserve"), (ResNet::resnet50(32), "two_level")];
    let taken = if is_thorough() { networks.len() } else { 1 };
    let network = |(network, name): (ResNet, _)| {
        (ResNet { width: 16, ..network }.graph(), (name, Preset::named(name).unwrap()))
    };
    networks.into_iter().take(taken).map(network).collect()
}

/// Tensor cores: three products of TF32 are as good as one of f32, to every bound; one is as good as its 11 bits.
#[test]
fn tensor_cores_agree_with_the_oracle() {
    on_gpu("tensor_cores_agree_with_the_oracle", |gpu| {
        for (graph, (name, preset)) in for_tensor_cores() {
            let model = Model::Graph(&graph);
            let x = noise(model, &preset).unwrap();
            let on = |precision| {
                let gpu = gpu.clone();
                move |compiler: Compiler| compiler.backend(Arc::new(cuda(&gpu, precision)))
            };
            let single = |compiler: Compiler| compiler.engine(Engine::InterpF32);
            check_on(model, &preset, &x, on(Precision::Tf32x3))
                .unwrap_or_else(|e| panic!("tf32x3, {name}: {e}"));
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
        }
    });
}

#[test]
fn kernels_for_tensor_cores_compile() {
    for (number, (graph, (name, preset))) in for_tensor_cores().into_iter().enumerate() {
        for precision in [Precision::Tf32, Precision::Tf32x3] {
            compiles_in(precision, name, Model::Graph(&graph), &preset, number);
        }
    }
}

/// Times are of every step of the program, and their costs add up to what convolutions do.
#[test]
fn a_profile_has_every_step() {
    on_gpu("a_profile_has_every_step", |gpu| {
        let graph = ResNet { width: 16, ..ResNet::resnet18(32) }.graph();
        let preset = Preset::named("conserve").unwrap();
        let explainer = Compiler::new(preset).engine(Engine::InterpF32).compile(graph).unwrap();
        let module: Box<dyn Any> = cuda(&gpu, Precision::F32).build(explainer.graph(), &[]).unwrap();
        let module = module.downcast::<CudaModule>().unwrap();
        let samples = 2;
        let x = vec![0.5; samples * 3 * 32 * 32];
        let steps = module.profile(&x, samples, 2).unwrap();
        let program = Module::program(&*module).unwrap();
        let computes = |step: &&Step| !matches!(step.op, StepOp::Tally(_) | StepOp::Absorbed { .. });
        let timed = steps.iter().filter(|step| !step.of_ledger).count();
        assert_eq!(timed, program.steps().filter(computes).count());
        assert!(steps.iter().all(|step| step.launches > 0));
        assert!(steps.iter().any(|step| step.of_ledger), "sums are timed too");
        let flops = |steps: &[StepTime]| steps.iter().map(|step| step.cost.flops).sum::<f64>();
        let counted: f64 =
            program.steps().map(|step| relc_cuda::Cost::of(program, step, samples).unwrap().flops).sum();
        assert_eq!(flops(&steps), counted);
        // A layer's denominators and its backward step do what its forward step does, but for the first, whose denominators
        // are constants, and the last.
        let [forward, backward] = [true, false].map(|forward| -> Vec<StepTime> {
            steps.iter().filter(|step| step.forward == forward).cloned().collect()
        });
        let ratio = flops(&backward) / flops(&forward);
        assert!((1.5..2.5).contains(&ratio), "{ratio}");
        assert!(module.profile(&x[1..], samples, 1).is_err());
    });
}

/// The GPU of a test that is simulated in any case.
fn gpu() -> Gpu {
    Arc::new(driver::Gpu::new(0).unwrap())
}

fn resnet() -> Graph {
    ResNet { width: 8, ..ResNet::resnet18(32) }.graph()
}

/// Noise for it, and what explains its first output, with the maps of all samples.
fn batch(samples: usize) -> (ArrayD<f32>, impl Fn(Compiler) -> Result<ArrayD<f32>, ExplainError>) {
    let mut rng = fastrand::Rng::with_seed(11);
    let x = ArrayD::from_shape_simple_fn(vec![samples, 3, 32, 32], || rng.f32() * 4.0 - 2.0);
    let own = x.clone();
    let explain = move |compiler: Compiler| {
        let explainer = compiler.compile(resnet()).unwrap();
        let seed = Seed::Named(SeedKind::OneHot);
        let explained = explainer.explain(own.view(), &seed, &Targets::Outputs(vec![0]))?;
        Ok(explained.explanations.into_iter().next().unwrap().relevance)
    };
    (x, explain)
}

fn conserve() -> Compiler {
    Compiler::new(Preset::named("conserve").unwrap())
}

/// A batch that a GPU has no room for runs in parts, and gives the same; where there is none for one sample, what was asked for
/// is said.
#[test]
fn a_batch_beyond_the_memory_runs_in_parts() {
    let test = "a_batch_beyond_the_memory_runs_in_parts";
    simulated(test, &[("RELC_SIMULATED_MEMORY", "1500000")], || {
        let (_, explain) = batch(12);
        let gpu = gpu();
        assert_eq!(module(&gpu).samples_at_a_time(), Some(5));
        let (small, roomy) = (explain(on(&gpu)(conserve())).unwrap(), explain(conserve()).unwrap());
        let most = roomy.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = (&small - &roomy).iter().fold(0.0f32, |most, v| most.max(v.abs())) / most;
        assert!(off < 1e-4, "{off}");
    });
}

#[test]
fn no_memory_for_a_sample_is_said() {
    simulated("no_memory_for_a_sample_is_said", &[("RELC_SIMULATED_MEMORY", "1000000")], || {
        let (_, explain) = batch(1);
        let error = explain(on(&gpu())(conserve())).unwrap_err();
        let error = relc_tests::zoo::chain(&error);
        let said = ["bytes of memory for one sample", "are free; free some, or take --device cpu"];
        assert!(said.iter().all(|text| error.contains(text)), "{error}");
    });
}

/// The ResNet on a GPU.
fn module(gpu: &Gpu) -> Box<CudaModule> {
    let explainer = conserve().engine(Engine::InterpF32).compile(resnet()).unwrap();
    let module: Box<dyn Any> = cuda(gpu, Precision::F32).build(explainer.graph(), &[]).unwrap();
    module.downcast().unwrap()
}

/// An input that is on the GPU is explained there, and its relevance stays there: some samples of a tensor, and nothing beside
/// them.
#[test]
fn tensors_stay_on_the_gpu() {
    on_gpu("tensors_stay_on_the_gpu", |gpu| {
        let (module, (x, _)) = (module(&gpu), batch(4));
        let x = x.into_raw_vec_and_offset().0;
        let len = x.len() / 4;
        let seed = vec![1.0; 3 * module.session(1).forward(&x[..len]).unwrap().len()];
        let (input, mut relevance) =
            (Tensor::new(&module, &x).unwrap(), Tensor::zeros(&module, 4 * len).unwrap());
        let (mut host, mut here) = (module.session(3), module.cuda_session(3));
        for books in [true, false] {
            let logits = host.forward(&x[len..]).unwrap();
            assert_eq!(here.forward_on_gpu(&input, 1).unwrap(), logits);
            let explained = host.backward(&seed, books).unwrap();
            let on_gpu = here.backward_on_gpu(&seed, books, &mut relevance, 1).unwrap();
            assert_eq!(on_gpu.ledger, explained.ledger);
            let got = relevance.to_host().unwrap();
            assert_eq!(got[len..], explained.relevance);
            for (own, magnitude) in explained.relevance.chunks(len).zip(on_gpu.magnitudes) {
                let sum: f64 = own.iter().map(|v| f64::from(v.abs())).sum();
                assert!((magnitude - sum).abs() < 1e-9 * sum, "{magnitude} {sum}");
            }
            assert!(got[..len].iter().all(|v| *v == 0.0));
        }
        assert!(here.forward_on_gpu(&input, 2).is_err(), "there are only two more");
        let mut broken = x.clone();
        broken[3 * len] = f32::INFINITY;
        let error = here.forward_on_gpu(&Tensor::new(&module, &broken).unwrap(), 1).unwrap_err();
        assert_eq!(*error.downcast::<RunError>().unwrap(), RunError::NonFiniteForward);
        let error = here.backward_on_gpu(&seed, false, &mut relevance, 1).unwrap_err();
        assert_eq!(*error.downcast::<RunError>().unwrap(), RunError::NotRun);
    });
}

/// A tensor on another GPU is refused.
#[test]
fn a_tensor_of_another_gpu_is_refused() {
    simulated("a_tensor_of_another_gpu_is_refused", &[("RELC_SIMULATED_GPUS", "2")], || {
        let [here, there] =
            [0, 1].map(|number| module(&(Arc::new(driver::Gpu::new(number).unwrap()) as Gpu)));
        let (x, _) = batch(1);
        let tensor = Tensor::new(&there, x.as_slice().unwrap()).unwrap();
        assert_eq!(tensor.gpu(), 1);
        let error = here.cuda_session(1).forward_on_gpu(&tensor, 0).unwrap_err();
        assert!(error.to_string().contains("another GPU"), "{error}");
        there.cuda_session(1).forward_on_gpu(&tensor, 0).unwrap();
    });
}

/// Kernels are compiled once; what is kept of them and can't be loaded any more is compiled again.
#[test]
fn kernels_are_kept() {
    simulated("kernels_are_kept", &[], || {
        let folder = std::env::var_os(driver::CACHE_VARIABLE).unwrap();
        let kept = || -> Vec<(PathBuf, String)> {
            let entries = std::fs::read_dir(&folder).into_iter().flatten();
            let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
            entries.map(|entry| read(entry.unwrap().path())).collect()
        };
        let (_, explain) = batch(1);
        let gpu = gpu();
        let first = explain(on(&gpu)(conserve())).unwrap();
        let [(file, text)] = &kept()[..] else { panic!("not one file is kept") };
        // Of a compiler that the driver does not know, cut short, and with a byte that PTX has not.
        for broken in [".version 99.0", &text[..text.len() / 2], "// simulated\n\0", ""] {
            std::fs::write(file, broken).unwrap();
            assert_eq!(explain(on(&gpu)(conserve())).unwrap(), first);
            assert_eq!(kept(), [(file.clone(), text.clone())], "it is kept again");
        }
        assert_eq!(explain(on(&gpu)(conserve())).unwrap(), first);
    });
}

/// One explainer serves all threads.
#[test]
fn threads_share_a_gpu() {
    simulated("threads_share_a_gpu", &[], || {
        let (x, _) = batch(3);
        let explainer = on(&gpu())(conserve()).compile(resnet()).unwrap();
        let explain = |samples: usize| {
            let x = x.slice_axis(ndarray::Axis(0), (..samples).into());
            let seed = Seed::Named(SeedKind::OneHot);
            let explained = explainer.explain(x.into_dyn(), &seed, &Targets::Outputs(vec![0])).unwrap();
            explained.explanations.into_iter().next().unwrap().relevance
        };
        let alone: Vec<_> = (1..=3).map(explain).collect();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (1..=3).for_each(|samples| assert_eq!(explain(samples), alone[samples - 1])));
            }
        });
    });
}

/// Whoever waits for all that a GPU does spoils what is recorded: commands run one by one then.
#[test]
fn a_recording_may_be_spoilt() {
    let test = "a_recording_may_be_spoilt";
    simulated(test, &[("RELC_SIMULATED_SPOILS", "1")], || {
        let (_, explain) = batch(3);
        let (here, there) = (explain(on(&gpu())(conserve())).unwrap(), explain(conserve()).unwrap());
        let most = there.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = (&here - &there).iter().fold(0.0f32, |most, v| most.max(v.abs())) / most;
        assert!(off < 1e-4, "{off}");
    });
}

/// A tensor that goes waits for all that the GPU does, and spoils no recording of another thread.
#[test]
fn tensors_of_threads_share_a_gpu() {
    simulated("tensors_of_threads_share_a_gpu", &[], || {
        let (module, (x, _)) = (module(&gpu()), batch(1));
        let x = x.into_raw_vec_and_offset().0;
        let alone = module.cuda_session(1).forward_on_gpu(&Tensor::new(&module, &x).unwrap(), 0).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for samples in [1, 2, 1, 2] {
                        let input = Tensor::new(&module, &x.repeat(samples)).unwrap();
                        let logits = module.cuda_session(samples).forward_on_gpu(&input, 0).unwrap();
                        assert_eq!(logits, alone.repeat(samples));
                    }
                });
            }
        });
    });
}

/// What is not there is named.
#[test]
fn a_gpu_that_is_not_there_is_named() {
    simulated("a_gpu_that_is_not_there_is_named", &[("RELC_SIMULATED_GPUS", "2")], || {
        let error = driver::Gpu::new(2).unwrap_err().to_string();
        assert_eq!(error, "there is no GPU 2: the CUDA driver has found 2");
        assert_eq!(driver::Gpu::new(1).unwrap().name(), "simulated GPU 1");
    });
}

/// Whether every network of the zoo is compiled, and each for both architectures: NVRTC takes as long as all else.
fn is_thorough() -> bool {
    std::env::var_os("RELC_CUDA_THOROUGH").is_some()
}

/// Whether networks are tested under every preset that takes them, which takes half an hour on two cores.
fn of_every_preset() -> bool {
    std::env::var_os("RELC_CUDA_THOROUGH").is_some_and(|how| how == "presets")
}

/// What the back end prints is compiled by NVRTC, for an architecture in turn.
#[track_caller]
fn compiles(what: &str, model: Model<'_>, preset: &Preset, number: usize) {
    compiles_in(Precision::F32, what, model, preset, number);
}

#[track_caller]
fn compiles_in(precision: Precision, what: &str, model: Model<'_>, preset: &Preset, number: usize) {
    let explainer = model.compile(&Compiler::new(preset.clone()).engine(Engine::InterpF32)).unwrap();
    let backend = Cuda::new(Arc::new(PLANNED)).precision(precision).unwrap();
    let (program, _) = backend.program(explainer.graph(), &[], &mut |_, _| {}).unwrap();
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
