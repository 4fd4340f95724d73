//! What a program has to be.
//!
//! Operands
//! - every value and every constant that a step or an end names is there; a step writes no value twice; the seed is a value
//!   of its own, and memory that steps work in is nothing else;
//! - each op reads, writes and takes as many operands as it says, of the images and lengths that it says;
//! - layouts are those of their values' images.
//!
//! Order
//! - a value is written before it is read: by an earlier step, or by the caller (the input before the first step, the seed
//!   before the first backward one);
//! - no step reads what it writes; one that adds to its output comes behind what writes it, and moves that fill nothing
//!   write a value whole between them;
//! - backward steps write nothing that they or the caller need of the forward ones: they run once for each seed;
//! - the output is written by the forward steps, the relevance by the backward ones; a flag is raised before it is asked
//!   for.
//!
//! Layouts, once choose-layouts has run
//! - every value has one; a convolution's input has the halo that its kernel reads, in zeros that nobody writes: no step
//!   writes anything but the interior;
//! - what a convolution's epilogue reads, and what it writes besides, lies in the blocks of its output; `part` keeps the
//!   blocks of what it reads.
//!
//! Memory, once plan-memory has run
//! - every value has a slot; one whose layout keeps zeros shares it with values of its layout only;
//! - two values that are alive at the same time have different slots. Lives are found here by walking the steps from the
//!   last to the first, apart from the planner's: from a value's first write to its last read; to the end for what
//!   [`Program::kept`] says, and from the beginning for the input. What nobody reads lives while it is written. Memory
//!   that a step needs besides its operands lives for that step.
//!
//! Kernels, once share-kernels has run
//! - steps of one kernel do the same on the same layouts.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::operands;
use crate::error::ProgramErrors;
use crate::layout::Blocked;
use crate::op::{Algorithm, StepOp};
use crate::passes::kernel_key;
use crate::program::{Program, Step, ValueId};

/// Checks a program against the specification above.
///
/// # Errors
/// Everything that is wrong, a line each.
pub fn verify(program: &Program) -> Result<(), ProgramErrors> {
    let mut v = Verifier { program, errors: Vec::new() };
    v.names();
    // The rest trusts that what is named is there.
    if v.errors.is_empty() {
        v.order();
        v.layouts();
        v.memory();
        v.kernels();
    }
    if v.errors.is_empty() { Ok(()) } else { Err(ProgramErrors(v.errors)) }
}

struct Verifier<'p> {
    program: &'p Program,
    errors: Vec<String>,
}

