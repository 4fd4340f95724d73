//! Running a compiled program.

use std::borrow::Cow;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Dimension};
use relc_cpu::Executable;
use relc_interp::Interpreter;
use relc_ir::ledger::{Account, Ledger};
use relc_ir::rule::Contract;
use relc_ir::{Dim, Graph, Head, NodeId, Op, TensorType, ValueId};
use relc_program::{Backend, Module, RunError};
use relc_rules::{BatchNormPolicy, Preset};

use crate::compiler::{Compiled, Engine};
use crate::error::{CompileError, ExplainError};
use crate::map::sum_over_channels;
use crate::methods::Method;
use crate::preprocess::Layout;
use crate::request::{RequestError, Seed, Targets, probabilities};
use crate::sizes::OpenSizes;
use crate::tap::Tapped;
use crate::warning::{Warning, warnings};

/// The memory that an explanation may take unless [`Explainer::with_memory_limit`] says otherwise: 16 GiB.
pub const DEFAULT_MEMORY_LIMIT: usize = 16 << 30;

/// A model compiled into a program that explains its decisions. `Send + Sync`: threads may share it.
#[derive(Clone, Debug)]
pub struct Explainer {
    compiled: Compiled,
    preset: Preset,
    engine: Engine,
    /// What it was compiled by, and what runs it.
    backend: Arc<dyn Backend>,
    pub(crate) module: Arc<dyn Module>,
    /// What runs it and gives values inside the network, as they were asked for.
    tapped: Arc<Tapped>,
    memory_limit: usize,
    pub(crate) ledger: bool,
    /// Whether explanations measure how far rounding decides them, where it can.
    pub(crate) sensitivity: bool,
    /// What the model leaves open of its input's sizes.
    pub(crate) sizes: Option<Arc<OpenSizes>>,
}

/// The explanation of one target of each sample of a batch.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The explained output of each sample. With a seed tensor: the largest logit.
    pub targets: Vec<usize>,
    /// The relevance of the input, in the input's shape.
    pub relevance: ArrayD<f32>,
    /// Its sum over the channels, `f32[N,H,W]` of a picture, `f32[N,L]` of a signal, `f32[N,D,H,W]` of a volume; none if
    /// the input has no such axes.
    pub map: Option<ArrayD<f32>>,
    /// Where the relevance went.
    pub ledger: Ledger,
    /// For each sample, by how much of its maximum the map changes where the input changes in its last digits;
    /// `None` where it was not measured, see [`Explainer::without_sensitivity`].
    pub sensitivity: Option<Vec<f64>>,
    /// For each sample, what keeps its map from being an explanation.
    pub warnings: Vec<Vec<Warning>>,
}

impl Explanation {
    /// `|sum R(input) - sum seed| / sum |seed|` of a sample; 0 if the seed is 0.
    pub fn conservation_error(&self, sample: usize) -> f64 {
        self.ledger.totals.get(sample).map_or(0.0, |t| t.conservation_error())
    }

    /// The map of a sample of pictures, `f32[H,W]`; `None` if the inputs are none, or fewer.
    pub fn picture(&self, sample: usize) -> Option<ArrayView2<'_, f32>> {
        let map = self.map.as_ref().filter(|map| sample < map.len_of(Axis(0)))?;
        map.index_axis(Axis(0), sample).into_dimensionality().ok()
    }
}

/// What one batch gave.
#[derive(Clone, Debug)]
pub struct Explanations {
    /// The explained output, `f64[N,K]`: logits, if the model ends in an activation that was stripped.
    pub logits: Array2<f64>,
    /// The probabilities `f64[N,K]`: softmax over the logits, or sigmoid if the model ended in one.
    pub probabilities: Array2<f64>,
    /// One explanation per target, in the order of the request; all share one forward pass.
    pub explanations: Vec<Explanation>,
    /// The method that gave them; `None`: one backward pass by the explainer's preset.
    pub method: Option<Method>,
    /// The logits `f64[K]` of the input that the method measures from, if what it gives adds up to the difference.
    pub baseline: Option<Array1<f64>>,
}

