//! Convolutions of some samples at a time.

use std::sync::Arc;

use relc_ir::NodeId;
use relc_program::books::Stats;
use relc_program::op::MAX_SUMS;

use super::sample::Sample;
use crate::conv::{Arguments, Run};
use crate::epilogue::Beside;
use crate::error::EngineError;
use crate::step::{Algorithm, ConvStep};
use crate::tile::Part;
use crate::winograd::{WinogradArguments, WinogradRun};
use crate::{AlignedBuffer, stats};

/// What a convolution writes of a sample, taken out of its memory so that the rest can be read meanwhile.
struct Written {
    output: AlignedBuffer,
    joined: AlignedBuffer,
    scratch: AlignedBuffer,
    /// The ledger's sums of rows.
    rows: [Option<Vec<Stats>>; MAX_SUMS],
    kept: Vec<AlignedBuffer>,
}

impl Written {
    fn of(sample: &mut Sample<'_>, step: &ConvStep, keeper: Option<usize>) -> Written {
        let layout = sample.executable.layout(step.output);
        let count = layout.blocks() * layout.height();
        let asked = |sum: usize| sample.ledger && step.tallies.get(sum).copied().flatten().is_some();
        Written {
            rows: std::array::from_fn(|sum| asked(sum).then(|| vec![Stats::NOTHING; count])),
            output: sample.take(step.output),
            joined: step.joined.map(|slot| sample.take(slot)).unwrap_or_default(),
            scratch: step.algorithm.scratch().map(|slot| sample.take(slot)).unwrap_or_default(),
            kept: keeper.map(|index| sample.take_kept(index)).unwrap_or_default(),
        }
    }

    /// The output, what is left besides, and the memory to work in.
    fn places(&mut self, sample: &Sample<'_>, step: &ConvStep) -> (&mut [f32], Beside<'_>, &mut [f32]) {
        let mut rows = self.rows.iter_mut();
        let joined = &mut self.joined;
        let beside = Beside {
            joined: step.joined.map(|slot| (&mut joined[..], *sample.executable.layout(slot))),
            sums: std::array::from_fn(|_| rows.next().and_then(|rows| rows.as_deref_mut())),
            kept: self.kept.first_mut().map(|kept| &mut kept[..]),
        };
        (&mut self.output, beside, &mut self.scratch)
    }

    fn give_back(self, sample: &mut Sample<'_>, step: &ConvStep, keeper: Option<usize>) {
        let layout = sample.executable.layout(step.output);
        for (value, rows) in step.tallies.iter().zip(&self.rows) {
            if let (Some(value), Some(rows)) = (value, rows) {
                sample.books.stats.insert(*value, stats::of_rows(layout, rows));
            }
        }
        sample.put(step.output, self.output);
        if let Some(slot) = step.joined {
            sample.put(slot, self.joined);
        }
        if let Some(slot) = step.algorithm.scratch() {
            sample.put(slot, self.scratch);
        }
        if let Some(index) = keeper {
            sample.put_kept(index, self.kept);
        }
    }
}

/// What a convolution of a sample takes and writes.
fn run<'a, W>(
    (sample, written): (&'a Sample<'_>, &'a mut Written),
    step: &'a ConvStep,
    weights: &'a Arc<W>,
    part: Part,
) -> Run<'a, W> {
    let (input, epilogue) = (sample.slot(step.input), sample.epilogue(&step.finish));
    let (out, beside, _) = written.places(sample, step);
    Run { arguments: Arguments { weights, part, input, epilogue }, out, beside }
}

/// Runs a convolution for samples of one executable; the backward step `keeper` keeps its sums.
pub(super) fn convolve(
    samples: &mut [Sample<'_>],
    node: NodeId,
    step: &ConvStep,
    keeper: Option<usize>,
) -> Result<(), EngineError> {
    let Some(&Sample { executable, parallel, .. }) = samples.first() else { return Ok(()) };
    let mut written: Vec<Written> =
        samples.iter_mut().map(|sample| Written::of(sample, step, keeper)).collect();
    let both = samples.iter().zip(&mut written);
    let result = match &step.algorithm {
        Algorithm::Direct { plan, weights, part } => {
            plan.run_all(both.map(|both| run(both, step, weights, *part)), parallel)
        }
        Algorithm::Winograd { plan, weights, repair, .. } => {
            let run = both.map(|(sample, written)| {
                let (input, epilogue) = (sample.slot(step.input), sample.epilogue(&step.finish));
                let (out, beside, scratch) = written.places(sample, step);
                let len = plan.scratch_len().min(scratch.len());
                let arguments = WinogradArguments { weights, input, epilogue, repair: repair.as_deref() };
                WinogradRun { arguments, scratch: &mut scratch[..len], out, beside }
            });
            plan.run_all(run, parallel)
        }
        Algorithm::Bf16x6 { plan, weights, part } => {
            plan.run_all(both.map(|both| run(both, step, weights, *part)), parallel)
        }
    };
    for (sample, written) in samples.iter_mut().zip(written) {
        written.give_back(sample, step, keeper);
    }
    result.map_err(|source| executable.refused(node, source.into()))
}
