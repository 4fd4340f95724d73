//! `dense-layouts`: every value lies row-major, without a frame.

use relc_ir::remark::Remarks;
use relc_program::layout::{Blocked, Halo};
use relc_program::passes::ProgramPass;
use relc_program::{Program, ProgramError};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct DenseLayouts;

impl ProgramPass for DenseLayouts {
    fn name(&self) -> &'static str {
        "dense-layouts"
    }

    fn description(&self) -> &'static str {
        "lay every value out row-major"
    }

    fn run(&self, program: &mut Program, _: &mut Remarks) -> Result<(), ProgramError> {
        for (id, value) in &mut program.values {
            let layout = Blocked::of(value.image, 1, Halo::NONE);
            value.layout =
                Some(layout.map_err(|source| ProgramError::Layout { step: id.to_string(), source })?);
        }
        Ok(())
    }
}