impl Explainer {
    pub(crate) fn new(
        compiled: Compiled,
        preset: Preset,
        engine: Engine,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, CompileError> {
        let module = backend.build(&compiled.graph, &[])?.into();
        Ok(Explainer::of(compiled, preset, engine, backend, module))
    }

    /// What was compiled, with the module that runs it.
    pub(crate) fn of(
        mut compiled: Compiled,
        preset: Preset,
        engine: Engine,
        backend: Arc<dyn Backend>,
        module: Arc<dyn Module>,
    ) -> Self {
        compiled.graph.relocate_weights(module.unpacked());
        let (ledger, sensitivity, sizes) = (true, true, None);
        let (memory_limit, tapped) = (DEFAULT_MEMORY_LIMIT, Arc::default());
        Explainer {
            compiled,
            preset,
            engine,
            backend,
            module,
            tapped,
            memory_limit,
            ledger,
            sensitivity,
            sizes,
        }
    }

    /// With the sizes that the model leaves open.
    pub(crate) fn with_sizes(mut self, sizes: Option<Arc<OpenSizes>>) -> Self {
        self.sizes = sizes;
        self
    }

    /// With the options of another explainer of the model.
    pub(crate) fn with_options_of(self, other: &Explainer) -> Explainer {
        let chosen = if other.engine == self.engine { self } else { self.in_f64() };
        Explainer {
            memory_limit: other.memory_limit,
            ledger: other.ledger,
            sensitivity: other.sensitivity,
            ..chosen
        }
    }

    /// Without a ledger: explanations have only their totals. Saves a little time with the compiled engine; the
    /// interpreter always keeps its books.
    #[must_use]
    pub fn without_ledger(mut self) -> Self {
        self.ledger = false;
        self
    }

    /// Without the measure of how far rounding decides a map, which takes a second run where a rule's contract is
    /// `unbounded` (elsewhere it is never taken).
    #[must_use]
    pub fn without_sensitivity(mut self) -> Self {
        self.sensitivity = false;
        self
    }

    /// With another limit on the memory of one explanation, in bytes.
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The same program in f64, by the interpreter.
    pub(crate) fn in_f64(&self) -> Explainer {
        let module = Interpreter::F64.module(self.graph(), false).into();
        let backend = Arc::new(Interpreter::F64);
        Explainer { engine: Engine::InterpF64, backend, module, tapped: Arc::default(), ..self.clone() }
    }

    /// The compiled graph, forward and relevance.
    pub fn graph(&self) -> &Graph {
        &self.compiled.graph
    }

    /// The compiled graph and what the passes said.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// The preset, with the options in it.
    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    /// What happened to BatchNormalization.
    pub fn batchnorm(&self) -> BatchNormPolicy {
        self.preset.batchnorm
    }

    /// What executes the program.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The name of what executes the program: that of the [engine](Self::engine), or of the back end in its place.
    pub fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Jit if self.backend.name() != relc_cpu::NAME => self.backend.name(),
            engine => engine.name(),
        }
    }

    /// The compiled program, if that is the engine.
    pub fn executable(&self) -> Option<&Executable> {
        let module: &dyn std::any::Any = &*self.module;
        module.downcast_ref()
    }

    /// What gives these values of the graph too.
    pub(crate) fn tapped(&self, values: &[ValueId]) -> Result<Arc<dyn Module>, ExplainError> {
        self.tapped.module(values, || self.backend.build(self.graph(), values))
    }

    /// Whether the program conserves relevance by its rules' contracts.
    pub fn is_conserving(&self) -> bool {
        self.compiled.graph.claim.as_ref().is_some_and(|c| c.leaks.is_empty())
    }

    /// Whether relevance nowhere exceeds the seed's magnitude by the rules' contracts.
    pub(crate) fn is_bounded(&self) -> bool {
        !self.leaks().iter().any(|(_, c)| matches!(c, Contract::Unbounded | Contract::NotConserving))
    }

    /// The nodes that may lose relevance by their rules' contracts.
    pub fn leaks(&self) -> &[(NodeId, Contract)] {
        self.compiled.graph.claim.as_ref().map_or(&[], |c| &c.leaks)
    }

    /// The model's input: its name and type.
    ///
    /// # Errors
    /// If the model has several.
    pub fn input(&self) -> Result<(&str, &TensorType), ExplainError> {
        match self.graph().inputs() {
            [one] => {
                let node = self.graph().node(*one);
                Ok((&node.name, &node.types()[0]))
            }
            several => Err(ExplainError::SeveralInputs { count: several.len() }),
        }
    }

    /// Whether the input is a picture, and how it lies: its layout, and height and width.
    ///
    /// A rank-4 input is `f32[N,H,W,C]` if its last dimension is 1 or 3 and its second is not, else `f32[N,C,H,W]`.
    pub fn picture_input(&self) -> Option<(Layout, [usize; 2])> {
        let (_, ty) = self.input().ok()?;
        let &[_, Dim::Fixed(a), Dim::Fixed(b), Dim::Fixed(c)] = ty.dims() else { return None };
        let few = |n: usize| n == 1 || n == 3;
        Some(if few(c) && !few(a) { (Layout::Nhwc, [a, b]) } else { (Layout::Nchw, [b, c]) })
    }

    /// The spatial sizes of the input, and the axis of its channels: of a signal `f32[N,C,L]`, a picture
    /// ([`picture_input`](Self::picture_input)) or a volume `f32[N,C,D,H,W]`; `None` if it is neither.
    ///
    /// A signal or volume has its channels elsewhere, last or behind the frames of a video, if all that the model does
    /// first is to move them behind the batch.
    pub fn spatial_input(&self) -> Option<(usize, Vec<usize>)> {
        let (_, ty) = self.input().ok()?;
        ty.spatial()?;
        let axis = self.channel_axis();
        let others = ty.dims().iter().enumerate().skip(1).filter(|(i, _)| *i != axis);
        let size: Option<Vec<usize>> = others.map(|(_, dim)| dim.fixed()).collect();
        Some((axis, size?))
    }

    /// The axis of the input's channels, the batch being axis 0; of a table `f32[N,K]`, that of its columns.
    pub fn channel_axis(&self) -> usize {
        match self.picture_input() {
            Some((Layout::Nhwc, _)) => 3,
            None => self.moved_channels().unwrap_or(1),
            _ => 1,
        }
    }

    /// The axis of its input that the model moves behind the batch before it does anything else.
    fn moved_channels(&self) -> Option<usize> {
        let graph = self.graph();
        let &[input] = graph.inputs() else { return None };
        let moved = |node: NodeId| match &graph.node(node).op {
            Op::Transpose(transpose) => {
                let axis = *transpose.perm.get(1)?;
                let others = (0..transpose.perm.len()).filter(|i| *i != axis);
                let is_move = transpose.perm.iter().copied().filter(|i| *i != axis).eq(others);
                (is_move && axis > 1 && transpose.perm.first() == Some(&0)).then_some(axis)
            }
            _ => None,
        };
        let mut axes =
            graph.forward_users(ValueId { node: input, port: 0 }).into_iter().map(|(user, _)| moved(user));
        let first = axes.next()??;
        axes.all(|axis| axis == Some(first)).then_some(first)
    }

    /// The channels of a picture input.
    pub fn picture_channels(&self) -> Option<usize> {
        let (layout, _) = self.picture_input()?;
        let axis = if layout == Layout::Nhwc { 3 } else { 1 };
        self.input().ok()?.1.dims().get(axis)?.fixed()
    }

    /// How a picture, or a frame of three spatial axes, lies in the input; and its height and width.
    pub(crate) fn frame_input(&self) -> Option<(Layout, [usize; 2])> {
        self.picture_input().or_else(|| {
            let (axis, size) = self.spatial_input()?;
            let [_, height, width] = size[..] else { return None };
            Some((if axis == 4 { Layout::Nhwc } else { Layout::Nchw }, [height, width]))
        })
    }

    /// The channels of a picture or a frame.
    pub fn frame_channels(&self) -> Option<usize> {
        self.frame_input()?;
        self.input().ok()?.1.dims().get(self.channel_axis())?.fixed()
    }

    /// How many outputs a sample has, of which targets choose.
    pub fn outputs(&self) -> usize {
        let graph = self.graph();
        graph.outputs().first().and_then(|(_, v)| graph.ty(*v).elements()).unwrap_or(0)
    }

    /// About how many bytes one explanation of `samples` samples takes: every forward and relevance value, or the
    /// planned memory of the samples that the compiled engine runs at a time.
    pub fn memory_estimate(&self, samples: usize) -> usize {
        self.module.bytes(samples)
    }

    /// Explains a batch: `input` has the model's input shape, with any number of samples for `N`.
    ///
    /// Results don't depend on how samples are batched, nor on the number of threads, to the bit.
    ///
    /// # Errors
    /// If the input or the request does not fit the model, too much memory would be needed, or a value is not
    /// finite (the node is named).
    pub fn explain(
        &self,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: &Targets,
    ) -> Result<Explanations, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(input.shape())? {
            return other.explain(input, seed, targets);
        }
        targets.check_count(self.check_shape(input.shape())?)?;
        let mut result = self.run_chosen(input.view(), seed, Chosen::Asked(targets))?;
        if self.measures_sensitivity() {
            self.measure(&input, seed, &mut result);
        }
        for explanation in &mut result.explanations {
            explanation.warnings = warnings(explanation, seed, self.is_bounded());
        }
        Ok(result)
    }

    /// One run of the engine.
    pub(crate) fn run_chosen(
        &self,
        input: ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: Chosen<'_>,
    ) -> Result<Explanations, ExplainError> {
        match self.run(&*self.module, &input, seed, targets) {
            Err(ExplainError::Run(error)) if error.is_non_finite() => {
                // The interpreter looks at every value, and names the node.
                self.run(&*Interpreter::F32.module(self.graph(), false), &input, seed, targets)
            }
            result => result,
        }
    }

    /// The explained output of a batch, `f64[N,K]`: logits, if the model ends in an activation that was stripped.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn predict(&self, input: ArrayViewD<'_, f32>) -> Result<Array2<f64>, ExplainError> {
        if let Cow::Owned(other) = self.for_shape(input.shape())? {
            return other.predict(input);
        }
        let samples = self.check_shape(input.shape())?;
        let input = input.as_standard_layout();
        let data = input.as_slice().unwrap_or(&[]);
        let mut logits = Vec::new();
        for (count, data) in rounds(&*self.module, samples, data) {
            logits.extend(self.module.session(count).forward(data)?);
        }
        matrix(samples, logits)
    }

    /// The probabilities `f64[N,K]` that belong to the logits of [`predict`](Self::predict): softmax over them, or
    /// sigmoid if the model ended in one.
    pub fn probabilities(&self, logits: &Array2<f64>) -> Array2<f64> {
        probabilities(logits, self.head())
    }

    /// The number of samples of an input of the model's shape that fits into the memory.
    pub(crate) fn check_shape(&self, shape: &[usize]) -> Result<usize, ExplainError> {
        let (name, ty) = self.input()?;
        let samples = shape.first().copied().unwrap_or(0);
        if samples == 0 || shape != ty.bind(samples) {
            let (name, got, expected) = (name.to_string(), shape.to_vec(), ty.to_string());
            return Err(ExplainError::InputShape { name, got, expected });
        }
        self.check_memory(samples)?;
        Ok(samples)
    }

    /// Whether an explanation of so many samples fits into the memory.
    pub(crate) fn check_memory(&self, samples: usize) -> Result<(), ExplainError> {
        let needed = self.memory_estimate(samples);
        if needed > self.memory_limit {
            let mib = |bytes: usize| bytes >> 20;
            return Err(ExplainError::Memory { samples, needed: mib(needed), limit: mib(self.memory_limit) });
        }
        Ok(())
    }

    /// Runs a module, on as many samples at a time as it likes.
    fn run(
        &self,
        module: &dyn Module,
        input: &ArrayViewD<'_, f32>,
        seed: &Seed,
        targets: Chosen<'_>,
    ) -> Result<Explanations, ExplainError> {
        let (head, samples, shape) = (self.head(), input.shape()[0], input.raw_dim());
        let input = input.as_standard_layout();
        let data = input.as_slice().unwrap_or(&[]);
        let mut logits = Vec::new();
        // For each target the relevance and the books of the samples so far.
        let mut parts: Vec<(Vec<f32>, Ledger)> = Vec::new();
        let mut first = 0;
        for (count, data) in rounds(module, samples, data) {
            let mut session = module.session(count);
            let round = matrix(count, session.forward(data)?)?;
            let seeds = seeds(seed, targets, &round, head, (first, samples))?;
            parts.resize_with(seeds.len(), Default::default);
            let needed = module.bytes(samples).saturating_add(module.kept_bytes(samples));
            if seeds.len() > 1 && needed <= self.memory_limit {
                session.keep_denominators();
            }
            for (seed, (relevance, ledger)) in seeds.iter().zip(&mut parts) {
                let explained = session.backward(seed, self.ledger)?;
                relevance.extend(explained.relevance);
                ledger.append(explained.ledger);
            }
            logits.extend(round);
            first += count;
        }
        let logits = matrix(samples, logits)?;
        let explanations = targets.of(seed, &logits, 0)?.into_iter().zip(parts);
        let explanations = explanations.map(|(targets, (relevance, ledger))| {
            let (got, expected) = (relevance.len(), shape.size());
            let relevance = ArrayD::from_shape_vec(shape.clone(), relevance)
                .map_err(|_| RunError::Length { what: "the relevance", got, expected })?;
            self.explanation(targets, relevance, ledger)
        });
        let explanations = explanations.collect::<Result<_, ExplainError>>()?;
        let probabilities = probabilities(&logits, head);
        Ok(Explanations { probabilities, logits, explanations, method: None, baseline: None })
    }

    pub(crate) fn explanation(
        &self,
        targets: Vec<usize>,
        relevance: ArrayD<f32>,
        ledger: Ledger,
    ) -> Result<Explanation, ExplainError> {
        let map = sum_over_channels(relevance.view(), self.channel_axis());
        let fits = |v: &f32| v.is_finite();
        if !relevance.iter().all(fits) || !map.iter().flatten().all(fits) {
            return Err(ExplainError::BeyondF32 { node: first_beyond_f32(&ledger) });
        }
        Ok(Explanation { targets, map, relevance, ledger, sensitivity: None, warnings: Vec::new() })
    }

    /// What the model ended in, if relevance starts before it.
    pub fn head(&self) -> Head {
        self.graph().head
    }
}

