//! Sessions: the memory of some samples, side by side.

use std::ops::Range;

use rayon::prelude::*;
use relc_ir::ValueId;
use relc_program::books::Books;
use relc_program::{BackendError, Explained, RunError, Session};

use super::sample::Sample;
use super::{Arena, Executable, Keeping};
use crate::error::EngineError;

/// Samples that run side by side.
pub(super) struct CpuSession<'e> {
    executable: &'e Executable,
    arenas: Vec<Arena>,
    /// Whether the forward steps have run.
    ran: bool,
    /// Memory of a run that failed may hold anything, halos included.
    failed: bool,
}

impl<'e> CpuSession<'e> {
    pub fn new(executable: &'e Executable, samples: usize) -> Self {
        let arenas = (0..samples).map(|_| executable.take_arena()).collect();
        CpuSession { executable, arenas, ran: false, failed: false }
    }

    /// The samples with their parts of `data`.
    fn samples<'s, 'd>(
        &'s mut self,
        what: &'static str,
        data: &'d [f32],
        len: usize,
        books: bool,
    ) -> Result<Vec<(Sample<'s>, &'d [f32])>, EngineError> {
        let count = self.arenas.len();
        if count == 0 || data.len() != count * len {
            return Err(RunError::Length { what, got: data.len(), expected: count * len }.into());
        }
        let executable = self.executable;
        let samples = self.arenas.iter_mut().map(|arena| Sample::new(executable, arena, books));
        Ok(samples.zip(data.chunks(len.max(1))).collect())
    }

    /// Marks the memory as spoilt if something failed.
    fn kept<R>(&mut self, result: Result<R, EngineError>) -> Result<R, BackendError> {
        self.failed |= result.is_err();
        result.map_err(|error| match error {
            EngineError::Run(error) => error.into(),
            other => other.into(),
        })
    }
}

impl Session for CpuSession<'_> {
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError> {
        let len = self.executable.layout(self.executable.plan.input).dense_len();
        self.ran = false;
        self.arenas
            .iter_mut()
            .filter(|arena| arena.keeping == Keeping::Kept)
            .for_each(|arena| arena.keeping = Keeping::Next);
        let steps = 0..self.executable.plan.forward;
        let logits = self.samples("the input", input, len, false).and_then(|samples| {
            run(samples, |sample, input| sample.begin_forward(input), steps, |sample| sample.end_forward())
        });
        let logits = self.kept(logits)?;
        self.ran = true;
        Ok(logits.into_iter().flatten().map(f64::from).collect())
    }

    fn backward(&mut self, seed: &[f64], books: bool) -> Result<Explained, BackendError> {
        if !self.ran || self.failed {
            return Err(RunError::NotRun.into());
        }
        let seed: Vec<f32> = seed.iter().map(|v| *v as f32).collect();
        let len = self.executable.layout(self.executable.plan.seed).dense_len();
        let steps = self.executable.plan.forward..self.executable.plan.steps.len();
        let results = self.samples("the seed", &seed, len, books).and_then(|samples| {
            run(samples, |sample, seed| sample.begin_backward(seed), steps, Sample::end_backward)
        });
        let results: Vec<(Vec<f32>, Books)> = self.kept(results)?;
        let ledger =
            self.executable.books.ledger(&results.iter().map(|(_, books)| books).collect::<Vec<_>>(), books);
        Ok(Explained {
            relevance: results.into_iter().flat_map(|(relevance, _)| relevance).collect(),
            ledger,
        })
    }

    fn keep_denominators(&mut self) {
        for arena in self.arenas.iter_mut().filter(|arena| arena.keeping == Keeping::Nothing) {
            arena.keeping = Keeping::Next;
        }
    }

    fn tap(&self, value: ValueId) -> Result<Vec<f32>, BackendError> {
        let executable = self.executable;
        let slot = executable.plan.taps.get(&executable.graph.label(value)).copied();
        let slot = slot.ok_or_else(|| {
            let node = executable.graph.describe(value.node);
            EngineError::Malformed(format!("{node} has a value that the program was not built to give"))
        })?;
        let layout = executable.layout(slot);
        let mut dense = vec![0.0; layout.dense_len() * self.arenas.len()];
        for (arena, dense) in self.arenas.iter().zip(dense.chunks_mut(layout.dense_len())) {
            layout.unpack(executable.in_slot(arena, slot), dense)?;
        }
        Ok(dense)
    }
}

impl Drop for CpuSession<'_> {
    fn drop(&mut self) {
        if !self.failed {
            self.arenas.drain(..).for_each(|arena| self.executable.give_back(arena));
        }
    }
}

/// Runs steps on samples, with what comes before and behind. Steps whose weights are streamed run on all samples at a
/// time; between them each sample runs for itself, with its values in cache.
fn run<'s, R: Send>(
    samples: Vec<(Sample<'s>, &[f32])>,
    begin: impl Fn(&mut Sample<'s>, &[f32]) -> Result<(), EngineError> + Sync,
    steps: Range<usize>,
    end: impl Fn(&mut Sample<'s>) -> Result<R, EngineError> + Sync,
) -> Result<Vec<R>, EngineError> {
    let (mut samples, data): (Vec<Sample<'s>>, Vec<&[f32]>) = samples.into_iter().unzip();
    let together: Vec<usize> = match &samples[..] {
        [first, _, ..] => steps.clone().filter(|step| first.is_better_together(*step)).collect(),
        _ => Vec::new(),
    };
    // From a thread of the pool, a step's tasks reach the others without a wake-up of this one.
    rayon::scope(|_| {
        each(&mut samples, |number, sample| begin(sample, data.get(number).copied().unwrap_or(&[])))?;
        let mut next = steps.start;
        for step in together {
            each(&mut samples, |_, sample| sample.run(next..step))?;
            Sample::run_together(&mut samples, step)?;
            next = step + 1;
        }
        each(&mut samples, |_, sample| sample.run(next..steps.end))?;
        each(&mut samples, |_, sample| end(sample))
    })
}

/// Does something with each sample. Whole rounds of samples run side by side, one on each thread; what is left shares the
/// threads.
fn each<'s, R: Send>(
    samples: &mut [Sample<'s>],
    run: impl Fn(usize, &mut Sample<'s>) -> Result<R, EngineError> + Sync,
) -> Result<Vec<R>, EngineError> {
    let threads = rayon::current_num_threads();
    let side_by_side = if threads > 1 { samples.len() - samples.len() % threads } else { 0 };
    let one = |parallel: bool, number: usize, sample: &mut Sample<'s>| {
        sample.parallel = parallel;
        run(number, sample)
    };
    let (rounds, left) = samples.split_at_mut(side_by_side);
    let rounds = rounds.par_iter_mut().enumerate();
    let mut results: Vec<R> =
        rounds.map(|(number, sample)| one(false, number, sample)).collect::<Result<_, _>>()?;
    for (number, sample) in left.iter_mut().enumerate() {
        results.push(one(true, side_by_side + number, sample)?);
    }
    Ok(results)
}
