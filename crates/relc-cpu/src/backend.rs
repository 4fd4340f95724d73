//! The back end.

use relc_ir::remark::PassRecord;
use relc_ir::{Graph, ValueId, Values};
use relc_program::passes::{ChooseLayouts, PlanMemory, ProgramPass, Schedule, ShareKernels};
use relc_program::{Backend, BackendError, LowerError, Module, Program, ProgramError, through};

use crate::choose_convolutions::ChooseConvolutions;
use crate::error::EngineError;
use crate::machine::Machine;
use crate::run::Executable;

/// The CPU of a machine, with the instructions of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The machine.
    pub machine: Machine,
}

/// The name of the back end.
pub const NAME: &str = "cpu";

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn passes(&self) -> Vec<Box<dyn ProgramPass>> {
        vec![
            Box::new(ChooseLayouts { vector: self.machine.isa.width() }),
            Box::new(ChooseConvolutions { machine: self.machine }),
            Box::new(Schedule),
            Box::new(ShareKernels),
            Box::new(PlanMemory),
        ]
    }

    fn compile(&self, graph: &Graph, program: Program) -> Result<Box<dyn Module>, BackendError> {
        Ok(Box::new(Executable::new(graph, self.machine, program, None)?))
    }

    fn load(
        &self,
        graph: &Graph,
        program: Program,
        packed: Vec<Values>,
    ) -> Result<Box<dyn Module>, BackendError> {
        Ok(Box::new(Executable::new(graph, self.machine, program, Some(packed))?))
    }

    /// Errors are those of the engine, which say what else to use.
    fn program(
        &self,
        graph: &Graph,
        taps: &[ValueId],
        after: &mut dyn FnMut(&'static str, &Program),
    ) -> Result<(Program, Vec<PassRecord>), BackendError> {
        through(graph, taps, &self.pipeline(), after).map_err(|error| engine_error(error).into())
    }
}

fn engine_error(error: BackendError) -> EngineError {
    let error = match error.downcast::<LowerError>() {
        Ok(error) => return EngineError::from(*error),
        Err(error) => error,
    };
    match error.downcast::<ProgramError>() {
        Ok(error) => EngineError::from(*error),
        Err(error) => EngineError::Plan(error.to_string()),
    }
}
