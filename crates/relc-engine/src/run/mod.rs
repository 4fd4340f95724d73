//! Executables: compiling a graph, and running it on batches.

mod books;
mod sample;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rayon::prelude::*;
use relc_codegen::jit::{CompiledKernels, Target, compile, listing};
use relc_codegen::kir::Kernel;
use relc_interp::Ledger;
use relc_ir::{Graph, NodeId};
use relc_runtime::layout::Blocked;
use relc_runtime::{AlignedBuffer, Isa};

use crate::build::{Lowered, lower};
use crate::error::{EngineError, StepError};
use crate::plan::{assign, check};
use crate::program::Program;
use books::Bookkeeper;
use sample::{Sample, Samples};

/// A graph, compiled. `Send + Sync`: threads may run it at the same time, each on memory of its own.
#[derive(Debug)]
pub struct Executable {
    graph: Graph,
    isa: Isa,
    program: Program,
    kernels: CompiledKernels,
    books: Bookkeeper,
    /// Memory of samples that nobody runs at the moment.
    arenas: Mutex<Vec<Arena>>,
}

/// The memory of one sample.
#[derive(Debug)]
struct Arena {
    slots: Vec<AlignedBuffer>,
    flags: Vec<AtomicBool>,
}

/// What a batch gave.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The explained output, `f32[N,K]`.
    pub logits: Vec<f32>,
    /// One for each seed, in the order in which they were given.
    pub backward: Vec<BackwardOutput>,
}

/// What the relevance graph gave for one seed of each sample.
#[derive(Clone, Debug)]
pub struct BackwardOutput {
    /// The relevance of the input, in its shape.
    pub relevance: Vec<f32>,
    /// The books; totals alone if no ledger was asked for.
    pub ledger: Ledger,
}

/// A step and how long it took.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The node that the step is for.
    pub node: NodeId,
    /// What the step is.
    pub what: &'static str,
    /// Whether it belongs to the forward pass.
    pub forward: bool,
    /// Floating-point operations of a convolution; 0 for other steps.
    pub flops: u64,
    /// The wall time.
    pub time: Duration,
}

