//! Sessions: some samples on a device.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, cast_slice};
use ndarray::{ArrayD, IxDyn};
use relc_interp::{evaluate_node, propagate_node};
use relc_ir::ledger::{Ledger, Losses};
use relc_ir::{NodeId, ValueId as GraphValue};
use relc_program::books::{Books, Stats};
use relc_program::{BackendError, Explained, RunError, Session, ValueId};

use crate::backend::CudaModule;
use crate::code::{Action, Booked, Place, Purpose, What};
use crate::device::{Address, Command};
use crate::driver::{Queue, Tensor};
use crate::error::CudaError;
use crate::memory::Memory;

/// Some samples on a device. Where they are many, in two parts with queues of their own: what is copied for the one
/// overlaps with what is computed for the other. What a sample gets does not depend on it.
pub struct CudaSession<'m> {
    module: &'m CudaModule,
    samples: usize,
    parts: Vec<Part<'m>>,
    /// Whether the forward steps have run.
    ran: bool,
}

/// Samples of one queue. Memory and commands are made when they are first needed.
struct Part<'m> {
    module: &'m CudaModule,
    samples: usize,
    ready: RefCell<Option<Ready>>,
}

/// Memory and commands for so many samples.
#[derive(Debug)]
pub struct Ready {
    samples: usize,
    memory: Memory,
    queue: Queue,
    /// By [`FORWARD`], [`BACKWARD`] and [`WITH_BOOKS`].
    lists: [Vec<Piece>; 3],
}

/// The list of the forward steps.
pub const FORWARD: usize = 0;
/// The list of the backward steps without the ledger.
const BACKWARD: usize = 1;
/// The list of the backward steps with it.
pub const WITH_BOOKS: usize = 2;

/// Commands between ops that the interpreter runs.
#[derive(Debug)]
enum Piece {
    /// Commands with a number of their own.
    Commands(usize, Vec<Command>),
    /// An op on the host.
    Interpret { node: NodeId, inputs: Vec<(usize, ValueId)>, outputs: Vec<ValueId> },
}

/// What backward steps gave whose relevance stayed on the GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct OnGpu {
    /// The books.
    pub ledger: Ledger,
    /// For each sample, the sum of the magnitudes of the input's relevance.
    pub magnitudes: Vec<f64>,
}

impl<'m> CudaSession<'m> {
    pub(crate) fn new(module: &'m CudaModule, samples: usize) -> Self {
        let parts = match samples >= module.device.overlapping_samples() {
            true => vec![samples.div_ceil(2), samples / 2],
            false => vec![samples],
        };
        let part = |samples| Part { module, samples, ready: RefCell::new(None) };
        CudaSession { module, samples, parts: parts.into_iter().map(part).collect(), ran: false }
    }

    fn check(&self, what: &'static str, got: usize, id: ValueId) -> Result<(), RunError> {
        let expected = len(self.module, id) * self.samples;
        if got == expected && got > 0 { Ok(()) } else { Err(RunError::Length { what, got, expected }) }
    }

    /// Each part with the elements of its samples of a value.
    fn parts_of(&self, id: ValueId) -> impl Iterator<Item = (&Part<'m>, Range<usize>)> {
        let (len, mut end) = (len(self.module, id), 0);
        self.parts.iter().map(move |part| {
            let first = end;
            end += len * part.samples;
            (part, first..end)
        })
    }

    /// As [`forward`](Session::forward), of an input that is on the GPU: so many samples from one on.
    ///
    /// # Errors
    /// As of `forward`, and if the tensor has no such samples, or is on another GPU.
    pub fn forward_on_gpu(&mut self, input: &Tensor, first: usize) -> Result<Vec<f64>, BackendError> {
        let len = len(self.module, self.module.program.ends.input);
        let result = self.run_forward(|ready, id, part| {
            let (at, _) = ready.memory.value(id)?;
            ready.queue.load(at, input, first * len + part.start, part.len())
        });
        self.settled(result)
    }

    /// As [`backward`](Session::backward), with relevance that stays on the GPU: it is written to a tensor from the place of a
    /// sample on.
    ///
    /// # Errors
    /// As of `backward`, and if the tensor has no room for the samples, or is on another GPU.
    pub fn backward_on_gpu(
        &mut self,
        seed: &[f64],
        books: bool,
        relevance: &mut Tensor,
        first: usize,
    ) -> Result<OnGpu, BackendError> {
        let result = self.run_backward_on_gpu(seed, books, relevance, first);
        self.settled(result)
    }

