//! Hostile models: mutated bytes of real ones must give an error or a graph, never a panic and never an allocation
//! above 1 GiB.

use std::alloc::System;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cap::Cap;
use relc::unstable::passes::{PassManager, pipeline};
use relc::{BatchNormPolicy, Preset};

/// Refuses memory above the limit, which aborts the test.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

const MUTATIONS: usize = 20_000;

/// The parts of the file that are not the bytes of weights: what a parser looks at.
fn structure(bytes: &[u8]) -> Vec<Range<usize>> {
    let model = relc_onnx::proto::decode(bytes.to_vec().into()).unwrap();
    let graph = model.graph.unwrap();
    let mut data: Vec<Range<usize>> = Vec::new();
    for tensor in graph.initializer.iter().filter_map(|t| t.raw_data.as_ref()).filter(|d| d.len() > 64) {
        let found = bytes.windows(tensor.len()).position(|w| w == &tensor[..]).unwrap();
        data.push(found..found + tensor.len());
    }
    data.sort_by_key(|r| r.start);
    let mut from = 0;
    let mut parts = Vec::new();
    for range in data {
        if range.start > from {
            parts.push(from..range.start);
        }
        from = from.max(range.end);
    }
    parts.push(from..bytes.len());
    parts
}

/// Changes a few places: single bytes, runs, lengths, cuts, copies of other places.
fn mutate(rng: &mut fastrand::Rng, original: &[u8], places: &[usize]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..rng.usize(1..=4) {
        let at = places[rng.usize(..places.len())].min(bytes.len() - 1);
        match rng.u8(..7) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes[at] = [0x00, 0x7f, 0x80, 0xff][rng.usize(..4)],
            3 => {
                // A varint as long as they get: a huge length or dimension.
                let end = (at + 9).min(bytes.len() - 1);
                bytes[at..end].fill(0xff);
                bytes[end] = 0x01;
            }
            4 => {
                let end = (at + rng.usize(1..32)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let from = places[rng.usize(..places.len())].min(bytes.len() - 1);
                let piece = bytes[from..(from + rng.usize(1..64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                if rng.u8(..8) == 0 {
                    bytes.truncate(at.max(1));
                } else {
                    bytes[at] = bytes[at].wrapping_add(1);
                }
            }
        }
    }
    bytes
}

/// Imports and, if that works, runs all passes.
fn compile(bytes: Vec<u8>) -> bool {
    let Ok(imported) = relc_onnx::import_bytes(bytes, None) else { return false };
    let mut graph = imported.graph;
    let preset = Preset::named("conserve").unwrap();
    let batchnorm = if graph.name().len() % 2 == 0 { BatchNormPolicy::Fold } else { BatchNormPolicy::Keep };
    PassManager::new(pipeline(&preset, batchnorm)).run(&mut graph, |_, _| {}).is_ok()
}

#[test]
fn mutated_models_never_panic_nor_take_much_memory() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo/model.onnx");
    let mut models = vec![std::fs::read(demo).unwrap()];
    if let Some(shared) = relc_tests::shared::shared() {
        models.push(std::fs::read(shared.path("refs/neggamma18.bn.onnx")).unwrap());
        models.push(std::fs::read(shared.path("models/cifar10_resnet20.bn.onnx")).unwrap());
    }
    let places: Vec<Vec<usize>> =
        models.iter().map(|m| structure(m).into_iter().flatten().collect::<Vec<usize>>()).collect();
    for model in &models {
        assert!(compile(model.clone()), "the unchanged model compiles");
    }
    std::panic::set_hook(Box::new(|_| {})); // a caught panic is reported below, with its seed
    let run = |from: usize, to: usize| {
        let mut accepted = 0;
        for seed in from..to {
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let which = seed % models.len();
            let bytes = mutate(&mut rng, &models[which], &places[which]);
            match catch_unwind(AssertUnwindSafe(|| compile(bytes))) {
                Ok(ok) => accepted += usize::from(ok),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                    return Err(format!("model {which}, seed {seed}: panic: {text}"));
                }
            }
        }
        Ok(accepted)
    };
    let half = MUTATIONS / 2;
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(half, MUTATIONS));
        (run(0, half), other.join().unwrap())
    });
    let _ = std::panic::take_hook();
    let accepted = a.unwrap() + b.unwrap();
    // Both outcomes must occur, or the mutations test nothing.
    assert!(
        (MUTATIONS / 100..MUTATIONS * 99 / 100).contains(&accepted),
        "{accepted} of {MUTATIONS} were accepted"
    );
}
