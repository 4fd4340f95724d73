//! What every other step takes, and all steps of a plan in order.

use relc_codegen::kir::{Binary, Kernel, Op, Stmt, Unary};
use relc_ir::Values;

use super::{Cost, Homes, Reuse, f32s};
use crate::machine::{Level, Machine};
use crate::map::Function;
use crate::moves::Run;
use crate::plan::Plan;
use crate::step::{Action, Algorithm, Bind, ConvStep, Finish, Slot, Step};

/// Statements of a compiled kernel in a cycle.
const STATEMENTS: f64 = 2.5;
/// Cycles of a division or a root.
const DIVISION: f64 = 5.0;
/// Cycles of an element that goes by a table.
const MOVED: f64 = 2.0;
/// Cycles of an element that is copied between blocks of different sizes.
const COPIED: f64 = 1.5;
/// Cycles of a vector of a function: of those that compare, and of those that compute an exponential.
const COMPARED: f64 = 2.0;
const COMPUTED: f64 = 30.0;
/// Cycles of a vector whose mean and variance are taken, and which is changed by them.
const STANDARDISED: f64 = 12.0;
/// Cycles of an element that the interpreter treats, on dense copies in f64 or f32, one at a time.
const INTERPRETED: f64 = 12.0;
/// Elements of a task, about.
const GRAIN: f64 = 16384.0;
/// Cycles of a vector of an epilogue: each operand, a division, and sums in f64.
const OPERAND: f64 = 1.5;
const SUMMED: f64 = 3.0;

/// What memory a step names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Slot(Slot),
    Constant(usize),
}

impl Place {
    fn of(data: &Values) -> Place {
        Place::Constant(data.as_ptr().addr())
    }
}

/// What each step of a plan takes, in order.
pub(crate) fn step_costs(plan: &Plan, machine: &Machine) -> Vec<Cost> {
    let touched = |step: &Step| places(plan, step).iter().map(|(_, bytes, _)| *bytes).sum::<usize>();
    let run = plan.steps.iter().map(touched).sum();
    let mut reuse = Reuse::new(*machine, run);
    let mut costs = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let places = places(plan, step);
        let levels = places.iter().map(|(place, bytes, _)| (*place, reuse.level(place, *bytes)));
        let levels: Vec<(Place, Level)> = levels.collect();
        let level = |place: Place| {
            let found = levels.iter().find(|(other, _)| *other == place);
            found.map_or(Level::Memory, |(_, level)| *level)
        };
        costs.push(cost(plan, machine, step, &places, &level));
        places.into_iter().for_each(|(place, bytes, _)| reuse.touch(place, bytes));
    }
    costs
}

/// The memory of a step, in bytes, and whether it is written.
fn places(plan: &Plan, step: &Step) -> Vec<(Place, usize, bool)> {
    let slot = |slot: Slot, written: bool| {
        let bytes = plan.slots.get(slot).map_or(0, |layout| layout.len() * size_of::<f32>());
        (Place::Slot(slot), bytes, written)
    };
    let constant = |data: &Values| (Place::of(data), size_of_val(&data[..]), false);
    match &step.action {
        Action::Conv(conv) => {
            let mut places = vec![slot(conv.input, false), slot(conv.output, true)];
            let (at, elements) = conv.algorithm.weights();
            places.push((Place::Constant(at), elements * size_of::<f32>(), false));
            if let Algorithm::Winograd { plan, scratch, .. } = &conv.algorithm {
                places.push((Place::Slot(*scratch), plan.scratch_len() * size_of::<f32>(), true));
            }
            places.extend(conv.finish.reads().into_iter().map(|operand| slot(operand, false)));
            places.extend(conv.joined.map(|joined| slot(joined, true)));
            places
        }
        Action::Kernel { binds, .. } | Action::Quotients { binds, .. } => {
            let places = binds.iter().map(|bind| match bind {
                Bind::Read(read) => slot(*read, false),
                Bind::Write(written) => slot(*written, true),
                Bind::Constant(data) => constant(data),
            });
            places.collect()
        }
        Action::Map { input, output, .. }
        | Action::Standardise { input, output, .. }
        | Action::Relayout { input, output }
        | Action::Stabilise { input, output, .. } => vec![slot(*input, false), slot(*output, true)],
        Action::Move { table, input, output } => {
            let at = Place::Constant(table.as_ptr().addr());
            vec![(at, size_of_val(&table[..]), false), slot(*input, false), slot(*output, true)]
        }
        Action::Interpret(interpret) => {
            let inputs = interpret.inputs.iter().map(|(_, input)| slot(*input, false));
            inputs.chain(interpret.outputs.iter().map(|output| slot(*output, true))).collect()
        }
        // Nothing, as long as all relevance could be divided.
        Action::Flat(_) | Action::Raise { .. } => Vec::new(),
        Action::Tally { buffer, .. } => vec![slot(*buffer, false)],
        Action::Absorbed { quotient, .. } => vec![slot(*quotient, false)],
    }
}

