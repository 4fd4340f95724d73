//! Sessions: the memory of some samples, side by side.

use rayon::prelude::*;
use relc_ir::ValueId;
use relc_program::{BackendError, Explained, Session};

use super::books::Books;
use super::sample::Sample;
use super::{Arena, Executable};
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

    /// Runs something on each sample, with its part of `data`.
    fn each<R: Send>(
        &mut self,
        what: &'static str,
        data: &[f32],
        len: usize,
        books: bool,
        run: impl Fn(&mut Sample<'_>, &[f32]) -> Result<R, EngineError> + Sync,
    ) -> Result<Vec<R>, EngineError> {
        let samples = self.arenas.len();
        if samples == 0 || data.len() != samples * len {
            return Err(EngineError::Length { what, got: data.len(), expected: samples * len });
        }
        let executable = self.executable;
        let one = |(arena, data): (&mut Arena, &[f32]), parallel: bool| {
            run(&mut Sample::new(executable, arena, parallel, books), data)
        };
        // Whole rounds of samples run side by side, one on each thread; what is left shares the threads.
        let threads = rayon::current_num_threads();
        let side_by_side = if threads > 1 { samples - samples % threads } else { 0 };
        let (rounds, left) = self.arenas.split_at_mut(side_by_side);
        let (first, last) = data.split_at(side_by_side * len);
        let rounds = rounds.par_iter_mut().zip(first.par_chunks(len.max(1)));
        let mut results = rounds.map(|sample| one(sample, false)).collect::<Result<Vec<R>, EngineError>>()?;
        // From a thread of the pool, a step's tasks reach the others without a wake-up of this one.
        let left = rayon::scope(|_| {
            left.iter_mut()
                .zip(last.chunks(len.max(1)))
                .map(|sample| one(sample, true))
                .collect::<Result<Vec<R>, _>>()
        });
        results.extend(left?);
        Ok(results)
    }

    /// Marks the memory as spoilt if something failed.
    fn kept<R>(&mut self, result: Result<R, EngineError>) -> Result<R, BackendError> {
        self.failed |= result.is_err();
        Ok(result?)
    }
}

impl Session for CpuSession<'_> {
    fn forward(&mut self, input: &[f32]) -> Result<Vec<f64>, BackendError> {
        let len = self.executable.layout(self.executable.plan.input).dense_len();
        self.ran = false;
        let logits = self.each("the input", input, len, false, |sample, input| sample.forward(input));
        let logits = self.kept(logits)?;
        self.ran = true;
        Ok(logits.into_iter().flatten().map(f64::from).collect())
    }

    fn backward(&mut self, seed: &[f64], books: bool) -> Result<Explained, BackendError> {
        if !self.ran || self.failed {
            return Err(
                EngineError::Malformed("the forward steps of this session have not run".into()).into()
            );
        }
        let seed: Vec<f32> = seed.iter().map(|v| *v as f32).collect();
        let len = self.executable.layout(self.executable.plan.seed).dense_len();
        let results = self.each("the seed", &seed, len, books, |sample, seed| sample.backward(seed));
        let results: Vec<(Vec<f32>, Books)> = self.kept(results)?;
        let ledger =
            self.executable.books.ledger(&results.iter().map(|(_, books)| books).collect::<Vec<_>>(), books);
        Ok(Explained {
            relevance: results.into_iter().flat_map(|(relevance, _)| relevance).collect(),
            ledger,
        })
    }

    fn tap(&self, value: ValueId) -> Result<Vec<f32>, BackendError> {
        let executable = self.executable;
        let id = executable.program.taps.get(&executable.graph.label(value));
        let slot = id.and_then(|id| executable.program.values.get(id)?.slot);
        let slot = slot.ok_or_else(|| {
            let node = executable.graph.describe(value.node);
            EngineError::Malformed(format!("{node} has a value that the program was not built to give"))
        })?;
        let layout = executable.layout(slot);
        let mut dense = vec![0.0; layout.dense_len() * self.arenas.len()];
        for (arena, dense) in self.arenas.iter().zip(dense.chunks_mut(layout.dense_len())) {
            layout.unpack(arena.slots.get(slot).map_or(&[], |buffer| buffer), dense)?;
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
