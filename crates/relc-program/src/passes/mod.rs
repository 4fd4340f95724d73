//! Passes over programs, one file each.
//!
//! [`portable`] lists those that know no machine; a back end has others behind them, of which [`ChooseLayouts`],
//! [`ShareKernels`] and [`PlanMemory`] serve any that computes on blocks of channels.

mod alias_moves;
mod choose_layouts;
mod factor_ones;
mod flatten_reshapes;
mod fold_constants;
mod fuse_epilogues;
mod plan_memory;
mod schedule;
mod share_kernels;

use relc_ir::remark::{PassRecord, Remarks, Stopwatch};

pub use alias_moves::AliasMoves;
pub use choose_layouts::ChooseLayouts;
pub use factor_ones::FactorOnes;
pub use flatten_reshapes::FlattenReshapes;
pub use fold_constants::FoldConstants;
pub use fuse_epilogues::FuseEpilogues;
pub use plan_memory::PlanMemory;
pub use schedule::Schedule;
pub use share_kernels::ShareKernels;
pub(crate) use share_kernels::kernel_key;

use crate::error::ProgramError;
use crate::program::Program;
use crate::verify::verify;

/// A transformation of a program.
pub trait ProgramPass: Send + Sync {
    /// The name, in kebab-case: what `relc dump --after` takes.
    fn name(&self) -> &'static str;

    /// What it does, in a line.
    fn description(&self) -> &'static str;

    /// Runs it, and says in `remarks` what it did and what it did not and why.
    ///
    /// # Errors
    /// If the program has a step that the pass can't treat.
    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError>;
}

/// The passes that know no machine, in order.
pub fn portable() -> Vec<Box<dyn ProgramPass>> {
    vec![
        Box::new(FlattenReshapes),
        Box::new(AliasMoves),
        Box::new(FoldConstants),
        Box::new(FactorOnes),
        Box::new(FuseEpilogues),
    ]
}

/// Runs passes in order, takes away what none of the steps uses and verifies the program after each, and calls `after`
/// with the pass' name and the program.
///
/// # Errors
/// The first pass that fails, or that leaves a malformed program.
pub fn run(
    passes: &[Box<dyn ProgramPass>],
    program: &mut Program,
    mut after: impl FnMut(&'static str, &Program),
) -> Result<Vec<PassRecord>, ProgramError> {
    let mut records = Vec::with_capacity(passes.len());
    for pass in passes {
        let name = pass.name();
        let _span = tracing::info_span!("pass", name).entered();
        let mut remarks = Remarks::default();
        let start = Stopwatch::start();
        pass.run(program, &mut remarks)?;
        program.prune();
        let time = start.elapsed();
        verify(program).map_err(|errors| ProgramError::Verify { pass: name, errors })?;
        after(name, program);
        records.push(PassRecord { name: name.into(), time, remarks: remarks.into_list() });
    }
    Ok(records)
}
