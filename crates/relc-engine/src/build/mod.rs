//! Lowering: from a derived graph to steps.

mod forward;
mod linear;
mod moves;
mod plane;
mod relevance;
mod rule;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use relc_codegen::kernels;
use relc_codegen::kir::{Kernel, verify};
use relc_ir::analysis::Signs;
use relc_ir::op::{Activation, Relevance};
use relc_ir::{Dim, Graph, NodeId, Op, ValueId};
use relc_runtime::Isa;
use relc_runtime::conv::{ConvPlan, PackedWeights};
use relc_runtime::layout::{Blocked, Halo};

use linear::Layer;

use crate::error::EngineError;
use crate::image::batch;
use crate::image::{image, kernel_layout};
use crate::step::{Action, Bind, BufferId, FlagId, InterpretStep, Step, Use};

/// What lowering makes of a graph.
#[derive(Debug)]
pub struct Lowered {
    /// The layout of each logical buffer.
    pub layouts: Vec<Blocked>,
    /// The steps, forward and then relevance.
    pub steps: Vec<Step>,
    /// How many of them are forward.
    pub forward: usize,
    /// How many flags there are.
    pub flags: usize,
    /// The kernels that the steps name.
    pub kernels: Vec<Kernel>,
    /// The model's input.
    pub input: BufferId,
    /// The explained output.
    pub output: BufferId,
    /// The seed.
    pub seed: BufferId,
    /// The relevance of the input.
    pub relevance: BufferId,
    /// Buffers that outlive the steps: results, and what every backward pass reads.
    pub kept: Vec<BufferId>,
    /// Relevance values that lie where another one lies.
    pub aliases: HashMap<ValueId, ValueId>,
}

/// Lowers a graph with one input whose relevance was derived.
pub fn lower(graph: &Graph, isa: Isa) -> Result<Lowered, EngineError> {
    let malformed = |text: &str| EngineError::Malformed(text.to_string());
    let &[input] = graph.inputs() else {
        return Err(malformed("the compiled engine takes models with one input"));
    };
    let (_, output) = graph.outputs().first().ok_or_else(|| malformed("the graph has no output"))?;
    let order = graph.forward_order().ok_or_else(|| malformed("the graph has a cycle"))?;
    let relevance = graph.relevance_order().ok_or_else(|| malformed("the graph has a cycle"))?;
    let value = |node| ValueId { node, port: 0 };
    let samples = batch(graph.ty(value(input)));
    let mut b = Builder::new(graph, isa, samples)?;
    for node in order {
        b.node = node;
        b.forward(node)?;
    }
    let forward = b.steps.len();
    for node in relevance {
        b.node = node;
        b.relevance(node)?;
    }
    let seed = graph.node_ids().find(|n| graph.node(*n).op == Op::Relevance(Relevance::Seed));
    let seed = seed.ok_or_else(|| malformed("the graph has no relevance; run derive-relevance on it"))?;
    let (_, returned) =
        graph.relevance_outputs.first().ok_or_else(|| malformed("the input has no relevance"))?;
    let (input, output) = (b.buffer(value(input))?, b.buffer(*output)?);
    let (seed, relevance) = (b.buffer(value(seed))?, b.buffer(*returned)?);
    let (before, behind) = b.steps.split_at(forward);
    let uses = |steps: &[Step], usage| -> BTreeSet<BufferId> {
        steps.iter().flat_map(Step::buffers).filter(|(u, _)| *u == usage).map(|(_, id)| id).collect()
    };
    let (mut made, used) = (uses(before, Use::Write), uses(behind, Use::Read));
    made.insert(input);
    let kept = made.intersection(&used).copied().chain([output, relevance]).collect::<BTreeSet<_>>();
    Ok(Lowered {
        kept: kept.into_iter().collect(),
        input,
        output,
        seed,
        relevance,
        layouts: b.layouts,
        steps: b.steps,
        forward,
        flags: b.flags,
        kernels: b.kernels,
        aliases: b.aliases,
    })
}

/// The first value of a node.
trait ValueExt {
    fn value(self) -> ValueId;
}

impl ValueExt for NodeId {
    fn value(self) -> ValueId {
        ValueId { node: self, port: 0 }
    }
}

/// A plan and the weights that it packed, or that another one packed alike.
type Packed = (Arc<ConvPlan>, Arc<PackedWeights>);

