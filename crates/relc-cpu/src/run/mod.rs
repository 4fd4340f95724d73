//! Executables: compiling a graph, and running it on batches.

mod books;
mod sample;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use relc_codegen::jit::{CompiledKernels, Target, compile, listing};
use relc_codegen::kir::Kernel;
use relc_interp::Ledger;
use relc_ir::remark::PassRecord;
use relc_ir::{Graph, NodeId};
use relc_program::layout::Blocked;
use relc_program::passes::{self, ChooseLayouts, PlanMemory, ProgramPass, Schedule, ShareKernels};
use relc_program::{Program, lower, verify};

use crate::{AlignedBuffer, Isa};

use crate::choose_convolutions::ChooseConvolutions;
use crate::error::{EngineError, StepError};
use crate::plan::Plan;
use books::Bookkeeper;
use sample::{Sample, Samples};

/// A graph, compiled. `Send + Sync`: threads may run it at the same time, each on memory of its own.
#[derive(Debug)]
pub struct Executable {
    graph: Graph,
    isa: Isa,
    program: Program,
    passes: Vec<PassRecord>,
    plan: Plan,
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

/// The passes of this back end, in order: the portable ones, and those that choose for an instruction set.
pub fn passes(isa: Isa) -> Vec<Box<dyn ProgramPass>> {
    let mut passes = passes::portable();
    passes.push(Box::new(ChooseLayouts { vector: isa.width() }));
    passes.push(Box::new(ChooseConvolutions { isa }));
    passes.push(Box::new(Schedule));
    passes.push(Box::new(ShareKernels));
    passes.push(Box::new(PlanMemory));
    passes
}

/// The first entry of a program's history: what [`lower`](relc_program::lower) makes.
pub const LOWER: &str = "lower";

/// Lowers a graph whose relevance was derived, and runs the passes of this back end; calls `after` with [`LOWER`] or the
/// name of a pass, and the program.
///
/// # Errors
/// As [`Executable::compile`].
pub fn program(
    graph: &Graph,
    isa: Isa,
    after: impl FnMut(&'static str, &Program),
) -> Result<(Program, Vec<PassRecord>), EngineError> {
    lowered(graph, &passes(isa), after)
}

fn lowered(
    graph: &Graph,
    passes: &[Box<dyn ProgramPass>],
    mut after: impl FnMut(&'static str, &Program),
) -> Result<(Program, Vec<PassRecord>), EngineError> {
    let start = Instant::now();
    let mut program = lower(graph)?;
    let lowered = PassRecord { name: LOWER, time: start.elapsed(), remarks: Vec::new() };
    verify(&program).map_err(|errors| EngineError::Plan(format!("{LOWER}: {errors}")))?;
    after(LOWER, &program);
    let mut records = vec![lowered];
    records.extend(passes::run(passes, &mut program, after)?);
    Ok((program, records))
}

impl Executable {
    /// Compiles a graph whose relevance was derived, for an instruction set.
    ///
    /// # Errors
    /// If the graph has several inputs, a value of it is too large or has no batch axis, or the machine lacks what
    /// kernels need.
    pub fn compile(graph: &Graph, isa: Isa) -> Result<Executable, EngineError> {
        Executable::with_passes(graph, isa, &passes(isa))
    }

    /// As [`Executable::compile`], with other passes than those of [`passes`]: some left out, or one's own among them.
    /// Without those that give values a layout and memory there is nothing to run.
    ///
    /// # Errors
    /// As of [`Executable::compile`], and if a value has no layout or no memory.
    pub fn with_passes(
        graph: &Graph,
        isa: Isa,
        passes: &[Box<dyn ProgramPass>],
    ) -> Result<Executable, EngineError> {
        let (program, passes) = lowered(graph, passes, |_, _| {})?;
        let plan = crate::compile::compile(graph, &program, isa)?;
        plan.check(graph)?;
        let kernels = compile(&plan.kernels, &Target::host()?)?;
        let books = Bookkeeper::new(graph, &program)?;
        Ok(Executable {
            graph: graph.clone(),
            isa,
            program,
            passes,
            plan,
            kernels,
            books,
            arenas: Mutex::default(),
        })
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
        self.program.bytes()
    }

    /// Bytes of packed weights and other constants.
    pub fn weights_bytes(&self) -> usize {
        self.plan.constant_bytes()
    }

    /// What lowering and the passes over the program said.
    pub fn passes(&self) -> &[PassRecord] {
        &self.passes
    }

    /// The program that runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The text of each kernel that Cranelift compiled for a node: kernel IR, Cranelift's IR and machine code.
    ///
    /// # Errors
    /// If Cranelift fails.
    pub fn listings(&self, node: NodeId) -> Result<Vec<String>, EngineError> {
        let target = Target::host()?;
        let steps = self.plan.steps.iter().filter(|step| step.node == node);
        let kernels = steps.filter_map(|step| self.plan.kernel_of(step));
        let text = |kernel: &Kernel| Ok(format!("{kernel}\n{}", listing(kernel, &target)?));
        kernels.map(text).collect()
    }

    /// A step for a node that its operands don't fit.
    fn refused(&self, node: NodeId, source: StepError) -> EngineError {
        EngineError::Step { node: self.graph.describe(node), source: Box::new(source) }
    }

    fn layout(&self, slot: usize) -> &Blocked {
        &self.plan.slots[slot]
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
        let expected = samples * self.layout(self.plan.input).dense_len();
        if input.len() != expected || samples == 0 {
            let (what, got) = ("the input", input.len());
            return Err(EngineError::Length { what, got, expected }.into());
        }
        let one = |index: usize, parallel: bool| -> Result<Samples, E> {
            let len = self.layout(self.plan.input).dense_len();
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
            slots: self.plan.slots.iter().map(|layout| AlignedBuffer::zeroed(layout.len())).collect(),
            flags: (0..self.plan.flags).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    fn give_back(&self, arena: Arena) {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }
}
