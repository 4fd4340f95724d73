//! How long each kernel takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relc_program::books::Books;
use relc_program::{Origin, Step};

use crate::backend::CudaModule;
use crate::code::{Action, Purpose};
use crate::cost::Cost;
use crate::error::CudaError;
use crate::session::{Piece, Ready, piece};

/// How long a step of a program took, or its sums for the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTime {
    /// Whether it is a forward step.
    pub forward: bool,
    /// Where it came from.
    pub origin: Arc<Origin>,
    /// What it does.
    pub what: String,
    /// Whether this is of sums for the ledger alone.
    pub of_ledger: bool,
    /// How many kernels it launched, memory it cleared, or ops the interpreter ran.
    pub launches: usize,
    /// How long it took; what the interpreter ran, with the copies there and back.
    pub time: Duration,
    /// What it costs. Sums are not counted.
    pub cost: Cost,
}

impl CudaModule {
    /// The times of the steps of an explanation of the first output with its ledger, in order, each the least of so many
    /// runs. Kernels are launched one by one, and timed by events between them.
    ///
    /// # Errors
    /// If the input has another length than so many samples have, or the device fails.
    pub fn profile(&self, input: &[f32], samples: usize, runs: usize) -> Result<Vec<StepTime>, CudaError> {
        let ends = self.program.ends;
        let len = |id| self.program.image(id).map_or(0, |image| image.iter().product::<usize>());
        if samples == 0 || input.len() != len(ends.input) * samples {
            return Err(CudaError::Plan(format!("got {} values for {samples} samples", input.len())));
        }
        let outputs = len(ends.seed);
        let seed: Vec<f32> =
            (0..outputs * samples).map(|k| if k % outputs.max(1) == 0 { 1.0 } else { 0.0 }).collect();
        let timed = |actions: &[Action]| -> Vec<Action> {
            actions.iter().filter(|action| action.purpose != Purpose::Ends).cloned().collect()
        };
        let [forward, backward] = [&self.plan.forward, &self.plan.backward].map(|half| timed(half));
        let mut ready = Ready::new(self, samples)?;
        let mut best: Vec<Duration> = Vec::new();
        for _ in 0..runs.max(1) {
            ready.load(ends.input, input)?;
            let mut times = self.times(&mut ready, &forward)?;
            ready.load(ends.seed, &seed)?;
            ready.clear_flags()?;
            times.extend(self.times(&mut ready, &backward)?);
            if best.is_empty() {
                best = times;
            } else {
                best.iter_mut().zip(times).for_each(|(best, new)| *best = (*best).min(new));
            }
        }
        let steps: Vec<&Step> = self.program.steps().collect();
        let mut all: Vec<(usize, StepTime)> = Vec::new();
        for (number, (action, time)) in forward.iter().chain(&backward).zip(best).enumerate() {
            let of_ledger = action.purpose == Purpose::Ledger;
            if let Some((step, last)) = all.last_mut()
                && (*step, last.of_ledger) == (action.step, of_ledger)
            {
                last.launches += 1;
                last.time += time;
                continue;
            }
            let Some(step) = steps.get(action.step) else { continue };
            let cost = if of_ledger { Cost::default() } else { Cost::of(&self.program, step, samples)? };
            let what = if of_ledger { "ledger".to_string() } else { step.op.mnemonic() };
            let (forward, origin) = (number < forward.len(), step.origin.clone());
            let own = StepTime { forward, origin, what, of_ledger, launches: 1, time, cost };
            all.push((action.step, own));
        }
        Ok(all.into_iter().map(|(_, step)| step).collect())
    }

    /// Runs actions, and says how long each took.
    fn times(&self, ready: &mut Ready, actions: &[Action]) -> Result<Vec<Duration>, CudaError> {
        let mut books = vec![Books::default(); ready.samples()];
        let mut times = Vec::with_capacity(actions.len());
        let mut waiting = Vec::new();
        for action in actions {
            match piece(action, ready.memory(), ready.samples())? {
                Piece::Commands(_, mut commands) => waiting.append(&mut commands),
                Piece::Interpret { node, inputs, outputs } => {
                    times.append(&mut ready.time(&std::mem::take(&mut waiting))?);
                    let start = Instant::now();
                    ready.interpret(self, node, &inputs, &outputs, &mut books)?;
                    times.push(start.elapsed());
                }
            }
        }
        times.append(&mut ready.time(&waiting)?);
        Ok(times)
    }
}