/// What is made of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Made {
    /// The positive part.
    Positive,
    /// The negative part.
    Negative,
    /// The same in blocks of so many channels, without a halo.
    Blocks(usize),
}

struct Builder<'g> {
    graph: &'g Graph,
    isa: Isa,
    signs: Signs,
    layouts: Vec<Blocked>,
    buffers: HashMap<ValueId, BufferId>,
    /// Values that lie where another value lies.
    aliases: HashMap<ValueId, ValueId>,
    /// Forward nodes whose output is written by the node before them, with its positive part taken.
    fused: BTreeSet<NodeId>,
    halos: HashMap<ValueId, Halo>,
    narrow: BTreeSet<ValueId>,
    steps: Vec<Step>,
    kernels: Vec<Kernel>,
    flags: usize,
    /// Packed weights, to be shared by plans that pack alike.
    packed: HashMap<ValueId, Vec<Packed>>,
    /// Where Winograd's algorithm puts the transformed input, for one step at a time.
    winograd: Option<BufferId>,
    /// What was made of buffers that never change.
    forms: HashMap<(BufferId, Made), BufferId>,
    /// The number of each kernel, by its text.
    known: HashMap<String, usize>,
    /// The node at hand.
    node: NodeId,
    /// The batch axis that every value has.
    samples: Option<Dim>,
}

impl<'g> Builder<'g> {
    fn new(graph: &'g Graph, isa: Isa, samples: Option<Dim>) -> Result<Self, EngineError> {
        let malformed = || EngineError::Malformed("the graph has no input".into());
        let mut b = Builder {
            graph,
            isa,
            signs: Signs::of(graph),
            layouts: Vec::new(),
            buffers: HashMap::new(),
            aliases: HashMap::new(),
            fused: BTreeSet::new(),
            halos: HashMap::new(),
            narrow: BTreeSet::new(),
            steps: Vec::new(),
            kernels: Vec::new(),
            flags: 0,
            packed: HashMap::new(),
            winograd: None,
            forms: HashMap::new(),
            known: HashMap::new(),
            node: graph.inputs().first().copied().ok_or_else(malformed)?,
            samples,
        };
        b.find_aliases();
        b.find_halos()?;
        b.find_narrow();
        Ok(b)
    }

    fn unsupported(&self, node: NodeId, reason: impl Into<String>) -> EngineError {
        EngineError::Unsupported { node: self.graph.describe(node), reason: reason.into() }
    }

    fn no_batch(&self, node: NodeId, does: &'static str) -> EngineError {
        EngineError::Batch { node: self.graph.describe(node), does }
    }

    fn push(&mut self, action: Action) {
        self.steps.push(Step { node: self.node, action });
    }

    fn flag(&mut self) -> FlagId {
        self.flags += 1;
        self.flags - 1
    }

    /// A step that runs the interpreter's function for a node that has no kernel.
    fn interpret(&mut self, node: NodeId) -> Result<(), EngineError> {
        let mut inputs = Vec::new();
        for (index, value) in self.graph.data_operands(node) {
            inputs.push((index, self.buffer(value)?));
        }
        let ports = 0..self.graph.node(node).types().len();
        let outputs = ports.map(|port| self.buffer(ValueId { node, port })).collect::<Result<_, _>>()?;
        self.push(Action::Interpret(Box::new(InterpretStep { inputs, outputs })));
        Ok(())
    }

    // -- where values lie -------------------------------------------------------------------------------------

    /// The value in whose buffer a value lies.
    fn root(&self, value: ValueId) -> ValueId {
        self.aliases.get(&value).copied().unwrap_or(value)
    }

    /// Whether the elements of a value are never negative.
    fn is_non_negative(&self, value: ValueId) -> bool {
        self.signs.sign(value).is_non_negative()
    }

    fn find_aliases(&mut self) {
        let graph = self.graph;
        for node in graph.node_ids() {
            let out = ValueId { node, port: 0 };
            let operands = graph.operands(node);
            let same_image = |a: ValueId, b: ValueId| image(graph.ty(a)) == image(graph.ty(b));
            match &graph.node(node).op {
                Op::Reshape(_) | Op::Relevance(Relevance::Reshape(_) | Relevance::Pass)
                    if same_image(operands[0], out) =>
                {
                    self.aliases.insert(out, operands[0]);
                }
                Op::Activation(Activation::Relu) if self.takes_relu(operands[0]) => {
                    // The producer writes its positive part: its own value is nobody else's.
                    self.aliases.insert(out, operands[0]);
                    self.fused.insert(operands[0].node);
                }
                _ => {}
            }
        }
        self.aliases = resolved(&self.aliases);
    }