impl Executable {
    /// Compiles a graph whose relevance was derived, for an instruction set.
    ///
    /// # Errors
    /// If the graph has several inputs, a value of it is too large or has no batch axis, or the machine lacks what
    /// kernels need.
    pub fn compile(graph: &Graph, isa: Isa) -> Result<Executable, EngineError> {
        let Lowered {
            layouts,
            mut steps,
            forward,
            flags,
            kernels,
            input,
            output,
            seed,
            relevance,
            kept,
            aliases,
        } = lower(graph, isa)?;
        let given = [input];
        let slots = assign(&layouts, &steps, &given, &kept);
        let errors = check(&layouts, &steps, &given, &kept, &slots);
        if !errors.is_empty() {
            return Err(EngineError::Plan(errors.join("; ")));
        }
        let slot = |id: usize| slots.slot.get(id).copied().flatten();
        let missing = || EngineError::Malformed("the graph has a value that nothing computes".into());
        steps.iter_mut().for_each(|step| step.for_buffers(|_, id| *id = slot(*id).unwrap_or(usize::MAX)));
        let [input, output, seed, relevance] = [input, output, seed, relevance].map(slot);
        let program = Program {
            input: input.ok_or_else(missing)?,
            output: output.ok_or_else(missing)?,
            seed: seed.ok_or_else(missing)?,
            relevance: relevance.ok_or_else(missing)?,
            slots,
            steps,
            forward,
            flags,
            kernels,
        };
        program.check(graph)?;
        let kernels = compile(&program.kernels, &Target::host()?)?;
        let books = Bookkeeper::new(graph, &aliases)?;
        Ok(Executable { graph: graph.clone(), isa, program, kernels, books, arenas: Mutex::default() })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The instruction set that it was compiled for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes that one sample takes while it runs; as many samples as there are threads run at a time.
    pub fn arena_bytes(&self) -> usize {
        self.program.slots.bytes()
    }

    /// Bytes of packed weights and other constants.
    pub fn weights_bytes(&self) -> usize {
        self.program.constant_bytes()
    }

    /// The program, for printing: `Display` shows every step.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The text of each kernel that Cranelift compiled for a node: kernel IR, Cranelift's IR and machine code.
    ///
    /// # Errors
    /// If Cranelift fails.
    pub fn listings(&self, node: NodeId) -> Result<Vec<String>, EngineError> {
        let target = Target::host()?;
        let steps = self.program.steps.iter().filter(|step| step.node == node);
        let kernels = steps.filter_map(|step| self.program.kernel_of(step));
        let text = |kernel: &Kernel| Ok(format!("{kernel}\n{}", listing(kernel, &target)?));
        kernels.map(text).collect()
    }

    /// A step for a node that its operands don't fit.
    fn refused(&self, node: NodeId, source: StepError) -> EngineError {
        EngineError::Step { node: self.graph.describe(node), source: Box::new(source) }
    }

    fn layout(&self, slot: usize) -> &Blocked {
        &self.program.slots.layouts[slot]
    }

    /// Runs a batch: `input` is the model's input for `samples` samples; `seeds` gets the index of a sample and its
    /// explained output `f32[K]`, and gives the seeds to explain it from, as many for every sample, each of that length.
    ///
    /// Results depend neither on the batch nor on the number of threads, to the bit.
    ///
    /// # Errors
    /// If the input or a seed has another length, a value is not finite, or `seeds` says so.
    pub fn run<E: From<EngineError> + Send>(
        &self,
        input: &[f32],
        samples: usize,
        ledger: bool,
        seeds: impl Fn(usize, &[f32]) -> Result<Vec<Vec<f32>>, E> + Sync,
    ) -> Result<Outputs, E> {
        let expected = samples * self.layout(self.program.input).dense_len();
        if input.len() != expected || samples == 0 {
            let (what, got) = ("the input", input.len());
            return Err(EngineError::Length { what, got, expected }.into());
        }
        let one = |index: usize, parallel: bool| -> Result<Samples, E> {
            let len = self.layout(self.program.input).dense_len();
            let mut arena = self.take_arena();
            let mut sample = Sample::new(self, &mut arena, parallel, ledger);
            let result = sample.run(&input[index * len..(index + 1) * len], |logits| seeds(index, logits));
            // Memory of a run that failed may hold anything, halos included.
            if result.is_ok() {
                self.give_back(arena);
            }
            result
        };
        // Whole rounds of samples run side by side, one on each thread; what is left shares the threads.
        let threads = rayon::current_num_threads();
        let side_by_side = if threads > 1 { samples - samples % threads } else { 0 };
        let mut results: Vec<Samples> = Vec::with_capacity(samples);
        for first in (0..side_by_side).step_by(threads) {
            let round = (first..first + threads).into_par_iter().map(|index| one(index, false));
            results.extend(round.collect::<Result<Vec<_>, E>>()?);
        }
        // From a thread of the pool, a step's tasks reach the others without a wake-up of this one.
        let left = rayon::scope(|_| {
            (side_by_side..samples).map(|index| one(index, true)).collect::<Result<Vec<_>, E>>()
        });
        results.extend(left?);
        self.books.merge(results, ledger).map_err(E::from)
    }

    /// Times every step of one sample, `runs` times, on the current rayon pool; the least time of each. The seed is
    /// the explained output itself.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn profile(&self, input: &[f32], runs: usize) -> Result<Vec<StepTime>, EngineError> {
        let mut arena = self.take_arena();
        let mut sample = Sample::new(self, &mut arena, true, true);
        let mut best: Vec<StepTime> = Vec::new();
        for _ in 0..runs.max(1) {
            let times = rayon::scope(|_| sample.timed(input))?;
            if best.is_empty() {
                best = times;
            } else {
                best.iter_mut().zip(times).for_each(|(best, new)| best.time = best.time.min(new.time));
            }
        }
        self.give_back(arena);
        Ok(best)
    }

    /// Runs the forward pass alone on one sample and gives the explained output.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn forward(&self, input: &[f32], samples: usize) -> Result<Vec<f32>, EngineError> {
        self.run(input, samples, false, |_, _| Ok::<_, EngineError>(Vec::new())).map(|outputs| outputs.logits)
    }

    fn take_arena(&self) -> Arena {
        let free = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Arena {
            slots: self
                .program
                .slots
                .layouts
                .iter()
                .map(|layout| AlignedBuffer::zeroed(layout.len()))
                .collect(),
            flags: (0..self.program.flags).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    fn give_back(&self, arena: Arena) {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }
}
