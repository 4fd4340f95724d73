//! One sample: the steps, run on its memory.

use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::epilogue::{Epilogue, Operand, finish};
use crate::{AlignedBuffer, stats};
use ndarray::{ArrayD, IxDyn};
use relc_codegen::jit::Binding;
use relc_codegen::kernels::LEDGER;
use relc_interp::{evaluate_node, propagate_node};
use relc_ir::ledger::Losses;
use relc_ir::{NodeId, ValueId};
use relc_program::books::{Books, Stats};
use relc_program::{Rerun, RunError};

use super::convolve::convolve;
use super::{Arena, Executable, Keeping, StepTime};
use crate::error::EngineError;
use crate::map::Map;
use crate::moves::{Run, move_elements};
use crate::relayout::relayout;
use crate::standardise::Standardise;
use crate::step::{Action, Bind, ConvStep, Finish, FlatStep, InterpretStep, Slot, Step};

/// Elements that a thread should have to write at least, for a kernel to be shared.
const GRAIN: usize = 1 << 14;

/// A sample while it runs.
pub struct Sample<'a> {
    pub(super) executable: &'a Executable,
    arena: &'a mut Arena,
    /// Whether steps share the threads of the pool.
    pub(super) parallel: bool,
    pub(super) ledger: bool,
    pub(super) books: Books,
}

impl<'a> Sample<'a> {
    pub fn new(executable: &'a Executable, arena: &'a mut Arena, ledger: bool) -> Self {
        Sample { executable, arena, parallel: true, ledger, books: Books::default() }
    }

    /// What comes before the forward steps.
    pub fn begin_forward(&mut self, input: &[f32]) -> Result<(), EngineError> {
        if !input.iter().all(|v| v.is_finite()) {
            return Err(RunError::NonFiniteForward.into());
        }
        self.load(self.executable.plan.input, input)
    }

    /// The explained output, once the forward steps have run.
    pub fn end_forward(&self) -> Result<Vec<f32>, EngineError> {
        let logits = self.unload(self.executable.plan.output)?;
        if logits.iter().all(|v| v.is_finite()) { Ok(logits) } else { Err(RunError::NonFiniteForward.into()) }
    }

    /// What comes before the backward steps from a seed.
    pub fn begin_backward(&mut self, seed: &[f32]) -> Result<(), EngineError> {
        let plan = &self.executable.plan;
        self.load(plan.seed, seed)?;
        self.arena.flags.iter_mut().for_each(|flag| *flag.get_mut() = false);
        if !self.ledger {
            self.tally(self.executable.books.ends()[0], plan.seed); // now: the seed's memory is given to others later
        }
        Ok(())
    }

    /// The relevance of the input, and the books, once the backward steps have run.
    pub fn end_backward(&mut self) -> Result<(Vec<f32>, Books), EngineError> {
        let plan = &self.executable.plan;
        if self.arena.keeping == Keeping::Next {
            self.arena.keeping = Keeping::Kept;
        }
        if !self.ledger {
            self.tally(self.executable.books.ends()[1], plan.relevance);
        }
        let books = std::mem::take(&mut self.books);
        if let Some(node) = self.executable.books.non_finite(&books) {
            return Err(RunError::NonFinite { node }.into());
        }
        Ok((self.unload(plan.relevance)?, books))
    }

    /// Runs some of the steps.
    pub fn run(&mut self, steps: Range<usize>) -> Result<(), EngineError> {
        let plan = &self.executable.plan;
        let numbered = plan.steps.iter().enumerate().take(steps.end).skip(steps.start);
        for (number, step) in numbered {
            match number.checked_sub(plan.forward) {
                None => self.step(step)?,
                Some(_) if step.is_bookkeeping() && !self.ledger => {}
                Some(index) => self.backward_step(index, step, self.rerun(number))?,
            }
        }
        Ok(())
    }

