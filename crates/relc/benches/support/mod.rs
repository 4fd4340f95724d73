//! What the benchmarks run on: the demo model and ResNets that code builds.
#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::fmt;

use ndarray::ArrayD;
use relc::unstable::ir::Graph;
use relc::{Compiler, Explainer, Explanations, Preset, Seed, SeedKind, Targets};
use relc_tests::resnet::ResNet;

/// The demo model's file.
pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo/model.onnx");

/// A network.
#[derive(Clone, Copy)]
pub enum Model {
    /// That of `examples/demo`.
    Demo,
    /// ResNet-18 for square inputs of this size.
    ResNet18(usize),
    /// ResNet-50.
    ResNet50(usize),
}

/// The networks that most benchmarks run.
pub const MODELS: [Model; 3] = [Model::Demo, Model::ResNet18(224), Model::ResNet50(224)];

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Model::Demo => f.write_str("demo 64x64"),
            Model::ResNet18(size) => write!(f, "resnet18 {size}x{size}"),
            Model::ResNet50(size) => write!(f, "resnet50 {size}x{size}"),
        }
    }
}

impl Model {
    /// Its graph.
    pub fn graph(self) -> Graph {
        match self {
            Model::Demo => relc_onnx::import_path(DEMO).expect("the demo model imports").graph,
            Model::ResNet18(size) => ResNet::resnet18(size).graph(),
            Model::ResNet50(size) => ResNet::resnet50(size).graph(),
        }
    }

    /// Compiles it.
    pub fn compile(self, compiler: &Compiler) -> Explainer {
        compiler.compile(self.graph()).expect("the benchmarks' models compile")
    }
}

/// A compiler for a preset that comes with relc.
pub fn compiler(preset: &str) -> Compiler {
    Compiler::new(Preset::named(preset).expect("a preset of relc"))
}

/// A batch, every value of it in `[-2, 2]`.
pub fn noise(explainer: &Explainer, samples: usize) -> ArrayD<f32> {
    let (_, ty) = explainer.input().expect("one input");
    let mut rng = fastrand::Rng::with_seed(0);
    ArrayD::from_shape_simple_fn(ty.bind(samples), || rng.f32() * 4.0 - 2.0)
}

/// Explains a batch by the seed `logit`.
pub fn explain(explainer: &Explainer, input: &ArrayD<f32>, targets: &Targets) -> Explanations {
    explainer.explain(input.view(), &Seed::Named(SeedKind::Logit), targets).expect("an explanation")
}
