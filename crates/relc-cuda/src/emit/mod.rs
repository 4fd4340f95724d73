//! From steps to CUDA C: each step is printed as a kernel of its shape, or a few, with all sizes as constants; steps that
//! print alike share one.

mod conv;
mod elementwise;
mod geometry;
mod nodes;
mod sums;
mod windows;

pub(crate) use geometry::of_group;

use std::collections::HashMap;
use std::fmt::Write as _;

use relc_ir::{Graph, NodeId, ValueId as GraphValue};
use relc_program::books::relevance_values;
use relc_program::layout::Image;
use relc_program::op::{FlagId, Move, StepOp};
use relc_program::{Constant, Program, Step, ValueId};

use crate::code::{Action, Booked, Booking, Code, Grid, Place, Plan, Purpose, THREADS, What};
use crate::error::CudaError;

/// What every kernel shares.
const PRELUDE: &str = include_str!("../cuda/prelude.cuh");

/// Constants start at multiples of so many elements: of 256 bytes, as memory of a device does.
const ALIGNMENT: usize = 64;

/// The pointer of a kernel's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointer {
    Read,
    Write,
    Sums,
    Flags,
    Words,
}

impl Pointer {
    fn text(self) -> &'static str {
        match self {
            Pointer::Read => "const float *",
            Pointer::Write => "float *",
            Pointer::Sums => "double *",
            Pointer::Flags | Pointer::Words => "int *",
        }
    }
}

/// An argument: the name that the kernel knows it by, and where it is.
struct Argument {
    name: String,
    pointer: Pointer,
    place: Place,
}

fn argument(name: impl Into<String>, pointer: Pointer, place: Place) -> Argument {
    Argument { name: name.into(), pointer, place }
}

/// The plan of a program whose values have layouts.
///
/// # Errors
/// If a step is none that this can print.
pub fn plan(graph: &Graph, program: &Program) -> Result<Plan, CudaError> {
    let mut emitter = Emitter::new(graph, program);
    emitter.ends()?;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for (number, step) in program.steps().enumerate() {
        emitter.number = number;
        emitter.step(step)?;
        let half = if number < program.forward.len() { &mut forward } else { &mut backward };
        half.append(&mut emitter.actions);
    }
    emitter.number = 0;
    forward.insert(0, emitter.finite());
    backward.extend(std::mem::take(&mut emitter.last));
    let mut starts = std::mem::take(&mut emitter.first);
    starts.append(&mut backward);
    Ok(Plan {
        code: emitter.code(),
        constants: emitter.constants,
        forward,
        backward: starts,
        bookings: emitter.bookings,
        sums: emitter.sums,
        scratch: emitter.scratch,
        flags: program.flags() + 1,
    })
}

/// What constants are there for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Table {
    /// A constant of the program, by its name.
    Constant(String),
    /// What pixels along an axis take of those of another grid: of so many, for so many.
    Shares(usize, usize),
}

struct Emitter<'p> {
    graph: &'p Graph,
    program: &'p Program,
    nodes: HashMap<String, NodeId>,
    relevance: HashMap<String, GraphValue>,
    /// The step at hand.
    number: usize,
    actions: Vec<Action>,
    /// The sums of the ends, before the other backward steps and behind them.
    first: Vec<Action>,
    last: Vec<Action>,
    /// Kernels by their text behind the name.
    known: HashMap<String, usize>,
    source: String,
    kernels: Vec<String>,
    constants: Vec<f32>,
    placed: HashMap<Table, usize>,
    bookings: Vec<Booking>,
    sums: usize,
    scratch: usize,
}

impl<'p> Emitter<'p> {
    fn new(graph: &'p Graph, program: &'p Program) -> Self {
        Emitter {
            graph,
            program,
            nodes: graph.node_ids().map(|node| (graph.node_label(node), node)).collect(),
            relevance: relevance_values(graph).map(|value| (graph.label(value), value)).collect(),
            number: 0,
            actions: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            known: HashMap::new(),
            source: String::new(),
            kernels: Vec::new(),
            constants: Vec::new(),
            placed: HashMap::new(),
            bookings: Vec::new(),
            sums: 0,
            scratch: 0,
        }
    }

    fn code(&mut self) -> Code {
        Code { source: format!("{PRELUDE}{}", self.source), kernels: std::mem::take(&mut self.kernels) }
    }

    fn unsupported(&self, step: &Step, reason: impl Into<String>) -> CudaError {
        CudaError::Unsupported { node: step.origin.describe(), reason: reason.into() }
    }

