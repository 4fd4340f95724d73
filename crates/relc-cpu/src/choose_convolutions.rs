//! `choose-convolutions`: how each convolution is computed on a CPU.
//!
//! Winograd's algorithm computes 3x3 convolutions of stride 1 with fewer multiplications, for transforms, larger weights and
//! more memory to read. Of what is exact enough for what becomes of the sums, the model of the machine ([`crate::Cost`]) says
//! what is fastest on one thread; so that neither batch nor threads change what is computed.

use std::collections::BTreeMap;

use relc_ir::remark::Remarks;
use relc_program::conv::Direction;
use relc_program::layout::{Blocked, Halo};
use relc_program::op::{Algorithm, ConvOp, Exactness};
use relc_program::passes::ProgramPass;
use relc_program::{Program, ProgramError, Step, StepOp, ValueId};

use crate::bf16x6::Bf16x6Plan;
use crate::conv::{ConvError, ConvPlan};
use crate::cost::{Cost, Homes, Reuse};
use crate::machine::Machine;
use crate::winograd::{Form, WinogradPlan};

/// Channels from which on plain sums have about the errors of Winograd's.
const EXACT_CHANNELS: usize = 32;
/// Tiles of an output from which on the weights of F(4x4, 3x3) are worth their memory.
const FOUR_TILES: usize = 25;
/// Pixels of an output from which on it is worth a third copy of the weights, for its repair.
const REPAIRED_PIXELS: usize = 64;
/// The share of the direct time that Winograd's algorithm may take at most: its weights take more memory, and its sums are
/// less exact.
const WORTH: f64 = 0.9;

const NAME: &str = "choose-convolutions";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ChooseConvolutions {
    /// The machine that is compiled for.
    pub machine: Machine,
}

impl ProgramPass for ChooseConvolutions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "choose how each convolution is computed"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        // One memory serves all: a step at a time works in it.
        let scratch = program.add_value([1; 4]);
        let mut longest = 0;
        let mut memory = Memory::new(self.machine, program);
        for step in program.steps_mut() {
            let touched = memory.of(step);
            let StepOp::Conv(conv) = &mut step.op else {
                memory.touch(touched);
                continue;
            };
            let failed =
                |reason: String| ProgramError::Step { pass: NAME, step: step.origin.describe(), reason };
            let layout = |id: Option<&ValueId>| id.and_then(|id| memory.layout(id));
            let (Some(from), Some(to)) = (layout(step.reads.first()), layout(step.writes.first())) else {
                return Err(failed("its values have no layouts; run choose-layouts before".into()));
            };
            conv.algorithm = Some(Algorithm::Direct);
            let homes = memory.homes([step.reads[0], step.writes[0]]);
            memory.touch(touched);
            let tiles = Bf16x6Plan::supports(&conv.spec, self.machine.isa);
            let (forms, refused) = match WinogradPlan::supports(&conv.spec) {
                true => match exact_enough(conv, &from, &to) {
                    Ok(forms) => (forms, None),
                    Err(reason) => (&[][..], Some(reason)),
                },
                false if tiles => (&[][..], None),
                false => continue,
            };
            if let (Some(reason), false) = (&refused, tiles) {
                remarks.missed(step.origin.describe(), reason.clone());
                continue;
            }
            let choice = self.choose(conv, forms, [&from, &to], homes);
            let mut choice = choice.map_err(|e| failed(e.to_string()))?;
            if let Some(refused) = refused {
                choice.reason += &format!("; {refused}");
            }
            conv.algorithm = Some(choice.algorithm);
            if let Some(len) = choice.scratch {
                longest = longest.max(len);
                step.writes.push(scratch);
            }
            match choice.algorithm {
                Algorithm::Direct => remarks.missed(step.origin.describe(), choice.reason),
                _ => remarks.applied(step.origin.describe(), choice.reason),
            }
        }
        // Where nobody works in it, it is taken away with what else nothing uses.
        if let Some(value) = program.values.get_mut(&scratch).filter(|_| longest > 0) {
            let layout = Blocked::new(1, 1, 1, longest, Halo::NONE)
                .map_err(|source| ProgramError::Layout { step: NAME.into(), source })?;
            *value =
                relc_program::Value { layout: Some(layout), ..relc_program::Value::new([1, 1, 1, longest]) };
        }
        Ok(())
    }
}

/// What is fastest, and why.
struct Choice {
    algorithm: Algorithm,
    reason: String,
    seconds: f64,
    /// Elements of the memory that it works in, if it does.
    scratch: Option<usize>,
}

impl Choice {
    /// What is compared: what has other costs has to be faster for it.
    fn worth(&self) -> f64 {
        if self.scratch.is_some() { self.seconds / WORTH } else { self.seconds }
    }
}