fn cost(
    plan: &Plan,
    machine: &Machine,
    step: &Step,
    places: &[(Place, usize, bool)],
    level: &dyn Fn(Place) -> Level,
) -> Cost {
    if let Action::Conv(conv) = &step.action {
        return conv_cost(plan, machine, conv, level);
    }
    let mut cost = Cost { tasks: 1.0, ..Cost::default() };
    for (place, bytes, written) in places {
        match written {
            true => cost.write(level(*place), *bytes as f64),
            false => cost.add(level(*place), *bytes as f64),
        }
    }
    let elements = |slot: &Slot| plan.slots.get(*slot).map_or(0.0, |layout| layout.len() as f64);
    let vector = machine.isa.width() as f64;
    let shared = |elements: f64| (elements / GRAIN).floor().max(1.0);
    match &step.action {
        Action::Kernel { kernel, .. } | Action::Quotients { kernel, .. } => {
            if let Some(kernel) = plan.kernels.get(*kernel) {
                cost.cycles = kernel_cycles(kernel);
                let written: usize = places.iter().filter(|place| place.2).map(|place| place.1).sum();
                let most = kernel.task_count() as f64;
                cost.tasks = shared((written / size_of::<f32>()) as f64).min(most).max(1.0);
            }
        }
        Action::Map { output, function, .. } => {
            let each = match function {
                Function::Positive | Function::Negative => COMPARED,
                Function::Activation(_) => COMPUTED,
            };
            cost.cycles = each * elements(output) / vector;
            cost.tasks = shared(elements(output));
        }
        Action::Standardise { output, .. } => {
            cost.cycles = STANDARDISED * elements(output) / vector;
            cost.tasks = shared(elements(output));
        }
        Action::Relayout { output, .. } => cost.cycles = COPIED * elements(output),
        Action::Move { table, .. } => {
            let moved = table.iter().map(Run::len).sum::<usize>() as f64;
            cost.cycles = MOVED * moved;
            cost.tasks = shared(moved);
        }
        Action::Interpret(interpret) => {
            let slots = interpret.inputs.iter().map(|(_, slot)| slot).chain(&interpret.outputs);
            cost.cycles = INTERPRETED * slots.map(elements).sum::<f64>();
        }
        Action::Stabilise { input, .. } => cost.cycles = COPIED * elements(input),
        Action::Tally { buffer: input, .. } | Action::Absorbed { quotient: input, .. } => {
            cost.cycles = SUMMED * elements(input) / vector;
            cost.tasks = plan.slots.get(*input).map_or(1.0, |layout| layout.blocks() as f64);
        }
        Action::Conv(_) | Action::Flat(_) | Action::Raise { .. } => {}
    }
    cost
}

fn conv_cost(plan: &Plan, machine: &Machine, conv: &ConvStep, level: &dyn Fn(Place) -> Level) -> Cost {
    let (input, output) = (level(Place::Slot(conv.input)), level(Place::Slot(conv.output)));
    let (weights, _) = conv.algorithm.weights();
    let homes = Homes { weights: level(Place::Constant(weights)), input, output };
    let mut cost = match &conv.algorithm {
        Algorithm::Direct { plan, .. } => plan.cost(machine, homes),
        Algorithm::Winograd { plan, repair, .. } => plan.cost(machine, homes, repair.is_some()),
        Algorithm::Bf16x6 { plan, .. } => plan.cost(machine, homes),
    };
    let bytes = |slot: Slot| plan.slots.get(slot).map_or(0.0, |layout| f32s(layout.len()));
    let operands = conv.finish.reads();
    for operand in &operands {
        cost.add(level(Place::Slot(*operand)), bytes(*operand));
    }
    if let Some(joined) = conv.joined {
        cost.write(level(Place::Slot(joined)), bytes(joined));
    }
    // Narrow blocks are treated element by element.
    let Some(layout) = plan.slots.get(conv.output) else { return cost };
    let vectors = (layout.len() / layout.block().min(machine.isa.width())) as f64;
    let elements = if layout.block() == machine.isa.width() { 1.0 } else { layout.block() as f64 };
    let sums = conv.tallies.iter().flatten().count() as f64;
    let own = match &conv.finish {
        Finish::None => 0.0,
        Finish::Activate { bias, relu, .. } => {
            OPERAND * (f64::from(u8::from(bias.is_some())) + f64::from(u8::from(*relu)))
        }
        Finish::Quotient { .. } => 2.0 * OPERAND + DIVISION,
        Finish::Product { .. } => 0.0,
    };
    cost.cycles += vectors * elements * (own + OPERAND * operands.len() as f64 + SUMMED * sums);
    cost
}

/// Cycles of a kernel: its statements, as often as they run.
fn kernel_cycles(kernel: &Kernel) -> f64 {
    kernel.task_count() as f64 * body_cycles(&kernel.body)
}

fn body_cycles(body: &[Stmt]) -> f64 {
    let cycles = |stmt: &Stmt| match stmt {
        Stmt::For(inner) => inner.trips() as f64 * (body_cycles(&inner.body) + 1.0 / STATEMENTS),
        Stmt::Let { op: Op::Binary(Binary::Div, ..) | Op::Unary(Unary::Sqrt, _), .. } => DIVISION,
        Stmt::Let { .. } | Stmt::Set { .. } | Stmt::Store { .. } => 1.0 / STATEMENTS,
    };
    body.iter().map(cycles).sum()
}
