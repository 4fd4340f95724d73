//! How long does compiling take, and what of it are the passes?
#![forbid(unsafe_code)]

mod support;

use divan::Bencher;
use relc::{Compiler, Engine};
use support::{DEMO, MODELS, Model, compiler};

fn main() {
    divan::main();
}

fn time(bencher: Bencher<'_, '_>, model: Model, compiler: &Compiler) {
    let graph = model.graph();
    let compile = |graph| compiler.compile(graph).expect("the benchmarks' models compile");
    bencher.with_inputs(|| graph.clone()).bench_local_values(compile);
}

/// From a graph to machine code, with packed weights.
#[divan::bench(args = MODELS, sample_count = 10)]
fn jit(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, *model, &compiler("conserve"));
}

/// The passes alone, as for the interpreter.
#[divan::bench(args = MODELS, sample_count = 10)]
fn passes(bencher: Bencher<'_, '_>, model: &Model) {
    time(bencher, *model, &compiler("conserve").engine(Engine::InterpF32));
}

/// From the demo's file to machine code.
#[divan::bench]
fn file(bencher: Bencher<'_, '_>) {
    let compiler = compiler("conserve");
    bencher.bench_local(|| compiler.compile(DEMO).expect("the demo model compiles"));
}