impl ChooseConvolutions {
    fn choose(
        &self,
        conv: &ConvOp,
        forms: &[Form],
        [from, to]: [&Blocked; 2],
        homes: Homes,
    ) -> Result<Choice, ConvError> {
        let machine = &self.machine;
        let choice = |algorithm, reason: &str, cost: Cost| Choice {
            algorithm,
            reason: reason.to_string(),
            seconds: cost.seconds(machine, 1),
            scratch: None,
        };
        let direct = ConvPlan::new(&conv.spec, conv.direction, machine, from, to)?;
        let mut all = vec![choice(Algorithm::Direct, "direct", direct.cost(machine, homes))];
        if let Some(plan) = Bf16x6Plan::new(&conv.spec, conv.direction, machine, from, to)? {
            all.push(choice(Algorithm::Bf16x6, "by products of bf16", plan.cost(machine, homes)));
        }
        for form in forms {
            let plan = WinogradPlan::new(&conv.spec, conv.direction, machine, *form, from, to)?;
            let Some(plan) = plan else { continue };
            let cost = plan.cost(machine, homes, conv.is_divisor_of_one_sign());
            let (algorithm, reason) = match form {
                Form::Two => (Algorithm::Winograd2, "by Winograd's F(2x2, 3x3)"),
                Form::Four => (Algorithm::Winograd4, "by Winograd's F(4x4, 3x3)"),
            };
            all.push(Choice { scratch: Some(plan.scratch_len()), ..choice(algorithm, reason, cost) });
        }
        let best = (0..all.len()).min_by(|a, b| all[*a].worth().total_cmp(&all[*b].worth()));
        let mut best = all.remove(best.unwrap_or(0));
        best.reason += &format!(": {} ms predicted", milliseconds(best.seconds));
        for other in &all {
            best.reason += &format!(", {} {}", milliseconds(other.seconds), other.reason);
        }
        Ok(best)
    }
}

/// With two digits.
fn milliseconds(seconds: f64) -> String {
    let value = seconds * 1e3;
    let digits = (1.0 - value.log10().floor()).clamp(0.0, 6.0);
    format!("{value:.*}", digits as usize)
}

/// The forms of Winograd's algorithm that are exact and small enough, or why none is.
fn exact_enough(conv: &ConvOp, from: &Blocked, to: &Blocked) -> Result<&'static [Form], String> {
    if from.block().min(to.block()) < 4 {
        return Err("Winograd's algorithm wants whole vectors".into());
    }
    let channels = from.channels().min(to.channels());
    if channels < EXACT_CHANNELS {
        return Err(format!(
            "{channels} channels are so few that plain sums are far more exact than Winograd's"
        ));
    }
    // Small pictures have few tiles for weights that are 4 times as large: too much to read, and to keep.
    let tiles = to.height().div_ceil(4) * to.width().div_ceil(4);
    let forms: &[Form] = if tiles < FOUR_TILES { &[Form::Two] } else { &[Form::Two, Form::Four] };
    match conv.exactness {
        Exactness::Plain => Ok(forms),
        // It has direct weights besides: for few pixels, a third copy is not worth its memory.
        Exactness::Divisor if conv.signs.agree() && to.height() * to.width() < REPAIRED_PIXELS => {
            Err("it has few pixels, for which a third copy of its weights is too much".into())
        }
        Exactness::Divisor if conv.signs.agree() => Ok(forms),
        // Where terms cancel, the sum's own rounding is as large as that of the smaller form.
        Exactness::Divisor => Ok(&[Form::Two]),
        Exactness::Exact if conv.direction == Direction::Transposed => {
            Err("its terms have no common size, and Winograd's sums depend on their neighbours'".into())
        }
        Exactness::Exact => Err("its zeros have to be zeros".into()),
    }
}

/// Where values and weights lie when a step asks for them.
struct Memory {
    layouts: BTreeMap<ValueId, Option<Blocked>>,
    constants: BTreeMap<String, usize>,
    reuse: Reuse<ValueId>,
}

/// What a step touches: its values with their bytes, and bytes of constants.
type Touched = (Vec<(ValueId, usize)>, usize);

impl Memory {
    fn new(machine: Machine, program: &Program) -> Memory {
        let layouts = program.values.iter().map(|(id, value)| (*id, value.layout)).collect();
        let bytes = |elements: usize| elements.saturating_mul(size_of::<f32>());
        let constants = program.constants.iter();
        let constants = constants.map(|(name, constant)| (name.clone(), bytes(constant.len().unwrap_or(0))));
        let mut memory = Memory { layouts, constants: constants.collect(), reuse: Reuse::new(machine, 0) };
        let run = program.steps().flat_map(|step| {
            let (values, constants) = memory.of(step);
            values.into_iter().map(|(_, bytes)| bytes).chain([constants])
        });
        memory.reuse = Reuse::new(machine, run.fold(0, usize::saturating_add));
        memory
    }

    fn layout(&self, id: &ValueId) -> Option<Blocked> {
        self.layouts.get(id).copied().flatten()
    }

    fn bytes(&self, id: ValueId) -> usize {
        self.layout(&id).map_or(0, |layout| layout.len().saturating_mul(size_of::<f32>()))
    }

    fn of(&self, step: &Step) -> Touched {
        let values = step.values().map(|id| (id, self.bytes(id)));
        let constants = step.constants.iter().filter_map(|name| self.constants.get(name));
        (values.collect(), constants.fold(0, |sum, bytes| sum.saturating_add(*bytes)))
    }

    fn touch(&mut self, (values, constants): Touched) {
        values.into_iter().for_each(|(id, bytes)| self.reuse.touch(id, bytes));
        self.reuse.pass(constants);
    }

    /// Weights are packed for one algorithm and direction, and so met once in a run.
    fn homes(&self, [input, output]: [ValueId; 2]) -> Homes {
        let value = |id: ValueId| self.reuse.level(&id, self.bytes(id));
        Homes { weights: self.reuse.unmet(), input: value(input), output: value(output) }
    }
}
