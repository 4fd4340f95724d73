//! Executables: compiling a graph, and running it on batches.

mod convolve;
mod sample;
mod session;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relc_codegen::jit::{CompiledFn, CompiledKernels, Target, compile, listing, object};
use relc_codegen::kir::Kernel;
use relc_ir::{Graph, NodeId, Values, Weight};
use relc_program::books::Bookkeeper;
use relc_program::layout::Blocked;
use relc_program::{Module, Program, Session};

use crate::{AlignedBuffer, Isa, Machine};

use crate::cost::{Cost, step_costs};
use crate::error::{EngineError, StepError};
use crate::plan::Plan;
use sample::Sample;
use session::CpuSession;

/// Samples that share a reading of weights at most.
const SHARED_SAMPLES: usize = 4;
/// Bytes of their memory at most, if there are more of them than threads.
const SHARED_BYTES: usize = 512 << 20;

/// A graph, compiled. `Send + Sync`: threads may run it at the same time, each on memory of its own.
#[derive(Debug)]
pub struct Executable {
    graph: Graph,
    machine: Machine,
    program: Program,
    plan: Plan,
    kernels: CompiledKernels,
    books: Bookkeeper,
    /// Memory of samples that nobody runs at the moment.
    arenas: Mutex<Vec<Arena>>,
}

/// The memory of one sample.
#[derive(Debug)]
struct Arena {
    buffers: Vec<AlignedBuffer>,
    flags: Vec<AtomicBool>,
    /// For each backward step what it keeps for the next run; allocated when it is first asked for.
    kept: Vec<Vec<AlignedBuffer>>,
    keeping: Keeping,
}

/// Whether what does not depend on the seed is kept from one run of the backward steps to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// It is not.
    Nothing,
    /// The next run will.
    Next,
    /// It is there.
    Kept,
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
    /// Compiles a program that has been through the passes of [`Cpu`](crate::Cpu) for this machine, with what was packed
    /// for it at another time.
    ///
    /// # Errors
    /// If a value has no layout or no memory, or the machine lacks what kernels need.
    pub(crate) fn new(
        graph: &Graph,
        machine: Machine,
        mut program: Program,
        packed: Option<Vec<Values>>,
    ) -> Result<Executable, EngineError> {
        let plan = crate::compile::compile(graph, &program, &machine, packed)?;
        plan.check(graph)?;
        let kernels = compile(&plan.kernels, &Target::host()?)?;
        let books = Bookkeeper::new(graph, &program)
            .ok_or_else(|| EngineError::Malformed("the input has no relevance".into()))?;
        let mut graph = graph.clone();
        graph.relocate_weights(&plan.unpacked);
        program.relocate_weights(&plan.unpacked);
        Ok(Executable { graph, machine, program, plan, kernels, books, arenas: Mutex::default() })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The instruction set that it was compiled for.
    pub fn isa(&self) -> Isa {
        self.machine.isa
    }

    /// The machine that it was compiled for.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What each step takes by the model of the machine, in the order of [`profile`](Self::profile).
    pub fn costs(&self) -> Vec<Cost> {
        step_costs(&self.plan, &self.machine)
    }

    /// Bytes that one sample takes while it runs; as many samples as there are threads run at a time.
    pub fn arena_bytes(&self) -> usize {
        self.program.bytes()
    }

    /// Bytes of packed weights and other constants.
    pub fn weights_bytes(&self) -> usize {
        self.plan.constant_bytes()
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

    /// An object file with all that Cranelift compiles, and `data`, behind a symbol of this name: see
    /// [`object`](relc_codegen::jit::object).
    ///
    /// # Errors
    /// If Cranelift fails, or the name is none for a symbol.
    pub fn object(&self, name: &str, data: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        Ok(object(&self.plan.kernels, &Target::host()?, name, data)?)
    }

    /// How many kernels were compiled in this process; the others are [linked](relc_codegen::jit::link) into the program.
    pub fn jitted(&self) -> usize {
        self.kernels.iter().filter(|kernel| CompiledFn::is_jitted(kernel)).count()
    }

    /// A step for a node that its operands don't fit.
    fn refused(&self, node: NodeId, source: StepError) -> EngineError {
        EngineError::Step { node: self.graph.describe(node), source: Box::new(source) }
    }

    fn layout(&self, slot: usize) -> &Blocked {
        &self.plan.slots[slot]
    }

    /// What is in a slot of an arena; nothing while somebody writes to its buffer.
    fn in_slot<'a>(&self, arena: &'a Arena, slot: usize) -> &'a [f32] {
        let buffer = arena.buffers.get(self.plan.buffer_of[slot]);
        buffer.and_then(|buffer| buffer.get(..self.layout(slot).len())).unwrap_or(&[])
    }

    /// Times every step of one sample, `runs` times, on the current rayon pool; the least time of each. The seed is
    /// the explained output itself.
    ///
    /// # Errors
    /// If the input has another length, or a value is not finite.
    pub fn profile(&self, input: &[f32], runs: usize) -> Result<Vec<StepTime>, EngineError> {
        let mut arena = self.take_arena();
        let mut sample = Sample::new(self, &mut arena, true);
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

    fn take_arena(&self) -> Arena {
        let free = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Arena {
            buffers: self.plan.buffers.iter().map(|elements| AlignedBuffer::zeroed(*elements)).collect(),
            flags: (0..self.plan.flags).map(|_| AtomicBool::new(false)).collect(),
            kept: Vec::new(),
            keeping: Keeping::Nothing,
        })
    }

    fn give_back(&self, mut arena: Arena) {
        arena.keeping = Keeping::Nothing;
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }
}

impl Module for Executable {
    /// One on each thread; more where they share a reading of weights, as long as their memory is not much.
    fn samples_at_a_time(&self) -> Option<usize> {
        let fitting = SHARED_BYTES / self.arena_bytes().max(1);
        let shared = if self.plan.is_streamed() { fitting.min(SHARED_SAMPLES) } else { 0 };
        let threads = rayon::current_num_threads();
        Some(if shared > threads { shared - shared % threads } else { threads })
    }

    /// The planned memory of the samples that run at a time, and the results of all.
    fn bytes(&self, samples: usize) -> usize {
        let results = self.layout(self.plan.input).dense_len().saturating_mul(2 * size_of::<f32>());
        let arenas = self.arena_bytes().saturating_mul(self.at_a_time(samples));
        arenas.saturating_add(results.saturating_mul(samples))
    }

    fn kept_bytes(&self, samples: usize) -> usize {
        self.plan.kept_bytes().saturating_mul(self.at_a_time(samples))
    }

    fn program(&self) -> Option<&Program> {
        Some(&self.program)
    }

    fn packed(&self) -> &[Values] {
        &self.plan.packed
    }

    fn unpacked(&self) -> &[Weight] {
        &self.plan.unpacked
    }

    fn session(&self, samples: usize) -> Box<dyn Session + '_> {
        Box::new(CpuSession::new(self, samples))
    }
}
