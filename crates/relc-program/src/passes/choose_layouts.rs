//! `choose-layouts`: how each value lies in memory.
//!
//! Channels lie in blocks of the machine's vectors. Pictures of a few channels that convolutions and moves alone use lie in
//! blocks of all their channels, so that no element is padding. Each value has the frame of zeros that the convolutions
//! which read it want. Where a convolution's epilogue reads a value in other blocks than it writes, a step converts it.

use std::collections::{BTreeMap, BTreeSet};

use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::conv::Direction;
use crate::error::ProgramError;
use crate::layout::{Blocked, Halo};
use crate::op::{Epilogue, StepOp};
use crate::program::{Program, Step, ValueId};

const NAME: &str = "choose-layouts";

/// Pictures of at most so many channels may lie in blocks of all of them.
const NARROW: usize = 4;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ChooseLayouts {
    /// Channels of a block: f32 elements of a vector.
    pub vector: usize,
}

impl ProgramPass for ChooseLayouts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "block channels by vectors, and frame what convolutions read"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let narrow = narrow(program);
        let halos = halos(program)?;
        let numbers: BTreeSet<ValueId> = program
            .steps()
            .filter(|step| matches!(step.op, StepOp::Stabilise { .. }))
            .flat_map(|step| step.writes.iter().copied())
            .collect();
        let origins: BTreeMap<ValueId, String> =
            program.steps().flat_map(|step| step.values().map(|id| (id, step.origin.describe()))).collect();
        for (id, value) in &mut program.values {
            let block = match (narrow.contains(id), numbers.contains(id)) {
                (true, _) => value.image[0],
                (_, true) => 1,
                _ => self.vector,
            };
            let halo = halos.get(id).copied().unwrap_or(Halo::NONE);
            value.layout = Some(Blocked::of(value.image, block, halo).map_err(|source| {
                let step = origins.get(id).cloned().unwrap_or_else(|| id.to_string());
                ProgramError::Layout { step, source }
            })?);
        }
        for id in &narrow {
            remarks.applied("", format!("{id} lies in blocks of its channels"));
        }
        convert(program, remarks)
    }
}

/// The frame that the readers of each value want.
fn halos(program: &Program) -> Result<BTreeMap<ValueId, Halo>, ProgramError> {
    let mut halos: BTreeMap<ValueId, Halo> = BTreeMap::new();
    for step in program.steps() {
        let (StepOp::Conv(conv), Some(input), Some(output)) =
            (&step.op, step.reads.first(), step.writes.first())
        else {
            continue;
        };
        let image = |id: &ValueId| program.image(*id).map_or([1; 3], |[_, d, h, w]| [d, h, w]);
        let halo = match conv.direction {
            Direction::Forward => conv.spec.forward_halo(image(input)),
            Direction::Transposed => conv.spec.transposed_halo(image(output)),
        };
        let halo = halo.map_err(|source| ProgramError::Spec {
            step: step.origin.describe(),
            source: Box::new(source),
        })?;
        let entry = halos.entry(*input).or_default();
        *entry = entry.union(halo);
    }
    Ok(halos)
}

/// The values of a few channels whose every use takes blocks of all of them.
fn narrow(program: &Program) -> BTreeSet<ValueId> {
    let few = |id: &ValueId| program.image(*id).is_some_and(|[c, d, h, w]| c <= NARROW && d * h * w > 1);
    let mut narrow: BTreeSet<ValueId> = program.values.keys().copied().filter(|id| few(id)).collect();
    narrow.remove(&program.ends.seed);
    // What has to lie like another value is narrow only with it.
    let mut alike: Vec<Vec<ValueId>> = Vec::new();
    for step in program.steps() {
        let mut refuse = |ids: &[ValueId]| {
            for id in ids {
                narrow.remove(id);
            }
        };
        match &step.op {
            StepOp::Conv(conv) => {
                if conv.spec.groups != 1 {
                    refuse(&step.reads[..1]);
                }
                if conv.spec.groups != 1 || conv.direction == Direction::Forward {
                    refuse(&step.writes);
                }
                if let Epilogue::Product { factor, addends: 1.., .. } = conv.epilogue {
                    alike.push(
                        step.reads[1 + usize::from(factor)..].iter().chain(&step.writes).copied().collect(),
                    );
                } else if !matches!(conv.epilogue, Epilogue::Product { .. }) {
                    refuse(&step.reads[1..]);
                }
            }
            StepOp::Part(_) => alike.push(step.values().collect()),
            // Their values are gathered from any layout, and put into any.
            StepOp::Move(_)
            | StepOp::Tally(_)
            | StepOp::Absorbed { .. }
            | StepOp::Convert
            | StepOp::Interpret => {}
            StepOp::Flat(_) => refuse(&step.reads),
            _ => {
                refuse(&step.reads);
                refuse(&step.writes);
            }
        }
    }
    loop {
        let before = narrow.len();
        for group in &alike {
            if !group.iter().all(|id| narrow.contains(id)) {
                for id in group {
                    narrow.remove(id);
                }
            }
        }
        if narrow.len() == before {
            return narrow;
        }
    }
}

/// Converts what epilogues read to the blocks of what they write.
fn convert(program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
    let mut made: BTreeMap<(ValueId, usize), ValueId> = BTreeMap::new();
    for half in [true, false] {
        // What the forward steps make serves the backward ones too, but not the other way round.
        let steps = std::mem::take(if half { &mut program.forward } else { &mut program.backward });
        let mut converted = Vec::with_capacity(steps.len());
        for mut step in steps {
            let output = step.writes.first().and_then(|id| program.layout(*id));
            if let (StepOp::Conv(_), Some(output)) = (&step.op, output) {
                for at in 1..step.reads.len() {
                    let id = step.reads[at];
                    let Some(layout) = program.layout(id).filter(|layout| layout.block() != output.block())
                    else {
                        continue;
                    };
                    let form = match made.get(&(id, output.block())) {
                        Some(form) => *form,
                        None => {
                            let form = program.add_value(layout.image());
                            let layout = Blocked::of(layout.image(), output.block(), Halo::NONE);
                            let layout = layout.map_err(|source| ProgramError::Layout {
                                step: step.origin.describe(),
                                source,
                            })?;
                            if let Some(value) = program.values.get_mut(&form) {
                                value.layout = Some(layout);
                            }
                            let (reads, writes) = (vec![id], vec![form]);
                            let origin = step.origin.clone();
                            let op = StepOp::Convert;
                            converted.push(Step {
                                op,
                                reads,
                                constants: vec![],
                                writes,
                                kernel: None,
                                origin,
                            });
                            made.insert((id, output.block()), form);
                            let blocks = output.block();
                            remarks.applied(
                                step.origin.describe(),
                                format!("reads {id} in blocks of {blocks}, as {form}"),
                            );
                            form
                        }
                    };
                    step.reads[at] = form;
                }
            }
            converted.push(step);
        }
        *(if half { &mut program.forward } else { &mut program.backward }) = converted;
    }
    Ok(())
}
