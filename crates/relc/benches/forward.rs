//! How long does a forward pass take, on which engine and instruction set?
#![forbid(unsafe_code)]

mod support;

use divan::Bencher;
use relc::{Engine, Explainer, Isa};
use support::{MODELS, Model, compiler, noise};

fn main() {
    divan::main();
}

fn time(bencher: Bencher<'_, '_>, explainer: &Explainer) {
    let input = noise(explainer, 1);
    bencher.bench_local(|| explainer.predict(input.view()).expect("a forward pass"));
}

/// The compiled engine, with the widest vectors of this machine.
#[divan::bench(args = MODELS)]
fn jit(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("conserve")));
}

/// Every instruction set of this machine, on ResNet-18.
#[divan::bench(args = Isa::available())]
fn isa(bencher: Bencher<'_, '_>, isa: &Isa) {
    time(bencher, &Model::ResNet18(224).compile(&compiler("conserve").isa(*isa)));
}

/// The reference interpreter.
#[divan::bench(args = [Model::Demo], sample_count = 10)]
fn interpreter(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, &model.compile(&compiler("conserve").engine(Engine::InterpF32)));
}
