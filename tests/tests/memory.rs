//! Memory that grows: an explainer that runs for long takes no more than one that ran once. A binary of its own, so that
//! no other test allocates meanwhile.
#![cfg(target_os = "linux")]

use relc::{Compiler, Preset, Seed, SeedKind, Targets};

/// What the allocator may keep besides.
const GROWTH: u64 = 3 << 20;

/// The resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn two_hundred_explanations_take_no_more_memory_than_a_few() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo/model.onnx");
    let explainer = Compiler::new(Preset::named("conserve").unwrap()).compile(model).unwrap();
    let mut rng = fastrand::Rng::with_seed(0);
    let shape = explainer.input().unwrap().1.bind(3);
    let input = ndarray::ArrayD::from_shape_simple_fn(shape, || rng.f32() * 4.0 - 2.0);
    let explain = || {
        let result = explainer.explain(input.view(), &Seed::Named(SeedKind::Logit), &Targets::TopK(2));
        result.unwrap().explanations.len()
    };
    for _ in 0..20 {
        assert_eq!(explain(), 2);
    }
    let before = resident();
    for _ in 0..200 {
        explain();
    }
    let after = resident();
    assert!(after < before + GROWTH, "{before} bytes resident before, {after} after");
}
