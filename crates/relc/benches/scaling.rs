//! How does an explanation's time grow with batch, threads and input size?
#![forbid(unsafe_code)]

mod support;

use divan::Bencher;
use divan::counter::ItemsCount;
use rayon::{ThreadPool, ThreadPoolBuilder};
use relc::Targets;
use support::{Model, compiler, noise};

fn main() {
    divan::main();
}

fn time(bencher: Bencher<'_, '_>, model: Model, samples: usize, pool: &ThreadPool) {
    let explainer = model.compile(&compiler("conserve"));
    let input = noise(&explainer, samples);
    let explain = || pool.install(|| support::explain(&explainer, &input, &Targets::Argmax));
    bencher.counter(ItemsCount::new(samples)).bench_local(explain);
}

/// As many threads as are given; 0 for one per processor.
fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads")
}

/// ResNet-18 at 224x224, by the samples of a batch.
#[divan::bench(args = [1, 2, 3, 4, 8], sample_count = 10)]
fn batch(bencher: Bencher<'_, '_>, samples: usize) {
    time(bencher, Model::ResNet18(224), samples, &pool(0));
}

/// A batch of 4 by the number of threads; more than the machine has gain nothing.
#[divan::bench(args = [1, 2, 4], sample_count = 10)]
fn threads(bencher: Bencher<'_, '_>, threads: usize) {
    time(bencher, Model::ResNet18(224), 4, &pool(threads));
}

/// One sample by the height and width of the input.
#[divan::bench(args = [64, 112, 224, 448], sample_count = 10)]
fn size(bencher: Bencher<'_, '_>, size: usize) {
    time(bencher, Model::ResNet18(size), 1, &pool(0));
}