    /// Whether several samples had better run a step at a time: it is a convolution whose weights are streamed.
    pub fn is_better_together(&self, number: usize) -> bool {
        let action = self.executable.plan.steps.get(number).map(|step| &step.action);
        let kept = self.arena.keeping == Keeping::Kept && self.rerun(number) != Rerun::Whole;
        matches!(action, Some(Action::Conv(conv)) if conv.algorithm.is_streamed()) && !kept
    }

    /// Runs a convolution for samples of one executable, on the threads of the pool.
    pub fn run_together(samples: &mut [Sample<'a>], number: usize) -> Result<(), EngineError> {
        let Some(first) = samples.first() else { return Ok(()) };
        let plan = &first.executable.plan;
        let Some(step @ Step { node, action: Action::Conv(conv) }) = plan.steps.get(number) else {
            return Ok(());
        };
        let rerun = if first.arena.keeping == Keeping::Next { first.rerun(number) } else { Rerun::Whole };
        let index = number.checked_sub(plan.forward);
        samples.iter_mut().for_each(|sample| sample.parallel = true);
        convolve(samples, *node, conv, index.filter(|_| rerun == Rerun::Epilogue))?;
        if let (Some(index), Rerun::Outputs) = (index, rerun) {
            samples.iter_mut().for_each(|sample| sample.keep_outputs(index, step));
        }
        Ok(())
    }

    /// What another seed changes of a step.
    fn rerun(&self, number: usize) -> Rerun {
        let plan = &self.executable.plan;
        let backward = number.checked_sub(plan.forward);
        backward.and_then(|index| plan.reruns.get(index)).copied().unwrap_or(Rerun::Whole)
    }

    /// All steps, timed; the seed is the explained output.
    pub fn timed(&mut self, input: &[f32]) -> Result<Vec<StepTime>, EngineError> {
        let executable = self.executable;
        let plan = &executable.plan;
        self.load(plan.input, input)?;
        self.arena.flags.iter_mut().for_each(|flag| *flag.get_mut() = false);
        let mut times = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            if index == plan.forward {
                let seed = self.unload(plan.output)?;
                self.load(plan.seed, &seed)?;
            }
            let start = Instant::now();
            self.step(step)?;
            let (what, flops) = step.describe();
            let forward = index < plan.forward;
            times.push(StepTime { node: step.node, what, forward, flops, time: start.elapsed() });
        }
        self.books = Books::default();
        Ok(times)
    }

    /// A backward step, or what of it another seed changes.
    fn backward_step(&mut self, index: usize, step: &Step, rerun: Rerun) -> Result<(), EngineError> {
        match (self.arena.keeping, rerun, &step.action) {
            (Keeping::Nothing, ..) | (_, Rerun::Whole, _) => self.step(step),
            (Keeping::Next, Rerun::Nothing, _) => self.step(step),
            (Keeping::Next, Rerun::Epilogue, Action::Conv(conv)) => {
                convolve(slice::from_mut(self), step.node, conv, Some(index))
            }
            (Keeping::Next, ..) => {
                self.step(step)?;
                self.keep_outputs(index, step);
                Ok(())
            }
            (Keeping::Kept, Rerun::Nothing, _) => Ok(()),
            (Keeping::Kept, Rerun::Epilogue, Action::Conv(conv)) => self.finish(index, step.node, conv),
            (Keeping::Kept, ..) => {
                let kept = self.take_kept(index);
                for (slot, kept) in step.action.outputs().into_iter().zip(&kept) {
                    let mut output = self.take(slot);
                    output.copy_from_slice(kept);
                    self.put(slot, output);
                }
                self.put_kept(index, kept);
                Ok(())
            }
        }
    }

    /// Keeps what a backward step wrote.
    fn keep_outputs(&mut self, index: usize, step: &Step) {
        let mut kept = self.take_kept(index);
        for (slot, kept) in step.action.outputs().into_iter().zip(&mut kept) {
            kept.copy_from_slice(self.slot(slot));
        }
        self.put_kept(index, kept);
    }