/// The first node, in the order of the relevance, that passes on what f32 does not hold: the input, if only its sum
/// over channels is such a value.
fn first_beyond_f32(ledger: &Ledger) -> String {
    let beyond = |account: &Account| account.max.max(-account.min) > f64::from(f32::MAX);
    let first = ledger.entries.iter().find(|entry| entry.samples.iter().any(beyond));
    first.map_or_else(|| "the input".into(), |e| format!("node \"{}\" ({} {})", e.name, e.label, e.op))
}

/// Which outputs a run explains.
#[derive(Clone, Copy)]
pub(crate) enum Chosen<'a> {
    /// What a request asks for.
    Asked(&'a Targets),
    /// Those of another run.
    Same(&'a [Explanation]),
    /// One output of each sample; nothing that a seed tensor needs.
    Given(&'a [usize]),
}

impl Chosen<'_> {
    /// For each target its output of each sample of `logits`, of which the first is the batch's sample `first`.
    pub(crate) fn of(
        self,
        seed: &Seed,
        logits: &Array2<f64>,
        first: usize,
    ) -> Result<Vec<Vec<usize>>, RequestError> {
        match self {
            Chosen::Asked(targets) => targets_of(seed, targets, logits, first),
            Chosen::Same(explanations) => {
                let samples = first..first + logits.nrows();
                let of = |e: &Explanation| e.targets.get(samples.clone()).unwrap_or_default().to_vec();
                Ok(explanations.iter().map(of).collect())
            }
            Chosen::Given(targets) => {
                Ok(vec![targets.get(first..first + logits.nrows()).unwrap_or(targets).to_vec()])
            }
        }
    }
}

/// For each target the seeds `f64[round,K]` of a round's samples, of which the first is number `first` of `samples`.
pub(crate) fn seeds(
    seed: &Seed,
    targets: Chosen<'_>,
    round: &Array2<f64>,
    head: Head,
    (first, samples): (usize, usize),
) -> Result<Vec<Vec<f64>>, RequestError> {
    let mut seeds: Vec<Vec<f64>> = Vec::new();
    for (index, row) in round.rows().into_iter().enumerate() {
        let row = row.insert_axis(Axis(0)).to_owned();
        let seed = seed.of_sample(first + index, samples, row.ncols())?;
        for (at, targets) in targets.of(&seed, &row, first + index)?.into_iter().enumerate() {
            seeds.resize_with(seeds.len().max(at + 1), Vec::new);
            seeds[at].extend(seed.tensor(&row, head, &targets)?);
        }
    }
    Ok(seeds)
}

/// The targets of a request: with a seed tensor, which needs none, the largest logit.
fn targets_of(
    seed: &Seed,
    targets: &Targets,
    logits: &Array2<f64>,
    first: usize,
) -> Result<Vec<Vec<usize>>, RequestError> {
    match seed {
        Seed::Tensor(_) => Targets::Argmax.resolve(logits, first),
        Seed::Named(_) => targets.resolve(logits, first),
    }
}

/// The rounds in which a module runs a batch: how many samples, and their part of the input.
pub(crate) fn rounds<'d>(
    module: &dyn Module,
    samples: usize,
    data: &'d [f32],
) -> impl Iterator<Item = (usize, &'d [f32])> + use<'d> {
    let at_a_time = module.at_a_time(samples).max(1);
    let len = (data.len() / samples.max(1)).max(1);
    data.chunks(at_a_time * len).map(move |data| (data.len() / len, data))
}

/// `f64[N,K]`.
pub(crate) fn matrix(samples: usize, values: Vec<f64>) -> Result<Array2<f64>, ExplainError> {
    let outputs = values.len() / samples.max(1);
    Array2::from_shape_vec((samples, outputs), values)
        .map_err(|_| RequestError::SeedShape { got: vec![samples], samples, outputs }.into())
}