    fn run_backward_on_gpu(
        &self,
        seed: &[f64],
        books: bool,
        relevance: &mut Tensor,
        first: usize,
    ) -> Result<OnGpu, BackendError> {
        let before = first * len(self.module, self.module.program.ends.input);
        let started = self.start_backward(seed, books, |ready, part| {
            let (at, behind, all) = ready.results(self.module)?;
            ready.queue.store(at, relevance, before + part.start, part.len())?;
            ready.queue.fetch(at + behind, all - behind)
        })?;
        let mut kept = Vec::new();
        for (part, lost) in started {
            // The copy of the relevance is before that of the sums.
            let sums = part.with(|ready| {
                let (at, behind, all) = ready.results(self.module)?;
                Ok(floats(ready.queue.read(at + behind, all - behind)?))
            })?;
            kept.extend(part.books(&sums, books, lost));
        }
        let ledger = self.ledger(&kept, books)?;
        let [_, input] = self.module.books.ends();
        let magnitude = |books: &Books| books.stats.get(&input).map_or(0.0, |stats| stats.magnitude);
        Ok(OnGpu { ledger, magnitudes: kept.iter().map(magnitude).collect() })
    }

    /// A result, with nothing under way any more: where something failed, a part may still be reading or writing tensors, which
    /// the end of its queue waits for.
    fn settled<T>(&mut self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        if result.is_err() {
            self.ran = false;
            self.parts.iter().for_each(|part| drop(part.ready.take()));
        }
        result
    }

    /// The forward steps, when `load` has written each part's samples of the input.
    fn run_forward(
        &mut self,
        mut load: impl FnMut(&mut Ready, ValueId, Range<usize>) -> Result<(), CudaError>,
    ) -> Result<Vec<f64>, BackendError> {
        let ends = self.module.program.ends;
        self.ran = false;
        for (part, own) in self.parts_of(ends.input) {
            part.forward(|ready| load(ready, ends.input, own))?;
        }
        let mut output = Vec::new();
        let mut is_finite = true;
        for part in &self.parts {
            is_finite &= part.with(|ready| ready.had_a_finite_input(self.module))?;
            output.extend(part.with(|ready| ready.unload(ends.output))?);
        }
        if !is_finite || !output.iter().all(|v| v.is_finite()) {
            return Err(RunError::NonFiniteForward.into());
        }
        self.ran = true;
        Ok(output.into_iter().map(f64::from).collect())
    }

    /// Starts the backward steps of each part, and behind them `finish` with the elements of its samples of the input; what the
    /// host's ops lost.
    fn start_backward(
        &self,
        seed: &[f64],
        books: bool,
        mut finish: impl FnMut(&mut Ready, Range<usize>) -> Result<(), CudaError>,
    ) -> Result<Vec<(&Part<'m>, Vec<Books>)>, BackendError> {
        if !self.ran {
            return Err(RunError::NotRun.into());
        }
        let ends = self.module.program.ends;
        self.check("the seed", seed.len(), ends.seed)?;
        let seed: Vec<f32> = seed.iter().map(|v| *v as f32).collect();
        let mut started = Vec::with_capacity(self.parts.len());
        for ((part, own), (_, elements)) in self.parts_of(ends.seed).zip(self.parts_of(ends.input)) {
            started.push((part, part.backward(&seed[own], books, |ready| finish(ready, elements))?));
        }
        Ok(started)
    }

    /// The ledger of all samples.
    fn ledger(&self, kept: &[Books], books: bool) -> Result<Ledger, BackendError> {
        if let Some(node) = kept.iter().find_map(|books| self.module.books.non_finite(books)) {
            return Err(RunError::NonFinite { node }.into());
        }
        Ok(self.module.books.ledger(&kept.iter().collect::<Vec<_>>(), books))
    }
}

