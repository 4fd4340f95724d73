//! Filetests of lowering and of passes over programs.

use relc_cpu::{Cpu, Isa, Machine};
use relc_ir::Graph;
use relc_passes::PassManager;
use relc_program::passes::{ProgramPass, run};
use relc_program::{Backend, LOWER, Program, ProgramError, lower, verify};

use super::case::{self, Case, FiletestError, Header};
use super::{RULER, pipeline};

/// What comes of a graph behind its passes: lowering, and the passes of this name or before.
pub(super) fn is_known(pass: &str) -> bool {
    pass == LOWER
        || Cpu { machine: Machine::generic(Isa::Portable) }
            .pipeline()
            .iter()
            .any(|other| other.name() == pass)
}

/// What is tested, before the pass.
enum Before {
    Graph(Box<Graph>),
    Program(Box<Program>),
}

/// What makes a back end from the options of a file.
pub(super) type MakeBackend = dyn Fn(&Header) -> Result<Box<dyn Backend>, FiletestError>;

/// The processor's back end, as a file's options have it.
pub(super) fn processor(header: &Header) -> Result<Box<dyn Backend>, FiletestError> {
    Ok(Box::new(Cpu { machine: header.machine()? }))
}

/// As [`Filetests::run`](super::Filetests::run), for lowering or a pass of a back end over programs.
pub(super) fn run_file(text: &str, pass: &str, backend: &MakeBackend) -> Result<String, FiletestError> {
    let (header, before) = match Case::is_program(text) {
        true => {
            let (header, program) = Case::program(text)?;
            (header, Before::Program(Box::new(program)))
        }
        false => {
            let Case { header, graph } = Case::parse(text)?;
            (header, Before::Graph(Box::new(graph)))
        }
    };
    let input = match &before {
        Before::Graph(graph) => graph.to_string(),
        Before::Program(program) => program.to_string(),
    };
    let mut earlier = backend(&header)?.pipeline();
    let tested = match pass {
        LOWER => None,
        _ => {
            let at = earlier.iter().position(|other| other.name() == pass);
            let at = at.ok_or_else(|| FiletestError::Option(format!("there is no pass \"{pass}\"")))?;
            earlier.truncate(at + 1);
            earlier.pop()
        }
    };
    let got = match before {
        Before::Graph(graph) => lowered(*graph, &header).and_then(|program| match &tested {
            None => Ok((program, Vec::new())),
            Some(_) => through(earlier, program).map(|(program, _)| (program, Vec::new())),
        })?,
        Before::Program(program) => (*program, Vec::new()),
    };
    let (program, remarks) = match tested {
        None => got,
        Some(tested) => match through(vec![tested], got.0) {
            Ok(got) => got,
            Err(FiletestError::Program(error @ ProgramError::Verify { .. })) => {
                return Err(FiletestError::Program(error));
            }
            Err(FiletestError::Program(error)) => {
                return Ok(format!("{header}{input}{RULER}{error}\n{RULER}"));
            }
            Err(other) => return Err(other),
        },
    };
    Ok(format!("{header}{input}{RULER}{program}{RULER}{}", remarks.concat()))
}

/// Lowers a graph; the pipeline runs before, if the file says so.
fn lowered(mut graph: Graph, header: &Header) -> Result<Program, FiletestError> {
    let mut before = pipeline(&header.preset()?, header.batchnorm()?);
    match header.get("after") {
        None => before.clear(),
        Some("pipeline") => {}
        Some(name) => {
            let at = case::position(&before, name)?;
            before.truncate(at + 1);
        }
    }
    PassManager::new(before).run(&mut graph, |_, _| {}).map_err(FiletestError::Before)?;
    let program = lower(&graph, &[]).map_err(FiletestError::Lower)?;
    verify(&program)
        .map_err(|errors| FiletestError::Option(format!("lower left a malformed program:\n{errors}")))?;
    Ok(program)
}

/// Runs passes; the program, and what they said.
fn through(
    passes: Vec<Box<dyn ProgramPass>>,
    mut program: Program,
) -> Result<(Program, Vec<String>), FiletestError> {
    let records = run(&passes, &mut program, |_, _| {}).map_err(FiletestError::Program)?;
    let remarks = records.iter().flat_map(|record| &record.remarks);
    Ok((program, remarks.map(|remark| format!("{remark}\n")).collect()))
}