impl Verifier<'_> {
    fn report(&mut self, step: &Step, message: impl AsRef<str>) {
        self.errors.push(format!("{}\n  in: {step}", message.as_ref()));
    }

    fn names(&mut self) {
        let program = self.program;
        let ends = &program.ends;
        let named = [
            ("input", ends.input),
            ("output", ends.output),
            ("seed", ends.seed),
            ("relevance", ends.relevance),
        ];
        for (name, id) in named {
            if !program.values.contains_key(&id) {
                self.errors.push(format!("the {name}: got {id}, expected a value that is there"));
            }
        }
        if [ends.input, ends.output].contains(&ends.seed) {
            let id = ends.seed;
            self.errors.push(format!(
                "the seed: got {id}, which is the input or the output, expected a value of its own"
            ));
        }
        let scratch: BTreeSet<ValueId> = program.steps().filter_map(Step::scratch).collect();
        for id in scratch.iter().filter(|id| program.is_end(**id)) {
            self.errors.push(format!("got {id} as memory to work in, which a caller gives or reads"));
        }
        for step in program.steps() {
            let own = step.scratch();
            let mut others = step.reads.iter().chain(step.writes.iter().filter(|id| Some(**id) != own));
            if let Some(id) = others.find(|id| scratch.contains(id)) {
                self.report(step, format!("got {id}, which other steps work in, expected a value"));
            }
        }
        for (label, id) in program.taps.iter().filter(|(_, id)| !program.values.contains_key(id)) {
            self.errors.push(format!("the tap {label}: got {id}, expected a value that is there"));
        }
        for (id, value) in &program.values {
            let image = value.layout.map(|layout| layout.image());
            if image.is_some_and(|image| image != value.image) || value.image.contains(&0) {
                self.errors
                    .push(format!("{id}: got the layout of {image:?}, expected that of {:?}", value.image));
            }
            if value.slot.is_some_and(|slot| slot >= program.values.len()) {
                self.errors
                    .push(format!("{id}: got slot {:?}, expected fewer slots than values", value.slot));
            }
        }
        let steps = program.forward.len() + program.backward.len();
        if program.flags() > steps || program.kernels() > steps {
            self.errors.push("got a flag or a kernel of a number above that of the steps".into());
        }
        for step in program.steps() {
            if let Some(id) = step.values().find(|id| !program.values.contains_key(id)) {
                self.report(step, format!("got {id}, expected a value that is there"));
            } else if let Some(name) =
                step.constants.iter().find(|name| !program.constants.contains_key(*name))
            {
                self.report(step, format!("got @{name}, expected a constant that is there"));
            } else if let Err(message) = operands(program, step) {
                self.report(step, message);
            }
            let unique: BTreeSet<&ValueId> = step.writes.iter().collect();
            if unique.len() < step.writes.len() {
                self.report(step, "got a value that it writes twice, expected different ones");
            }
        }
    }

    fn order(&mut self) {
        let program = self.program;
        let made: BTreeSet<ValueId> =
            program.forward.iter().flat_map(|step| step.writes.iter().copied()).collect();
        let kept: BTreeSet<ValueId> = program.kept().intersection(&made).copied().collect();
        let mut written: BTreeSet<ValueId> = [program.ends.input].into();
        let mut raised = BTreeSet::new();
        for (at, step) in program.steps().enumerate() {
            if at == program.forward.len() {
                written.insert(program.ends.seed);
            }
            let backward = at >= program.forward.len();
            if let Some(id) = step.reads.iter().find(|id| !written.contains(id)) {
                self.report(step, format!("got {id} before anything writes it, expected that behind"));
            }
            let scratch = step.scratch();
            for id in step.writes.iter().filter(|id| Some(**id) != scratch) {
                if step.reads.contains(id) {
                    self.report(step, format!("got {id} that it reads and writes, expected one of both"));
                }
                if step.op.adds_to_output() && !written.contains(id) && matches!(step.op, StepOp::Flat(_)) {
                    self.report(
                        step,
                        format!("got {id} before anything writes it, expected something to add to"),
                    );
                }
                if backward && kept.contains(id) {
                    self.report(
                        step,
                        format!("got {id}, which the next seed needs, expected another output"),
                    );
                }
                if *id == program.ends.seed || *id == program.ends.input {
                    self.report(step, format!("got {id}, which the caller gives, expected another output"));
                }
            }
            written.extend(step.writes.iter().copied());
            match &step.op {
                StepOp::Flat(flat) if !raised.contains(&flat.flag) => {
                    self.report(step, "got a flag that nothing raises before, expected one");
                }
                _ => raised.extend(step.op.raises()),
            }
        }
        let output = program.ends.output;
        if !made.contains(&output) && output != program.ends.input {
            self.errors.push(format!("got no forward step that writes the output {output}, expected one"));
        }
        self.moves();
        let relevance = program.ends.relevance;
        let backward = program.backward.iter().any(|step| step.writes.contains(&relevance));
        if !backward && relevance != program.ends.seed {
            self.errors
                .push(format!("got no backward step that writes the relevance {relevance}, expected one"));
        }
    }

    /// Values that moves alone write are written whole.
    fn moves(&mut self) {
        let program = self.program;
        let mut counts: BTreeMap<ValueId, Option<usize>> = BTreeMap::new();
        for step in program.steps() {
            for id in &step.writes {
                let count = match &step.op {
                    StepOp::Move(step) if !step.fill => Some(step.dims.iter().product::<usize>()),
                    _ => None,
                };
                let sum = counts.entry(*id).or_insert(Some(0));
                *sum = sum.zip(count).map(|(sum, count)| sum.saturating_add(count));
            }
        }
        for (id, count) in counts {
            let elements: usize = program.image(id).map_or(0, |image| image.iter().product());
            if count.is_some_and(|count| count < elements) {
                self.errors.push(format!("{id}: got moves of {count:?} elements, expected all {elements}"));
            }
        }
    }

    fn layouts(&mut self) {
        let program = self.program;
        let with = program.values.values().filter(|value| value.layout.is_some()).count();
        if with == 0 {
            return;
        }
        if with < program.values.len() {
            self.errors.push("got layouts of some values, expected those of all or of none".into());
            return;
        }
        for step in program.steps() {
            let layout = |id: &ValueId| program.layout(*id);
            let block = |id: &ValueId| layout(id).map(|l| l.block());
            match &step.op {
                StepOp::Conv(conv) => {
                    let Some(output) = step.writes.first() else { continue };
                    let image = |id: &ValueId| program.image(*id).map_or([1; 3], |[_, d, h, w]| [d, h, w]);
                    let needed = match (conv.direction, step.reads.first()) {
                        (crate::conv::Direction::Forward, Some(input)) => {
                            conv.spec.forward_halo(image(input))
                        }
                        _ => conv.spec.transposed_halo(image(output)),
                    };
                    let got = step.reads.first().and_then(layout).map(|l| l.halo());
                    if let (Ok(needed), Some(got)) = (needed, got)
                        && conv.algorithm.is_none_or(Algorithm::reads_frame)
                        && !got.covers(needed)
                    {
                        self.report(step, format!("got the halo {got:?}, expected at least {needed:?}"));
                    }
                    let scratch = step.scratch();
                    let others = step.reads.iter().skip(1).chain(step.writes.iter().skip(1));
                    let mut others = others.filter(|id| Some(**id) != scratch);
                    if let Some(id) = others.find(|id| block(id) != block(output)) {
                        let (got, expected) = (block(id), block(output));
                        let message = format!("got {id} in blocks of {got:?}, expected {expected:?}");
                        self.report(step, message);
                    }
                }
                StepOp::Part(_)
                    if step.reads.first().and_then(block) != step.writes.first().and_then(block) =>
                {
                    self.report(
                        step,
                        "got blocks of another size than those that it reads, expected the same",
                    );
                }
                _ => {}
            }
        }
    }

    fn memory(&mut self) {
        let program = self.program;
        let with = program.values.values().filter(|value| value.slot.is_some()).count();
        if with == 0 {
            return;
        }
        if with < program.values.len() {
            self.errors.push("got slots of some values, expected those of all or of none".into());
            return;
        }
        let slot = |id: ValueId| program.values.get(&id).and_then(|value| value.slot);
        let mut layouts: BTreeMap<usize, Blocked> = BTreeMap::new();
        for (id, value) in &program.values {
            let (Some(slot), Some(layout)) = (value.slot, value.layout) else {
                self.errors.push(format!("{id}: got a slot and no layout"));
                continue;
            };
            let first = *layouts.entry(slot).or_insert(layout);
            if first != layout && (first.keeps_zeros() || layout.keeps_zeros()) {
                self.errors.push(format!("{id}: got slot {slot}, expected one of its layout"));
            }
        }
        // Who has a slot while the steps are walked backwards.
        let mut owner: BTreeMap<usize, ValueId> = BTreeMap::new();
        let mut clashes = BTreeSet::new();
        let mut live = |owner: &mut BTreeMap<usize, ValueId>, id: ValueId| {
            let Some(slot) = slot(id) else { return };
            if let Some(other) = owner.insert(slot, id)
                && other != id
            {
                clashes.insert((id.min(other), id.max(other), slot));
            }
        };
        let mut first: BTreeMap<ValueId, usize> = BTreeMap::new();
        first.insert(program.ends.input, 0);
        for (at, step) in program.steps().enumerate() {
            for id in &step.writes {
                first.entry(*id).or_insert(at);
            }
        }
        let forward = program.forward.len();
        first.insert(program.ends.seed, forward);
        program.kept().into_iter().for_each(|id| live(&mut owner, id));
        let steps: Vec<&Step> = program.steps().collect();
        for (at, step) in steps.iter().enumerate().rev() {
            step.writes.iter().chain(&step.reads).for_each(|id| live(&mut owner, *id));
            if at == forward {
                live(&mut owner, program.ends.seed);
            }
            let begins = |id: &ValueId| first.get(id) == Some(&at) && *id != program.ends.input;
            let scratch = step.scratch();
            for id in step.writes.iter().filter(|id| begins(id) || Some(**id) == scratch) {
                // What the step reads is alive beside it.
                if let Some(slot) = slot(*id)
                    && owner.get(&slot) == Some(id)
                {
                    owner.remove(&slot);
                }
            }
            if at == forward
                && let Some(slot) = slot(program.ends.seed)
                && owner.get(&slot) == Some(&program.ends.seed)
            {
                owner.remove(&slot);
            }
        }
        live(&mut owner, program.ends.input);
        for (a, b, slot) in clashes {
            self.errors.push(format!("slot {slot}: got {a} and {b} alive at once, expected one value"));
        }
    }

    fn kernels(&mut self) {
        let program = self.program;
        let mut keys = BTreeMap::new();
        for step in program.steps() {
            let Some(kernel) = step.kernel else { continue };
            let key = kernel_key(program, step);
            if keys.entry(kernel).or_insert_with(|| key.clone()) != &key {
                self.report(step, format!("got kernel {kernel}, expected that of steps that do the same"));
            }
        }
    }
}
