//! `relc dump`: the graph after a pass.

use relc::Engine;
use relc::ir::spelling::did_you_mean_node;
use relc::ir::{Graph, NodeId, dot, json};
use relc::passes::{PassRecord, pass_list};

use crate::args::{DumpArgs, Format};
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print::{self, escaped};

/// What comes after the passes: the program of the compiled engine.
const LOWER: &str = "lower";

/// Runs the command.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let names: Vec<&str> = std::iter::once("import").chain(pass_list().into_iter().map(|(n, _)| n)).collect();
    let last = names.last().copied().unwrap_or("import");
    let wanted = args.after.as_deref().unwrap_or(if args.asm.is_some() { LOWER } else { last });
    if wanted == LOWER {
        return lowered(args);
    }
    let names: Vec<&str> = names.into_iter().chain([LOWER]).collect();
    if !names.contains(&wanted) {
        return Err(Failure::usage(format!(
            "there is no pass \"{wanted}\"; expected one of {}",
            names.join(", ")
        )));
    }
    let compiler = usual_compiler(&args.compile)?;
    let compiler = compiler.import(import_options(&args.import)?);
    let mut printed = Ok(());
    let mut found = false;
    let result = compiler.passes(&args.model, |name, graph| {
        if (args.print_after_all || name == wanted) && printed.is_ok() {
            found = true;
            printed = print_graph(name, graph, args);
        }
    });
    printed?;
    match result {
        Ok(compiled) if args.remarks => print_remarks(&compiled.passes),
        Ok(_) => {}
        // The graph that was asked for is there: a later pass's refusal is worth a word, not a failure.
        Err(e) if found && !args.print_after_all => print::notes(format!("note: a later pass fails: {e}")),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Prints the lowered program with its kernels, or the machine code of one node's kernels.
fn lowered(args: &DumpArgs) -> Result<(), Failure> {
    if args.format != Format::Text {
        return Err(Failure::usage("the lowered program has a text form only; leave --format out"));
    }
    let compiler = usual_compiler(&args.compile)?;
    let compiler = compiler.engine(Engine::Jit).import(import_options(&args.import)?);
    let explainer = compiler.compile(&args.model)?;
    let executable = explainer.executable().ok_or("the compiled engine has no program")?;
    let Some(wanted) = &args.asm else {
        return Ok(print::block(executable.program())?);
    };
    let graph = explainer.graph();
    let of_name = |id: &NodeId| graph.node(*id).name == *wanted || graph.node_label(*id) == *wanted;
    let nodes: Vec<NodeId> = graph.node_ids().filter(of_name).collect();
    if nodes.is_empty() {
        let known = graph.node_ids().map(|id| graph.node(id).name.as_str());
        let hint = did_you_mean_node(wanted, known);
        return Err(Failure::usage(format!("there is no node \"{wanted}\"{hint}")));
    }
    let mut found = false;
    for node in nodes {
        for text in executable.listings(node)? {
            found = true;
            print::block(format!("; {}\n{text}", escaped(&graph.describe(node))))?;
        }
    }
    if !found {
        print::note(format!(
            "note: \"{wanted}\" has no kernel of its own: it is fused, a move, or a convolution by micro-kernels"
        ));
    }
    Ok(())
}

fn print_graph(name: &str, graph: &Graph, args: &DumpArgs) -> std::io::Result<()> {
    match args.format {
        Format::Text => {
            if args.print_after_all {
                print::line(format!("; after {name}"))?;
            }
            print::block(graph)
        }
        Format::Dot => print::block(dot(graph)),
        Format::Json => print::block(format!("{:#}", json(graph))),
    }
}

fn print_remarks(passes: &[PassRecord]) {
    for pass in passes {
        print::note(format!("{} ({:.1} ms)", pass.name, pass.time.as_secs_f64() * 1e3));
        for remark in &pass.remarks {
            print::note(format!("  {remark}"));
        }
    }
}
