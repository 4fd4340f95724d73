//! Lowering: from a derived graph to a program, one step or a few for each node, nothing fused.

mod forward;
mod layer;
mod moves;
mod relevance;
mod rule;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use relc_ir::analysis::Signs;
use relc_ir::op::{Relevance, Window};
use relc_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId as GraphValue, Values};

use crate::error::LowerError;
use crate::layout::Image;
use crate::op::{FlagId, Move, Side, StepOp, Strided};
use crate::program::{Constant, Derived, Ends, Origin, Program, Step, Value, ValueId, add_named};

/// Values that one step adds up: a kernel has so many buffers.
const MAX_PARTS: usize = 64;

/// Lowers a graph with one input whose relevance was derived; `taps` are values that a caller wants to read.
///
/// # Errors
/// If the graph has several inputs or no relevance, a weight that is needed has no values, or a value has no batch axis.
pub fn lower(graph: &Graph, taps: &[GraphValue]) -> Result<Program, LowerError> {
    let malformed = |text: &str| LowerError::Malformed(text.to_string());
    let &[input] = graph.inputs() else {
        return Err(malformed("the compiled engine takes models with one input"));
    };
    let (_, output) = graph.outputs().first().ok_or_else(|| malformed("the graph has no output"))?;
    let order = graph.forward_order().ok_or_else(|| malformed("the graph has a cycle"))?;
    let relevance = graph.relevance_order().ok_or_else(|| malformed("the graph has a cycle"))?;
    let seed = graph.node_ids().find(|n| graph.node(*n).op == Op::Relevance(Relevance::Seed));
    let seed = seed.ok_or_else(|| malformed("the graph has no relevance; run derive-relevance on it"))?;
    let (_, returned) =
        graph.relevance_outputs.first().ok_or_else(|| malformed("the input has no relevance"))?;
    let mut b = Builder::new(graph, input);
    for node in order {
        b.start(node);
        b.forward(node)?;
    }
    let forward = std::mem::take(&mut b.steps);
    for node in relevance {
        b.start(node);
        b.relevance(node)?;
    }
    let ends = Ends {
        input: b.value(input.first())?,
        output: b.value(*output)?,
        seed: b.value(seed.first())?,
        relevance: b.value(*returned)?,
    };
    let mut tapped = BTreeMap::new();
    for tap in taps {
        tapped.insert(graph.label(*tap), b.value(*tap)?);
    }
    let mut program = Program {
        name: graph.name().to_string(),
        constants: b.constants,
        values: b.values,
        forward,
        backward: b.steps,
        ends,
        taps: tapped,
    };
    program.prune();
    Ok(program)
}

/// Channels, slices, height and width of one sample of a value: `f32[N,C,D,H,W]` as it is, a picture as one slice, a signal
/// `f32[N,C,L]` as one row, `f32[N,K]` as K channels of one pixel, other ranks so that the row-major order stays.
fn image(ty: &TensorType) -> Image {
    let dims: Vec<usize> = ty.dims().iter().skip(1).map(|d| d.bind(1)).collect();
    match dims[..] {
        [c, w] => [c, 1, 1, w],
        [c, h, w] => [c, 1, h, w],
        [c, d, h, w] => [c, d, h, w],
        _ => [dims.iter().product::<usize>().max(1), 1, 1, 1],
    }
}

/// The window over all of an image.
fn whole([_, d, h, w]: Image) -> Window {
    if d == 1 { Window::whole(&[h, w]) } else { Window::whole(&[d, h, w]) }
}

/// The batch dimension of a value.
fn batch(ty: &TensorType) -> Option<Dim> {
    ty.dims().first().copied()
}

/// The first value of a node.
trait First {
    fn first(self) -> GraphValue;
}

impl First for NodeId {
    fn first(self) -> GraphValue {
        GraphValue { node: self, port: 0 }
    }
}

struct Builder<'g> {
    graph: &'g Graph,
    signs: Signs,
    constants: BTreeMap<String, Constant>,
    values: BTreeMap<ValueId, Value>,
    known: HashMap<GraphValue, ValueId>,
    steps: Vec<Step>,
    flags: usize,
    /// The positive and negative parts of forward values, which never change.
    parts: HashMap<(ValueId, Side), ValueId>,
    origin: Arc<Origin>,
    /// The batch axis that every value has.
    samples: Option<Dim>,
}

impl<'g> Builder<'g> {
    fn new(graph: &'g Graph, input: NodeId) -> Self {
        Builder {
            graph,
            signs: Signs::of(graph),
            constants: BTreeMap::new(),
            values: BTreeMap::new(),
            known: HashMap::new(),
            steps: Vec::new(),
            flags: 0,
            parts: HashMap::new(),
            origin: Arc::new(Origin { label: String::new(), op: String::new(), name: String::new() }),
            samples: batch(graph.ty(input.first())),
        }
    }

    /// Steps from here on are for a node.
    fn start(&mut self, node: NodeId) {
        let n = self.graph.node(node);
        let (label, op, name) = (self.graph.node_label(node), n.op.mnemonic(), n.name.clone());
        self.origin = Arc::new(Origin { label, op, name });
    }

    fn unsupported(&self, node: NodeId, reason: impl Into<String>) -> LowerError {
        LowerError::Unsupported { node: self.graph.describe(node), reason: reason.into() }
    }

    fn no_batch(&self, node: NodeId, does: &'static str) -> LowerError {
        LowerError::Batch { node: self.graph.describe(node), does }
    }