    /// Whether the node that makes a value can write its positive part instead: nobody but one Relu uses it.
    fn takes_relu(&self, value: ValueId) -> bool {
        let op = &self.graph.node(value.node).op;
        let capable = matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::BatchNormalization(_) | Op::Arithmetic(_));
        capable
            && self.graph.users(value).len() == 1
            && self.graph.outputs().iter().all(|(_, output)| *output != value)
            && self.graph.node(self.graph.users(value)[0].0).op == Op::Activation(Activation::Relu)
    }

    /// The frame of zeros that each value's readers want around it.
    fn find_halos(&mut self) -> Result<(), EngineError> {
        let graph = self.graph;
        for node in graph.node_ids() {
            let operands = graph.operands(node);
            let (spec, x) = match &graph.node(node).op {
                Op::Conv(_) | Op::Gemm(_) => (self.layer_of(node)?.spec, operands[0]),
                Op::Relevance(Relevance::Linear { layer, rule }) => match self.layer(node, layer)? {
                    Some(Layer { plane: Some(_), .. }) => continue,
                    Some(spec) if self.form(node, layer, rule).is_some() => (spec.spec, operands[1]),
                    _ => continue,
                },
                _ => continue,
            };
            let [_, h, w] = image(graph.ty(x));
            let halo = spec.forward_halo([h, w]).map_err(|source| self.conv_error(node, source))?;
            let entry = self.halos.entry(self.root(x)).or_default();
            *entry = entry.union(halo);
        }
        Ok(())
    }

    /// Pictures of a few channels need no padding channels, where only convolutions and moves read them.
    fn find_narrow(&mut self) {
        const NARROW: usize = 4;
        let graph = self.graph;
        let mut narrow = BTreeSet::new();
        for node in graph.node_ids() {
            let value = ValueId { node, port: 0 };
            if graph.node(node).types().len() != 1 || self.root(value) != value || graph.is_weight(value) {
                continue;
            }
            let [c, h, w] = image(graph.ty(value));
            let plain = |(user, operand): &(NodeId, usize)| match &graph.node(*user).op {
                Op::Conv(conv) => *operand == 0 && conv.group == 1,
                Op::Transpose(_) | Op::Relevance(Relevance::Transpose(_)) => true,
                Op::Relevance(Relevance::Linear { layer, rule }) => {
                    *operand == 1 && self.takes_narrow(*user, layer, rule)
                }
                _ => false,
            };
            let made_plainly = match &graph.node(node).op {
                Op::Input | Op::Transpose(_) | Op::Relevance(Relevance::Transpose(_)) => true,
                Op::Relevance(Relevance::Linear { layer, rule }) => self.takes_narrow(node, layer, rule),
                _ => false,
            };
            // The relevance of the input is narrow if only the caller and moves read it.
            if c <= NARROW && h * w > 1 && made_plainly && graph.users(value).iter().all(plain) {
                narrow.insert(value);
            }
        }
        self.narrow = narrow;
    }

    fn layout_of(&self, value: ValueId) -> Result<Blocked, EngineError> {
        let [c, h, w] = image(self.graph.ty(value));
        let block = if self.narrow.contains(&value) { c } else { self.isa.width() };
        let halo = self.halos.get(&value).copied().unwrap_or(Halo::NONE);
        self.blocked(value.node, [c, h, w], block, halo)
    }

    /// A layout; one that is too large is the node's fault.
    fn blocked(
        &self,
        node: NodeId,
        [c, h, w]: [usize; 3],
        block: usize,
        halo: Halo,
    ) -> Result<Blocked, EngineError> {
        Blocked::new(c, block, h, w, halo).map_err(|source| self.unsupported(node, source.to_string()))
    }

    /// The buffer of a value; made when it is first asked for.
    fn buffer(&mut self, value: ValueId) -> Result<BufferId, EngineError> {
        let root = self.root(value);
        if let Some(id) = self.buffers.get(&root) {
            return Ok(*id);
        }
        if batch(self.graph.ty(root)) != self.samples {
            return Err(self.unsupported(root.node, "its first axis is not the batch"));
        }
        let id = self.scratch(self.layout_of(root)?);
        self.buffers.insert(root, id);
        Ok(id)
    }

    /// A buffer of no value.
    fn scratch(&mut self, layout: Blocked) -> BufferId {
        self.layouts.push(layout);
        self.layouts.len() - 1
    }

    /// A layout in the kernel library's terms: in whole vectors, as every kernel wants it.
    fn kernel_layout(&self, node: NodeId, id: BufferId) -> Result<kernels::Blocked, EngineError> {
        let layout = &self.layouts[id];
        let layout = kernel_layout(layout).filter(|_| layout.block() == self.isa.width());
        layout.ok_or_else(|| self.unsupported(node, "its tensors are laid out in a way that no kernel takes"))
    }

    /// A buffer that never changes, in blocks of so many channels.
    fn in_blocks(&mut self, id: BufferId, block: usize) -> Result<BufferId, EngineError> {
        let layout = self.layouts[id];
        if layout.block() == block {
            return Ok(id);
        }
        if let Some(form) = self.forms.get(&(id, Made::Blocks(block))) {
            return Ok(*form);
        }
        let [c, h, w] = [layout.channels(), layout.height(), layout.width()];
        let form = self.blocked(self.node, [c, h, w], block, Halo::NONE)?;
        let form = self.scratch(form);
        self.push(Action::Relayout { input: id, output: form });
        self.forms.insert((id, Made::Blocks(block)), form);
        Ok(form)
    }

    /// A step that runs a kernel.
    fn kernel(&mut self, kernel: Kernel, binds: Vec<Bind>) -> Result<(), EngineError> {
        let kernel = self.known_kernel(kernel)?;
        self.push(Action::Kernel { kernel, binds });
        Ok(())
    }

    /// The number of a kernel: nodes of one kind and shape share theirs.
    fn known_kernel(&mut self, kernel: Kernel) -> Result<usize, EngineError> {
        let text = kernel.to_string();
        if let Some(known) = self.known.get(&text) {
            return Ok(*known);
        }
        // Cranelift's front would refuse it too, but knows no nodes.
        verify(&kernel).map_err(|errors| self.unsupported(self.node, errors.to_string()))?;
        self.kernels.push(kernel);
        self.known.insert(text, self.kernels.len() - 1);
        Ok(self.kernels.len() - 1)
    }

    /// The sums of a relevance node's outputs, for the ledger.
    fn tally(&mut self, node: NodeId) -> Result<(), EngineError> {
        for port in 0..self.graph.node(node).types().len() {
            let value = ValueId { node, port };
            if !self.aliases.contains_key(&value) {
                let buffer = self.buffer(value)?;
                self.push(Action::Tally { value, buffer });
            }
        }
        Ok(())
    }

    /// The values of a weight.
    fn weight(&self, node: NodeId, value: ValueId) -> Result<Arc<[f32]>, EngineError> {
        let data = self.graph.weight(value).and_then(|w| w.data()).cloned();
        data.ok_or_else(|| self.unsupported(node, "a weight is no constant with data"))
    }

    /// One constant per channel, padded with zeros to whole vectors.
    fn per_channel(&self, values: impl IntoIterator<Item = f32>) -> Arc<[f32]> {
        let mut values: Vec<f32> = values.into_iter().collect();
        values.resize(values.len().next_multiple_of(self.isa.width()), 0.0);
        values.into()
    }
}

/// Aliases by the value at the end of each chain of them.
fn resolved(aliases: &HashMap<ValueId, ValueId>) -> HashMap<ValueId, ValueId> {
    let mut roots: HashMap<ValueId, ValueId> = HashMap::with_capacity(aliases.len());
    for &start in aliases.keys() {
        let (mut chain, mut at) = (Vec::new(), start);
        let root = loop {
            match (roots.get(&at), aliases.get(&at)) {
                (Some(root), _) => break *root,
                (None, Some(next)) => {
                    chain.push(at);
                    at = *next;
                }
                (None, None) => break at,
            }
        };
        roots.extend(chain.into_iter().map(|value| (value, root)));
    }
    roots
}