impl Part<'_> {
    /// Does something with memory that has run before.
    fn with<R>(&self, run: impl FnOnce(&mut Ready) -> Result<R, CudaError>) -> Result<R, CudaError> {
        let mut ready = self.ready.borrow_mut();
        let result = ready.as_mut().map_or(Err(RunError::NotRun.into()), run);
        if result.is_err() {
            // Whatever failed, nobody uses it again.
            *ready = None;
        }
        result
    }

    /// Gets memory, if there is none yet.
    fn prepare(&self) -> Result<(), CudaError> {
        let mut ready = self.ready.borrow_mut();
        if ready.is_none() {
            *ready = Some(match self.module.take(self.samples) {
                Some(known) => known,
                None => Ready::new(self.module, self.samples)?,
            });
        }
        Ok(())
    }

    /// Starts the forward steps.
    fn forward(&self, load: impl FnOnce(&mut Ready) -> Result<(), CudaError>) -> Result<(), CudaError> {
        self.prepare()?;
        let mut books = vec![Books::default(); self.samples];
        self.with(|ready| {
            load(ready)?;
            ready.run(FORWARD, self.module, &mut books)?;
            let (at, bytes) = ready.input_flag(self.module)?;
            ready.queue.fetch(at, bytes)?;
            let (at, bytes) = ready.memory.value(self.module.program.ends.output)?;
            ready.queue.fetch(at, bytes)
        })
    }

    /// Starts the backward steps, and `finish` behind them; what the host's ops lost.
    fn backward(
        &self,
        seed: &[f32],
        books: bool,
        finish: impl FnOnce(&mut Ready) -> Result<(), CudaError>,
    ) -> Result<Vec<Books>, CudaError> {
        let mut lost = vec![Books::default(); self.samples];
        self.with(|ready| {
            ready.load(self.module.program.ends.seed, seed)?;
            ready.run(if books { WITH_BOOKS } else { BACKWARD }, self.module, &mut lost)?;
            finish(ready)
        })?;
        Ok(lost)
    }

    /// Waits for the backward steps: the relevance, and the books of each sample.
    fn explained(&self, books: bool, lost: Vec<Books>) -> Result<(Vec<f32>, Vec<Books>), CudaError> {
        let (relevance, sums) = self.with(|ready| {
            let (_, bytes) = ready.memory.value(self.module.program.ends.relevance)?;
            let (at, behind, all) = ready.results(self.module)?;
            let data = ready.queue.read(at, all)?;
            Ok((floats(&data[..bytes]), floats(&data[behind..])))
        })?;
        Ok((relevance, self.books(&sums, books, lost)))
    }

    /// What the sums say of each sample.
    fn books(&self, sums: &[f64], complete: bool, mut losses: Vec<Books>) -> Vec<Books> {
        for booking in &self.module.plan.bookings {
            if booking.of_end == complete {
                continue;
            }
            let width = booking.of.width();
            let all = sums.get(booking.at * self.samples..).unwrap_or(&[]);
            for (books, parts) in losses.iter_mut().zip(all.chunks(booking.parts * width)) {
                book(books, &booking.of, parts.chunks(width));
            }
        }
        losses
    }
}

/// Numbers of their bytes, wherever those lie.
fn floats<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// Elements of a sample of a value.
pub fn len(module: &CudaModule, id: ValueId) -> usize {
    module.program.image(id).unwrap_or([1; 4]).iter().product()
}

/// Adds what the parts of a sum say to the books of a sample.
fn book<'s>(books: &mut Books, of: &Booked, parts: impl Iterator<Item = &'s [f64]>) {
    let stats = |at: &[f64]| match at {
        [sum, magnitude, min, max] => {
            Stats { sum: *sum, magnitude: *magnitude, min: *min as f32, max: *max as f32 }
        }
        _ => Stats::NOTHING,
    };
    let mut lose = |node: NodeId, losses: Losses| {
        let sum = books.losses.entry(node).or_default();
        *sum = *sum + losses;
    };
    match of {
        Booked::Stats(value) => {
            let sum = parts.map(stats).fold(Stats::NOTHING, Stats::with);
            books.stats.insert(*value, sum);
        }
        Booked::Quotients { node, spread } => {
            for part in parts {
                let [bias, stabiliser, clipped] = part else { continue };
                let clipped = if *spread { 0.0 } else { *clipped };
                lose(*node, Losses { bias: *bias, stabiliser: *stabiliser, clipped, ..Losses::default() });
            }
        }
        Booked::Absorbed { node, bias } => {
            let sum = parts.flatten().sum();
            let losses = Losses::default();
            lose(
                *node,
                if *bias { Losses { bias: sum, ..losses } } else { Losses { stabiliser: sum, ..losses } },
            );
        }
        Booked::Spread { node, joins, whole } => {
            for part in parts {
                let [spread, lost, others @ .., done] = part else { continue };
                if *done == 0.0 {
                    continue;
                }
                lose(*node, Losses { flat_fallback: *spread, padding: *lost, ..Losses::default() });
                let (got, output) = others.split_at(4.min(others.len()));
                if let Some(before) = joins.and_then(|value| books.stats.get_mut(&value)) {
                    *before = before.with(stats(got));
                }
                if let Some(before) = whole.and_then(|value| books.stats.get_mut(&value)) {
                    *before = stats(output);
                }
            }
        }
    }
}

