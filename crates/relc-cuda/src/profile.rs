//! How long each kernel takes.

use std::sync::Arc;
use std::time::Duration;

use relc_program::{Origin, Step};

use crate::backend::CudaModule;
use crate::code::{Action, Purpose};
use crate::cost::Cost;
use crate::error::CudaError;
use crate::session::{FORWARD, Ready, WITH_BOOKS, len};

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
        if samples == 0 || input.len() != len(self, ends.input) * samples {
            return Err(CudaError::Plan(format!("got {} values for {samples} samples", input.len())));
        }
        let outputs = len(self, ends.seed);
        let seed: Vec<f32> =
            (0..outputs * samples).map(|k| if k % outputs.max(1) == 0 { 1.0 } else { 0.0 }).collect();
        let forward: Vec<&Action> =
            self.plan.forward.iter().filter(|action| action.purpose != Purpose::Ledger).collect();
        let backward: Vec<&Action> =
            self.plan.backward.iter().filter(|action| action.purpose != Purpose::Ends).collect();
        let mut ready = Ready::new(self, samples)?;
        let mut best: Vec<Duration> = Vec::new();
        for _ in 0..runs.max(1) {
            ready.load(ends.input, input)?;
            // Flags are cleared first, for no action.
            let mut times: Vec<Duration> = ready.times(FORWARD, self)?.into_iter().skip(1).collect();
            ready.load(ends.seed, &seed)?;
            times.extend(ready.times(WITH_BOOKS, self)?.into_iter().skip(1));
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
}
