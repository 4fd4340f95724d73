//! `relc dump --format html`: the page of a compilation.

use std::collections::BTreeMap;
use std::sync::Arc;

use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::ir::Graph;
use relc::unstable::passes::{PassRecord, pass_list};
use relc::unstable::program::{Backend, LOWER, Program};
use relc::{Engine, Isa};
use relc_html::{Compilation, Profile, Stage, compilation_page};

use super::{IMPORT, backend};
use crate::args::DumpArgs;
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print;
use crate::profile;

/// Runs of a profile; the least time of each step counts.
const RUNS: usize = 3;

/// Prints the page. A pass over the program that fails is said on the page, one over the graph is a failure.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    if args.print_after_all || args.after.is_some() {
        let option = if args.print_after_all { "--print-after-all" } else { "--after" };
        return Err(Failure::usage(format!("--format html shows every pass; leave {option} out")));
    }
    let (mut backend, source) = backend(args);
    let mut target = "a GPU".to_string();
    if source.is_none() {
        let machine = Machine::detect(Isa::detect()?)?;
        target = machine.to_string();
        backend = Arc::new(Cpu { machine });
    }
    let compiler = usual_compiler(&args.compile, &args.model)?;
    let compiler = compiler.import(import_options(&args.import)?).backend(backend.clone());
    let mut stages = Vec::new();
    let compiled = compiler.passes(&args.model, |name, graph| stages.push(Stage::graph(name, graph)))?;
    let mut records = compiled.passes.clone();
    let import = PassRecord { name: IMPORT.into(), time: compiled.import_time, remarks: Vec::new() };
    match records.first_mut().filter(|first| pass_list().iter().all(|(name, _)| first.name != *name)) {
        // Of an artifact, which is read in place of a model.
        Some(first) => *first = PassRecord { remarks: std::mem::take(&mut first.remarks), ..import },
        None => records.insert(0, import),
    }
    let mut last = None;
    let lowered = compiler.program(&compiled, |name, program| {
        stages.push(Stage::program(name, program));
        last = Some(program.clone());
    });
    let program = match (lowered, &last) {
        (Ok(of_program), Some(program)) => {
            records.extend(of_program);
            Ok(program)
        }
        (Err(error), _) => Err(Failure::from(error).text()),
        (Ok(_), None) => Err("it has no passes".into()),
    };
    if let (Some(name), Ok(program)) = (source, &program) {
        stages.push(Stage::kernels(name, kernels(&compiled.graph, program)));
    }
    if args.remarks {
        super::print_remarks(&records);
    }
    let page = compilation_page(&Compilation {
        model: &args.model.display().to_string(),
        target: &target,
        stages: &stages,
        records: &records,
        descriptions: &descriptions(&*backend),
        timed: !args.no_profile,
        graph: &compiled.graph,
        program,
        profile: profile(args, source.is_some()),
    })?;
    Ok(print::raw(page.as_bytes())?)
}

/// What each pass is for.
fn descriptions(backend: &dyn Backend) -> BTreeMap<String, String> {
    let own = [(IMPORT, "read the model"), (LOWER, "make steps of the graph's nodes")];
    let of_program = backend.pipeline();
    let of_program = of_program.iter().map(|pass| (pass.name(), pass.description()));
    let all = own.into_iter().chain(pass_list()).chain(of_program);
    all.map(|(name, does)| (name.to_string(), does.to_string())).collect()
}

/// What each step takes here, or why that is not measured.
fn profile(args: &DumpArgs, on_gpu: bool) -> Result<Profile, String> {
    if args.no_profile {
        return Err("--no-profile leaves out what differs from run to run".into());
    }
    if on_gpu {
        return Err("the passes are those for a GPU".into());
    }
    let measure = || {
        let compiler = usual_compiler(&args.compile, &args.model)?.engine(Engine::Jit);
        let explainer = compiler.import(import_options(&args.import)?).compile(&args.model)?;
        profile::measure(&explainer, &args.model, RUNS)
    };
    measure().map(|report| report.to_page(RUNS)).map_err(|failure| failure.text())
}

#[cfg(feature = "cuda")]
fn kernels(graph: &Graph, program: &Program) -> String {
    super::kernel_source(graph, program)
}

/// Without a GPU's back end there are none.
#[cfg(not(feature = "cuda"))]
fn kernels(_: &Graph, _: &Program) -> String {
    String::new()
}