impl Ready {
    pub fn new(module: &CudaModule, samples: usize) -> Result<Self, CudaError> {
        let memory = Memory::new(&module.program, &module.plan, samples)?;
        let queue = module.loaded.clone().queue(memory.bytes(), samples)?;
        let mut number = 0;
        let mut list = |actions: &[Action], left_out: Purpose| {
            let mut pieces = Vec::new();
            let mut commands = Vec::new();
            let mut close = |commands: &mut Vec<Command>, pieces: &mut Vec<Piece>| {
                if !commands.is_empty() {
                    pieces.push(Piece::Commands(number, std::mem::take(commands)));
                    number += 1;
                }
            };
            let (at, bytes) = memory.flags();
            commands.push(Command::Zero { at, bytes });
            for action in actions {
                if action.purpose == left_out {
                    continue;
                }
                match &action.what {
                    What::Launch { kernel, grid, arguments } => {
                        let blocks = grid.blocks(samples).ok_or_else(|| {
                            CudaError::Plan(format!("{samples} samples need more blocks than there are"))
                        })?;
                        let addresses =
                            arguments.iter().map(|place| memory.address(place)).collect::<Result<_, _>>()?;
                        let samples = i32::try_from(samples)
                            .map_err(|_| CudaError::Plan(format!("got {samples} samples")))?;
                        commands.push(Command::Launch { kernel: *kernel, blocks, addresses, samples });
                    }
                    What::Zero(id) => {
                        let (at, bytes) = memory.value(*id)?;
                        commands.push(Command::Zero { at, bytes });
                    }
                    What::Interpret { node, inputs, outputs } => {
                        close(&mut commands, &mut pieces);
                        let (inputs, outputs) = (inputs.clone(), outputs.clone());
                        pieces.push(Piece::Interpret { node: *node, inputs, outputs });
                    }
                }
            }
            close(&mut commands, &mut pieces);
            Ok::<_, CudaError>(pieces)
        };
        let lists = [
            list(&module.plan.forward, Purpose::Ledger)?,
            list(&module.plan.backward, Purpose::Ledger)?,
            list(&module.plan.backward, Purpose::Ends)?,
        ];
        Ok(Ready { samples, memory, queue, lists })
    }

    /// Writes a value of all samples.
    pub fn load(&mut self, id: ValueId, data: &[f32]) -> Result<(), CudaError> {
        let (at, _) = self.memory.value(id)?;
        self.queue.write(at, cast_slice(data))
    }

    fn unload(&mut self, id: ValueId) -> Result<Vec<f32>, CudaError> {
        let (at, bytes) = self.memory.value(id)?;
        Ok(floats(self.queue.read(at, bytes)?))
    }

    /// Where the flags are that say whose input is not finite, and their bytes.
    fn input_flag(&self, module: &CudaModule) -> Result<(usize, usize), CudaError> {
        let flag = module.program.flags();
        match self.memory.address(&Place::Flag(flag))? {
            Address::Memory(at) => Ok((at, self.samples * size_of::<i32>())),
            Address::Constant(_) => Err(CudaError::Plan("a flag is a constant".into())),
        }
    }

    /// Whether every sample's input was finite.
    fn had_a_finite_input(&mut self, module: &CudaModule) -> Result<bool, CudaError> {
        let (at, bytes) = self.input_flag(module)?;
        Ok(self.queue.read(at, bytes)?.iter().all(|byte| *byte == 0))
    }

    /// The relevance with the sums behind it, in one copy: the first byte, how many come before the sums, and how many there
    /// are.
    fn results(&self, module: &CudaModule) -> Result<(usize, usize, usize), CudaError> {
        let (at, _) = self.memory.value(module.program.ends.relevance)?;
        let behind = self.memory.sums() - at;
        Ok((at, behind, behind + module.plan.sums * self.samples * size_of::<f64>()))
    }

    /// Runs a list; what the host's ops lost goes to the books.
    fn run(&mut self, list: usize, module: &CudaModule, books: &mut [Books]) -> Result<(), CudaError> {
        self.each(list, |ready, piece| match piece {
            Piece::Commands(number, commands) => ready.queue.run(*number, commands),
            Piece::Interpret { node, inputs, outputs } => {
                ready.interpret(module, *node, inputs, outputs, books)
            }
        })
    }

