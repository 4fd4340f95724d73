//! Filetests: `tests/filetests/PASS/*.relc`, a folder for each pass, and `tests/filetests/program/PASS/*.relc` for lowering
//! and the passes over programs. `relc::testing` says what a file looks like;
//! `RELC_BLESS=1` rewrites the expectations.

use std::path::Path;
use std::sync::Arc;

use relc::Isa;
use relc::testing::{Filetests, Header};
use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::passes::pass_list;
use relc::unstable::program::op::Precision;
use relc::unstable::program::passes::{PlanMemory, ProgramPass};
use relc::unstable::program::{Backend, LOWER};
use relc_cuda::{Cuda, Planned};

#[test]
fn every_pass_does_what_its_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let of_pass = |(pass, _)| Filetests::named(pass).failures(root.join(pass));
    let failures: Vec<String> = pass_list().into_iter().flat_map(of_pass).collect();
    assert!(failures.is_empty(), "{} file(s) failed:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_pass_over_programs_does_what_its_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/program");
    let passes = Cpu { machine: Machine::generic(Isa::Portable) }.pipeline();
    let names = std::iter::once(LOWER).chain(passes.iter().map(|pass| pass.name()));
    let failures: Vec<String> =
        names.flat_map(|pass| Filetests::named(pass).failures(root.join(pass))).collect();
    assert!(failures.is_empty(), "{} file(s) failed:\n\n{}", failures.len(), failures.join("\n"));
}

/// `tests/filetests/cuda/PASS/*.relc`; `; multiprocessors: N` is of the device, 132 unless given, and `; precision: tf32` what
/// was asked of it.
#[test]
fn every_pass_of_the_cuda_back_end_does_what_its_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/cuda");
    let failures: Vec<String> = Cuda::new(Arc::new(Planned::HOPPER))
        .passes()
        .iter()
        .filter(|pass| pass.name() != PlanMemory.name()) // as of the processor's
        .flat_map(|pass| {
            let backend = |header: &Header| {
                let multiprocessors = match header.get("multiprocessors") {
                    Some(number) => number.parse().map_err(|_| format!("got {number} multiprocessors"))?,
                    None => Planned::HOPPER.multiprocessors,
                };
                let precision = header.get("precision").map_or(Ok(Precision::F32), str::parse);
                let precision = precision.map_err(|error| error.to_string())?;
                let cuda = Cuda::new(Arc::new(Planned { multiprocessors }));
                cuda.precision(precision).map_err(|error| error.to_string())
            };
            Filetests::of_backend(pass.name(), backend).failures(root.join(pass.name()))
        })
        .collect();
    assert!(failures.is_empty(), "{} file(s) failed:\n\n{}", failures.len(), failures.join("\n"));
}
