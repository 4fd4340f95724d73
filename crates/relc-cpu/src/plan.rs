//! What a sample runs: steps over the slots of its memory.

use std::collections::{HashMap, HashSet};

use relc_codegen::kir::{Elem, Kernel};
use relc_ir::{Graph, Values, Weight};
use relc_program::Rerun;
use relc_program::layout::Blocked;

use crate::epilogue::fits;
use crate::error::{EngineError, StepError};
use crate::step::{Action, Algorithm, Bind, Finish, Slot, Step};

/// Steps over the slots of a sample, and the kernels that they run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The layout of each slot: a place in a buffer, where values of this layout lie.
    pub(crate) slots: Vec<Blocked>,
    /// The buffer of each slot.
    pub(crate) buffer_of: Vec<usize>,
    /// The elements of each buffer.
    pub(crate) buffers: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    /// How many of the steps are forward.
    pub(crate) forward: usize,
    /// What each of the backward steps has to do again for another seed.
    pub(crate) reruns: Vec<Rerun>,
    pub(crate) flags: usize,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) input: Slot,
    pub(crate) output: Slot,
    pub(crate) seed: Slot,
    pub(crate) relevance: Slot,
    /// What a caller may read, by its label.
    pub(crate) taps: HashMap<String, Slot>,
    /// What was packed, in the order in which it was.
    pub(crate) packed: Vec<Values>,
    /// Weights of the model that are made of what was packed when somebody reads them.
    pub(crate) unpacked: Vec<Weight>,
}

impl Plan {
    /// The kernel that a step runs, if Cranelift compiled it.
    pub(crate) fn kernel_of(&self, step: &Step) -> Option<&Kernel> {
        match step.action {
            Action::Kernel { kernel, .. } | Action::Quotients { kernel, .. } => self.kernels.get(kernel),
            _ => None,
        }
    }

    /// What another run of the backward steps need not compute again of a step, by slot: denominators, or outputs.
    pub(crate) fn kept_of(&self, backward: usize) -> Vec<Slot> {
        let step = self.steps.get(self.forward + backward);
        match (self.reruns.get(backward), step.map(|step| &step.action)) {
            (Some(Rerun::Epilogue), Some(Action::Conv(conv))) => vec![conv.output],
            (Some(Rerun::Outputs), Some(action)) => action.outputs(),
            _ => Vec::new(),
        }
    }

    /// Whether a convolution's weights are streamed, so that samples had better share a reading of them.
    pub(crate) fn is_streamed(&self) -> bool {
        let streamed =
            |step: &Step| matches!(&step.action, Action::Conv(conv) if conv.algorithm.is_streamed());
        self.steps.iter().any(streamed)
    }

    /// Bytes of all that [`kept_of`](Self::kept_of) says.
    pub(crate) fn kept_bytes(&self) -> usize {
        let kept = (0..self.reruns.len()).flat_map(|step| self.kept_of(step));
        kept.filter_map(|slot| self.slots.get(slot)).map(|layout| layout.len() * size_of::<f32>()).sum()
    }

    /// Checks what every step will be given, so that no step is refused when it runs.
    ///
    /// # Errors
    /// For the first step whose operands don't fit it; names its node.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), EngineError> {
        for step in &self.steps {
            if let Err(source) = self.check_step(step) {
                let (node, source) = (graph.describe(step.node), Box::new(source));
                return Err(EngineError::Step { node, source });
            }
        }
        Ok(())
    }

    fn check_step(&self, step: &Step) -> Result<(), StepError> {
        let layout = |slot: Slot| self.slots.get(slot);
        match &step.action {
            Action::Conv(conv) => {
                let operands = conv.finish.reads().into_iter().filter_map(layout);
                match layout(conv.output) {
                    Some(output) => Ok(fits(output, operands)?),
                    None => Ok(()),
                }
            }
            Action::Kernel { kernel, binds } | Action::Quotients { kernel, binds, .. } => {
                let Some(kernel) = self.kernels.get(*kernel) else { return Ok(()) };
                let bound = |bind: &Bind| match bind {
                    Bind::Read(slot) | Bind::Write(slot) => layout(*slot).map_or(0, Blocked::len),
                    Bind::Constant(data) => data.len(),
                };
                let got: Vec<usize> = binds.iter().map(bound).collect();
                // The last buffer of quotients is the ledger, of f64.
                let tensors = kernel.buffers.iter().filter(|buffer| buffer.elem == Elem::F32);
                let expected: Vec<usize> = tensors.map(|buffer| buffer.len).collect();
                if got == expected {
                    Ok(())
                } else {
                    Err(StepError::Buffers { kernel: kernel.name.clone(), got, expected })
                }
            }
            _ => Ok(()),
        }
    }

    /// Bytes of packed weights and constants, each counted once.
    pub(crate) fn constant_bytes(&self) -> usize {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        let mut count = |(address, elements): (usize, usize)| {
            if seen.insert(address) {
                bytes += elements * size_of::<f32>();
            }
        };
        for step in &self.steps {
            match &step.action {
                Action::Conv(conv) => count(conv.algorithm.weights()),
                Action::Kernel { binds, .. } | Action::Quotients { binds, .. } => {
                    for bind in binds {
                        if let Bind::Constant(data) = bind {
                            count((data.as_ptr().addr(), data.len()));
                        }
                    }
                }
                _ => {}
            }
        }
        bytes
    }
}

impl Step {
    /// What the step is, and the floating-point operations of a convolution.
    pub(crate) fn describe(&self) -> (&'static str, u64) {
        match &self.action {
            Action::Conv(conv) => {
                let what = match (&conv.algorithm, &conv.finish) {
                    (Algorithm::Direct { .. }, Finish::Quotient { .. }) => "conv, quotient",
                    (Algorithm::Direct { .. }, Finish::Product { .. }) => "conv, product",
                    (Algorithm::Direct { .. }, _) => "conv",
                    (Algorithm::Winograd { .. }, Finish::Quotient { .. }) => "winograd, quotient",
                    (Algorithm::Winograd { .. }, Finish::Product { .. }) => "winograd, product",
                    (Algorithm::Winograd { .. }, _) => "winograd",
                    (Algorithm::Bf16x6 { .. }, Finish::Quotient { .. }) => "bf16x6, quotient",
                    (Algorithm::Bf16x6 { .. }, Finish::Product { .. }) => "bf16x6, product",
                    (Algorithm::Bf16x6 { .. }, _) => "bf16x6",
                };
                (what, conv.flops)
            }
            Action::Kernel { .. } => ("kernel", 0),
            Action::Quotients { .. } => ("quotients", 0),
            Action::Move { .. } | Action::Relayout { .. } => ("move", 0),
            Action::Map { .. } => ("map", 0),
            Action::Stabilise { .. } => ("stabiliser", 0),
            Action::Standardise { .. } => ("standardise", 0),
            Action::Interpret(_) => ("interpret", 0),
            Action::Flat(_) | Action::Raise { .. } => ("flat", 0),
            Action::Tally { .. } | Action::Absorbed { .. } => ("ledger", 0),
        }
    }
}
