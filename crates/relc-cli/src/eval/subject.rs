//! The model, the pictures and the protocol that a command names.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use relc::preprocess::{Preprocess, PreprocessError};
use relc::unstable::ir::Graph;
use relc::{Compiler, Explainer, ImportOptions, Method};
use relc_eval::metric::{Metric, Protocol};
use relc_eval::{
    Attribution, Bench, Class, CompilerOptions, Dataset, DatasetOptions, EvalError, Named, Outcome, Results,
    Settings, Ties, black, cascade, geometry,
};
use xxhash_rust::xxh3::xxh3_64;

use super::args::SubjectArgs;
use crate::compile::{import_options, on_engine};
use crate::failure::Failure;
use crate::labels;

/// What a command judges, ready.
pub struct Subject<'a> {
    args: &'a SubjectArgs,
    /// Whose engine every other one takes.
    compiler: Compiler,
    import: ImportOptions,
    preprocess: Preprocess,
    /// What black is in the input, for each channel.
    black: Vec<f32>,
    model: Explainer,
    graph: Graph,
    /// The outputs' names, where they are given.
    pub labels: Option<Vec<String>>,
    /// The pictures.
    pub dataset: Dataset,
}

impl<'a> Subject<'a> {
    /// Reads the model and opens the data set.
    pub fn open(args: &'a SubjectArgs) -> Result<Self, Failure> {
        let preprocess = Preprocess::load(&args.preprocess).map_err(|e| match e {
            PreprocessError::Unknown { .. } => Failure::usage(e),
            _ => e.into(),
        })?;
        if !args.dataset.exists() {
            return Err(format!("{}: there is no such data set", args.dataset.display()).into());
        }
        let import = import_options(&args.import)?;
        let compiler = on_engine(Method::compiler()?, &args.engine)?.import(import.clone());
        let mut read = None;
        compiler.passes(&args.model, |pass, graph| {
            if pass == "import" {
                read = Some(graph.clone());
            }
        })?;
        let graph = read.unwrap_or_else(|| Graph::new("model")); // the first pass is always import
        let model = compiler.compile(graph.clone())?;
        let labels = args.labels.as_deref().map(labels::read).transpose()?;
        let options = DatasetOptions {
            labels: labels.as_deref(),
            masks: args.masks.as_deref(),
            limit: args.limit.map(|l| l as usize),
            seed: args.seed,
            arrays: model.picture_input().is_none(),
        };
        let dataset = Dataset::open(&args.dataset, &options)?;
        if args.class == "label" && !dataset.is_labelled() {
            return Err(Failure::usage("--class label: the data set has pictures without a label"));
        }
        let channels = geometry(&model)?.channels;
        let black = black(&model, &preprocess, channels)?;
        Ok(Subject { args, compiler, import, preprocess, black, model, graph, labels, dataset })
    }

    /// How metrics are measured.
    pub fn settings(&self, metrics: Vec<Metric>) -> Result<Settings, Failure> {
        let args = self.args;
        let mut protocol = Protocol::for_geometry(geometry(&self.model)?);
        protocol.curves.ends = args.ends.parse().map_err(Failure::usage)?;
        protocol.curves.step = args.step.map_or(protocol.curves.step, |s| s as usize);
        protocol.curves.ties = match args.ties.as_str() {
            "together" => Ties::Together,
            _ => Ties::Strict { orders: usize::from(args.orders) },
        };
        Ok(Settings {
            metrics,
            protocol,
            base: args.base.parse().map_err(Failure::usage)?,
            heat_levels: args.heat_quantization.map(usize::from),
            class: if args.class == "label" { Class::Label } else { Class::Predicted },
            seed: args.seed,
            controls: args.controls as usize,
        })
    }

    fn with_options<T>(&self, run: impl FnOnce(&CompilerOptions<'_>) -> T) -> T {
        let configure = |compiler: Compiler| compiler.engine_of(&self.compiler).import(self.import.clone());
        let black = &self.black;
        run(&CompilerOptions { preprocess: Some(&self.preprocess), black, configure: &configure })
    }

    /// Whether it is of pictures.
    pub fn is_of_pictures(&self) -> bool {
        self.model.picture_input().is_some()
    }

    /// The sizes of a map.
    pub fn map_shape(&self) -> Vec<usize> {
        self.model.spatial_input().map_or_else(Vec::new, |(_, sizes)| sizes)
    }

    /// The model as it was read.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Compiles a method.
    pub fn compile_one(&self, method: &Named) -> Result<Attribution, EvalError> {
        self.with_options(|options| method.compile(&self.args.model, options))
    }

    /// Compiles methods.
    pub fn compile(&self, methods: &[Named]) -> Result<Vec<Attribution>, Failure> {
        Ok(methods.iter().map(|m| self.compile_one(m)).collect::<Result<_, _>>()?)
    }

    /// The model and the methods at each stage of the randomisation of its parameters.
    fn randomised(&self, methods: &[Attribution]) -> Result<Vec<(Explainer, Vec<Attribution>)>, Failure> {
        let stage = |graph: Graph| {
            let model = Method::compiler()?.engine_of(&self.compiler).compile(graph.clone())?;
            let again = |m: &Attribution| self.with_options(|options| m.of_graph(graph.clone(), options));
            let methods = methods.iter().map(again).collect::<Result<Vec<_>, _>>()?;
            Ok((model, methods))
        };
        cascade(&self.graph, self.args.seed)?.into_iter().map(stage).collect()
    }

    /// Runs the methods on some pictures, with a bar.
    pub fn run(
        &self,
        methods: &[Attribution],
        dataset: &Dataset,
        settings: &Settings,
        results: &mut Results,
    ) -> Result<Outcome, Failure> {
        let randomised = match settings.metrics.contains(&Metric::Randomisation) {
            true => self.randomised(methods)?,
            false => Vec::new(),
        };
        let bar = bar();
        let bench = self.bench(methods, &randomised);
        let outcome = bench.run(dataset, settings, results, &mut |progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            bar.set_message(format!("{} {}", progress.method, progress.picture));
        });
        bar.finish_and_clear();
        Ok(outcome?)
    }

    /// What runs methods.
    pub fn bench<'b>(
        &'b self,
        methods: &'b [Attribution],
        randomised: &'b [(Explainer, Vec<Attribution>)],
    ) -> Bench<'b> {
        // Engines and instruction sets differ in the last digits.
        let isa = self.model.executable().map_or("", |e| e.isa().name());
        let identity = format!("{} {} {isa}", self.graph, self.model.engine_name());
        let model_key = xxh3_64(identity.as_bytes());
        Bench { model: &self.model, model_key, methods, randomised, preprocess: &self.preprocess }
    }
}

/// Opens the results, and says on standard error what of an interrupted run was dropped.
pub fn results(path: &Path) -> Result<Results, Failure> {
    let results = Results::open(path)?;
    if results.dropped > 0 {
        eprintln!("{}: the last line is not complete and is computed again", path.display());
    }
    Ok(results)
}

/// A bar of what is done, with the time that is left.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len}, {eta} left, {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