    /// What a backward step keeps, out of the arena; there is room for it.
    pub(super) fn take_kept(&mut self, index: usize) -> Vec<AlignedBuffer> {
        let plan = &self.executable.plan;
        if self.arena.kept.is_empty() {
            let room = |slot: Slot| AlignedBuffer::zeroed(self.executable.layout(slot).len());
            let of = |step: usize| plan.kept_of(step).into_iter().map(room).collect();
            self.arena.kept = (0..plan.reruns.len()).map(of).collect();
        }
        self.arena.kept.get_mut(index).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn put_kept(&mut self, index: usize, kept: Vec<AlignedBuffer>) {
        if let Some(place) = self.arena.kept.get_mut(index) {
            *place = kept;
        }
    }

    /// The epilogue of a convolution whose sums were kept.
    fn finish(&mut self, index: usize, node: NodeId, conv: &ConvStep) -> Result<(), EngineError> {
        let kept = self.take_kept(index);
        let mut output = self.take(conv.output);
        let (isa, layout) = (self.executable.machine.isa, self.executable.layout(conv.output));
        let sums = kept.first().map_or(&[][..], |sums| sums);
        let epilogue = self.epilogue(&conv.finish);
        let result = finish(isa, layout, sums, &epilogue, &mut output, self.parallel);
        self.put(conv.output, output);
        self.put_kept(index, kept);
        result.map_err(|source| self.executable.refused(node, source.into()))
    }

    fn load(&mut self, slot: Slot, dense: &[f32]) -> Result<(), EngineError> {
        let mut buffer = self.take(slot);
        let packed = self.executable.layout(slot).pack(dense, &mut buffer);
        self.put(slot, buffer);
        Ok(packed?)
    }

    fn unload(&self, slot: Slot) -> Result<Vec<f32>, EngineError> {
        let layout = self.executable.layout(slot);
        let mut dense = vec![0.0; layout.dense_len()];
        layout.unpack(self.slot(slot), &mut dense)?;
        Ok(dense)
    }

    pub(super) fn slot(&self, slot: Slot) -> &[f32] {
        self.executable.in_slot(self.arena, slot)
    }

    /// Takes the buffer of a slot that is written out of the arena, so that others can be read beside it: as much of it as the
    /// slot has.
    pub(super) fn take(&mut self, slot: Slot) -> AlignedBuffer {
        let buffer = self.arena.buffers.get_mut(self.executable.plan.buffer_of[slot]);
        let mut buffer = buffer.map(std::mem::take).unwrap_or_default();
        buffer.resize(self.executable.layout(slot).len());
        buffer
    }

    pub(super) fn put(&mut self, slot: Slot, mut buffer: AlignedBuffer) {
        let plan = &self.executable.plan;
        let at = plan.buffer_of[slot];
        if let Some(place) = self.arena.buffers.get_mut(at) {
            buffer.resize(plan.buffers[at]);
            *place = buffer;
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), EngineError> {
        match &step.action {
            Action::Conv(conv) => convolve(slice::from_mut(self), step.node, conv, None),
            Action::Kernel { kernel, binds } => self.kernel(step.node, *kernel, binds, &mut []),
            Action::Quotients { kernel, binds, flag } => {
                let function = self.executable.kernels.get(*kernel).ok_or_else(misplaced)?;
                let mut ledger = vec![0.0; function.tasks() * LEDGER.len()];
                self.kernel(step.node, *kernel, binds, &mut ledger)?;
                let sum = |slot: usize| ledger.iter().skip(slot).step_by(LEDGER.len()).sum::<f64>();
                let (bias, stabiliser, undivided) = (sum(0), sum(1), sum(2));
                let clipped = match flag {
                    // The spread books it.
                    Some(flag) => {
                        if undivided > 0.0 {
                            self.raise(*flag);
                        }
                        0.0
                    }
                    None => undivided,
                };
                self.lose(step.node, Losses { bias, stabiliser, clipped, ..Losses::default() });
                Ok(())
            }
            Action::Move { table, input, output } => {
                self.moves(table, *input, *output);
                Ok(())
            }
            Action::Map { input, output, function } => {
                let (from, to) = (self.executable.layout(*input), self.executable.layout(*output));
                let parallel = self.parallel && to.len() >= GRAIN;
                let map = Map { isa: self.executable.machine.isa, function: *function, from, to, parallel };
                let mut target = self.take(*output);
                map.run(self.slot(*input), &mut target);
                self.put(*output, target);
                Ok(())
            }
            Action::Standardise { input, output, runs, epsilon } => {
                let (from, to) = (self.executable.layout(*input), self.executable.layout(*output));
                let (isa, parallel) = (self.executable.machine.isa, self.parallel && to.len() >= GRAIN);
                let it = Standardise { isa, runs: *runs, epsilon: *epsilon, from, to, parallel };
                let mut target = self.take(*output);
                it.run(self.slot(*input), &mut target);
                self.put(*output, target);
                Ok(())
            }
            Action::Relayout { input, output } => {
                let mut target = self.take(*output);
                let (from, to) = (self.executable.layout(*input), self.executable.layout(*output));
                relayout(from, self.slot(*input), to, &mut target);
                self.put(*output, target);
                Ok(())
            }
            Action::Stabilise { input, output, factor } => {
                let layout = self.executable.layout(*input);
                let square = stats::mean_square(layout, self.slot(*input), self.parallel);
                let eps = (factor * square.sqrt()) as f32;
                self.load(*output, &[eps])
            }
            Action::Interpret(interpret) => self.interpret(step.node, interpret),
            Action::Flat(flat) => {
                self.flat(step.node, flat);
                Ok(())
            }
            Action::Raise { flag } => {
                self.raise(*flag);
                Ok(())
            }
            Action::Tally { value, buffer } => {
                self.tally(*value, *buffer);
                Ok(())
            }
            Action::Absorbed { quotient, by, bias } => {
                let (isa, layout) = (self.executable.machine.isa, self.executable.layout(*quotient));
                let sum = stats::weighted(isa, layout, self.slot(*quotient), by, self.parallel);
                let losses = Losses::default();
                let losses =
                    if *bias { Losses { bias: sum, ..losses } } else { Losses { stabiliser: sum, ..losses } };
                self.lose(step.node, losses);
                Ok(())
            }
        }
    }

    pub(super) fn epilogue<'s>(&'s self, finish: &'s Finish) -> Epilogue<'s> {
        let operand = |slot: Slot| Operand { data: self.slot(slot), layout: *self.executable.layout(slot) };
        match finish {
            Finish::None => Epilogue::None,
            Finish::Activate { bias, residual, relu } => {
                Epilogue::Activate { bias: bias.as_deref(), residual: residual.map(operand), relu: *relu }
            }
            Finish::Quotient { relevance, offset, addend, floor, flag } => Epilogue::Quotient {
                relevance: operand(*relevance),
                offset,
                addend: addend.map(operand),
                floor: *floor,
                vanished: flag.and_then(|flag| self.arena.flags.get(flag)),
            },
            Finish::Product { factor, addends } => Epilogue::Product {
                factor: factor.map(operand),
                addends: std::array::from_fn(|index| addends.get(index).copied().map(operand)),
            },
        }
    }

    /// Runs a compiled kernel; a `ledger` that is not empty is its last argument.
    fn kernel(
        &mut self,
        node: NodeId,
        kernel: usize,
        binds: &[Bind],
        ledger: &mut [f64],
    ) -> Result<(), EngineError> {
        let function = self.executable.kernels.get(kernel).ok_or_else(misplaced)?;
        let mut written: Vec<(Slot, AlignedBuffer)> = Vec::new();
        for bind in binds {
            if let Bind::Write(slot) = bind {
                written.push((*slot, self.take(*slot)));
            }
        }
        let elements: usize = written.iter().map(|(_, buffer)| buffer.len()).sum();
        let mut outputs = written.iter_mut().map(|(_, buffer)| &mut buffer[..]);
        let mut bindings: Vec<Binding<'_>> = Vec::with_capacity(binds.len());
        for bind in binds {
            bindings.push(match bind {
                Bind::Read(slot) => Binding::Read(self.slot(*slot)),
                Bind::Constant(data) => Binding::Read(data),
                Bind::Write(_) => Binding::Write(outputs.next().ok_or_else(misplaced)?),
            });
        }
        if !ledger.is_empty() {
            bindings.push(Binding::Write64(ledger));
        }
        let grain = (GRAIN * function.tasks()).checked_div(elements).unwrap_or(1).max(1);
        let result = if self.parallel && function.tasks() > grain {
            function.call_parallel(&mut bindings, grain)
        } else {
            function.call(&mut bindings, 0..function.tasks())
        };
        drop(bindings);
        written.into_iter().for_each(|(slot, buffer)| self.put(slot, buffer));
        result.map_err(|source| self.executable.refused(node, source.into()))
    }

    fn moves(&mut self, table: &[Run], input: Slot, output: Slot) {
        let mut target = self.take(output);
        let source = self.slot(input);
        move_elements(table, source, &mut target, self.parallel);
        self.put(output, target);
    }

    fn interpret(&mut self, node: NodeId, step: &InterpretStep) -> Result<(), EngineError> {
        let graph = &self.executable.graph;
        let values = graph.operands(node);
        let mut data = Vec::with_capacity(step.inputs.len());
        for (index, slot) in &step.inputs {
            let value = *values.get(*index).ok_or_else(misplaced)?;
            let array = ArrayD::from_shape_vec(IxDyn(&graph.ty(value).bind(1)), self.unload(*slot)?);
            data.push((*index, array.map_err(|_| misplaced())?));
        }
        let outputs = if graph.node(node).op.is_relevance() {
            let (outputs, losses) = propagate_node(graph, node, data, 1)?;
            self.lose(node, losses);
            outputs
        } else {
            vec![evaluate_node(graph, node, data, 1)?]
        };
        for (slot, array) in step.outputs.iter().zip(outputs) {
            let standard = array.as_standard_layout();
            self.load(*slot, standard.as_slice().ok_or_else(misplaced)?)?;
        }
        Ok(())
    }

    fn raise(&self, flag: usize) {
        if let Some(flag) = self.arena.flags.get(flag) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    fn flat(&mut self, node: NodeId, step: &FlatStep) {
        if !self.arena.flags.get(step.flag).is_some_and(|flag: &AtomicBool| flag.load(Ordering::Relaxed)) {
            return;
        }
        let mut output = self.take(step.output);
        let inputs = [self.slot(step.relevance), self.slot(step.quotient)];
        let spreading = step.flat.run(inputs, &mut output, step.tally.is_some(), self.parallel);
        self.put(step.output, output);
        if let Some(stats) = step.tally.and_then(|value| self.books.stats.get_mut(&value)) {
            *stats = stats.with(spreading.stats);
        }
        if let Some(value) = step.whole.filter(|value| self.books.stats.contains_key(value)) {
            self.tally(value, step.output);
        }
        let losses = Losses { flat_fallback: spreading.spread, padding: spreading.lost, ..Losses::default() };
        self.lose(node, losses);
    }

    fn stats(&self, slot: Slot) -> Stats {
        stats::of(self.executable.machine.isa, self.executable.layout(slot), self.slot(slot), self.parallel)
    }

    fn tally(&mut self, value: ValueId, slot: Slot) {
        let stats = self.stats(slot);
        self.books.stats.insert(value, stats);
    }

    fn lose(&mut self, node: NodeId, losses: Losses) {
        let sum = self.books.losses.entry(node).or_default();
        *sum = *sum + losses;
    }
}

fn misplaced() -> EngineError {
    EngineError::Malformed("a step names memory that the plan does not have".into())
}
