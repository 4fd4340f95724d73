//! `relc dump`: the graph after a pass.

use relc::unstable::ir::spelling::did_you_mean_node;
use relc::unstable::ir::{Graph, NodeId, dot, json};
use relc::unstable::passes::{PassRecord, pass_list};
use relc::{Engine, Explainer, Remark};
use serde::Serialize;
use serde_json::Value;

use crate::args::{DumpArgs, Format};
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print::{self, escaped};

/// What comes after the passes: the program of the compiled engine.
const LOWER: &str = "lower";

/// What `--json` prints: one of graphs, program and kernels, and all that the passes said.
#[derive(Serialize)]
struct Report {
    relc: &'static str,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    graphs: Option<Vec<GraphReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<Vec<KernelReport>>,
    /// Empty if a pass fails behind that of the graph.
    passes: Vec<PassReport>,
}

/// The graph that a pass left.
#[derive(Serialize)]
struct GraphReport {
    after: &'static str,
    graph: Value,
}

/// The listing of a kernel of a node.
#[derive(Serialize)]
struct KernelReport {
    node: String,
    text: String,
}

/// What a pass said.
#[derive(Serialize)]
struct PassReport {
    pass: &'static str,
    ms: f64,
    remarks: Vec<RemarkReport>,
}

/// As [`Remark`].
#[derive(Serialize)]
struct RemarkReport {
    kind: &'static str,
    node: String,
    message: String,
}

impl Report {
    fn new(args: &DumpArgs, passes: &[PassRecord]) -> Report {
        let remark = |r: &Remark| {
            let (node, message) = (r.node.clone(), r.message.clone());
            RemarkReport { kind: r.kind.name(), node, message }
        };
        let pass = |p: &PassRecord| PassReport {
            pass: p.name,
            ms: milliseconds(p),
            remarks: p.remarks.iter().map(remark).collect(),
        };
        Report {
            relc: env!("CARGO_PKG_VERSION"),
            model: args.model.display().to_string(),
            graphs: None,
            program: None,
            kernels: None,
            passes: passes.iter().map(pass).collect(),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        Ok(print::json(&serde_json::to_string_pretty(self)?)?)
    }
}

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
    let mut graphs = Vec::new();
    let result = compiler.passes(&args.model, |name, graph| {
        if (args.print_after_all || name == wanted) && printed.is_ok() {
            found = true;
            if args.json {
                graphs.push(GraphReport { after: name, graph: json(graph) });
            } else {
                printed = print_graph(name, graph, args);
            }
        }
    });
    printed?;
    let passes = match result {
        Ok(compiled) => compiled.passes,
        // The graph that was asked for is there: a later pass's refusal is worth a word, not a failure.
        Err(e) if found && !args.print_after_all => {
            print::notes(format!("note: a later pass fails: {e}"));
            Vec::new()
        }
        Err(e) => return Err(e.into()),
    };
    if args.remarks {
        print_remarks(&passes);
    }
    if args.json {
        Report { graphs: Some(graphs), ..Report::new(args, &passes) }.print()?;
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
    let report = || Report::new(args, &explainer.compiled().passes);
    let Some(wanted) = &args.asm else {
        let program = executable.program();
        return match args.json {
            true => Report { program: Some(program.to_string()), ..report() }.print(),
            false => Ok(print::block(program)?),
        };
    };
    let mut kernels = Vec::new();
    for node in nodes(&explainer, wanted)? {
        for text in executable.listings(node)? {
            kernels.push(KernelReport { node: explainer.graph().describe(node), text });
        }
    }
    if kernels.is_empty() {
        print::note(format!(
            "note: \"{wanted}\" has no kernel of its own: it is fused, a move, or a convolution by micro-kernels"
        ));
    }
    if args.json {
        return Report { kernels: Some(kernels), ..report() }.print();
    }
    for kernel in kernels {
        print::block(format!("; {}\n{}", escaped(&kernel.node), kernel.text))?;
    }
    Ok(())
}

/// The nodes of a name or label.
fn nodes(explainer: &Explainer, wanted: &str) -> Result<Vec<NodeId>, Failure> {
    let graph = explainer.graph();
    let of_name = |id: &NodeId| graph.node(*id).name == *wanted || graph.node_label(*id) == *wanted;
    let nodes: Vec<NodeId> = graph.node_ids().filter(of_name).collect();
    if nodes.is_empty() {
        let known = graph.node_ids().map(|id| graph.node(id).name.as_str());
        let hint = did_you_mean_node(wanted, known);
        return Err(Failure::usage(format!("there is no node \"{wanted}\"{hint}")));
    }
    Ok(nodes)
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
        Format::Json => print::json(&format!("{:#}", json(graph))),
    }
}

fn print_remarks(passes: &[PassRecord]) {
    for pass in passes {
        print::note(format!("{} ({:.1} ms)", pass.name, milliseconds(pass)));
        for remark in &pass.remarks {
            print::note(format!("  {remark}"));
        }
    }
}

fn milliseconds(pass: &PassRecord) -> f64 {
    pass.time.as_secs_f64() * 1e3
}