    fn node(&self, step: &Step) -> Result<NodeId, CudaError> {
        let node = self.nodes.get(&step.origin.label).copied();
        node.ok_or_else(|| self.unsupported(step, "the graph has no such node"))
    }

    fn image(&self, id: ValueId) -> Image {
        self.program.image(id).unwrap_or([1; 4])
    }

    /// Elements of a sample.
    fn len(&self, id: ValueId) -> usize {
        self.image(id).iter().product()
    }

    /// The first of some relevance values that have the same sums.
    fn tallied(&self, step: &Step, of: &[String]) -> Result<Option<GraphValue>, CudaError> {
        let Some(label) = of.first() else { return Ok(None) };
        let value = self.relevance.get(label).copied();
        value.map(Some).ok_or_else(|| self.unsupported(step, format!("the graph has no value {label}")))
    }

    /// Where a constant lies among all.
    fn constant(&mut self, step: &Step, name: &str) -> Result<Place, CudaError> {
        if let Some(at) = self.placed.get(&Table::Constant(name.to_string())) {
            return Ok(Place::Constant(*at));
        }
        let values = self.program.constants.get(name).and_then(Constant::values);
        let values =
            values.ok_or_else(|| self.unsupported(step, format!("the values of @{name} are not there")))?;
        Ok(self.table(Table::Constant(name.to_string()), values.iter().copied()))
    }

    /// Where numbers lie among all constants, which are put there unless they are there.
    fn table(&mut self, table: Table, values: impl Iterator<Item = f32>) -> Place {
        let at = *self.placed.entry(table).or_insert_with(|| {
            let at = self.constants.len();
            self.constants.extend(values);
            self.constants.resize(self.constants.len().next_multiple_of(ALIGNMENT), 0.0);
            at
        });
        Place::Constant(at)
    }

    /// A constant of a step, by its place among them.
    fn constant_of(&mut self, step: &Step, at: usize) -> Result<Place, CudaError> {
        let name = step.constants.get(at).ok_or_else(|| self.unsupported(step, "a constant is missing"))?;
        self.constant(step, name)
    }

    /// Launches a kernel of this body, which knows its arguments by their names and the number of samples as `n`.
    fn launch(&mut self, grid: Grid, arguments: Vec<Argument>, body: &str) {
        let action = self.launched(grid, arguments, body);
        self.actions.push(action);
    }

    /// As `launch`, for sums alone.
    fn book(&mut self, purpose: Purpose, grid: Grid, arguments: Vec<Argument>, body: &str) {
        let action = self.launched(grid, arguments, body);
        self.actions.push(Action { purpose, ..action });
    }

    fn launched(&mut self, grid: Grid, arguments: Vec<Argument>, body: &str) -> Action {
        let mut parameters = String::new();
        for Argument { name, pointer, .. } in &arguments {
            let _ = write!(parameters, "{}__restrict__ {name}, ", pointer.text());
        }
        let text = format!("({parameters}int n) {{\n{body}}}\n");
        let kernel = match self.known.get(&text) {
            Some(kernel) => *kernel,
            None => self.print(text),
        };
        let arguments = arguments.into_iter().map(|argument| argument.place).collect();
        Action {
            step: self.number,
            purpose: Purpose::Relevance,
            what: What::Launch { kernel, grid, arguments },
        }
    }

    fn print(&mut self, text: String) -> usize {
        let kernel = self.kernels.len();
        let name = format!("k{kernel}");
        let _ = write!(self.source, "\nKERNEL({THREADS}) {name}{text}");
        self.kernels.push(name);
        self.known.insert(text, kernel);
        kernel
    }

    /// Each element of a value that is written, `i` of `total`, by a thread of its own.
    fn each(&mut self, len: usize, arguments: Vec<Argument>, statements: &str) {
        let body = format!("  EACH((Long)n * {len})\n{statements}  END_EACH\n");
        self.launch(flat(len), arguments, &body);
    }

    /// Whether the input of a sample is finite: else the last flag is raised.
    fn finite(&mut self) -> Action {
        let (input, flag) = (self.program.ends.input, self.program.flags());
        let len = self.len(input);
        let arguments = vec![read("x", input), argument("flags", Pointer::Flags, Place::Flag(flag))];
        let body = format!(
            "  EACH((Long)n * {len})\n  if (!(x[i] - x[i] == 0.0f)) flags[i / {len}] = 1;\n  END_EACH\n"
        );
        self.launched(flat(len), arguments, &body)
    }

