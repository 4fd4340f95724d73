//! The rule, the pass, the back end and the service on the demo model.

use std::sync::Arc;

use own_rule_and_pass::{Answer, Count, GiveRule, Service, Trace, Traced, preset, square_share};
use relc::preprocess::Preprocess;
use relc::unstable::engine::{Cpu, Machine};
use relc::{Compiler, Explainer, Isa, NameGlob, Preset, Seed, Targets, ndarray};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo");

fn compile(compiler: Compiler) -> Explainer {
    compiler.compile(format!("{DEMO}/model.onnx")).unwrap()
}

/// The pass in place of the preset's line.
fn by_pass(nodes: &str) -> Compiler {
    let pass = GiveRule { nodes: NameGlob::new(nodes).unwrap(), rule: square_share() };
    Compiler::new(Preset::named("conserve").unwrap()).pass_after("assign-rules", pass)
}

fn pictures() -> Vec<String> {
    let files = std::fs::read_dir(format!("{DEMO}/images")).unwrap();
    let mut files: Vec<String> = files.map(|f| f.unwrap().path().to_string_lossy().into_owned()).collect();
    files.sort();
    files
}

/// What a service of so many threads answers.
fn answers(explainer: Explainer, pictures: &[String], threads: usize) -> Vec<Answer> {
    let preprocess = Preprocess::load(&format!("{DEMO}/preprocess.toml")).unwrap();
    let service = Service::start(explainer, preprocess, threads);
    let answers: Vec<_> = pictures.iter().map(|picture| service.explain(picture)).collect();
    answers.into_iter().map(|answer| answer.recv().unwrap().unwrap()).collect()
}

#[test]
fn the_rule_of_the_preset_and_that_of_the_pass_are_one() {
    let (preset, pass) = (compile(Compiler::new(preset().unwrap())), compile(by_pass("*")));
    assert!(preset.is_conserving() && pass.is_conserving());
    let one = &pictures()[..1];
    let (a, b) = (answers(preset, one, 1).remove(0), answers(pass, one, 1).remove(0));
    assert_eq!(a.relevance, b.relevance);
    assert!(a.conservation_error < 1e-5, "{}", a.conservation_error);
    let other = answers(compile(Compiler::new(Preset::named("conserve").unwrap())), one, 1).remove(0);
    assert_ne!(a.relevance, other.relevance);
}

#[test]
fn a_pass_that_finds_nothing_fails_the_compilation() {
    let error = by_pass("no-such-layer").compile(format!("{DEMO}/model.onnx")).unwrap_err();
    let mut chain = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        chain = format!("{chain}: {error}");
        cause = error.source();
    }
    assert!(chain.contains("\"no-such-layer\" matches no layer"), "{chain}");
}

#[test]
fn four_threads_over_one_explainer_answer_as_one_does() {
    let pictures = pictures();
    let explainer = || compile(Compiler::new(preset().unwrap()));
    let (one, four) = (answers(explainer(), &pictures, 1), answers(explainer(), &pictures, 4));
    assert_eq!(one.len(), 16);
    for (one, four) in one.iter().zip(&four) {
        assert_eq!((one.class, &one.picture), (four.class, &four.picture));
        assert_eq!(one.relevance, four.relevance, "{}", one.picture.display());
    }
}

#[test]
fn a_picture_that_can_not_be_read_is_an_error_and_the_service_goes_on() {
    let preprocess = Preprocess::load(&format!("{DEMO}/preprocess.toml")).unwrap();
    let service = Service::start(compile(Compiler::new(preset().unwrap())), preprocess, 4);
    let (none, some) = (service.explain("no/such.png"), service.explain(&pictures()[0]));
    assert!(none.recv().unwrap().unwrap_err().contains("no/such.png"));
    assert!(some.recv().unwrap().is_ok());
}

#[test]
fn the_back_end_counts_what_another_one_computes() {
    let compiler = || Compiler::new(Preset::named("conserve").unwrap());
    let trace = Trace::default();
    let inner = Cpu { machine: Machine::detect(Isa::detect().unwrap()).unwrap() };
    let traced = compile(compiler().backend(Arc::new(Traced { inner, trace: trace.clone() })));
    assert!(trace.counts().iter().all(|count| count.samples == 0));

    let wave = |at: usize| (at as f32 * 0.37).sin();
    let x = ndarray::ArrayD::from_shape_vec(vec![3, 3, 64, 64], (0..3 * 3 * 64 * 64).map(wave).collect());
    let x = x.unwrap();
    let explain = |explainer: &Explainer| {
        let seed = Seed::Named(explainer.preset().seed);
        explainer.explain(x.view(), &seed, &Targets::Outputs(vec![1, 2])).unwrap().explanations
    };
    let (got, expected) = (explain(&traced), explain(&compile(compiler())));
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.relevance, expected.relevance);
    }

    // One forward pass of three samples serves two targets.
    let counts = trace.counts();
    for count in &counts {
        assert_eq!(count.samples, if count.forward { 3 } else { 6 }, "{count:?}");
    }
    // Each convolution runs forward, for its denominator and back; but for the first, whose denominator is a constant.
    let sum = |forward: bool| -> f64 {
        counts.iter().filter(|count| count.forward == forward).map(|count| count.flops).sum()
    };
    let (forward, backward) = (sum(true), sum(false));
    assert!(forward > 1e6 && (1.5..=2.0).contains(&(backward / forward)), "{forward} {backward}");
    let first = counts.iter().find(|count| count.flops > 0.0).unwrap();
    let of_first: Vec<&Count> = counts.iter().filter(|count| count.step == first.step).collect();
    assert!(!of_first.is_empty() && of_first.iter().all(|count| count.bytes >= 4.0 * 3.0 * 64.0 * 64.0));
}
