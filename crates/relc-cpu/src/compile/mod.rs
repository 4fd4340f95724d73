//! From a program to what runs: plans, packed weights, kernels, tables.

mod convolution;
mod kernel;
mod store;

use std::collections::HashMap;
use std::sync::Arc;

use relc_codegen::kir::{Kernel, verify};
use relc_ir::{Graph, NodeId, ValueId as GraphValue, Values};
use relc_program::books::relevance_values;
use relc_program::layout::Blocked;
use relc_program::op::{Move, Side};
use relc_program::{Constant, Program, Step as Symbolic, StepOp, ValueId};

use self::convolution::Packed;
use self::store::Store;
use crate::bf16x6::Bf16x6Plan;
use crate::conv::ConvPlan;
use crate::error::EngineError;
use crate::flat::Flat;
use crate::machine::Machine;
use crate::map::Function;
use crate::moves::{Run, runs};
use crate::plan::Plan;
use crate::standardise::Standardise;
use crate::step::{Action, Bind, FlatStep, InterpretStep, Slot, Step};

/// Compiles the steps of a program that has been through the passes of this back end. What it packs is given, if it was
/// packed at another time.
pub(crate) fn compile(
    graph: &Graph,
    program: &Program,
    machine: &Machine,
    packed: Option<Vec<Values>>,
) -> Result<Plan, EngineError> {
    let mut buffers = Vec::new();
    for (number, (slot, elements)) in program.slots().into_iter().enumerate() {
        if slot != number {
            return Err(EngineError::Plan(format!("got slot {slot}, expected {number}")));
        }
        buffers.push(elements);
    }
    let (mut slots, mut buffer_of, mut slot_of) = (Vec::new(), Vec::new(), HashMap::new());
    for (id, value) in &program.values {
        let (Some(buffer), Some(layout)) = (value.slot, value.layout) else { continue };
        let known = slots.iter().zip(&buffer_of).position(|place| place == (&layout, &buffer));
        slot_of.insert(*id, known.unwrap_or(slots.len()));
        if known.is_none() {
            slots.push(layout);
            buffer_of.push(buffer);
        }
    }
    let mut compiler = Compiler {
        program,
        slot_of,
        graph,
        machine: *machine,
        nodes: graph.node_ids().map(|node| (graph.node_label(node), node)).collect(),
        relevance: relevance_values(graph).map(|value| (graph.label(value), value)).collect(),
        kernels: Vec::new(),
        known: HashMap::new(),
        plans: HashMap::new(),
        packed: HashMap::new(),
        split: HashMap::new(),
        constants: HashMap::new(),
        store: Store::new(packed),
    };
    let mut steps = Vec::with_capacity(program.forward.len() + program.backward.len());
    for step in program.steps() {
        steps.push(compiler.step(step)?);
    }
    let ends = &program.ends;
    let tap = |(label, id): (&String, &ValueId)| Ok((label.clone(), compiler.slot(*id)?));
    let taps: Result<_, EngineError> = program.taps.iter().map(tap).collect();
    let [input, output, seed, relevance] =
        [ends.input, ends.output, ends.seed, ends.relevance].map(|id| compiler.slot(id));
    Ok(Plan {
        slots,
        buffer_of,
        buffers,
        steps,
        forward: program.forward.len(),
        reruns: program.reruns(),
        flags: program.flags(),
        kernels: compiler.kernels,
        input: input?,
        output: output?,
        seed: seed?,
        relevance: relevance?,
        taps: taps?,
        // What is given lies in a file, as the weights do.
        unpacked: match compiler.store.is_given() {
            true => Vec::new(),
            false => convolution::unpacked(program, &compiler.packed),
        },
        packed: compiler.store.finish()?,
    })
}

/// How a constant lies.
#[derive(PartialEq, Eq, Hash)]
enum Packing {
    /// One value per channel, for each of so many slices.
    Channels { depth: usize },
    /// As values do.
    Layout(Blocked),
}

struct Compiler<'p> {
    program: &'p Program,
    /// The slot of each value.
    slot_of: HashMap<ValueId, Slot>,
    graph: &'p Graph,
    machine: Machine,
    /// The graph's nodes by their labels.
    nodes: HashMap<String, NodeId>,
    /// Its relevance values by theirs.
    relevance: HashMap<String, GraphValue>,
    kernels: Vec<Kernel>,
    /// The kernels of steps that share theirs.
    known: HashMap<usize, usize>,
    /// The plans of convolutions that share theirs.
    plans: HashMap<usize, convolution::Planned>,
    /// Packed weights, to be shared by plans that pack alike.
    packed: Packed<ConvPlan>,
    /// As `packed`, of those that are split into bf16.
    split: Packed<Bf16x6Plan>,
    /// Constants in blocks.
    constants: HashMap<(String, Packing), Values>,
    store: Store,
}