    /// Whether the elements of a value are never negative.
    fn is_non_negative(&self, value: GraphValue) -> bool {
        self.signs.sign(value).is_non_negative()
    }

    /// The program's value for one of the graph's; made when it is first asked for.
    fn value(&mut self, value: GraphValue) -> Result<ValueId, LowerError> {
        if let Some(id) = self.known.get(&value) {
            return Ok(*id);
        }
        let ty = self.graph.ty(value);
        if batch(ty) != self.samples {
            return Err(self.unsupported(value.node, "its first axis is not the batch"));
        }
        let id = self.temporary(image(ty));
        self.known.insert(value, id);
        Ok(id)
    }

    fn values(&mut self, values: &[GraphValue]) -> Result<Vec<ValueId>, LowerError> {
        values.iter().map(|value| self.value(*value)).collect()
    }

    /// A value that the graph does not have.
    fn temporary(&mut self, image: Image) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        self.values.insert(id, Value::new(image));
        id
    }

    /// A value like another one.
    fn like(&mut self, value: ValueId) -> ValueId {
        self.temporary(self.image(value))
    }

    fn image(&self, value: ValueId) -> Image {
        self.values.get(&value).map_or([1; 4], |value| value.image)
    }

    /// A value of one pixel for all of an image, as one of a pixel for each of its slices.
    fn for_slices(&mut self, pixel: ValueId, depth: usize) -> ValueId {
        let [channels, slices, height, width] = self.image(pixel);
        if slices == depth {
            return pixel;
        }
        let dims = vec![channels, depth];
        let from = Strided { base: 0, strides: vec![1, 0] };
        let each = self.temporary([channels, depth, height, width]);
        self.step(
            StepOp::Move(Move { to: Strided::dense(&dims), from, dims, fill: false }),
            vec![pixel],
            each,
        );
        each
    }

    fn flag(&mut self) -> FlagId {
        self.flags += 1;
        self.flags - 1
    }

    fn push(&mut self, op: StepOp, reads: Vec<ValueId>, constants: Vec<String>, writes: Vec<ValueId>) {
        let origin = self.origin.clone();
        self.steps.push(Step { op, reads, constants, writes, kernel: None, origin });
    }

    /// A step that reads and writes values alone.
    fn step(&mut self, op: StepOp, reads: Vec<ValueId>, write: ValueId) {
        self.push(op, reads, Vec::new(), vec![write]);
    }

    /// The name of a weight among the program's constants.
    fn weight(&mut self, node: NodeId, value: GraphValue) -> Result<String, LowerError> {
        let weight = self.graph.weight(value).cloned();
        let weight = weight.ok_or_else(|| self.unsupported(node, "a weight is no constant"))?;
        let name = weight.name().to_string();
        self.constants.insert(name.clone(), Constant::Weight(weight));
        Ok(name)
    }

    /// The values of a weight.
    fn weight_data(&self, node: NodeId, value: GraphValue) -> Result<Values, LowerError> {
        let data = self.graph.weight(value).and_then(|w| w.data()).cloned();
        data.ok_or_else(|| self.unsupported(node, "a weight is no constant with data"))
    }

    /// A constant that is made here, named after the node at hand and what it is.
    fn derived(
        &mut self,
        node: NodeId,
        what: &str,
        dims: Vec<usize>,
        data: Vec<f64>,
    ) -> Result<String, LowerError> {
        let constant = Derived::new(dims, data).map_err(|e| self.unsupported(node, e))?;
        let base = format!("{}.{what}", self.origin.label);
        Ok(add_named(&mut self.constants, &base, Constant::Derived(constant)))
    }

    /// A constant per channel.
    fn per_channel(&mut self, node: NodeId, what: &str, data: Vec<f64>) -> Result<String, LowerError> {
        self.derived(node, what, vec![data.len()], data)
    }

    /// A step that runs the interpreter's function for a node that no other step is for.
    fn interpret(&mut self, node: NodeId) -> Result<(), LowerError> {
        let operands: Vec<GraphValue> = self.graph.data_operands(node).into_iter().map(|(_, v)| v).collect();
        let reads = self.values(&operands)?;
        let ports: Vec<GraphValue> =
            (0..self.graph.node(node).types().len()).map(|port| GraphValue { node, port }).collect();
        let writes = self.values(&ports)?;
        self.push(StepOp::Interpret, reads, Vec::new(), writes);
        Ok(())
    }

    /// `sum = sum of parts`, in their order; of many, each step goes on where the one before stopped.
    fn add(&mut self, parts: &[ValueId], sum: ValueId) {
        let mut before: Option<ValueId> = None;
        for (index, some) in parts.chunks(MAX_PARTS).enumerate() {
            let is_last = (index + 1) * MAX_PARTS >= parts.len();
            let target = if is_last { sum } else { self.like(sum) };
            let reads = before.into_iter().chain(some.iter().copied()).collect();
            self.step(StepOp::Sum { relu: false }, reads, target);
            before = Some(target);
        }
    }

    /// The sums of a relevance node's outputs, for the ledger.
    fn tally(&mut self, node: NodeId) -> Result<(), LowerError> {
        for port in 0..self.graph.node(node).types().len() {
            let of = GraphValue { node, port };
            let value = self.value(of)?;
            self.push(StepOp::Tally(vec![self.graph.label(of)]), vec![value], Vec::new(), Vec::new());
        }
        Ok(())
    }
}
