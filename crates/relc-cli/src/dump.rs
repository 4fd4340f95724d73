//! `relc dump`: the graph after a pass.

use std::io::Write;

use relc::ir::{Graph, dot, json};
use relc::passes::{PassRecord, pass_list};

use crate::args::{DumpArgs, Format};
use crate::compile::compiler;
use crate::failure::Failure;

/// Runs the command.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let names: Vec<&str> = std::iter::once("import").chain(pass_list().into_iter().map(|(n, _)| n)).collect();
    let last = names.last().copied().unwrap_or("import");
    let wanted = args.after.as_deref().unwrap_or(last);
    if !names.contains(&wanted) {
        return Err(Failure::usage(format!(
            "there is no pass \"{wanted}\"; expected one of {}",
            names.join(", ")
        )));
    }
    let (_, compiler) = compiler(&args.compile)?;
    let mut printed: Result<(), std::io::Error> = Ok(());
    let mut found = false;
    let result = compiler.passes(&args.model, |name, graph| {
        if (args.print_after_all || name == wanted) && printed.is_ok() {
            found = true;
            printed = print(name, graph, args);
        }
    });
    match printed {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        other => other?,
    }
    match result {
        Ok(compiled) if args.remarks => print_remarks(&compiled.passes),
        Ok(_) => {}
        // The graph that was asked for is there: a later pass's refusal is worth a word, not a failure.
        Err(e) if found && !args.print_after_all => eprintln!("note: a later pass fails: {e}"),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn print(name: &str, graph: &Graph, args: &DumpArgs) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Text => {
            if args.print_after_all {
                writeln!(out, "; after {name}")?;
            }
            write!(out, "{graph}")
        }
        Format::Dot => write!(out, "{}", dot(graph)),
        Format::Json => writeln!(out, "{:#}", json(graph)),
    }
}

fn print_remarks(passes: &[PassRecord]) {
    for pass in passes {
        eprintln!("{} ({:.1} ms)", pass.name, pass.time.as_secs_f64() * 1e3);
        for remark in &pass.remarks {
            eprintln!("  {remark}");
        }
    }
}
