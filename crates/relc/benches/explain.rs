//! How long does an explanation take, by which preset, with and without a ledger, of how many targets?
#![forbid(unsafe_code)]

mod support;

use divan::Bencher;
use relc::{Engine, Explainer, Targets};
use support::{MODELS, Model, compiler, noise};

fn main() {
    divan::main();
}

fn time(bencher: Bencher<'_, '_>, explainer: &Explainer, targets: &Targets) {
    let input = noise(explainer, 1);
    bencher.bench_local(|| support::explain(explainer, &input, targets));
}

#[divan::bench(args = MODELS)]
fn conserve(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("conserve")), &Targets::Argmax);
}

#[divan::bench(args = MODELS)]
fn paper(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("paper")), &Targets::Argmax);
}

#[divan::bench(args = MODELS)]
fn without_ledger(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("conserve")).without_ledger(), &Targets::Argmax);
}

/// Targets share one forward pass; on ResNet-18.
#[divan::bench(args = [1, 2, 4])]
fn targets(bencher: Bencher<'_, '_>, count: usize) {
    time(bencher, &Model::ResNet18(224).compile(&compiler("conserve")), &Targets::TopK(count));
}

/// The reference interpreter.
#[divan::bench(args = [Model::Demo], sample_count = 10)]
fn interpreter(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("conserve").engine(Engine::InterpF32)), &Targets::Argmax);
}