    /// Runs a list, and says how long each of its commands and ops took.
    pub fn times(&mut self, list: usize, module: &CudaModule) -> Result<Vec<Duration>, CudaError> {
        let (mut times, mut books) = (Vec::new(), vec![Books::default(); self.samples]);
        self.each(list, |ready, piece| {
            match piece {
                Piece::Commands(_, commands) => times.append(&mut ready.queue.time(commands)?),
                Piece::Interpret { node, inputs, outputs } => {
                    let start = Instant::now();
                    ready.interpret(module, *node, inputs, outputs, &mut books)?;
                    times.push(start.elapsed());
                }
            }
            Ok(())
        })?;
        Ok(times)
    }

    fn each(
        &mut self,
        list: usize,
        mut run: impl FnMut(&mut Ready, &Piece) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let pieces = std::mem::take(&mut self.lists[list]);
        let result = pieces.iter().try_for_each(|piece| run(self, piece));
        self.lists[list] = pieces;
        result
    }

    /// An op of each sample, on the host.
    fn interpret(
        &mut self,
        module: &CudaModule,
        node: NodeId,
        inputs: &[(usize, ValueId)],
        outputs: &[ValueId],
        books: &mut [Books],
    ) -> Result<(), CudaError> {
        let graph = &module.graph;
        let misfit = || CudaError::Plan(format!("the operands of {} do not fit", graph.describe(node)));
        let values = graph.operands(node);
        let data = inputs.iter().map(|(_, id)| self.unload(*id)).collect::<Result<Vec<_>, _>>()?;
        let mut results: Vec<Vec<f32>> = vec![Vec::new(); outputs.len()];
        for (sample, books) in books.iter_mut().enumerate() {
            let mut arrays = Vec::with_capacity(inputs.len());
            for ((index, id), data) in inputs.iter().zip(&data) {
                let value = *values.get(*index).ok_or_else(misfit)?;
                let len = len(module, *id);
                let own = data.get(sample * len..(sample + 1) * len).ok_or_else(misfit)?.to_vec();
                let shape = IxDyn(&graph.ty(value).bind(1));
                arrays.push((*index, ArrayD::from_shape_vec(shape, own).map_err(|_| misfit())?));
            }
            let given = if graph.node(node).op.is_relevance() {
                let (given, losses) = propagate_node(graph, node, arrays, 1)?;
                let sum = books.losses.entry(node).or_default();
                *sum = *sum + losses;
                given
            } else {
                vec![evaluate_node(graph, node, arrays, 1)?]
            };
            for (result, array) in results.iter_mut().zip(given) {
                result.extend(array.iter().copied());
            }
        }
        for (id, data) in outputs.iter().zip(&results) {
            if data.len() != len(module, *id) * books.len() {
                return Err(misfit());
            }
            self.load(*id, data)?;
        }
        Ok(())
    }
}

impl CudaModule {
    /// What another session of so many samples has left.
    fn take(&self, samples: usize) -> Option<Ready> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.iter().position(|ready| ready.samples == samples);
        if at.is_none() {
            // What is left of other sizes is in the way.
            free.clear();
        }
        at.map(|at| free.swap_remove(at))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(ready) = self.ready.take() {
            self.module.free.lock().unwrap_or_else(PoisonError::into_inner).push(ready);
        }
    }
}

impl Session for CudaSession<'_> {
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError> {
        self.ran = false;
        self.check("the input", input.len(), self.module.program.ends.input)?;
        self.run_forward(|ready, id, part| ready.load(id, &input[part]))
    }

    fn backward(&mut self, seed: &[f64], books: bool) -> Result<Explained, BackendError> {
        let (mut relevance, mut kept) = (Vec::new(), Vec::new());
        let started = self.start_backward(seed, books, |ready, _| {
            let (at, _, all) = ready.results(self.module)?;
            ready.queue.fetch(at, all)
        })?;
        for (part, lost) in started {
            let (own, books) = part.explained(books, lost)?;
            relevance.extend(own);
            kept.extend(books);
        }
        Ok(Explained { relevance, ledger: self.ledger(&kept, books)? })
    }

    fn tap(&self, value: GraphValue) -> Result<Vec<f32>, BackendError> {
        let module = self.module;
        let id = module.program.taps.get(&module.graph.label(value)).copied();
        let id = id.ok_or_else(|| {
            CudaError::Plan(format!("{} was not built to be read", module.graph.describe(value.node)))
        })?;
        let mut values = Vec::new();
        for part in &self.parts {
            values.extend(part.with(|ready| ready.unload(id))?);
        }
        Ok(values)
    }
}
