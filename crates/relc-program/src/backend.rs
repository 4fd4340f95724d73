//! What runs programs: back ends, what they compile, and sessions.
//!
//! A [`Backend`] compiles a program to a [`Module`], which any number of threads share; a [`Session`] of a module holds the
//! memory of some samples between the forward steps and any number of runs of the backward ones. Buffers, queues and
//! transfers of a device belong to its sessions: nothing above this trait knows where values lie.

use std::any::Any;
use std::error::Error;
use std::fmt::Debug;

use relc_ir::ledger::Ledger;
use relc_ir::remark::{PassRecord, Stopwatch};
use relc_ir::{Graph, ValueId, Values, Weight};

use crate::lower::lower;
use crate::passes::{ProgramPass, portable, run};
use crate::program::Program;
use crate::verify::verify;

/// Why a back end can't compile or run: its own error, or a [`RunError`](crate::RunError).
pub type BackendError = Box<dyn Error + Send + Sync>;

/// The first entry of a program's history: what [`lower`](crate::lower) makes.
pub const LOWER: &str = "lower";

/// A kind of machine that runs programs.
pub trait Backend: Send + Sync + Debug {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its own passes, which run behind the [portable](crate::passes::portable) ones.
    fn passes(&self) -> Vec<Box<dyn ProgramPass>>;

    /// Compiles a program that has been through all passes. The graph is that which it was lowered from: for what steps
    /// leave to the interpreter, and for the ledger's names.
    ///
    /// # Errors
    /// If the machine can't run the program.
    fn compile(&self, graph: &Graph, program: Program) -> Result<Box<dyn Module>, BackendError>;

    /// As [`compile`](Self::compile), with what a [module](Module::packed) of the same program and machine packed at
    /// another time, to the bit.
    ///
    /// # Errors
    /// As of `compile`, and if what was packed does not fit.
    fn load(
        &self,
        graph: &Graph,
        program: Program,
        packed: Vec<Values>,
    ) -> Result<Box<dyn Module>, BackendError> {
        let _ = packed;
        self.compile(graph, program)
    }

    /// Every pass, in order.
    fn pipeline(&self) -> Vec<Box<dyn ProgramPass>> {
        let mut passes = portable();
        passes.extend(self.passes());
        passes
    }

    /// Lowers a graph whose relevance was derived, with the values that a caller wants to read, and runs every pass; calls
    /// `after` with [`LOWER`] or the name of a pass, and the program.
    ///
    /// # Errors
    /// If the graph can't be lowered, or a pass fails.
    fn program(
        &self,
        graph: &Graph,
        taps: &[ValueId],
        after: &mut dyn FnMut(&'static str, &Program),
    ) -> Result<(Program, Vec<PassRecord>), BackendError> {
        through(graph, taps, &self.pipeline(), after)
    }

    /// From a graph to what runs it, and gives these values.
    ///
    /// # Errors
    /// As of [`program`](Self::program) and [`compile`](Self::compile).
    fn build(&self, graph: &Graph, taps: &[ValueId]) -> Result<Box<dyn Module>, BackendError> {
        let (program, _) = self.program(graph, taps, &mut |_, _| {})?;
        self.compile(graph, program)
    }
}

/// Lowers a graph and runs these passes.
///
/// # Errors
/// If the graph can't be lowered, or a pass fails.
pub fn through(
    graph: &Graph,
    taps: &[ValueId],
    passes: &[Box<dyn ProgramPass>],
    after: &mut dyn FnMut(&'static str, &Program),
) -> Result<(Program, Vec<PassRecord>), BackendError> {
    let start = Stopwatch::start();
    let mut program = lower(graph, taps)?;
    let lowered = PassRecord { name: LOWER.into(), time: start.elapsed(), remarks: Vec::new() };
    verify(&program)?;
    after(LOWER, &program);
    let mut records = vec![lowered];
    records.extend(run(passes, &mut program, after)?);
    Ok((program, records))
}

/// A compiled program. Threads may share it, each with sessions of its own.
pub trait Module: Send + Sync + Debug + Any {
    /// How many samples a session should have at most, where memory grows with them; none if that is no matter.
    fn samples_at_a_time(&self) -> Option<usize>;

    /// How many samples of so many a session should have.
    fn at_a_time(&self, samples: usize) -> usize {
        self.samples_at_a_time().map_or(samples, |most| most.min(samples))
    }

    /// About how many bytes an explanation of so many samples takes, results included.
    fn bytes(&self, samples: usize) -> usize;

    /// How many bytes more a session of so many samples takes that [keeps its
    /// denominators](Session::keep_denominators).
    fn kept_bytes(&self, samples: usize) -> usize {
        let _ = samples;
        0
    }

    /// The program that it runs, if it keeps one.
    fn program(&self) -> Option<&Program> {
        None
    }

    /// What it packed of the program's weights, which [`Backend::load`] takes in place of packing them again.
    fn packed(&self) -> &[Values] {
        &[]
    }

    /// Weights of the model that it has in a form of its own, of which the same values are made again when they are first
    /// read: whoever holds the model's need not keep those.
    fn unpacked(&self) -> &[Weight] {
        &[]
    }

    /// A session of so many samples.
    fn session(&self, samples: usize) -> Box<dyn Session + '_>;
}

/// The memory of some samples, and what has been run on it.
///
/// Results depend neither on the number of samples nor on that of threads, to the bit.
pub trait Session {
    /// Runs the forward steps on the model's input for the session's samples, row-major; the explained output `[N,K]`.
    ///
    /// # Errors
    /// If the input has another length, or a value is not finite.
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError>;

    /// Runs the backward steps from a seed `[N,K]` on the explained output. With `books` the ledger is complete, else it
    /// has its totals at least.
    ///
    /// # Errors
    /// If [`forward`](Self::forward) has not run, the seed has another length, or a value is not finite.
    fn backward(&mut self, seed: &[f64], books: bool) -> Result<Explained, BackendError>;

    /// From its next run on, the backward steps keep what does not depend on the seed, the denominators above all: each
    /// further run with the same forward steps takes about half the time. Needs [`Module::kept_bytes`] more memory. A
    /// module that has none to keep does nothing.
    fn keep_denominators(&mut self) {}

    /// A value of the graph that the module was built to give, of the last run, row-major and rounded to f32.
    ///
    /// # Errors
    /// If the module was not built to give it.
    fn tap(&self, value: ValueId) -> Result<Vec<f32>, BackendError>;
}

/// What one run of the backward steps gave.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The relevance of the input, in its shape, rounded to f32.
    pub relevance: Vec<f32>,
    /// The books.
    pub ledger: Ledger,
}