    /// A step.
    fn step(&mut self, step: &Step) -> Result<(), CudaError> {
        match &step.op {
            StepOp::Conv(conv) => self.conv(step, conv),
            StepOp::MaxPool(pool) => self.max_pool(step, pool),
            StepOp::AveragePool(pool) => self.average_pool(step, pool),
            StepOp::Winner(pool) => self.winner(step, pool),
            StepOp::Flat(flat) => self.spread(step, flat),
            StepOp::Quotients(quotients) => self.quotients(step, quotients),
            StepOp::Stabilise { factor } => {
                self.stabilise(step, *factor);
                Ok(())
            }
            StepOp::Standardise { runs, epsilon } => {
                self.standardise(step, *runs, *epsilon);
                Ok(())
            }
            StepOp::Tally(of) => self.tally(step, of),
            StepOp::Absorbed { bias } => self.absorbed(step, *bias),
            StepOp::Move(moves) => self.moves(step, moves),
            StepOp::Raise { flag } => {
                self.raise(*flag);
                Ok(())
            }
            StepOp::Interpret => self.interpret(step),
            _ => self.elementwise(step),
        }
    }

    fn raise(&mut self, flag: FlagId) {
        let flags = vec![argument("flags", Pointer::Flags, Place::Flag(flag))];
        self.each(1, flags, "  flags[i] = 1;\n");
    }

    fn moves(&mut self, step: &Step, moves: &Move) -> Result<(), CudaError> {
        let (x, y) = (step.reads[0], step.writes[0]);
        if moves.fill {
            self.actions.push(Action { step: self.number, purpose: Purpose::Relevance, what: What::Zero(y) });
        }
        let count = moves.dims.iter().product();
        let mut statements =
            format!("  Long at = i % {count};\n  Long from = {}, to = {};\n", moves.from.base, moves.to.base);
        for (axis, size) in moves.dims.iter().enumerate().rev().filter(|(_, size)| **size > 1) {
            let [from, to] = [&moves.from, &moves.to].map(|strided| strided.strides[axis]);
            let _ = writeln!(
                statements,
                "  from += at % {size} * ({from});\n  to += at % {size} * ({to});\n  at /= {size};"
            );
        }
        let (from, to) = (self.len(x), self.len(y));
        let _ = writeln!(statements, "  y[i / {count} * {to} + to] = x[i / {count} * {from} + from];");
        let arguments = vec![read("x", x), write("y", y)];
        self.each(count, arguments, &statements);
        Ok(())
    }

    fn interpret(&mut self, step: &Step) -> Result<(), CudaError> {
        let node = self.node(step)?;
        if self.node_alone(step, node)? {
            return Ok(());
        }
        let operands = self.graph.data_operands(node);
        if operands.len() != step.reads.len() {
            return Err(self.unsupported(step, "its operands are not those of the graph"));
        }
        let inputs = operands.into_iter().zip(&step.reads).map(|((index, _), id)| (index, *id)).collect();
        let what = What::Interpret { node, inputs, outputs: step.writes.clone() };
        self.actions.push(Action { step: self.number, purpose: Purpose::Relevance, what });
        Ok(())
    }

    /// Room for sums of so many parts.
    fn booking(&mut self, parts: u32, of_end: bool, of: Booked) -> Place {
        let (at, parts) = (self.sums, parts as usize);
        self.sums += parts * of.width();
        self.bookings.push(Booking { at, parts, of_end, of });
        Place::Sums(at)
    }
}

fn read(name: impl Into<String>, id: ValueId) -> Argument {
    argument(name, Pointer::Read, Place::Value(id))
}

fn write(name: impl Into<String>, id: ValueId) -> Argument {
    argument(name, Pointer::Write, Place::Value(id))
}

/// A thread for each of so many elements of a sample.
fn flat(len: usize) -> Grid {
    Grid::Flat { items: len as u64, of: THREADS, y: 1, z: 1 }
}

/// A number as CUDA C, to the bit.
fn float(value: f32) -> String {
    match value {
        v if v.is_nan() => "(float)(0.0 * INFINITE)".into(),
        v if v.is_infinite() => format!("({}(float)INFINITE)", if v < 0.0 { "-" } else { "" }),
        v => format!("{v:?}f"),
    }
}

/// As [`float`], for f64.
fn double(value: f64) -> String {
    match value {
        v if v.is_nan() => "(0.0 * INFINITE)".into(),
        v if v.is_infinite() => format!("({}INFINITE)", if v < 0.0 { "-" } else { "" }),
        v => format!("{v:?}"),
    }
}