impl Compiler<'_> {
    fn unsupported(&self, step: &Symbolic, reason: impl Into<String>) -> EngineError {
        EngineError::Unsupported { node: step.origin.describe(), reason: reason.into() }
    }

    fn node(&self, step: &Symbolic) -> Result<NodeId, EngineError> {
        let node = self.nodes.get(&step.origin.label).copied();
        node.ok_or_else(|| self.unsupported(step, "the graph has no such node"))
    }

    fn slot(&self, id: ValueId) -> Result<Slot, EngineError> {
        let slot = self.slot_of.get(&id).copied();
        slot.ok_or_else(|| EngineError::Plan(format!("{id} has no slot")))
    }

    fn layout(&self, id: ValueId) -> Result<Blocked, EngineError> {
        self.program.layout(id).ok_or_else(|| EngineError::Plan(format!("{id} has no layout")))
    }

    /// A layout in whole vectors, as every kernel wants it.
    fn kernel_layout(&self, step: &Symbolic, id: ValueId) -> Result<Blocked, EngineError> {
        let layout = Some(self.layout(id)?).filter(|layout| layout.block() == self.machine.isa.width());
        layout.ok_or_else(|| self.unsupported(step, "its tensors are laid out in a way that no kernel takes"))
    }

    /// The values of a constant.
    fn values(&self, step: &Symbolic, name: &str) -> Result<Values, EngineError> {
        let values = self.program.constants.get(name).and_then(Constant::values);
        values.ok_or_else(|| self.unsupported(step, format!("the values of @{name} are not there")))
    }

    /// One constant per channel of each slice of what the step writes, padded with zeros to whole vectors.
    fn per_channel(&mut self, step: &Symbolic, name: &str) -> Result<Bind, EngineError> {
        let depth = self.layout(step.writes[0])?.depth();
        let key = (name.to_string(), Packing::Channels { depth });
        if let Some(known) = self.constants.get(&key) {
            return Ok(Bind::Constant(known.clone()));
        }
        let mut values = self.values(step, name)?.to_vec();
        values.resize(values.len().next_multiple_of(self.machine.isa.width()), 0.0);
        let values: Values = values.repeat(depth).into();
        self.constants.insert(key, values.clone());
        Ok(Bind::Constant(values))
    }

    /// A constant `[C,D,H,W]` in a layout.
    fn in_layout(&mut self, step: &Symbolic, name: &str, layout: Blocked) -> Result<Bind, EngineError> {
        let key = (name.to_string(), Packing::Layout(layout));
        if let Some(known) = self.constants.get(&key) {
            return Ok(Bind::Constant(known.clone()));
        }
        let mut data = vec![0.0; layout.len()];
        layout.pack(&self.values(step, name)?, &mut data)?;
        let data: Values = data.into();
        self.constants.insert(key, data.clone());
        Ok(Bind::Constant(data))
    }

    fn reads(&self, step: &Symbolic) -> Result<Vec<Slot>, EngineError> {
        step.reads.iter().map(|id| self.slot(*id)).collect()
    }

    fn writes(&self, step: &Symbolic) -> Result<Vec<Slot>, EngineError> {
        step.writes.iter().map(|id| self.slot(*id)).collect()
    }

    fn step(&mut self, step: &Symbolic) -> Result<Step, EngineError> {
        let (node, reads, writes) = (self.node(step)?, self.reads(step)?, self.writes(step)?);
        let unary = || match (&reads[..], &writes[..]) {
            (&[input, ..], &[output, ..]) => Ok((input, output)),
            _ => Err(EngineError::Plan(format!("a step of {} has no operands", step.origin.describe()))),
        };
        let action = match &step.op {
            StepOp::Conv(conv) => self.convolution(step, conv)?,
            StepOp::Part(side) => {
                let (input, output) = unary()?;
                let function = match side {
                    Side::Positive => Function::Positive,
                    Side::Negative => Function::Negative,
                };
                Action::Map { input, output, function }
            }
            StepOp::Activation(activation) if !kernel::has_activation(activation) => {
                let (input, output) = unary()?;
                Action::Map { input, output, function: Function::Activation(*activation) }
            }
            StepOp::Convert => {
                let (input, output) = unary()?;
                Action::Relayout { input, output }
            }
            StepOp::Stabilise { factor } => {
                let (input, output) = unary()?;
                Action::Stabilise { input, output, factor: *factor }
            }
            StepOp::Move(step_move) => {
                let (input, output) = unary()?;
                let [from, to] = [step.reads[0], step.writes[0]].map(|id| self.layout(id));
                Action::Move { table: table(step_move, &from?, &to?), input, output }
            }
            StepOp::Standardise { runs, epsilon } => {
                let (input, output) = unary()?;
                let [from, to] = [step.reads[0], step.writes[0]].map(|id| self.layout(id));
                match Standardise::fits(*runs, &from?, &to?) {
                    true => Action::Standardise { input, output, runs: *runs, epsilon: *epsilon },
                    false => self.interpret(step, node)?,
                }
            }
            StepOp::Interpret => self.interpret(step, node)?,
            StepOp::Flat(flat) => {
                let [relevance, quotient, output] = [step.reads[0], step.reads[1], step.writes[0]];
                let flat_step = FlatStep {
                    flat: Flat {
                        isa: self.machine.isa,
                        window: flat.window,
                        groups: flat.groups,
                        relevance: self.kernel_layout(step, relevance)?,
                        quotient: self.kernel_layout(step, quotient)?,
                        output: self.layout(output)?,
                    },
                    flag: flat.flag,
                    relevance: reads[0],
                    quotient: reads[1],
                    output: writes[0],
                    tally: self.tallied_if_any(step, &flat.tally)?,
                    whole: self.tallied_if_any(step, &flat.whole)?,
                };
                Action::Flat(Box::new(flat_step))
            }
            StepOp::Raise { flag } => Action::Raise { flag: *flag },
            StepOp::Tally(labels) => Action::Tally { value: self.tallied(step, labels)?, buffer: reads[0] },
            StepOp::Absorbed { bias } => {
                let by = self.values(step, &step.constants[0])?;
                Action::Absorbed { quotient: reads[0], by, bias: *bias }
            }
            _ => match self.kernel(step)? {
                Some(action) => action,
                None => self.interpret(step, node)?,
            },
        };
        Ok(Step { node, action })
    }

    /// The value under whose name the ledger has sums.
    fn tallied(&self, step: &Symbolic, labels: &[String]) -> Result<GraphValue, EngineError> {
        let found = labels.first().and_then(|label| self.relevance.get(label)).copied();
        found.ok_or_else(|| self.unsupported(step, "it sums a value that the graph does not have"))
    }

    /// [`Compiler::tallied`]; none where nobody asks.
    fn tallied_if_any(&self, step: &Symbolic, labels: &[String]) -> Result<Option<GraphValue>, EngineError> {
        if labels.is_empty() { Ok(None) } else { self.tallied(step, labels).map(Some) }
    }

    /// The interpreter's function for a node.
    fn interpret(&self, step: &Symbolic, node: NodeId) -> Result<Action, EngineError> {
        let operands = self.graph.data_operands(node);
        let ports = self.graph.node(node).types().len();
        if operands.len() != step.reads.len() || ports != step.writes.len() {
            return Err(self.unsupported(step, "no kernel does a part of it"));
        }
        let indices = operands.into_iter().map(|(index, _)| index);
        let inputs = indices.zip(self.reads(step)?).collect();
        Ok(Action::Interpret(Box::new(InterpretStep { inputs, outputs: self.writes(step)? })))
    }

    /// The number of a kernel; steps that share one compile it once.
    fn known_kernel(
        &mut self,
        step: &Symbolic,
        make: impl FnOnce(&Self) -> Result<Kernel, EngineError>,
    ) -> Result<usize, EngineError> {
        if let Some(known) = step.kernel.and_then(|number| self.known.get(&number)) {
            return Ok(*known);
        }
        let kernel = make(self)?;
        // Cranelift's front would refuse it too, but knows no nodes.
        verify(&kernel).map_err(|errors| self.unsupported(step, errors.to_string()))?;
        self.kernels.push(kernel);
        let index = self.kernels.len() - 1;
        if let Some(number) = step.kernel {
            self.known.insert(number, index);
        }
        Ok(index)
    }
}

/// What a move moves.
fn table(step: &Move, from: &Blocked, to: &Blocked) -> Arc<[Run]> {
    let (targets, sources) = (step.to.offsets(&step.dims), step.from.offsets(&step.dims));
    // Layouts have fewer than 2^32 elements.
    let offset_of = |layout: &Blocked, index: usize| layout.offset_of(index) as u32;
    let mut pairs: Vec<(u32, Option<u32>)> = Vec::with_capacity(targets.len());
    if step.fill {
        let mut covered = vec![false; to.dense_len()];
        for target in &targets {
            if let Some(covered) = covered.get_mut(*target) {
                *covered = true;
            }
        }
        let rest = covered.iter().enumerate().filter(|(_, covered)| !**covered);
        pairs.extend(rest.map(|(target, _)| (offset_of(to, target), None)));
    }
    pairs.extend(targets.into_iter().zip(sources).map(|(t, f)| (offset_of(to, t), Some(offset_of(from, f)))));
    // In the order of memory.
    pairs.sort_unstable();
    runs(pairs).into()
}
